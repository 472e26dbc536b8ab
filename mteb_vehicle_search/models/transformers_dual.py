"""TransformersEncoder: any dual encoder of transformers, from a folder or a pinned snapshot, without remote code."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from mteb_vehicle_search.errors import EncodeError, ModelLoadError
from mteb_vehicle_search.models.checkpoint import FIT, SHOWN_COMPLAINTS, Checkpoint
from mteb_vehicle_search.models.encoder import ImageTextEncoder, Towers
from mteb_vehicle_search.models.layouts import CONFIG, TRANSFORMERS
from mteb_vehicle_search.models.located import LocatedEncoder
from mteb_vehicle_search.models.transformers_images import read_preprocessing
from mteb_vehicle_search.models.transformers_text import TOKENIZER_CONFIG, TextRule, text_rule

# Under mteb's logger, so that `mteb run` shows it, and its --verbosity decides.
logger = logging.getLogger("mteb.vehicle_search")


class TransformersEncoder(LocatedEncoder, ImageTextEncoder):
    """A dual encoder that transformers' AutoModel gives: CLIP, SigLIP, SigLIP 2, MetaCLIP 2, AltCLIP, Chinese-CLIP, ...

    The weights are loaded by transformers' own `from_pretrained`, from safetensors only: it knows the names that older
    versions gave to parameters, tied ones, and checkpoints in several files. Nothing may be missing or left over.

    Args:
        model_name, revision, device: See `ImageTextEncoder`; the name may say where the model lies, as a path or as
            `hf-hub:OWNER/NAME[@REVISION]`, and the revision is then found out.
        folder: A local model folder, instead of the hub.
        canonicalise: How texts are prepared for a SigLIP: "authors" (default), "open_clip" or "none".
        hidden_act: The activation that the checkpoint was trained with; a configuration that says otherwise is refused.
        licence: Of the model, told when it cannot be downloaded.
        switch: The variable that leaves the model to mteb's own wrapper, for the line that says how texts are prepared.

    Raises:
        ModelLoadError: The configuration is missing, unreadable, not of a dual encoder, or needs remote code.
    """

    def __init__(
        self,
        model_name: str,
        revision: str | None = None,
        device: str | int | None = None,
        *,
        folder: str | Path | None = None,
        canonicalise: str | None = None,
        hidden_act: str | None = None,
        licence: str = "",
        switch: str = "",
        **mode: str,
    ) -> None:
        found = self.locate(TRANSFORMERS, model_name, revision, folder, licence=licence)
        super().__init__(found.name, found.revision, device, **mode)
        # Small files; the weights follow with the first batch.
        small = found.files.folder(*found.layout.others, TOKENIZER_CONFIG)
        self.kind, self.config = read_config(small)
        self.crop, self.mean, self.std = read_preprocessing(small, self.mode)
        _check_size(small, self.config, self.crop.size_px)
        for part in ("text_config", "vision_config") if hidden_act else ():
            if (stated := getattr(getattr(self.config, part), "hidden_act", None)) != hidden_act:
                raise ModelLoadError(
                    f"{found.name} was trained with {hidden_act}, but {small / CONFIG} says {stated} in {part}: its "
                    "vectors would be silently wrong.",
                    FIT if found.files.local else "Use the pinned revision of the model.",
                )
        self.rule: TextRule = text_rule(small, self.config, canonicalise)
        self.fixed_length = self.rule.fixed_length
        self._switch = switch

    def load(self) -> Towers:
        """Load the weights strictly, in the encoder's precision, into the library's own class."""
        if self._switch:
            line = "%s: loaded in place of mteb's wrapper (%s=1 keeps that); captions: %s."
            logger.info(line, self.model_name, self._switch, self.rule.described)
        with self.reading() as folder:
            weights = self.found.layout.weights
            model = load_strictly(self.kind, folder, weights, config=self.config, dtype=self.dtype)
        module = Dual(model.eval(), masked=self.rule.masked)
        return Towers(module, module.encode_image, module.encode_text, cast=False)

    def tokenise(self, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return tokens and mask as the checkpoint's rule makes them."""
        tokens, mask, cut = self.rule(texts)
        self.count_cut(len(texts), cut, self.rule.length)
        return tokens, mask

    def describe(self) -> dict[str, Any]:
        """Return how this encoder works, for the run record."""
        return {**super().describe(), "text_rule": self.rule.described}

    def weights_id(self) -> str:
        """Return what identifies the vectors beyond the revision: the rule of texts, and a local folder's digest."""
        return f"{super().weights_id()} {self.rule.described}"


