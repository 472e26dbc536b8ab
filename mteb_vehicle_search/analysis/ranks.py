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
    """The (query, relevant image) pairs of a run, sorted by query and relevant id; p pairs, q queries.

    A run that another program made, and that was imported, may be cut off: then `depth` is the rank as far as which it
    is known which relevant images rank where. What it does not tell is asked for by `knows` and `require_whole`.
    """

    record: RunRecord
    query_ids: np.ndarray  # str [p]
    relevant_ids: np.ndarray  # str [p]
    ranks: np.ndarray  # int64 [p], 1 = best; the last of the corpus where only `depth` is known, which it is beyond
    above: dict[str, np.ndarray]  # source -> int64 [p], images of that source above the relevant one
    grades: np.ndarray  # int64 [p], how relevant each image is, 1 and above
    top_ids: list[list[str]]  # for each pair the ids of the query's best images, at most 10
    tied: np.ndarray | None = None  # int64 [p], images that are not relevant with the very same score; None: not known
    depth: int | None = None  # None: all ranks are known
    is_whole: bool = True  # whether it is known of all relevant images what ranks above them
    beyond: np.ndarray | None = None  # bool [p], of which only `depth` is known, which they are beyond; None: of none

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

    def knows(self, metric: str) -> bool:
        """Say whether the run is deep enough for one of `metrics.scored()`; a ResultsError if there is no such."""
        cut = of_run(metric).cut
        return self.depth is None or (cut is not None and cut <= self.depth)

    def require_whole(self) -> None:
        """Make sure that it is known what ranks above every relevant image.

        Raises:
            ResultsError: The run was imported, and is cut off.
        """
        if not self.is_whole:
            raise ResultsError(
                f"{self.record.folder}: {self.record.key.name} was imported from a run that does not tell everything "
                f"above every relevant image{self._cut_off}; growth, pools and miners need that.",
                "Import the whole ranking, or run the model here.",
            )

    @property
    def _cut_off(self) -> str:
        return f" (it is cut off at rank {self.depth:,})" if self.depth is not None else ""

    @property
    def median_rank(self) -> float | None:
        """The median rank of the relevant images; None if the run is cut off before it."""
        median = float(np.median(self.ranks))
        if self.depth is None or self.beyond is None:
            return median
        nearest = np.where(self.beyond, self.depth + 1, self.ranks)
        return median if float(np.median(nearest)) == median else None

    def scores(self, metric: str) -> np.ndarray:
        """Return the metric of each query, float64 [q], by sorted query ids.

        Raises:
            ResultsError: There is no such metric, or the run is cut off before its last rank.
        """
        if not self.knows(metric):
            raise ResultsError(
                f"{self.record.folder}: {self.record.key.name} was imported from a run{self._cut_off}, which does not "
                f"tell {metric}.",
                "Choose a metric of fewer ranks, or import a deeper run.",
            )
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
        """Return how many images of these groups rank above each relevant one, int64 [p].

        Raises:
            ResultsError: The run does not tell that.
        """
        self.require_whole()
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
            ResultsError: A source holds captioned and uncaptioned images, so that they cannot be told apart, or the run
                does not tell what is above.
        """
        self.require_whole()
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
    return ranks_of(record, record.queries())


def ranks_of(record: RunRecord, table: pa.Table) -> RunRanks:
    """Return the ranks of a run record from its table (see `RunRecord.queries`), checked as by `load_ranks`."""
    where = record.folder
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
    depth = _depth(record)
    empty = ["query_id", "relevant_id", *(["rank"] if depth is None else [])]
    if any(table[name].null_count for name in empty):
        raise ResultsError(f"{where / 'queries.parquet'} has empty cells.", RERUN)
    query_ids, relevant_ids = (np.asarray(table[name].to_pylist()) for name in ("query_id", "relevant_id"))
    ranks = _whole_numbers(table["rank"], int(record.info["corpus_size"]))
    counted = ~np.any([table[f"above_{name}"].is_null().to_numpy() for name in names], axis=0)
    above = {name: _whole_numbers(table[f"above_{name}"], 0) for name in names}
    told = counted | (not isinstance(record.info.get("imported"), dict))
    wrong = (ranks < 1) | (ranks > int(record.info["corpus_size"])) | (told & (sum(above.values()) + 1 != ranks))
    if wrong.any():
        at = int(np.argmax(wrong))
        raise ResultsError(f"{where}: query {query_ids[at]} has the impossible rank {ranks[at]}.", RERUN)
    twice = (query_ids[1:] == query_ids[:-1]) & (relevant_ids[1:] == relevant_ids[:-1])
    if twice.any():
        raise ResultsError(f"{where}: query {query_ids[int(np.argmax(twice))]} occurs twice.", RERUN)
    # Records of earlier versions were of sets without grades.
    grades = table["grade"].to_numpy().astype(np.int64) if "grade" in table.column_names else np.ones_like(ranks)
    tied = _whole_numbers(table["tied"], 0) if "tied" in table.column_names else None
    arms_of(record.info, where)
    top_ids, is_whole, beyond = table["top_ids"].to_pylist(), bool(counted.all()), table["rank"].is_null().to_numpy()
    return RunRanks(record, query_ids, relevant_ids, ranks, above, grades, top_ids, tied, depth, is_whole, beyond)


def _whole_numbers(column: pa.ChunkedArray, unknown: int) -> np.ndarray:
    """Return a column as int64 with this number where it is empty."""
    return column.fill_null(unknown).to_numpy().astype(np.int64)


def _depth(record: RunRecord) -> int | None:
    """Return how deep an imported run goes; None if it knows all ranks, as those that were made here.

    Raises:
        ResultsError: It is no number of ranks.
    """
    imported = record.info.get("imported")
    depth = imported.get("depth") if isinstance(imported, dict) else None
    if depth is not None and ("integer" not in json_types(depth) or depth < 1):
        raise ResultsError(
            f"{record.folder / 'run.json'}: the depth of what was imported is no number of ranks.", RERUN
        )
    return depth


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
