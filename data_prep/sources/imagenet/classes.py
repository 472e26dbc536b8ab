"""The 1,000 ImageNet-1k classes and the names of their images, the same for every form of the data."""

from __future__ import annotations

import importlib.util
import re
from functools import lru_cache
from pathlib import Path

from data_prep.sources import SourceImage
from mteb_vehicle_search.errors import SourceError

WNID = re.compile(r"n\d{8}")
_STEM = re.compile(r"(n\d{8}_\d+|ILSVRC2012_val_\d{8})(?:_(n\d{8}))?")


@lru_cache(maxsize=1)
def wnids() -> tuple[str, ...]:
    """The WordNet ids of the classes in the order of their indexes, from timm's `imagenet_synsets.txt`."""
    path = _of_timm("imagenet_synsets.txt")
    names = tuple(path.read_text(encoding="utf-8").split())
    if len(names) != 1000:
        raise SourceError(f"{path} holds {len(names)} classes instead of 1000", "Install timm again.")
    return names


@lru_cache(maxsize=1)
def lemmas() -> dict[str, str]:
    """The names of each class, by WordNet id, separated by commas, from timm's `imagenet_synset_to_lemma.txt`."""
    path = _of_timm("imagenet_synset_to_lemma.txt")
    named = dict(line.split("\t", 1) for line in path.read_text(encoding="utf-8").splitlines())
    if missing := set(wnids()) - set(named):
        raise SourceError(f"{path} has no name of the class {min(missing)}", "Install timm again.")
    return {wnid: named[wnid].strip() for wnid in wnids()}


def _of_timm(name: str) -> Path:
    spec = importlib.util.find_spec("timm")  # Finds timm's folder without importing timm, which would import torch.
    if spec is None or spec.origin is None:
        raise SourceError("timm is not installed: it holds the list of the ImageNet classes", "pip install timm")
    return Path(spec.origin).parent / "data" / "_info" / name


@lru_cache(maxsize=1)
def class_indexes() -> dict[str, int]:
    """The index of each WordNet id."""
    return {wnid: index for index, wnid in enumerate(wnids())}


def image_id(file_name: str, split: str, wnid: str) -> str:
    """The corpus id of an image of the class `wnid`; `split` is `train` or `val`.

    The hub appends `_<wnid>` to the original stem; it is checked and stripped.

    Args:
        file_name: With or without folders, e.g. `n03954731_53652_n03954731.JPEG`.

    Raises:
        ValueError: If the name is none of ImageNet's or contradicts the class.
    """
    stem = file_name.replace("\\", "/").rpartition("/")[2].rpartition(".")[0]
    match = _STEM.fullmatch(stem)
    if match is None:
        raise ValueError(f"{file_name!r} is not the name of an ImageNet image")
    original, suffix = match.groups()
    named = suffix or (original.partition("_")[0] if original.startswith("n") else wnid)
    if named != wnid:
        raise ValueError(f"the name {file_name!r} says class {named}, the label says {wnid}")
    return f"imagenet/{split}/{original}"


def original_stem(name: str) -> str:
    """The stem that ImageNet gave an image, from a file name with or without folders and ending; "" if it is none."""
    last = name.replace("\\", "/").rpartition("/")[2]
    match = _STEM.fullmatch(last.partition(".")[0])
    return match[1] if match else ""


def classed_image(file_name: str, data: bytes, split: str, index: int, problem: str = "") -> SourceImage:
    """An image of a class, or why it could not be read; file name and split are as for `image_id`.

    One whose name is odd gets an id from that name, and becomes a row of rejects.
    """
    wnid = wnids()[index]
    try:
        identifier = image_id(file_name, split, wnid)
    except ValueError as error:
        identifier, problem = f"imagenet/{split}/{wnid}/{file_name.rpartition('/')[2]}", str(error)
    return SourceImage(identifier, b"" if problem else data, "imagenet", split, index, wnid, problem=problem)
