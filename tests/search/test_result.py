"""From ranks to scores and to the record's table, on searches written by hand."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from plain_intervals import score_interval
from small_set import jpeg, provenance

from mteb_vehicle_search.eval_set.schema import CorpusImage, Qrel, Query
from mteb_vehicle_search.eval_set.writer import About, write_eval_set
from mteb_vehicle_search.metrics import METRICS
from mteb_vehicle_search.search.exact_search import SearchOutcome
from mteb_vehicle_search.search.ranking import OrderedRun, Ranking
from mteb_vehicle_search.search.result import extra_scores, queries_table
from mteb_vehicle_search.summary import show_summary

# Alphabetical order, in which a ranking counts, is not the order in which the corpus has them.
SOURCES = ("imagenet", "mixed", "flickr30k")
CAPTIONED = {"flickr30k": [True] * 4, "imagenet": [False] * 4, "mixed": [False, True, False, False]}
ABOVE = ("flickr30k", "imagenet", "mixed")


@pytest.fixture
def eval_set(tmp_path):
    """Twelve images: four of each source, one of the mixed one's with captions."""
    images = []
    for number in range(12):
        source = SOURCES[number % 3]
        row = {**provenance(number, CAPTIONED[source][number // 3]), "source": source}
        images.append(CorpusImage(f"i{number:02d}", jpeg(number, (8, 8)), row))
    queries = [Query("q0", "a car"), Query("q1", "a van")]
    qrels = [Qrel("q0", "i02"), Qrel("q1", "i05")]
    return write_eval_set(tmp_path / "set", About("s", "S"), images=images, queries=queries, qrels=qrels)


def outcome(pairs, above, tops=None) -> SearchOutcome:
    """Return a search with so many images of each source above each pair; `tops` are rows of the best images."""
    count = len({query for query, _ in pairs})
    rows = np.array(tops if tops is not None else [[0, 1, 2]] * count)
    scores = np.linspace(0.9, 0.1, rows.size, dtype=np.float32).reshape(rows.shape)
    scores = np.where(rows < 0, -np.inf, scores)
    ranking = Ranking(
        rows, scores, np.array(above), np.arange(len(pairs)) + 5, np.linspace(0.5, 0.2, len(pairs), dtype=np.float32)
    )
    query_ids, grades = [f"q{number}" for number in range(count)], np.arange(len(pairs)) % 3 + 1
    return SearchOutcome(query_ids, pairs, grades, ranking, OrderedRun(rows, scores), {})


def test_ndcg_counts_the_first_ten_ranks():
    ranks = np.array([1, 2, 3, 9, 10, 11, 1000])
    expected = [1, 1 / math.log2(3), 0.5, 1 / math.log2(10), 1 / math.log2(11), 0, 0]
    assert METRICS["ndcg_at_10"].of_rank(ranks).tolist() == pytest.approx(expected)


def test_the_median_rank_is_over_all_pairs(eval_set):
    ranks = [1, 2, 5, 60]
    pairs = [(0, 2), (1, 5), (2, 8), (3, 11)]
    found = extra_scores(outcome(pairs, [[0, rank - 1, 0] for rank in ranks]), eval_set)
    assert found["median_rank"] == 3.5


@pytest.mark.parametrize(
    ("above", "share"),
    [
        ([0, 0, 0], 0.0),  # first: beaten by nobody
        ([0, 1, 0], 0.25),
        ([0, 7, 0], 0.25),
        ([1, 0, 0], 0.0),
        ([1, 7, 0], 0.0),
        ([0, 7, 1], 0.0),  # a source of which some images have captions counts as captioned
    ],
)
def test_beaten_only_by_distractors_wants_a_distractor_above_and_no_captioned_image(eval_set, above, share):
    pairs = [(0, 2), (1, 5), (2, 8), (3, 11)]
    rest = [[0, 0, 0], [1, 1, 0], [0, 0, 2]]
    assert extra_scores(outcome(pairs, [above, *rest]), eval_set)["beaten_only_by_distractors"] == share


def test_the_interval_holds_for_images_not_for_captions(eval_set):
    """Twelve images with eight captions each, which all share their image's rank: twelve facts, not 96."""
    ranks = np.repeat([1, 30, 1, 2, 30, 5, 1, 30, 3, 30, 1, 8], 8)
    rows = np.repeat(np.arange(12), 8)
    pairs = list(enumerate(rows.tolist()))
    found = extra_scores(outcome(pairs, [[0, rank - 1, 0] for rank in ranks]), eval_set)
    of_image = np.where(ranks <= 10, 1 / np.log2(1.0 + ranks), 0)[::8]
    low, high = score_interval(np.repeat(of_image, 8), rows)
    assert found["ndcg_at_10_ci_low"] == pytest.approx(low)
    assert found["ndcg_at_10_ci_high"] == pytest.approx(high)
    assert found["ndcg_at_10_ci_images"] == 12
    # A 90 % interval and one of single captions are narrower than that.
    assert score_interval(np.repeat(of_image, 8), rows, 0.9)[0] > low + 0.03
    assert of_image.std() / math.sqrt(96) * 2 < 0.5 * (high - low) / 2


def test_no_interval_where_a_query_has_two_relevant_images(eval_set):
    found = extra_scores(outcome([(0, 2), (0, 5), (1, 5)], [[0, 0, 0], [1, 0, 0], [0, 0, 0]]), eval_set)
    assert found.keys() == {"median_rank", "beaten_only_by_distractors"}
    two = extra_scores(outcome([(0, 2), (1, 5)], [[0, 0, 0], [1, 0, 0]]), eval_set)
    assert (two.keys() - found.keys(), two["ndcg_at_10_ci_images"]) == ({"ndcg_at_10_ci_images"}, 2)
    five = extra_scores(outcome(list(enumerate(range(5))), [[0, 0, 0]] * 5), eval_set)
    assert five.keys() - two.keys() == {"ndcg_at_10_ci_low", "ndcg_at_10_ci_high"}


def test_every_score_is_a_plain_number_for_json(eval_set):
    found = extra_scores(outcome([(0, 2), (1, 5)], [[0, 0, 0], [1, 0, 0]]), eval_set)
    assert {type(value) for value in found.values()} == {float}


def test_the_table_has_a_row_for_each_pair_and_a_column_for_each_source(eval_set):
    tops = [list(range(12)), [11, 5, 3, 2, -1, -1, -1, -1, -1, -1, -1, -1]]
    given = outcome([(0, 2), (0, 5), (1, 5)], [[1, 2, 3], [0, 0, 4], [5, 6, 7]], tops)
    table = queries_table(given, eval_set)
    whole = pa.int32()
    kinds = {"query_id": pa.string(), "relevant_id": pa.string(), "rank": whole, "score": pa.float32(), "tied": whole}
    kinds |= {"grade": whole}
    kinds |= {f"above_{name}": whole for name in ABOVE}
    kinds |= {"top_ids": pa.list_(pa.string()), "top_scores": pa.list_(pa.float32())}
    assert dict(zip(table.column_names, table.schema.types)) == kinds
    found = table.to_pydict()
    assert found["query_id"] == ["q0", "q0", "q1"]
    assert found["relevant_id"] == ["i02", "i05", "i05"]
    assert found["rank"] == [7, 5, 19]
    assert found["tied"] == [5, 6, 7]
    assert found["grade"] == [1, 2, 3]
    assert found["score"] == given.ranking.scores.tolist()
    assert [found[f"above_{name}"] for name in ABOVE] == [[1, 0, 5], [2, 0, 6], [3, 4, 7]]
    first = [f"i{row:02d}" for row in range(10)]
    assert found["top_ids"] == [first, first, ["i11", "i05", "i03", "i02"]]
    assert found["top_scores"] == [given.run.scores[q, :n].tolist() for q, n in ((0, 10), (0, 10), (1, 4))]


def test_the_table_has_as_many_best_images_as_asked(eval_set):
    given = outcome([(0, 2)], [[0, 0, 0]], [list(range(12))])
    found = queries_table(given, eval_set, top=3).to_pydict()
    assert found["top_ids"] == [["i00", "i01", "i02"]]
    assert len(found["top_scores"][0]) == 3


SCORES = {
    "ndcg_at_10": 0.12346,
    "ndcg_at_10_ci_low": 0.1,
    "ndcg_at_10_ci_high": 0.2,
    "map_at_10": 0.31,
    "recall_at_1": 0.42,
    "recall_at_10": 0.53,
    "median_rank": 17.5,
}


def shown(capsys, monkeypatch, images_per_s=1234.4, scores=SCORES) -> str:
    monkeypatch.setenv("COLUMNS", "200")
    info = {
        "task_name": "TaskName",
        "model_name": "org/model",
        "model_revision": "r" * 200,
        "images_per_s": images_per_s,
        "scores": scores,
    }
    show_summary(info, Path("/runs") / ("a" * 200))
    return capsys.readouterr().out


def test_the_summary_shows_each_figure_under_its_name(capsys, monkeypatch):
    lines = shown(capsys, monkeypatch).splitlines()
    at = next(number for number, line in enumerate(lines) if line.strip().startswith("nDCG@10"))
    assert lines[at - 1].strip() == "TaskName · org/model"
    expected = {
        "nDCG@10": "0.1235",
        "95 % interval": "0.1000 – 0.2000",
        "MAP@10": "0.3100",
        "R@1": "0.4200",
        "R@10": "0.5300",
        "median rank": "17.5",
        "images/s": "1,234",
    }
    assert lines[at].split() == " ".join(expected).split()
    assert lines[at + 1].split() == " ".join(expected.values()).split()
    for name, value in expected.items():
        assert lines[at].index(name) + len(name) == lines[at + 1].index(value) + len(value)  # figures end together
    assert lines[0] == ""


def test_the_summary_says_where_the_record_lies_in_one_line(capsys, monkeypatch):
    lines = shown(capsys, monkeypatch).splitlines()
    assert [line.split()[-1] for line in lines if line.startswith("run record")] == [f"/runs/{'a' * 200}"]


def test_the_summary_of_a_run_that_encoded_nothing_says_that_it_was_resumed(capsys, monkeypatch):
    assert shown(capsys, monkeypatch, images_per_s=None).count("resumed") == 1


def test_the_summary_does_without_an_interval(capsys, monkeypatch):
    none = {key: value for key, value in SCORES.items() if "_ci_" not in key}
    values = re.split(r"\s{2,}", shown(capsys, monkeypatch, scores=none).splitlines()[3].strip())
    assert values[:3] == ["0.1235", "–", "0.3100"]
    few = shown(capsys, monkeypatch, scores={**none, "ndcg_at_10_ci_images": 4.0})
    assert "– (too few images: 4)" in few
