"""The ranks of one run, checked, and the score of every query."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mteb_vehicle_search.analysis.arms import Arms, arms_of
from mteb_vehicle_search.analysis.fields import json_types
from mteb_vehicle_search.analysis.sets import other_pixels, title_of
from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.metrics import Grouped, of_run

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

    from mteb_vehicle_search.run_record import RunRecord

RERUN = "Run the model again."


@dataclass(frozen=True)
class RunRanks:
    """The (query, relevant image) pairs of a run, sorted by query and relevant id; p pairs, q queries."""

    record: RunRecord
    query_ids: np.ndarray  # str [p]
    relevant_ids: np.ndarray  # str [p]
    ranks: np.ndarray  # int64 [p], 1 = best
    above: dict[str, np.ndarray]  # source -> int64 [p], images of that source above the relevant one
    grades: np.ndarray  # int64 [p], how relevant each image is, 1 and above
    top_ids: list[list[str]]  # for each pair the ids of the query's best images, at most 10
    tied: np.ndarray | None = None  # int64 [p], images that are not relevant with the very same score; None: not known

    @cached_property
    def first(self) -> np.ndarray:
        """int64 [q], the first pair of each query."""
        return np.unique(self.query_ids, return_index=True)[1]

    @property
    def one_relevant(self) -> bool:
        """Whether every query has exactly one relevant image."""
        return len(self.first) == len(self.query_ids)

    def asks_the_same(self, other: RunRanks) -> bool:
        """Say whether another run has the same queries and relevant images."""
        return all(np.array_equal(getattr(self, key), getattr(other, key)) for key in ("query_ids", "relevant_ids"))

    @cached_property
    def clusters(self) -> np.ndarray:
        """[q], a label that queries about the same images share."""
        if self.one_relevant:
            return self.relevant_ids
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        queries, query = np.unique(self.query_ids, return_inverse=True)
        images, image = np.unique(self.relevant_ids, return_inverse=True)
        size = len(queries) + len(images)
        links = coo_array((np.ones(len(query)), (query, image + len(queries))), shape=(size, size))
        return connected_components(links, directed=False)[1][: len(queries)]

    def scores(self, metric: str) -> np.ndarray:
        """Return the metric of each query, float64 [q], by sorted query ids; raise a ResultsError if it is unknown."""
        return of_run(metric).of_query(Grouped.of(self.query_ids, self.ranks, self.grades))

    @property
    def tied_queries(self) -> int | None:
        """How many queries have a relevant image that shares its score with images that are not; None: not known."""
        return None if self.tied is None else len(np.unique(self.query_ids[self.tied > 0]))

    def scores_if_first(self, metric: str) -> np.ndarray | None:
        """Return `scores` as they were if relevant images ranked first among their equals; None if not known."""
        if self.tied is None:
            return None
        return of_run(metric).of_query(Grouped.of(self.query_ids, self.ranks - self.tied, self.grades))

    @cached_property
    def arms(self) -> Arms | None:
        """The arms of the corpus, which was drawn from a pool; None if it has none.

        Raises:
            ResultsError: What the record says of them is impossible.
        """
        return arms_of(self.record.info, self.record.folder)

    def above_of(self, names: Collection[str]) -> np.ndarray:
        """Return how many images of these groups rank above each relevant one, int64 [p]."""
        return sum((self.above[name] for name in names), np.zeros(len(self.ranks), dtype=np.int64))

    @property
    def about(self) -> dict[str, Any]:
        """Which model ran on what, as the JSON of commands tells it."""
        info = self.record.info
        return {
            "model_name": info["model_name"],
            "model_revision": info.get("model_revision"),
            "options": dict(self.record.key.options),
            "task": info["task_name"],
            "title": title_of(info),
            "content_id": info["content_id"],
        }

    @property
    def distractors(self) -> int:
        """How many images of the corpus belong to no query: the uncaptioned ones."""
        return sum(entry["images"] - entry["captioned"] for entry in self.record.info["sources"].values())

    @property
    def captioned_above(self) -> np.ndarray:
        """int64 [p], captioned images above the relevant one."""
        return self.ranks - 1 - self.distractors_above

    @property
    def distractors_above(self) -> np.ndarray:
        """int64 [p], uncaptioned images above the relevant one.

        Raises:
            ResultsError: A source holds captioned and uncaptioned images, so that they cannot be told apart.
        """
        total = np.zeros(len(self.ranks), dtype=np.int64)
        for name, counts in self.above.items():
            entry = self.record.info["sources"][name]
            if 0 < entry["captioned"] < entry["images"]:
                raise ResultsError(
                    f"{self.record.folder}: source {name!r} holds captioned and uncaptioned images; the run record "
                    "does not tell which of them rank above."
                )
            if not entry["captioned"]:
                total += counts
        return total


def load_ranks(record: RunRecord) -> RunRanks:
    """Read and check the ranks of a run record.

    Raises:
        ResultsError: Columns or fields are missing, ranks or arms are impossible, or a pair occurs twice.
    """
    table, where = record.queries(), record.folder
    missing = {"query_id", "relevant_id", "rank", "top_ids"} - set(table.column_names)
    if missing:
        raise ResultsError(f"{where / 'queries.parquet'} has no column {', '.join(sorted(missing))}.", RERUN)
    if not table.num_rows:
        raise ResultsError(f"{where / 'queries.parquet'} has no rows.", RERUN)
    for key in ("content_id", "model_name", "task_name", "corpus_size"):
        if record.info.get(key) is None:
            raise ResultsError(f"{where / 'run.json'} does not say {key!r}.", RERUN)
    sources = record.info.get("sources")
    names = [name.removeprefix("above_") for name in table.column_names if name.startswith("above_")]
    if not isinstance(sources, dict) or set(names) != set(sources):
        raise ResultsError(f"{where}: run.json and queries.parquet name different sources.", RERUN)
    _require_counts(record)
    _require_types(table, where)
    table = table.sort_by([("query_id", "ascending"), ("relevant_id", "ascending")])
    if any(table[name].null_count for name in ("query_id", "relevant_id", "rank")):
        raise ResultsError(f"{where / 'queries.parquet'} has empty cells.", RERUN)
    query_ids, relevant_ids = (np.asarray(table[name].to_pylist()) for name in ("query_id", "relevant_id"))
    ranks = table["rank"].to_numpy().astype(np.int64)
    above = {name: table[f"above_{name}"].to_numpy().astype(np.int64) for name in names}
    wrong = (ranks < 1) | (ranks > int(record.info["corpus_size"])) | (sum(above.values()) + 1 != ranks)
    if wrong.any():
        at = int(np.argmax(wrong))
        raise ResultsError(f"{where}: query {query_ids[at]} has the impossible rank {ranks[at]}.", RERUN)
    twice = (query_ids[1:] == query_ids[:-1]) & (relevant_ids[1:] == relevant_ids[:-1])
    if twice.any():
        raise ResultsError(f"{where}: query {query_ids[int(np.argmax(twice))]} occurs twice.", RERUN)
    # Records of earlier versions were of sets without grades.
    grades = table["grade"].to_numpy().astype(np.int64) if "grade" in table.column_names else np.ones_like(ranks)
    tied = table["tied"].to_numpy().astype(np.int64) if "tied" in table.column_names else None
    arms_of(record.info, where)
    return RunRanks(record, query_ids, relevant_ids, ranks, above, grades, table["top_ids"].to_pylist(), tied)


def require_same_queries(a: RunRanks, b: RunRanks) -> None:
    """Raise a ResultsError if content ids, images, queries or relevant images differ: such runs cannot be paired."""
    one, other = (run.record.key for run in (a, b))
    sets, hint = (one.content_id[:12], other.content_id[:12]), "Run both models on the same data."
    if sets[0] != sets[1]:
        raise ResultsError(
            f"The runs are on different evaluation sets ({', '.join(sets)}); their scores do not compare.", hint
        )
    if one.images_id and other.images_id and one.images_id != other.images_id:
        what = other_pixels(a.record.info, b.record.info)
        raise ResultsError(f"The runs on {sets[0]} searched {what}; their scores do not compare.", hint)
    if not a.asks_the_same(b):
        raise ResultsError(
            f"{a.record.folder} and {b.record.folder} do not have the same queries.", "Run both models again."
        )


def _require_counts(record: RunRecord) -> None:
    """Make sure that what `run.json` counts are counts."""
    info, where = record.info, record.folder / "run.json"
    counts = {"corpus_size": info["corpus_size"], "query_count": info.get("query_count", 0)}
    for name, of_source in info["sources"].items():
        told = of_source if isinstance(of_source, dict) else {}
        counts |= {f"{key} of source {name!r}": told.get(key) for key in ("images", "captioned")}
    for what, count in counts.items():
        if "integer" not in json_types(count) or count < 0:
            raise ResultsError(f"{where}: {what} is not a whole number.", RERUN)


def _require_types(table: pa.Table, folder: Path) -> None:
    """Make sure that columns that are read have their types."""
    import pyarrow as pa

    fits = {"query_id": pa.types.is_string, "relevant_id": pa.types.is_string, "top_ids": pa.types.is_list}
    for name in table.column_names:
        if name in ("rank", "grade", "tied") or name.startswith("above_"):
            fits[name] = pa.types.is_integer
    for name, right in fits.items():
        if not right(table.schema.field(name).type):
            raise ResultsError(f"{folder / 'queries.parquet'}: column {name} is of another type.", RERUN)
