"""A mean over queries of which only a sample was judged: estimated from two stages, images and their captions.

Every query has a known `base` and, if anything about it is in question, a residual that only judging tells. The mean of
both is wanted. Clusters (images) lie in strata; each has its captions in random order, its turns. Of every turn a
stratified simple random sample is judged, a later turn when the earlier one is done. The total of a turn is estimated
by its own sample as far as that was judged, the rest by earlier turns: captions of an image are exchangeable
(`_shares`). So the estimate is unbiased, and exact once all is judged.

Two variances. `judging` is for these images: the sampling of clusters, with the finite population correction (Cochran,
"Sampling techniques", 1977, chapters 5 and 10), that of captions within clusters, and that of judges. One caption of
each image tells nothing of the second part. Then it is bounded by the spread within strata, which holds it: this is to
drop the correction. `images` is for further images like these, and adds to it. Its own estimate holds the second part
once more, which is taken out; so the sum needs no bound.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# So many clusters with two judged captions tell how captions of an image differ.
FEWEST_PAIRS = 20


class Frame(NamedTuple):
    """All units of a sample, and which are judged; u units, j of them judged.

    Attributes:
        query: int64 [u], the position of its query.
        cluster: int64 [u], of its cluster, among those of all queries.
        stratum: int64 [u], of its cluster; neighbours are alike.
        turn: int64 [u].
        captions: int64 [u], units of its cluster.
        judged: int64 [j], which are judged.
        judges: How many people took part.
    """

    query: np.ndarray
    cluster: np.ndarray
    stratum: np.ndarray
    turn: np.ndarray
    captions: np.ndarray
    judged: np.ndarray
    judges: int = 1


class Design(NamedTuple):
    """What each of j judged units stands for.

    Attributes:
        expansion: float64 [j], units of its turn for each judged one.
        factor: float64 [j], captions of its image that it stands for.
        group: int64 [j], within which the sample of a turn is compared.
        open: float64 [j], share of its group that is not judged.
        strength: float64 [captions + 1], the sum of the squared factors of an image, by its number of captions.
    """

    expansion: np.ndarray
    factor: np.ndarray
    group: np.ndarray
    open: np.ndarray
    strength: np.ndarray

    @property
    def weight(self) -> np.ndarray:
        """float64 [j], the weight in the estimated total."""
        return self.expansion * self.factor


class Estimate(NamedTuple):
    """An estimated mean with its variances.

    Attributes:
        mean: Over all queries.
        images: Its variance over further images, without what follows.
        judging: Its variance over what was judged, for these images.
        seen: On how many judged units the latter rests: those that differ, if all differ by as much.
        degrees: Of Student's t.
    """

    mean: float
    images: float
    judging: float
    seen: float
    degrees: float


def _shares(done: np.ndarray) -> np.ndarray:
    """Return by how much turn t stands for turn s, [t, s]; columns add up to 1. `done` [turns] is judged of each.

    A turn stands for itself as far as it is judged. Turns before it stand for the rest as far as they are.
    """
    turns = len(done)
    shares = np.zeros((turns, turns))
    for s in range(turns):
        before = done[:s]
        shares[s, s] = done[s] if before.sum() else 1.0
        if before.sum():
            shares[:s, s] = (1 - done[s]) * before / before.sum()
    return shares


def _merged(judged: np.ndarray, of: np.ndarray, fewest: int) -> np.ndarray:
    """Return groups of neighbouring strata, [h], each with `fewest` judged units, or all of its own, or none.

    `judged` and `of` [h] count the units of a turn.
    """
    groups, current, have, total = np.zeros(len(of), dtype=np.int64), 0, 0, 0
    for stratum, (n, size) in enumerate(zip(judged.tolist(), of.tolist())):
        if have >= fewest or (total and have == total):
            current, have, total = current + 1, 0, 0
        groups[stratum], have, total = current, have + n, total + size
    if current and have < fewest and have < total:
        groups[groups == current] = current - 1
    return groups


def design_of(frame: Frame) -> Design:
    """Return what each judged unit stands for; at least one unit of turn 0 is judged."""
    strata, turns = int(frame.stratum.max()) + 1, int(frame.turn.max()) + 1
    cell = frame.turn * strata + frame.stratum
    of = np.bincount(cell, minlength=turns * strata).reshape(turns, strata)
    judged = np.bincount(cell[frame.judged], minlength=turns * strata).reshape(turns, strata)
    # A turn of which some stratum has nothing yet tells too little to stand for anything.
    usable = np.array([t == 0 or bool((judged[t][of[t] > 0] > 0).all()) for t in range(turns)])
    done = np.where(usable, judged.sum(axis=1) / of.sum(axis=1), 0.0)
    shares = _shares(done)
    turn, stratum = frame.turn[frame.judged], frame.stratum[frame.judged]
    expansion, group, still = np.zeros(len(turn)), np.zeros(len(turn), dtype=np.int64), np.zeros(len(turn))
    for t in range(turns):
        here = turn == t
        point, spread = _merged(judged[t], of[t], 1), _merged(judged[t], of[t], 2)
        expansion[here] = _ratio(of[t], judged[t], point)[stratum[here]]
        group[here] = t * strata + spread[stratum[here]]
        still[here] = 1 - 1 / _ratio(of[t], judged[t], spread)[stratum[here]]
    # By turn and number of captions: those that a unit stands for.
    factors = np.cumsum(np.hstack([np.zeros((turns, 1)), shares]), axis=1)
    factor = factors[turn, frame.captions[frame.judged]]
    return Design(expansion, factor, group, still, (factors**2).sum(axis=0))


def _ratio(of: np.ndarray, judged: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return units for each judged one, by stratum [h], of the group that each is in."""
    units, found = (np.bincount(groups, weights=counts) for counts in (of, judged))
    return (units / np.maximum(found, 1))[groups]


