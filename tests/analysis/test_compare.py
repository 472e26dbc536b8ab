"""`vehicle-search compare`: the sentence, the strata, and what is not comparable."""

from __future__ import annotations

import argparse
import csv
import io
import json
import re
from itertools import combinations

import numpy as np
import pytest
from hand_made_runs import hand_made, info_of, table_of
from simulated_runs import MODELS, write_run
from small_set import small_set
from terminals import as_terminal

from mteb_vehicle_search.analysis import compare_table as command
from mteb_vehicle_search.analysis.compare import (
    Comparison,
    StratumEffect,
    compare,
    sentence,
)
from mteb_vehicle_search.analysis.compare_table import as_json
from mteb_vehicle_search.analysis.ranks import load_ranks, require_same_queries
from mteb_vehicle_search.analysis.strata import strata
from mteb_vehicle_search.analysis.uncertainty import Interval, Paired, holm, paired_comparison
from mteb_vehicle_search.errors import ResultsError, UsageError
from mteb_vehicle_search.eval_set.schema import Query
from mteb_vehicle_search.run_record import write_run_record


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


@pytest.mark.parametrize(
    ("sources", "what"),
    [
        ("5" * 64, "the same photographs encoded otherwise"),
        ("6" * 64, "other images"),
        (None, r"other pixels \(whether of the same photographs is not written down\)"),
    ],
)
def test_runs_over_other_pixels_are_never_compared(sources, what):
    one = hand_made([1, 2], images_id="7" * 64, sources_id="5" * 64)
    other = hand_made([1, 2], images_id="8" * 64, sources_id=sources)
    for a, b in ((one, other), (other, one)):
        with pytest.raises(
            ResultsError, match=f"The runs on 555555555555 searched {what}; their scores do not compare"
        ):
            compare(a, b, resamples=100)
    compare(one, hand_made([1, 2]), resamples=100)


def test_runs_of_one_model_have_names_that_differ(home, capsys):
    told = {"precision": "fp32", "preprocess": "exact", "title": "A Title"}
    for changed in ({}, {"options": {"embed_dim": "64"}}, {"precision": "bf16"}):
        write_run_record(table_of(hand_made([1, 2])), info_of(**{**told, "options": {}, **changed}))
    models = ["some/model[precision=fp32,preprocess=exact]", "some/model[embed_dim=64]", "some/model[precision=bf16]"]
    assert run(*models, "--format", "json", "--resamples", "100") == 0
    found = json.loads(capsys.readouterr().out)["pairs"]
    names = ("some/model[precision=fp32]", "some/model[embed_dim=64]", "some/model[precision=bf16]")
    assert [(one["a"], one["b"]) for one in found] == [*combinations(names, 2)]
    assert run(*models[:2], "--resamples", "100") == 0
    assert capsys.readouterr().out.startswith("A Title · ndcg_at_10\nA some/model\nB some/model[embed_dim=64]\n")


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


def paired(
    p: float = 0.01, a: float = 0.6, b: float = 0.5, wins: int = 1_234, losses: int = 56, ties: int = 7
) -> Paired:
    """Return a comparison of given figures; the interval of the difference lies 0.04 and 0.01 around it."""
    difference = Interval(a - b, a - b - 0.04, a - b + 0.01)
    sides = Interval(a, a - 0.1, a + 0.1), Interval(b, b - 0.2, b + 0.2)
    return Paired(*sides, difference, p, wins, losses, ties, 300, 20, 1)


def found_with(one: Paired, effects: list[StratumEffect] | None = None) -> Comparison:
    return Comparison("org/a", "org/b", "SomeTask", "Some Title", "5" * 64, "mrr_at_10", one, effects or [])


@pytest.mark.parametrize(
    ("p", "shown"), [(0.0499, "p = 0.0499"), (0.001, "p = 0.0010"), (0.0009999, "p < 0.001"), (0.0001, "p < 0.001")]
)
def test_below_five_percent_one_model_is_better(p, shown):
    assert sentence(found_with(paired(p))) == (
        "org/a is better than org/b on Some Title: mrr_at_10 0.6000 against 0.5000, a difference of 0.1000 "
        f"(95 % interval 0.0600 to 0.1100, {shown}); of 1,297 queries it wins 1,234 and loses 56."
    )
    assert sentence(found_with(paired(p, a=0.5, b=0.6, wins=56, losses=1_234))) == (
        "org/b is better than org/a on Some Title: mrr_at_10 0.6000 against 0.5000, a difference of 0.1000 "
        f"(95 % interval 0.0900 to 0.1400, {shown}); of 1,297 queries it wins 1,234 and loses 56."
    )


