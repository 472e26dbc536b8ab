"""Which images are in question: those that some run has above a known one, and what is to be gained by judging them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from mteb_vehicle_search.analysis.judged_ranks import Judgeable
from mteb_vehicle_search.analysis.ranks import RunRanks
from mteb_vehicle_search.report import suspects

# Names of strata, in the order for people: neighbours are alike.
SUSPECTED, AGREED, ALONE = "suspected", "models agree", "models differ"
RANKS = ((1, "1"), (3, "2-3"), (10, "4-10"), (math.inf, "above 10"))
STRATA = tuple(f"{kind}, best rank {name}" for kind in (SUSPECTED, AGREED, ALONE) for _, name in RANKS)


class Question(NamedTuple):
    """A caption with its images in question.

    Attributes:
        query: Its id.
        known: Ids of the images that are relevant by the labels, sorted.
        cluster: The least id of the images that captions of its cluster are about.
        images: Ids of the images in question, sorted.
        stratum: One of `STRATA`.
        gain: By how much nDCG@10 would rise if all were right, the mean over the runs.
    """

    query: str
    known: tuple[str, ...]
    cluster: str
    images: tuple[str, ...]
    stratum: str
    gain: float


def questions(runs: Sequence[RunRanks]) -> list[Question]:
    """Return the captions with images in question, sorted by id; all runs are of the same queries."""
    first = runs[0]
    relevant = _relevant(first)
    # What a correction asks of each run, whose images all have to be judged.
    of_runs = [[list(asked.in_question(query)) for query in range(len(relevant))] for asked in map(Judgeable, runs)]
    clusters = dict(zip(relevant, _cluster_names(first)))
    best = [_best_ranks(run) for run in runs]
    lost = [(1.0 - run.scores("ndcg_at_10")).tolist() for run in runs]
    suspected = _suspected(runs)
    found = []
    for number, (query, known) in enumerate(relevant.items()):
        rivals = [of_run[number] for of_run in of_runs if of_run[number]]
        if not rivals:
            continue
        images = sorted(set().union(*rivals))
        firsts = [of_run[0] for of_run in rivals]
        kind = AGREED if len(set(firsts)) < len(firsts) else ALONE
        if any((image, other) in suspected for image in known for other in images):
            kind = SUSPECTED
        rank = min(of_run[number] for of_run in best)
        stratum = f"{kind}, best rank {next(name for most, name in RANKS if rank <= most)}"
        gain = math.fsum(of_run[number] for of_run in lost) / len(runs)
        found.append(Question(query, tuple(sorted(known)), clusters[query], tuple(images), stratum, gain))
    return found


def cluster_count(run: RunRanks) -> int:
    """Return how many clusters all captions of a run make up."""
    return len(set(run.clusters.tolist()))


def _relevant(run: RunRanks) -> dict[str, set[str]]:
    """Return the relevant images of each query, by sorted queries."""
    found: dict[str, set[str]] = {}
    for query, image in zip(run.query_ids.tolist(), run.relevant_ids.tolist()):
        found.setdefault(query, set()).add(image)
    return found


def _cluster_names(run: RunRanks) -> list[str]:
    """Return of each query the least id of the images of its cluster."""
    counts = [*run.first.tolist(), len(run.query_ids)]
    labels = run.clusters.tolist()
    least: dict[object, str] = {}
    for label, start, end in zip(labels, counts, counts[1:]):
        own = min(run.relevant_ids[start:end].tolist())
        least[label] = min(least.get(label, own), own)
    return [least[label] for label in labels]


def _best_ranks(run: RunRanks) -> list[int]:
    """Return the rank of the best relevant image of each query."""
    ends = [*run.first.tolist()[1:], len(run.ranks)]
    return [int(run.ranks[start:end].min()) for start, end in zip(run.first.tolist(), ends)]


def _suspected(runs: Sequence[RunRanks]) -> set[tuple[str, str]]:
    """Return pairs of a relevant image and one that models put before it for one of its captions."""
    first = runs[0]
    names = sorted({*first.relevant_ids.tolist(), *(image for run in runs for top in run.top_ids for image in top)})
    number = {name: at for at, name in enumerate(names)}
    own, wrong = [number[image] for image in first.relevant_ids.tolist()], suspects.first_wrong(runs, number)
    agreed = suspects.agreed(own, [run.ranks.tolist() for run in runs], wrong, suspects.voters(runs))
    return {(names[one.relevant], names[one.image]) for one in agreed}
