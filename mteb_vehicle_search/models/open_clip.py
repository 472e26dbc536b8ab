"""OpenClipEncoder: any open_clip checkpoint, from a pinned snapshot on the hub or a folder, safetensors only."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mteb_vehicle_search.errors import ModelLoadError
from mteb_vehicle_search.models.encoder import ImageTextEncoder, Towers
from mteb_vehicle_search.models.preprocess import ShortestSideCrop
from mteb_vehicle_search.models.snapshot import snapshot

if TYPE_CHECKING:
    import torch

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"


class OpenClipEncoder(ImageTextEncoder):
    """An open_clip model.

    Args:
        model_name: Repository on the hub, such as "timm/vit_huge_patch14_clip_224.metaclip_altogether".
        revision: Full commit hash of the snapshot.
        device: See `ImageTextEncoder`.
        folder: A local model folder, instead of the hub.
        quick_gelu: The activation that the checkpoint was trained with; a configuration that says otherwise is refused,
            since the wrong one gives silently wrong vectors.
        bpe_file: Name of a byte-pair vocabulary in the model folder, instead of open_clip's own.

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
        **kwargs: Any,
    ) -> None:
        super().__init__(model_name, revision, device)
        # The configuration is small; the weights follow with the first batch.
        self.folder = Path(folder) if folder else snapshot(model_name, revision, [CONFIG])
        self._local = folder is not None
        self.bpe_file = bpe_file
        config = _read_config(self.folder / CONFIG)
        self.model_config, preprocess = config["model_cfg"], config.get("preprocess_cfg", {})
        stated = bool(self.model_config.get("quick_gelu", False))
        if stated != quick_gelu:
            raise ModelLoadError(
                f"{model_name} was trained with {'QuickGELU' if quick_gelu else 'plain GELU'}, but "
                f"{self.folder / CONFIG} says quick_gelu={stated}: its vectors would be silently wrong.",
                "Use the pinned revision of the model.",
            )
        if (shape := preprocess.get("resize_mode", "shortest")) != "shortest":
            raise ModelLoadError(f"{model_name} wants resize_mode={shape!r}; only 'shortest' is supported.")
        if preprocess.get("interpolation", "bicubic") != "bicubic":
            raise ModelLoadError(f"{model_name} wants {preprocess['interpolation']!r}; only 'bicubic' is supported.")
        from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

        self.mean = tuple(preprocess.get("mean", OPENAI_DATASET_MEAN))
        self.std = tuple(preprocess.get("std", OPENAI_DATASET_STD))
        size = preprocess.get("size") or self.model_config["vision_cfg"]["image_size"]
        self.crop = ShortestSideCrop(size if isinstance(size, int) else int(size[-1]), self.mode)
        self._tokenizer: Any = None

    def load(self) -> Towers:
        """Load the weights strictly, from safetensors, in open_clip's own class."""
        import open_clip

        if not self._local:
            self.folder = snapshot(self.model_name, self.revision, [CONFIG, WEIGHTS])
        path = self.folder / WEIGHTS
        if not path.is_file():
            raise ModelLoadError(f"{self.model_name}: {path} is missing.", "Only safetensors checkpoints are loaded.")
        try:
            model: Any = open_clip.create_model(f"local-dir:{self.folder}", precision="fp32")
        except Exception as error:
            raise ModelLoadError(
                f"{self.model_name}: {path} is damaged or does not fit its configuration: {str(error)[:600]}",
                "Delete the file and download it again.",
            ) from error

        def text(tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return model.encode_text(tokens)

        return Towers(model, model.encode_image, text)

    def tokenise(self, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return tokens padded to the context length, and a mask of the same shape."""
        import torch

        if self._tokenizer is None:
            import open_clip

            if self.bpe_file:
                context = int(self.model_config["text_cfg"].get("context_length", 77))
                self._tokenizer = open_clip.SimpleTokenizer(str(self.folder / self.bpe_file), context_length=context)
            else:
                self._tokenizer = open_clip.get_tokenizer(f"local-dir:{self.folder}")
        tokens = self._tokenizer(texts)
        return tokens, torch.ones_like(tokens)

    def weights_id(self) -> str:
        """Return the digest of a local folder's weights; the hub's revision says it all."""
        if not self._local:
            return ""
        with (self.folder / WEIGHTS).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        if not (config["model_cfg"]["vision_cfg"]["image_size"] and config["model_cfg"]["text_cfg"]):
            raise ValueError("it has no image size or text configuration")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelLoadError(f"{path} is not an open_clip configuration: {error!r}.") from error
    return config
