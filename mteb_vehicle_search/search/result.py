"""From ranks to the scores that mteb does not compute, and to the run record's table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from mteb_vehicle_search.analysis.uncertainty import clustered_interval
from mteb_vehicle_search.metrics import METRICS

if TYPE_CHECKING:
    from mteb_vehicle_search.eval_set import EvalSet
    from mteb_vehicle_search.search.exact_search import SearchOutcome


EXTRA_SCORES = (
    "median_rank",
    "beaten_only_by_distractors",
    "ndcg_at_10_ci_low",
    "ndcg_at_10_ci_high",
    "ndcg_at_10_ci_images",
)


def extra_scores(outcome: SearchOutcome, eval_set: EvalSet) -> dict[str, float]:
    """Return the scores that mteb does not compute (see `EvalSetTask.task_specific_scores`)."""
    ranks = outcome.ranking.ranks
    rows = np.array([row for _, row in outcome.pairs])
    scores = {
        "median_rank": float(np.median(ranks)),
        "beaten_only_by_distractors": float(np.mean((ranks > 1) & (_captioned_above(outcome, eval_set) == 0))),
    }
    if len({query for query, _ in outcome.pairs}) == len(outcome.pairs):
        interval = clustered_interval(METRICS["ndcg_at_10"].of_rank(ranks), rows)
        scores["ndcg_at_10_ci_images"] = float(len(np.unique(rows)))
        if interval.low is not None and interval.high is not None:
            scores["ndcg_at_10_ci_low"], scores["ndcg_at_10_ci_high"] = interval.low, interval.high
    return scores


def _captioned_above(outcome: SearchOutcome, eval_set: EvalSet) -> np.ndarray:
    """Return how many images of groups that have captions rank above each relevant image, int64 [p]."""
    groups, captioned = eval_set.groups, eval_set.provenance()["captioned"].to_pylist()
    asked_for = {group for group, has in zip(groups, captioned) if has}
    columns = [group in asked_for for group in sorted(set(groups))]
    return outcome.ranking.above[:, columns].sum(axis=1)


def tied_queries(outcome: SearchOutcome) -> int:
    """Return how many queries have a relevant image that shares its score with images that are not relevant."""
    return len({query for (query, _), tied in zip(outcome.pairs, outcome.ranking.tied.tolist()) if tied})


def queries_table(outcome: SearchOutcome, eval_set: EvalSet, top: int = 10) -> pa.Table:
    """Return the table that `RunRecord.queries` describes."""
    ids, ranking, run = eval_set.corpus_ids(), outcome.ranking, outcome.run
    kept = [[row for row in rows[:top] if row >= 0] for rows in run.rows[:, :top].tolist()]
    top_scores = run.scores[:, :top].tolist()
    columns: dict[str, pa.Array] = {
        "query_id": pa.array([outcome.query_ids[query] for query, _ in outcome.pairs]),
        "relevant_id": pa.array([ids[row] for _, row in outcome.pairs]),
        "rank": pa.array(ranking.ranks, pa.int32()),
        "score": pa.array(ranking.scores, pa.float32()),
        "tied": pa.array(ranking.tied, pa.int32()),
        "grade": pa.array(outcome.grades, pa.int32()),
    }
    for number, name in enumerate(sorted(set(eval_set.groups))):
        columns[f"above_{name}"] = pa.array(ranking.above[:, number], pa.int32())
    columns["top_ids"] = pa.array([[ids[row] for row in kept[query]] for query, _ in outcome.pairs])
    columns["top_scores"] = pa.array(
        [top_scores[query][: len(kept[query])] for query, _ in outcome.pairs], pa.list_(pa.float32())
    )
    return pa.table(columns)
