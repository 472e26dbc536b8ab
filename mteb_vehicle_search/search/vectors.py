"""What an encoder returned, checked: a vector that cannot be searched is refused, and its id named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mteb_vehicle_search.errors import EncodeError

if TYPE_CHECKING:
    import numpy as np


def compares_by_cosine(model: Any) -> bool:
    """Say whether vectors are normalised (cosine) or taken as they are (dot product).

    Raises:
        EncodeError: The model wants another similarity.
    """
    wanted = getattr(model.mteb_model_meta, "similarity_fn_name", None)
    name = str(getattr(wanted, "value", wanted or "cosine")).lower()
    if name not in ("cosine", "dot"):
        raise EncodeError(
            f"{model.mteb_model_meta.name} compares vectors by {name!r}; exact search offers cosine and dot product."
        )
    return name == "cosine"


def checked(
    vectors: Any, ids: list[str], kind: str, model: str, dimension: int | None, *, normalise: bool
) -> np.ndarray:
    """Return float32 [n, d] on the CPU; refuse what cannot be searched.

    Args:
        vectors: What the model returned for `ids`: a tensor or an array.
        ids: Of the inputs, in order.
        kind: "image" or "query", for the message.
        model: The model's name, for the message.
        dimension: What the vectors before had; None: any.
        normalise: Whether to give them unit length.

    Raises:
        EncodeError: There are too few or too many, of another dimension, or one is zero or not finite.
    """
    import numpy as np
    import torch

    if isinstance(vectors, torch.Tensor):
        array = vectors.detach().float().cpu().numpy()
    else:
        array = np.asarray(vectors, dtype=np.float32)
    if array.ndim != 2:
        raise EncodeError(f"{model} returned vectors of shape {array.shape} instead of [n, dimension].")
    if len(array) != len(ids):
        at = ids[min(len(array), len(ids) - 1)]
        raise EncodeError(
            f"{model} returned {len(array)} vectors for {len(ids)} inputs; the first {kind} without its own is {at}."
        )
    if dimension not in (None, array.shape[1]):
        raise EncodeError(
            f"{model} returned dimension {array.shape[1]} from {kind} {ids[0]} on; it was {dimension} before."
        )
    norms = np.sqrt(np.einsum("ij,ij->i", array, array, dtype=np.float64))
    for bad, what in ((~np.isfinite(norms), "NaN or infinite values"), (norms == 0, "an all-zero vector")):
        if bad.any():
            first = ids[int(bad.argmax())]
            raise EncodeError(f"{model} returned {what} for {bad.sum()} of {len(ids)} inputs, first {kind} {first}.")
    if normalise:
        array = array / norms[:, None].astype(np.float32)
    return np.ascontiguousarray(array, dtype=np.float32)
