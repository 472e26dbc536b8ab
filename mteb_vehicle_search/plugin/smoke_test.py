"""A smoke test: a small part of an evaluation set, searched as the whole would be, and forgotten afterwards."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from mteb_vehicle_search import settings
from mteb_vehicle_search.errors import UsageError
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.eval_set.schema import CorpusImage
from mteb_vehicle_search.eval_set.writer import About, write_eval_set

HOME = "VEHICLE_SEARCH_HOME"
LONGEST_NAME = 60


class Part(NamedTuple):
    """What a smoke test is on: the task's name, and where its results go until they are deleted."""

    tasks: list[str]
    output_folder: Path


@contextmanager
def parts_of(eval_sets: list[EvalSet], limit: int) -> Iterator[Part]:
    """Make small sets of these, each a task of its own name, in a temporary home that has nothing else.

    All that a run writes goes there too. When it ends, the folder is deleted and the home is what it was.

    Raises:
        UsageError: A set has no more than that.
    """
    from mteb_vehicle_search.tasks import SMOKE_TEST

    chosen = [(eval_set, rows_of_part(eval_set, limit)) for eval_set in eval_sets]
    before = os.environ.get(HOME)
    with tempfile.TemporaryDirectory(prefix="vehicle-search-smoke-test-", ignore_cleanup_errors=True) as folder:
        os.environ[HOME] = str(Path(folder) / "home")
        try:
            names = [_write(eval_set, rows, SMOKE_TEST).task_name for eval_set, rows in chosen]
            yield Part(names, Path(folder) / "results")
        finally:
            if before is None:
                del os.environ[HOME]
            else:
                os.environ[HOME] = before


def rows_of_part(eval_set: EvalSet, limit: int) -> list[int]:
    """Return the rows of `limit` images that some query asks for, and of as many that none does, in order.

    Which ones follows from their ids alone, and a larger part holds the smaller ones. Images lie by class in a set, so
    that the first ones would all show the same.

    Raises:
        UsageError: That is the whole set.
    """
    ids = eval_set.corpus_ids()
    asked = {qrel.corpus_id for qrel in eval_set.qrels() if qrel.score > 0}
    mixed = sorted(range(len(ids)), key=lambda row: hashlib.sha256(ids[row].encode()).digest())
    captioned = [row for row in mixed if ids[row] in asked]
    distractors = [row for row in mixed if ids[row] not in asked]
    rows = sorted(captioned[:limit] + distractors[:limit])
    if len(rows) == len(ids):
        raise UsageError(
            f"--limit {limit} is no part of {eval_set.task_name}, which has {len(captioned):,} captioned images and "
            f"{len(distractors):,} distractors.",
            "Leave --limit out.",
        )
    return rows


def _write(eval_set: EvalSet, rows: list[int], note: str) -> EvalSet:
    ids, provenance = eval_set.corpus_ids(), eval_set.provenance()
    kept = {ids[row] for row in rows}
    qrels = [qrel for qrel in eval_set.qrels() if qrel.corpus_id in kept and qrel.score > 0]
    asking = {qrel.query_id for qrel in qrels}
    queries = [query for query in eval_set.queries() if query.id in asking]
    images = (
        CorpusImage(ids[row], eval_set.jpeg_at(row), provenance.slice(row, 1).drop(["corpus-id"]).to_pylist()[0])
        for row in rows
    )
    name = f"{eval_set.name}-smoke-test"
    about = About(
        name,
        f"SMOKE TEST: {len(queries):,} captions, {len(rows):,} images of {eval_set.title}",
        policy=eval_set.policy,
        notes={note: eval_set.task_name},
        task_name=f"{eval_set.task_name[: LONGEST_NAME - len('SmokeTest')]}SmokeTest",
    )
    return write_eval_set(settings.data_folder(name), about, images=images, queries=queries, qrels=qrels)