@pytest.mark.parametrize("p", [0.05, 0.0501, 0.6])
def test_from_five_percent_on_the_models_are_not_told_apart(p):
    assert sentence(found_with(paired(p, a=0.5, b=0.52, wins=3, losses=0))) == (
        "These runs do not tell org/a and org/b apart on Some Title: mrr_at_10 0.5000 and 0.5200, a difference of "
        f"-0.0200 (95 % interval -0.0600 to -0.0100, p = {p:.4f})."
    )
    assert sentence(found_with(paired(p, wins=0, losses=3))).startswith("These runs do not tell org/a and org/b apart")


def test_models_that_score_the_same_are_said_to():
    same = sentence(found_with(paired(1.0, a=0.5, b=0.5, wins=0, losses=0)))
    assert same == "org/a and org/b score the same on every query of Some Title."


def by_hand(seed: int, **info):
    """Return a run of 60 queries about 30 images; every query has some top ten."""
    generator = np.random.default_rng(seed)
    ranks = generator.integers(1, 30, 60)
    tops = [[f"flickr30k/{n % 30:02d}" for n in range(at, at + 3)] + ["imagenet/1"] * (at % 2) for at in ranks.tolist()]
    relevant = [f"flickr30k/{n // 2:02d}" for n in range(60)]
    return hand_made(ranks, relevant_ids=relevant, top_ids=tops, model_name=f"org/{seed}", **info)


@pytest.mark.parametrize("metric", ["ndcg_at_10", "recall_at_5"])
def test_a_comparison_is_that_of_the_scores_by_query_clustered_by_image(metric):
    a, b = by_hand(1), by_hand(2)
    found = compare(a, b, metric, resamples=200, seed=3)
    assert found.paired == paired_comparison(a.scores(metric), b.scores(metric), a.relevant_ids, resamples=200, seed=3)
    assert found[:6] == ("org/1", "org/2", "VehicleImageSearch", "VehicleImageSearch", "5" * 64, metric)


def test_ndcg_with_ten_thousand_resamples_of_seed_0_unless_told_otherwise():
    a, b = by_hand(1), by_hand(2)
    assert compare(a, b).paired == compare(a, b, "ndcg_at_10", queries=None, resamples=10_000, seed=0).paired
    assert {effect.stratum for effect in compare(a, b, resamples=10).effects} == {
        "rivals in both top tens",
        "beaten by",
    }


def test_every_part_is_compared_by_itself_and_adjusted_within_its_division():
    a, b = by_hand(1), by_hand(2)
    queries = captions(a)
    found = compare(a, b, "mrr_at_10", queries=queries, resamples=150, seed=2)
    divisions = strata(a, b, queries)
    assert list(dict.fromkeys(effect.stratum for effect in found.effects)) == list(divisions)
    for name, labels in divisions.items():
        parts = [effect for effect in found.effects if effect.stratum == name]
        assert sorted(part.label for part in parts) == sorted(set(labels.tolist()))
        p_values = []
        for part in parts:
            mask = labels == part.label
            alone = paired_comparison(
                a.scores("mrr_at_10")[mask], b.scores("mrr_at_10")[mask], a.clusters[mask], resamples=150, seed=2
            )
            assert part.paired == alone
            assert (part.queries, part.images) == (mask.sum(), len(set(a.relevant_ids[mask].tolist())))
            p_values.append(alone.p_value)
        assert [part.p_adjusted for part in parts] == holm(np.array(p_values)).tolist()
    assert max(len([e for e in found.effects if e.stratum == name]) for name in divisions) > 2


