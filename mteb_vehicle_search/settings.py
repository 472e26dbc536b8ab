"""What the environment sets, and where things are on this computer; nothing depends on the working directory."""

from __future__ import annotations

import os
from difflib import get_close_matches
from pathlib import Path

from mteb_vehicle_search.addresses import is_url, scheme_of, shown
from mteb_vehicle_search.errors import SettingsError

SET_HOME = "Set VEHICLE_SEARCH_HOME to a folder that can be written."
# What a flag may say.
ON = ("1", "true", "yes", "on")
OFF = ("", "0", "false", "no", "off")
CONTROL_GROUP = Path("/sys/fs/cgroup")
_told: set[str] = set()

# Every variable, with its line of the help.
VARIABLES = {
    "VEHICLE_SEARCH_HOME": "folder of data, run records, judgments and embeddings",
    "VEHICLE_SEARCH_DATA": "evaluation set of VehicleImageSearch: a folder, or an address (hf://, s3://, gs://, https://)",
    "VEHICLE_SEARCH_KEEP_EMBEDDINGS": "1: a finished run keeps its vectors",
    "VEHICLE_SEARCH_DEVICE": "cpu, cuda, cuda:1, mps, or several separated by commas",
    "VEHICLE_SEARCH_PRECISION": "fp32, bf16 or fp16; default: bf16 on CUDA, fp32 on a CPU",
    "VEHICLE_SEARCH_PREPROCESS": "exact (default) or fast, which is up to 3/255 off",
    "VEHICLE_SEARCH_COMPILE": "1: compile the towers with torch.compile",
    "VEHICLE_SEARCH_CORES": "processors to use; default: all that the process may",
    "VEHICLE_SEARCH_ENGINE": "local (default), or ray for the machines of a cluster",
    "VEHICLE_SEARCH_STREAM": "1: keep no vectors of images, only what is found; default: above 2,000,000 images",
    "VEHICLE_SEARCH_WORKER_CPUS": "processors of a Ray worker; default: 1, or its share of a machine with GPUs",
    "VEHICLE_SEARCH_UNIT_TIMEOUT_S": "seconds without progress after which a Ray worker is given up; default: 1800",
    "VEHICLE_SEARCH_NODE_TIMEOUT_S": "seconds to wait for a Ray node with room; default: 1800",
    "VEHICLE_SEARCH_STOCK_JINA": "1: leave jinaai/jina-clip-v2 to mteb's own wrapper",
    "VEHICLE_SEARCH_STOCK_SIGLIP": "1: leave the SigLIP models to mteb's own wrapper",
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
    """Tell whether the variable is set to anything but one of `OFF`."""
    return text(name).strip().lower() not in OFF


def number(name: str, default: float) -> float:
    """Return the number above 0 that the variable says, else `default`.

    Raises:
        SettingsError: It says something else.
    """
    said = text(name).strip()
    try:
        value = float(said or default)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise SettingsError(f"{name}={said} is no number above 0.", f"Set a number, or unset it: {VARIABLES[name]}.")
    return value


def home() -> Path:
    """Return the folder of data, runs and vectors: `VEHICLE_SEARCH_HOME`, else the platform's user data folder.

    Raises:
        SettingsError: Neither says a folder.
    """
    if chosen := text("VEHICLE_SEARCH_HOME"):
        return _folder("VEHICLE_SEARCH_HOME", chosen)
    from platformdirs import user_data_path

    try:
        folder = user_data_path("vehicle-search", appauthor=False)
    except (RuntimeError, OSError, KeyError) as error:
        raise SettingsError(f"There is no home folder: {error}.", SET_HOME) from error
    if not folder.is_absolute():
        raise SettingsError(f"There is no home folder; {folder} is not an absolute path.", SET_HOME)
    return folder


def _folder(variable: str, chosen: str) -> Path:
    try:
        return Path(chosen).expanduser().absolute()
    except (RuntimeError, OSError) as error:
        raise SettingsError(f"{variable}={chosen} is no folder: {error}.") from error


def check() -> None:
    """Make sure that what is set can be meant, and that results can be kept, before a model is loaded.

    Creates `home()`, where a run is going to write.

    Raises:
        SettingsError: A flag says neither yes nor no; `home()` is no folder, or cannot be written.
    """
    import tempfile

    for name, says in VARIABLES.items():
        if says.startswith("1:") and text(name).strip().lower() not in (*ON, *OFF):
            raise SettingsError(f"{name}={text(name)} says neither yes nor no.", f"Set {name}=1, or unset it.")
    folder = home()
    there = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    if not there.is_dir():
        raise SettingsError(f"{there} is not a folder; VEHICLE_SEARCH_HOME is {folder}.", SET_HOME)
    try:
        # Permissions do not say it all: file systems are read-only, full, or make no folders.
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise SettingsError(
            f"{there} cannot be written ({error.strerror}); VEHICLE_SEARCH_HOME is {folder}.", SET_HOME
        ) from error


def misspelt() -> list[str]:
    """Return a sentence on each variable that looks like one of ours and is none; of each once."""
    unknown = sorted(name for name in os.environ if name.startswith("VEHICLE_SEARCH_") and name not in VARIABLES)
    unknown = [name for name in unknown if name not in _told]
    _told.update(unknown)
    near = {name: get_close_matches(name, VARIABLES, 1, 0.85) for name in unknown}
    return [
        f"{name} is set and means nothing" + "".join(f"; did you mean {one}?" for one in near[name]) for name in unknown
    ]


def data_folder(name: str = "vehicle-image-search") -> Path:
    """Return the folder of the evaluation set `name` under `home()`."""
    return home() / "data" / name


def chosen_data() -> str | Path | None:
    """Return what `VEHICLE_SEARCH_DATA` says: the address of an evaluation set, or its folder; None if nothing.

    Raises:
        SettingsError: There is a login or a signature in the address, or it is no folder.
    """
    chosen = text("VEHICLE_SEARCH_DATA").strip()
    if not chosen:
        return None
    if not is_url(chosen):
        return _folder("VEHICLE_SEARCH_DATA", chosen)
    if "@" in chosen.partition("://")[2].partition("/")[0] or any(mark in chosen for mark in "?#"):
        # It is written down, shown, and sent to other machines.
        raise SettingsError(
            f"VEHICLE_SEARCH_DATA names {shown(chosen.partition('?')[0].partition('#')[0])} with a login, or with "
            "something behind it, such as a signature.",
            "Leave that out, and log in as its client wants it on each machine: ~/.netrc, AWS_PROFILE, hf auth login.",
        )
    scheme = scheme_of(chosen)
    return scheme + chosen[len(scheme) :].rstrip("/")


def copies_folder() -> Path:
    """Return the folder of evaluation sets that were copied from addresses."""
    return home() / "copies"


def runs_folder() -> Path:
    """Return the folder of run records."""
    return home() / "runs"


def judgments_folder() -> Path:
    """Return the folder of judgments."""
    return home() / "judgments"


def embeddings_folder() -> Path:
    """Return the folder of unfinished (or kept) vectors."""
    return home() / "embeddings"


def mini_folder() -> Path:
    """Return the embedded evaluation set that ships in the package."""
    return Path(__file__).parent / "mini"


def usable_cores() -> int:
    """Return how many processors this process may use, at least 1.

    That is what `VEHICLE_SEARCH_CORES` says, else its affinity and the quota of its control group.

    Raises:
        SettingsError: The variable is no number above 0.
    """
    if text("VEHICLE_SEARCH_CORES"):
        return max(1, int(number("VEHICLE_SEARCH_CORES", 1)))
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, min(cores, int(_quota())))


def _quota() -> float:
    """Return the processors that the control group (version 2, or 1) grants; infinite where there is none."""
    for quota, period in (("cpu.max", ""), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            words = " ".join((CONTROL_GROUP / name).read_text("ascii") for name in (quota, period) if name).split()
            granted = int(words[0]) / int(words[1])
        except (OSError, ValueError, IndexError, ZeroDivisionError):
            continue
        if granted > 0:
            return granted
    return 1e6
