"""How a Jina CLIP v2 checkpoint is laid out: names, shapes, and its low-rank adapter merged into the weights."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from mteb_vehicle_search.models.checkpoint import Checkpoint

VISION, TEXT, SCALE = "vision_model.", "text_model.transformer.roberta.", "logit_scale"
PUBLISHED_PARAMETERS = {"vision": 304_382_912, "text": 558_314_496, "lora": 2_581_068, SCALE: 1}
# Merged at a time, in fp32.
MERGED_ELEMENTS = 1 << 22

_VISION_NAMES = (
    (r"attn\.([qv])_proj\.bias$", r"attn.\1_bias"),
    (r"attn\.norm\.", "attn.inner_attn_ln."),
    (r"mlp\.fc1_g\.", "mlp.w1."),
    (r"mlp\.fc1_x\.", "mlp.w2."),
    (r"mlp\.norm\.", "mlp.ffn_ln."),
    (r"mlp\.fc2\.", "mlp.w3."),
)
_TEXT_NAMES = (
    (r"^embeddings\.LayerNorm\.", "emb_ln."),
    (r"^layers\.", "encoder.layers."),
    (r"self_attn\.[qkv]_proj\.", "mixer.Wqkv."),
    (r"self_attn\.o_proj\.", "mixer.out_proj."),
    (r"post_attention_layernorm\.", "norm1."),
    (r"post_mlp_layernorm\.", "norm2."),
)
_ADAPTED = re.compile(r"(embeddings\.(word|token_type)_embeddings|mixer\.(Wqkv|out_proj)|mlp\.fc[12])\.weight$")


class Source(NamedTuple):
    """Where one parameter of ours comes from.

    Attributes:
        keys: The checkpoint's tensor, or with an adapter its original, lora_A and lora_B.
        part: Which third of the rows (q, k, v), or None for all.
        embedding: Whether the adapter is that of an embedding, whose factors stand the other way round.
    """

    keys: tuple[str, ...]
    part: int | None = None
    embedding: bool = False


def vision_source(name: str) -> Source:
    """Return where timm's parameter `name` comes from."""
    for pattern, ours in _VISION_NAMES:
        name = re.sub(pattern, ours, name)
    return Source((VISION + name,))


def text_source(name: str) -> Source:
    """Return where transformers' parameter `name` comes from."""
    third = re.search(r"self_attn\.([qkv])_proj\.", name)
    part = "qkv".index(third[1]) if third else None
    for pattern, ours in _TEXT_NAMES:
        name = re.sub(pattern, ours, name)
    if not _ADAPTED.search(name):
        return Source((TEXT + name,), part)
    module = TEXT + name.removesuffix(".weight") + ".parametrizations.weight"
    return Source((f"{module}.original", f"{module}.0.lora_A", f"{module}.0.lora_B"), part, "_embeddings" in name)


class Adapter(NamedTuple):
    """Which adapter is merged, of how many, of what rank, and how strongly (alpha / rank)."""

    index: int
    count: int
    rank: int
    scale: float


def expected_shapes(source: Source, shape: tuple[int, ...], adapter: Adapter) -> dict[str, tuple[int, ...]]:
    """Return the checkpoint's shape of each key that a parameter of `shape` is made of."""
    whole = shape if source.part is None else (shape[0] * 3, *shape[1:])
    if len(source.keys) == 1:
        return {source.keys[0]: whole}
    rows, columns = whole
    factors = [(adapter.count, adapter.rank, columns), (adapter.count, rows, adapter.rank)]
    return dict(zip(source.keys, (whole, *(reversed(factors) if source.embedding else factors))))


def expected_layout(
    vision: Mapping[str, tuple[int, ...]], text: Mapping[str, tuple[int, ...]], adapter: Adapter
) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor of a checkpoint, from the shapes of our two towers' parameters."""
    wanted: dict[str, tuple[int, ...]] = {SCALE: ()}
    for shapes, source_of in ((vision, vision_source), (text, text_source)):
        for name, shape in shapes.items():
            wanted.update(expected_shapes(source_of(name), shape, adapter))
    return wanted


def count_parameters(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Return the number of parameters of each part, as in `PUBLISHED_PARAMETERS`."""
    counts = dict.fromkeys(PUBLISHED_PARAMETERS, 0)
    for key, shape in shapes.items():
        part = "vision" if key.startswith(VISION) else "lora" if ".lora_" in key else SCALE if key == SCALE else "text"
        counts[part] += math.prod(shape)
    return counts


def read_parameters(
    checkpoint: Checkpoint,
    shapes: Mapping[str, tuple[int, ...]],
    source_of: Callable[[str], Source],
    adapter: Adapter,
    dtype: torch.dtype,
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield (name, tensor in `dtype`) of one tower, one at a time; adapters are merged in fp32.

    `shapes` are those of our parameters, and `source_of` is `vision_source` or `text_source`.
    """
    # One buffer for all merges: large blocks that come and go between the results would fragment the memory.
    scratch = torch.empty(MERGED_ELEMENTS)
    for name, shape in shapes.items():
        source = source_of(name)
        stored, *factors = (checkpoint.tensor(key) for key in source.keys)
        third = slice(None) if source.part is None else slice(source.part * shape[0], (source.part + 1) * shape[0])
        if not factors:
            yield name, stored[third].to(dtype, copy=True)
            continue
        a, b = (factor[adapter.index] for factor in factors)
        left, right = (a, b) if source.embedding else (b, a)
        stored, left, right = stored[third], left[third].float(), right.float()
        result = torch.empty(shape, dtype=dtype)
        step = max(1, MERGED_ELEMENTS // shape[1])
        for start in range(0, shape[0], step):
            rows = slice(start, min(start + step, shape[0]))
            block = scratch[: (rows.stop - start) * shape[1]].view(-1, shape[1])
            result[rows] = block.copy_(stored[rows]).addmm_(left[rows], right, alpha=adapter.scale)
        yield name, result
