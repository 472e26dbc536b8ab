"""Chunks cut into units and put together again."""

from __future__ import annotations

import random

import pytest

from mteb_vehicle_search.search import pieces as module
from mteb_vehicle_search.search.pieces import cut, joined

CHUNKS = [range(10), range(30, 40), range(40, 43)]


@pytest.mark.parametrize(
    ("batch_size", "rows", "lengths"),
    [
        (3, 7, [6, 4, 6, 4, 3]),
        (3, 6, [6, 4, 6, 4, 3]),
        (4, 3, [4, 4, 2, 4, 4, 2, 3]),
        (5, 1000, [10, 10, 3]),
        (64, 4, [10, 10, 3]),
    ],
)
def test_pieces_have_the_batches_of_their_chunks(monkeypatch, batch_size, rows, lengths):
    monkeypatch.setattr(module, "PIECE_ROWS", rows)
    found = cut(CHUNKS, batch_size)
    assert [len(piece) for _, piece in found] == lengths
    assert [row for _, piece in found for row in piece] == [row for chunk in CHUNKS for row in chunk]
    assert all((piece.start - CHUNKS[number].start) % batch_size == 0 for number, piece in found)


@pytest.mark.parametrize("seed", range(5))
def test_a_chunk_is_given_in_order_when_its_last_piece_comes(monkeypatch, seed):
    monkeypatch.setattr(module, "PIECE_ROWS", 3)
    pieces, drawn = cut(CHUNKS, 3), []
    order = random.Random(seed).sample(range(len(pieces)), len(pieces))

    def results():
        for index in order:
            drawn.append(pieces[index][0])
            yield index, str(pieces[index][1])

    given = []
    for number, parts in joined(pieces, results()):
        assert drawn.count(number) == len(parts)
        assert drawn[-1] == number
        assert [rows for rows, _ in parts] == [rows for one, rows in pieces if one == number]
        assert [said for _, said in parts] == [str(rows) for rows, _ in parts]
        given.append(number)
    assert sorted(given) == [0, 1, 2]


def test_without_chunks_there_is_nothing():
    assert cut([], 5) == []
    assert list(joined([], [])) == []
