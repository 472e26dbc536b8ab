"""ImageNet-1k as image files: folders of classes, a flat `val/`, and the original tars, in any mixture of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from data_prep.sources import SPLITS, UNWANTED, ReadInPlace, Shard, SourceImage
from data_prep.sources.imagenet.classes import WNID, class_indexes, classed_image, wnids
from data_prep.sources.imagenet.truth import VAL_NAME, GroundTruth, ground_truth
from data_prep.storage import Entry, PassedOver, Tree, has_file, plain, stamp_of
from data_prep.storage.tars import Part, parts_of, read_tar
from mteb_vehicle_search.errors import SourceError

TRAIN_TAR = "ILSVRC2012_img_train.tar"
VAL_TAR = "ILSVRC2012_img_val.tar"
USED = "Every split that is used must be there."


class FilesImagenet(ReadInPlace):
    """The original files, packed or not, wherever they lie.

    Training images are in the tar of tars, of which only the wanted inner ones are read, or in folders of classes. The
    validation images are in folders of classes too, or in a tar or a flat folder, whose classes a list tells.

    Args:
        tree: Where the files lie.
        root: The folder of `train` and `val` there.
    """

    def __init__(self, tree: Tree, root: str = "") -> None:
        self.tree, self.root = tree, root

    @staticmethod
    def fits(tree: Tree, root: str = "") -> bool:
        """Whether there is a tar, a folder of classes or a flat folder of validation images."""
        source = FilesImagenet(tree, root)
        return source._has_tar(TRAIN_TAR) or source._has_tar(VAL_TAR) or any(source._kind(split) for split in SPLITS)

    @property
    def form(self) -> str:
        """What is read, for people."""
        return "tar" if self._has_tar(TRAIN_TAR) or self._has_tar(VAL_TAR) else "folders"

    def describe(self) -> dict[str, Any]:
        there = [TRAIN_TAR, VAL_TAR, *SPLITS]
        files = [name for name in there if self._has_tar(name) or (name in SPLITS and self._kind(name))]
        return {"form": self.form, "location": self.tree.path(self.root), "revision": "", "files": files}

    def shards(self, wanted: set[int] | None = None, splits: Sequence[str] = SPLITS) -> list[Shard]:
        """One shard per inner tar or folder of a class, then validation: the tar, the flat folder, or such folders."""
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

    def images(self, shard: Shard, wanted: set[int], passed: PassedOver | None = None) -> Iterator[SourceImage]:
        passed = PassedOver() if passed is None else passed
        if shard.class_index < 0:
            return self._val_images(shard, wanted, passed)
        if shard.class_index not in wanted:
            return iter(())
        return self._inner_tar(shard, passed) if shard.name.endswith(".tar") else self._class_folder(shard, passed)

    def _at(self, name: str) -> str:
        return f"{self.root}/{name}" if self.root else name

    @cached_property
    def _tars(self) -> set[str]:
        return {name for name in (TRAIN_TAR, VAL_TAR) if has_file(self.tree, self._at(name))}

    def _has_tar(self, name: str) -> bool:
        return name in self._tars

    @cached_property
    def _kinds(self) -> dict[str, str]:
        return {split: self._look_into(split) for split in SPLITS}

    def _kind(self, split: str) -> str:
        """How the images of a split lie in its folder: "classes", "flat", or "" if there are none."""
        return self._kinds[split]

    def _look_into(self, split: str) -> str:
        folder = self.tree.entry(self._at(split))
        if folder is None or not folder.is_folder:
            return ""
        entries = self.tree.entries(self._at(split))
        if any(entry.is_folder and WNID.fullmatch(entry.name) for entry in entries):
            return "classes"
        return "flat" if split == "val" and any(VAL_NAME.fullmatch(entry.name) for entry in entries) else ""

    @cached_property
    def _truth(self) -> GroundTruth:
        return ground_truth(self.tree, self.root)

    def _train_shards(self, wanted: set[int] | None) -> list[Shard]:
        if not self._has_tar(TRAIN_TAR):
            if self._kind("train") == "classes":
                return self._class_shards("train", wanted)
            train = self.tree.path(self._at(TRAIN_TAR))
            raise SourceError(f"there is neither {train} nor a folder train/ of classes", USED)
        name = self._at(TRAIN_TAR)
        entry = self.tree.entry(name) or Entry(name)
        shards = []
        for part in parts_of(self.tree, name):
            wnid = part.name.rpartition("/")[2].removesuffix(".tar")
            index = class_indexes().get(wnid, -1)
            if index >= 0 and (wanted is None or index in wanted):
                travels = part.size_bytes if self.tree.remote else 0
                own = f"train/{wnid}.tar"
                shards.append(Shard(own, name, part.size_bytes, "train", index, part.at, entry.stamp, -1, travels))
        absent = sorted((set(range(1000)) if wanted is None else wanted) - {shard.class_index for shard in shards})
        if absent:
            listed = ", ".join(f"{wnids()[i]}.tar" for i in absent[:5])
            raise SourceError(
                f"{self.tree.path(name)} lacks {len(absent)} of the inner tars: {listed}",
                "It may be cut short; get it again.",
            )
        return sorted(shards, key=lambda shard: shard.name)

    def _class_shards(self, split: str, wanted: set[int] | None) -> list[Shard]:
        """One shard per wanted class.

        Raises:
            SourceError: Wanted classes are missing or empty; counts them all, and names some.
        """
        folder, where = self._at(split), self.tree.path(self._at(split))
        there = {entry.name for entry in self.tree.entries(folder) if entry.is_folder}
        shards, absent, empty = [], [], []
        for index in sorted(range(1000) if wanted is None else wanted, key=lambda i: wnids()[i]):
            wnid = wnids()[index]
            if wnid not in there:
                absent.append(wnid)
                continue
            entries = plain(self.tree.entries(f"{folder}/{wnid}"))
            if not entries:
                empty.append(wnid)
            names = [f"{folder}/{wnid}/{entry.name}" for entry in entries if not entry.is_folder]
            size = sum(max(0, entry.size_bytes) for entry in entries)
            travels = self.tree.travelling(names)
            at, count = f"{folder}/{wnid}", len(entries)
            shards.append(Shard(f"{split}/{wnid}", at, size, split, index, 0, stamp_of(entries), count, travels))
        missing = [f"{where} has no class folder {_listed(absent)}"] if absent else []
        if empty:
            missing.append(f"in {where} there are no images in {_listed(empty)}")
        if missing:
            raise SourceError("; ".join(missing), "Every wanted class must be there: unpack these again.")
        return shards

    def _val_shards(self, wanted: set[int] | None) -> list[Shard]:
        kind = self._kind("val")
        if kind == "classes":
            return self._class_shards("val", wanted)
        name, folder = self._at(VAL_TAR), self._at("val")
        packed = self._has_tar(VAL_TAR)
        if not packed and kind != "flat":
            raise SourceError(f"there is neither {self.tree.path(name)} nor a folder val/ of images", USED)
        # Without it the images have no classes: better known now than behind the training set.
        truth = self._truth
        if packed:
            entry = self.tree.entry(name) or Entry(name)
            travels = self.tree.travelling([name])
            return [Shard("val.tar", name, entry.size_bytes, "val", stamp=entry.stamp, travels_bytes=travels)]
        entries = plain(self.tree.entries(folder))
        self._require_all(folder, {entry.name for entry in entries}, truth, wanted)
        names = [
            f"{folder}/{e.name}" for e in entries if wanted is None or truth.classes.get(_number(e.name)) in wanted
        ]
        size = sum(max(0, entry.size_bytes) for entry in entries)
        travels = self.tree.travelling(names)
        return [Shard("val", folder, size, "val", stamp=stamp_of(entries), travels_bytes=travels)]

    def _class_folder(self, shard: Shard, passed: PassedOver) -> Iterator[SourceImage]:
        """Whatever is in a class folder; what is no image file is left to the stage that refuses images."""
        names = [entry.name for entry in plain(self.tree.entries(shard.location), passed)]
        for name, (data, problem) in zip(names, self.tree.read(f"{shard.location}/{name}" for name in names)):
            yield classed_image(name, data, shard.split, shard.class_index, problem)

    def _inner_tar(self, shard: Shard, passed: PassedOver) -> Iterator[SourceImage]:
        part = Part(shard.name.rpartition("/")[2], shard.offset, shard.size_bytes)
        empty = True
        for name, data, problem in read_tar(self.tree, shard.location, passed, part):
            empty = False
            yield classed_image(name, data, "train", shard.class_index, problem)
        if empty:
            raise SourceError(
                f"{self.tree.path(shard.location)}, inner tar {part.name} holds no image", "Get the file again."
            )

    def _val_images(self, shard: Shard, wanted: set[int], passed: PassedOver) -> Iterator[SourceImage]:
        truth, where = self._truth, self.tree.path(shard.location)

        def unwanted(name: str) -> str:
            index = truth.classes.get(_number(name))
            if index is None:
                raise SourceError(
                    f"{where}: {name.rpartition('/')[2]!r} has no line in {truth.file}",
                    "Only the validation images ILSVRC2012_val_<8 digits>.JPEG may be there.",
                )
            return "" if index in wanted else UNWANTED

        def flat() -> Iterator[tuple[str, bytes, str]]:
            names = []
            for entry in plain(self.tree.entries(shard.location), passed):
                if reason := unwanted(entry.name):
                    passed[reason] += 1
                else:
                    names.append(entry.name)
            for name, read in zip(names, self.tree.read(f"{shard.location}/{name}" for name in names)):
                yield name, *read

        packed = shard.name.endswith(".tar")
        seen = set()
        for name, data, problem in read_tar(self.tree, shard.location, passed, wanted=unwanted) if packed else flat():
            own = name.rpartition("/")[2]
            seen.add(own)
            yield classed_image(own, data, "val", truth.classes[_number(own)], problem)
        self._require_all(shard.location, seen, truth, wanted)

    def _require_all(self, place: str, names: set[str], truth: GroundTruth, wanted: set[int] | None) -> None:
        """Raise a SourceError if validation images of wanted classes are missing."""
        numbers = (number for number, index in sorted(truth.classes.items()) if wanted is None or index in wanted)
        expected = (f"ILSVRC2012_val_{number:08d}.JPEG" for number in numbers)
        if absent := [name for name in expected if name not in names]:
            others = f" and {len(absent) - 1:,} others" if absent[1:] else ""
            raise SourceError(
                f"{self.tree.path(place)} lacks {absent[0]}{others} of the wanted classes, which {truth.file} names",
                "Get it again.",
            )


def _number(name: str) -> int:
    """The number of a validation image by its name, with or without folders; 0 if it is none."""
    match = VAL_NAME.fullmatch(name.rpartition("/")[2])
    return int(match[1]) if match else 0


def _listed(wnids: list[str]) -> str:
    return ", ".join(wnids[:5]) + (f" and {len(wnids) - 5} more" if len(wnids) > 5 else "")
