"""Shards of uncaptioned images where a worker reads them: in this process, or on another machine that opens its own.

A worker elsewhere has its downloads in its machine's temporary folder while they are in use; one that is killed leaves
two shards there at most.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from data_prep.job import Job, open_distractors
from data_prep.markers import Marker
from data_prep.sources import Place
from data_prep.stages.identity import on_this_machine
from data_prep.stages.reduce import book, counts_of
from data_prep.storage import PassedOver
from mteb_vehicle_search.engine import Worker
from mteb_vehicle_search.engine.shown import Shown
from mteb_vehicle_search.errors import SourceError
from mteb_vehicle_search.eval_set.schema import Rejected
from mteb_vehicle_search.files import safe_name

if TYPE_CHECKING:
    from data_prep.sources import DistractorSource, Shard, SourceImage

Result = TypeVar("Result")
EARLY_CHECK = 2_000  # Inputs after which too many rejects stop a build before its end.
SAME_PLACE = (
    "The source must lie at the same path on every machine, the same files with the same times, or behind an address."
)


class Only(NamedTuple):
    """Which images of a source become distractors, where that is known before: their ids, who says so, and what is
    said of the others."""

    ids: frozenset[str]
    by: str
    others: str

    @classmethod
    def of(cls, job: Job, mined: Collection[str] | None) -> Only | None:
        """Return those that were `mined`, or that a recipe names; None: all."""
        if mined is not None:
            return cls(frozenset(mined), "mined", "not chosen from the pool")
        recipe = job.options.recipe
        return cls(frozenset(recipe.distractors), "recipe", "not in the recipe") if recipe else None


@dataclass(frozen=True)
class Pool:
    """A source of uncaptioned images: in this process one that is open, in others one that is opened there.

    Places travel as they were given, with whatever an address holds; logins do not, as every machine has its own.

    Attributes:
        name: Of the source.
        places: Where it lies, and where captioned images of the same source do.
        wanted, splits: The classes and splits that are used.
        source: Open; stays in this process.
    """

    name: str
    places: tuple[Place | None, ...]
    wanted: frozenset[int]
    splits: tuple[str, ...]
    source: DistractorSource | None

    @classmethod
    def of(cls, job: Job, source: DistractorSource) -> Pool:
        """Return that of a build, whose source is open."""
        preset = job.preset
        places = () if job.engine.is_here else job.options.distractor_places()
        wanted = preset.distractors
        return cls(wanted.source, places, frozenset(preset.wanted_classes()), wanted.splits, source)

    def open(self) -> OpenPool:
        """Return it, to be read.

        Raises:
            SourceError: The source is not on this machine; names the machine.
        """
        if self.source is not None:
            return OpenPool(self, self.source)
        is_path = any(place.is_path for place in self.places if place)
        with on_this_machine(SAME_PLACE if is_path else ""):
            source = open_distractors(self.name, *self.places)  # type: ignore[arg-type]
            shards = source.shards(set(self.wanted), self.splits)
        return OpenPool(self, source, {shard.name: shard.fingerprint() for shard in shards})

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "places": tuple(place and place.elsewhere() for place in self.places), "source": None}


class OpenPool:
    """Reads shards, while the next one travels.

    Args:
        pool: What is read.
        source: Holds it.
        held: The fingerprints of the shards here, by name; None where the driver found them itself.
    """

    def __init__(self, pool: Pool, source: DistractorSource, held: Mapping[str, str] | None = None) -> None:
        self._pool, self._source, self._held = pool, source, held

    def each(self, units: Iterator[Shard], work: Callable[[Shard], Result]) -> Generator[Result]:
        """Yield what `work` makes of each shard.

        Raises:
            SourceError: A shard is missing, refused, damaged, or another one than the driver means.
        """
        ahead: deque[Shard] = deque()
        while True:
            while len(ahead) < 2 and (drawn := next(units, None)) is not None:
                self._require(drawn)
                self._source.prefetch(drawn)
                ahead.append(drawn)
            if not ahead:
                return
            shard = ahead.popleft()
            with on_this_machine() if self._held is not None else nullcontext():
                done = work(shard)
            # Before it is told, as whoever hears of the last one may end this process.
            self._source.release(shard)
            yield done

    def _require(self, shard: Shard) -> None:
        if self._held is None or self._held.get(shard.name) == shard.fingerprint():
            return
        what = "is another one than where the build was started" if shard.name in self._held else "is not there"
        with on_this_machine():
            raise SourceError(f"the shard {shard} of {self._pool.name} {what}", SAME_PLACE)

    def images(
        self,
        shard: Shard,
        passed: PassedOver,
        on_progress: Callable[[int], None],
        only: Only | None = None,
    ) -> Iterator[SourceImage]:
        """Yield the images of a shard; progress counts bytes, as many as the shard has if that is known.

        Args:
            shard: Which one.
            passed: Counts what is not used.
            on_progress: Is told of the bytes.
            only: Those that are wanted; None: all.
        """
        left = shard.size_bytes if shard.size_bytes > 0 else sys.maxsize
        for image in self._source.images(shard, set(self._pool.wanted), passed):
            if only is None or image.id in only.ids:
                yield image
            else:
                passed[only.others] += 1
            read = min(left, len(image.data))
            left -= read
            on_progress(read)
        if shard.size_bytes > 0:
            on_progress(left)


def stage_of(group: str, shard: Shard) -> str:
    """Return the name of the stage that works on a shard."""
    return f"{group}/{safe_name(shard.name)}"


class Kept(NamedTuple):
    """What the driver wrote of a shard: its files, how many images they have, what was not used, and what refused."""

    files: list[Path]
    images: int
    passed: PassedOver
    rejected: list[Rejected]


@dataclass(frozen=True)
class Work:
    """What is done with shards.

    Attributes:
        bar: Its name.
        group: Markers are written as `<group>/<name of the shard>`.
        make_worker: Of the engine.
        configuration: Returns what comes of a shard depends on.
        identity: What workers elsewhere must have as this process has it.
        keep: Writes what came of a shard.
    """

    bar: str
    group: str
    make_worker: Callable[[], Worker[Shard, Any]]
    configuration: Callable[[Shard], dict[str, Any]]
    identity: Callable[[], Mapping[str, str]]
    keep: Callable[[Shard, Any], Kept]

    def stage(self, shard: Shard) -> str:
        """Return under which name the marker of a shard is written."""
        return stage_of(self.group, shard)


def work_on_shards(job: Job, source: DistractorSource, shards: Sequence[Shard], work: Work) -> list[Marker]:
    """Work on shards that are not done, on the job's engine; return the markers of all in order.

    Raises:
        BuildError: Too many images were refused.
        SourceError: A shard cannot be read.
        EngineError: As by `Engine.map`.
    """
    job.stages.tell_changes(work.group, [work.stage(shard) for shard in shards])
    with job.reporter.bar(work.bar, sum(max(0, shard.size_bytes) for shard in shards) or None, "B") as bar:
        keeper = _Keeper(job, source, shards, work, Shown(bar, job.engine))
        # A worker in this process is of this process.
        how: dict[str, Any] = {"identity": None if job.engine.is_here else work.identity(), "listener": keeper.shown}
        with closing(job.engine.map(work.make_worker, keeper.units(), **how)) as results:
            for number, done in results:
                keeper.keep(number, done)
    return [keeper.markers[shard.name] for shard in shards]


class _Keeper:
    """Says which shards are to be worked on, and writes the markers of what becomes of them."""

    def __init__(self, job: Job, source: DistractorSource, shards: Sequence[Shard], work: Work, shown: Shown) -> None:
        self.markers: dict[str, Marker] = {}
        self.shown = shown
        self._job, self._source, self._shards, self._work = job, source, shards, work
        self._begun: list[tuple[Shard, dict[str, Any]]] = []
        self._images = 0

    def units(self) -> Iterator[Shard]:
        """Yield the shards that are not done."""
        for shard in self._shards:
            own = {"shard": shard.name, "source": shard.fingerprint(), **self._work.configuration(shard)}
            if (marker := self._job.stages.done(self._work.stage(shard), own)) is None:
                self._begun.append((shard, own))
                yield shard
            else:
                self._source.release(shard)
                self.shown.progress(max(0, shard.size_bytes))
                self._count(shard, marker)

    def keep(self, number: int, done: Any) -> None:
        """Write what became of a unit, and its marker."""
        shard, own = self._begun[number]
        files, images, passed, rejected = self._work.keep(shard, done)
        counts = counts_of(images, passed)
        self._count(shard, self._job.stages.finish(self._work.stage(shard), own, files, counts, rejected))

    def _count(self, shard: Shard, marker: Marker) -> None:
        self.markers[shard.name] = marker
        self._images += marker.counts["images"]
        self.shown.note(f"{self._images:,} images, {len(self.markers)} of {len(self._shards)} shards")
        book(self._job, marker)
        if sum(self._job.inputs.values()) >= EARLY_CHECK:
            self._job.check_rejects()
