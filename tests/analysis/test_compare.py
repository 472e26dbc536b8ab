"""`vehicle-search compare`: the sentence, the strata, and what is not comparable."""

from __future__ import annotations

import argparse
import json

import numpy as np
import pytest
from simulated_runs import MODELS, write_run

from mteb_vehicle_search.analysis import compare as command
from mteb_vehicle_search.analysis.compare import compare, sentence
from mteb_vehicle_search.analysis.ranks import load_ranks
from mteb_vehicle_search.analysis.strata import in_order, specificity, strata
from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.eval_set import Query


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.main(parser.parse_args(arguments))


def captions(ranks):
    return [Query(id, "a red car " + "very " * (i % 12)) for i, id in enumerate(ranks.query_ids.tolist())]


def test_a_better_model_is_said_to_be_better(runs):
    found = compare(load_ranks(runs["poor"]), load_ranks(runs["good"]))
    assert sentence(found).startswith("simulated/good is better than simulated/poor on VehicleImageSearch: ndcg_at_10")
    assert f"it wins {found.paired.query_losses:,} and loses {found.paired.query_wins:,}" in sentence(found)
    assert found.paired.difference.high < 0


def test_equal_models_are_not_told_apart(home):
    pair = [load_ranks(write_run(model, images=120, distractors=3_000)[0]) for model in MODELS[:2]]
    found = compare(*pair)
    assert found.paired.p_value > 0.05
    assert sentence(found).startswith("These runs do not tell simulated/good and simulated/twin-of-good apart")


def test_a_model_equals_itself(runs):
    ranks = load_ranks(runs["good"])
    assert "score the same on every query" in sentence(compare(ranks, ranks))


def test_every_division_holds_every_query_once(runs):
    a, b = load_ranks(runs["good"]), load_ranks(runs["poor"])
    found = compare(a, b, queries=captions(a), resamples=200)
    names = dict.fromkeys(effect.stratum for effect in found.effects)
    assert list(names) == ["caption length", "caption specificity", "rivals in both top tens", "beaten by"]
    for name in names:
        parts = [effect for effect in found.effects if effect.stratum == name]
        assert sum(part.queries for part in parts) == 600
        weighted = sum(part.queries * part.paired.difference.mean for part in parts) / 600
        assert weighted == pytest.approx(found.paired.difference.mean)


def test_divisions_do_not_depend_on_the_order_of_the_models(runs):
    a, b = load_ranks(runs["good"]), load_ranks(runs["poor"])
    for one, other in zip(strata(a, b, captions(a)).values(), strata(b, a, captions(a)).values()):
        np.testing.assert_array_equal(one, other)


def test_the_source_that_beat_the_relevant_image(runs):
    a = load_ranks(runs["good"])
    labels = strata(a, a, None)["beaten by"]
    right = a.ranks == 1
    assert set(labels[right]) == {"(none: both right)"}
    assert set(labels[~right]) == {"flickr30k", "imagenet"}
    only_distractors = (a.ranks > 1) & (a.above["flickr30k"] == 0)
    assert set(labels[only_distractors]) == {"imagenet"}


def test_rare_words_make_a_caption_specific():
    common, rare, empty = specificity(["a car", "a zeppelin", "..."] + ["a car"] * 5)[:3]
    assert rare > common > empty == 0.0


def test_labels_are_ordered_by_their_numbers():
    assert in_order(["17 or more", "9-12", "0-8", "9-12"]) == ["0-8", "9-12", "17 or more"]


def test_captions_of_other_data_are_refused(runs):
    ranks = load_ranks(runs["good"])
    with pytest.raises(ResultsError, match="not those of the runs"):
        compare(ranks, ranks, queries=captions(ranks)[1:])


def test_the_command_shows_a_table_and_a_sentence(runs, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    assert run("simulated/good", "simulated/poor", "--resamples", "500") == 0
    shown = capsys.readouterr().out
    assert "simulated/good is better than simulated/poor" in shown
    assert "beaten by" in shown
    assert "--data FOLDER" in shown
    assert "…" not in shown


def test_the_command_writes_strict_json_with_holm_over_pairs(runs, capsys):
    assert (
        run("simulated/good", "simulated/twin-of-good", "simulated/poor", "--format", "json", "--resamples", "400") == 0
    )
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert [(one["model_a"], one["model_b"]) for one in found] == [
        ("simulated/good", "simulated/twin-of-good"),
        ("simulated/good", "simulated/poor"),
        ("simulated/twin-of-good", "simulated/poor"),
    ]
    assert found[1]["p_adjusted"] == pytest.approx(3 * found[1]["p_value"])


def test_runs_on_different_data_are_never_compared(home, runs):
    other, _ = write_run(MODELS[2]._replace(name="simulated/elsewhere"), images=50, distractors=90, content_id="6" * 64)
    with pytest.raises(ResultsError, match="do not compare"):
        run("simulated/good", "simulated/elsewhere")
    with pytest.raises(ResultsError, match="not run on the same evaluation set"):
        run(str(runs["good"].folder), str(other.folder))
    with pytest.raises(ResultsError, match="different evaluation sets"):
        compare(load_ranks(runs["good"]), load_ranks(other))


def test_several_evaluation_sets_need_a_choice(home, runs, capsys):
    for model in (MODELS[0], MODELS[2]):
        write_run(model, images=60, distractors=900, content_id="6" * 64)
    with pytest.raises(ResultsError, match="--content-id"):
        run("simulated/good", "simulated/poor")
    assert run("simulated/good", "simulated/poor", "--content-id", "66", "--resamples", "200") == 0
    assert "300 queries" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["simulated/good"], ["simulated/good", "simulated/poor", "--resamples", "3"]])
def test_impossible_requests_are_refused(runs, arguments):
    with pytest.raises(ResultsError):
        run(*arguments)
