"""Do judges agree, and can they be relied on: by what two of them said of the same image, and by known answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import NamedTuple

import numpy as np

from mteb_vehicle_search.errors import UsageError
from mteb_vehicle_search.judgments import Judgments
from mteb_vehicle_search.judgments.judgment import FAILED, INSTALL, NO, PARTLY, RELEVANT, UNKNOWN

GRADED = (NO, PARTLY, RELEVANT)
# Below it, not even tentative conclusions are drawn (Krippendorff, "Content analysis", 2004, section 11.4.2).
LEAST_ALPHA = 0.67
MOST_FAILED = 0.10
RESAMPLES = 500


class Agreement(NamedTuple):
    """How far judges agree on images in question that several of them graded.

    Attributes:
        images: How many; "cannot tell" does not count.
        alpha: Krippendorff's, for ordered grades; None where it has no meaning, as where all grades are the same.
        low, high: Its 95 % interval over captions (bootstrap); None without alpha.
        ac2: Gwet's, for ordered grades: does not fall where one grade is rare; None without images.
    """

    images: int
    alpha: float | None
    low: float | None
    high: float | None
    ac2: float | None

    @property
    def warning(self) -> str:
        """Why the judges cannot be relied on; "" if nothing speaks against it."""
        if self.alpha is None or self.alpha >= LEAST_ALPHA:
            return ""
        return (
            f"judges agree too little: alpha {self.alpha:.2f}, below {LEAST_ALPHA}; read the guide together, and judge "
            "again where you differ"
        )


class JudgeFigures(NamedTuple):
    """What a judge did.

    Attributes:
        decisions: Judgments.
        seconds: Median for an image.
        unknown: How many say "cannot tell".
        known, known_failed: Captions' own images that were shown, and how many were said to be wrong.
        random, random_failed: Random images that were shown, and how many were said to be right.
    """

    decisions: int
    seconds: float
    unknown: int
    known: int
    known_failed: int
    random: int
    random_failed: int

    @property
    def stops(self) -> str:
        """Why the judge should stop: fails known answers, more than by one slip; "" if nothing speaks against them."""
        if self.known_failed < 2 or self.known_failed <= MOST_FAILED * self.known:
            return ""
        return (
            f"{self.known_failed} of {self.known} captions' own images were said to be wrong, more than "
            f"{MOST_FAILED:.0%}: read the guide again"
        )


def judge_figures(judgments: Judgments) -> dict[str, JudgeFigures]:
    """Return what each judge did, by name."""
    by_judge: dict[str, list] = {}
    for one in judgments.lines:
        by_judge.setdefault(one.judge, []).append(one)
    found = {}
    for judge, lines in sorted(by_judge.items()):
        known, drawn = ([one.grade for one in lines if one.check == check] for check in ("known", "random"))
        found[judge] = JudgeFigures(
            decisions=len(lines),
            seconds=float(median(one.seconds for one in lines)),
            unknown=sum(one.grade == UNKNOWN for one in lines),
            known=len(known),
            known_failed=known.count(FAILED["known"]),
            random=len(drawn),
            random_failed=drawn.count(FAILED["random"]),
        )
    return found


def agreement(judgments: Judgments, *, resamples: int = RESAMPLES, seed: int = 0) -> Agreement:
    """Return how far the judges agree.

    Raises:
        UsageError: Two judged the same images, and krippendorff is not installed.
    """
    asked = {one.pair for one in judgments.lines if not one.check}
    graded = {pair: _graded(judgments.grades[pair]) for pair in sorted(asked)}
    common = {pair: grades for pair, grades in graded.items() if len(grades) > 1}
    if not common:
        return Agreement(0, None, None, None, None)
    counts = np.array([[list(grades.values()).count(grade) for grade in GRADED] for grades in common.values()])
    alpha = _alpha(counts)
    if alpha is None:
        return Agreement(len(counts), None, None, None, _ac2(counts))
    captions = np.unique([query for query, _ in common], return_inverse=True)[1]
    generator, many = np.random.default_rng(seed), int(captions.max()) + 1
    tried = []
    for _ in range(resamples):
        times = np.bincount(generator.integers(0, many, many), minlength=many)[captions]
        tried.append(_alpha(np.repeat(counts, times, axis=0)))
    # A resample in which all grades are the same has judges who agree.
    low, high = np.quantile([1.0 if one is None else one for one in tried], [0.025, 0.975]).tolist()
    return Agreement(len(counts), alpha, low, high, _ac2(counts))


def _graded(grades: Mapping[str, int]) -> dict[str, int]:
    return {judge: grade for judge, grade in grades.items() if grade != UNKNOWN}


def _alpha(counts: np.ndarray) -> float | None:
    """Return Krippendorff's alpha of how many gave each grade to each image, [images, grades]."""
    if (counts.sum(axis=0) > 0).sum() < 2:
        return None
    try:
        import krippendorff
    except ImportError as error:
        raise UsageError(
            "How far judges agree is computed by krippendorff, which is not installed.", INSTALL
        ) from error
    return float(krippendorff.alpha(value_counts=counts, value_domain=list(GRADED), level_of_measurement="ordinal"))


def _ac2(counts: np.ndarray) -> float:
    """Return Gwet's AC2 with ordinal weights ("Handbook of inter-rater reliability", 4th edition, 2014)."""
    grades = counts.shape[1]
    apart = np.abs(np.arange(grades)[:, None] - np.arange(grades)[None, :])
    weights = 1 - apart * (apart + 1) / (grades * (grades - 1))
    raters = counts.sum(axis=1)
    agreed = (counts * (counts @ weights - 1)).sum(axis=1) / (raters * (raters - 1))
    share = (counts / raters[:, None]).mean(axis=0)
    by_chance = weights.sum() / (grades * (grades - 1)) * float((share * (1 - share)).sum())
    return float((agreed.mean() - by_chance) / (1 - by_chance))


def warnings_of(found: Agreement, judges: Mapping[str, JudgeFigures]) -> Sequence[str]:
    """Return a sentence for all that speaks against the judges."""
    said: Iterable[tuple[str, str]] = [("", found.warning), *((f"{name}: ", one.stops) for name, one in judges.items())]
    return [f"{who}{why}." for who, why in said if why]
