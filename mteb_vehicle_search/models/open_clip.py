"""OpenClipEncoder: any open_clip checkpoint, from a pinned snapshot on the hub or a folder, safetensors only."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch

from mteb_vehicle_search.errors import ModelLoadError
from mteb_vehicle_search.models.checkpoint import Checkpoint, fill, layout_of, parameters_on_meta
from mteb_vehicle_search.models.encoder import ImageTextEncoder, Towers
from mteb_vehicle_search.models.preprocess import ShortestSideCrop, Squash
from mteb_vehicle_search.models.snapshot import ModelFiles

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
# Where the configuration names a tokenizer of transformers instead of open_clip's own.
TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
RESIZES = {"shortest": ShortestSideCrop, "squash": Squash}


class OpenClipEncoder(ImageTextEncoder):
    """An open_clip model, such as "timm/vit_huge_patch14_clip_224.metaclip_altogether".

    Args:
        model_name, revision, device: See `ImageTextEncoder`.
        folder: A local model folder, instead of the hub.
        quick_gelu: The activation that the checkpoint was trained with; a configuration that says otherwise is refused,
            since the wrong one gives silently wrong vectors.
        bpe_file: Name of a byte-pair vocabulary in the model folder, instead of open_clip's own.
        licence: Of the model, told when it cannot be downloaded.

    Raises:
        ModelLoadError: The configuration is missing, unreadable, or not of this kind.
    """

    def __init__(
        self,
        model_name: str,
        revision: str | None = None,
        device: str | int | None = None,
        *,
        folder: str | Path | None = None,
        quick_gelu: bool = False,
        bpe_file: str | None = None,
        licence: str = "",
        **mode: str,
    ) -> None:
        super().__init__(model_name, revision, device, **mode)
        # The configuration is small; the rest follows with the first batch.
        self.names = [CONFIG, WEIGHTS, *([bpe_file] if bpe_file else [])]
        self.files = ModelFiles(model_name, revision, self.names, folder, licence=licence)
        path = self.files.folder(CONFIG) / CONFIG
        self.bpe_file = bpe_file
        config = _read_config(path)
        self.model_config, preprocess = config["model_cfg"], config.get("preprocess_cfg", {})
        if "hf_tokenizer_name" in self.model_config["text_cfg"]:
            self.names += TOKENIZER
        stated = bool(self.model_config.get("quick_gelu", False))
        if stated != quick_gelu:
            raise ModelLoadError(
                f"{model_name} was trained with {'QuickGELU' if quick_gelu else 'plain GELU'}, but "
                f"{path} says quick_gelu={stated}: its vectors would be silently wrong.",
                "Use the pinned revision of the model.",
            )
        resize, interpolation = preprocess.get("resize_mode", "shortest"), preprocess.get("interpolation", "bicubic")
        if resize not in RESIZES or interpolation not in ("bicubic", "bilinear"):
            raise ModelLoadError(f"{path} wants the preprocessing {resize!r}, {interpolation!r}, which is not offered.")
        from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

        self.mean = tuple(preprocess.get("mean", OPENAI_DATASET_MEAN))
        self.std = tuple(preprocess.get("std", OPENAI_DATASET_STD))
        size = preprocess.get("size") or self.model_config["vision_cfg"]["image_size"]
        self.crop = RESIZES[resize](size if isinstance(size, int) else int(size[-1]), self.mode, interpolation)
        self._tokenizer: Any = None

    def load(self) -> Towers:
        """Load the weights strictly, tensor by tensor, from safetensors, into open_clip's own class."""
        checkpoint = Checkpoint(self.files.folder(*self.names) / WEIGHTS)
        model = self._build()
        wanted = layout_of(model)
        checkpoint.require(wanted, f"{self.model_name}'s configuration")

        def copied(value: torch.Tensor) -> torch.Tensor:
            return value.to(self.dtype if value.is_floating_point() else None, copy=True)

        fill(model, ((name, copied(checkpoint.tensor(name))) for name in wanted))
        module = Clip(model)
        return Towers(module, model.encode_image, module.encode_text)

    def _build(self) -> Any:
        """Return open_clip's model of the configured layout."""
        from open_clip.model import CLIP, CustomTextCLIP

        config = copy.deepcopy(self.model_config)
        if "timm_model_name" in config["vision_cfg"]:
            config["vision_cfg"]["timm_model_pretrained"] = False
        kind = CustomTextCLIP if config.pop("custom_text", False) else CLIP
        try:
            try:
                with parameters_on_meta():
                    return kind(**config)
            except RuntimeError:  # a few towers compute with their parameters while they are built
                return kind(**config)
        except Exception as error:  # open_clip and timm raise whatever they stumble over
            raise ModelLoadError(
                f"{self.model_name}: open_clip builds no model from its configuration: {error!r}."
            ) from error

    def tokenise(self, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return tokens padded to the context length, and a mask of the same shape."""
        if self._tokenizer is None:
            import open_clip

            if self.bpe_file:
                context = int(self.model_config["text_cfg"].get("context_length", 77))
                path = self.files.folder(self.bpe_file) / self.bpe_file
                self._tokenizer = open_clip.SimpleTokenizer(str(path), context_length=context)
            else:
                self._tokenizer = open_clip.get_tokenizer(f"local-dir:{self.files.folder(*self.names)}")
        tokens = self._tokenizer(texts)
        return tokens, torch.ones_like(tokens)

    def weights_id(self) -> str:
        """Return the digest of a local folder's weights; the hub's revision says it all."""
        return self.files.weights_id(WEIGHTS)


class Clip(torch.nn.Module):
    """open_clip's model with the forward pass of texts that the encode loop calls."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def encode_text(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Tokens [n, context] -> [n, d], not normalised; open_clip derives the mask from the tokens."""
        return self.model.encode_text(tokens)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        if not (config["model_cfg"]["vision_cfg"]["image_size"] and config["model_cfg"]["text_cfg"]):
            raise ValueError("it has no image size or text configuration")
        # open_clip would hand such a wish to transformers.
        if "remote_code" in json.dumps(config):
            raise ValueError("it asks for remote code, which is never run")
        if "hf_model_name" in config["model_cfg"]["text_cfg"]:
            raise ValueError("its text tower comes from another repository, which nothing pins")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelLoadError(f"{path} is not an open_clip configuration: {error!r}.") from error
    return config
