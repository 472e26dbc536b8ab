"""Which devices and which precision an encoder works with."""

from __future__ import annotations

import torch

from mteb_vehicle_search import settings
from mteb_vehicle_search.errors import ModelLoadError, first_line

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_devices(device: str | int | None) -> list[torch.device]:
    """Return the devices to spread batches over: those of `VEHICLE_SEARCH_DEVICE`, separated by commas; else all
    visible CUDA devices if mteb asks for none in particular; else the one that it names.

    Raises:
        ModelLoadError: One of them does not exist.
    """
    if chosen := settings.text("VEHICLE_SEARCH_DEVICE"):
        return [_device(name.strip()) for name in chosen.split(",")]
    if device in (None, "cuda") and torch.cuda.device_count() > 1:
        return [_device(f"cuda:{number}") for number in range(torch.cuda.device_count())]
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    return [_device(device)]


def _device(name: str | int) -> torch.device:
    if isinstance(name, int) or name.isdigit():
        name = f"cuda:{name}"
    try:
        found = torch.device(name)
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError) as error:
        raise ModelLoadError(
            f"The device {name!r} cannot be used: {first_line(error)}",
            "Set VEHICLE_SEARCH_DEVICE to cpu, cuda, cuda:1, mps, or several separated by commas.",
        ) from error
    return found


def choose_precision(device: torch.device, wanted: str | None = None) -> str:
    """Return `wanted`, else `VEHICLE_SEARCH_PRECISION`, else bf16 on CUDA (fp16 without it) and fp32 elsewhere.

    Raises:
        ModelLoadError: The name is unknown.
    """
    if chosen := wanted or settings.text("VEHICLE_SEARCH_PRECISION"):
        if chosen not in DTYPES:
            where = "precision" if wanted else "VEHICLE_SEARCH_PRECISION"
            raise ModelLoadError(f"{where}={chosen!r} is unknown.", f"Choose from {', '.join(DTYPES)}.")
        return chosen
    if device.type != "cuda":
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
