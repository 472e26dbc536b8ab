"""Whether a model can search at all: by its metadata before it is loaded, and as an encoder before it encodes."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from mteb_vehicle_search.errors import EncodeError, UsageError

MODALITIES = ("image", "text")
SIMILARITIES = ("cosine", "dot")
# What mteb hands over beside the inputs; any further encode arguments come by name too.
ASKED = ("task_metadata", "hf_split", "hf_subset", "prompt_type", "batch_size", "show_progress_bar")
SIGNATURE = "encode(self, inputs, *, task_metadata, hf_split, hf_subset, prompt_type=None, **kwargs)"
EXPECTED = (
    f"mteb calls {SIGNATURE}: inputs is a DataLoader of batches, dicts with a list under 'image' or 'text'; it wants "
    "one vector for each input, in order, as an array or a tensor [n, dimension]."
)
BASE = "mteb.models.abs_encoder.AbsEncoder"
# What mteb's protocol of an encoder holds.
MEMBERS = ("encode", "similarity", "similarity_pairwise", "mteb_model_meta")
NAMELESS = "no_model_name/available"
LIST = "'vehicle-search models --all' lists the models, and which of them can be run."


def obstacle(meta: Any) -> str:
    """Say why models of this `ModelMeta` cannot search; "" if they can."""
    kinds = set(getattr(meta, "model_type", None) or ())
    if "late-interaction" in kinds or similarity_stated(meta) == "maxsim":
        return "gives several vectors for each input, to be compared by MaxSim; the search takes one"
    if "cross-encoder" in kinds:
        return "judges pairs of a text and an image and gives no vectors; the search needs one for each"
    if why := foreign_similarity(meta):
        return why
    modalities = getattr(meta, "modalities", None) or ()
    if modalities and (missing := [one for one in MODALITIES if one not in modalities]):
        return f"takes no {' and no '.join(missing)}: the modalities of its ModelMeta are {', '.join(modalities)}"
    return ""


def similarity_stated(meta: Any) -> str:
    """Return by what models of this `ModelMeta` compare vectors, in lower case; by the cosine where it says nothing."""
    wanted = getattr(meta, "similarity_fn_name", None)
    return str(getattr(wanted, "value", wanted or "cosine")).lower()


def foreign_similarity(meta: Any) -> str:
    """Say by what models of this `ModelMeta` compare vectors, if the search does not offer it; else ""."""
    stated = similarity_stated(meta)
    return (
        "" if stated in SIMILARITIES else f"compares vectors by {stated!r}; exact search offers cosine and dot product"
    )


def require_suited(meta: Any, task: str, encoder: Any = None) -> None:
    """Refuse a model by its metadata, and an encoder by what it is, before anything is loaded or encoded.

    Args:
        meta: Its `ModelMeta`.
        task: Name of the task, for the message.
        encoder: The model itself, where there is one already.

    Raises:
        UsageError: Models of this metadata cannot search.
        EncodeError: The encoder lacks what mteb wants of one, or cannot be called as mteb calls it.
    """
    name = getattr(meta, "name", None) or NAMELESS
    who = name
    if encoder is not None:
        who = type(encoder).__name__ + (f" ({name})" if name != NAMELESS else "")
        # Without metadata mteb takes it for a model of texts.
        _require_members(encoder, task, ("mteb_model_meta",))
    if why := obstacle(meta):
        hint = LIST
        if "ModelMeta" in why:
            hint = (
                f"{task} needs images and texts. If it embeds both, let its ModelMeta say modalities={[*MODALITIES]}."
            )
        raise UsageError(f"{who} cannot run {task}: it {why}.", hint)
    if encoder is not None:
        _require_members(encoder, task, MEMBERS)
        _require_signature(encoder)


def _require_members(encoder: Any, task: str, wanted: Sequence[str]) -> None:
    missing = [name for name in wanted if getattr(encoder, name, None) is None]
    searches = hasattr(encoder, "index") and hasattr(encoder, "search")
    if missing or searches:
        what = f"it has no {', '.join(missing)}" if missing else "it has a search of its own"
        raise EncodeError(
            f"{type(encoder).__name__} is not an encoder; {task} evaluates models that turn texts and images into "
            f"vectors: {what}.",
            f"Derive it from {BASE}, write encode, and set self.mteb_model_meta to a ModelMeta. {EXPECTED}",
        )


def _require_signature(encoder: Any) -> None:
    """Refuse an `encode` that does not take what mteb gives; one that cannot be looked into may do so."""
    try:
        signature = inspect.signature(encoder.encode)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(None, **dict.fromkeys(ASKED))
    except TypeError as error:
        raise EncodeError(
            f"{type(encoder).__name__}.encode{signature} cannot be called as mteb calls it: {error}.", EXPECTED
        ) from error


def around_check(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return mteb's `_check_model_modalities(meta, tasks)` that refuses what cannot run tasks of ours by name.

    It is the first that `mteb.evaluate` does, before a model is loaded. The model itself is only known to its caller.
    """

    @functools.wraps(original)
    def check(model: Any, tasks: Any) -> Any:
        every: Iterable[Any] = getattr(tasks, "tasks", tasks)
        ours = [one for one in (every if isinstance(every, Iterable) else [every]) if hasattr(one, "open_data")]
        frame = inspect.currentframe()
        given = frame.f_back.f_locals.get("model") if frame and frame.f_back else None
        if ours and given is model and model.loader is None and model.name == NAMELESS:
            # mteb takes the empty metadata for the model where the model has none.
            raise EncodeError(
                "The model has no mteb_model_meta, which is how mteb knows what it evaluates.",
                "Set self.mteb_model_meta = ModelMeta.create_empty({'name': 'me/my-model', 'revision': '1', "
                f"'modalities': {[*MODALITIES]}}}). {EXPECTED}",
            )
        for task in ours:
            require_suited(model, task.metadata.name, None if given is model else given)
        return original(model, tasks)

    return check
