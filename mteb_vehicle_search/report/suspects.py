"""Likely false negatives: wrong images that several models prefer, and captions that stand twice."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median
from typing import NamedTuple

from mteb_vehicle_search.analysis.chance import against_chance
from mteb_vehicle_search.analysis.ranks import RunRanks
from mteb_vehicle_search.metrics import of_growth

# More than anybody looks through; the most suspicious come first.
MOST = 2_000
ENOUGH = 2


class Voter(NamedTuple):
    """One run: whether it votes, what its vote weighs (its mean reciprocal rank), and in words why or why not."""

    votes: bool
    weight: float
    why: str


class Suspect(NamedTuple):
    """A wrong image (by its number) that may be as right as the relevant one.

    Attributes:
        relevant: The relevant image.
        image: The suspect.
        rows: The rows of the page in which a model prefers the suspect.
        captions: How many captions the relevant image has.
        models: How many models prefer the suspect in any of the rows.
        rank: Median rank of the relevant image where they do.
        agreement: Its share, by weight, of all votes on the captions of the relevant image, 0 to 1.
    """

    relevant: int
    image: int
    rows: list[int]
    captions: int
    models: int
    rank: float
    agreement: float


def voters(runs: Sequence[RunRanks]) -> list[Voter]:
    """Return who votes on what is suspicious: of each model the best run, if it is better than chance.

    All runs are of the same queries.
    """
    mrr = [float(of_growth("mrr").of_rank(run.ranks).mean()) for run in runs]
    names = [run.record.info["model_name"] for run in runs]
    found = []
    for number, (name, weight, tested) in enumerate(zip(names, mrr, against_chance(runs))):
        best = max((n for n, other in enumerate(names) if other == name), key=lambda n: (mrr[n], -n))
        if not tested.better:
            mean, size = runs[number].ranks.mean(), runs[number].record.info["corpus_size"]
            why = f"not told apart from chance: mean rank {mean:,.0f} of {size:,}, p = {tested.p_value:.2g}"
            found.append(Voter(False, weight, why))
        elif best != number:
            found.append(Voter(False, weight, "another run of the same model votes"))
        else:
            found.append(Voter(True, weight, f"MRR {weight:.3f}"))
    return found


def first_wrong(runs: Sequence[RunRanks], number: Mapping[str, int]) -> list[list[int]]:
    """Return by run and pair the number of the best image that is not relevant, [m][r]; -1 if the top ten shows none.

    All runs are of the same queries; `number` has all images of their top tens.
    """
    queries, relevant = runs[0].query_ids.tolist(), set(zip(runs[0].query_ids.tolist(), runs[0].relevant_ids.tolist()))
    return [
        [next((number[i] for i in top if (query, i) not in relevant), -1) for query, top in zip(queries, run.top_ids)]
        for run in runs
    ]


def agreed(
    relevant: Sequence[int], ranks: Sequence[Sequence[int]], wrong: Sequence[Sequence[int]], electorate: Sequence[Voter]
) -> list[Suspect]:
    """Return the wrong images that two voting models put first for the same caption, by agreement.

    `relevant` [r], `ranks` [m][r] and `wrong` [m][r] are those of `page_data.Rows`; `electorate` [m] says who votes. A
    vote is the best image of one model for one caption, if that is a wrong one.
    """
    total = math.fsum(voter.weight for voter in electorate if voter.votes)
    captions = Counter(relevant)
    votes: dict[tuple[int, int], dict[int, list[int]]] = {}
    for model, voter in enumerate(electorate):
        if voter.votes:
            for row, (right, rank, image) in enumerate(zip(relevant, ranks[model], wrong[model])):
                if rank > 1 and image >= 0:
                    votes.setdefault((right, image), {}).setdefault(row, []).append(model)
    found = []
    for (right, image), rows in votes.items():
        if max(map(len, rows.values())) >= ENOUGH:
            pairs = [(model, row) for row, models in rows.items() for model in models]
            weight = math.fsum(electorate[model].weight for model, _ in pairs)
            found.append(
                Suspect(
                    right,
                    image,
                    sorted(rows),
                    captions[right],
                    len({model for model, _ in pairs}),
                    median(ranks[model][row] for model, row in pairs),
                    weight / (captions[right] * total),
                )
            )
    return sorted(found, key=lambda one: (-one.agreement, one.rows[0], one.image))[:MOST]


def same_text(ids: Sequence[str], texts: Sequence[str]) -> list[list[int]]:
    """Return groups of rows of different queries whose captions are equal but for case, spaces and the full stop."""
    rows: dict[str, list[int]] = {}
    for row, text in enumerate(texts):
        rows.setdefault(" ".join(text.casefold().split()).rstrip(" ."), []).append(row)
    several = [at for at in rows.values() if len({ids[row] for row in at}) > 1]
    return sorted(several, key=lambda at: (-len(at), at[0]))
