"""JinaClipEncoder: Jina CLIP v2 from library classes and its safetensors file, without remote code."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import torch

from mteb_vehicle_search.errors import ModelLoadError
from mteb_vehicle_search.models.encoder import ImageTextEncoder, Towers
from mteb_vehicle_search.models.jina_towers import load_towers
from mteb_vehicle_search.models.preprocess import ShortestSideCrop
from mteb_vehicle_search.models.snapshot import ModelFiles

FILES = ("config.json", "preprocessor_config.json", "model.safetensors", "tokenizer.json")
CONFIG, PREPROCESS, WEIGHTS, TOKENIZER = FILES
REVISION = "e10d47f5691d0454a0fb5d13f46f2199b74cb436"
DIGESTS = {
    CONFIG: "b5466de03392479d778745bbdb1905e297cd07ca76694703bd7d7b84d58aa853",
    WEIGHTS: "eff4c0a13ab4de71a9927a56968fef44e626920ff935e503f1bd3e6ec797062d",
    TOKENIZER: "6601c4120779a1a3863897ba332fe3481d548e363bec2c91eba10ef8640a5e93",
}
MAX_TOKENS = 512

# Under mteb's logger, so that `mteb run` shows it, and its --verbosity decides.
logger = logging.getLogger("mteb.vehicle_search")


class JinaClipEncoder(ImageTextEncoder):
    """Jina CLIP v2.

    Args:
        model_name, revision, device: See `ImageTextEncoder`.
        folder: A local model folder, instead of the hub.
        task: None (as the published scores were made), or "retrieval.query" to put the model's instruction before
            each text, as the reference's `encode_text(task="retrieval.query")` does.
        embed_dim: Keep only the first so many columns (matryoshka), before normalising.
        licence: Of the model, told when it cannot be downloaded.

    Raises:
        ModelLoadError: The task is unknown, or the dimension is not one that the model was trained for.
    """

    fixed_length = False

    def __init__(
        self,
        model_name: str,
        revision: str | None = None,
        device: str | int | None = None,
        *,
        folder: str | Path | None = None,
        task: str | None = None,
        embed_dim: int | None = None,
        licence: str = "",
        **mode: str,
    ) -> None:
        super().__init__(model_name, revision, device, **mode)
        self.files = ModelFiles(model_name, revision, FILES, folder, DIGESTS if revision == REVISION else None, licence)
        # Two small files; the weights follow with the first batch.
        small = self.files.folder(CONFIG, PREPROCESS)
        self.config, preprocess = _read_json(small / CONFIG), _read_json(small / PREPROCESS)
        try:
            instructions = self.config["text_config"]["hf_model_config_kwargs"].get("task_instructions", {})
            dimensions, default = self.config["matryoshka_dimensions"], self.config.get("truncate_dim")
            size, self.mean, self.std = int(preprocess["size"]), tuple(preprocess["mean"]), tuple(preprocess["std"])
            asked = (size, preprocess["resize_mode"], preprocess["interpolation"])
            known = (int(self.config["vision_config"]["image_size"]), "shortest", "bicubic")
        except (KeyError, TypeError, ValueError) as error:
            raise ModelLoadError(f"{small}: {CONFIG} or {PREPROCESS} is not Jina CLIP v2's: {error!r}.") from error
        if asked != known:
            raise ModelLoadError(f"{small / PREPROCESS} asks for {asked}, not for Jina CLIP v2's {known}.")
        if task is not None and task not in instructions:
            raise ModelLoadError(f"{model_name} has no task {task!r}.", f"Choose from {', '.join(instructions)}.")
        if embed_dim is not None and embed_dim not in dimensions:
            raise ModelLoadError(f"{model_name} has no dimension {embed_dim}.", f"Choose from {dimensions}.")
        self.instruction = instructions[task] if task else ""
        self.embed_dim = embed_dim or default
        self.crop = ShortestSideCrop(size, self.mode)
        self._tokenizer: Any = None

    def load(self) -> Towers:
        """Load both towers strictly, tensor by tensor, in the encoder's precision."""
        logger.info(
            "%s: loaded natively, in place of mteb's wrapper of remote code (VEHICLE_SEARCH_STOCK_JINA=1 keeps that).",
            self.model_name,
        )
        path = self.files.folder(*FILES) / WEIGHTS
        vision, text, _ = load_towers(path, self.config, self.dtype, published=not self.files.local)
        module = JinaClip(vision, text, self.embed_dim)
        return Towers(module, module.encode_image, module.encode_text, cast=False)

    def tokenise(self, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return tokens padded to the longest text (at most 512) and their mask."""
        if self._tokenizer is None:
            from tokenizers import Tokenizer

            path = self.files.folder(TOKENIZER) / TOKENIZER
            try:
                self._tokenizer = Tokenizer.from_file(str(path))
            except Exception as error:  # tokenizers raises bare Exception
                raise ModelLoadError(f"{path} is damaged: {error}.") from error
            self._tokenizer.enable_truncation(MAX_TOKENS)
            self._tokenizer.enable_padding(pad_id=1, pad_token="<pad>")  # noqa: S106
        encoded = self._tokenizer.encode_batch([self.instruction + text for text in texts])
        self.count_cut(len(texts), sum(bool(item.overflowing) for item in encoded), MAX_TOKENS)
        return torch.tensor([item.ids for item in encoded]), torch.tensor([item.attention_mask for item in encoded])

    def weights_id(self) -> str:
        """Return what identifies the vectors beyond the revision: options, and a local folder's digest."""
        return f"{self.files.digest()} {self.instruction!r} {self.embed_dim}"


class JinaClip(torch.nn.Module):
    """Both towers, with the pooling over tokens and the cut to `columns` that lead to the embeddings."""

    def __init__(self, vision: torch.nn.Module, text: torch.nn.Module, columns: int | None) -> None:
        super().__init__()
        self.vision, self.text, self.columns = vision, text, columns

    def encode_image(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalised pixels [n, 3, size, size] -> [n, columns], not normalised."""
        return self.vision(pixels)[:, : self.columns]

    def encode_text(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Tokens and mask [n, length] -> [n, columns]: the mean over the mask, not normalised."""
        hidden = self.text(input_ids=tokens, attention_mask=mask).last_hidden_state
        weights = mask.unsqueeze(-1).to(hidden.dtype)
        return ((hidden * weights).sum(dim=1) / weights.sum(dim=1))[:, : self.columns]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelLoadError(f"{path} is missing or damaged: {error}.") from error
