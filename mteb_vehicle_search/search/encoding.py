"""The worker that encodes a corpus and its queries: here with the model that is here, elsewhere with one made anew.

Its units are ranges of corpus rows (the result: their `Vectors`), `Rank` (a `PartialRanking`), `Queries` (an `Encoded`)
and `About` (a `Told`).
"""

from __future__ import annotations

import multiprocessing
import socket
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from mteb.types import PromptType

from mteb_vehicle_search import settings
from mteb_vehicle_search.errors import EncodeError, EvalSetError, VehicleSearchError
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.eval_set.copies import Origin
from mteb_vehicle_search.exactness import exact_arithmetic
from mteb_vehicle_search.files import code_digest
from mteb_vehicle_search.models.batches import MOST_LANES, threads_of_lane, torch_threads
from mteb_vehicle_search.models.handover import one_array
from mteb_vehicle_search.run_record import versions
from mteb_vehicle_search.search.corpus import CorpusImages, image_loader, text_loader
from mteb_vehicle_search.search.described import Told, code_of
from mteb_vehicle_search.search.parts import Chunk, PartialRanking, Search, rank_part
from mteb_vehicle_search.search.sought import Rank
from mteb_vehicle_search.search.vectors import checked_of, compares_by_cosine

if TYPE_CHECKING:
    from datasets import Dataset

UNKNOWN = "unknown"
SAME_PATH = (
    "The evaluation set must lie at the same path on every machine, or behind an address: "
    "VEHICLE_SEARCH_DATA=hf://..., s3://..., gs://... or https://..."
)


@dataclass(frozen=True)
class About:
    """A unit: what the encoder says of itself, as a `Told`."""


@dataclass(frozen=True, eq=False)
class Queries:
    """A unit: queries to encode, with columns `id` and `text`."""

    queries: Dataset

    def __str__(self) -> str:
        return f"{len(self.queries)} queries"


class Vectors:
    """What gives the vectors of some inputs, as the encoder returned them or, from elsewhere, as float32 numpy.

    It waits for the device where it is called, or pickled: not in the thread that keeps the device busy.
    """

    def __init__(self, give: Callable[[], Any]) -> None:
        self._give = give

    def __call__(self) -> Any:
        return self._give()

    def __reduce__(self) -> tuple[Any, ...]:
        vectors = self._give()
        try:
            return _Sent, (one_array(vectors),)
        except (TypeError, ValueError, RuntimeError):
            # Whoever checks says what is wrong with it.
            return _Sent, (vectors,)


class _Sent(Vectors):
    def __init__(self, vectors: Any) -> None:
        super().__init__(lambda: vectors)


class Encoded(NamedTuple):
    """Vectors of queries, and what the encoder says of itself once it has read them."""

    vectors: Vectors
    told: Told


