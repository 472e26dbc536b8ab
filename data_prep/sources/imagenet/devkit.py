"""The devkit's ground truth: the classes of ImageNet's validation images."""

from __future__ import annotations

import io
import tarfile
import zlib
from pathlib import Path

from data_prep.sources.imagenet.classes import class_indexes
from mteb_vehicle_search.errors import SourceError

DEVKIT = "ILSVRC2012_devkit_t12"
GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"


def ground_truth(root: Path) -> list[int]:
    """Class indexes of the validation images in the order of their numbers, from the devkit (packed or not).

    Raises:
        SourceError: The devkit is missing or damaged.
    """
    from scipy.io import loadmat  # Takes a noticeable part of a second.
    from scipy.io.matlab import MatReadError

    lines, meta = _devkit_file(root, GROUND_TRUTH), _devkit_file(root, "meta.mat")
    indexes = class_indexes()
    try:
        # The devkit numbers the classes in an order of its own; meta.mat tells which WordNet id each number means.
        synsets = loadmat(io.BytesIO(meta), squeeze_me=True)["synsets"]
        names = {int(number): str(wnid) for number, wnid in zip(synsets["ILSVRC2012_ID"], synsets["WNID"])}
    except (MatReadError, KeyError, IndexError, ValueError, TypeError, OSError, zlib.error) as error:
        raise SourceError(f"meta.mat of {root} is damaged: {error}", f"Get {DEVKIT}.tar.gz again.") from error
    try:
        return [indexes[names[int(line)]] for line in lines.decode("ascii").split()]
    except (KeyError, ValueError) as error:
        raise SourceError(
            f"{GROUND_TRUTH} of {root} holds a class that meta.mat does not know: {error}",
            f"Get {DEVKIT}.tar.gz again.",
        ) from error


def _devkit_file(root: Path, name: str) -> bytes:
    for folder in (root, root / DEVKIT / "data", root / "data"):
        if (folder / name).is_file():
            return (folder / name).read_bytes()
    packed = root / f"{DEVKIT}.tar.gz"
    if packed.is_file():
        try:
            with tarfile.open(packed, "r:gz") as tar:
                for member in tar:
                    if member.isfile() and member.name.endswith(f"/{name}"):
                        stream = tar.extractfile(member)
                        return stream.read() if stream else b""
        except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
            raise SourceError(f"{packed} is damaged: {error}", "Get the file again.") from error
    raise SourceError(
        f"{root} has no {name}, without which the classes of its validation images are unknown",
        f"Put {DEVKIT}.tar.gz there, or sort the images into val/<wnid>/.",
    )
