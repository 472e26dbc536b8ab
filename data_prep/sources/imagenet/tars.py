"""ImageNet-1k as the original tar files, read where they lie and never unpacked."""

from __future__ import annotations

import io
import re
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data_prep.sources import MAX_FILE_BYTES, Shard, SourceImage, entries, read_image_file
from data_prep.sources.imagenet.classes import class_indexes, classed_image, wnids
from data_prep.sources.imagenet.folders import LocalImagenet, class_folders, folder_images, has_classes
from mteb_vehicle_search.errors import SourceError

TRAIN_TAR = "ILSVRC2012_img_train.tar"
VAL_TAR = "ILSVRC2012_img_val.tar"
_VAL_NAME = re.compile(r"ILSVRC2012_val_(\d{8})\.JPEG")


class TarImagenet(LocalImagenet):
    """The original tar files; of the training tar only the wanted inner tars are read.

    The validation images may be a tar or a flat folder `val/`, with the devkit's ground truth, or folders of classes.
    """

    form = "tar"

    @staticmethod
    def fits(root: Path) -> bool:
        """Whether `root` has the training tar and some form of validation."""
        return (root / TRAIN_TAR).is_file() and ((root / VAL_TAR).is_file() or (root / "val").is_dir())

    def shards(self, wanted: set[int] | None = None) -> list[Shard]:
        """One shard per inner tar, then validation: the tar, the flat folder, or its class folders."""
        train = self.root / TRAIN_TAR
        stamp = str(train.stat().st_mtime_ns)
        shards = []
        with _opened(train) as tar:
            for member in tar:
                wnid = member.name.rpartition("/")[2].removesuffix(".tar")
                index = class_indexes().get(wnid, -1)
                if member.isfile() and index >= 0 and (wanted is None or index in wanted):
                    name = f"train/{wnid}.tar"
                    shards.append(Shard(name, str(train), member.size, "train", index, member.offset_data, stamp))
        absent = sorted((set(range(1000)) if wanted is None else wanted) - {shard.class_index for shard in shards})
        if absent:
            listed = ", ".join(f"{wnids()[i]}.tar" for i in absent[:5])
            raise SourceError(
                f"{train} lacks {len(absent)} of the inner tars: {listed}", "It may be cut short; get it again."
            )
        shards.sort(key=lambda shard: shard.name)
        if has_classes(self.root / "val"):
            return shards + class_folders(self.root / "val", wanted)
        name, val = ("val.tar", self.root / VAL_TAR) if (self.root / VAL_TAR).is_file() else ("val", self.root / "val")
        status = val.stat()
        return [*shards, Shard(name, str(val), status.st_size, "val", stamp=str(status.st_mtime_ns))]

    def images(self, shard: Shard, wanted: set[int]) -> Iterator[SourceImage]:
        if shard.class_index >= 0 and shard.class_index not in wanted:
            return iter(())
        if shard.split == "train":
            return _train_images(shard)
        return folder_images(shard) if shard.class_index >= 0 else self._val_images(shard, wanted)

    def _val_images(self, shard: Shard, wanted: set[int]) -> Iterator[SourceImage]:
        truth = ground_truth(self.root)
        path = Path(shard.location)
        for name, read in _flat_files(path) if path.is_dir() else _tar_files(path):
            match = _VAL_NAME.fullmatch(name)
            number = int(match[1]) if match else 0
            if not 1 <= number <= len(truth):
                raise SourceError(
                    f"{path}: {name!r} has no line in {GROUND_TRUTH}",
                    "Only the validation images ILSVRC2012_val_<8 digits>.JPEG may be there.",
                )
            if truth[number - 1] in wanted:
                data, problem = read()
                yield classed_image(name, data, "val", truth[number - 1], problem)


def _train_images(shard: Shard) -> Iterator[SourceImage]:
    where = f"{shard.location}, inner tar {wnids()[shard.class_index]}.tar"
    # The inner tar is read where it lies: a member is no more than a stretch of the outer file.
    inner = tarfile.TarInfo(shard.name)
    inner.offset_data, inner.size = shard.offset, shard.size_bytes
    with _opened(shard.location) as outer, _opened(where, fileobj=outer.extractfile(inner)) as tar:
        for member in tar:
            if not member.isdir():
                data, problem = _read(tar, member, where)
                yield classed_image(member.name, data, "train", shard.class_index, problem)


def _tar_files(path: Path) -> Iterator[tuple[str, Any]]:
    with _opened(path) as tar:
        for member in tar:
            if not member.isdir():
                yield member.name.rpartition("/")[2], lambda member=member: _read(tar, member, str(path))


def _flat_files(folder: Path) -> Iterator[tuple[str, Any]]:
    for path in entries(folder):
        yield path.name, lambda path=path: read_image_file(path)


@contextmanager
def _opened(path: Path | str, fileobj: Any = None) -> Iterator[tarfile.TarFile]:
    """The tar file for as long as it is read; what is wrong with it is an error that names `path`."""
    try:
        with tarfile.open(None if fileobj else path, "r:", fileobj=fileobj) as tar:
            yield tar
    except tarfile.TarError as error:
        raise SourceError(f"{path} is damaged: {error}", "Get the file again.") from error


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo, where: str) -> tuple[bytes, str]:
    if not member.isfile():
        return b"", "is a link or a device in the tar, not a file"
    stream = tar.extractfile(member)
    try:
        data = stream.read(MAX_FILE_BYTES + 1) if stream is not None else b""
    except tarfile.ReadError:
        data = b""
    if len(data) != min(member.size, MAX_FILE_BYTES + 1):
        raise SourceError(f"{where} ends within {member.name}", "It is cut short; get the file again.")
    return data, ""


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
