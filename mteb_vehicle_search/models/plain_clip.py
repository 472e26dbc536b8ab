"""CLIP's two plain transformers, as most open_clip checkpoints have them, without the seconds that open_clip imports.

The layout of the weights and each operation are open_clip's, so that its checkpoints fit and the vectors are its own to
the bit; a configuration that asks for anything more is left to open_clip.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import torch
from torch import nn

VISION = {"image_size", "layers", "width", "head_width", "patch_size", "mlp_ratio"}
TEXT = {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"}
# What open_clip takes where a configuration is silent.
VISION_DEFAULTS = {"layers": 12, "width": 768, "head_width": 64, "patch_size": 16, "image_size": 224, "mlp_ratio": 4.0}
TEXT_DEFAULTS = {
    "context_length": 77, "vocab_size": 49_408, "width": 512, "heads": 8, "layers": 12, "mlp_ratio": 4.0
}  # fmt: skip


def is_plain(config: dict[str, Any]) -> bool:
    """Return whether `PlainClip` is what a configuration asks for, and open_clip would have to be imported."""
    known = {"embed_dim", "quick_gelu", "vision_cfg", "text_cfg"}
    sizes = [*config["vision_cfg"].items(), *config["text_cfg"].items(), ("embed_dim", config.get("embed_dim"))]
    return (
        "open_clip" not in sys.modules
        and set(config) <= known
        and set(config["vision_cfg"]) <= VISION
        and set(config["text_cfg"]) <= TEXT
        and all(type(size) is int or (name == "mlp_ratio" and type(size) is float) for name, size in sizes)
    )


def simple_tokenizer(*vocabulary: str, context_length: int) -> Any:
    """Return open_clip's own byte-pair tokenizer, from its file alone.

    Raises:
        ImportError: It cannot be had without the rest.
    """
    package = find_spec("open_clip")
    (folder,) = (package and package.submodule_search_locations) or [""]
    spec = spec_from_file_location("open_clip_tokenizer_alone", Path(folder) / "tokenizer.py")
    if spec is None or spec.loader is None or not Path(folder, "tokenizer.py").is_file():
        raise ImportError("open_clip has no tokenizer.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.SimpleTokenizer(*vocabulary, context_length=context_length)


class QuickGelu(nn.Module):
    """The approximation of GELU that OpenAI's models were trained with."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Any shape -> the same."""
        return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    """Attention, then two layers of width `ratio`, each added to its input, which is normalised before."""

    def __init__(self, width: int, heads: int, ratio: float, gelu: type[nn.Module]) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        inner = int(width * ratio)
        layers = [("c_fc", nn.Linear(width, inner)), ("gelu", gelu()), ("c_proj", nn.Linear(inner, width))]
        self.mlp = nn.Sequential(OrderedDict(layers))

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """[n, length, width] -> the same."""
        each = self.ln_1(x)
        x = x + self.attn(each, each, each, need_weights=False, attn_mask=mask)[0]
        return x + self.mlp(self.ln_2(x))


class Blocks(nn.Module):
    """One block after the other."""

    def __init__(self, layers: int, *sizes: Any) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block(*sizes) for _ in range(layers))

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """[n, length, width] -> the same; `mask` [length, length] is added to the attention."""
        mask = None if mask is None else mask.to(x.dtype)
        for block in self.resblocks:
            x = block(x, mask)
        return x


class Vision(nn.Module):
    """The image tower; its sizes are those of open_clip's `vision_cfg`."""

    def __init__(self, columns: int, gelu: type[nn.Module], sizes: dict[str, Any]) -> None:
        super().__init__()
        width, patch = sizes["width"], sizes["patch_size"]
        self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty((sizes["image_size"] // patch) ** 2 + 1, width))
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer = Blocks(sizes["layers"], width, width // sizes["head_width"], sizes["mlp_ratio"], gelu)
        self.proj = nn.Parameter(torch.empty(width, columns))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """[n, 3, size, size] -> [n, columns]."""
        patches = self.conv1(pixels).flatten(2).permute(0, 2, 1)
        first = self.class_embedding.view(1, 1, -1).expand(len(patches), -1, -1).to(patches.dtype)
        x = torch.cat([first, patches], dim=1) + self.positional_embedding.to(patches.dtype)
        return self.ln_post(self.transformer(self.ln_pre(x)))[:, 0] @ self.proj


class PlainClip(nn.Module):
    """Both towers of an open_clip configuration that `is_plain`."""

    def __init__(self, *, embed_dim: int, vision_cfg: dict, text_cfg: dict, quick_gelu: bool = False) -> None:
        super().__init__()
        gelu, sizes = QuickGelu if quick_gelu else nn.GELU, {**TEXT_DEFAULTS, **text_cfg}
        width, length = sizes["width"], sizes["context_length"]
        self.visual = Vision(embed_dim, gelu, {**VISION_DEFAULTS, **vision_cfg})
        self.transformer = Blocks(sizes["layers"], width, sizes["heads"], sizes["mlp_ratio"], gelu)
        # Drawing random numbers without memory would have torch import its compiler.
        self.token_embedding = nn.Embedding.from_pretrained(torch.empty(sizes["vocab_size"], width), freeze=False)
        self.positional_embedding = nn.Parameter(torch.empty(length, width))
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.empty(width, embed_dim))
        self.logit_scale = nn.Parameter(torch.empty([]))
        # No token sees those after it.
        self.register_buffer("mask", torch.full((length, length), -torch.inf).triu_(1), persistent=False)

    def encode_image(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalised pixels [n, 3, size, size] -> [n, columns], not normalised."""
        return self.visual(pixels)

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens [n, context] -> [n, columns] of each text's last token, the one of the highest number."""
        dtype = self.positional_embedding.dtype
        x = self.token_embedding(tokens).to(dtype) + self.positional_embedding
        x = self.ln_final(self.transformer(x, self.mask))  # type: ignore[arg-type]
        return x[torch.arange(len(x), device=x.device), tokens.argmax(dim=-1)] @ self.text_projection
