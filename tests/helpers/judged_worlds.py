"""Worlds with planted false negatives, four models and two judges who err; and samples of them, judged.

A `People` is so many images that a world is a random part of it: what all its judgments give is known. Two of the
models are equally good. A wrong image is right with a chance of its captioned image, so that captions of an image are
alike, and right ones look right to every model.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mteb_vehicle_search.analysis.judged_intervals import Sampled
from mteb_vehicle_search.analysis.judged_sample import Frame
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


def _part(generator: np.random.Generator, n: int, share: float, errors: float) -> People:
    shape, of_metric = (n, CAPTIONS, RIVALS), METRICS["ndcg_at_10"].of_rank
    chance = generator.beta(0.5, 0.5 / CHANCES[share] - 0.5, n)
    right = generator.random(shape) < chance[:, None, None]
    looks = generator.normal(0, 1.0, shape) + 1.5 * right
    said = [right ^ (generator.random(shape) < errors) for _ in range(2)]
    ease = generator.normal(0, 1.0, n)[:, None] + generator.normal(0, 0.7, (n, CAPTIONS))
    raw, best, truth, judged, ranks, first = [], [], [], [], [], []
    in_question = np.zeros(shape, dtype=bool)
    for quality in QUALITIES:
        score = looks + generator.normal(0, 0.7, shape)
        above = score > (quality + ease + generator.normal(0, 0.5, (n, CAPTIONS)))[..., None]
        order = np.argsort(-score, axis=-1)
        above &= score >= np.take_along_axis(score, order[..., TOP - 1 : TOP], axis=-1)
        total = above.sum(axis=-1)
        rank = np.where(total == TOP, TOP + 1 + generator.geometric(0.1, total.shape), total + 1)
        raw.append(of_metric(rank.astype(float)))
        best.append(of_metric(rank - total + 0.0))
        truth.append(of_metric(rank - (above & right).sum(axis=-1) + 0.0))
        judged.append([of_metric(rank - (above & one).sum(axis=-1) + 0.0) for one in said])
        ranks.append(rank)
        first.append(np.where(total > 0, order[..., 0], -1 - len(first)))
        in_question |= above
    low, unit = np.min(ranks, axis=0), np.max(ranks, axis=0) > 1
    pairs = [(first[a] == first[b]) for a in range(len(first)) for b in range(a)]
    stratum = 2 * np.searchsorted([1, 3, 10], low) + np.any(pairs, axis=0)
    planted = float((in_question & right).sum() / in_question.sum())
    return People(
        *(np.array(raw), np.array(best), np.array(judged).swapaxes(0, 1), np.array(truth)), unit, stratum, planted
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

    def sampled(self, of: People, model: int) -> Sampled:
        """Return a model's score and what judging says of it."""
        raw, best = (values[model][self.chosen].ravel() for values in (of.raw, of.best))
        at = self.frame.query[self.frame.judged]
        said = of.judged[:, model][:, self.chosen].reshape(2, -1)[:, at] - raw[at]
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
