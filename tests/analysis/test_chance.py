"""What a model that knows nothing scores, told exactly, and scores that say less than they seem to."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from hand_made_runs import entry_of, hand_made, info_of, result_of, table_of
from hypothesis import given, settings
from hypothesis import strategies as st

from mteb_vehicle_search import summary
from mteb_vehicle_search.analysis import caveats
from mteb_vehicle_search.analysis.chance import LEVEL, against_chance, better_than_chance, random_scores
from mteb_vehicle_search.analysis.columns import cells_of, row_columns
from mteb_vehicle_search.analysis.document import completed, violations
from mteb_vehicle_search.analysis.formats import RANDOM, random_row, show, to_csv, to_json, to_markdown
from mteb_vehicle_search.analysis.leaderboard import _table, build_leaderboard
from mteb_vehicle_search.analysis.uncertainty import clustered_interval
from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.metrics import METRICS, Grouped, scored
from mteb_vehicle_search.run_record import write_run_record


def asked(grades: list[list[int]]) -> Grouped:
    """Queries with relevant images of these grades, at ranks that do not count."""
    queries = np.repeat(np.arange(len(grades)), [len(of_query) for of_query in grades])
    ranks = np.concatenate([np.arange(1, len(of_query) + 1) for of_query in grades])
    return Grouped.of(queries, ranks, np.concatenate(grades))


@pytest.mark.parametrize("key", METRICS)
@pytest.mark.parametrize("grades", [[1], [1, 1], [1, 1, 1], [3, 1], [2, 2, 1]])
@pytest.mark.parametrize("size", [3, 5, 6])
def test_the_expectation_is_the_mean_over_all_rankings(key, grades, size):
    """Of so small a corpus all rankings can be tried."""
    metric, found = METRICS[key], []
    for places in permutations(range(1, size + 1), len(grades)):
        of = Grouped.of(np.zeros(len(grades), dtype=int), np.array(places), np.array(grades))
        found.append(metric.of_query(of)[0])
    assert metric.of_chance(asked([grades]), size)[0] == pytest.approx(np.mean(found), abs=1e-12)


@pytest.mark.parametrize("key", METRICS)
def test_queries_of_different_numbers_of_relevant_images_are_counted_one_by_one(key):
    of_each = [METRICS[key].of_chance(asked([grades]), 50)[0] for grades in ([1], [2, 1, 1], [1, 1])]
    together = METRICS[key].of_chance(asked([[1], [2, 1, 1], [1, 1]]), 50)
    assert together.tolist() == pytest.approx(of_each)


def test_the_figures_of_the_published_set():
    """R@10 of 68,154 images: ten places among as many."""
    found = random_scores(hand_made([1, 2], corpus_size=68_154))
    assert list(found) == [*scored(), "median_rank"]
    assert found["recall_at_10"] == pytest.approx(10 / 68_154, rel=5e-6)
    assert found["precision_at_10"] == pytest.approx(1 / 68_154, rel=5e-6)
    assert (
        found["map_at_10"] == found["mrr_at_10"] == pytest.approx(sum(1 / r for r in range(1, 11)) / 68_154, rel=5e-6)
    )
    assert found["ndcg_at_10"] == pytest.approx(sum(1 / np.log2(1 + r) for r in range(1, 11)) / 68_154, rel=5e-6)
    assert found["median_rank"] == 34_077.5


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4), st.integers(4, 400))
def test_with_one_relevant_image_some_scores_are_copies_of_others(relevant, size):
    """What `Metric.copy_of` says holds for any rank, and not for several relevant images."""
    ranks = np.arange(1, min(size, 30) + 1)
    of = Grouped.of(ranks, ranks, np.ones_like(ranks))
    copies = {key: metric.copy_of for key, metric in METRICS.items() if metric.copy_of}
    assert copies == {"mrr_at_10": "map_at_10", "precision_at_10": "recall_at_10"}
    for key, other in copies.items():
        factor = 0.1 if key == "precision_at_10" else 1.0
        assert METRICS[key].of_query(of).tolist() == pytest.approx((factor * METRICS[other].of_query(of)).tolist())
        if relevant > 1:
            # The first relevant image stands at rank 1 here, the next ones far behind.
            places = np.array([1, *range(12, 11 + relevant)])
            several = Grouped.of(np.zeros(relevant, dtype=int), places, np.ones(relevant))
            assert METRICS[key].of_query(several)[0] != pytest.approx(factor * METRICS[other].of_query(several)[0])


class TestAgainstChance:
    def run(self, ranks, **info):
        """A run of 40 images with five captions each among 1,000."""
        images = [f"flickr30k/{n // 5:02d}" for n in range(200)]
        queries = [f"q{n:03d}" for n in range(200)]
        return hand_made(np.asarray(ranks).tolist(), query_ids=queries, relevant_ids=images, corpus_size=1_000, **info)

    def test_a_good_model_is_told_apart_and_one_that_is_worse_is_not_better(self):
        good, bad = against_chance([self.run([3] * 200), self.run([990] * 200)])
        assert (good.better, bad.better) == (True, False)
        assert good.p_value < 0.001
        assert bad.p_value < 0.001
        assert against_chance([]) == []

    def test_a_model_that_knows_nothing_is_rarely_taken_for_one_that_does(self):
        """One of forty at 5 % in two directions; captions of one image move together here."""
        generator = np.random.default_rng(11)
        found = 0
        for _ in range(200):
            of_image = np.repeat(generator.integers(1, 1_001, 40), 5)
            found += against_chance([self.run(of_image)])[0].better
        assert LEVEL == 0.05
        assert found / 200 <= 0.06

    def test_runs_that_are_tested_together_are_adjusted(self):
        generator = np.random.default_rng(2)
        runs = [self.run(np.minimum(1_000, generator.integers(1, 950, 200))) for _ in range(3)]
        alone = [against_chance([run])[0].p_value for run in runs]
        together = [found.p_value for found in against_chance(runs)]
        assert min(together) == pytest.approx(min(1.0, 3 * min(alone)))

    def test_better_ranks_do_not_make_a_better_score(self):
        """Ranks of some hundreds of 1,000 are better than random ones; an nDCG@10 of nought is not."""
        # One caption in 200 that finds its image is as good as chance, whose nDCG@10 is 0.0045.
        run = self.run([300] * 199 + [1])
        assert against_chance([run])[0].better
        assert 0 < clustered_interval(run.scores("ndcg_at_10"), run.clusters).low < 0.0045
        assert better_than_chance([run, self.run([3] * 200), self.run([990] * 200)]) == [False, True, False]

    def test_too_few_images_have_no_interval_to_ask(self):
        run = hand_made([2, 3, 2, 4])
        assert better_than_chance([run]) == [against_chance([run])[0].better]


def tied(ranks: list[int], ties: list[int], **info):
    """A run whose relevant images share their scores with others."""
    return replace(hand_made(ranks, **info), tied=np.array(ties))


def test_ties_are_counted_and_what_they_decide():
    run = tied([1, 4, 100, 7], [0, 3, 99, 0])
    assert run.tied_queries == 2
    assert run.scores("recall_at_1").tolist() == [1, 0, 0, 0]
    assert run.scores_if_first("recall_at_1").tolist() == [1, 1, 1, 0]
    unknown = hand_made([1, 2])
    assert (unknown.tied_queries, unknown.scores_if_first("recall_at_1")) == (None, None)
    twice = tied([1, 2, 5], [0, 1, 1], query_ids=["q0", "q1", "q1"])
    assert twice.tied_queries == 1


def row(name: str, **changed) -> dict:
    return {**dict.fromkeys(row_columns()), "name": name, "model": name, "ndcg_at_10": 0.112, **changed}


def table(*rows: dict, **changed) -> dict:
    given = dict.fromkeys(("task", "title"), "T") | {"content_id": "5" * 64, "sources": None}
    given |= {"images_id": None, "sources_id": None, "corpus_size": 100, "query_count": 1_000}
    given |= {"one_relevant": True, "chance": {"ndcg_at_10": 0.0454, "median_rank": 50.5}, "rows": [*rows]}
    return given | changed


def test_what_stands_below_a_table():
    assert caveats.of_table(table(row("a", better_than_chance=True, tied_queries=0), row("b"))) == []
    rows = [
        row("a", better_than_chance=False, tied_queries=312, ndcg_at_10_if_first=0.433),
        row("b", better_than_chance=False, tied_queries=2),
        row("c", better_than_chance=True),
        row("d", ndcg_at_10=0.0, tied_queries=1_000, ndcg_at_10_if_first=1.0),
        row("e", ndcg_at_10=0.2, tied_queries=1_000, ndcg_at_10_if_first=0.3),
    ]
    last = "queries hold ties; the relevant image ranks last among its equals"
    assert caveats.of_table(table(*rows)) == [
        "Not shown to be better than chance, whose nDCG@10 is 0.0454: a, b.",
        f"a: 312 of 1,000 {last}: nDCG@10 0.1120 as ranked, 0.4330 if first.",
        f"b: 2 of 1,000 {last}.",
        f"d: all 1,000 {last}: nDCG@10 0.0000 as ranked, 1.0000 if first. Nothing scores above it, as if all vectors "
        "were the same.",
        f"e: all 1,000 {last}: nDCG@10 0.2000 as ranked, 0.3000 if first.",
    ]
    unknown = table(row("a", better_than_chance=False, tied_queries=3), chance=None, query_count=None)
    assert caveats.of_table(unknown) == ["Not shown to be better than chance: a.", f"a: 3 {last}."]


def test_a_table_says_whose_captions_were_cut():
    cut = row("a", texts_cut=1_203, context_tokens=32)
    rows = [cut, row("b", texts_cut=0, context_tokens=77), row("c")]
    line = "a: 1,203 of 10,725 captions are longer than the 32 tokens that the model reads, and were cut."
    assert caveats.of_table(table(*rows, query_count=10_725)) == [line]
    assert caveats.of_table(table(*rows, query_count=None)) == []


@pytest.mark.parametrize("shown", [to_markdown, lambda document: show(document)])
def test_terminal_and_markdown_say_it(shown, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    rows = [row("a", better_than_chance=False, versions={}, options={})]
    text = shown({"tables": [table(*rows)], "reported": []}) or capsys.readouterr().out
    assert text.count("Not shown to be better than chance, whose nDCG@10 is 0.0454: a.") == 1
    assert text.count(RANDOM) == 1


def test_a_random_ranking_is_a_row_of_its_own():
    (found,) = random_row(table())
    assert (found["name"], found["ndcg_at_10"], found["rank"]) == (RANDOM, 0.0454, None)
    assert random_row(table(chance=None)) == []
    document = {"tables": [table(row("a", versions={}, options={}))], "reported": []}
    (line,) = [text for text in to_markdown(document).splitlines() if RANDOM in text]
    names = [cell.heading for cell in cells_of("who", "scores", one_relevant=True)]
    cells = dict(zip(names, line.strip("| ").split(" | ")))
    assert (cells["rank"], cells["nDCG@10"], cells["median rank"], cells["R@1"]) == ("–", "0.0454", "50.5", "–")
    *_, last = csv.DictReader(io.StringIO(to_csv(document)))
    assert (last["name"], last["model"], last["rank"], last["ndcg_at_10"]) == (RANDOM, "", "", "0.0454")
    assert (last["content_id"], last["query_count"]) == ("5" * 64, "1000")


def test_copies_are_left_out_where_every_query_has_one_relevant_image():
    one, several, unknown = (
        [cell.heading for cell in cells_of("scores", one_relevant=known)] for known in (True, False, None)
    )
    assert several == unknown
    assert {*several} - {*one} == {"MRR@10", "P@10"}


def test_a_leaderboard_of_the_first_form_of_this_version_is_read():
    document = {"schema_version": 2, "sorted_by": "ndcg_at_10", "reported": []}
    full = table(row("a", revision="", options={}, versions={}, has_run_record=False))
    earlier = {key: value for key, value in full.items() if key not in ("one_relevant", "chance")}
    later = ("rank_last", "better_than_chance", "tied_queries", "ndcg_at_10_if_first", "texts_cut", "context_tokens")
    later += ("miner_family", *(key for key in full["rows"][0] if key.startswith("pool_")))
    earlier["rows"] = [{key: value for key, value in full["rows"][0].items() if key not in later}]
    given = {**document, "tables": [earlier]}
    assert violations(given)
    assert violations(completed(given)) == []
    assert completed(given)["tables"][0]["rows"] == full["rows"]
    assert completed(completed(given)) == completed(given)


def test_a_run_tells_at_its_end_what_its_scores_say_less_of(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    info = {"task_name": "T", "model_name": "m", "scores": {"ndcg_at_10": 0.1}}
    images = [f"flickr30k/{n}" for n in range(40)]
    collapsed = tied([100] * 40, [99] * 40, relevant_ids=images, corpus_size=100)
    summary.show_summary(info, tmp_path, lambda: collapsed)
    lines = capsys.readouterr().out.splitlines()
    assert "Not shown to be better than chance, whose nDCG@10 is 0.0454." in lines
    (ties,) = [line for line in lines if "ties" in line]
    assert ties.startswith(
        "All 40 queries hold ties; the relevant image ranks last among its equals: nDCG@10 0.0000 as"
    )
    assert ties.endswith("1.0000 if first. Nothing scores above it, as if all vectors were the same.")
    assert lines[-1] == f"run record  {tmp_path}"
    good = tied([1] * 40, [0] * 40, relevant_ids=images, corpus_size=100)
    summary.show_summary(info, tmp_path, lambda: good)
    shown = capsys.readouterr().out
    assert "chance" not in shown
    assert "ties" not in shown


def test_a_record_that_cannot_be_read_does_not_end_the_run(tmp_path, capsys):
    def damaged():
        raise ResultsError("queries.parquet has no rows.")

    summary.show_summary({"task_name": "T", "model_name": "m", "scores": {"ndcg_at_10": 0.1}}, tmp_path, damaged)
    assert "What was measured is stored, but it cannot be shown here: ResultsError" in capsys.readouterr().err


def test_the_leaderboard_tells_a_model_that_knows_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(4)
    for name, ranks in {"a/good": [1, 2] * 30, "b/none": generator.integers(1, 101, 60).tolist()}.items():
        write_run_record(table_of(hand_made(ranks)), {**info_of(query_count=60), "model_name": name})
    document = build_leaderboard().document
    rows = document["tables"][0]["rows"]
    assert {row["model"]: row["better_than_chance"] for row in rows} == {"a/good": True, "b/none": False}
    assert [(row["rank"], row["rank_last"]) for row in rows] == [(1, 1), (2, 2)]
    assert {row["tied_queries"] for row in rows} == {None}, "the tables say nothing of ties here"
    assert '"chance": {' in to_json(document)


def test_of_results_alone_it_is_not_known_what_is_relevant(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_run_record(table_of(hand_made([1, 2] * 5)), info_of(query_count=10))
    board = build_leaderboard()
    assert board.document["tables"][0]["one_relevant"] is True
    (entries,) = board.entries.values()
    alone = _table(next(iter(board.entries)), [entry_of(result_of(), None) for _ in entries])
    assert (alone["one_relevant"], alone["chance"], random_row(alone), caveats.of_table(alone)) == (None, None, [], [])


@pytest.mark.parametrize(
    ("encoder", "line"),
    [
        (
            {"texts": 10_725, "texts_cut": 1_203, "context_tokens": 32},
            "1,203 of 10,725 captions are longer than the 32",
        ),
        ({"texts": 10_725, "texts_cut": 0, "context_tokens": 77}, ""),
        ({}, ""),
        (None, ""),
    ],
)
def test_a_run_whose_captions_were_cut_says_how_many(tmp_path, capsys, monkeypatch, encoder, line):
    monkeypatch.setenv("COLUMNS", "200")
    info = {"task_name": "T", "model_name": "m", "scores": {"ndcg_at_10": 0.1}, "encoder": encoder}
    summary.show_summary(info, tmp_path)
    shown = capsys.readouterr().out
    assert (line in shown) if line else ("longer than" not in shown)
