"""Worlds with planted false negatives, four models and two judges who err; and samples of them, judged.

A `People` is so many images that a world is a random part of it: what all its judgments give is known. Two of the
models are equally good. A wrong image is right with a chance of its captioned image, so that captions of an image are
alike, and right ones look right to every model.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mteb_vehicle_search.analysis.judged_intervals import Sampled, difference_intervals, score_intervals
from mteb_vehicle_search.analysis.judged_sample import Frame
from mteb_vehicle_search.analysis.uncertainty import Interval
from mteb_vehicle_search.metrics import METRICS

CAPTIONS, RIVALS, TOP = 5, 40, 10
QUALITIES = (3.0, 2.2, 2.2, 1.2)
EQUAL = (1, 2)
# How often a wrong image has to be right for so many of those in question to be.
CHANCES = {0.02: 0.007, 0.10: 0.039, 0.30: 0.137}


class People(NamedTuple):
    """So many images, n, with their captions, m models, and two judges.

    Attributes:
        raw, best: float64 [m, n, CAPTIONS], the score by the labels, and if all images in question were right.
        judged: float64 [2, m, n, CAPTIONS], by each judge.
        truth: float64 [m, n, CAPTIONS], as planted.
        unit: bool [n, CAPTIONS], whether anything is in question.
        stratum: int64 [n, CAPTIONS], of a unit.
        share: Of the images in question, how many are planted right.
    """

    raw: np.ndarray
    best: np.ndarray
    judged: np.ndarray
    truth: np.ndarray
    unit: np.ndarray
    stratum: np.ndarray
    share: float


def people(generator: np.random.Generator, images: int, share: float, *, errors: float = 0.05) -> People:
    """Return so many images; `share` is one of CHANCES, `errors` how often a judge says the contrary."""
    parts = [_part(generator, min(1_000, images - start), share, errors) for start in range(0, images, 1_000)]
    joined = [np.concatenate(found, axis=-2) for found in zip(*(part[:6] for part in parts))]
    weights = [part.unit.sum() for part in parts]
    return People(*joined, float(np.average([part.share for part in parts], weights=weights)))


class Scene(NamedTuple):
    """What is found for so many images, n, by m models; RIVALS wrong images of each caption.

    Attributes:
        right: bool [n, CAPTIONS, RIVALS], whether a wrong image is right.
        looks: float64 of the same shape, how right it looks to every model.
        said: bool [2, ...], what each judge says.
        scores: float64 [m, ...], of each model.
        above: bool [m, ...], which are in question: above the captioned image, within the ten best.
        ranks: int64 [m, n, CAPTIONS], of the captioned image.
    """

    right: np.ndarray
    looks: np.ndarray
    said: np.ndarray
    scores: np.ndarray
    above: np.ndarray
    ranks: np.ndarray


def scene(generator: np.random.Generator, n: int, share: float, errors: float) -> Scene:
    """Return so many images; `share` is one of CHANCES, `errors` how often a judge says the contrary."""
    shape = (n, CAPTIONS, RIVALS)
    chance = generator.beta(0.5, 0.5 / CHANCES[share] - 0.5, n)
    right = generator.random(shape) < chance[:, None, None]
    looks = generator.normal(0, 1.0, shape) + 1.5 * right
    said = np.array([right ^ (generator.random(shape) < errors) for _ in range(2)])
    ease = generator.normal(0, 1.0, n)[:, None] + generator.normal(0, 0.7, (n, CAPTIONS))
    scores, in_question, ranks = [], [], []
    for quality in QUALITIES:
        score = looks + generator.normal(0, 0.7, shape)
        above = score > (quality + ease + generator.normal(0, 0.5, (n, CAPTIONS)))[..., None]
        above &= score >= -np.partition(-score, TOP - 1, axis=-1)[..., TOP - 1 : TOP]
        total = above.sum(axis=-1)
        ranks.append(np.where(total == TOP, TOP + 1 + generator.geometric(0.1, total.shape), total + 1))
        scores.append(score)
        in_question.append(above)
    return Scene(right, looks, said, np.array(scores), np.array(in_question), np.array(ranks))


def corrected_scores(of: Scene, right: np.ndarray) -> np.ndarray:
    """Return nDCG@10 of each model and caption, float64 [m, n, CAPTIONS], without the images that are right."""
    ranks = of.ranks - (of.above & right).sum(axis=-1)
    return METRICS["ndcg_at_10"].of_rank(ranks.astype(np.float64))


def _part(generator: np.random.Generator, n: int, share: float, errors: float) -> People:
    of = scene(generator, n, share, errors)
    nothing, everything = np.zeros(of.right.shape, dtype=bool), np.ones(of.right.shape, dtype=bool)
    low, unit = of.ranks.min(axis=0), of.ranks.max(axis=0) > 1
    first = [
        np.where(rank > 1, score.argmax(axis=-1), -1 - m) for m, (rank, score) in enumerate(zip(of.ranks, of.scores))
    ]
    pairs = [(first[a] == first[b]) for a in range(len(first)) for b in range(a)]
    stratum = 2 * np.searchsorted([1, 3, 10], low) + np.any(pairs, axis=0)
    in_question = of.above.any(axis=0)
    return People(
        raw=corrected_scores(of, nothing),
        best=corrected_scores(of, everything),
        judged=np.array([corrected_scores(of, one) for one in of.said]),
        truth=corrected_scores(of, of.right),
        unit=unit,
        stratum=stratum,
        share=float((in_question & of.right).sum() / in_question.sum()),
    )


class World(NamedTuple):
    """Some of the people, of whom some units are judged.

    Attributes:
        chosen: int64 [c], which of the people.
        frame: The units.
        asked: bool [2, j], which judge judged them.
    """

    chosen: np.ndarray
    frame: Frame
    asked: np.ndarray

    @property
    def clusters(self) -> np.ndarray:
        """int64 [q], the image of each query."""
        return np.repeat(np.arange(len(self.chosen)), CAPTIONS)

    def sampled(self, of: People, model: int, other: int | None = None, swap: np.ndarray | None = None) -> Sampled:
        """Return a model's score and what judging says of it; another's for the images of `swap`, bool [c]."""

        def values(of_models: np.ndarray) -> np.ndarray:
            own = of_models[model][self.chosen]
            if other is not None and swap is not None:
                own = np.where(swap[:, None], of_models[other][self.chosen], own)
            return own.ravel()

        raw, best, at = values(of.raw), values(of.best), self.frame.query[self.frame.judged]
        said = np.stack([values(judge)[at] for judge in of.judged]) - raw[at]
        twice = self.asked.all(axis=0)
        given = np.where(self.asked[0], said[0], said[1])
        noise = np.where(twice, (said[0] - said[1]) ** 2 / 4, np.nan)
        return Sampled(raw, best - raw, np.where(twice, said.mean(axis=0), given), noise, np.zeros(len(raw)))

    def answer(self, of: People, model: int) -> float:
        """Return what judging all of these images would give, on the mean of both judges, if both take part."""
        judges = of.judged[:, model][:, self.chosen]
        return float((judges if self.frame.judges == 2 else judges[:1]).mean())


def drawn(generator: np.random.Generator, of: People, images: int, budget: int, *, judges: int = 2) -> World:
    """Draw images, and units of them in the order of judging, until `budget` are judged; a tenth by both judges.

    Strata of turn 0 share the budget by their size times what a unit of theirs may differ by.
    """
    chosen = generator.integers(0, len(of.unit), images)
    unit, stratum = of.unit[chosen], of.stratum[chosen]
    place = np.argsort(np.where(unit, generator.random(unit.shape), 2.0), axis=1)
    captions = unit.sum(axis=1)
    cluster, turn = np.nonzero(np.arange(CAPTIONS)[None, :] < captions[:, None])
    caption = place[cluster, turn]
    frame = Frame(
        query=cluster * CAPTIONS + caption,
        cluster=cluster,
        stratum=stratum[cluster, place[cluster, 0]],
        turn=turn,
        captions=captions[cluster],
        judged=np.zeros(0, dtype=np.int64),
        judges=judges,
    )
    judged = np.sort(np.concatenate(list(_turns(generator, frame, budget))))
    twice = generator.random(len(judged)) < 0.1
    one = generator.random(len(judged)) < 0.5
    asked = np.stack([one | twice, ~one | twice]) if judges == 2 else np.stack([one | True, one & False])
    return World(chosen, frame._replace(judged=judged), asked)


def _turns(generator: np.random.Generator, frame: Frame, budget: int):
    differ = np.array([0.2, 0.2, 0.3, 0.35, 0.2, 0.2, 0.05, 0.05])
    for turn in range(CAPTIONS):
        here = np.nonzero(frame.turn == turn)[0]
        size = np.bincount(frame.stratum[here], minlength=len(differ))
        left = min(budget, len(here))
        wanted = np.minimum(np.ceil(left * size * differ / max((size * differ).sum(), 1e-9)), size).astype(int)
        if left == len(here):
            wanted = size
        for stratum, count in enumerate(wanted.tolist()):
            yield generator.permutation(here[frame.stratum[here] == stratum])[:count]
        budget -= left
        if budget <= 0:
            return


class Coverage(NamedTuple):
    """How often intervals hold the truth, by model [m], with their mean half-widths.

    Attributes:
        these: Those for the images that are there.
        further: Those for further images.
        difference: That of the best model against an average one.
        told_apart: How often two equal models are.
        half_these, half_further: Half the widths, on average.
        bias: Of all models' estimates together, in standard errors.
    """

    these: np.ndarray
    further: np.ndarray
    difference: float
    told_apart: float
    half_these: float
    half_further: float
    bias: float


def coverage(
    of: People, images: int, budget: int, worlds: int, *, seed: int, judges: int = 2, models: int = len(QUALITIES)
) -> Coverage:
    """Return what many worlds show of the intervals."""
    generator, rows, pairs = np.random.default_rng(seed), [], []
    further = (of.judged.mean(axis=0) if judges == 2 else of.judged[0]).mean(axis=(-1, -2))
    for _ in range(worlds):
        world = drawn(generator, of, images, budget, judges=judges)
        sampled = [world.sampled(of, model) for model in range(len(QUALITIES))]
        row = []
        for model in range(models):
            both, judging = score_intervals(sampled[model], world.clusters, world.frame)
            answer = world.answer(of, model)
            held = judging.low - 1e-12 <= answer <= judging.high + 1e-12
            row.append((held, both.low <= further[model] <= both.high, _half(judging), _half(both), both.mean - answer))
        rows.append(row)
        # So many images are not quite equal on average; exchanging the two at random makes models that are.
        swap = generator.random(images) < 0.5
        equal = [world.sampled(of, *pair, swap) for pair in (EQUAL, EQUAL[::-1])]
        of_pair = (sampled[:2], equal)
        (first, _), (_, p_value) = difference_intervals(of_pair, world.clusters, world.frame, resamples=500)
        pairs.append((first.low <= further[0] - further[1] <= first.high, p_value < 0.05))
    found = np.array(rows, dtype=float)
    errors = found[:, :, 4].mean(axis=1)
    bias = float(errors.mean() / (errors.std(ddof=1) / np.sqrt(worlds)))
    means = found.mean(axis=0)
    difference, told_apart = np.mean(pairs, axis=0).tolist()
    return Coverage(
        means[:, 0], means[:, 1], difference, told_apart, float(means[:, 2].mean()), float(means[:, 3].mean()), bias
    )


def _half(interval: Interval) -> float:
    return (interval.high - interval.low) / 2
