"""Models by where they lie: what mteb must know of one, how it is loaded, and what encoders of such have in common."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mteb_vehicle_search import models
from mteb_vehicle_search.errors import ModelLoadError
from mteb_vehicle_search.models.layouts import OPEN_CLIP, SENTENCE, TRANSFORMERS, Layout
from mteb_vehicle_search.models.places import HUB, Found, at_commit, find, on_the_hub, opened

if TYPE_CHECKING:
    from mteb.models import ModelMeta

# A safetensors header is no longer than this.
_LONGEST_HEADER = 100_000_000
_FRAMEWORKS = {TRANSFORMERS: ["Transformers"], SENTENCE: ["Sentence Transformers", "Transformers"]}


def located_meta(name: str, revision: str | None = None) -> ModelMeta:
    """Return what mteb must know of the model that lies where this name says; loads no weights.

    A repository of one of our own entries, at its commit, is that entry.

    Args:
        name: A path, or `hf-hub:OWNER/NAME[@REVISION]`.
        revision: What its revision must be; on the hub a branch, tag or commit.

    Raises:
        UsageError: The name cannot be meant: there is no such folder, or it names no repository.
        ModelLoadError: What lies there cannot be loaded, or is not of this revision.
    """
    if not name.startswith(HUB):
        return meta_of(find(name, revision))
    # Before its files are looked at: an entry of ours knows layouts that nothing else reads.
    repository, commit = on_the_hub(name, revision)
    for meta in models.model_metas():
        if (meta.name, meta.revision) == (repository, commit.revision):
            return meta
    return meta_of(at_commit(repository, commit))


def meta_of(found: Found) -> ModelMeta:
    """Return what mteb must know of a model that was found."""
    layout, local = found.layout, found.files.local
    folder = found.files.folder() if local else None
    facts: dict[str, Any] = {**_size(folder, layout.weights), **_widths(layout)}
    if folder is None:
        facts["reference"] = f"https://huggingface.co/{found.name}"
    return models.image_text_meta(
        found.name,
        found.revision,
        _loader(layout.kind, folder, found.digest),
        framework=["PyTorch", *_FRAMEWORKS.get(layout.kind, []), "safetensors"],
        open_weights=True if folder is None else None,
        languages=None,
        **facts,
    )


# Cached, so that two look-ups of a model give the same; the path is not in the metadata, since mteb writes that into
# result files, and paths of a machine have no place there.
@functools.cache
def _loader(kind: str, folder: Path | None, digest: str) -> Any:
    made = functools.partial(load_located, kind, folder, digest)
    functools.update_wrapper(made, load_located)
    return made


def load_located(
    kind: str,
    folder: Path | None,
    digest: str,
    model_name: str,
    revision: str | None = None,
    device: Any = None,
    **kwargs: Any,
) -> Any:
    """Return the encoder of a model that was found.

    Raises:
        ModelLoadError: Its files changed since.
    """
    made = models.encoder_of(kind)(model_name, revision, device, **{"folder": folder, **kwargs})
    if made.found.digest != digest:
        raise _changed(folder, digest, made.found.digest)
    return made


def _changed(folder: Path | None, before: str, now: str) -> ModelLoadError:
    said = f"{folder} changed since it was looked up: its digest was {before}, and is {now} now."
    return ModelLoadError(said, "Look the model up again.")


class LocatedEncoder:
    """What encoders have in common whose model is told by its files: in a folder, or on the hub.

    Attributes:
        found: The model: its files, and which they are.
    """

    found: Found
    _meta: ModelMeta | None = None

    def locate(self, kind: str, name: str, revision: str | None, folder: str | Path | None, **more: Any) -> Found:
        """Note the model that the encoder is asked to load, and return it; see `places.opened`."""
        self.found = opened(kind, name, revision, folder, **more)
        return self.found

    @contextmanager
    def reading(self, *needed: str) -> Iterator[Path]:
        """Give the folder with all files of the model, and `needed` ones, to read the weights from.

        Raises:
            ModelLoadError: One is missing or damaged, or the files of a folder are no longer those that were found.
        """
        files = self.found.files
        folder = files.folder(*files.names, *needed)
        yield folder
        if (now := files.digest()) != self.found.digest:
            raise _changed(folder, self.found.digest, now)

    def weights_id(self) -> str:
        """Return the digest of a local folder's files; "" for the hub's, whose revision says it all."""
        return self.found.digest

    @property
    def mteb_model_meta(self) -> ModelMeta:
        """What mteb must know of the model: as mteb loaded it, else as it was found."""
        if self._meta is None:
            self._meta = meta_of(self.found)
        return self._meta

    @mteb_model_meta.setter
    def mteb_model_meta(self, meta: ModelMeta) -> None:
        self._meta = meta


def _size(folder: Path | None, weights: tuple[str, ...]) -> dict[str, Any]:
    """Return how many parameters the weights are; unknown before they are downloaded."""
    if folder is None:
        return {"n_parameters": None, "memory_usage_mb": None}
    headers = [_header(folder / name) for name in weights]
    counts = {
        key: math.prod(one["shape"]) for header in headers for key, one in header.items() if isinstance(one, Mapping)
    }
    stored = sum((folder / name).stat().st_size for name in weights)
    return {"n_parameters": sum(counts.values()), "memory_usage_mb": round(stored / 2**20)}


def _header(path: Path) -> dict[str, Any]:
    """Return what a safetensors file says of its tensors; nothing if it is damaged, which loading it will tell."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            found = json.loads(file.read(length)) if length <= _LONGEST_HEADER else {}
        return {key: one for key, one in found.items() if key != "__metadata__" and "shape" in one}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _widths(layout: Layout) -> dict[str, Any]:
    """Return the dimension and the longest text, where the configuration says them without doubt."""
    model = layout.config.get("model_cfg") if layout.kind == OPEN_CLIP else None
    if not isinstance(model, dict):
        return {"embed_dim": None, "max_tokens": None}
    text = model.get("text_cfg")
    context = text.get("context_length", 77) if isinstance(text, dict) else None
    return {"embed_dim": model.get("embed_dim"), "max_tokens": context}
