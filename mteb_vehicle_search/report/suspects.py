"""Likely false negatives: wrong images that several models prefer, near duplicates, captions that stand twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

# More than anybody looks through; the most suspicious come first.
MOST = 2_000


class Suspect(NamedTuple):
    """An image (by its number) that may be as right as the relevant one, and the rows of the page where that matters.

    `weight` counts votes (models x queries) that put it first, or differing bits; `models` those that agree, 0 for near
    duplicates.
    """

    relevant: int
    image: int
    rows: list[int]
    weight: int
    models: int


def agreed(relevant: Sequence[int], ranks: Sequence[Sequence[int]], wrong: Sequence[Sequence[int]]) -> list[Suspect]:
    """Return the wrong images that at least two models place above the same relevant image, most votes first.

    The arguments are those of `page_data.Rows`: relevant [r], ranks [m][r], wrong [m][r], -1 where there is none.
    """
    votes: dict[tuple[int, int], dict[int, set[int]]] = {}
    for model, (of_model, best) in enumerate(zip(ranks, wrong)):
        for row, (right, rank, image) in enumerate(zip(relevant, of_model, best)):
            if rank > 1 and image >= 0:
                votes.setdefault((right, image), {}).setdefault(row, set()).add(model)
    found = [
        Suspect(right, image, sorted(rows), sum(map(len, rows.values())), len(set.union(*rows.values())))
        for (right, image), rows in votes.items()
    ]
    found = [one for one in found if one.models > 1]
    return sorted(found, key=lambda one: (-one.models, -one.weight, one.rows[0], one.image))[:MOST]


def near(
    relevant: Sequence[int], tops: Sequence[Sequence[Sequence[int]]], hashes: Sequence[int | None], bits: int
) -> list[Suspect]:
    """Return images of any top ten whose perceptual hash differs little from that of the relevant image.

    `relevant` [r] and `tops` [m][r] are those of `page_data.Rows`; `hashes` [images] have 64 bits, of which at most
    `bits` may differ, or are None if not known.
    """
    found: dict[tuple[int, int], tuple[int, list[int]]] = {}
    for row, right in enumerate(relevant):
        for image in sorted({image for top in tops for image in top[row]} - {right}):
            one, other = hashes[right], hashes[image]
            if one is not None and other is not None and (distance := (one ^ other).bit_count()) <= bits:
                found.setdefault((right, image), (distance, []))[1].append(row)
    pairs = [Suspect(right, image, rows, distance, 0) for (right, image), (distance, rows) in found.items()]
    return sorted(pairs, key=lambda one: (one.weight, -len(one.rows), one.rows[0], one.image))[:MOST]


def same_text(ids: Sequence[str], texts: Sequence[str]) -> list[list[int]]:
    """Return groups of rows of different queries whose captions are equal but for case, spaces and the full stop."""
    rows: dict[str, list[int]] = {}
    for row, text in enumerate(texts):
        rows.setdefault(" ".join(text.casefold().split()).rstrip(" ."), []).append(row)
    several = [at for at in rows.values() if len({ids[row] for row in at}) > 1]
    return sorted(several, key=lambda at: (-len(at), at[0]))
