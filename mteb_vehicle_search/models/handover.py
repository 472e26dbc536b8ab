"""What is handed to encoders and what they hand back: mteb's batches read, and vectors made one array."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from mteb_vehicle_search.errors import EncodeError


def read_batches(inputs: Any) -> Iterator[tuple[str, list[Any]]]:
    """Yield "image" with RGB images, or "text" with texts, for each batch of mteb's DataLoader.

    Raises:
        EncodeError: A batch has neither, or there is none.
    """
    kind = ""
    for batch in inputs:
        kind = next((one for one in ("image", "text") if one in batch), "")
        if not kind:
            raise EncodeError(f"Inputs have neither 'image' nor 'text', only {sorted(batch)}.")
        yield kind, [item.convert("RGB") if kind == "image" else item for item in batch[kind]]
    if not kind:
        raise EncodeError("There is nothing to encode.")


def one_array(vectors: Any) -> np.ndarray:
    """Return float32 of any shape from a tensor (dense or sparse), an array, or a list of such.

    Raises:
        TypeError, ValueError, RuntimeError: It is no array of numbers.
    """
    if isinstance(vectors, list | tuple):
        return np.stack([_array(one) for one in vectors]) if vectors else np.empty((0, 0), dtype=np.float32)
    return _array(vectors)


def _array(vectors: Any) -> np.ndarray:
    if isinstance(vectors, torch.Tensor):
        dense = vectors.detach().to_dense() if vectors.layout != torch.strided else vectors.detach()
        # numpy has no bfloat16.
        return dense.to("cpu", torch.float32).numpy()
    array = np.asarray(vectors)
    # Other libraries bring numpy theirs.
    if array.dtype.kind not in "fiu" and array.dtype.name != "bfloat16":
        raise TypeError(f"its values are {array.dtype}")
    return array.astype(np.float32)
