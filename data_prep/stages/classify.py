"""The probability of every ImageNet-1k class for every captioned image.

All probabilities are stored, so that another threshold or class set needs no second pass over the images.

Chunks of images are scored by workers. A captioned source is one stream, and a chunk is known by the bytes of its
images, whatever form they come in: so the driver reads, and sends the files along, with few chunks on their way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.markers import Marker, Stages, fingerprint
from data_prep.preset import Classifier
from data_prep.stages import classifiers
from data_prep.stages.decoding import ImageRejected, decode
from data_prep.stages.identity import on_this_machine, same_everywhere
from mteb_vehicle_search.engine import Engine, Listener, Worker
from mteb_vehicle_search.errors import BuildError
from mteb_vehicle_search.eval_set.schema import ImagePolicy, Rejected
from mteb_vehicle_search.files import new_file
from mteb_vehicle_search.search.described import kind_of_device
from mteb_vehicle_search.settings import usable_cores

if TYPE_CHECKING:
    from data_prep.class_set import ClassSet
    from data_prep.sources import SourceImage

CHUNK = 512  # Images per resumable chunk of scores.
ON_THEIR_WAY = 16  # Chunks that are read and not yet scored: a gigabyte of Flickr30k's photographs.


@dataclass(frozen=True, eq=False)
class Chunk:
    """A unit: some captioned images."""

    number: int
    images: list[SourceImage]

    def __str__(self) -> str:
        return f"chunk {self.number} of captioned images, first {self.images[0].id}"


class Scored(NamedTuple):
    """What a worker found of a chunk.

    Attributes:
        ids: Of the images that decode.
        probabilities: Theirs, float32 [n, classes].
        rejected: Rows of the others.
        warning: What is odd about the classifier; None if nothing is.
    """

    ids: list[str]
    probabilities: np.ndarray
    rejected: list[Rejected]
    warning: str | None


@dataclass(frozen=True)
class MakeClassifier:
    """Makes the worker, which loads the classifier.

    Attributes:
        classifier: Which one.
        folder: Of the preset.
        device: A torch device, of each machine where it is.
        classes: Those that are selected by.
        batch_size: Images per forward pass.
        policy: How images are decoded.
        is_folder: Whether the classifier is a folder, and not on the hub.
        threads: That decode in this process; None elsewhere, where each processor has one.
    """

    classifier: Classifier
    folder: Path
    device: str
    classes: ClassSet
    batch_size: int
    policy: ImagePolicy
    is_folder: bool
    threads: int | None

    def __call__(self) -> ChunkClassifier:
        """Return the worker.

        Raises:
            SourceError: The classifier cannot be downloaded.
            BuildError: It is missing or damaged, or has too few classes, or there is no such device; names the machine
                if that is not this one.
        """
        if self.threads is not None:
            return self._made(self.threads)
        with on_this_machine():
            classifiers.choose_device(self.device)
            if self.is_folder and not (where := self.folder / self.classifier.model).is_dir():
                hint = "It must lie at the same path on every machine, or be named as it is on the hub."
                raise BuildError(f"there is no classifier {where}", hint)
            return self._made(usable_cores())

    def _made(self, threads: int) -> ChunkClassifier:
        scorer = classifiers.load_scorer(self.classifier, self.folder, self.device)
        warning = classifiers.check_classes(scorer, self.classes)
        return ChunkClassifier(scorer, self.policy, self.batch_size, threads, warning, self.same_everywhere())

    def same_everywhere(self) -> dict[str, str]:
        """Return what the driver and all workers must have alike."""
        digest = fingerprint(classifiers.classifier_identity(self.classifier, self.folder))
        return {**same_everywhere(), "classifier": digest[:12]}

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "folder": self.folder.absolute(), "threads": None}


class ChunkClassifier:
    """A classifier at work on chunks; see `MakeClassifier` for the arguments."""

    def __init__(
        self,
        scorer: classifiers.Scorer,
        policy: ImagePolicy,
        batch_size: int,
        threads: int,
        warning: str | None = None,
        same: Mapping[str, str] | None = None,
    ) -> None:
        self._scorer, self._policy, self._batch_size, self._threads = scorer, policy, batch_size, threads
        self._warning, self._same = warning, dict(same or {})

    def identity(self) -> dict[str, str]:
        """Return what decides the probabilities: what must be as in the driver, and the kind of device."""
        return {**self._same, "device": kind_of_device(self._scorer)}

    def work(self, units: Iterator[Chunk], on_progress: Callable[[int], None]) -> Generator[Scored]:
        """Yield what is found of each chunk."""
        with ThreadPoolExecutor(self._threads) as pool:
            for chunk in units:
                yield self._scored(chunk.images, pool, on_progress)

    def _scored(
        self, images: Sequence[SourceImage], pool: ThreadPoolExecutor, on_progress: Callable[[int], None]
    ) -> Scored:
        ids, pixels, rejected = [], [], []
        for image, found in zip(images, pool.map(self._read, images)):
            if isinstance(found, str):
                rejected.append(Rejected(image.id, "classify", found))
            else:
                ids.append(image.id)
                pixels.append(found)
            on_progress(1)
        none = np.zeros((0, 1), dtype=np.float32)
        probabilities = self._scorer.probabilities(pixels, self._batch_size) if ids else none
        return Scored(ids, probabilities, rejected, self._warning)

    def _read(self, image: SourceImage) -> np.ndarray | str:
        """Return the model's input, or why there is none."""
        if image.problem:
            return image.problem
        try:
            upright = self._policy.turns(captioned=bool(image.captions))
            decoded = decode(image.data, apply_exif=upright, colour_profile=self._policy.colour_profile)
            return self._scorer.pixels(decoded.image)
        except ImageRejected as error:
            return error.reason


