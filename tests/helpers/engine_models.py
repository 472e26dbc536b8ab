"""Models that other processes can make, and what becomes of them there."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path
from typing import Any

from toy_encoder import ToyEncoder

from mteb_vehicle_search.models import tiny_clip


def troubled(folder: Path, trouble: str) -> Any:
    """Return the ModelMeta of the embedded model with a trouble; what it does is counted in the folder.

    "exit": The process ends when it is to give vectors, twice in all. "nan": All vectors are NaN. "slow": It takes
    0.3 s for each unit, until there is a file `hurry`. "weights": They are others but for the first model that is made.
    """
    return tiny_clip().model_copy(update={"loader": partial(load, str(folder), trouble)})


def toy() -> Any:
    """Return the ModelMeta of an encoder that is not ours."""
    return ToyEncoder().mteb_model_meta.model_copy(update={"loader": load_toy})


def load_toy(name: str, revision: str | None = None, **options: Any) -> ToyEncoder:
    """Return it."""
    return ToyEncoder(name, revision)


def load(folder: str, trouble: str, name: str, revision: str | None = None, device: Any = None, **options: Any) -> Any:
    """Return the embedded model with its trouble."""
    model: Any = tiny_clip().loader(name, revision, device, **options)  # type: ignore[misc]
    whole = model._whole

    def given(parts: Any) -> Any:
        number = counted(folder, "given")
        if trouble == "exit" and number < 2:
            os._exit(3)
        if trouble == "slow" and not (Path(folder) / "hurry").exists():
            time.sleep(0.3)
        return whole(parts) * (float("nan") if trouble == "nan" else 1)

    if trouble in ("exit", "nan", "slow"):
        model._whole = given
    if trouble == "weights" and counted(folder, "made"):
        model.weights_id = lambda: "others"
    return model


def counted(folder: str, what: str) -> int:
    """Count one more, and return how many were before, in all processes."""
    number = 0
    while True:
        try:
            (Path(folder) / f"{what}-{number}").touch(exist_ok=False)
            return number
        except FileExistsError:
            number += 1
