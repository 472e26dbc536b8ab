"""Duplicates against a plain double loop."""

from __future__ import annotations

import random

from data_prep.duplicates import NearPair, exact_groups, hash_bits, near_pairs, same_text, twins_to_remove
from mteb_vehicle_search.eval_set import Query


def test_near_pairs_are_those_of_a_double_loop(monkeypatch):
    monkeypatch.setattr("data_prep.duplicates.BLOCK", 700)
    rng = random.Random(1)
    hashes = [rng.getrandbits(64) for _ in range(200)]
    for n in range(0, 200, 3):
        hashes[n] = hashes[rng.randrange(200)] ^ (1 << rng.randrange(64)) ^ (1 << rng.randrange(64))
    hashes[0] = 2**64 - 1
    hashes[7] = hashes[0]
    ids = [f"i{n:03d}" for n in range(200)]
    captioned = rng.sample(range(200), 30)
    wanted = set()
    for a in captioned:
        for b in range(200):
            distance = (hashes[a] ^ hashes[b]).bit_count()
            if a != b and distance <= 3:
                first, second = (min(a, b), max(a, b)) if b in captioned else (a, b)
                wanted.add(NearPair(ids[first], ids[second], distance))
    found = near_pairs(captioned, ids, hash_bits([f"{h:016x}" for h in hashes]), 3)
    assert wanted
    assert found == sorted(wanted)


def test_exact_groups_and_what_is_removed():
    groups = exact_groups([("c", "1"), ("a", "1"), ("b", "2"), ("d", "3"), ("e", "3")])
    assert groups == [["a", "c"], ["d", "e"]]
    pairs = [NearPair("a", "x", 1), NearPair("a", "b", 0)]
    assert twins_to_remove(pairs, groups, {"a", "b"}) == {"x", "c"}


def test_queries_with_the_same_text_are_listed():
    queries = [Query("3", "A car."), Query("1", "A car."), Query("2", "A bus.")]
    assert same_text(queries) == [{"text": "A car.", "queries": ["1", "3"]}]
