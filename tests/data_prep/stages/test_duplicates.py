"""Duplicates against a plain double loop."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.stages import duplicates
from data_prep.stages.duplicates import (
    NearPair,
    exact_groups,
    hash_bits,
    near_pairs,
    partners,
    same_text,
    twins_to_remove,
)
from mteb_vehicle_search.eval_set.schema import Query


def test_near_pairs_are_those_of_a_double_loop(monkeypatch):
    monkeypatch.setattr("data_prep.stages.duplicates.BLOCK", 700)
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


def pairs_of_a_double_loop(captioned, ids, hashes, max_distance):
    found = set()
    for a in captioned:
        for b in range(len(ids)):
            distance = (hashes[a] ^ hashes[b]).bit_count()
            if a != b and distance <= max_distance:
                both = sorted((ids[a], ids[b])) if b in captioned else (ids[a], ids[b])
                found.add(NearPair(*both, distance))
    return sorted(found)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    hashes=st.lists(st.sampled_from([0, 1, 3, 7, 255, 2**63, 2**64 - 1, 2**64 - 2]), max_size=12),
    kept=st.sets(st.integers(0, 11)),
    max_distance=st.integers(0, 4),
    block=st.integers(1, 60),
    order=st.randoms(use_true_random=False),
)
def test_near_pairs_do_not_depend_on_blocks_or_on_the_order_of_ids(hashes, kept, max_distance, block, order):
    ids = [f"i{n:02d}" for n in range(len(hashes))]
    order.shuffle(ids)
    captioned = [n for n in sorted(kept) if n < len(ids)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "BLOCK", block)
        found = near_pairs(captioned, ids, hash_bits([f"{h:016x}" for h in hashes]), max_distance)
    assert found == pairs_of_a_double_loop(captioned, ids, hashes, max_distance)


def test_twins_past_the_first_real_block_are_found():
    """4.2 million comparisons to a block: two blocks of 1,398 captioned images against 3,000."""
    count, captioned = 3000, list(range(0, 3000, 2))
    rng = random.Random(5)
    hashes = [rng.getrandbits(64) for _ in range(count)]
    twins = {0: 2999, 2: 2795, 2794: 5, 2796: 7, 2998: 1}
    for first, second in twins.items():
        hashes[second] = hashes[first] ^ 1
    assert duplicates.BLOCK == 1 << 22
    assert duplicates.BLOCK // count * 2 == 2796  # The first captioned image of the second block.
    found = near_pairs(captioned, [f"i{n:04d}" for n in range(count)], hash_bits([f"{h:016x}" for h in hashes]), 2)
    assert found == sorted(NearPair(f"i{a:04d}", f"i{b:04d}", 1) for a, b in twins.items())


@pytest.mark.parametrize(("max_distance", "others"), [(0, "b"), (1, "bc"), (2, "bcd"), (3, "bcd"), (64, "bcde")])
def test_the_greatest_distance_is_included(max_distance, others):
    bits = hash_bits([f"{h:016x}" for h in (0, 0, 1 << 63, 3, 2**64 - 1)])
    assert "".join(pair.other for pair in near_pairs([0], "abcde", bits, max_distance)) == others


def test_without_captioned_images_or_without_images_nothing_is_near():
    assert near_pairs([], ["a", "b"], hash_bits(["0" * 16] * 2), 4) == []
    assert near_pairs([], [], hash_bits([]), 4) == []


def test_hashes_are_unsigned_and_of_64_bits():
    bits = hash_bits(["ffffffffffffffff", "8000000000000000", "000000000000000A"])
    assert bits.dtype == np.uint64
    assert bits.tolist() == [2**64 - 1, 2**63, 10]


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    pairs=st.lists(st.tuples(st.sampled_from("bmz"), st.sampled_from("abcmxyz")), max_size=6),
    groups=st.lists(st.sets(st.sampled_from("abcmxyz"), min_size=2), max_size=4),
)
def test_only_uncaptioned_twins_of_captioned_images_are_removed(pairs, groups):
    captioned = set("bmz")  # Not the first of their groups by id.
    wanted = {other for _, other in pairs if other not in captioned}
    wanted |= {i for group in groups for i in group if i not in captioned and captioned & group}
    near = [NearPair(first, other, 1) for first, other in pairs]
    assert twins_to_remove(near, [sorted(group) for group in groups], captioned) == wanted


def test_partners_are_all_that_show_the_same():
    groups = [["a", "c", "x"], ["d", "e"]]
    pairs = [["a", "b", 3], ["c", "b", 1], ("a", "x", 0)]
    assert partners(groups, pairs) == {
        "a": ["b", "c", "x"],
        "b": ["a", "c"],
        "c": ["a", "b", "x"],
        "d": ["e"],
        "e": ["d"],
        "x": ["a", "c"],
    }
    assert partners([], []) == {}


def test_only_pixels_that_stand_twice_make_a_group():
    given = [("z", "1"), ("b", "2"), ("y", "1"), ("a", "2"), ("c", "2"), ("d", "3")]
    assert exact_groups(iter(given)) == [["a", "b", "c"], ["y", "z"]]
    assert exact_groups([("a", "1"), ("b", "2")]) == []


def test_exact_groups_and_what_is_removed():
    groups = exact_groups([("c", "1"), ("a", "1"), ("b", "2"), ("d", "3"), ("e", "3")])
    assert groups == [["a", "c"], ["d", "e"]]
    pairs = [NearPair("a", "x", 1), NearPair("a", "b", 0)]
    assert twins_to_remove(pairs, groups, {"a", "b"}) == {"x", "c"}


def test_queries_with_the_same_text_are_listed():
    queries = [Query("3", "A car."), Query("1", "A car."), Query("2", "A bus.")]
    assert same_text(queries) == [{"text": "A car.", "queries": ["1", "3"]}]
    queries += [Query("6", "A bus."), Query("5", "A bus."), Query("4", "a bus.")]
    assert same_text(iter(queries)) == [
        {"text": "A bus.", "queries": ["2", "5", "6"]},
        {"text": "A car.", "queries": ["1", "3"]},
    ]
