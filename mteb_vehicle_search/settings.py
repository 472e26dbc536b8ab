"""Where things are on this computer; nothing depends on the working directory."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """Return the folder of data, runs and vectors: `VEHICLE_SEARCH_HOME`, else the platform's user data folder."""
    chosen = os.environ.get("VEHICLE_SEARCH_HOME")
    if chosen:
        return Path(chosen).expanduser().absolute()
    from platformdirs import user_data_path

    return user_data_path("vehicle-search", appauthor=False)


def data_folder(name: str = "vehicle-image-search") -> Path:
    """Return the folder of the evaluation set `name` under `home()`."""
    return home() / "data" / name


def evaluation_data() -> Path:
    """Return where `VehicleImageSearch` looks: `VEHICLE_SEARCH_DATA`, else `data_folder()`."""
    chosen = os.environ.get("VEHICLE_SEARCH_DATA")
    return Path(chosen).expanduser().absolute() if chosen else data_folder()


def runs_folder() -> Path:
    """Return the folder of run records."""
    return home() / "runs"


def embeddings_folder() -> Path:
    """Return the folder of unfinished (or kept) vectors."""
    return home() / "embeddings"


def mini_folder() -> Path:
    """Return the embedded evaluation set that ships in the package."""
    return Path(__file__).parent / "mini"
