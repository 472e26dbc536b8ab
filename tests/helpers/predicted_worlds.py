"""Worlds of `judged_worlds.py` whose images in question a model predicts, by runs and judgments as commands do it.

A predicting model gives a score to each image; the isotonic fit on what was judged makes chances of them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from hand_made_runs import hand_made
from judged_runs import sample_of
from judged_worlds import CAPTIONS, RIVALS, TOP, Scene, corrected_scores

from mteb_vehicle_search.analysis import corrected
from mteb_vehicle_search.analysis.judged_units import JudgedSample
from mteb_vehicle_search.analysis.ranks import RunRanks
from mteb_vehicle_search.analysis.situations import Situations
from mteb_vehicle_search.analysis.uncertainty import Interval
from mteb_vehicle_search.judging.predict import cross_fitted
from mteb_vehicle_search.judgments import Sample
from mteb_vehicle_search.judgments.predictions import Predictions
from mteb_vehicle_search.judgments.reading import Judged

# The estimates that are compared: without predictions, by a model that sees nearly what is right, by the very model
# that is scored (the first), and by one that sees nothing.
PLAIN, GOOD, OWN, USELESS = KINDS = ("none", "good", "the scored model", "useless")


def predictors(generator: np.random.Generator, of: Scene) -> dict[str, np.ndarray]:
    """Return the scores of each predicting model, float64 [n, CAPTIONS, RIVALS]."""
    noise = generator.normal(0, 1.0, (2, *of.right.shape))
    return {GOOD: 3.0 * of.right + noise[0], OWN: of.scores[0], USELESS: noise[1]}


class World(NamedTuple):
    """Some images of a scene, with the runs of all models, and what one judge said of some captions."""

    chosen: np.ndarray  # int64 [c], which images
    runs: list[RunRanks]
    sample: Sample
    judged: list[Judged]


def drawn(generator: np.random.Generator, of: Scene, images: int, units: int) -> World:
    """Draw so many images, and judge so many captions of them."""
    chosen = generator.integers(0, of.right.shape[0], images)
    runs = [_run(of, model, chosen) for model in range(len(of.ranks))]
    sample = sample_of(runs, int(generator.integers(1 << 30)))
    judged = []
    for unit in sample.units[:units]:
        said = of.said[0][chosen[int(unit.query[1:5])], int(unit.query[6:])]
        judged.append(Judged(unit, {"ada": {image: 3 if said[int(image[1:])] else 1 for image in unit.images}}))
    return World(chosen, runs, sample, judged)


def _run(of: Scene, model: int, chosen: np.ndarray) -> RunRanks:
    names = np.array([f"r{rival:02}" for rival in range(RIVALS)])
    ranks = of.ranks[model][chosen].ravel()
    tops = names[np.argsort(-of.scores[model][chosen], axis=-1)[..., :TOP].reshape(-1, TOP)].tolist()
    known = [f"known/{number:04}" for number in range(len(chosen)) for _ in range(CAPTIONS)]
    for top, rank, image in zip(tops, ranks.tolist(), known):
        if rank <= TOP:
            top.insert(rank - 1, image)
            top.pop()
    ids = [f"q{number:04}_{caption}" for number in range(len(chosen)) for caption in range(CAPTIONS)]
    return hand_made(ranks.tolist(), query_ids=ids, relevant_ids=known, top_ids=tops, model_name=f"model/{model}")


def predicted(world: World, scores: np.ndarray) -> Predictions:
    """Return what a model predicts of all images in question, by its scores, [n, CAPTIONS, RIVALS]."""
    clusters = {(unit.query, image): unit.cluster for unit in world.sample.units for image in unit.images}
    of_pair = {
        (query, image): float(scores[world.chosen[int(query[1:5])], int(query[6:]), int(image[1:])])
        for query, image in clusters
    }
    said = {
        (one.unit.query, image): float(grade == 3) for one in world.judged for image, grade in one.grades["ada"].items()
    }
    found = cross_fitted(of_pair, said, clusters)
    return Predictions("org/seer", "r1", world.sample.content_id, "", world.sample.id, len(said), found)


class Found(NamedTuple):
    """What many worlds show of an estimate's 95 % intervals, over the models.

    Attributes:
        these, further: How often they hold what the judge would find in all of these images, and in further ones.
        difference: How often that of the two best models does.
        half_these, half_further, half_difference: Half their widths, on average.
        bias: The mean error of the first model's score, in standard errors.
    """

    these: float
    further: float
    difference: float
    half_these: float
    half_further: float
    half_difference: float
    bias: float


def coverage(of: Scene, images: int, units: int, worlds: int, *, seed: int) -> dict[str, Found]:
    """Return what worlds show of the estimates of `KINDS`."""
    generator = np.random.default_rng(seed)
    scores, answers = predictors(generator, of), corrected_scores(of, of.said[0])
    further = answers.mean(axis=(-1, -2))
    rows: dict[str, list[list[float]]] = {kind: [] for kind in KINDS}
    for _ in range(worlds):
        world = drawn(generator, of, images, units)
        these = answers[:, world.chosen].mean(axis=(-1, -2))
        grades = {(one.unit.query, image): {"ada": g} for one in world.judged for image, g in one.grades["ada"].items()}
        for kind in KINDS:
            given = None if kind == PLAIN else predicted(world, scores[kind])
            beside = Situations(world.runs, [JudgedSample(world.sample.id, world.sample, world.judged, grades, given)])
            found = corrected.corrected_scores(beside)
            difference = corrected.corrected_differences(beside, resamples=1)[0][0]
            rows[kind].append(
                [
                    np.mean([_holds(one.judging, truth) for one, truth in zip(found, these)]),
                    np.mean([_holds(one.interval, truth) for one, truth in zip(found, further)]),
                    _holds(difference, further[0] - further[1]),
                    *(np.mean([_half(one[side]) for one in found]) for side in (5, 4)),
                    _half(difference),
                    found[0].value - these[0],
                ]
            )
    return {kind: _summary(np.array(of_kind, dtype=float)) for kind, of_kind in rows.items()}


def _summary(rows: np.ndarray) -> Found:
    errors = rows[:, -1]
    bias = errors.mean() / (errors.std(ddof=1) / np.sqrt(len(errors)))
    return Found(*rows[:, :-1].mean(axis=0).tolist(), float(bias))


def _holds(interval: Interval, truth: float) -> bool:
    return interval.low - 1e-12 <= truth <= interval.high + 1e-12


def _half(interval: Interval) -> float:
    return (interval.high - interval.low) / 2
