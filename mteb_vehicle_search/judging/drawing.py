"""Draw the sample that is judged: in which order, so that whatever is judged when somebody stops tells the most.

The order is decided by digests of ids: it is the same on every machine, and whatever the order of the runs.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from mteb_vehicle_search.analysis.compare import require_same_queries
from mteb_vehicle_search.analysis.ranks import RunRanks
from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.judging.questions import AGREED, ALONE, STRATA, SUSPECTED, Question, cluster_count, questions
from mteb_vehicle_search.judgments import Sample, Unit

# How many of the captions have a right image among those in question: assumed, for the allocation only.
RIGHT = {SUSPECTED: 0.4, AGREED: 0.2, ALONE: 0.08}
# Checks of each kind for each image in question.
CHECKED = 0.05
# So many clusters of every stratum come before all others: one alone tells nothing of its spread.
AT_LEAST = 2


def draw(runs: Sequence[RunRanks], corpus_ids: Sequence[str], *, seed: int = 0) -> Sample:
    """Return the sample of all captions that are in question, all of them planned.

    Args:
        runs: At least one, all on the same evaluation set, in any order.
        corpus_ids: All images of the set, sorted.
        seed: Another one gives another order.

    Raises:
        ResultsError: The runs are of different queries, or no image is in question.
    """
    runs = sorted(runs, key=lambda run: run.record.key.full_name)
    for run in runs[1:]:
        require_same_queries(runs[0], run)
    asked = questions(runs)
    if not asked:
        raise ResultsError(
            "Every run has every known image first: no image is in question.", "Name other runs, or a harder set."
        )
    units, strata = _units(asked, seed)
    ordered = _ordered(units, {question.query: question for question in asked}, strata, seed)
    keys = [run.record.key for run in runs]
    return Sample(
        keys[0].content_id,
        next((key.images_id for key in keys if key.images_id), ""),
        tuple(dict.fromkeys(key.full_name for key in keys)),
        seed,
        len(runs[0].first),
        cluster_count(runs[0]),
        strata,
        tuple(ordered),
        len(ordered),
        _checks(ordered, corpus_ids, seed),
    )


def within(sample: Sample, budget: int) -> Sample:
    """Return the sample with as many units planned as can be judged by so many decisions; at least one."""
    spent, planned = 0, 0
    for unit in sample.units:
        spent += sample.shown(unit)
        if spent > budget and planned:
            break
        planned += 1
    return replace(sample, planned=planned)


def _units(asked: Iterable[Question], seed: int) -> tuple[list[Unit], dict[str, int]]:
    """Return the units, each with its turn in its cluster, and how many clusters are in each stratum."""
    clusters: dict[str, list[Question]] = defaultdict(list)
    for question in asked:
        clusters[question.cluster].append(question)
    units, strata = [], dict.fromkeys(STRATA, 0)
    for cluster, captions in clusters.items():
        captions.sort(key=lambda one: _digest(seed, "caption", one.query))
        strata[captions[0].stratum] += 1
        for turn, one in enumerate(captions):
            of_cluster = (cluster, captions[0].stratum, len(captions), turn)
            units.append(Unit(one.query, one.known, *of_cluster, one.images))
    return units, {name: count for name, count in strata.items() if count}


def _ordered(units: Sequence[Unit], asked: dict[str, Question], strata: dict[str, int], seed: int) -> list[Unit]:
    """Return the units turn by turn, the strata of each interleaved by the rate at which they are to be judged."""
    groups: dict[tuple[int, str], list[Unit]] = defaultdict(list)
    for unit in units:
        groups[unit.turn, unit.stratum].append(unit)
    places = {}
    for (turn, stratum), group in groups.items():
        rate = _rate(group, asked)
        group.sort(key=lambda unit: _digest(seed, "cluster", unit.cluster))
        for number, unit in enumerate(group):
            moment = number - AT_LEAST if number < AT_LEAST else (number + 0.5) / rate
            places[unit.query] = (turn, moment, list(strata).index(stratum), number)
    return sorted(units, key=lambda unit: places[unit.query])


def _rate(group: Sequence[Unit], asked: dict[str, Question]) -> float:
    """Return how fast the units of a stratum are judged: Neyman's allocation with costs.

    It is size times standard deviation over the root of the cost (Cochran, "Sampling techniques", 1977, 5.5). The
    deviation is that of a gain that is had in the assumed share of the units, the cost their mean number of images.
    """
    share = RIGHT[group[0].stratum.partition(",")[0]]
    gain = math.fsum(asked[unit.query].gain for unit in group) / len(group)
    cost = sum(len(unit.images) for unit in group) / len(group)
    # More digits would tell processors apart.
    return float(f"{len(group) * gain * math.sqrt(share * (1 - share) / cost):.9g}")


def _checks(units: Sequence[Unit], corpus_ids: Sequence[str], seed: int) -> dict[str, tuple[str, ...]]:
    """Return the checks of the units that have any: evenly spread, from a random start, one of a kind for a unit."""
    checks: dict[str, list[str]] = defaultdict(list)
    for kind in ("known", "random"):
        due = _number(seed, kind, "start") / 2**64
        for unit in units:
            due += CHECKED * len(unit.images)
            if due >= 1:
                others = {*unit.images, *unit.known}
                ids = unit.known if kind == "known" else corpus_ids
                start = _number(seed, kind, unit.query) % len(ids)
                image = next((i for i in (*ids[start:], *ids[:start]) if kind == "known" or i not in others), None)
                checks[unit.query] += [image] if image is not None else []
                due -= 1
    return {query: tuple(images) for query, images in sorted(checks.items())}


def _digest(seed: int, what: str, identifier: str) -> bytes:
    return hashlib.sha256(f"{seed}/{what}/{identifier}".encode()).digest()


def _number(seed: int, what: str, identifier: str) -> int:
    return int.from_bytes(_digest(seed, what, identifier)[:8], "big")
