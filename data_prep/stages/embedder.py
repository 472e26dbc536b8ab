"""A worker that embeds images by all miners of a preset at once: each image is decoded once."""

from __future__ import annotations

import io
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from data_prep.markers import fingerprint
from data_prep.preset import Classifier, Miner
from data_prep.stages import classifiers, miners
from data_prep.stages.chunks import Chunk
from data_prep.stages.decoding import ImageRejected
from data_prep.stages.identity import on_this_machine, same_everywhere
from data_prep.stages.reduce import perceptual_hash, shrink
from data_prep.stages.shards import OpenPool, Pool
from data_prep.stages.views import SUFFIX, Rows, write_views
from data_prep.storage import PassedOver
from mteb_vehicle_search.eval_set.schema import ImagePolicy, Rejected
from mteb_vehicle_search.files import new_file, safe_name
from mteb_vehicle_search.settings import usable_cores

if TYPE_CHECKING:
    from data_prep.sources import Shard, SourceImage

STAGE = "embed"
# Images are decoded for so many batches at a time: at 224 px and 32 a batch, 150 MB of what networks take.
BATCHES_DECODED = 8


@dataclass(frozen=True)
class Loading:
    """How miners are loaded and used.

    Attributes:
        miners: (name, miner), sorted by name.
        classifier: The preset's.
        folder: Of the preset.
        device: A torch device, of each machine where it is.
        batch_size: Inputs per forward pass.
        policy: How images are decoded and reduced.
        captions: How many of an image's captions count, the first ones.
        class_names: Those of the pool's classes, by index; what miners of texts see of an image without captions.
    """

    miners: tuple[tuple[str, Miner], ...]
    classifier: Classifier | None
    folder: Path
    device: str
    batch_size: int
    policy: ImagePolicy
    captions: int
    class_names: tuple[tuple[int, str], ...] = ()

    def identities(self) -> dict[str, Any]:
        """Return what the vectors depend on, by miner."""
        return {name: miners.identity_of(miner, self.folder, self.classifier) for name, miner in self.miners}

    def same_everywhere(self) -> dict[str, str]:
        """Return what the driver and all workers must have alike."""
        return {**same_everywhere(), "miners": fingerprint(self.identities())[:12]}

    def load(self, threads: int) -> Embedder:
        """Return the loaded miners; `threads` decode.

        Raises:
            SourceError: One cannot be downloaded.
            BuildError: One is missing or damaged.
        """
        load = partial(miners.load_miner, folder=self.folder, classifier=self.classifier, device=self.device)
        return Embedder(self, {name: load(miner) for name, miner in self.miners}, threads)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "folder": self.folder.absolute()}


class Embedder:
    """Loaded miners at work."""

    def __init__(
        self, loading: Loading, loaded: Mapping[str, miners.ImageMiner | miners.TextMiner], threads: int
    ) -> None:
        self.loading, self._threads = loading, threads
        self._images = {name: one for name, one in loaded.items() if not isinstance(one, miners.TextMiner)}
        self._texts = {name: one for name, one in loaded.items() if isinstance(one, miners.TextMiner)}
        # All at once and in order, so that the bits do not depend on which class comes first.
        names = [(text,) for _, text in loading.class_names]
        self._of_classes = {
            name: dict(zip((index for index, _ in loading.class_names), one.vectors(names, loading.batch_size)))
            for name, one in self._texts.items()
            if names
        }

    def rows(
        self, images: Iterable[SourceImage], rejected: list[Rejected], on_image: Callable[[int], None] | None = None
    ) -> Iterator[Rows]:
        """Yield what the miners make of images, in order; those that are refused go to `rejected`."""
        stream, size = iter(images), self.loading.batch_size * BATCHES_DECODED
        with ThreadPoolExecutor(self._threads, thread_name_prefix="embed") as pool:
            read: list[tuple[SourceImage, _Read]] = []
            while some := list(islice(stream, size - len(read))):
                for image, found in zip(some, pool.map(self._read, some)):
                    if isinstance(found, str):
                        rejected.append(Rejected(image.id, STAGE, found))
                    else:
                        read.append((image, found))
                    if on_image is not None:
                        on_image(1)
                # Whole batches alone, whatever was refused: the last bits depend on what shares one.
                if len(read) == size:
                    yield self._embedded(read)
                    read = []
            if read:
                yield self._embedded(read)

    def _read(self, image: SourceImage) -> _Read | str:
        """Return the hash and the miners' inputs, or why there are none."""
        if image.problem:
            return image.problem
        policy = self.loading.policy
        try:
            shrunk = shrink(image.data, policy, apply_exif=policy.turns(captioned=bool(image.captions)))
        except ImageRejected as error:
            return error.reason
        inputs = {name: miner.read(shrunk.image, shrunk.small) for name, miner in self._images.items()}
        return _Read(perceptual_hash(shrunk.small), inputs)

    def _embedded(self, read: Sequence[tuple[SourceImage, _Read]]) -> Rows:
        size, vectors = self.loading.batch_size, {}
        for name, _ in self.loading.miners:
            if (miner := self._images.get(name)) is not None:
                vectors[name] = miner.vectors([found.inputs[name] for _, found in read], size)
            elif name in self._of_classes:
                vectors[name] = np.stack([self._of_classes[name][image.class_index] for image, _ in read])
            else:
                texts = [image.captions[: self.loading.captions] for image, _ in read]
                vectors[name] = self._texts[name].vectors(texts, size)
        return Rows([image.id for image, _ in read], [found.hash for _, found in read], vectors)


