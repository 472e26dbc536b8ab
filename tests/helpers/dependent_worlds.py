"""Worlds of vectors in which distractors depend on each other, and what `growth` makes of a tenth of each.

The score of a query with an image is the cosine of random vectors, so that the queries share their distractors. Of a
corpus a tenth of the distractors is searched; the rest, of the same kind, tell what the score is among all.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mteb_vehicle_search.analysis.dependence import Dependence, dependence_of, named_above, widened
from mteb_vehicle_search.analysis.extrapolation import extrapolate
from mteb_vehicle_search.analysis.ranks import RunRanks
from mteb_vehicle_search.analysis.uncertainty import Interval
from mteb_vehicle_search.metrics import of_growth
from mteb_vehicle_search.run_record import RunRecord

DIMENSION, FACTOR, CAPTIONS = 24, 10, 2
METRICS = ("ndcg_at_10", "recall_at_1", "recall_at_10")


class Kind(NamedTuple):
    """A kind of distractors.

    `hubs` of them score higher with every query by `strength` standard deviations of a score, graded ones by a normal
    number of `graded`; near duplicates come `group` at a time, with a cosine of about `cosine`; `topics` centres.
    """

    hubs: float = 0.0
    strength: float = 0.0
    graded: float = 0.0
    group: int = 1
    cosine: float = 1.0
    topics: int = 0


INDEPENDENT = {"independent": Kind(), "30 topics": Kind(topics=30), "graded hubs": Kind(graded=0.7)}
DEPENDENT = {
    "2 in 1,000 hubs": Kind(hubs=0.002, strength=3.0),
    "5 in 1,000 hubs": Kind(hubs=0.005, strength=2.5),
    "groups of 3, cosine 0.98": Kind(group=3, cosine=0.98),
    "groups of 5, cosine 0.99": Kind(group=5, cosine=0.99),
    "groups of 5, cosine 0.95": Kind(group=5, cosine=0.95),
    "groups of 10, cosine 0.98": Kind(group=10, cosine=0.98),
}


def searched(kind: Kind, seed: int, images: int = 1_000, distractors: int = 2_000) -> tuple[RunRanks, np.ndarray]:
    """Return the run on a tenth of a world, and the ranks among all of its distractors, int64 [q]."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(0, 1.2, (max(kind.topics, 1), DIMENSION)) * (kind.topics > 0)

    def drawn(count: int) -> np.ndarray:
        return centres[generator.integers(len(centres), size=count)] + generator.normal(size=(count, DIMENSION))

    def in_groups(count: int) -> np.ndarray:
        copies = np.repeat(drawn(-(-count // kind.group)), kind.group, axis=0)[:count]
        off = generator.normal(size=copies.shape)
        return generator.permutation(np.sqrt(kind.cosine) * copies + np.sqrt(1 - kind.cosine) * off)

    answers, which = drawn(images), np.repeat(np.arange(images), CAPTIONS)
    off = 0.8 * generator.normal(size=(images, DIMENSION))[which] + 0.6 * generator.normal(size=(len(which), DIMENSION))
    queries = _unit(answers[which] + 1.2 * generator.gamma(2, 0.5, images)[which, None] * off)
    # Groups lie wholly within the searched corpus or outside it.
    others = _unit(np.vstack([in_groups(distractors), in_groups((FACTOR - 1) * distractors)]))
    count = len(others)
    nearer = kind.strength * (generator.random(count) < kind.hubs) + kind.graded * generator.normal(size=count)
    to_others = (queries @ others.T + nearer / np.sqrt(DIMENSION)).astype(np.float32)
    to_answers = (queries @ _unit(answers).T).astype(np.float32)
    own = to_answers[np.arange(len(which)), which][:, None]
    captioned = (to_answers > own).sum(axis=1)
    above = (to_others[:, :distractors] > own).sum(axis=1)
    both = np.hstack([to_answers, to_others[:, :distractors]])
    best = np.argpartition(-both, 10, axis=1)[:, :10]
    best = np.take_along_axis(best, np.argsort(-np.take_along_axis(both, best, axis=1), axis=1), axis=1)
    ids = [f"flickr30k/{n:04d}" for n in range(images)] + [f"imagenet/{n:05d}" for n in range(distractors)]
    sources = {
        "flickr30k": {"images": images, "captioned": images},
        "imagenet": {"images": distractors, "captioned": 0},
    }
    ranks = RunRanks(
        RunRecord(Path("runs/a-world"), {"sources": sources, "corpus_size": images + distractors}),
        np.array([f"q{n:05d}" for n in range(len(which))]),
        np.array(ids)[which],
        1 + captioned + above,
        {"flickr30k": captioned, "imagenet": above},
        np.ones(len(which), dtype=np.int64),
        [[ids[n] for n in row] for row in best.tolist()],
    )
    return ranks, 1 + captioned + (to_others > own).sum(axis=1)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class Seen(NamedTuple):
    """What was predicted for ten times the searched corpus, without and with common distractors, and what is true."""

    alone: list[Interval]
    shared: list[Interval]
    truth: list[float]
    depends: Dependence

    def covered(self, of: Callable[[Seen], list[Interval]]) -> np.ndarray:
        """Say which of METRICS an interval covers, bool [metrics]."""
        return np.array([low <= true <= high for (_, low, high), true in zip(of(self), self.truth, strict=True)])


def look(kind: Kind, seed: int, **size: int) -> Seen:
    """Return what growth says of a world, and what is true."""
    ranks, among_all = searched(kind, seed, **size)
    total, captioned = ranks.distractors, ranks.captioned_above
    beyond = [FACTOR * total]
    alone = extrapolate(METRICS, captioned, ranks.distractors_above, ranks.clusters, total, beyond, resamples=30)
    shared = widened(alone, captioned, named_above(ranks), beyond, seed=seed)
    truth = [float(of_growth(metric).of_rank(among_all.astype(float)).mean()) for metric in METRICS]
    first = [[of[metric][0] for metric in METRICS] for of in (alone, shared)]
    return Seen(first[0], first[1], truth, dependence_of(ranks))