class Dual(torch.nn.Module):
    """A model of transformers, its towers as the encode loop calls them."""

    def __init__(self, model: Any, *, masked: bool) -> None:
        super().__init__()
        self.model, self.masked = model, masked

    def encode_image(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalised pixels [n, 3, size, size] -> [n, d], not normalised."""
        return _vectors(self.model.get_image_features(pixel_values=pixels), "image")

    def encode_text(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Tokens and mask [n, length] -> [n, d], not normalised."""
        given = {"input_ids": tokens, **({"attention_mask": mask} if self.masked else {})}
        return _vectors(self.model.get_text_features(**given), "text")


def _vectors(output: Any, kind: str) -> torch.Tensor:
    found = output if isinstance(output, torch.Tensor) else output.pooler_output
    if found is None or found.ndim != 2:
        shape = "nothing" if found is None else f"the shape {list(found.shape)}"
        raise EncodeError(f"The model gives {shape} for a batch of {kind}s; our search takes one vector for each.")
    return found


def read_config(folder: Path) -> tuple[Any, Any]:
    """Return the class of the library that a folder's model is of, and its configuration.

    Raises:
        ModelLoadError: The configuration is unreadable, or needs remote code.
    """
    from transformers import MODEL_MAPPING, AutoConfig

    path = folder / CONFIG
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        found = MODEL_MAPPING[type(config)]
    except Exception as error:  # the library raises whatever it stumbles over
        raise ModelLoadError(f"{path} is not the configuration of a model of transformers: {error}.") from error
    return found, config


def load_strictly(kind: Any, folder: Path, weights: Iterable[str], **given: Any) -> Any:
    """Return a model of the library's class `kind`, with every weight that it has and none left over.

    Args:
        kind: The class.
        folder: Of the checkpoint.
        weights: Names of its weights files there, which are those that the library will find.
        **given: To the class's `from_pretrained`.

    Raises:
        ModelLoadError: A file is missing, truncated or not safetensors; its tensors are not those of the configuration.
    """
    # Truncated and foreign files are found out before the library says something of its own.
    for name in weights:
        Checkpoint(folder / name, local=True)
    # What does not fit is refused below, with its names; the library would name none.
    safe = {"use_safetensors": True, "local_files_only": True, "ignore_mismatched_sizes": True}
    try:
        model, found = kind.from_pretrained(folder, output_loading_info=True, trust_remote_code=False, **safe, **given)
    except Exception as error:  # the library raises whatever it stumbles over
        raise ModelLoadError(f"{folder} is not loaded by {kind.__name__}: {error}.") from error
    complaints = [f"{key} is missing" for key in sorted(found["missing_keys"])]
    complaints += [f"{key} is unknown" for key in sorted(found["unexpected_keys"])]
    complaints += [f"{key} has shape {list(one)}, not {list(other)}" for key, one, other in found["mismatched_keys"]]
    complaints += [str(one) for one in found["error_msgs"]]
    if complaints:
        left = len(complaints) - SHOWN_COMPLAINTS
        raise ModelLoadError(
            f"The weights in {folder} are not those of {CONFIG}: {'; '.join(complaints[:SHOWN_COMPLAINTS])}"
            + (f"; and {left} more." if left > 0 else ".")
        )
    return model


def _check_size(folder: Path, config: Any, size_px: int) -> None:
    stated = getattr(getattr(config, "vision_config", None), "image_size", size_px)
    if stated not in (size_px, [size_px, size_px], (size_px, size_px)):
        raise ModelLoadError(f"{folder}: the model sees images of {stated} px, but its preprocessing gives {size_px}.")
