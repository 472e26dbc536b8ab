"""ImageNet-1k as the hub's parquet shards, downloaded one by one or where they lie; finds out which form is held."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from functools import cached_property
from pathlib import Path
from typing import Any

from data_prep.hub import HubFile, HubRepository
from data_prep.sources import SPLITS, DistractorSource, ReadInPlace, Shard, SourceImage, some_names
from data_prep.sources.imagenet.files import FilesImagenet
from data_prep.sources.imagenet.shards import EXPECTED, SHARD, complete_set, read_shard, split_of
from data_prep.sources.imagenet.truth import KAGGLE
from data_prep.sources.imagenet.webdataset import WebdatasetImagenet, webdataset_tars
from data_prep.storage import PassedOver, Tree, plain
from data_prep.storage.opening import open_tree
from data_prep.storage.zips import ZipTree
from mteb_vehicle_search.errors import SourceError

REPOSITORY = HubRepository("ILSVRC/imagenet-1k", "49e2ee26f3810fb5a7536bbf732a7b07389a47b5", gated=True)
_CACHE_NAME = "datasets--ILSVRC--imagenet-1k"


def open_source(src: str | Path, download_folder: Path | None = None) -> DistractorSource:
    """See `data_prep.sources.imagenet.open_imagenet`."""
    if str(src) == "hub":
        return HubImagenet(download_folder=download_folder)
    try:
        tree, named = open_tree(src)
    except SourceError as error:
        raise SourceError(error.message, error.hint or EXPECTED) from error
    if source := _found(tree, named):
        return source
    raise SourceError(
        f"{tree.path(named)} does not hold ImageNet-1k with train and validation; found: {some_names(tree)}", EXPECTED
    )


def _found(tree: Tree, named: str = "") -> DistractorSource | None:
    """Return the form that a tree holds, perhaps in a zip or in its only folder; None if it holds none."""
    if (folder := _shard_folder(tree)) is not None:
        return ShardImagenet(tree, folder)
    for root in ("", KAGGLE):
        if FilesImagenet.fits(tree, root):
            return FilesImagenet(tree, root)
    if tars := webdataset_tars(tree, named):
        return WebdatasetImagenet(tree, tars)
    if named or not tree.listable:
        return None
    entries = plain(tree.entries())
    zips = [entry.name for entry in entries if entry.name.lower().endswith(".zip") and not entry.is_folder]
    if len(zips) == 1 and (source := _found(ZipTree(tree, zips[0]))):
        return source
    folders = [entry.name for entry in entries if entry.is_folder]
    for root in folders if len(folders) == 1 else []:
        for below in (root, f"{root}/{KAGGLE}"):
            if FilesImagenet.fits(tree, below):
                return FilesImagenet(tree, below)
    return None


class ShardImagenet(ReadInPlace):
    """A folder of the hub's shards, perhaps in the hub's cache.

    Args:
        tree: Where they lie.
        folder: Their folder there.
    """

    form = "shards"

    def __init__(self, tree: Tree, folder: str = "") -> None:
        self.tree, self.folder = tree, folder
        found = (entry for entry in tree.entries(folder) if SHARD.fullmatch(entry.name) and not entry.is_folder)
        self.files = {entry.name: entry for entry in found}

    def describe(self) -> dict[str, Any]:
        files = sorted(self.files, key=lambda name: (split_of(name), name))
        return {"form": self.form, "location": self.tree.path(self.folder), "revision": "", "files": files}

    def shards(self, wanted: set[int] | None = None, splits: Sequence[str] = SPLITS) -> list[Shard]:
        """The shards; each can hold any class."""
        shards = []
        for name in complete_set(self.files, self.tree.path(self.folder), splits):
            at = f"{self.folder}/{name}" if self.folder else name
            entry = self.tree.entry(at) or self.files[name]
            travels = self.tree.travelling([at])
            shards.append(Shard(name, at, entry.size_bytes, split_of(name), stamp=entry.stamp, travels_bytes=travels))
        return shards

    def images(self, shard: Shard, wanted: set[int], passed: PassedOver | None = None) -> Iterator[SourceImage]:
        with self.tree.open(shard.location) as file:
            yield from read_shard(self.tree.path(shard.location), shard.split, wanted, passed, file)


class HubImagenet:
    """The hub's shards, one at a time: downloaded in the background, deleted after use."""

    form = "hub"

    def __init__(self, dataset: HubRepository | None = None, download_folder: Path | None = None) -> None:
        self.dataset = dataset or REPOSITORY
        self._folder, self._is_temporary = download_folder, download_folder is None
        self._downloads: dict[str, Future[Path]] = {}
        self._turn = threading.Lock()
        self._cleared = False

    @cached_property
    def _files(self) -> dict[str, HubFile]:
        files = {file.path.rpartition("/")[2]: file for file in self.dataset.files("data")}
        return complete_set(files, f"{self.dataset.repo}/data")

    def describe(self) -> dict[str, Any]:
        commit = self.dataset.commit()
        return {"form": self.form, "location": self.dataset.repo, "revision": commit, "files": list(self._files)}

    def shards(self, wanted: set[int] | None = None, splits: Sequence[str] = SPLITS) -> list[Shard]:
        """The shards; each can hold any class, since train is shuffled."""
        if not all(self.dataset.cached(file.path) for file in self._files.values()):
            self.dataset.check_access()
        shards = []
        for name, file in self._files.items():
            if split_of(name) in splits:
                stamp = file.sha256 or self.dataset.commit()
                travels = 0 if self.dataset.cached(file.path) else file.size_bytes
                shards.append(
                    Shard(name, file.path, file.size_bytes, split_of(name), stamp=stamp, travels_bytes=travels)
                )
        return shards

    def prefetch(self, shard: Shard) -> None:
        """Start to download the shard, after those that were asked for before."""
        if shard.name in self._downloads:
            return
        future: Future[Path] = Future()
        self._downloads[shard.name] = future

        def download() -> None:
            try:
                with self._turn:
                    future.set_result(self._fetch(self._files[shard.name]))
            except BaseException as error:  # Handed to the thread that waits for the shard.
                future.set_exception(error)

        # A daemon, so that Ctrl-C does not wait for half a gigabyte.
        threading.Thread(target=download, name=f"download {shard.name}", daemon=True).start()

    def images(self, shard: Shard, wanted: set[int], passed: PassedOver | None = None) -> Iterator[SourceImage]:
        self.prefetch(shard)
        try:
            path = self._downloads[shard.name].result()
        except BaseException:
            self._downloads.pop(shard.name, None)
            raise
        yield from read_shard(path, shard.split, wanted, passed)

    def release(self, shard: Shard) -> None:
        future = self._downloads.pop(shard.name, None)
        path = future.result() if future else self._folder and self._folder / shard.location
        if path and self._folder and path.is_relative_to(self._folder):
            path.unlink(missing_ok=True)
        if self._folder and self._is_temporary and not self._downloads:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _fetch(self, file: HubFile) -> Path:
        if cached := self.dataset.cached(file.path):
            return cached
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="imagenet-"))
        self._folder.mkdir(parents=True, exist_ok=True)
        if not self._cleared:
            # The hub's client starts a file anew in each process, and leaves the pieces of a killed one behind.
            for left in self._folder.rglob("*.incomplete"):
                left.unlink()
            self._cleared = True
        return self.dataset.download(file, self._folder)


def _shard_folder(tree: Tree) -> str | None:
    """Where the shards lie: in the folder, in `data/`, or in the hub's cache (pinned snapshot first)."""
    if not tree.listable:
        return None
    roots = [""]
    for cache in ("", _CACHE_NAME, f"hub/{_CACHE_NAME}"):
        snapshots = f"{cache}/snapshots" if cache else "snapshots"
        names = [entry.name for entry in tree.entries(snapshots)]
        roots += [f"{snapshots}/{name}" for name in sorted(names, key=lambda name: (name != REPOSITORY.revision, name))]
    for candidate in ("", *(f"{root}/data" if root else "data" for root in roots)):
        if any(SHARD.fullmatch(entry.name) for entry in tree.entries(candidate)):
            return candidate
    return None
