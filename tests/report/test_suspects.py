"""Likely false negatives: who is suspected, of what, and in which order."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from mteb_vehicle_search.report.suspects import MOST, Suspect, agreed, near, same_text


def test_two_models_must_agree_on_a_wrong_image_above_the_relevant_one():
    relevant = [0, 0, 1, 2]
    ranks = [[2, 3, 2, 1], [5, 1, 2, 1], [4, 2, 1, 1]]
    wrong = [[7, 7, 8, 9], [7, 7, 9, 9], [6, 7, 8, 9]]
    # Image 7 is above image 0 for two models in row 0, and for two in row 1; 8 above 1 for one model only.
    assert agreed(relevant, ranks, wrong) == [Suspect(relevant=0, image=7, rows=[0, 1], weight=4, models=3)]


def test_a_model_that_shows_no_wrong_image_does_not_vote():
    assert agreed([0], [[2], [2]], [[-1], [-1]]) == []


def test_the_first_image_of_the_page_can_be_suspected():
    assert agreed([5], [[2], [2]], [[0], [0]]) == [Suspect(relevant=5, image=0, rows=[0], weight=2, models=2)]


def test_agreed_suspects_are_those_of_a_plain_count_with_the_most_models_first():
    generator = np.random.default_rng(7)
    seen = 0
    for _ in range(200):
        models, rows = int(generator.integers(1, 5)), int(generator.integers(1, 8))
        relevant = generator.integers(0, 3, rows).tolist()
        ranks = generator.integers(1, 4, (models, rows)).tolist()
        wrong = generator.integers(-1, 4, (models, rows)).tolist()
        expected = []
        for right, image in itertools.product(range(3), range(4)):
            votes = [
                (model, row)
                for model, row in itertools.product(range(models), range(rows))
                if (relevant[row], wrong[model][row]) == (right, image) and ranks[model][row] > 1
            ]
            who = {model for model, _ in votes}
            if len(who) >= 2:
                expected.append(Suspect(right, image, sorted({row for _, row in votes}), len(votes), len(who)))
        expected.sort(key=lambda one: one.image)
        expected.sort(key=lambda one: one.rows[0])
        expected.sort(key=lambda one: one.weight, reverse=True)
        expected.sort(key=lambda one: one.models, reverse=True)
        assert agreed(relevant, ranks, wrong) == expected
        seen += len(expected)
    assert seen > 150


def test_near_duplicates_of_the_relevant_image():
    tops = [[[5, 6, 0], [6]], [[7], [5]]]
    hashes = [0b1111, 0b0000, None, None, None, 0b1110, 0b0011, None]
    assert near([0, 1], tops, hashes, bits=2) == [
        Suspect(0, 5, [0], 1, 0),
        Suspect(0, 6, [0], 2, 0),
        Suspect(1, 6, [1], 2, 0),
    ]
    assert near([0, 1], tops, hashes, bits=1) == [Suspect(0, 5, [0], 1, 0)]


def test_near_duplicates_are_those_of_a_plain_comparison_with_the_nearest_first():
    generator = np.random.default_rng(11)
    seen = 0
    for _ in range(200):
        models, rows, images = int(generator.integers(1, 4)), int(generator.integers(1, 7)), 6
        relevant = generator.integers(0, images, rows).tolist()
        tops = [[generator.permutation(images)[:3].tolist() for _ in range(rows)] for _ in range(models)]
        hashes = [None if number % 7 == 6 else int(number) for number in generator.integers(0, 64, images)]
        expected = []
        for right, image in itertools.permutations(range(images), 2):
            at = [row for row in range(rows) if relevant[row] == right and any(image in top[row] for top in tops)]
            one, other = hashes[right], hashes[image]
            if not at or one is None or other is None:
                continue
            differing = sum(a != b for a, b in zip(f"{one:06b}", f"{other:06b}"))
            if differing <= 3:
                expected.append(Suspect(right, image, at, differing, 0))
        expected.sort(key=lambda pair: pair.image)
        expected.sort(key=lambda pair: pair.rows[0])
        expected.sort(key=lambda pair: len(pair.rows), reverse=True)
        expected.sort(key=lambda pair: pair.weight)
        assert near(relevant, tops, hashes, bits=3) == expected
        seen += len(expected)
    assert seen > 200


def test_a_hash_of_zero_is_a_hash():
    assert near([0], [[[1]]], [0, 0], bits=0) == [Suspect(0, 1, [0], 0, 0)]


def test_only_the_most_suspicious_are_kept():
    assert MOST == 2_000
    count = MOST + 1
    images = list(range(1, count + 1))
    # All queries are about image 0; that of the last row has three votes, all others two.
    ranks = [[2] * count, [2] * count, [1] * (count - 1) + [2]]
    found = agreed([0] * count, ranks, [images, images, images])
    assert len(found) == MOST
    assert (found[0].image, found[-1].image) == (count, count - 2)
    pairs = near([0] * count, [[[image] for image in images]], [0, *[1] * (count - 1), 0], bits=1)
    assert len(pairs) == MOST
    assert (pairs[0].image, pairs[-1].image) == (count, count - 2)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("A red bus.", "a  red bus", True),
        ("A red bus .", "A RED BUS", True),
        ("\tA red\nbus", "A red bus", True),
        ("Eine Straße", "EINE STRASSE", True),
        ("A red bus...", "A red bus", True),
        ("A red bus!", "A red bus", False),
        (".A red bus", "A red bus", False),
        ("A red bus", "A redbus", False),
        ("A red. bus", "A red bus", False),
    ],
)
def test_texts_are_the_same_but_for_case_spaces_and_full_stop(one, other, same):
    assert same_text(["q0", "q1"], [one, other]) == ([[0, 1]] if same else [])


def test_rows_of_one_query_are_no_repetition():
    # The two rows of q3 are one query with two relevant images; beside another query both are shown.
    assert same_text(["q3", "q3"], ["other", "other"]) == []
    assert same_text(["q3", "q3", "q4"], ["other", "other", "other"]) == [[0, 1, 2]]


def test_the_largest_group_of_same_texts_comes_first_then_the_first_query():
    texts = ["a", "b", "c", "b", "a", "c", "c", "alone"]
    assert same_text([f"q{n}" for n in range(8)], texts) == [[2, 5, 6], [0, 4], [1, 3]]
