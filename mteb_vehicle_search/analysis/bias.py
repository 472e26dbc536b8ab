"""Do miners favour models? The drop of each model's score from random to mined images, against that of unrelated ones.

D is a model's score among the captioned images and the random ones of its corpus, less that among the captioned and the
mined ones, as many of both (the larger arm is thinned, exactly: `thinning.py`). A miner picks what lies near in its own
view, which is hardest for whoever sees alike. So the bias of a miner is D less the median of D over the models that
have nothing to do with it. Intervals are by bootstrap over images, with the median within each resample.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mteb_vehicle_search.analysis.arms import Arms, family_of, is_miner
from mteb_vehicle_search.analysis.names import MODEL_HELP, shown_names
from mteb_vehicle_search.analysis.population import require_arms
from mteb_vehicle_search.analysis.ranks import RunRanks, load_ranks, require_same_queries
from mteb_vehicle_search.analysis.runs import meta_of
from mteb_vehicle_search.analysis.selection import add_selection_arguments, choose_runs
from mteb_vehicle_search.analysis.sets import title_of
from mteb_vehicle_search.analysis.thinning import thinned
from mteb_vehicle_search.analysis.uncertainty import TOO_FEW_NOTE, Interval, resampled_means, too_few
from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.metrics import growing, of_growth
from mteb_vehicle_search.terminal import console, print_columns

ALL = "all miners"
# A median of fewer models is one of them.
FEWEST_UNRELATED = 2
RESAMPLES = 2_000


class Favour(NamedTuple):
    """How a model fares with the images of one miner, or of ALL.

    `images` are so many random and mined ones each; `bias` is None if fewer than FEWEST_UNRELATED models are unrelated.
    """

    miner: str
    images: int
    random: float
    mined: float
    drop: Interval
    bias: Interval | None


class Left(NamedTuple):
    """A model's score and rank with the images left out that only this miner found."""

    miner: str
    score: float
    rank: int


class Judged(NamedTuple):
    """What miners do to a model: `own` is the miner that it is (None if it is none), `family` those of its family."""

    name: str
    model: str
    own: str | None
    family: list[str]
    score: float
    rank: int
    favours: list[Favour]
    left_out: list[Left]


def miner_bias(
    runs: Sequence[RunRanks],
    metric: str = "ndcg_at_10",
    *,
    metas: Sequence[Mapping[str, Any]] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Judged]:
    """Return what miners do to each of these runs on one set, in a metric of `metrics.growing()`, with 95 % intervals.

    `metas` are what mteb says of the models; without, only names tell of families.

    Raises:
        ResultsError: The set was not drawn from a pool, has no mined or no random images, the runs are not of the same
            queries, or a query has several relevant images.
    """
    arms = _one_set(runs)
    keys = [run.record.key for run in runs]
    kin = [family_of(key.model, meta, arms.miners) for key, meta in zip(keys, metas or [{}] * len(runs))]
    favours: list[list[Favour]] = [[] for _ in runs]
    for miner in (ALL, *sorted(arms.miners)):
        groups = [name for name, group in arms.of_arm("mined").items() if miner in (ALL, *group.mined_by)]
        unrelated = [n for n, akin in enumerate(kin) if (not akin if miner == ALL else miner not in akin)]
        for of_run, favour in zip(favours, _favours(runs, metric, miner, groups, unrelated, resamples, seed)):
            of_run.append(favour)
    whole = _scores(runs, metric, ())
    left = {miner: _scores(runs, metric, _alone(arms, miner)) for miner in sorted(arms.miners)}
    return [
        Judged(
            name,
            key.model,
            is_miner(key.model, arms.miners),
            kin[n],
            whole[n],
            _rank(whole, n),
            favours[n],
            [Left(miner, scores[n], _rank(scores, n)) for miner, scores in left.items()],
        )
        for n, (name, key) in enumerate(zip(shown_names(keys), keys))
    ]


def _one_set(runs: Sequence[RunRanks]) -> Arms:
    """Return the arms of the set of all runs, which must have one."""
    arms = require_arms(runs[0])
    for run in runs:
        require_same_queries(runs[0], run)
        if require_arms(run) != arms:
            raise ResultsError(f"{run.record.folder} tells of other arms than {runs[0].record.folder}.")
        if not run.one_relevant:
            raise ResultsError(f"{run.record.folder}: queries have several relevant images; bias is defined for one.")
    for arm in ("mined", "random"):
        if not arms.images(arm):
            raise ResultsError(f"{runs[0].record.folder}: the corpus holds no {arm} images to compare with.")
    return arms


def _favours(
    runs: Sequence[RunRanks],
    metric: str,
    miner: str,
    groups: list[str],
    unrelated: list[int],
    resamples: int,
    seed: int,
) -> list[Favour]:
    """Return how all runs fare with the mined `groups`; `unrelated` are the numbers of runs to compare with."""
    arms = require_arms(runs[0])
    random, mined = arms.of_arm("random"), {name: arms.groups[name] for name in groups}
    totals = [sum(group.images for group in of_arm.values()) for of_arm in (random, mined)]
    images, captioned = min(totals), arms.of_arm("captioned")
    among = [
        [
            thinned(metric, run.above_of(captioned), run.above_of(of_arm), total, images)
            for of_arm, total in zip((random, mined), totals)
        ]
        for run in runs
    ]
    drops = np.stack([of_random - of_mined for of_random, of_mined in among], axis=1)
    clusters = runs[0].clusters
    means = np.vstack([drops.mean(axis=0), resampled_means(drops, clusters, resamples=resamples, seed=seed)])
    usual = np.median(means[:, unrelated], axis=1) if len(unrelated) >= FEWEST_UNRELATED else None
    few = bool(too_few(len(np.unique(clusters))))
    return [
        Favour(
            miner,
            images,
            float(among[n][0].mean()),
            float(among[n][1].mean()),
            _interval(means[:, n], few),
            None if usual is None else _interval(means[:, n] - usual, few),
        )
        for n in range(len(runs))
    ]