def test_two_revisions_of_a_model_are_named_by_revision():
    a, b = hand_made([1, 2], model_revision="a" * 40), hand_made([1, 2], model_revision="b" * 40)
    assert compare(a, b, resamples=10)[:2] == ("some/model@aaaaaaaaaaaa", "some/model@bbbbbbbbbbbb")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"content_id": "6" * 64}, r"different evaluation sets \(555555555555, 666666666666\)"),
        ({"query_ids": ["q00", "q02"]}, "do not have the same queries"),
        ({"relevant_ids": ["flickr30k/00", "flickr30k/02"]}, "do not have the same queries"),
    ],
)
def test_runs_that_do_not_pair_are_refused(changed, words):
    a, b = hand_made([1, 2]), hand_made([1, 2], **changed)
    require_same_queries(a, hand_made([2, 1]))
    for pair in ((a, b), (b, a)):
        with pytest.raises(ResultsError, match="do not"):
            require_same_queries(*pair)
    with pytest.raises(ResultsError, match=words) as refused:
        compare(a, b, resamples=10)
    assert "Run both models" in str(refused.value)


def test_json_holds_every_figure():
    effect = StratumEffect("beaten by", "imagenet", 40, 9, paired(0.3), 0.6)
    found = as_json(found_with(paired(), [effect]))
    figures = {
        "a": {"mean": 0.6, "low": 0.5, "high": 0.7},
        "b": {"mean": 0.5, "low": 0.3, "high": 0.7},
        "query_wins": 1_234,
        "query_losses": 56,
        "query_ties": 7,
        "image_wins": 300,
        "image_losses": 20,
        "image_ties": 1,
    }
    (part,) = found["strata"]
    for of, p in ((found, 0.01), (part["paired"], 0.3)):
        assert {key: of[key] for key in figures} == {
            key: pytest.approx(value) if isinstance(value, dict) else value for key, value in figures.items()
        }
        assert of["p_value"] == p
        assert of["difference"] == pytest.approx({"mean": 0.1, "low": 0.06, "high": 0.11})
    named = {"model_a": "org/a", "model_b": "org/b", "task": "SomeTask", "title": "Some Title"}
    named |= {"content_id": "5" * 64, "metric": "mrr_at_10"}
    assert {key: found[key] for key in named} == named
    assert found["p_adjusted"] == 0.01
    assert found["sentence"] == sentence(found_with(paired()))
    assert {key: part[key] for key in part if key != "paired"} == {
        "stratum": "beaten by",
        "label": "imagenet",
        "queries": 40,
        "images": 9,
        "p_adjusted": 0.6,
    }
    assert set(found) == {*Comparison._fields, *Paired._fields, "p_adjusted", "sentence", "strata"} - {
        "paired",
        "effects",
    }


