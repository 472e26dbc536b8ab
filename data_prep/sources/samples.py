"""Samples of webdataset tars: neighbours of one name that differ by their endings, an image among them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from data_prep.storage import MAX_FILE_BYTES, PassedOver, Tree
from data_prep.storage.tars import read_tar
from mteb_vehicle_search.errors import SourceError

TAR = re.compile(r"\.(tar|tar\.gz|tgz)$", re.IGNORECASE)
IMAGE_ENDINGS = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "ppm", "avif", "heic", "heif")
NO_IMAGE = "samples without an image"


@dataclass
class Sample:
    """What shares a name in a tar.

    Attributes:
        key: The name with its folders, without the ending.
        image: Name of the image; "" if there is none.
        data: The encoded image.
        problem: Why the image cannot be had.
        texts: Ending -> content of the other files.
    """

    key: str
    image: str = ""
    data: bytes = b""
    problem: str = ""
    texts: dict[str, bytes] = field(default_factory=dict)


def samples_of(tree: Tree, name: str, passed: PassedOver) -> Iterator[Sample]:
    """Yield the samples with an image of a tar, in its order; `passed` counts those without one.

    The key is what stands before the first dot of the file's name, as webdataset has it.

    Raises:
        SourceError: The tar is missing, refused or damaged, or two files of a sample have the same ending.
    """
    sample = Sample("")
    for member, data, problem in read_tar(tree, name, passed):
        folder, slash, last = member.rpartition("/")
        stem, _, ending = last.partition(".")
        key = f"{folder}{slash}{stem}"
        if key != sample.key:
            if sample.image:
                yield sample
            elif sample.key:
                passed[NO_IMAGE] += 1
            sample = Sample(key)
        ending = ending.lower()
        kind = ending.rpartition(".")[2]
        if (kind in IMAGE_ENDINGS and sample.image) or ending in sample.texts:
            raise SourceError(
                f"{tree.path(name)}: sample {key} has two files of the kind {kind}", "Is this a webdataset tar?"
            )
        if kind in IMAGE_ENDINGS:
            sample.image, sample.data, sample.problem = member, data, problem
        elif len(data) <= MAX_FILE_BYTES:
            sample.texts[ending] = data
    if sample.image:
        yield sample
    elif sample.key:
        passed[NO_IMAGE] += 1