def _interval(values: np.ndarray, few: bool) -> Interval:
    """Return the first value with the interval that its resamples, the others, give."""
    ends = (None, None) if few else [float(end) for end in np.quantile(values[1:], [0.025, 0.975])]
    return Interval(float(values[0]), *ends)


def _alone(arms: Arms, miner: str) -> list[str]:
    return [name for name, group in arms.of_arm("mined").items() if group.mined_by == (miner,)]


def _scores(runs: Sequence[RunRanks], metric: str, without: Sequence[str]) -> list[float]:
    """Return the mean score of each run in the corpus without some groups."""
    of_rank = of_growth(metric).of_rank
    return [float(of_rank((run.ranks - run.above_of(without)).astype(np.float64)).mean()) for run in runs]


def _rank(scores: Sequence[float], number: int) -> int:
    return 1 + sum(score > scores[number] for score in scores)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vehicle-search bias`."""
    parser.description = "Show how much harder mined images are than random ones, and whether a miner favours models."
    parser.add_argument("models", nargs="+", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument("--metric", default="ndcg_at_10", choices=growing())
    parser.add_argument("--seed", type=int, default=0, help="seed of the resampling (default: 0)")
    parser.add_argument("--format", choices=("table", "json"), default="table")
    add_selection_arguments(parser)


def main(args: argparse.Namespace) -> int:
    """Print what miners do to the models; return the exit code."""
    records = choose_runs(args.models, args.runs, content_id=args.content_id, task=args.task)
    runs = [load_ranks(record) for record in records]
    found = miner_bias(runs, args.metric, metas=[meta_of(record.key) for record in records], seed=args.seed)
    if args.format == "json":
        sys.stdout.write(json.dumps(as_json(runs, args.metric, found), indent=2, allow_nan=False, ensure_ascii=False))
        sys.stdout.write("\n")
        return 0
    _show(runs, args.metric, found)
    return 0


def as_json(runs: Sequence[RunRanks], metric: str, found: Sequence[Judged]) -> dict[str, Any]:
    """Return strict JSON content of what miners do to models."""
    info, arms = runs[0].record.info, require_arms(runs[0])

    def plain(interval: Interval | None) -> dict[str, Any] | None:
        return None if interval is None else interval._asdict()

    return {
        "task": info["task_name"],
        "title": title_of(info),
        "content_id": info["content_id"],
        "metric": metric,
        "miners": arms.miners,
        "models": [
            {
                **one._asdict(),
                "favours": [{**of._asdict(), "drop": plain(of.drop), "bias": plain(of.bias)} for of in one.favours],
                "left_out": [of._asdict() for of in one.left_out],
            }
            for one in found
        ],
    }


def mark(one: Judged) -> str:
    """Return how a model is related to miners, for a table."""
    if one.own:
        return f"is the miner {one.own}"
    return f"family of {' and '.join(one.family)}" if one.family else ""


def _show(runs: Sequence[RunRanks], metric: str, found: Sequence[Judged]) -> None:
    screen, title = console(), title_of(runs[0].record.info)
    names = [one.name for one in found]
    for number, favour in enumerate(found[0].favours):
        rows = [one.favours[number] for one in found]
        columns = [
            ["random", *(f"{of.random:.4f}" for of in rows)],
            ["mined", *(f"{of.mined:.4f}" for of in rows)],
            ["drop", *(f"{of.drop.mean:+.4f}" for of in rows)],
            ["95 % interval", *(of.drop.ends("+.4f", ", ") for of in rows)],
            ["bias", *("–" if of.bias is None else f"{of.bias.mean:+.4f}" for of in rows)],
            ["its interval", *("–" if of.bias is None else of.bias.ends("+.4f", ", ") for of in rows)],
            ["related", *(mark(one) for one in found)],
        ]
        head = f"{title} · {metric} · {favour.miner}: {favour.images:,} random and as many mined images"
        print_columns(screen, head, [["model", *names]], columns, {"model", "related"})
        if favour.bias is None:
            screen.print(f"No bias: fewer than {FEWEST_UNRELATED} of these models are unrelated to {favour.miner}.")
        screen.print()
    columns = [["whole corpus", *(f"{one.rank} ({one.score:.4f})" for one in found)]]
    for number, left in enumerate(found[0].left_out):
        cells = [f"{of.rank} ({of.score:.4f})" for of in (one.left_out[number] for one in found)]
        columns.append([f"without {left.miner}", *cells])
    print_columns(screen, f"Rank ({metric}) without the images of a miner", [["model", *names]], columns, {"model"})
    if found[0].favours[0].drop.low is None:
        screen.print(TOO_FEW_NOTE)
    screen.print(
        "\nDrop: the score among random images less that among mined ones. Bias: the drop less the median drop of the "
        "models that are unrelated to the miner."
    )