@dataclass(frozen=True, eq=False)
class MakeEncoder:
    """Makes the worker: in this process of the model that is here, in others of its `ModelMeta`.

    Attributes:
        meta: The model's.
        folder: Of the evaluation set, an absolute path.
        origin: Where it was copied from, as each other machine does too; None: it lies at the same path there.
        content_id: Of the evaluation set.
        given: What `encode` is called with, beside what it is to encode: mteb's `task_metadata` and the like, and its
            encode arguments.
        num_proc: As mteb passes it.
        here: The model, the evaluation set and its corpus; stays in this process.
    """

    meta: Any
    folder: Path
    origin: Origin | None
    content_id: str
    given: dict[str, Any]
    num_proc: int | None
    here: tuple[Any, EvalSet, CorpusImages] | None

    def __call__(self) -> CorpusEncoder:
        """Return the worker.

        Raises:
            EvalSetError: The evaluation set is not on this machine and cannot be copied to it, or another is where it
                should be.
            Exception: What loading the model raises.
        """
        if self.here is not None:
            return CorpusEncoder(*self.here, self.given, self.num_proc)
        eval_set = self._eval_set()
        # Where it computes is this machine's own affair.
        options = {name: value for name, value in self.meta.loader_kwargs.items() if name != "device"}
        model = self.meta.model_copy(update={"loader_kwargs": options}).load_model()
        images = CorpusImages(eval_set, eval_set.corpus_ids())
        return CorpusEncoder(model, eval_set, images, self.given, self.num_proc)

    def __getstate__(self) -> dict[str, Any]:
        if getattr(self.meta, "loader", None) is None:
            raise EncodeError(
                f"{self.meta.name} is an object of this process only: its ModelMeta has no loader, by which other "
                "machines could make it.",
                "Evaluate it with the engine 'local', or register it with a loader.",
            )
        return {**vars(self), "here": None}

    def _eval_set(self) -> EvalSet:
        try:
            found = EvalSet.open(self._copy(self.origin) if self.origin else self.folder)
            found.require_content()
        except VehicleSearchError as error:
            hint = error.hint if self.origin else SAME_PATH
            raise EvalSetError(f"On {socket.gethostname()}: {error.message}", hint) from error
        if found.content_id != self.content_id:
            raise EvalSetError(
                f"On {socket.gethostname()}, {found.folder} holds content id {found.content_id}, and {self.content_id} "
                "is to be evaluated.",
                SAME_PATH,
            )
        return found

    def _copy(self, origin: Origin) -> Path:
        from mteb_vehicle_search.eval_set.copying import copied  # Imports an HTTP stack.

        return copied(origin)


