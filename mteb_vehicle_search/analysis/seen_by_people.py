"""How wrong the labels are, and what comes first, as people see it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mteb_vehicle_search.analysis.judged_intervals import LEVEL, Sampled, Unseen, score_intervals
from mteb_vehicle_search.analysis.judged_sample import Frame, design_of
from mteb_vehicle_search.analysis.judged_units import JudgedSample, Unfit
from mteb_vehicle_search.analysis.limits import worth
from mteb_vehicle_search.analysis.ranks import RunRanks
from mteb_vehicle_search.analysis.situations import Situation, Situations
from mteb_vehicle_search.analysis.uncertainty import Interval
from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.judgments import Judgments
from mteb_vehicle_search.judgments.judgment import RELEVANT


class SeenByPeople(NamedTuple):
    """What people say of the ten best images of a run.

    Attributes:
        images: Images in question that were judged: not relevant by the labels, above the known one, within the ten
            best.
        right: How many of them count as right; a half where one of two judges says so.
        share: Estimated share of all images in question of these captions that are right: the false negatives, with
            limits after Clopper and Pearson. None right of n even captions: at most about 3 / n.
        first: Share of captions whose best image is right by labels or judges (success@1, which is P@1), with its
            interval for further images.
    """

    images: int
    right: float
    share: Interval
    first: Interval


def seen_by_people(run: RunRanks, judgments: Judgments | list[JudgedSample]) -> SeenByPeople:
    """Return what people say of a run's ten best images.

    Raises:
        ResultsError: The run cannot be corrected; says why.
    """
    of_run = Situations([run], judgments).of(0)
    if isinstance(of_run, Unfit):
        raise ResultsError(f"What people see in {run.record.key.name} is not known: {of_run.why}.")
    (found,) = of_run
    counts = found.run.counts.astype(np.float64)
    right = (found.grade >= RELEVANT).sum(axis=1).astype(np.float64)
    wrong_first = (np.minimum.reduceat(run.ranks, run.first) > 1).astype(np.float64)
    first = _sampled(found, (found.grade[:, 0] >= RELEVANT).astype(np.float64), wrong_first)
    first = first._replace(raw=1 - wrong_first)
    every = _sampled(found, right, counts)
    images = int(counts[found.frame.query[found.frame.judged]].sum())
    return SeenByPeople(
        images,
        float(every.correction.sum()),
        _share(every, found.clusters, found.frame),
        score_intervals(first, found.clusters, found.frame)[0],
    )


def _sampled(found: Situation, answers: np.ndarray, most: np.ndarray) -> Sampled:
    """Return what was counted in the judged units, [a], of at most `most` [q], as a score that is 0 by the labels."""
    nothing = np.zeros(len(most))
    mean, noise = found.over_judges(answers)
    return Sampled(nothing, most, mean, noise, nothing)


def _share(every: Sampled, clusters: np.ndarray, frame: Frame) -> Interval:
    """Return the share of images that are right (Clopper and Pearson, Biometrika 26, 1934).

    They are limits for as many independent images as the estimate is worth, with a quantile of Student's t (Korn and
    Graubard, Survey Methodology 24, 1998).
    """
    from scipy.special import betaincinv, ndtri, stdtrit

    found, unseen = every.estimate(clusters, frame), Unseen.of(every, frame, design_of(frame))
    gain = float(every.gain.mean())
    if not gain:
        return Interval(0.0, 0.0, 0.0)
    share, tail = min(max(found.mean / gain, 0.0), 1.0), (1 - LEVEL) / 2
    if not unseen.share and not found.judging:
        return Interval(share, share, share)
    images = unseen.units / unseen.share if unseen.share else np.inf
    given = [np.array(value) for value in (share, found.judging / gain**2, found.seen, images)]
    n = float(worth(given[0], given[1], given[2], given[3]) * (ndtri(tail) / stdtrit(found.degrees, tail)) ** 2)
    k = share * n
    low = float(betaincinv(k, n - k + 1, tail)) if k > 0 else 0.0
    return Interval(share, low, float(betaincinv(k + 1, n - k, 1 - tail)) if n > k else 1.0)
