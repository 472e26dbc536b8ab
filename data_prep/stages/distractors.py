"""Distractors: shards that workers read, decode and reduce; the driver writes what comes of them, and their markers.

A worker of this process writes into the work folder while it reads, as a shard may be a tar of any size. One elsewhere
holds the JPEGs of a shard, about 10 kB each, until they are sent.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from data_prep.job import Job
from data_prep.markers import Marker, fingerprint
from data_prep.stages.identity import same_everywhere
from data_prep.stages.reduce import prepare_all, reduced_path, write_index, write_jpegs
from data_prep.stages.shards import Kept, Only, OpenPool, Pool, Work, stage_of, work_on_shards
from data_prep.storage import PassedOver
from mteb_vehicle_search.eval_set.schema import ImagePolicy, Rejected
from mteb_vehicle_search.files import new_file, write_whole
from mteb_vehicle_search.settings import usable_cores

if TYPE_CHECKING:
    from data_prep.sources import DistractorSource, Shard


GROUP = "distractors"


class Here(NamedTuple):
    """What of a worker is in this process: the work folder, and how many threads decode."""

    work: Path
    threads: int


class ReducedShard(NamedTuple):
    """What a worker made of a shard.

    Attributes:
        lines: Of the index, one an image; see `write_jpegs`.
        rejected: Images that were refused.
        passed: What was not used, by reason.
        jpegs: The images end to end; None if they were written to their place.
    """

    lines: list[str]
    rejected: list[Rejected]
    passed: PassedOver
    jpegs: bytes | None


@dataclass(frozen=True)
class MakeReducer:
    """Makes the worker.

    Attributes:
        pool: Where the shards lie.
        policy: How images are reduced.
        only: Those that are wanted; None: all.
        here: Stays in this process.
    """

    pool: Pool
    policy: ImagePolicy
    only: Only | None
    here: Here | None

    def __call__(self) -> Reducer:
        """Return the worker.

        Raises:
            SourceError: The source is not on this machine; names the machine.
        """
        return Reducer(self, self.pool.open())

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "here": None}


class Reducer:
    """Reduces shards.

    Args:
        made_by: Says how.
        pool: Holds them.
    """

    def __init__(self, made_by: MakeReducer, pool: OpenPool) -> None:
        self._made_by, self._pool = made_by, pool

    def identity(self) -> dict[str, str]:
        """Return what decides the bytes beside the shards, each of which is compared by itself."""
        return same_everywhere()

    def work(self, units: Iterator[Shard], on_progress: Callable[[int], None]) -> Generator[ReducedShard]:
        """Yield what became of each shard; progress counts bytes, as many as the shard has if that is known.

        Raises:
            SourceError: A shard is missing, refused, damaged, or another one than the driver means.
        """
        yield from self._pool.each(units, lambda shard: self._reduced(shard, on_progress))

    def _reduced(self, shard: Shard, on_progress: Callable[[int], None]) -> ReducedShard:
        passed, here = PassedOver(), self._made_by.here
        images = self._pool.images(shard, passed, on_progress, self._made_by.only)
        stage, threads = shard_stage(shard), here.threads if here else usable_cores()
        # Closed here whatever happens: a thread that collects garbage may be one that nobody should wait in.
        with closing(prepare_all(images, self._made_by.policy, workers=threads)) as stream:
            if here is None:
                held = io.BytesIO()
                return ReducedShard(*write_jpegs(held, stream, "distractors"), passed, held.getvalue())
            path = reduced_path(here.work, stage)
            path.parent.mkdir(parents=True, exist_ok=True)
            with new_file(path) as file:
                return ReducedShard(*write_jpegs(file, stream, "distractors"), passed, None)


def shard_stage(shard: Shard) -> str:
    """Return the name of the stage that reduces a shard."""
    return stage_of(GROUP, shard)


def reduce_distractors(
    job: Job, source: DistractorSource, shards: list[Shard], mined: Collection[str] | None = None
) -> list[Marker]:
    """Reduce the distractors on the job's engine, shard by shard; return their markers in order.

    Of a pool only the `mined` images (ids) are reduced: it is read a second time for them, as what was read the first
    time is not kept. That costs less than keeping all of it: reading is a small part of reducing, and of the reduced
    images nine in ten would be thrown away.

    Raises:
        BuildError: Too many images were refused.
        SourceError: A shard cannot be read.
        EngineError: As by `Engine.map`.
    """
    only, wanted = Only.of(job, mined), sorted(job.preset.wanted_classes())
    of_only = {only.by: fingerprint(sorted(only.ids))} if only else {}

    def configuration(shard: Shard) -> dict[str, Any]:
        # A shard of one class does not depend on the others.
        classes = wanted if shard.class_index < 0 else [shard.class_index]
        return {"classes": classes, "images": job.preset.images.as_json(), **of_only}

    def keep(shard: Shard, done: ReducedShard) -> Kept:
        path = reduced_path(job.options.work, shard_stage(shard))
        if done.jpegs is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, done.jpegs)
        return Kept([path, write_index(path, done.lines)], len(done.lines), done.passed, done.rejected)

    here = Here(job.options.work, job.options.workers)
    make = MakeReducer(Pool.of(job, source), job.preset.images, only, here)
    work = Work(GROUP, GROUP, make, configuration, same_everywhere, keep)
    markers = work_on_shards(job, source, shards, work)
    shutil.rmtree(job.options.work / "download", ignore_errors=True)
    return markers
