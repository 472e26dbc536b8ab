"""The columns of the leaderboard, in its files and in the tables that show it: each once.

README.md beside this file lists the same fields, and a test keeps them in step. `document.py` has what is around them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from mteb_vehicle_search.analysis.arms import family_of
from mteb_vehicle_search.analysis.corrected import Corrected
from mteb_vehicle_search.analysis.fields import INTEGER, NUMBER, TEXT, Field, is_text, json_types
from mteb_vehicle_search.analysis.population import Figure, pool_figures
from mteb_vehicle_search.analysis.ranks import RunRanks
from mteb_vehicle_search.analysis.runs import Result, holds_flickr30k
from mteb_vehicle_search.analysis.sets import title_of
from mteb_vehicle_search.analysis.uncertainty import Interval, clustered_interval, too_few
from mteb_vehicle_search.metrics import METRICS, scored
from mteb_vehicle_search.run_record import RunKey

Row = dict[str, Any]
POOL_FIGURES = ("ndcg_at_10", "recall_at_1", "mean_rank")


class RankRange(NamedTuple):
    """The first and the last rank that a model may have: 1 + the models that paired tests find better, and all models
    but those that they find worse."""

    first: int
    last: int


@dataclass(frozen=True)
class Entry:
    """What is known of one run, whole from the files to the page.

    The result is mteb's, the ranks are of the run that gave it; one of the two may be missing. The key is what both
    tell. In a table the entry has a name that no other has there, its range of ranks and whether it is better than
    chance (None without ranks). `corrected` is its nDCG@10 by the judgments at hand; None without any.
    """

    result: Result | None
    ranks: RunRanks | None
    key: RunKey
    name: str = ""
    ranked: RankRange | None = None
    better_than_chance: bool | None = None
    corrected: Corrected | None = None

    @property
    def info(self) -> dict[str, Any]:
        """What the run record says; empty without one."""
        return self.ranks.record.info if self.ranks else {}

    @property
    def meta(self) -> dict[str, Any]:
        """What mteb says of the model; empty without a result."""
        return self.result.meta if self.result else {}

    @property
    def task(self) -> str:
        """The name of the task it was made with."""
        return self.result.task if self.result else self.info["task_name"]

    @property
    def title(self) -> str:
        """The title of the evaluation set at the time."""
        return title_of({"task_name": self.task, **self.info})

    @property
    def sources_id(self) -> str:
        """What identifies the photographs that the images were made from; "" if neither tells."""
        return self.info.get("sources_id") or (self.result.sources_id if self.result else "")

    @property
    def date(self) -> str | None:
        """When the run ended."""
        return (self.result and self.result.date) or self.info.get("finished")

    @cached_property
    def interval(self) -> Interval | None:
        """The mean nDCG@10 with its 95 % interval; None without ranks, or if they are cut off before the tenth."""
        if not self.ranks or not self.ranks.knows("ndcg_at_10"):
            return None
        return clustered_interval(self.ranks.scores("ndcg_at_10"), self.ranks.clusters)

    @cached_property
    def pool(self) -> dict[str, Figure]:
        """Figures in the pool that the corpus was drawn from; none without ranks, or where it cannot be estimated."""
        if not self.ranks or not self.ranks.arms or not self.ranks.one_relevant or not self.ranks.is_whole:
            return {}
        return pool_figures(self.ranks, POOL_FIGURES)

    @property
    def miner_family(self) -> str | None:
        """The miners of the set whose family the model is of, or that it is; None if it is unrelated, or not known."""
        if not self.ranks or not self.ranks.arms:
            return None
        return ", ".join(family_of(self.key.model, self.meta, self.ranks.arms.miners)) or None

    @cached_property
    def row(self) -> Row:
        """The row of the leaderboard: key -> value for each of `row_columns()`."""
        values = {key: (column.types, column.value(self)) for key, column in row_columns().items()}
        # A fact that a file has in another type is not known.
        return {key: value if json_types(value) & {*types} else None for key, (types, value) in values.items()}

    def score(self, key: str, of_ranks: Callable[[RunRanks], float | None]) -> float | None:
        """Return a score of the result, or else what the ranks give, if they do."""
        if self.result and key in self.result.scores:
            return self.result.scores[key]
        found = of_ranks(self.ranks) if self.ranks else None
        return None if found is None else round(found, 5)

    @property
    def imported(self) -> dict[str, Any]:
        """What is known of the file that the run was imported from; empty if it was made here."""
        told = self.info.get("imported")
        return told if isinstance(told, dict) else {}


LAST = 99
# The scores that stand first.
PLACES = {"ndcg_at_10": 1, "recall_at_1": 3, "recall_at_10": 4}
# That of nDCG@10 stands beside it.
INTERVAL_PLACE = 2
# What tables show of a row, and what an entry has in a column.
Text = Callable[[Row], str]
Value = Callable[[Entry], Any]


class Cell(NamedTuple):
    """How tables show a column: in which ("who", "scores" or "run"), and what a row has there.

    `left` aligns it to the left. Those with a `place` are the headlines, which stand before the others of their table
    in this order, also on a terminal that is too narrow for more. A cell that is `optional` is only shown where a row
    has something there, which then needs what it says: "pool" or "judgments".
    """

    table: str
    heading: str
    text: Text
    left: bool = False
    place: int = LAST
    optional: str = ""


class Column(NamedTuple):
    """A field of the rows: its JSON types, what it says, what an entry has there, and its cell if tables show it."""

    key: str
    types: tuple[str, ...]
    meaning: str
    value: Value
    cell: Cell | None = None


def number(key: str, form: str = ".4f") -> Text:
    """Return what shows a number, or a dash where there is none."""
    return lambda row: "–" if row[key] is None else format(row[key], form)


def words(key: str, length: int | None = None) -> Text:
    """Return what shows a text, as far as `length`, or a dash where there is none."""
    return lambda row: (row[key] or "–")[:length]


def _parameters(row: Row) -> str:
    count = row["n_parameters"]
    if not count:
        return "–" if count is None else "0"
    return f"{count / 1e6:,.0f} M" if count >= 10_000_000 else f"{count / 1e6:.1f} M"


def _rank(row: Row) -> str:
    first, last = row["rank"], row["rank_last"]
    return "–" if first is None else f"{first}" if last in (first, None) else f"{first}–{last}"


def _interval(row: Row) -> str:
    images = row["ndcg_at_10_ci_images"]
    why = too_few(images) if images is not None else ""
    shown = Interval(0.0, row["ndcg_at_10_ci_low"], row["ndcg_at_10_ci_high"]).ends()
    return f"{shown} ({why})" if why else shown


def _end(side: str) -> Value:
    def end(entry: Entry) -> float | None:
        """Return what the ranks give; results of earlier versions have other ends, which may leave no width."""
        if entry.interval is None:
            scores = entry.result.scores if entry.result else {}
            ends = {one: scores.get(f"ndcg_at_10_ci_{one}") for one in ("low", "high")}
            return None if ends["low"] == ends["high"] else ends[side]
        found = getattr(entry.interval, side)
        return None if found is None else round(found, 5)

    return end


def _images(entry: Entry) -> int | None:
    if entry.ranks:
        return len(np.unique(entry.ranks.clusters))
    images = entry.result.scores.get("ndcg_at_10_ci_images") if entry.result else None
    return None if images is None else int(images)


def _key(part: str) -> Value:
    return lambda entry: getattr(entry.key, part) or None


def _run(key: str) -> Value:
    return lambda entry: entry.info.get(key)


def _of_encoder(entry: Entry, key: str) -> Any:
    return (entry.info.get("encoder") or {}).get(key)


def _imported(key: str) -> Value:
    return lambda entry: entry.imported.get(key)


def _run_or_meta(key: str) -> Value:
    return lambda entry: entry.meta.get(key) if entry.info.get(key) is None else entry.info[key]


def _versions(entry: Entry) -> dict[str, str]:
    versions = dict(entry.info.get("versions") or {})
    if entry.result and entry.result.mteb_version:
        versions.setdefault("mteb", entry.result.mteb_version)
    given = {str(name): str(version) for name, version in versions.items()}
    return {name: given[name] for name in sorted(given) if is_text(name + given[name])}


def _mean(scores: np.ndarray | None) -> float | None:
    return None if scores is None else round(float(scores.mean()), 5)


def _in_pool(metric: str) -> Value:
    return lambda entry: round(entry.pool[metric].pool, 5) if metric in entry.pool else None


def _pool_end(side: str) -> Value:
    def end(entry: Entry) -> float | None:
        found = getattr(entry.pool["ndcg_at_10"].interval, side) if entry.pool else None
        return None if found is None else round(found, 5)

    return end


def _pool_interval(row: Row) -> str:
    return Interval(0.0, row["pool_ndcg_at_10_ci_low"], row["pool_ndcg_at_10_ci_high"]).ends()


def _of_corrected(of: Callable[[Corrected], float | None]) -> Value:
    def value(entry: Entry) -> float | None:
        found = of(entry.corrected) if entry.corrected and not entry.corrected.why else None
        return None if found is None else round(found, 5)

    return value


def _corrected_interval(row: Row) -> str:
    return Interval(0.0, row["corrected_ndcg_at_10_ci_low"], row["corrected_ndcg_at_10_ci_high"]).ends()


def _in_the_pool(heading: str, text: Text) -> Cell:
    return Cell("scores", heading, text, optional="pool")


def _as_judged(heading: str, text: Text) -> Cell:
    return Cell("scores", heading, text, optional="judgments")


def _fact(
    key: str, types: tuple[str, ...], meaning: str, of: Callable[[str], Value], heading: str, text: Text | None = None
) -> Column:
    """Return a column of the "run" table; without `text` it shows words, aligned to the left."""
    return Column(key, types, meaning, of(key), Cell("run", heading, text or words(key), left=text is None))


def _score(key: str) -> Column:
    def of_ranks(ranks: RunRanks) -> float | None:
        return float(ranks.scores(key).mean()) if ranks.knows(key) else None

    cell = Cell("scores", METRICS[key].heading, number(key), place=PLACES.get(key, LAST))
    return Column(key, *SCORE, lambda entry: entry.score(key, of_ranks), cell)


KNOWN = {True: "yes", False: "no", None: "unknown"}
SCORE = Field(NUMBER, "mean over queries, 0 to 1")
# Which model; then come the scores, then the facts.
WHO = [
    Column(
        "rank",
        INTEGER,
        "the first rank that it may have: 1 + number of models better by a paired test; null without a run record",
        lambda entry: entry.ranked and entry.ranked.first,
        Cell("who", "rank", _rank),
    ),
    Column(
        "rank_last",
        INTEGER,
        "the last: number of models with ranks, without those worse by a paired test",
        lambda entry: entry.ranked and entry.ranked.last,
    ),
    Column(
        "name",
        ("string",),
        "the model with its options, and with what else tells it from other rows",
        lambda entry: entry.name or entry.key.name,
        Cell("who", "model", words("name"), left=True),
    ),
    Column("model", ("string",), "model name", lambda entry: entry.key.model),
    Column(
        "revision",
        ("string",),
        "model revision; empty if there is none",
        lambda entry: entry.key.revision,
        Cell("run", "revision", words("revision", 12), left=True),
    ),
    Column("options", ("object",), "what the model was loaded with, option -> text", lambda e: dict(e.key.options)),
]
FACTS = [
    Column(
        "ndcg_at_10_ci_low",
        NUMBER,
        "95 % interval over images; null if they are too few",
        _end("low"),
        Cell("scores", "95 % interval", _interval, place=INTERVAL_PLACE),
    ),
    Column("ndcg_at_10_ci_high", NUMBER, "its upper end", _end("high")),
    Column("ndcg_at_10_ci_images", INTEGER, "the images that it is over; null if that is not known", _images),
    Column(
        "median_rank",
        NUMBER,
        "of the relevant images",
        lambda entry: entry.score("median_rank", lambda ranks: ranks.median_rank),
        Cell("scores", "median rank", number("median_rank", "g"), place=5),
    ),
    Column(
        "better_than_chance",
        ("boolean", "null"),
        "whether test and interval show it to be better than a random ranking; null without a run record",
        lambda entry: entry.better_than_chance,
    ),
    Column(
        "tied_queries",
        INTEGER,
        "queries whose relevant image shares its score with others; null if not known",
        lambda entry: entry.ranks and entry.ranks.tied_queries,
    ),
    Column(
        "ndcg_at_10_if_first",
        NUMBER,
        "nDCG@10 if relevant images ranked first among their equals, not last; null if not known",
        lambda entry: (
            entry.ranks and entry.ranks.knows("ndcg_at_10") and _mean(entry.ranks.scores_if_first("ndcg_at_10"))
        ),
    ),
    Column(
        "texts_cut",
        INTEGER,
        "captions that the model read without their end; null if not known",
        lambda entry: _of_encoder(entry, "texts_cut"),
    ),
    Column(
        "context_tokens",
        INTEGER,
        "the tokens of a text that the model reads; null if not known",
        lambda entry: _of_encoder(entry, "context_tokens"),
    ),
    Column(
        "pool_ndcg_at_10",
        NUMBER,
        "nDCG@10 in the whole pool that the corpus was drawn from, estimated; null if it was not drawn from one",
        _in_pool("ndcg_at_10"),
        _in_the_pool("nDCG@10 in the pool", number("pool_ndcg_at_10")),
    ),
    Column(
        "pool_ndcg_at_10_ci_low",
        NUMBER,
        "its 95 % interval over images and over what was sampled; null if there are too few images",
        _pool_end("low"),
        _in_the_pool("its interval", _pool_interval),
    ),
    Column("pool_ndcg_at_10_ci_high", NUMBER, "its upper end", _pool_end("high")),
    Column(
        "pool_recall_at_1",
        NUMBER,
        "R@1 in the pool, estimated",
        _in_pool("recall_at_1"),
        _in_the_pool("R@1 in the pool", number("pool_recall_at_1")),
    ),
    Column(
        "pool_mean_rank",
        NUMBER,
        "mean rank in the pool, an unbiased estimate",
        _in_pool("mean_rank"),
        _in_the_pool("mean rank in the pool", number("pool_mean_rank", ",.1f")),
    ),
    Column(
        "corrected_ndcg_at_10",
        NUMBER,
        "nDCG@10 without the images that people judged right, estimated; null if nothing was judged, or not enough",
        _of_corrected(lambda of: of.value),
        _as_judged("corrected nDCG@10", number("corrected_ndcg_at_10")),
    ),
    Column(
        "corrected_ndcg_at_10_ci_low",
        NUMBER,
        "its 95 % interval for further images, judged by people like these",
        _of_corrected(lambda of: of.interval and of.interval.low),
        _as_judged("corrected interval", _corrected_interval),
    ),
    Column(
        "corrected_ndcg_at_10_ci_high",
        NUMBER,
        "its upper end",
        _of_corrected(lambda of: of.interval and of.interval.high),
    ),
    Column(
        "corrected_ndcg_at_10_judging_low",
        NUMBER,
        "its 95 % interval for these images: what their judges would find in all of them",
        _of_corrected(lambda of: of.judging and of.judging.low),
    ),
    Column(
        "corrected_ndcg_at_10_judging_high",
        NUMBER,
        "its upper end",
        _of_corrected(lambda of: of.judging and of.judging.high),
    ),
    Column(
        "corrected_ndcg_at_10_partly",
        NUMBER,
        "the same if images judged partly right counted as right",
        _of_corrected(lambda of: of.partly),
        _as_judged("partly as yes", number("corrected_ndcg_at_10_partly")),
    ),
    Column(
        "corrected_units",
        INTEGER,
        "the judged captions that it rests on",
        lambda entry: entry.corrected.units if entry.corrected and not entry.corrected.why else None,
        _as_judged("judged captions", number("corrected_units", ",d")),
    ),
    Column(
        "corrected_predicted_by",
        TEXT,
        "the model, with its revision, that predicted what was not judged; null if none did",
        lambda entry: entry.corrected.predicted_by or None if entry.corrected else None,
    ),
    Column(
        "corrected_why",
        TEXT,
        "why there is no corrected score though there are judgments of the set; null if there is one",
        lambda entry: entry.corrected.why or None if entry.corrected else None,
    ),
    Column(
        "miner_family",
        TEXT,
        "the miner whose family the model is of, which chose images of the corpus; null if there is none",
        lambda entry: entry.miner_family,
        Cell("scores", "family of miner", words("miner_family"), left=True, optional="pool"),
    ),
    _fact("n_parameters", INTEGER, "parameters of the model", _run_or_meta, "parameters", _parameters),
    _fact("embed_dim", INTEGER, "dimension of its vectors", _run_or_meta, "dimension", number("embed_dim", "d")),
    _fact("precision", TEXT, "of the computation", _key, "precision"),
    _fact("preprocess", TEXT, "how images were made ready, exact or fast", _key, "preprocess"),
    _fact("device", TEXT, "that encoded", _run, "device"),
    _fact("images_per_s", NUMBER, "images encoded per second", _run, "images/s", number("images_per_s", ",.0f")),
    Column(
        "date",
        TEXT,
        "end of the run, ISO 8601 or as mteb writes it",
        lambda entry: entry.date,
        Cell("run", "date", words("date", 10)),
    ),
    Column("versions", ("object",), "package -> version", _versions),
    Column(
        "license",
        TEXT,
        "of the model, as mteb's metadata has it",
        lambda entry: entry.meta.get("license"),
        Cell("run", "license", words("license"), left=True),
    ),
    Column(
        "flickr30k_in_training",
        ("boolean", "null"),
        "whether training data is known to hold Flickr30k",
        lambda entry: holds_flickr30k((entry.info if entry.ranks else entry.meta).get("training_datasets")),
        Cell("run", "Flickr30k seen", lambda row: KNOWN[row["flickr30k_in_training"]], left=True),
    ),
    Column("imported_from", TEXT, "the file that the run was imported from; null if made here", _imported("file")),
    Column("depth", INTEGER, "the rank at which an imported run is cut off; null if it is not", _imported("depth")),
    Column(
        "missing_queries", INTEGER, "queries that an imported run lacks, which score 0", _imported("missing_queries")
    ),
    Column(
        "has_run_record", ("boolean",), "whether ranks by query were at hand", lambda entry: entry.ranks is not None
    ),
]


def row_columns() -> dict[str, Column]:
    """Return the columns of a row by key, in the order in which files have them."""
    return {column.key: column for column in (*WHO, *map(_score, scored()), *FACTS)}


def cells_of(*tables: str, one_relevant: bool | None = None, rows: Sequence[Row] = ()) -> list[Cell]:
    """Return the cells of a row in these tables, in their order.

    Where every query is known to have one relevant image, scores that are copies of others are left out; so are those
    that are optional and that none of `rows` has.
    """
    without = {key for key, metric in METRICS.items() if metric.copy_of and one_relevant}
    columns = [column for column in row_columns().values() if column.key not in without]
    cells = [
        column.cell
        for column in columns
        if column.cell and (not column.cell.optional or any(row[column.key] is not None for row in rows))
    ]
    cells.sort(key=lambda cell: cell.place)
    return [cell for table in tables for cell in cells if cell.table == table]
