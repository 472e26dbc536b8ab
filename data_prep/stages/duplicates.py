"""Exact and near duplicates among the reduced images, and queries with the same text."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from mteb_vehicle_search.eval_set.schema import Query

BLOCK = 1 << 22  # Comparisons per block: 32 MiB of 64-bit words.


class NearPair(NamedTuple):
    """A captioned image, another image, and how many of the 64 bits of their perceptual hashes differ."""

    captioned: str
    other: str
    distance: int


def exact_groups(pixels: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Return the groups of ids with the same pixels, sorted; `pixels` are (id, digest of the pixels) of every image."""
    groups: dict[str, list[str]] = defaultdict(list)
    for identifier, digest in pixels:
        groups[digest].append(identifier)
    return sorted(sorted(ids) for ids in groups.values() if len(ids) > 1)


def hash_bits(hashes: Sequence[str]) -> np.ndarray:
    """Return perceptual hashes (16 hexadecimal digits) as uint64 [n]."""
    return np.array([int(text, 16) for text in hashes], dtype=np.uint64)


def near_pairs(captioned: Sequence[int], ids: Sequence[str], bits: np.ndarray, max_distance: int) -> list[NearPair]:
    """Return the near duplicates of the captioned images among all images, sorted by id.

    Two captioned images stand once, in the order of their ids.

    Args:
        captioned: Positions of the captioned images in `ids`.
        ids: All images.
        bits: Their perceptual hashes, uint64 [n].
        max_distance: Greatest number of differing bits.
    """
    rows = np.asarray(captioned, dtype=np.int64)
    is_captioned = np.isin(np.arange(len(ids)), rows)
    step = max(1, BLOCK // max(1, len(ids)))
    found = []
    for start in range(0, len(rows), step):
        block = rows[start : start + step]
        distance = np.bitwise_count(bits[block, None] ^ bits[None, :])
        for row, other in np.argwhere(distance <= max_distance).tolist():
            mine, its = ids[int(block[row])], ids[other]
            if mine != its and not (is_captioned[other] and its < mine):
                found.append(NearPair(mine, its, int(distance[row, other])))
    return sorted(found)


def same_text(queries: Iterable[Query]) -> list[dict[str, Any]]:
    """Return the texts that more than one query has, with the ids of these queries, sorted by text."""
    groups: dict[str, list[str]] = defaultdict(list)
    for query in queries:
        groups[query.text].append(query.id)
    return [{"text": text, "queries": sorted(ids)} for text, ids in sorted(groups.items()) if len(ids) > 1]


def twins_to_remove(pairs: Iterable[NearPair], groups: Iterable[Sequence[str]], captioned: set[str]) -> set[str]:
    """Return the uncaptioned images that duplicate a captioned one, nearly or exactly."""
    found = {pair.other for pair in pairs}
    return found.union(*(group for group in groups if captioned.intersection(group))) - captioned


def partners(groups: Iterable[Sequence[str]], pairs: Iterable[Sequence[Any]]) -> dict[str, list[str]]:
    """Return for each image in groups of `exact_groups` or pairs of `near_pairs` the ids of its duplicates, sorted."""
    found: dict[str, set[str]] = defaultdict(set)
    for ids in (*groups, *(pair[:2] for pair in pairs)):
        for identifier in ids:
            found[identifier].update(ids)
    return {identifier: sorted(ids - {identifier}) for identifier, ids in found.items()}
