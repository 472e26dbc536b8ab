"""A sample is kept whole, and what was changed by hand is refused."""

import json
from dataclasses import replace

import pytest
from small_judgments import sample, unit

from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.judgments import read_sample, write_sample

DRAWN = sample(checks={"q01": ("flickr30k/01", "imagenet/77")})


def test_a_sample_is_read_as_it_was_written(tmp_path):
    path = write_sample(tmp_path / "new", DRAWN)
    assert path.name == f"sample-{DRAWN.id}.json"
    assert read_sample(path) == DRAWN


def test_its_id_names_all_but_what_is_planned(tmp_path):
    assert replace(DRAWN, planned=1).id == DRAWN.id
    others = [
        replace(DRAWN, seed=1),
        replace(DRAWN, runs=("other/model@r1",)),
        replace(DRAWN, units=DRAWN.units[::-1]),
        replace(DRAWN, checks={}),
    ]
    assert len({DRAWN.id, *(one.id for one in others)}) == 5
    write_sample(tmp_path, DRAWN)
    assert read_sample(write_sample(tmp_path, replace(DRAWN, planned=1))).planned == 1
    assert len([*tmp_path.iterdir()]) == 1


def changed(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda one: one.update(seed=5), "was changed: its content has the id"),
        (lambda one: one.update(schema_version=9), "has schema version 9; this package reads 1"),
        (lambda one: one.pop("units"), "is not a sample: KeyError 'units'"),
        (lambda one: one.update(planned=3), "not as many as are planned"),
        (lambda one: one.update(planned=-1), "a field of it has another type"),
        (lambda one: one.update(queries="10"), "a field of it has another type"),
        (lambda one: one["strata"].clear(), "its units are not of its strata"),
        (lambda one: one["units"][0].update(images=[]), "its units are not of its strata"),
        (lambda one: one["units"][0].update(query=7), "a field of it has another type"),
        (lambda one: one["units"][0].update(mood="good"), "is not a sample: TypeError"),
    ],
    ids=["seed", "version", "units", "planned", "negative", "text", "strata", "images", "query", "field"],
)
def test_a_sample_that_was_changed_is_refused(tmp_path, change, said):
    with pytest.raises(ResultsError, match=said):
        read_sample(changed(write_sample(tmp_path, DRAWN), change))


@pytest.mark.parametrize("content", ["", "[]", "null", "[" * 50_000, '{"id": 1}'], ids=str.__len__)
def test_what_is_no_sample_is_refused(tmp_path, content):
    path = tmp_path / "sample-x.json"
    path.write_text(content)
    with pytest.raises(ResultsError, match="is not a sample"):
        read_sample(path)


def test_every_tenth_unit_is_for_two_judges():
    drawn = sample(*(unit(f"q{number:04}", "a") for number in range(5000)))
    chosen = [drawn.for_two(one) for one in drawn.units]
    assert 440 <= sum(chosen) <= 570
    assert chosen == [drawn.for_two(one) for one in drawn.units]
    other = replace(drawn, seed=1)
    assert chosen != [other.for_two(one) for one in other.units]


def test_a_judge_is_shown_the_images_in_question_and_the_checks():
    assert [DRAWN.shown(one) for one in DRAWN.units] == [1, 4]
