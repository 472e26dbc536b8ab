"""What decides the bytes that workers make, beside their inputs: the same on every machine, or they are refused."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import features

import data_prep
import mteb_vehicle_search
from data_prep.stages.decoding import FORMATS
from mteb_vehicle_search.errors import VehicleSearchError
from mteb_vehicle_search.files import code_digest
from mteb_vehicle_search.run_record import version_of, versions

PACKAGES = ("numpy", "imagehash", "scipy", "pyarrow", "pillow-heif")


def same_everywhere() -> dict[str, str]:
    """Return what the driver and all workers must have alike, name -> version or digest."""
    own = {package: found for package in PACKAGES if (found := version_of(package))}
    code = {f"code of {one.__name__}": code_digest(Path(one.__path__[0])) for one in (data_prep, mteb_vehicle_search)}
    # Pillow brings or finds the library that encodes.
    codecs = {"libjpeg-turbo": str(features.version("libjpeg_turbo")), "formats": " ".join(FORMATS)}
    return {**versions(), **own, **code, **codecs}


@contextmanager
def on_this_machine(hint: str = "") -> Iterator[None]:
    """Let errors of ours say on which machine they are, and, if a hint is given, what mends that it is another one."""
    try:
        yield
    except VehicleSearchError as error:
        raise type(error)(f"On {socket.gethostname()}: {error.message}", hint or error.hint) from error
