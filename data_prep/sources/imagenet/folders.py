"""ImageNet-1k as folders of JPEG files, one for each class."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from data_prep.sources import SPLITS, PassedOver, Shard, SourceImage, entries, entry_sizes, read_image_file
from data_prep.sources.imagenet.classes import WNID, classed_image, wnids
from mteb_vehicle_search.errors import SourceError


class LocalImagenet:
    """What the local forms share."""

    form = ""
    download_gb = 0.0

    def __init__(self, root: Path) -> None:
        self.root = root

    def describe(self) -> dict[str, Any]:
        files = sorted(path.name for path in self.root.iterdir())[:20]
        return {"form": self.form, "location": str(self.root), "revision": "", "files": files}

    def prefetch(self, shard: Shard) -> None:
        """Nothing to download."""

    def release(self, shard: Shard) -> None:
        """The user's files are left alone."""


class FolderImagenet(LocalImagenet):
    """`train/<wnid>/*.JPEG` and `val/<wnid>/*.JPEG`, as torchvision's ImageFolder reads them; others are ignored."""

    form = "folders"

    @staticmethod
    def fits(root: Path) -> bool:
        """Whether `root` has train or val with class folders."""
        return has_classes(root / "train") or has_classes(root / "val")

    def shards(self, wanted: set[int] | None = None, splits: Sequence[str] = SPLITS) -> list[Shard]:
        """One shard per split and class."""
        return class_folders([self.root / split for split in SPLITS if split in splits], wanted)

    def images(self, shard: Shard, wanted: set[int], passed: PassedOver | None = None) -> Iterator[SourceImage]:
        return folder_images(shard, passed) if shard.class_index in wanted else iter(())


def has_classes(folder: Path) -> bool:
    """Whether there are folders named by WordNet ids."""
    return folder.is_dir() and any(WNID.fullmatch(path.name) and path.is_dir() for path in folder.iterdir())


def class_folders(folders: Sequence[Path], wanted: set[int] | None) -> list[Shard]:
    """One shard per split (a folder) and wanted class.

    Raises:
        SourceError: Wanted classes are missing or empty; counts them all, and names some of each split.
    """
    shards, missing = [], []
    for folder in folders:
        absent, empty = [], []
        for index in sorted(range(1000) if wanted is None else wanted, key=lambda i: wnids()[i]):
            wnid = wnids()[index]
            if not (folder / wnid).is_dir():
                absent.append(wnid)
                continue
            sizes = entry_sizes(folder / wnid)
            if not sizes:
                empty.append(wnid)
            stamp = hashlib.sha256(repr(sizes).encode()).hexdigest()
            total = sum(max(0, size) for _, size in sizes)
            name = f"{folder.name}/{wnid}"
            shards.append(Shard(name, str(folder / wnid), total, folder.name, index, 0, stamp, len(sizes)))
        if not folder.is_dir():
            missing.append(f"there is no folder {folder}")
        elif absent:
            missing.append(f"{folder} has no class folder {_listed(absent)}")
        if empty:
            missing.append(f"in {folder} there are no images in {_listed(empty)}")
    if missing:
        raise SourceError("; ".join(missing), "Every wanted class must be there: unpack these again.")
    return shards


def _listed(wnids: list[str]) -> str:
    return ", ".join(wnids[:5]) + (f" and {len(wnids) - 5} more" if len(wnids) > 5 else "")


def folder_images(shard: Shard, passed: PassedOver | None = None) -> Iterator[SourceImage]:
    """Whatever is in a class folder; what is no image file is left to the stage that refuses images."""
    for path in entries(Path(shard.location), passed):
        data, problem = read_image_file(path)
        yield classed_image(path.name, data, shard.split, shard.class_index, problem)
