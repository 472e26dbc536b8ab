"""The classes of ImageNet-1k's validation images, which their names do not tell."""

from __future__ import annotations

import csv
import io
import re
import zlib
from typing import NamedTuple

from data_prep.sources.imagenet.classes import class_indexes
from data_prep.storage import Tree, content_of, has_file
from data_prep.storage.tars import opened_in, read_member
from mteb_vehicle_search.errors import SourceError

VAL_NAME = re.compile(r"ILSVRC2012_val_(\d{8})\.JPEG")
DEVKIT = "ILSVRC2012_devkit_t12"
GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
# Kaggle's copy has the list beside the folder ILSVRC, in which the images are.
SOLUTION = "LOC_val_solution.csv"
KAGGLE = "ILSVRC/Data/CLS-LOC"

AGAIN = f"Get {SOLUTION} again; it comes with Kaggle's copy of the data."


class GroundTruth(NamedTuple):
    """The class index of each validation image by its number, and the name of the file that tells it."""

    classes: dict[int, int]
    file: str


def ground_truth(tree: Tree, root: str = "") -> GroundTruth:
    """Return the classes of the validation images: from Kaggle's list, or else from the devkit.

    Args:
        tree: Where the images lie.
        root: The folder of `val` there.

    Raises:
        SourceError: Neither is there, or what is there is damaged.
    """
    above = root.removesuffix(KAGGLE) if root.endswith(KAGGLE) else root
    for folder in dict.fromkeys((root, above.rstrip("/"))):
        name = f"{folder}/{SOLUTION}" if folder else SOLUTION
        if has_file(tree, name):
            return GroundTruth(_solution(content_of(tree, name), tree.path(name)), SOLUTION)
    return GroundTruth(dict(enumerate(devkit_truth(tree, root), start=1)), GROUND_TRUTH)


def _solution(content: bytes, path: str) -> dict[int, int]:
    """Return the class by number from Kaggle's list: an image's id, and boxes that begin with a WordNet id."""
    classes: dict[int, int] = {}
    try:
        rows = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""))
        for row in rows:
            match = VAL_NAME.fullmatch(f"{row['ImageId']}.JPEG")
            index = class_indexes().get((row["PredictionString"] or "").split(" ", 1)[0])
            if match is None or index is None:
                what = f"{row['ImageId']!r} with {row['PredictionString']!r:.60}"
                raise SourceError(f"{path}, line {rows.line_num}: {what} is no validation image with its class", AGAIN)
            classes[int(match[1])] = index
    except (KeyError, UnicodeDecodeError, csv.Error) as error:
        missing = f"it has no column {error}" if isinstance(error, KeyError) else str(error)
        raise SourceError(f"{path} is not Kaggle's list of classes: {missing}", AGAIN) from error
    if not classes:
        raise SourceError(f"{path} has no rows", AGAIN)
    return classes


def devkit_truth(tree: Tree, root: str = "") -> list[int]:
    """Class indexes of the validation images in the order of their numbers, from the devkit (packed or not).

    Raises:
        SourceError: The devkit is missing or damaged.
    """
    from scipy.io import loadmat  # Takes a noticeable part of a second.
    from scipy.io.matlab import MatReadError

    lines, meta = _devkit_file(tree, root, GROUND_TRUTH), _devkit_file(tree, root, "meta.mat")
    where = tree.path(root)
    indexes = class_indexes()
    try:
        # The devkit numbers the classes in an order of its own; meta.mat tells which WordNet id each number means.
        synsets = loadmat(io.BytesIO(meta), squeeze_me=True)["synsets"]
        names = {int(number): str(wnid) for number, wnid in zip(synsets["ILSVRC2012_ID"], synsets["WNID"])}
    except (MatReadError, KeyError, IndexError, ValueError, TypeError, OSError, zlib.error) as error:
        raise SourceError(f"meta.mat of {where} is damaged: {error}", f"Get {DEVKIT}.tar.gz again.") from error
    try:
        return [indexes[names[int(line)]] for line in lines.decode("ascii").split()]
    except (KeyError, ValueError) as error:
        raise SourceError(
            f"{GROUND_TRUTH} of {where} holds a class that meta.mat does not know: {error}",
            f"Get {DEVKIT}.tar.gz again.",
        ) from error


def _devkit_file(tree: Tree, root: str, name: str) -> bytes:
    def at(*parts: str) -> str:
        return "/".join(filter(None, (root, *parts)))

    for there in (at(name), at(DEVKIT, "data", name), at("data", name)):
        if has_file(tree, there):
            return content_of(tree, there)
    packed = at(f"{DEVKIT}.tar.gz")
    if has_file(tree, packed):
        with opened_in(tree, packed) as tar:
            for member in tar:
                if member.isfile() and member.name.endswith(f"/{name}"):
                    return read_member(tar, member, tree.path(packed))[0]
    raise SourceError(
        f"{tree.path(root)} has no {name}, without which the classes of its validation images are unknown",
        f"Put {DEVKIT}.tar.gz or {SOLUTION} there, or sort the images into val/<wnid>/.",
    )
