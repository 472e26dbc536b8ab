"""What networks of images share: batches with bits that are the same everywhere, timm's loading, and local folders."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open

from mteb_vehicle_search.errors import BuildError
from mteb_vehicle_search.models.batches import Lane, bare_lanes, in_order

Item = TypeVar("Item")
THREADS = 1  # Of a batch on a processor: the last bits depend on it (`in_batches`).


def in_batches(
    device: str, items: Sequence[Item], batch_size: int, compute: Callable[[Sequence[Item]], torch.Tensor]
) -> np.ndarray:
    """Return what `compute` makes of each batch, end to end, float32 [n, ...].

    On a processor, each batch has `THREADS`, and as many batches are computed at a time as there are processors: so
    the bits are the same on all machines of one kind.
    """

    def of_batch(batch: Sequence[Item], lane: Lane) -> np.ndarray:
        with torch.inference_mode():  # It belongs to a thread.
            return compute(batch).float().cpu().numpy()

    batches = [items[start : start + batch_size] for start in range(0, len(items), batch_size)]
    # TF32 would move scores near the threshold.
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        return np.concatenate([*in_order(bare_lanes(torch.device(device), THREADS), batches, of_batch)])


class TimmNetwork(NamedTuple):
    """A model of timm with the preprocessing of its pretrained configuration, fp32."""

    module: Any
    transform: Any

    def pixels(self, image: Image.Image) -> np.ndarray:
        """Return the model's input for an RGB image, float32 [3, height, width]."""
        return self.transform(image).numpy()


def load_timm(
    model: str,
    device: str,
    weights: Path,
    configuration: dict[str, Any] | None = None,
    *,
    features: bool = False,
    side_px: int = 0,
) -> TimmNetwork:
    """Load a model of timm.

    Args:
        model: Its name, without weights.
        device: Of torch.
        weights: A safetensors file.
        configuration: That of the folder where it lies, as timm writes it; without, the library's own counts.
        features: Whether it gives features, and not logits.
        side_px: Of the square that it sees; 0: as its configuration says.
    """
    import timm
    from timm.data.config import resolve_model_data_config
    from timm.data.transforms_factory import create_transform

    configuration = configuration or {}
    here = {**configuration.get("pretrained_cfg", {}), "file": str(weights), "hf_hub_id": None}
    options = {**configuration.get("model_args", {})}
    if features:
        options["num_classes"] = 0
    elif classes := configuration.get("num_classes"):
        options["num_classes"] = classes
    usual = timm.get_pretrained_cfg(model, allow_unregistered=True)
    if side_px and {**(vars(usual) if usual else {}), **here}.get("fixed_input_size"):
        options["img_size"] = side_px
    module = timm.create_model(model, pretrained=True, pretrained_cfg_overlay=here, **options).float().eval().to(device)
    data: dict[str, Any] = dict(resolve_model_data_config(module))
    if side_px:
        data["input_size"] = (3, side_px, side_px)
    return TimmNetwork(module, create_transform(**data, is_training=False))


def timm_repository(model: str) -> str:
    """Return where on the hub the weights of a timm model lie."""
    return model if "/" in model else f"timm/{model}"


def require_safetensors(paths: Sequence[Path]) -> None:
    """Make sure that weights are whole: the header is read, and whether the file is as long as that says.

    Raises:
        BuildError: One is not.
    """
    for path in paths:
        try:
            with safe_open(path, framework="numpy"):
                pass
        except (SafetensorError, OSError) as error:
            raise BuildError(f"{path} is damaged: {error}", "Get the file again.") from error


def read_settings(path: Path) -> dict[str, Any]:
    """Return what a JSON file of settings holds.

    Raises:
        BuildError: It cannot be read, or is no JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BuildError(f"{path} cannot be read: {error}", "Get the file again.") from error
    if not isinstance(content, dict):
        raise BuildError(f"{path} holds no settings but a {type(content).__name__}.", "Get the file again.")
    return content
