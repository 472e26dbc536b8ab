"""Runs of which it is known which images they put above the known ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hand_made_runs import hand_made

from mteb_vehicle_search.analysis.ranks import RunRanks

CORPUS = sorted([f"flickr30k/{n:03}" for n in range(60)] + [f"imagenet/{n:03}" for n in range(100)])


def run_of(model: str, above: Mapping[str, Sequence[str]], **info: Any) -> RunRanks:
    """Return a run that ranks these images above the known one of each query, `flickr30k/<the digits after the q>`.

    Query ids are `q<image>_<caption>`; more than nine images above leave no room for the known one among the ten best.
    """
    queries = sorted(above)
    known = [f"flickr30k/{query[1:4]}" for query in queries]
    tops = []
    for query, image in zip(queries, known):
        ranked = [*above[query], image]
        fill = (one for one in CORPUS[::-1] if one not in ranked)
        tops.append([*ranked, *(next(fill) for _ in range(10))][:10])
    ranks = [len(above[query]) + 1 for query in queries]
    return hand_made(ranks, query_ids=queries, relevant_ids=known, top_ids=tops, model_name=model, **info)


def many(clusters: int = 40, captions: int = 1) -> list[RunRanks]:
    """Return two runs that put one to twelve images above the known one of each query, each its own ones."""
    found = []
    for first, model in enumerate(("org/a", "org/b")):
        above = {
            f"q{image:03}_{caption}": [
                f"imagenet/{(50 * first + image + step) % 100:03}"
                for step in range((1, 2, 5, 12)[(image + caption * first) % 4])
            ]
            for image in range(clusters)
            for caption in range(captions)
        }
        found.append(run_of(model, above))
    return found
