"""Scores by what a caption names and by its length."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from small_runs import MODELS, QUERIES, caption, write_run

from mteb_vehicle_search.analysis.ranks import load_ranks
from mteb_vehicle_search.analysis.strata import (
    BY_LENGTH,
    BY_VEHICLE,
    groups,
    strengths,
)
from mteb_vehicle_search.analysis.uncertainty import clustered_interval
from mteb_vehicle_search.analysis.vehicle_names import KINDS, NONE_NAMED


@pytest.mark.parametrize(
    ("count", "label"),
    [
        (0, "up to 8 words"),
        (8, "up to 8 words"),
        (9, "9 to 12 words"),
        (12, "9 to 12 words"),
        (13, "13 to 16 words"),
        (16, "13 to 16 words"),
        (17, "17 words or more"),
        (300, "17 words or more"),
    ],
)
def test_lengths_on_both_sides_of_every_boundary(count, label):
    assert groups([" ".join(["word"] * count)])[BY_LENGTH] == {label: [0]}


def test_captions_are_in_one_group_by_length_and_in_at_least_one_by_vehicle():
    captions = [
        "A red bus",
        "A " + "very " * 20 + "long caption",
        "A bus and a car",
        "Nine words are here to be counted by us",
    ]
    found = groups(captions)
    assert sorted(at for of_label in found[BY_LENGTH].values() for at in of_label) == [0, 1, 2, 3]
    assert found[BY_VEHICLE] == {"bus": [0, 2], "car": [2], NONE_NAMED: [1, 3]}
    assert found[BY_LENGTH] == {"up to 8 words": [0, 2], "9 to 12 words": [3], "17 words or more": [1]}


def test_divisions_and_labels_stand_in_the_order_of_the_page():
    one_of_each = "barge sled wagon car van tractor truck tram stroller bus scooter bicycle motorcycle atv vehicle"
    found = groups(["nothing", "word " * 20, "word " * 14, "word " * 10, *one_of_each.split()])
    assert list(found) == [BY_VEHICLE, BY_LENGTH] == ["Vehicle named in the caption", "Caption length"]
    assert list(found[BY_VEHICLE]) == list(KINDS)
    assert list(found[BY_LENGTH]) == ["up to 8 words", "9 to 12 words", "13 to 16 words", "17 words or more"]


def test_scores_and_intervals_are_those_of_the_group_for_each_model(eval_set):
    ranks = [load_ranks(write_run(eval_set, model)) for model in MODELS]
    captions = [caption(n) for n in range(QUERIES)]
    found = strengths(captions, ranks)
    divisions = groups(captions)
    assert {title: [part.label for part in parts] for title, parts in found.items()} == {
        title: list(parts) for title, parts in divisions.items()
    }
    for title, part in itertools.chain.from_iterable(itertools.product([t], parts) for t, parts in found.items()):
        at = np.array(divisions[title][part.label])
        assert part.queries == len(at)
        assert len(part.scores) == len(MODELS)
        for run, score in zip(ranks, part.scores):
            of_part = run.scores("ndcg_at_10")[at]
            assert score.mean == pytest.approx(of_part.mean())
            # Captions of one image are one fact.
            assert score == clustered_interval(of_part, run.relevant_ids[at], level=0.95)
            assert part.images == len(set(run.relevant_ids[at].tolist()))
    alone = strengths(captions, ranks[:1])
    assert [part.scores for part in alone[BY_LENGTH]] == [part.scores[:1] for part in found[BY_LENGTH]]
