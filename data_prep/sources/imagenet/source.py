"""ImageNet-1k as the hub's parquet shards, downloaded one by one or local; finds out which form a folder holds."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from functools import cached_property
from pathlib import Path
from typing import Any

from data_prep.hub import HubFile, HubRepository
from data_prep.sources import SPLITS, DistractorSource, PassedOver, Shard, SourceImage
from data_prep.sources.imagenet.folders import FolderImagenet, LocalImagenet
from data_prep.sources.imagenet.shards import EXPECTED, SHARD, complete_set, read_shard, split_of
from data_prep.sources.imagenet.tars import TarImagenet
from data_prep.sources.imagenet.truth import KAGGLE
from mteb_vehicle_search.errors import SourceError

REPOSITORY = HubRepository("ILSVRC/imagenet-1k", "49e2ee26f3810fb5a7536bbf732a7b07389a47b5", gated=True)
_CACHE_NAME = "datasets--ILSVRC--imagenet-1k"


def open_source(src: str | Path, download_folder: Path | None = None) -> DistractorSource:
    """See `data_prep.sources.imagenet.open_imagenet`."""
    if str(src) == "hub":
        return HubImagenet(download_folder=download_folder)
    folder = Path(src).expanduser()
    if not folder.is_dir():
        raise SourceError(f"there is no folder {folder} with ImageNet-1k", EXPECTED)
    if shards_in := _shard_folder(folder):
        return ShardImagenet(shards_in)
    for root in (folder, folder.joinpath(*KAGGLE)):
        if TarImagenet.fits(root):
            return TarImagenet(root)
        if FolderImagenet.fits(root):
            return FolderImagenet(root)
    found = ", ".join(sorted(p.name for p in folder.iterdir())[:8]) or "nothing"
    raise SourceError(f"{folder} does not hold ImageNet-1k with train and validation; found: {found}", EXPECTED)


class ShardImagenet(LocalImagenet):
    """A folder of the hub's shards, perhaps in the hub's cache."""

    form = "shards"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.paths = {p.name: p for p in sorted(root.glob("*.parquet")) if SHARD.fullmatch(p.name)}

    def describe(self) -> dict[str, Any]:
        return super().describe() | {"files": sorted(self.paths, key=lambda name: (split_of(name), name))}

    def shards(self, wanted: set[int] | None = None, splits: Sequence[str] = SPLITS) -> list[Shard]:
        """The shards; each can hold any class."""
        shards = []
        for name, path in complete_set(self.paths, str(self.root), splits).items():
            status = path.stat()
            shards.append(Shard(name, str(path), status.st_size, split_of(name), stamp=str(status.st_mtime_ns)))
        return shards

    def images(self, shard: Shard, wanted: set[int], passed: PassedOver | None = None) -> Iterator[SourceImage]:
        return read_shard(Path(shard.location), shard.split, wanted, passed)


class HubImagenet:
    """The hub's shards, one at a time: downloaded in the background, deleted after use."""

    form = "hub"

    def __init__(self, dataset: HubRepository | None = None, download_folder: Path | None = None) -> None:
        self.dataset = dataset or REPOSITORY
        self._folder = download_folder
        self._downloads: dict[str, Future[Path]] = {}
        self._turn = threading.Lock()
        self._cleared = False

    @cached_property
    def _files(self) -> dict[str, HubFile]:
        files = {file.path.rpartition("/")[2]: file for file in self.dataset.files("data")}
        return complete_set(files, f"{self.dataset.repo}/data")

    @property
    def download_gb(self) -> float:
        files = self._files.values()
        return sum(file.size_bytes for file in files if not self.dataset.cached(file.path)) / 1e9

    def describe(self) -> dict[str, Any]:
        commit = self.dataset.commit()
        return {"form": self.form, "location": self.dataset.repo, "revision": commit, "files": list(self._files)}

    def shards(self, wanted: set[int] | None = None, splits: Sequence[str] = SPLITS) -> list[Shard]:
        """The shards; each can hold any class, since train is shuffled."""
        if not all(self.dataset.cached(file.path) for file in self._files.values()):
            self.dataset.check_access()
        return [
            Shard(name, file.path, file.size_bytes, split_of(name), stamp=file.sha256 or self.dataset.commit())
            for name, file in self._files.items()
            if split_of(name) in splits
        ]

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


def _shard_folder(folder: Path) -> Path | None:
    """Where the shards lie: in the folder, in `data/`, or in the hub's cache (pinned snapshot first)."""
    snapshots = [
        snapshot
        for cache in (folder, folder / _CACHE_NAME, folder / "hub" / _CACHE_NAME)
        for snapshot in [cache / "snapshots" / REPOSITORY.revision, *sorted((cache / "snapshots").glob("*"))]
    ]
    for candidate in (folder, *(root / "data" for root in (folder, *snapshots))):
        if any(SHARD.fullmatch(path.name) for path in candidate.glob("*.parquet")):
            return candidate
    return None