def score_images(
    stages: Stages,
    images: Iterable[SourceImage],
    make_worker: Callable[[], Worker[Chunk, Scored]],
    configuration: dict[str, Any],
    engine: Engine,
    *,
    identity: Mapping[str, str] | None = None,
    listener: Listener | None = None,
    warn: Callable[[str], None] = lambda warning: None,
) -> tuple[list[Path], list[Rejected]]:
    """Write the probabilities of all images in resumable chunks; return the chunk files and refused images.

    A chunk that an earlier run finished is recognised by the digest of its images, whatever form they come in.

    Args:
        stages: Markers are written as "classify/chunk-<n>".
        images: All captioned images, in a fixed order.
        make_worker: A `MakeClassifier`.
        configuration: What the probabilities depend on besides the images.
        engine: Where they are computed.
        identity: What workers must have as this process has it.
        listener: Is told how many images are decoded, or were by an earlier run.
        warn: Is told what is odd about the classifier.

    Raises:
        BuildError: Some probability is NaN or infinite; names the first image.
        EngineError: As by `Engine.map`.
    """
    markers: dict[int, Marker] = {}
    begun: list[tuple[int, dict[str, Any]]] = []

    def units() -> Iterator[Chunk]:
        stream = iter(images)
        for number, chunk in enumerate(iter(lambda: list(islice(stream, CHUNK)), [])):
            own = {**configuration, "images": _digest(chunk)}
            if (marker := stages.done(f"classify/chunk-{number:05d}", own)) is None:
                begun.append((number, own))
                yield Chunk(number, chunk)
            else:
                markers[number] = marker
                if listener is not None:
                    listener.progress(len(chunk))

    how: dict[str, Any] = {"identity": identity, "listener": listener, "most": ON_THEIR_WAY}
    with closing(engine.map(make_worker, units(), **how)) as results:
        for place, scored in results:
            number, own = begun[place]
            path, count = _file(stages, number), len(scored.ids) + len(scored.rejected)
            _write(path, scored)
            stage = f"classify/chunk-{number:05d}"
            markers[number] = stages.finish(stage, own, [path], {"images": count}, scored.rejected)
            if scored.warning:
                warn(scored.warning)
    return [_file(stages, number) for number in sorted(markers)], [
        item for _, marker in sorted(markers.items()) for item in marker.rejected
    ]


def _file(stages: Stages, number: int) -> Path:
    return stages.folder / "scores" / f"chunk-{number:05d}.parquet"


def _digest(chunk: list[SourceImage]) -> str:
    facts = (f"{image.id}\n".encode() + hashlib.sha256(image.data).digest() for image in chunk)
    return hashlib.sha256(b"".join(facts)).hexdigest()


def _write(path: Path, scored: Scored) -> None:
    ids, probabilities = scored.ids, scored.probabilities
    # A score that is no number fits no rule, and the classifier, not the image, is to blame.
    odd = np.flatnonzero(~np.isfinite(probabilities).all(axis=1))
    if odd.size:
        raise BuildError(
            f"The classifier gives no finite probabilities for {odd.size} of {len(ids)} images, first {ids[odd[0]]}.",
            "Its weights may be damaged: get them again; or try --device cpu.",
        )
    column = pa.FixedSizeListArray.from_arrays(pa.array(probabilities.ravel()), probabilities.shape[1])
    path.parent.mkdir(parents=True, exist_ok=True)
    with new_file(path) as file:
        pq.write_table(pa.table({"id": ids, "p": column}), file, compression="zstd")


def summed_scores(files: Iterable[Path], classes: Sequence[int]) -> Iterator[tuple[str, float]]:
    """Yield (id, summed probability of `classes`) of every scored image."""
    for path in files:
        table = pq.read_table(path)
        column = table["p"].combine_chunks()
        if not table.num_rows:
            continue
        probabilities = column.flatten().to_numpy().reshape(table.num_rows, -1)
        sums = probabilities[:, list(classes)].astype(np.float64).sum(axis=1)
        yield from zip(table["id"].to_pylist(), sums.tolist())
