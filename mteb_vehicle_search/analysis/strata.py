"""Divide queries into parts that tell where two models differ; every division treats both models alike."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mteb_vehicle_search.analysis.uncertainty import Interval, clustered_interval
from mteb_vehicle_search.analysis.vehicle_names import KINDS, vehicles
from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.eval_set.known import sets_here

if TYPE_CHECKING:
    from mteb_vehicle_search.analysis.ranks import RunRanks
    from mteb_vehicle_search.eval_set.schema import Query


def words(text: str) -> list[str]:
    """Return the lower-case words of a caption."""
    return re.findall(r"\w+", text.lower())


def specificity(captions: Sequence[str]) -> list[float]:
    """Return how unusual each caption is: the mean over its words of log(captions / captions with the word)."""
    sets = [set(words(text)) for text in captions]
    count = Counter(word for each in sets for word in each)
    return [
        math.fsum(math.log(len(sets) / count[word]) for word in sorted(each)) / len(each) if each else 0.0
        for each in sets
    ]


def queries_of(content_id: str, data: Path | None = None) -> list[Query] | None:
    """Return the captions of the evaluation set, sorted by query id; None if it is not on this computer.

    It is in the folder `data`; if None, it is looked for where sets are.

    Raises:
        ResultsError: `data` is another evaluation set.
    """
    if data is not None:
        eval_set = EvalSet.open(data)
        if eval_set.content_id != content_id:
            raise ResultsError(
                f"{data} has content id {eval_set.content_id[:12]}, the runs have {content_id[:12]}.",
                "Name the evaluation set that the runs were made on, or leave --data out.",
            )
        return sorted(eval_set.queries())
    found = (eval_set for eval_set in sets_here() if eval_set.content_id == content_id)
    return next((sorted(eval_set.queries()) for eval_set in found), None)


def strata(a: RunRanks, b: RunRanks, queries: Sequence[Query] | None) -> dict[str, np.ndarray]:
    """Return the label of each query in each division, str [q].

    Divisions: caption length in words; caption specificity in thirds (both need the captions); rivals: wrong images in
    the top ten of both models, which are likely to fit the caption too; the source of the image that beats the
    relevant one, for the model or models that it happens to.

    Raises:
        ResultsError: The captions are not those of the runs.
    """
    first = a.first
    ids = a.query_ids[first].tolist()
    divisions: dict[str, np.ndarray] = {}
    if queries is not None:
        if [query.id for query in queries] != ids:
            raise ResultsError("The captions are not those of the runs.")
        lengths = np.array([len(words(query.text)) for query in queries])
        divisions["caption length"] = _binned(lengths, (8, 12, 16), "words")
        rare = np.array(specificity([query.text for query in queries]))
        cuts = np.quantile(rare, [1 / 3, 2 / 3])
        names = np.array(["1 common words", "2 middle", "3 rare words"])
        divisions["caption specificity"] = names[np.searchsorted(cuts, rare, side="left")]
    relevant: dict[str, set[str]] = {}
    for query, image in zip(a.query_ids.tolist(), a.relevant_ids.tolist()):
        relevant.setdefault(query, set()).add(image)
    captioned = set(a.relevant_ids.tolist())
    rivals, beaten = [], []
    for query, at in zip(ids, first.tolist()):
        rivals.append(len((set(a.top_ids[at]) & set(b.top_ids[at])) - relevant[query]))
        winners = {
            _source(run, run.top_ids[at][0], captioned) if run.top_ids[at] else "(no answer)"
            for run in (a, b)
            if (run.top_ids[at] and run.top_ids[at][0] not in relevant[query]) or not (run.top_ids[at] or run.is_whole)
        }
        beaten.append(" or ".join(sorted(winners)) if winners else "(none: both right)")
    divisions["rivals in both top tens"] = _binned(np.array(rivals), (0, 2, 5), "")
    divisions["beaten by"] = np.array(beaten)
    return divisions


def _source(run: RunRanks, image: str, captioned: set[str]) -> str:
    """Return the source of an image: among those that have, or have not, captions, the one that its id begins with."""
    entries = run.record.info["sources"]
    names = [name for name in sorted(entries) if bool(entries[name]["captioned"]) == (image in captioned)]
    return names[0] if len(names) == 1 else next((n for n in names if image.startswith(f"{n}/")), "unknown")


def _binned(values: np.ndarray, ends: Sequence[int], unit: str) -> np.ndarray:
    """Return labels of the bins that end with `ends`, both ends included."""
    starts = [0, *(end + 1 for end in ends)]
    names = [f"{lo}-{hi}" if lo != hi else f"{lo}" for lo, hi in zip(starts, ends)] + [f"{starts[-1]} or more"]
    labels = np.array([f"{name} {unit}".rstrip() for name in names])
    return labels[np.searchsorted(np.asarray(ends), values, side="left")]


def in_order(labels: Sequence[str]) -> list[str]:
    """Return the distinct labels, by the number that they begin with, then by name."""
    return sorted(set(labels), key=lambda label: (int((re.match(r"\d+", label) or ["0"])[0]), label))


LENGTHS = {"up to 8 words": 8, "9 to 12 words": 12, "13 to 16 words": 16, "17 words or more": 10**9}
BY_VEHICLE, BY_LENGTH = "Vehicle named in the caption", "Caption length"


class Part(NamedTuple):
    """Some of the queries."""

    label: str  # what they have in common
    queries: int  # their number
    images: int  # the relevant images that they are about
    scores: list[Interval]  # nDCG@10 of each model with its 95 % interval, if there are enough images for one


def groups(captions: Sequence[str]) -> dict[str, dict[str, list[int]]]:
    """Return, by division and label, the positions of the captions; one may name several vehicles."""
    divisions: dict[str, dict[str, list[int]]] = {
        BY_VEHICLE: {kind: [] for kind in KINDS},
        BY_LENGTH: {label: [] for label in LENGTHS},
    }
    for at, caption in enumerate(captions):
        for kind in vehicles(caption):
            divisions[BY_VEHICLE][kind].append(at)
        count = len(words(caption))
        divisions[BY_LENGTH][next(label for label, end in LENGTHS.items() if count <= end)].append(at)
    return {title: {label: at for label, at in parts.items() if at} for title, parts in divisions.items()}


def strengths(captions: Sequence[str], runs: Sequence[RunRanks]) -> dict[str, list[Part]]:
    """Return, by division, the parts with the scores of each run; captions in the order of the runs' queries."""
    values: list[Any] = [run.scores("ndcg_at_10") for run in runs]
    clusters = runs[0].clusters

    def part(label: str, at: list[int]) -> Part:
        images = clusters[at]
        return Part(label, len(at), len(np.unique(images)), [clustered_interval(v[at], images) for v in values])

    return {title: [part(label, at) for label, at in parts.items()] for title, parts in groups(captions).items()}
