"""Score against corpus size: exact below the searched corpus, modelled beyond it, and corpora that are equally hard.

Distractors are the *uncaptioned* images. The other captioned images are rivals too, but they always stay: they are
part of the question, distractors are the haystack. `thinning.py` has the exact part, `extrapolation.py` the model, and
`dependence.py` what queries share in their distractors, with what cannot be seen of it. In corpora that were drawn from
a pool only random images come and go: `pool_growth.py`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mteb_vehicle_search.analysis.dependence import (
    Dependence,
    dependence_of,
    keep_common,
    named_above,
    widened,
)
from mteb_vehicle_search.analysis.extrapolation import extrapolate
from mteb_vehicle_search.analysis.names import MODEL_HELP, shown_names
from mteb_vehicle_search.analysis.pool_growth import grown, what_stays
from mteb_vehicle_search.analysis.ranks import RunRanks, load_ranks
from mteb_vehicle_search.analysis.runs import open_record
from mteb_vehicle_search.analysis.selection import add_selection_arguments, choose_runs
from mteb_vehicle_search.analysis.sets import title_of
from mteb_vehicle_search.analysis.thinning import thinned
from mteb_vehicle_search.analysis.uncertainty import (
    TOO_FEW_NOTE,
    Interval,
    clustered_interval,
    resampled_means,
    too_few,
)
from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.metrics import growing, of_growth
from mteb_vehicle_search.terminal import console, print_columns

BEYOND = (1_000_000, 10_000_000)
# Up to ten times the searched corpus, hold-out checks bear the model out; further, the interval says most.
TRUSTED_FACTOR = 10
TABLE_METRICS = ("ndcg_at_10", "mrr_at_10", "recall_at_1", "recall_at_10", "recall_at_100")


class GrowthPoint(NamedTuple):
    """The expected score among a number of distractors, with its 95 % interval (None if there are too few images).

    The corpus holds them and the images that always stay. The method is "exact" (an expectation over the searched
    images), "model" (beyond them), or "pool" (beyond them, in the pool that they were drawn from).
    """

    distractors: int
    corpus_size: int
    metric: str
    value: float
    low: float | None
    high: float | None
    method: str

    @property
    def interval(self) -> Interval:
        """The value with its ends."""
        return Interval(self.value, self.low, self.high)


def default_sizes(total: int) -> list[int]:
    """Return 0, powers of ten and three times those below `total`, `total`, and above it the farthest size that can be
    trusted and the sizes in BEYOND."""
    steps = [m * 10**e for e in range(2, 8) for m in (1, 3)]
    beyond = sorted({n for n in (TRUSTED_FACTOR * total, *BEYOND) if n > total})
    return [*sorted({0, *(n for n in steps if n < total), total}), *beyond]


def growth(
    ranks: RunRanks,
    metrics: Sequence[str] = ("ndcg_at_10",),
    sizes: Sequence[int] | None = None,
    *,
    resamples: int = 100,
    seed: int = 0,
) -> dict[str, list[GrowthPoint]]:
    """Return, for each metric, the expected score for each number of distractors, with 95 % intervals by image.

    The metrics are of `metrics.growing()`. `sizes` are `default_sizes` if None, or those of the pool. `resamples` and
    `seed` are of the model beyond the searched corpus.

    Raises:
        ResultsError: Queries have several relevant images, or a size or a metric is not possible.
    """
    if sizes is not None and any(n < 0 for n in sizes):
        raise ResultsError("A number of distractors cannot be negative.")
    if ranks.arms:
        return _in_a_pool(ranks, metrics, sizes)
    total, captioned, above = _counts(ranks)
    if sizes is None:
        sizes = default_sizes(total) if total else [0]
    kept = int(ranks.record.info["corpus_size"]) - total
    beyond = [n for n in sizes if n > total]
    modelled = {metric: [] for metric in metrics}
    if beyond:
        modelled = extrapolate(metrics, captioned, above, ranks.clusters, total, beyond, resamples=resamples, seed=seed)
        modelled = widened(modelled, captioned, named_above(ranks), beyond, seed=seed)
    curves = {metric: [] for metric in metrics}
    for metric, points in curves.items():
        for n in (n for n in sizes if n <= total):
            interval = clustered_interval(thinned(metric, captioned, above, total, n), ranks.clusters)
            points.append(GrowthPoint(n, n + kept, metric, *interval, "exact"))
        points += [GrowthPoint(n, n + kept, metric, *found, "model") for n, found in zip(beyond, modelled[metric])]
    return curves


def _in_a_pool(ranks: RunRanks, metrics: Sequence[str], sizes: Sequence[int] | None) -> dict[str, list[GrowthPoint]]:
    _require_one_relevant(ranks)
    kept = int(ranks.record.info["corpus_size"]) - searched(ranks)
    return {
        metric: [GrowthPoint(n, n + kept, metric, *interval, method) for n, interval, method in points]
        for metric, points in grown(ranks, metrics, sizes).items()
    }


def searched(ranks: RunRanks) -> int:
    """Return how many distractors the corpus of a run has; if it was drawn from a pool, only random ones count."""
    return ranks.arms.sampled if ranks.arms else ranks.distractors


class HoldOut(NamedTuple):
    """What the model predicted for the whole corpus from a share of its distractors, and the actual score there."""

    share: float
    predicted: Interval
    actual: float

    @property
    def error(self) -> float:
        """Predicted minus actual."""
        return self.predicted.mean - self.actual


def hold_out(ranks: RunRanks, metric: str = "ndcg_at_10", share: float = 0.1, *, seed: int = 0) -> HoldOut:
    """Check the extrapolation on the run itself: from a share of the distractors to all of them.

    All queries keep the same random distractors, of those that the record's top tens name; of further ones each keeps
    its own random share, which is kinder to the model. Groups of near duplicates are thinned like all others: this
    check does not see them (`dependence` does).
    """
    total, captioned, above = _counts(ranks)
    seen = max(1, round(share * total))
    kept = keep_common(named_above(ranks), seen, np.random.default_rng(seed))
    found = extrapolate([metric], captioned, kept, ranks.clusters, seen, [total], resamples=50, seed=seed)
    return HoldOut(share, found[metric][0], float(of_growth(metric).of_rank(1.0 + captioned + above).mean()))


class Equivalence(NamedTuple):
    """How many distractors of a general corpus (`equivalent`) give the score that all of a special one give.

    It and the ends of its 95 % interval are None if they are more than can be said (`high`: no upper bound); so are
    both ends if there are too few `images`. Of the general distractors so many were `searched`; the method is "exact"
    if the equivalent lies within them, else "model".
    """

    distractors: int
    score: float
    equivalent: int | None
    low: int | None
    high: int | None
    searched: int
    method: str
    images: int


def equivalence(
    special: RunRanks, general: RunRanks, metric: str = "ndcg_at_10", *, resamples: int = 2_000, seed: int = 0
) -> Equivalence:
    """Return how many random distractors of `general` give the score that `special` gives with all of its own.

    Both are runs of one model with the same queries, on the corpus of one domain and on one of all domains. The metric
    is one of `metrics.growing()`; both runs share the bootstrap resamples of images.

    Raises:
        ResultsError: The runs differ in model or in queries, a query has several relevant images, or mined images are
            among the general distractors.
    """
    if general.arms:
        raise ResultsError(f"{general.record.folder}: mined distractors are no general ones; name a run without them.")
    _require_one_relevant(special)
    special.require_whole()
    _require_one_relevant(general)
    first, second = (run.record.key for run in (special, general))
    if first.full_name != second.full_name:
        raise ResultsError(f"The runs are not of one model: {first.full_name} and {second.full_name}.")
    if not special.asks_the_same(general):
        raise ResultsError("The runs do not have the same queries and relevant images.")
    total, captioned, above = _counts(general)
    scores = of_growth(metric).of_rank(special.ranks.astype(float))
    spaced = np.geomspace(1, max(total, 1), 40).astype(int).tolist()
    sizes = sorted({0, total, *(n for n in spaced if n <= total)})
    curve = np.stack([thinned(metric, captioned, above, total, n) for n in sizes], axis=1)
    means = resampled_means(np.column_stack([scores, curve]), general.clusters, resamples=resamples, seed=seed)
    crossings = np.array([_crossing(row[0], row[1:], sizes) for row in means])
    target, line = float(scores.mean()), curve.mean(axis=0)
    # A resample that does not reach the score counts as infinitely many; quantiles by order keep that sound.
    low, high = np.quantile(crossings, [0.025, 0.975], method="nearest")
    point, method = _crossing(target, line, sizes), "exact"
    if not np.isfinite([point, high]).all():
        # The model's interval stands by itself, so the score's own interval is set against it: wider than a paired one.
        sides = clustered_interval(scores, special.clusters)
        more = [total, *(int(n) for n in np.geomspace(total, 10 * max(BEYOND), 25)[1:])]
        found = extrapolate([metric], captioned, above, general.clusters, total, more, resamples=50, seed=seed)
        modelled = np.array(found[metric], dtype=float)
        if not np.isfinite(point):
            point, method = _crossing(target, modelled[:, 0], more), "model"
        if sides.low is not None and sides.high is not None:
            if not np.isfinite(low):
                low = _crossing(sides.high, modelled[:, 1], more)
            high = _crossing(sides.low, modelled[:, 2], more)
    images = len(np.unique(special.clusters))
    if too_few(images):
        low = high = float("inf")
    whole = [round(float(n)) if np.isfinite(n) else None for n in (point, low, high)]
    return Equivalence(special.distractors, target, whole[0], whole[1], whole[2], total, method, images)


def _crossing(target: float, line: np.ndarray, sizes: list[int]) -> float:
    """Return where a falling line over sizes meets the target, interpolated in log(1 + n); infinity if it does not."""
    falling = np.minimum.accumulate(line)
    # Sums in another order differ by rounding; an equal score is one that is reached.
    if falling[-1] > target + 1e-9:
        return float("inf")
    return float(np.expm1(np.interp(-target, -falling, np.log1p(np.asarray(sizes, dtype=float)))))


def _counts(ranks: RunRanks) -> tuple[int, np.ndarray, np.ndarray]:
    """Return the number of distractors, and how many captioned images and distractors are above, int64 [q] each."""
    _require_one_relevant(ranks)
    return ranks.distractors, ranks.captioned_above, ranks.distractors_above


def _require_one_relevant(ranks: RunRanks) -> None:
    if not ranks.one_relevant:
        raise ResultsError(
            f"{ranks.record.folder}: queries have several relevant images; growth is defined for exactly one."
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vehicle-search growth`."""
    parser.description = "Show the score that models would have in smaller and in much larger corpora."
    parser.add_argument("models", nargs="+", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument("--metric", action="append", choices=growing(), help="repeatable (default: five of them)")
    parser.add_argument("--sizes", type=int, nargs="+", metavar="N", help="numbers of distractors")
    parser.add_argument(
        "--general",
        metavar="RUN",
        help="run record folder, or content id, of the same model on a corpus of all classes: "
        "says how many of its distractors are as hard as this corpus",
    )
    parser.add_argument("--format", choices=("table", "json"), default="table")
    parser.add_argument("--seed", type=int, default=0, help="seed of the resampling (default: 0)")
    add_selection_arguments(parser)


def main(args: argparse.Namespace) -> int:
    """Print the growth of each model; return the exit code."""
    records = choose_runs(args.models, args.runs, content_id=args.content_id, task=args.task)
    if args.general and len(records) != 1:
        raise ResultsError("--general compares two corpora for one model; name one MODEL.")
    metrics = args.metric or list(TABLE_METRICS)
    found, screen = [], console()
    for record, name in zip(records, shown_names([record.key for record in records])):
        ranks = load_ranks(record)
        curves = growth(ranks, metrics, args.sizes, seed=args.seed)
        checked = metrics[0]
        check = hold_out(ranks, checked, seed=args.seed) if ranks.distractors and not ranks.arms else None
        equal = None
        if args.general:
            other = load_ranks(_general_run(args.general, record.key.full_name, args.runs))
            equal = equivalence(ranks, other, checked, seed=args.seed)
        depends = None if ranks.arms else dependence_of(ranks)
        found.append({"name": name, **_as_json(ranks, curves, checked, check, equal, depends)})
        if args.format == "table":
            _show(screen, name, ranks, curves, checked, check, equal, depends)
    if args.format == "json":
        sys.stdout.write(json.dumps(found, indent=2, allow_nan=False, ensure_ascii=False) + "\n")
    return 0


def _general_run(text: str, model: str, root: Path | None):
    if (Path(text) / "run.json").is_file():
        return open_record(Path(text))
    return choose_runs([model], root, content_id=text)[0]


def _as_json(ranks, curves, checked, check, equal, depends: Dependence | None) -> dict:
    return {
        **ranks.about,
        "distractors": searched(ranks),
        "points": [point._asdict() for points in curves.values() for point in points],
        "hold_out": check
        and {"metric": checked, "share": check.share, **check.predicted._asdict(), "actual": check.actual},
        "equivalence": equal and equal._asdict(),
        "dependence": depends and {**depends._asdict(), "warning": depends.warning},
    }


def _show(screen, name, ranks, curves, checked, check, equal, depends: Dependence | None) -> None:
    info = ranks.record.info
    points = next(iter(curves.values()))
    head = [
        ["distractors", *(f"{p.distractors:,}" for p in points)],
        ["", *(how_known(p, searched(ranks)) for p in points)],
    ]
    cells = [[metric, *(f"{p.value:.4f}" for p in of_metric)] for metric, of_metric in curves.items()]
    # Five intervals side by side are more than anybody reads: one beside the leading metric.
    cells.insert(1, ["95 % interval", *(p.interval.ends() for p in points)])
    print_columns(screen, f"{title_of(info)} · {name}", head, cells, {""})
    if any(point.low is None for point in points):
        screen.print(TOO_FEW_NOTE)
    captioned = info["corpus_size"] - ranks.distractors
    if depends and depends.warning and any(p.method == "model" for p in points):
        screen.print(f"\nWhat is modelled {depends.warning}")
    stays = f"The {captioned:,} captioned images always stay; distractors are the uncaptioned ones."
    screen.print(f"\n{what_stays(ranks.arms) if ranks.arms else stays}")
    if check is not None:
        screen.print(
            f"Check: from {check.share:.0%} of the distractors the model predicts {checked} "
            f"{check.predicted.mean:.4f} [{check.predicted.ends('.3f', ', ')}] for all of them; it is "
            f"{check.actual:.4f} (error {check.error:+.4f})."
        )
    if equal is not None:
        screen.print(equivalence_sentence(equal))


def how_known(point: GrowthPoint, searched: int) -> str:
    """Return "measured", "exact", "modelled", "too far to trust" or "estimated", for a run with so many distractors."""
    if point.method == "pool":
        return "estimated"
    if point.method == "exact":
        return "measured" if point.distractors == searched else "exact"
    return "too far to trust" if point.distractors > TRUSTED_FACTOR * searched else "modelled"


def equivalence_sentence(found: Equivalence) -> str:
    """Return the equivalence in plain words."""
    if found.equivalent is None:
        return (
            f"These {found.distractors:,} distractors are harder than any number of general ones that can be said "
            f"from the {found.searched:,} searched."
        )
    bounds = [f"{n:,}" if n is not None else "more than can be said" for n in (found.low, found.high)]
    modelled = "" if found.method == "exact" else f" (modelled: {found.searched:,} were searched)"
    interval = too_few(found.images)
    interval = f"no interval: {interval}" if interval else f"95 % interval {bounds[0]} to {bounds[1]}"
    return (
        f"These {found.distractors:,} distractors of one domain are as hard as {found.equivalent:,} general ones"
        f"{modelled}, {interval}."
    )
