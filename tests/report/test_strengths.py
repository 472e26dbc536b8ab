"""What a caption names, and the scores by it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from small_runs import MODELS, QUERIES, caption, write_run

from mteb_vehicle_search.analysis.ranks import load_ranks
from mteb_vehicle_search.analysis.strata import (
    BY_LENGTH,
    BY_VEHICLE,
    NONE_NAMED,
    RESAMPLES,
    VEHICLES,
    groups,
    strengths,
    vehicles,
)
from mteb_vehicle_search.analysis.uncertainty import clustered_interval

# Words of captions that name one vehicle each; singular and plural are both tried.
NAMES = {
    "motorcycle": (
        "motorcycle, motor cycle, motorcyclist, motor cyclist, motorbike, motor bike, moped, scooter, dirt bike, "
        "dirtbike, atv, quad"
    ),
    "bicycle": "bicycle, bike, biker, cyclist, bicyclist, unicycle, tricycle",
    "bus": "bus, minibus, mini bus, double-decker, double decker, coach",
    "train or tram": "train, tram, streetcar, street car, trolley, subway, locomotive, train car, railway car",
    "truck": "truck, lorry, pickup, fire engine, fireengine, fire truck, firetruck, semi, ambulance",
    "tractor or machine": "tractor, bulldozer, excavator, forklift, backhoe, snowplow, snow plow, crane, mower",
    "cart or carriage": "cart, golf cart, carriage, wagon, rickshaw, buggy",
    "sled": "sled, sleigh, bobsled, bobsleigh, snowmobile, dogsled",
    "boat or aircraft": "boat, ship, canoe, kayak, ferry, plane, airplane, helicopter",
    "van or camper": "van, minivan, mini van, camper, rv, motorhome, motor home, caravan",
    "car": (
        "car, race car, racecar, taxi, taxicab, cab, jeep, convertible, sedan, limousine, limo, suv, automobile, auto, "
        "go-kart, gokart, kart"
    ),
}
WITHOUT_PLURAL = {"bmx": "bicycle", "metro": "train or tram", "aircraft": "boat or aircraft"}


def plural(name: str) -> str:
    if name.endswith("y") and name[-2] not in "aeiou":
        return f"{name[:-1]}ies"
    return f"{name}es" if name.endswith(("s", "ch")) else f"{name}s"


@pytest.mark.parametrize("kind", NAMES)
def test_every_name_of_a_vehicle_in_both_numbers_names_its_kind_only(kind):
    for name in NAMES[kind].split(", "):
        for form in (name, plural(name)):
            assert vehicles(f"Two men beside the {form}, talking") == [kind], form
            assert vehicles(form.upper()) == [kind], form


@pytest.mark.parametrize(("name", "kind"), WITHOUT_PLURAL.items())
def test_names_without_a_plural(name, kind):
    assert vehicles(f"The {name}.") == [kind]


def test_all_kinds_are_tried():
    assert list(VEHICLES) == list(NAMES)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("A man on a dirt bike", ["motorcycle"]),
        ("Bikers beside a Double-Decker bus", ["bicycle", "bus"]),
        ("A golf cart and a car", ["cart or carriage", "car"]),
        ("Race cars pass a fire truck", ["truck", "car"]),
        ("A car, a van, a boat and a bus", ["bus", "boat or aircraft", "van or camper", "car"]),
        ("Carpets in a busy, scarred vanity", [NONE_NAMED]),
        ("The supermarket's shipment of buscuits", [NONE_NAMED]),
        ("", [NONE_NAMED]),
    ],
)
def test_vehicles_named(text, named):
    assert vehicles(text) == named


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
    one_of_each = [names.split(", ")[0] for names in NAMES.values()][::-1]
    found = groups(["nothing", "word " * 20, "word " * 14, "word " * 10, *one_of_each])
    assert list(found) == [BY_VEHICLE, BY_LENGTH] == ["Vehicle named in the caption", "Caption length"]
    assert list(found[BY_VEHICLE]) == [*NAMES, "none named"]
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
            assert score.low <= score.mean <= score.high
            # Captions of one image are resampled together, 2,000 times.
            assert score == clustered_interval(of_part, run.relevant_ids[at], resamples=2_000, seed=0, level=0.95)
    alone = strengths(captions, ranks[:1])
    assert [part.scores for part in alone[BY_LENGTH]] == [part.scores[:1] for part in found[BY_LENGTH]]


def test_resamples_of_the_intervals():
    assert RESAMPLES == 2_000
