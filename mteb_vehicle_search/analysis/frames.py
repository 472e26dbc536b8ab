"""The analyses as pandas frames, for notebooks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

from mteb_vehicle_search.analysis.compare import Comparison, compare
from mteb_vehicle_search.analysis.corpus_growth import equivalence, growth
from mteb_vehicle_search.analysis.leaderboard import build_leaderboard
from mteb_vehicle_search.analysis.ranks import RunRanks, load_ranks
from mteb_vehicle_search.analysis.runs import choose_runs
from mteb_vehicle_search.analysis.strata import queries_of
from mteb_vehicle_search.analysis.uncertainty import holm
from mteb_vehicle_search.metrics import scored

if TYPE_CHECKING:
    import pandas as pd

Place = Union[str, "os.PathLike[str]"]


def leaderboard_frame(*results: Place, runs: Place | None = None, task: str | None = None) -> pd.DataFrame:
    """Return one row per task, evaluation set, model and revision, and per published figure (column `reported`).

    Args:
        results: Result files or folders; as `vehicle-search leaderboard` if there is none.
        runs: Folder of run records; the default one if None.
        task: Only this task.

    Raises:
        ResultsError: There are no usable results.
    """
    import pandas as pd

    places = [Path(place) for place in results] or None
    document = build_leaderboard(places, runs=Path(runs) if runs else None, task=task).document
    rows = [
        {"task": table["task"], "content_id": table["content_id"], **row, "reported": False}
        for table in document["tables"]
        for row in table["rows"]
    ]
    rows += [{**row, "reported": True} for row in document["reported"]]
    return pd.DataFrame(rows)


def queries_frame(
    model: Place,
    *,
    runs: Place | None = None,
    content_id: str | None = None,
    task: str | None = None,
) -> pd.DataFrame:
    """Return one row per query of a run, indexed by query id: relevant id, best rank, images above, every metric.

    Args:
        model: Model name, name@revision, or run record folder.
        runs: Folder of run records; the default one if None.
        content_id: Only runs on this evaluation set.
        task: Only runs of this task.

    Raises:
        ResultsError: There is no such run, or it is not clear which is meant.
    """
    import pandas as pd

    (run,) = _load([model], runs, content_id, task)
    frame = pd.DataFrame(
        {
            "query_id": run.query_ids,
            "relevant_id": run.relevant_ids,
            "rank": run.ranks,
            **{f"above_{name}": counts for name, counts in run.above.items()},
        }
    )
    frame = frame.sort_values(["query_id", "rank"], kind="stable").drop_duplicates("query_id").set_index("query_id")
    return frame.assign(**{metric: run.scores(metric) for metric in scored()})


def comparison_frame(
    *models: Place,
    metric: str = "ndcg_at_10",
    runs: Place | None = None,
    content_id: str | None = None,
    task: str | None = None,
) -> pd.DataFrame:
    """Return one row per pair of models: means, difference with interval, p-value, Holm's p-value, wins and losses.

    Args:
        models: Two or more, as in `queries_frame`.
        metric: To compare.
        runs: Folder of run records; the default one if None.
        content_id: Only runs on this evaluation set.
        task: Only runs of this task.

    Raises:
        ResultsError: The runs are missing or do not compare.
    """
    import pandas as pd

    loaded = _load(models, runs, content_id, task)
    found = [compare(a, b, metric) for a, b in combinations(loaded, 2)]
    frame = pd.DataFrame(
        [{"model_a": one.model_a, "model_b": one.model_b, "metric": metric, **_flat(one.paired)} for one in found]
    )
    return frame.assign(p_adjusted=holm(frame["p_value"].to_numpy()) if len(frame) else [])


def strata_frame(
    model_a: Place,
    model_b: Place,
    *,
    metric: str = "ndcg_at_10",
    data: Place | None = None,
    runs: Place | None = None,
    content_id: str | None = None,
    task: str | None = None,
) -> pd.DataFrame:
    """Return one row per part of each division of the queries, with the comparison within it.

    Args:
        model_a: As in `queries_frame`.
        model_b: Likewise.
        metric: To compare.
        data: The evaluation set, for divisions by caption; the default ones are tried if None.
        runs: Folder of run records; the default one if None.
        content_id: Only runs on this evaluation set.
        task: Only runs of this task.

    Raises:
        ResultsError: The runs are missing or do not compare.
    """
    import pandas as pd

    a, b = _load([model_a, model_b], runs, content_id, task)
    queries = queries_of(str(a.record.info["content_id"]), Path(data) if data else None)
    found: Comparison = compare(a, b, metric, queries=queries)
    return pd.DataFrame(
        [
            {
                "stratum": effect.stratum,
                "label": effect.label,
                "queries": effect.queries,
                "images": effect.images,
                **_flat(effect.paired),
                "p_adjusted": effect.p_adjusted,
            }
            for effect in found.effects
        ]
    )


def growth_frame(
    *models: Place,
    metrics: Sequence[str] = ("ndcg_at_10",),
    sizes: Sequence[int] | None = None,
    runs: Place | None = None,
    content_id: str | None = None,
    task: str | None = None,
) -> pd.DataFrame:
    """Return one row per model, metric and number of distractors: value, interval, and whether exact or modelled.

    Args:
        models: One or more, as in `queries_frame`.
        metrics: Of `metrics.growing()`.
        sizes: Numbers of distractors; a default set if None.
        runs: Folder of run records; the default one if None.
        content_id: Only runs on this evaluation set.
        task: Only runs of this task.

    Raises:
        ResultsError: The runs are missing, or a size or metric is not possible.
    """
    import pandas as pd

    rows = []
    for run in _load(models, runs, content_id, task):
        for points in growth(run, metrics, sizes).values():
            rows += [{"model": run.record.info["model_name"], **point._asdict()} for point in points]
    return pd.DataFrame(rows)


def equivalence_frame(special: Place, general: Place, *, metric: str = "ndcg_at_10") -> pd.DataFrame:
    """Return one row: how many distractors of the general run are as hard as all of the special run.

    Args:
        special: Run record folder of a run on the corpus of one domain.
        general: Run record folder of the same model on a corpus of all domains.
        metric: That must be equal.

    Raises:
        ResultsError: The runs are missing or do not have the same model and queries.
    """
    import pandas as pd

    from mteb_vehicle_search.run_record import RunRecord

    first, second = (load_ranks(RunRecord.open(folder)) for folder in (special, general))
    return pd.DataFrame([equivalence(first, second, metric)._asdict()])


def _load(models: Sequence[Place], runs: Place | None, content_id: str | None, task: str | None) -> list[RunRanks]:
    root = Path(runs) if runs else None
    return [load_ranks(run) for run in choose_runs([str(m) for m in models], root, content_id=content_id, task=task)]


def _flat(paired: Any) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for key, value in paired._asdict().items():
        if isinstance(value, tuple):
            row[key], row[f"{key}_low"], row[f"{key}_high"] = value
        else:
            row[key] = value
    return row
