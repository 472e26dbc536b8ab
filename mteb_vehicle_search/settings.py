"""What the environment sets, and where things are on this computer; nothing depends on the working directory."""

from __future__ import annotations

import os
from pathlib import Path

# Every variable, with its line of the help.
VARIABLES = {
    "VEHICLE_SEARCH_HOME": "folder of data, run records and embeddings",
    "VEHICLE_SEARCH_DATA": "evaluation set of the task VehicleImageSearch",
    "VEHICLE_SEARCH_KEEP_EMBEDDINGS": "1: a finished run keeps its vectors",
    "VEHICLE_SEARCH_DEVICE": "cpu, cuda, cuda:1, mps, or several separated by commas",
    "VEHICLE_SEARCH_PRECISION": "fp32, bf16 or fp16; default: bf16 on CUDA, fp32 on a CPU",
    "VEHICLE_SEARCH_PREPROCESS": "exact (default) or fast, which is up to 3/255 off",
    "VEHICLE_SEARCH_COMPILE": "1: compile the towers with torch.compile",
    "VEHICLE_SEARCH_STOCK_JINA": "1: leave jinaai/jina-clip-v2 to mteb's own wrapper",
    "VEHICLE_SEARCH_NO_HOOK": "1: leave Python's start-up alone; plain 'mteb' then does not know the tasks",
    "VEHICLE_SEARCH_DEBUG": "1: the same as --debug",
}


def text(name: str) -> str:
    """Return what the variable says; empty if it is not set.

    Raises:
        KeyError: `VARIABLES` does not know it.
    """
    if name not in VARIABLES:
        raise KeyError(name)
    return os.environ.get(name, "")


def flag(name: str) -> bool:
    """Tell whether the variable is set to anything but 0."""
    return text(name) not in ("", "0")


def home() -> Path:
    """Return the folder of data, runs and vectors: `VEHICLE_SEARCH_HOME`, else the platform's user data folder."""
    if chosen := text("VEHICLE_SEARCH_HOME"):
        return Path(chosen).expanduser().absolute()
    from platformdirs import user_data_path

    return user_data_path("vehicle-search", appauthor=False)


def data_folder(name: str = "vehicle-image-search") -> Path:
    """Return the folder of the evaluation set `name` under `home()`."""
    return home() / "data" / name


def eval_set_folder() -> Path:
    """Return where `VehicleImageSearch` looks: `VEHICLE_SEARCH_DATA`, else `data_folder()`."""
    chosen = text("VEHICLE_SEARCH_DATA")
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
