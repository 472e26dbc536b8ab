"""Runs in TREC's form, drawn or written down, for the sets of `small_set`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from mteb_vehicle_search.eval_set import EvalSet

# (query, image, rank, score)
Line = tuple[str, str, object, object]


def write_trec(path: Path, lines: Iterable[Line], tag: str = "run") -> Path:
    """Write lines in their order."""
    path.write_text("".join(f"{query} Q0 {image} {rank} {score} {tag}\n" for query, image, rank, score in lines))
    return path


def drawn_lines(eval_set: EvalSet, depth: int | None = None, seed: int = 0, levels: int = 1_000_000) -> list[Line]:
    """Return the best `depth` images of each query by drawn scores of so many levels, in the order of their scores.

    Few levels give many ties; the relevant image is then last among its equals.
    """
    generator, ids = np.random.default_rng(seed), eval_set.corpus_ids()
    relevant = {(one.query_id, one.corpus_id) for one in eval_set.qrels()}
    lines: list[Line] = []
    for query in eval_set.queries():
        scores = generator.integers(0, levels, len(ids)) / levels
        order = sorted(range(len(ids)), key=lambda at: (-scores[at], (query.id, ids[at]) in relevant, at))
        lines += [(query.id, ids[at], rank, scores[at]) for rank, at in enumerate(order[:depth], 1)]
    return lines


def ranks_of(eval_set: EvalSet, lines: Sequence[Line]) -> dict[tuple[str, str], int]:
    """Return the place of each relevant image in the lists as they stand; only of those that are listed."""
    place: dict[str, int] = {}
    relevant = {(one.query_id, one.corpus_id) for one in eval_set.qrels()}
    found = {}
    for query, image, *_ in lines:
        place[query] = place.get(query, 0) + 1
        if (query, image) in relevant:
            found[query, image] = place[query]
    return found
