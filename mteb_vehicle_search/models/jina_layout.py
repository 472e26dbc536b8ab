"""How a Jina CLIP v2 checkpoint is laid out: names, shapes, and its low-rank adapter merged into the weights."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mteb_vehicle_search.errors import ModelLoadError

if TYPE_CHECKING:
    import torch

VISION, TEXT, SCALE = "vision_model.", "text_model.transformer.roberta.", "logit_scale"
PUBLISHED_PARAMETERS = {"vision": 304_382_912, "text": 558_314_496, "lora": 2_581_068, SCALE: 1}
# Rows merged at a time: bounds the fp32 copy of the 250,002-row word embedding.
MERGE_ROWS = 16_384

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
    keys = (f"{module}.original", f"{module}.0.lora_A", f"{module}.0.lora_B")
    return Source(keys, part, "_embeddings" in name)


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
    first, second = ((rows, adapter.rank), (adapter.rank, columns))
    if not source.embedding:
        first, second = (adapter.rank, columns), (rows, adapter.rank)
    return dict(zip(source.keys, (whole, (adapter.count, *first), (adapter.count, *second))))


def check_layout(
    found: dict[str, tuple[int, ...]], towers: dict[str, dict[str, tuple[int, ...]]], adapter: Adapter, where: str
) -> dict[str, int]:
    """Compare a checkpoint's keys and shapes with what the two towers need; return the parameter counts by part.

    Args:
        found: Shape of each tensor in the checkpoint.
        towers: "vision" and "text": shape of each of our parameters.
        adapter: Describes the adapters.
        where: The file, for the message.

    Raises:
        ModelLoadError: A key is missing, unknown, or of another shape.
    """
    wanted: dict[str, tuple[int, ...]] = {SCALE: ()}
    for tower, shapes in towers.items():
        for name, shape in shapes.items():
            source = vision_source(name) if tower == "vision" else text_source(name)
            wanted.update(expected_shapes(source, shape, adapter))
    complaints = [f"{key} is missing" for key in sorted(wanted.keys() - found.keys())]
    complaints += [f"{key} is unknown" for key in sorted(found.keys() - wanted.keys())]
    complaints += [
        f"{key} has shape {list(found[key])}, not {list(wanted[key])}"
        for key in sorted(wanted.keys() & found.keys())
        if tuple(found[key]) != wanted[key]
    ]
    if complaints:
        raise ModelLoadError(
            f"{where} is not laid out like Jina CLIP v2: {'; '.join(complaints[:5])}"
            + (f"; and {len(complaints) - 5} more" if len(complaints) > 5 else ""),
            "Delete the file and download the pinned revision again.",
        )
    counts = dict.fromkeys(PUBLISHED_PARAMETERS, 0)
    for key, shape in found.items():
        part = "vision" if key.startswith(VISION) else "lora" if ".lora_" in key else SCALE if key == SCALE else "text"
        size = 1
        for side in shape:
            size *= side
        counts[part] += size
    return counts


def read_parameters(
    file: Any, shapes: dict[str, tuple[int, ...]], source_of: Callable[[str], Source], adapter: Adapter, dtype: Any
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield (name, tensor in `dtype`) of one tower, one at a time; adapters are merged in fp32.

    Args:
        file: An open `safetensors.safe_open`.
        shapes: Our parameters.
        source_of: `vision_source` or `text_source`.
        adapter: The adapter to merge.
        dtype: The torch dtype of the result.
    """
    import torch

    for name, shape in shapes.items():
        source = source_of(name)
        original = file.get_slice(source.keys[0])
        if not shape:
            yield name, file.get_tensor(source.keys[0]).to(dtype, copy=True)
            continue
        result = torch.empty(shape, dtype=dtype)
        offset = 0 if source.part is None else source.part * shape[0]
        for start in range(0, shape[0], MERGE_ROWS):
            rows = slice(offset + start, offset + min(start + MERGE_ROWS, shape[0]))
            block = original[rows].float()
            if len(source.keys) == 3:
                a = file.get_slice(source.keys[1])
                b = file.get_slice(source.keys[2])
                if source.embedding:
                    left, right = a[adapter.index, rows], b[adapter.index]
                else:
                    left, right = b[adapter.index, rows], a[adapter.index]
                block = block + adapter.scale * (left.float() @ right.float())
            result[start : start + len(block)] = block
        yield name, result


def shapes_in(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor in a safetensors file, from its header alone.

    Raises:
        ModelLoadError: The file is missing, truncated or not safetensors.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ModelLoadError(
            f"{path} is missing, truncated or not a safetensors file: {error}.",
            "Delete the file and download the pinned revision again.",
        ) from error