class CorpusEncoder:
    """An mteb encoder at work on an evaluation set; see `MakeEncoder` for the arguments."""

    def __init__(
        self, model: Any, eval_set: EvalSet, images: CorpusImages, given: Mapping[str, Any], num_proc: int | None
    ) -> None:
        self._model, self._eval_set, self._images = model, eval_set, images
        self._given, self._num_proc = dict(given), num_proc
        self._batch_size = int(given.get("batch_size", 32))
        self._reads_images = getattr(model, "reads_images_itself", False)
        self._streams = self._reads_images and getattr(model, "streams", False)
        self._sought: tuple[str, Search, np.ndarray] | None = None

    def identity(self) -> dict[str, str]:
        """Return what decides the vectors: what must be as in the driver, the fingerprint, and the kind of device."""
        told = Told.of(self._model)
        own = {"fingerprint": (told.fingerprint or UNKNOWN)[:12], "device": told.kind}
        return {**same_everywhere(self._model, self._eval_set), **own}

    def work(self, units: Iterator[Any], on_progress: Callable[[int], None]) -> Generator[Any]:
        """Yield the result of each unit.

        Raises:
            EncodeError: An image does not decode, or what an encoder raises.
        """
        ways = {range: self._vectors, Rank: self._ranked, Queries: self._queries, About: self._about}
        for kind, some in groupby(units, type):
            yield from ways[kind](some, on_progress)

    def _vectors(self, units: Iterator[range], on_progress: Callable[[int], None]) -> Generator[Vectors]:
        return self._streamed(units, on_progress) if self._streams else self._loaded(units, on_progress)

    def _streamed(self, units: Iterator[range], on_progress: Callable[[int], None]) -> Generator[Vectors]:
        """Encode over the borders of units: the device does not wait there."""
        given = {"batch_size": self._batch_size, "num_proc": self._num_proc, "on_progress": on_progress}
        with closing(self._model.encode_chunks(self._images, units, **given)) as chunks:
            for give in chunks:
                yield Vectors(give)

    def _loaded(self, units: Iterator[range], on_progress: Callable[[int], None]) -> Generator[Vectors]:
        """Encode unit by unit, each with mteb's kind of loader."""
        for rows in units:
            chunk = self._images.chunk(rows)
            # An encoder that reads the images itself tells its own progress.
            of_loader = None if self._reads_images else on_progress
            loader = image_loader(chunk, self._batch_size, loader_workers(self._num_proc, len(rows)), of_loader)
            vectors = self._encode(loader, PromptType.document, on_progress)
            yield Vectors(lambda vectors=vectors: vectors)

    def _ranked(self, units: Iterator[Rank], on_progress: Callable[[int], None]) -> Generator[PartialRanking]:
        """Search chunk by chunk as they are encoded, over the borders of units."""
        begun: deque[Rank] = deque()

        def chunks() -> Iterator[range]:
            for unit in units:
                begun.append(unit)
                yield from unit.chunks

        groups = self._eval_set.groups
        # The threads that encode meanwhile have as many of torch's as those that search.
        with torch_threads(threads_of_lane()), closing(self._vectors(chunks(), on_progress)) as vectors:
            for first in vectors:
                unit = begun.popleft()
                search, scores = self._sought_by(unit)
                part = (
                    Chunk(rows, self._checked(give(), rows, search), groups[rows.start : rows.stop])
                    for rows, give in zip(unit.chunks, chain([first], vectors))
                )
                with exact_arithmetic():
                    found = rank_part(search, scores, part)
                yield found

    def _sought_by(self, unit: Rank) -> tuple[Search, np.ndarray]:
        if self._sought is None or self._sought[0] != unit.sought.key:
            sought = unit.sought.get()
            self._sought = unit.sought.key, sought.on(search_device(self._model)), sought.scores
        return self._sought[1:]

    def _checked(self, vectors: Any, rows: range, search: Search) -> np.ndarray:
        model, ids = self._model, self._images.ids[rows.start : rows.stop]
        return checked_of(model, vectors, ids, "image", search.queries.shape[1], normalise=compares_by_cosine(model))

    def _queries(self, units: Iterator[Queries], on_progress: Callable[[int], None]) -> Generator[Encoded]:
        for unit in units:
            loader = text_loader(unit.queries, self._batch_size)
            vectors = self._encode(loader, PromptType.query, None)
            yield Encoded(Vectors(lambda vectors=vectors: vectors), Told.of(self._model))

    def _about(self, units: Iterator[About], on_progress: Callable[[int], None]) -> Generator[Told]:
        for _ in units:
            yield Told.of(self._model)

    def _encode(self, loader: Any, prompt_type: PromptType, on_progress: Callable[[int], None] | None) -> Any:
        extra = {"num_proc": self._num_proc, "on_progress": on_progress} if self._reads_images else {}
        return self._model.encode(loader, prompt_type=prompt_type, **self._given, **extra)


def same_everywhere(model: Any, eval_set: EvalSet) -> dict[str, str]:
    """Return what the driver and all workers must have alike, name -> version or digest."""
    weights = getattr(model, "weights_id", None)
    # Where a revision says it all, there is nothing beyond.
    told = model.mteb_model_meta.revision, weights() if callable(weights) else None
    return {
        "weights": " ".join(str(one).strip() for one in told if one) or UNKNOWN,
        "code of the encoder": code_of(model)[:12],
        "code of mteb_vehicle_search": code_digest(Path(__file__).parents[1]),
        "evaluation set": eval_set.content_id[:12],
        "images": eval_set.images_id[:12],
        **versions(),
    }


def search_device(model: Any) -> torch.device:
    """Return where the vectors of a model are searched: its GPU, else the processor."""
    device = torch.device(getattr(model, "device", None) or "cpu")
    return device if device.type == "cuda" else torch.device("cpu")


def loader_workers(num_proc: int | None, items: int) -> int:
    """Return how many workers decode images: `--num-proc`, else the processors, none for a handful of images."""
    if num_proc is not None:
        return max(0, num_proc)
    # Where a worker is not a fork, it runs the caller's script again, which may not be made for that.
    started = multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]
    if items < 256 or started != "fork":
        return 0
    return min(MOST_LANES, settings.usable_cores())
