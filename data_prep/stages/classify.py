"""The probability of every ImageNet-1k class for every captioned image.

All probabilities are stored, so that another threshold or class set needs no second pass over the images.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.job import Job
from data_prep.markers import Stages, fingerprint
from data_prep.preset import Classifier
from data_prep.stages import classifiers
from data_prep.stages.chunks import Chunk, Kept, Work, work_on_chunks
from data_prep.stages.decoding import ImageRejected, decode
from data_prep.stages.identity import on_this_machine, same_everywhere
from mteb_vehicle_search.engine import Engine, Listener, Worker
from mteb_vehicle_search.engine.shown import Shown
from mteb_vehicle_search.errors import BuildError
from mteb_vehicle_search.eval_set.schema import ImagePolicy, Rejected
from mteb_vehicle_search.files import new_file
from mteb_vehicle_search.search.described import kind_of_device
from mteb_vehicle_search.settings import usable_cores
from mteb_vehicle_search.terminal import in_bytes

if TYPE_CHECKING:
    from data_prep.class_set import ClassSet
    from data_prep.sources import CaptionedSource, SourceImage


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

    def keep(name: str, scored: Scored) -> Kept:
        path = stages.folder / "scores" / f"{name}.parquet"
        _write(path, scored)
        if scored.warning:
            warn(scored.warning)
        return Kept(path, len(scored.ids) + len(scored.rejected), scored.rejected)

    work = Work("classify", make_worker, configuration, identity)
    markers = work_on_chunks(stages, images, work, engine, keep, listener)
    files = [stages.folder / name for marker in markers for name in marker.outputs]
    return files, [item for marker in markers for item in marker.rejected]


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


def classify(job: Job, source: CaptionedSource, classes: ClassSet) -> tuple[list[Path], dict[str, Any]]:
    """Score all captioned images; return the files, and what a later stage depends on.

    Raises:
        BuildError: Too many images were refused, or the classifier cannot be loaded.
        EngineError: As by `Engine.map`.
    """
    preset, options, engine = job.preset, job.options, job.engine
    if (classifier := preset.classifier) is None:
        raise BuildError("The preset has no classifier.")
    device, is_folder = classifiers.device_of(job), (preset.folder / classifier.model).is_dir()
    configuration: dict[str, Any] = {"classifier": classifiers.classifier_identity(classifier, preset.folder)}
    configuration["device"] = classifiers.kind_of(device)
    configuration["batch_size"] = options.batch_size
    if decoding := preset.images.decoding:
        configuration["decoding"] = decoding
    whole = {**configuration, "source": job.described}
    marker = job.stages.done("classify", whole)
    if marker is None:
        how = (classifier, preset.folder, device, classes, options.batch_size, preset.images)
        make_worker = MakeClassifier(*how, is_folder, options.workers)
        identity = None if engine.is_here else make_worker.same_everywhere()
        with job.reporter.bar("classify", source.count()) as bar:
            shown = Shown(bar, engine)
            images, told = _noted(source.images(), shown), {"listener": shown, "warn": job.reporter.warn}
            found = score_images(job.stages, images, make_worker, configuration, engine, identity=identity, **told)
        files, rejected = found
        marker = job.stages.finish("classify", whole, files, {"chunks": len(files)}, rejected)
    files = [options.work / name for name in sorted(marker.outputs)]
    job.rejected += marker.rejected
    job.inputs["captioned"] += sum(pq.read_metadata(file).num_rows for file in files) + len(marker.rejected)
    job.check_rejects()
    return files, {"scores": fingerprint(marker.outputs)}


def _noted(images: Iterable[SourceImage], shown: Shown) -> Iterator[SourceImage]:
    """Yield the images, and say how many bytes they have."""
    size = 0
    for image in images:
        size += len(image.data)
        shown.note(in_bytes(size))
        yield image