def test_a_part_of_too_few_images_has_a_dash_and_the_sentence_says_why(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    none = {name: Interval(value, None, None) for name, value in (("a", 0.6), ("b", 0.5), ("difference", 0.1))}
    few = paired(0.01)._replace(**none, image_wins=4, image_losses=0, image_ties=0)
    one = found_with(few, [StratumEffect("caption length", "0-8 words", 1_297, 4, few, 0.6)])
    assert "a difference of 0.1000 (no interval: too few images: 4, p = 0.0100)" in sentence(one)
    assert "+0.1000 (no interval: too few images: 4, p = 0.5000)" in sentence(found_with(few._replace(p_value=0.5)))
    content = command.as_json(one)
    assert (content["difference"]["low"], content["strata"][0]["paired"]["a"]["high"]) == (None, None)
    json.dumps(content, allow_nan=False)
    command.show(one)
    shown = capsys.readouterr().out
    assert cells(shown.splitlines()[7])[:7] == ["0-8 words", "1,297", "4", "0.6000", "0.5000", "+0.1000", "–"]
    assert "–: no interval from fewer than 5 images." in shown


def test_an_interval_that_holds_zero_keeps_its_sign():
    """The interval is no inverted test: it may hold 0 where the test tells the models apart."""
    wide = Interval(-0.1, -0.21, 0.01)
    shown = sentence(found_with(paired(0.04, a=0.5, b=0.6)._replace(difference=wide)))
    assert "org/b is better" in shown
    assert "(95 % interval -0.0100 to 0.2100, p = 0.0400)" in shown


def cells(line: str) -> list[str]:
    return re.split(r"\s{2,}", line.strip())


def test_the_table_has_a_line_for_all_queries_and_for_every_part(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    effects = [
        StratumEffect("caption length", "0-8 words", 1_100, 9, paired(0.3, wins=900, losses=150, ties=50), 0.6),
        StratumEffect("caption length", "9-12 words", 197, 9, paired(0.2, a=0.4), 0.4),
        StratumEffect("beaten by", "imagenet", 40, 9, paired(0.7), 0.7),
    ]
    command.show(found_with(paired(0.0123), effects))
    shown = capsys.readouterr().out
    lines = [cells(line) for line in shown.splitlines()]
    assert lines[:3] == [["Some Title · mrr_at_10"], ["A org/a"], ["B org/b"]]
    assert ["queries", "images", "A", "B", "A - B", "95 % interval", "p", "wins", "losses", "ties"] in lines
    of_all = ["0.6000", "0.5000", "+0.1000", "+0.0600, +0.1100"]
    assert ["all", "1,297", "321", *of_all, "0.0123", "1,234", "56", "7"] in lines
    assert ["0-8 words", "1,100", "321", *of_all, "0.6000", "900", "150", "50"] in lines
    assert [
        "9-12 words",
        "1,297",
        "321",
        "0.4000",
        "0.5000",
        "-0.1000",
        "-0.1400, -0.0900",
        "0.4000",
        "1,234",
        "56",
        "7",
    ] in lines
    labels = ["all", "caption length", "0-8 words", "9-12 words", "beaten by", "imagenet"]
    assert [line[0] for line in lines if line[0] in labels] == labels
    # The parts stand indented under the name of their division.
    assert all(f"\n{start}" in shown for start in ("caption length", "  0-8 words", "beaten by", "  imagenet"))
    assert "–: no interval" not in shown
    assert "By image: A wins 300, loses 20, ties 1." in shown
    assert "within each group." in shown
    assert sentence(found_with(paired(0.0123))) in shown


def test_the_arguments_and_their_defaults():
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    assert vars(parser.parse_args(["a", "b"])) == {
        "models": ["a", "b"],
        "metric": "ndcg_at_10",
        "data": None,
        "resamples": 10_000,
        "seed": 0,
        "format": "table",
        "runs": None,
        "task": None,
        "content_id": None,
        "judgments": None,
        "no_judgments": False,
    }
    given = ["--metric", "recall_at_1", "--data", "d", "--resamples", "500", "--seed", "4", "--format", "json"]
    named = vars(parser.parse_args(["a", *given]))
    assert {key: named[key] for key in ("metric", "resamples", "seed", "format")} == {
        "metric": "recall_at_1",
        "resamples": 500,
        "seed": 4,
        "format": "json",
    }
    assert str(named["data"]) == "d"
    for wrong in (["a", "--metric", "ndcg_at_5"], ["a", "--format", "pdf"], []):
        with pytest.raises(SystemExit):
            parser.parse_args(wrong)
    assert "(default: 10000)" in parser.format_help()


def written(runs, capsys, *arguments: str) -> list[dict]:
    assert run("simulated/good", "simulated/poor", "--format", "json", "--resamples", "100", *arguments) == 0
    return json.loads(capsys.readouterr().out, parse_constant=pytest.fail)


def test_the_command_passes_on_what_it_is_told(runs, capsys, tmp_path):
    a, b = (load_ranks(runs[name]) for name in ("good", "poor"))
    told = ("--metric", "recall_at_10", "--seed", "5", "--runs", str(runs["good"].folder.parents[1]))
    assert written(runs, capsys, *told) == [as_json(compare(a, b, "recall_at_10", resamples=100, seed=5))]
    for arguments in (["--runs", str(tmp_path / "work")], ["--task", "Other"], ["--content-id", "6"]):
        with pytest.raises(ResultsError):
            run("simulated/good", "simulated/poor", *arguments)


def test_the_seed_is_that_of_the_sign_flips(runs, capsys):
    pair = ("simulated/good", "simulated/twin-of-good", "--format", "json", "--resamples", "100", "--seed")
    a, b = (load_ranks(runs[name]) for name in ("good", "twin-of-good"))
    found = []
    for seed in (5, 6):
        assert run(*pair, str(seed)) == 0
        found += json.loads(capsys.readouterr().out)
        assert found[-1] == as_json(compare(a, b, resamples=100, seed=seed))
    assert found[0]["p_value"] != found[1]["p_value"]


def test_divisions_by_caption_come_with_the_evaluation_set(home, tmp_path, capsys):
    eval_set = small_set(tmp_path / "set", captioned=6, captions=2)
    ids = [query.id for query in eval_set.queries()]
    relevant = [f"flickr30k/{id[:4]}" for id in ids]
    for name, ranks in (("a", range(1, 13)), ("b", range(12, 0, -1))):
        table = table_of(hand_made(ranks, query_ids=ids, relevant_ids=relevant))
        info = info_of(model_name=name, content_id=eval_set.content_id)
        write_run_record(table, {**info, "content_id": eval_set.content_id, "model_name": name, "model_revision": "1"})
    assert run("a", "b", "--resamples", "100") == 0
    assert "Strata by caption need the evaluation set: --data FOLDER." in capsys.readouterr().out
    assert run("a", "b", "--resamples", "100", "--data", str(tmp_path / "set")) == 0
    shown = capsys.readouterr().out
    assert "caption specificity" in shown
    assert "--data FOLDER" not in shown


def test_fewer_than_a_hundred_resamples_and_a_single_model_are_refused(runs, capsys):
    with pytest.raises(ResultsError, match="99 resamples are too few"):
        run("simulated/good", "simulated/poor", "--resamples", "99")
    with pytest.raises(ResultsError, match="needs two models") as refused:
        run("simulated/good")
    assert "vehicle-search compare MODEL_A MODEL_B" in str(refused.value)
    assert len(written(runs, capsys)) == 1


def effects() -> list[StratumEffect]:
    return [
        StratumEffect("caption length", "0-8 words", 1_100, 9, paired(0.01), 0.02),
        StratumEffect("caption length", "9-12 words", 197, 9, paired(0.01, a=0.4), 0.02),
        StratumEffect("beaten by", "=SUM(A1)", 40, 9, paired(0.7), 0.7),
    ]


def test_what_is_told_apart_has_the_colour_of_the_better_and_a_sign(capsys, monkeypatch):
    as_terminal(monkeypatch, 200)
    command.show(found_with(paired(0.001), effects()))
    shown = capsys.readouterr().out
    assert re.findall(r"\x1b\[(3\d)m *([+-]0.1000)", shown) == [("32", "+0.1000"), ("32", "+0.1000"), ("31", "-0.1000")]
    assert re.search(r"=SUM\(A1\) +1,297 +321 +0.6000 +0.5000 +[+]0.1000", shown), "the last is not told apart"


def test_two_models_in_markdown_latex_and_csv():
    found = found_with(paired(0.0123), effects())
    markdown = command.TEXT["markdown"](found).splitlines()
    assert markdown[0] == r"**Some Title · mrr_at_10**"
    assert "A: org/a, B: org/b" in markdown
    assert "|  | queries | images | A | B | A - B | 95 % interval | p | wins | losses | ties |" in markdown
    row = ["all", "1,297", "321", "0.6000", "0.5000", "+0.1000", "+0.0600, +0.1100", "0.0123", "1,234", "56", "7"]
    assert f"| {' | '.join(row)} |" in markdown
    assert sentence(found) in markdown
    latex = command.TEXT["latex"](found).splitlines()
    assert rf"{' & '.join(row)} \\" in latex
    assert any(line.startswith("9-12 words & ") and " & $-$0.1000 & $-$0.1400, $-$0.0900 & " in line for line in latex)
    assert f"% {sentence(found)}" in latex
    rows = list(csv.DictReader(io.StringIO(command.TEXT["csv"](found))))
    assert [row["label"] for row in rows] == ["all", "0-8 words", "9-12 words", "'=SUM(A1)"]
    assert {key: rows[0][key] for key in ("model_b", "difference", "ci_low", "p_adjusted", "query_wins")} == {
        "model_b": "org/b",
        "difference": str(paired().difference.mean),
        "ci_low": str(paired().difference.low),
        "p_adjusted": "0.0123",
        "query_wins": "1234",
    }


def test_the_command_writes_each_form(runs, capsys):
    for form, start in (("markdown", "**"), ("latex", "% needs"), ("csv", "task,"), ("json", "[")):
        assert run("simulated/good", "simulated/poor", "--resamples", "100", "--format", form) == 0
        assert capsys.readouterr().out.startswith(start)


def test_strata_by_caption_are_of_two_models(runs, tmp_path):
    three = ("simulated/good", "simulated/poor", "simulated/twin-of-good")
    with pytest.raises(UsageError, match="of two models"):
        run(*three, "--data", str(tmp_path))
