"""Divide queries into parts that tell where two models differ; every division treats both models alike."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mteb_vehicle_search.errors import ResultsError, VehicleSearchError

if TYPE_CHECKING:
    import numpy as np

    from mteb_vehicle_search.analysis.ranks import RunRanks
    from mteb_vehicle_search.eval_set import Query


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

    Args:
        content_id: Of the runs.
        data: Folder of the evaluation set; if None, the default ones are tried.

    Raises:
        ResultsError: `data` is another evaluation set.
    """
    from mteb_vehicle_search import settings
    from mteb_vehicle_search.eval_set import EvalSet

    if data is not None:
        evaluation = EvalSet.open(data)
        if evaluation.content_id != content_id:
            raise ResultsError(
                f"{data} has content id {evaluation.content_id[:12]}, the runs have {content_id[:12]}.",
                "Name the evaluation set that the runs were made on, or leave --data out.",
            )
        return sorted(evaluation.queries())
    for folder in (settings.evaluation_data(), settings.mini_folder()):
        try:
            evaluation = EvalSet.open(folder)
        except VehicleSearchError:
            continue
        if evaluation.content_id == content_id:
            return sorted(evaluation.queries())
    return None


def strata(a: RunRanks, b: RunRanks, queries: Sequence[Query] | None) -> dict[str, np.ndarray]:
    """Return the label of each query in each division, str [q].

    Divisions: caption length in words; caption specificity in thirds (both need the captions); rivals: wrong images in
    the top ten of both models, which are likely to fit the caption too; the source of the image that beats the
    relevant one, for the model or models that it happens to.

    Raises:
        ResultsError: The captions are not those of the runs.
    """
    import numpy as np

    first = a.first
    divisions: dict[str, np.ndarray] = {}
    if queries is not None:
        if [query.id for query in queries] != a.query_ids[first].tolist():
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
    ids = a.query_ids[first].tolist()
    rivals = [
        len((set(a.top_ids[at]) & set(b.top_ids[at])) - relevant[query]) for query, at in zip(ids, first.tolist())
    ]
    divisions["rivals in both top tens"] = _binned(np.array(rivals), (0, 2, 5), "")
    captioned = set(a.relevant_ids.tolist())
    beaten = []
    for query, at in zip(ids, first.tolist()):
        winners = {
            _source(run, run.top_ids[at][0], captioned)
            for run in (a, b)
            if run.top_ids[at] and run.top_ids[at][0] not in relevant[query]
        }
        beaten.append(" or ".join(sorted(winners)) if winners else "(none: both right)")
    divisions["beaten by"] = np.array(beaten)
    return divisions


def _source(run: RunRanks, image: str, captioned: set[str]) -> str:
    """Return the source of an image: among those that have, or have not, captions, the one that its id begins with."""
    entries = run.record.info["sources"]
    names = [name for name in sorted(entries) if bool(entries[name]["captioned"]) == (image in captioned)]
    return names[0] if len(names) == 1 else next((n for n in names if image.startswith(f"{n}/")), "unknown")


def _binned(values: np.ndarray, ends: Sequence[int], unit: str) -> np.ndarray:
    """Return labels of the bins that end with `ends`, both ends included."""
    import numpy as np

    starts = [0, *(end + 1 for end in ends)]
    names = [f"{lo}-{hi}" if lo != hi else f"{lo}" for lo, hi in zip(starts, ends)] + [f"{starts[-1]} or more"]
    labels = np.array([f"{name} {unit}".rstrip() for name in names])
    return labels[np.searchsorted(np.asarray(ends), values, side="left")]


def in_order(labels: Sequence[str]) -> list[str]:
    """Return the distinct labels, by the number that they begin with, then by name."""
    return sorted(set(labels), key=lambda label: (int((re.match(r"\d+", label) or ["0"])[0]), label))
