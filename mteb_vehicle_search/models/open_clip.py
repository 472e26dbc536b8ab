"""OpenClipEncoder: any open_clip checkpoint, from a pinned snapshot on the hub or a folder, safetensors only."""

from __future__ import annotations

import copy
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from mteb_vehicle_search.errors import ModelLoadError
from mteb_vehicle_search.models.checkpoint import FIT, Checkpoint, fill, layout_of, parameters_on_meta
from mteb_vehicle_search.models.encoder import ImageTextEncoder, Towers
from mteb_vehicle_search.models.layouts import OPEN_CLIP, OPEN_CLIP_CONFIG, OPEN_CLIP_WEIGHTS
from mteb_vehicle_search.models.located import LocatedEncoder
from mteb_vehicle_search.models.plain_clip import PlainClip, is_plain, simple_tokenizer
from mteb_vehicle_search.models.preprocess import ShortestSideCrop, Squash

CONFIG, WEIGHTS = OPEN_CLIP_CONFIG, OPEN_CLIP_WEIGHTS[0]
# Where the configuration names a tokenizer of transformers instead of open_clip's own.
TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
# OpenAI's, which open_clip takes where a configuration is silent.
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
OF_TOKENIZERS = ("hf_tokenizer_name", "tokenizer_kwargs")
RESIZES = {"shortest": ShortestSideCrop, "squash": Squash}


