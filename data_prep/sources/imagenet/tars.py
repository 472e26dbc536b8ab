"""ImageNet-1k as its original files, tars among them, read where they lie and never unpacked."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from data_prep.sources import (
    SPLITS,
    UNWANTED,
    PassedOver,
    Shard,
    SourceImage,
    entries,
    not_an_image,
    read_image_file,
)
from data_prep.sources.imagenet.classes import class_indexes, classed_image, wnids
from data_prep.sources.imagenet.folders import LocalImagenet, class_folders, folder_images, has_classes
from data_prep.sources.imagenet.truth import VAL_NAME, GroundTruth, ground_truth
from data_prep.sources.tar import members, opened, read_member
from mteb_vehicle_search.errors import SourceError

TRAIN_TAR = "ILSVRC2012_img_train.tar"
VAL_TAR = "ILSVRC2012_img_val.tar"


class TarImagenet(LocalImagenet):
    """The original files: tars, or as they are unpacked, with a flat folder `val/` whose classes a list tells.

    Of the training tar only the wanted inner tars are read; the training images may be folders of classes instead. The
    validation images may be a tar, a flat folder, or folders of classes too.
    """

    @property
    def form(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return "tar" if (self.root / TRAIN_TAR).is_file() or (self.root / VAL_TAR).is_file() else "folders"

    @staticmethod
    def fits(root: Path) -> bool:
        """Whether `root` has one of the tar files, or a flat folder of validation images."""
        return (root / TRAIN_TAR).is_file() or (root / VAL_TAR).is_file() or _is_flat(root / "val")

    def shards(self, wanted: set[int] | None = None, splits: Sequence[str] = SPLITS) -> list[Shard]:
        """One shard per inner tar, then validation: the tar, the flat folder, or its class folders."""
        missing: list[SourceError] = []
        shards: list[Shard] = []
        for split, find in (("train", self._train_shards), ("val", self._val_shards)):
            if split in splits:
                try:
                    shards += find(wanted)
                except SourceError as error:
                    missing.append(error)
        if len(missing) > 1:
            raise SourceError("; ".join(error.message for error in missing), missing[0].hint)
        if missing:
            raise missing[0]
        return shards

    def _train_shards(self, wanted: set[int] | None) -> list[Shard]:
        train = self.root / TRAIN_TAR
        if not train.is_file():
            if has_classes(self.root / "train"):
                return class_folders([self.root / "train"], wanted)
            raise SourceError(
                f"there is neither {train} nor a folder train/ of classes", "Every split that is used must be there."
            )
        stamp = str(train.stat().st_mtime_ns)
        shards = []
        with opened(train) as tar:
            for member in members(tar, train):
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
        return sorted(shards, key=lambda shard: shard.name)

    def _val_shards(self, wanted: set[int] | None) -> list[Shard]:
        if has_classes(self.root / "val"):
            return class_folders([self.root / "val"], wanted)
        name, val = ("val.tar", self.root / VAL_TAR) if (self.root / VAL_TAR).is_file() else ("val", self.root / "val")
        if not val.exists():
            raise SourceError(
                f"there is neither {self.root / VAL_TAR} nor a folder val/", "Every split that is used must be there."
            )
        # Without it the images have no classes: better known now than behind the training set.
        truth = ground_truth(self.root)
        if val.is_dir():
            _require_all(val, {path.name for path in entries(val)}, truth, wanted)
        status = val.stat()
        return [Shard(name, str(val), status.st_size, "val", stamp=str(status.st_mtime_ns))]

    def images(self, shard: Shard, wanted: set[int], passed: PassedOver | None = None) -> Iterator[SourceImage]:
        passed = PassedOver() if passed is None else passed
        if shard.class_index >= 0 and shard.class_index not in wanted:
            return iter(())
        if shard.class_index < 0:
            return self._val_images(shard, wanted, passed)
        return _train_images(shard, passed) if shard.name.endswith(".tar") else folder_images(shard, passed)

    def _val_images(self, shard: Shard, wanted: set[int], passed: PassedOver) -> Iterator[SourceImage]:
        truth = ground_truth(self.root)
        path = Path(shard.location)
        seen = set()
        for name, read in _flat_files(path, passed) if path.is_dir() else _tar_files(path, passed):
            match = VAL_NAME.fullmatch(name)
            index = truth.classes.get(int(match[1]) if match else 0)
            if index is None:
                raise SourceError(
                    f"{path}: {name!r} has no line in {truth.file}",
                    "Only the validation images ILSVRC2012_val_<8 digits>.JPEG may be there.",
                )
            if index not in wanted:
                passed[UNWANTED] += 1
                continue
            seen.add(name)
            data, problem = read()
            yield classed_image(name, data, "val", index, problem)
        _require_all(path, seen, truth, wanted)


def _is_flat(folder: Path) -> bool:
    """Whether validation images lie in a folder itself."""
    return folder.is_dir() and any(VAL_NAME.fullmatch(path.name) for path in folder.iterdir())


def _require_all(path: Path, names: set[str], truth: GroundTruth, wanted: set[int] | None) -> None:
    """Raise a SourceError if `path` lacks validation images of wanted classes."""
    numbers = (number for number, index in sorted(truth.classes.items()) if wanted is None or index in wanted)
    if absent := [name for name in (f"ILSVRC2012_val_{number:08d}.JPEG" for number in numbers) if name not in names]:
        others = f" and {len(absent) - 1:,} others" if absent[1:] else ""
        raise SourceError(
            f"{path} lacks {absent[0]}{others} of the wanted classes, which {truth.file} names", "Get it again."
        )


def _train_images(shard: Shard, passed: PassedOver) -> Iterator[SourceImage]:
    where = f"{shard.location}, inner tar {wnids()[shard.class_index]}.tar"
    # The inner tar is read where it lies: a member is no more than a stretch of the outer file.
    inner = tarfile.TarInfo(shard.name)
    inner.offset_data, inner.size = shard.offset, shard.size_bytes
    count = 0
    with opened(shard.location) as outer, opened(where, outer.extractfile(inner)) as tar:
        for member in members(tar, where):
            if reason := not_an_image(member.name):
                passed[reason] += 1
                continue
            data, problem = read_member(tar, member, where)
            count += 1
            yield classed_image(member.name, data, "train", shard.class_index, problem)
    if not count:
        raise SourceError(f"{where} holds no image", "Get the file again.")


def _tar_files(path: Path, passed: PassedOver) -> Iterator[tuple[str, Any]]:
    with opened(path) as tar:
        for member in members(tar, path):
            if reason := not_an_image(member.name):
                passed[reason] += 1
            else:
                yield member.name.rpartition("/")[2], lambda member=member: read_member(tar, member, path)


def _flat_files(folder: Path, passed: PassedOver) -> Iterator[tuple[str, Any]]:
    for path in entries(folder, passed):
        yield path.name, lambda path=path: read_image_file(path)