def estimate(
    base: np.ndarray, clusters: np.ndarray, frame: Frame, residual: np.ndarray, noise: np.ndarray | None = None
) -> Estimate:
    """Return the mean over queries of base + residual.

    Args:
        base: float64 [q].
        clusters: int64 [q], numbers of clusters, from 0.
        frame: The units, at least one of turn 0 judged.
        residual: float64 [j], of the judged units.
        noise: float64 [j], the variance of one judge's residuals about the mean of all judges', where a unit had
            several; NaN elsewhere.
    """
    design, queries = design_of(frame), len(base)
    expanded = design.weight * residual
    mean = float((base.sum() + expanded.sum()) / queries)
    deviations, counts = _deviations(expanded, design.group)
    squares = counts / np.maximum(counts - 1, 1) * deviations**2
    of_judges = _of_judges(frame, design, noise)
    within, inside = _of_captions(frame, design, residual, squares)
    of_clusters = float((design.open * squares).sum())
    images = _of_images(base, clusters, frame, design, residual, mean) - inside - of_judges
    fourths = float((deviations**4).sum())
    seen = float((deviations**2).sum()) ** 2 / fourths if fourths > 0 else 0.0
    degrees = max(len(residual) - len(np.unique(design.group)), 1)
    scale = 1 / queries**2
    return Estimate(mean, max(images, 0.0) * scale, (of_clusters + within + of_judges) * scale, seen, degrees)


def _deviations(values: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return values less the mean of their group, without rounding, and how many are in it, [j] each."""
    counts = np.maximum(np.bincount(group), 1)
    found = values - (np.bincount(group, weights=values) / counts)[group]
    return np.where(np.abs(found) < 1e-12 * max(np.abs(values).max(initial=0.0), 1e-300), 0.0, found), counts[group]


def _of_judges(frame: Frame, design: Design, noise: np.ndarray | None) -> float:
    """Return the variance of a total that comes from which judge judged a unit; 0 if there is one judge."""
    if noise is None or frame.judges < 2:
        return 0.0
    known = ~np.isnan(noise)
    if not known.any():
        return 0.0
    # Those with several judges are a random part of the judged units.
    total = float((design.weight[known] * noise[known]).sum()) * float(design.weight.sum() / design.weight[known].sum())
    return total * (1.0 - float(known.mean()))


def _of_captions(frame: Frame, design: Design, residual: np.ndarray, squares: np.ndarray) -> tuple[float, float]:
    """Return the variance of the total from which captions of an image were judged; and that from turn 0 alone.

    It is the sum over clusters of (the sum of squared factors less the number of captions) times the variance of their
    captions' residuals.
    """
    turn, cluster, captions = (of[frame.judged] for of in (frame.turn, frame.cluster, frame.captions))
    at = np.unique(cluster, return_inverse=True)[1]
    count = np.bincount(at)
    means = np.bincount(at, weights=residual) / count
    variance = np.bincount(at, weights=(residual - means[at]) ** 2) / np.maximum(count - 1, 1)
    pairs = turn == 1
    if int((count > 1).sum()) < FEWEST_PAIRS or not (count[at[pairs]] > 1).all():
        bound = float(((1 - design.open) * squares)[(turn == 0) & (captions > 1)].sum())
        return bound, bound
    several = captions[pairs].astype(np.float64)
    spread = design.expansion[pairs] * variance[at[pairs]]
    here, alone = design.strength[captions[pairs]] - several, several * (several - 1)
    return float((spread * np.maximum(here, 0.0)).sum()), float((spread * alone).sum())


def _of_images(
    base: np.ndarray, clusters: np.ndarray, frame: Frame, design: Design, residual: np.ndarray, mean: float
) -> float:
    """Return the variance of the total over further clusters, as if turn 0 told all of a cluster's residuals."""
    counts = np.bincount(clusters).astype(np.float64)
    known = np.bincount(clusters, weights=base)
    c, level = len(counts), float(base.mean())
    first = frame.turn[frame.judged] == 0
    at = frame.cluster[frame.judged][first]
    value = residual[first] * frame.captions[frame.judged][first]
    weight = design.expansion[first]
    shift, deviation = mean - level, known - level * counts
    crossed = float((weight * value * deviation[at]).sum()) - shift * float((deviation * counts).sum())
    squared = float((weight * value * (value - 2 * shift * counts[at])).sum()) + shift**2 * float((counts**2).sum())
    return c / max(c - 1, 1) * (float((deviation**2).sum()) + 2 * crossed + squared)