class OpenClipEncoder(LocatedEncoder, ImageTextEncoder):
    """An open_clip model, such as "timm/vit_huge_patch14_clip_224.metaclip_altogether".

    Args:
        model_name, revision, device: See `ImageTextEncoder`; the name may say where the model lies, as a path or as
            `hf-hub:OWNER/NAME[@REVISION]`, and the revision is then found out.
        folder: A local model folder, instead of the hub.
        quick_gelu: The activation that the checkpoint was trained with; a configuration that says otherwise is refused,
            since the wrong one gives silently wrong vectors. None: as the configuration says.
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
        quick_gelu: bool | None = None,
        bpe_file: str | None = None,
        licence: str = "",
        **mode: str,
    ) -> None:
        more = (bpe_file,) if bpe_file else ()
        found = self.locate(OPEN_CLIP, model_name, revision, folder, licence=licence, more=more)
        super().__init__(found.name, found.revision, device, **mode)
        # The configuration is small; the rest follows with the first batch.
        path = found.files.folder(CONFIG) / CONFIG
        self.bpe_file = bpe_file
        config = read_config(path)
        self.model_config, preprocess = config["model_cfg"], config.get("preprocess_cfg", {})
        if bpe_file:  # What the configuration says of tokenizers is for those who have no such file.
            text = {key: value for key, value in self.model_config["text_cfg"].items() if key not in OF_TOKENIZERS}
            self.model_config = {**self.model_config, "text_cfg": text}
        self._needed = TOKENIZER if "hf_tokenizer_name" in self.model_config["text_cfg"] else ()
        stated = bool(self.model_config.get("quick_gelu", False))
        if quick_gelu is not None and stated != quick_gelu:
            raise ModelLoadError(
                f"{found.name} was trained with {'QuickGELU' if quick_gelu else 'plain GELU'}, but "
                f"{path} says quick_gelu={stated}: its vectors would be silently wrong.",
                FIT if found.files.local else "Use the pinned revision of the model.",
            )
        resize, interpolation = preprocess.get("resize_mode", "shortest"), preprocess.get("interpolation", "bicubic")
        if resize not in RESIZES or interpolation not in ("bicubic", "bilinear"):
            raise ModelLoadError(f"{path} wants the preprocessing {resize!r}, {interpolation!r}, which is not offered.")
        self.mean = tuple(preprocess.get("mean", MEAN))
        self.std = tuple(preprocess.get("std", STD))
        size = preprocess.get("size") or self.model_config["vision_cfg"]["image_size"]
        self.crop = RESIZES[resize](size if isinstance(size, int) else int(size[-1]), self.mode, interpolation)
        self._tokenizer: Any = None

    def load(self) -> Towers:
        """Load the weights strictly, tensor by tensor, from safetensors, into open_clip's own class."""
        with self.reading(*self._needed) as folder:
            weights = [folder / name for name in self.found.layout.weights]
            checkpoint = Checkpoint(*weights, local=self.found.files.local)
            model = build(self.model_config, self.model_name)
            wanted = layout_of(model)
            checkpoint.require(wanted, f"{self.model_name}'s configuration")

            def copied(value: torch.Tensor) -> torch.Tensor:
                return value.to(self.dtype if value.is_floating_point() else None, copy=True)

            fill(model, ((name, copied(checkpoint.tensor(name))) for name in wanted))
        module = Clip(model)
        return Towers(module, model.encode_image, module.encode_text)

    def tokenise(self, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return tokens padded to the context length, and a mask of the same shape."""
        if self._tokenizer is None:
            self._tokenizer = self._make_tokenizer()
        tokens = self._tokenizer(texts)
        self.count_cut(len(texts), _count_cut(self._tokenizer, texts, tokens), tokens.shape[1])
        return tokens, torch.ones_like(tokens)

    def _make_tokenizer(self) -> Any:
        context = int(self.model_config["text_cfg"].get("context_length", 77))
        files = self.found.files
        own: list[Any] = [str(files.folder(self.bpe_file) / self.bpe_file)] if self.bpe_file else []
        if is_plain(self.model_config):
            with suppress(ImportError):
                return simple_tokenizer(*own, context_length=context)
        import open_clip

        if own:
            return open_clip.SimpleTokenizer(*own, context_length=context)
        return open_clip.get_tokenizer(f"local-dir:{files.folder(*files.names, *self._needed)}")


def build(config: dict[str, Any], name: str) -> Any:
    """Return open_clip's model of a configured layout, or one that is the same to the bit and is there sooner.

    Args:
        config: The `model_cfg` of an `open_clip_config.json`.
        name: Of the model, for the message.

    Raises:
        ModelLoadError: open_clip builds none.
    """
    if is_plain(config):
        with parameters_on_meta():
            return PlainClip(**config)
    from open_clip.model import CLIP, CustomTextCLIP

    config = copy.deepcopy(config)
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
        raise ModelLoadError(f"{name}: open_clip builds no model from its configuration: {error!r}.") from error


class Clip(torch.nn.Module):
    """open_clip's model with the forward pass of texts that the encode loop calls."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def encode_text(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Tokens [n, context] -> [n, d], not normalised; open_clip derives the mask from the tokens."""
        return self.model.encode_text(tokens)


def _count_cut(tokenizer: Any, texts: list[str], tokens: torch.Tensor) -> int:
    """Return how many texts have more tokens than open_clip's tokenizer gave, special ones included."""
    of_transformers = getattr(tokenizer, "tokenizer", None)
    # Only texts without padding may be cut, and are tokenised again. Some of transformers' pad with the end, which each
    # text keeps; the 0 that open_clip's own pads with is also the number of "!".
    last, pad = (-2, of_transformers.pad_token_id) if of_transformers else (-1, 0)
    full = [text for text, row in zip(texts, tokens, strict=True) if row[last] != pad]
    if of_transformers is None:
        return sum(len(tokenizer.encode(text)) + 2 > tokens.shape[1] for text in full)
    # One kind puts a token of its own behind all.
    limit = tokens.shape[1] - bool(tokenizer.tokenizer_mode)
    cleaned = [tokenizer.clean_fn(text) for text in full]
    return sum(len(ids) > limit for ids in of_transformers(cleaned, verbose=False)["input_ids"]) if full else 0


def read_config(path: Path) -> dict[str, Any]:
    """Return the content of an `open_clip_config.json`.

    Raises:
        ModelLoadError: It is none, or asks for something that nothing pins.
    """
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
