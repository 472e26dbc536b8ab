"""What the page shows, gathered from the leaderboard, the run records behind it and the evaluation set."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

from mteb_vehicle_search.analysis.arms import ARMS, is_miner
from mteb_vehicle_search.analysis.columns import Entry, Row
from mteb_vehicle_search.analysis.corpus_growth import (
    TRUSTED_FACTOR,
    GrowthPoint,
    HoldOut,
    default_sizes,
    growth,
    hold_out,
    how_known,
    searched,
)
from mteb_vehicle_search.analysis.dependence import dependence_of
from mteb_vehicle_search.analysis.population import Figure
from mteb_vehicle_search.analysis.population_table import how_sampled, kinship, sentence
from mteb_vehicle_search.analysis.ranks import RERUN, RunRanks, require_same_queries
from mteb_vehicle_search.errors import ResultsError, VehicleSearchError
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.report.suspects import first_wrong

# Beyond the searched corpus more sizes than the command prints, so that the curve has a shape.
BEYOND = (2, 5, TRUSTED_FACTOR)
FAR = (100_000, 300_000, 3_000_000)


class Growth(NamedTuple):
    """The growth curve of nDCG@10 of one model, or why there is none.

    `kinds` is how each point is known: "exact", "measured", "modelled", "too far to trust" or "estimated"; `check` is
    the hold-out check, if there is one; `warning` is why what is modelled cannot be trusted, empty if it can.
    """

    points: list[GrowthPoint]
    kinds: list[str]
    check: HoldOut | None
    why: str
    warning: str = ""


class Model(NamedTuple):
    """One run of the page: its name, that of its row of the leaderboard.

    Without a run record there is no number (in the charts and in `Rows`), no ranks and no growth curve. `pool` are its
    figures in the pool that the corpus was drawn from, if it was.
    """

    name: str
    row: Row
    number: int | None
    ranks: RunRanks | None
    growth: Growth | None
    pool: dict[str, Figure] | None = None


def models_of(entries: Sequence[Entry]) -> list[Model]:
    """Return the models of a table, in its order; those with a run record are numbered."""
    numbers = itertools.count()
    models = []
    for entry in entries:
        # An imported run that is cut off has scores, and no ranks that could be shown.
        ranks = entry.ranks if entry.ranks and entry.ranks.is_whole else None
        number, growth = (next(numbers), growth_of(ranks)) if ranks else (None, None)
        models.append(Model(entry.row["name"], entry.row, number, ranks, growth, entry.pool or None))
    return models


def pool_lines(models: Sequence[Model]) -> list[str]:
    """Return what is to be said of the pool that the corpus was drawn from, by model; nothing if it was not."""
    lines, arms = [], next((model.ranks.arms for model in models if model.ranks and model.ranks.arms), None)
    if arms is None:
        return []
    for model in models:
        if model.pool:
            lines.append(f"{model.name}: {sentence(arms, model.pool['recall_at_1'].interval)}")
        lines += kinship(model.name, is_miner(model.row["model"], arms.miners), model.row["miner_family"] or "")
    return [*lines, how_sampled(arms)]


def arm_counts(models: Sequence[Model]) -> list[tuple[str, int]]:
    """Return how many images of the corpus are of which arm; nothing if it has none."""
    arms = next((model.ranks.arms for model in models if model.ranks and model.ranks.arms), None)
    return [(arm, arms.images(arm)) for arm in ARMS if arms.images(arm)] if arms else []


class Rows(NamedTuple):
    """One row per (query, relevant image), sorted; r rows, m models. Images are numbers into `shown`.

    Attributes:
        ids: [r], query ids.
        texts: [r], captions.
        relevant: [r], the relevant image.
        ranks: [m][r], its rank.
        scores: [m][r], its score.
        captioned_above: [m][r], captioned images above it; None if a model's record cannot tell.
        tops: [m][r], the best images, at most 10.
        top_scores: [m][r], their scores.
        wrong: [m][r], the best wrong image; -1 if the top shows none.
        shown: Ids of all images that the page shows, in the order in which it shows them first.
    """

    ids: list[str]
    texts: list[str]
    relevant: list[int]
    ranks: list[list[int]]
    scores: list[list[float]]
    captioned_above: list[list[int] | None]
    tops: list[list[list[int]]]
    top_scores: list[list[list[float]]]
    wrong: list[list[int]]
    shown: list[str]


def gather(eval_set: EvalSet, runs: Sequence[RunRanks]) -> Rows:
    """Read what the runs (at least one, in the order of the page) gave for each query of the set.

    Raises:
        ResultsError: The runs answer different queries, or a run record is damaged.
    """
    first = runs[0]
    for run in runs[1:]:
        require_same_queries(first, run)
    ids, relevant_ids = first.query_ids.tolist(), first.relevant_ids.tolist()
    captions = {query.id: query.text for query in eval_set.queries()}
    tables = [_checked(run) for run in runs]
    number: dict[str, int] = {}
    for row, right in enumerate(relevant_ids):
        for image in (right, *(image for run in runs for image in run.top_ids[row])):
            number.setdefault(image, len(number))
    unknown = [name for name in ids if name not in captions] + sorted(set(number) - set(eval_set.corpus_ids()))
    if unknown:
        raise ResultsError(f"{first.record.folder.parent} names {unknown[0]!r}, which {eval_set.folder} lacks.", RERUN)
    return Rows(
        ids,
        [captions[query] for query in ids],
        [number[image] for image in relevant_ids],
        [run.ranks.tolist() for run in runs],
        [scores for scores, _ in tables],
        [_captioned_above(run) for run in runs],
        [[[number[image] for image in top] for top in run.top_ids] for run in runs],
        [top_scores for _, top_scores in tables],
        first_wrong(runs, number),
        list(number),
    )


def _checked(run: RunRanks) -> tuple[list[float], list[list[float]]]:
    """Return the scores of the relevant images and of the top ten, in the order of the run's ranks."""
    table, path = run.record.queries(), run.record.folder / "queries.parquet"
    if missing := {"score", "top_scores"} - set(table.column_names):
        raise ResultsError(f"{path} has no column {', '.join(sorted(missing))}.", RERUN)
    table = table.sort_by([("query_id", "ascending"), ("relevant_id", "ascending")])
    scores, top_scores = table["score"].to_pylist(), table["top_scores"].to_pylist()
    for query, score, top, ids in zip(run.query_ids.tolist(), scores, top_scores, run.top_ids):
        if not all(isinstance(value, float) and math.isfinite(value) for value in (score, *(top or [None]))):
            raise ResultsError(f"{path}: query {query} has a score that is not a finite number.", RERUN)
        if len(top) != len(ids):
            raise ResultsError(f"{path}: query {query} has {len(ids)} best images but {len(top)} scores.", RERUN)
    return scores, top_scores


def _captioned_above(run: RunRanks) -> list[int] | None:
    try:
        return run.captioned_above.tolist()
    except ResultsError:
        # Sources that hold both kinds: the page then leaves the split out.
        return None


def growth_of(run: RunRanks) -> Growth:
    """Return the growth curve of nDCG@10 with its check; a run that has none says why."""
    if run.arms:
        return _growth_in_a_pool(run)
    total = run.distractors
    sizes = {*default_sizes(total), *(n * total for n in BEYOND), *(n for n in FAR if n > TRUSTED_FACTOR * total)}
    try:
        points = growth(run, ("ndcg_at_10",), sorted(sizes) if total else [0])["ndcg_at_10"]
        kinds, check = [how_known(p, total) for p in points], hold_out(run) if total else None
        return Growth(points, kinds, check, "", dependence_of(run).warning if total else "")
    except VehicleSearchError as error:
        return Growth([], [], None, error.message)


def _growth_in_a_pool(run: RunRanks) -> Growth:
    try:
        points = growth(run)["ndcg_at_10"]
        return Growth(points, [how_known(point, searched(run)) for point in points], None, "")
    except VehicleSearchError as error:
        return Growth([], [], None, error.message)