class _Read(NamedTuple):
    """An image's perceptual hash, and the inputs of the miners that see it."""

    hash: str
    inputs: dict[str, np.ndarray]


class Embedded(NamedTuple):
    """What a worker made of a chunk or shard.

    Attributes:
        images: How many were embedded.
        rejected: Those that were refused.
        passed: What was not used, by reason.
        content: The file of views; None if it was written to its place.
    """

    images: int
    rejected: list[Rejected]
    passed: PassedOver
    content: bytes | None


@dataclass(frozen=True)
class MakeEmbedder:
    """Makes a worker for chunks of captioned images, or for shards of a pool.

    Attributes:
        loading: Of the miners.
        pool: Where the shards lie; None for chunks.
        work: The work folder, in this process; None elsewhere.
        threads: That decode in this process; None elsewhere, where each processor has one.
    """

    loading: Loading
    pool: Pool | None
    work: Path | None
    threads: int | None

    def __call__(self) -> Any:  # A `ChunkEmbedder` or a `ShardEmbedder`.
        """Return the worker; raises what `Loading.load` and `Pool.open` do, and names the machine elsewhere."""
        if self.threads is not None:
            return self._made(self.threads)
        with on_this_machine():
            classifiers.choose_device(self.loading.device)
            return self._made(usable_cores())

    def _made(self, threads: int) -> Any:
        embedder = self.loading.load(threads)
        return ShardEmbedder(embedder, self.pool.open(), self.work) if self.pool else ChunkEmbedder(embedder)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "work": None, "threads": None}


class _Worker:
    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    def identity(self) -> dict[str, str]:
        """Return what decides the vectors: what must be as in the driver, and the kind of device."""
        loading = self._embedder.loading
        return {**loading.same_everywhere(), "device": classifiers.kind_of(loading.device)}


class ChunkEmbedder(_Worker):
    """Miners at work on chunks of captioned images."""

    def work(self, units: Iterator[Chunk], on_progress: Callable[[int], None]) -> Generator[Embedded]:
        """Yield what becomes of each chunk."""
        for chunk in units:
            file, rejected = io.BytesIO(), []
            images = write_views(file, self._embedder.rows(chunk.images, rejected, on_progress))
            yield Embedded(images, rejected, PassedOver(), file.getvalue())


class ShardEmbedder(_Worker):
    """Miners at work on shards of a pool."""

    def __init__(self, embedder: Embedder, pool: OpenPool, work: Path | None) -> None:
        super().__init__(embedder)
        self._pool, self._work = pool, work

    def work(self, units: Iterator[Shard], on_progress: Callable[[int], None]) -> Generator[Embedded]:
        """Yield what becomes of each shard; progress counts bytes, as many as the shard has if that is known."""
        yield from self._pool.each(units, lambda shard: self._embedded(shard, on_progress))

    def _embedded(self, shard: Shard, on_progress: Callable[[int], None]) -> Embedded:
        passed, rejected = PassedOver(), []

        def written(file: BinaryIO) -> int:
            images = self._pool.images(shard, passed, on_progress)
            return write_views(file, self._embedder.rows(images, rejected))

        if self._work is None:
            held = io.BytesIO()
            return Embedded(written(held), rejected, passed, held.getvalue())
        path = pool_file(self._work, shard)
        path.parent.mkdir(parents=True, exist_ok=True)
        with new_file(path) as file:
            return Embedded(written(file), rejected, passed, None)


def pool_file(work: Path, shard: Shard) -> Path:
    """Return where the views of a shard lie."""
    return work / "views" / "pool" / f"{safe_name(shard.name)}{SUFFIX}"
