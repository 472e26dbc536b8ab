"""`vehicle-search import`: ranks and scores as far as a run tells them, checked against ir_measures."""

from __future__ import annotations

import random

import ir_measures
import numpy as np
import pytest
from small_set import small_set
from trec_runs import drawn_lines, ranks_of, write_trec

from mteb_vehicle_search import cli
from mteb_vehicle_search.analysis.compare import compare
from mteb_vehicle_search.analysis.corpus_growth import growth
from mteb_vehicle_search.analysis.leaderboard import build_leaderboard
from mteb_vehicle_search.analysis.ranks import load_ranks
from mteb_vehicle_search.errors import ResultsError, UsageError
from mteb_vehicle_search.eval_set.schema import Qrel
from mteb_vehicle_search.exchange.importing import import_run, set_named
from mteb_vehicle_search.settings import home, mini_folder

MEASURES = {
    "ndcg_at_10": "nDCG@10",
    "map_at_10": "AP@10",
    "mrr_at_10": "RR@10",
    "recall_at_1": "R@1",
    "recall_at_5": "R@5",
    "recall_at_10": "R@10",
    "precision_at_10": "P@10",
}


@pytest.fixture
def eval_set(tmp_path):
    return small_set(tmp_path / "set")


@pytest.fixture
def graded(tmp_path):
    """Each query has three relevant images of different grades."""
    queries = [(f"{n:04d}_caption_{c:02d}", n) for n in range(6) for c in range(2)]
    qrels = [Qrel(query, f"flickr30k/{(n + more) % 6:04d}", 3 - more) for query, n in queries for more in range(3)]
    return small_set(tmp_path / "graded", qrels=sorted(qrels))


def imported(tmp_path, eval_set, lines, name="some/run", **given):
    record, found = import_run(write_trec(tmp_path / "some.trec", lines), name, eval_set, **given)
    return load_ranks(record), found


def measured(tmp_path, eval_set, lines):
    """Return what ir_measures says of a run."""
    write_trec(tmp_path / "same.trec", lines)
    qrels = [ir_measures.Qrel(one.query_id, one.corpus_id, one.score) for one in eval_set.qrels()]
    measures = {key: ir_measures.parse_measure(name) for key, name in MEASURES.items()}
    run = list(ir_measures.read_trec_run(str(tmp_path / "same.trec")))
    found = ir_measures.calc_aggregate(measures.values(), qrels, run)
    return {key: found[measure] for key, measure in measures.items()}


@pytest.mark.parametrize("depth", [None, 10])
@pytest.mark.parametrize("which", ["eval_set", "graded"])
def test_scores_are_those_of_ir_measures(tmp_path, request, which, depth):
    data = request.getfixturevalue(which)
    lines = drawn_lines(data, depth)
    run, found = imported(tmp_path, data, random.Random(1).sample(lines, len(lines)))
    for key, value in measured(tmp_path, data, lines).items():
        assert float(run.scores(key).mean()) == pytest.approx(value, abs=1e-9), key
    assert found.reads_ranks
    assert found.depth == depth
    assert not found.gaps


@pytest.mark.parametrize("levels", [1, 3, 20])
def test_the_relevant_image_is_last_among_its_equals(tmp_path, eval_set, levels):
    lines = drawn_lines(eval_set, levels=levels)
    shuffled = [(query, image, 0, score) for query, image, _, score in random.Random(2).sample(lines, len(lines))]
    run, found = imported(tmp_path, eval_set, shuffled)
    expected = ranks_of(eval_set, lines)
    assert dict(zip(zip(run.query_ids.tolist(), run.relevant_ids.tolist()), run.ranks.tolist())) == expected
    assert (found.depth, found.reads_ranks, run.is_whole) == (None, False, True)
    scores = {line[:2]: line[3] for line in lines}
    relevant = {*expected}
    equals = [
        sum(score == scores[pair] and key[0] == pair[0] and key not in relevant for key, score in scores.items())
        for pair in sorted(expected)
    ]
    assert run.tied is not None
    assert run.tied.tolist() == equals


def test_images_above_are_counted_by_source_and_the_top_ten_is_kept(tmp_path, eval_set):
    lines = drawn_lines(eval_set)
    run, _ = imported(tmp_path, eval_set, lines)
    for at, (query, relevant) in enumerate(zip(run.query_ids.tolist(), run.relevant_ids.tolist())):
        listed = [image for own, image, *_ in lines if own == query]
        above = listed[: listed.index(relevant)]
        assert {name: int(counts[at]) for name, counts in run.above.items()} == {
            source: sum(image.startswith(source) for image in above) for source in ("flickr30k", "imagenet")
        }
        assert run.top_ids[at] == listed[:10]
    # With everything that is above, it is as good as a run that was made here.
    assert growth(run, ["recall_at_10"], [0, 30])


def test_beyond_its_depth_a_run_knows_nothing_and_says_so(tmp_path, eval_set):
    lines = drawn_lines(eval_set, 12)
    run, found = imported(tmp_path, eval_set, lines)
    known = ranks_of(eval_set, lines)
    assert 0 < len(known) < len(run.ranks)
    table = run.record.queries()
    for name in ("rank", "score", "tied", "above_imagenet"):
        assert table[name].null_count == len(run.ranks) - len(known)
    assert (found.depth, run.depth, run.is_whole) == (12, 12, False)
    assert run.knows("recall_at_10")
    assert not run.knows("recall_at_100")
    with pytest.raises(ResultsError, match=r"cut off at rank 12.* does not tell recall_at_100"):
        run.scores("recall_at_100")
    for refused in (lambda: growth(run, ["recall_at_10"], [0]), lambda: run.above_of(["imagenet"])):
        with pytest.raises(ResultsError, match="growth, pools and miners need that"):
            refused()
    assert "recall_at_100" not in run.record.info["scores"]


@pytest.mark.parametrize(("within", "median"), [(7, 1.0), (6, None), (5, None)])
def test_the_median_is_told_where_it_is_known(tmp_path, eval_set, within, median):
    """Of 12 relevant images so many are first, and the others not listed; the two in the middle make the median."""
    lines = []
    for number, query in enumerate(eval_set.queries()):
        right, wrong = f"flickr30k/{query.id[:4]}", "imagenet/train/n0000"
        lines += [(query.id, right if number < within else wrong, 1, 1.0)]
    run, _ = imported(tmp_path, eval_set, lines)
    assert run.median_rank == median


class TestGaps:
    """Lines that tell a rank after a gap, as our own export writes the relevant images."""

    def lines(self, eval_set, base=1, further=25):
        lines = []
        for query in eval_set.queries():
            right = f"flickr30k/{query.id[:4]}"
            others = [image for image in eval_set.corpus_ids() if image != right][:3]
            lines += [(query.id, image, base + at, 9 - at) for at, image in enumerate(others)]
            lines += [(query.id, right, base + further - 1, 1)]
        return lines

    @pytest.mark.parametrize("base", [0, 1])
    def test_a_told_rank_is_known_and_what_is_above_is_not(self, tmp_path, eval_set, base):
        run, found = imported(tmp_path, eval_set, self.lines(eval_set, base))
        assert {*run.ranks.tolist()} == {25}
        assert (found.depth, found.gaps, run.is_whole) == (None, True, False)
        assert run.scores("recall_at_100").mean() == 1
        assert [len(top) for top in run.top_ids] == [3] * 12
        with pytest.raises(ResultsError, match="growth"):
            run.require_whole()

    def test_ranks_that_contradict_the_scores_are_ignored(self, tmp_path, eval_set):
        lines = [(query, image, 50 - rank, score) for query, image, rank, score in self.lines(eval_set)]
        run, found = imported(tmp_path, eval_set, lines)
        assert not found.reads_ranks
        assert {*run.ranks.tolist()} == {4}

    def test_what_is_not_listed_is_beyond_the_gap(self, tmp_path, eval_set):
        lines = self.lines(eval_set)
        query, _, *told = lines.pop()
        lines.append((query, "imagenet/train/n0007", *told))
        _, found = imported(tmp_path, eval_set, lines, complete_to=10)
        assert found.depth == 3
        assert found.shortest == ("0005_caption_01", 3)


def test_the_shortest_list_limits_the_depth_unless_it_is_known_to_be_complete(tmp_path, eval_set):
    right = {one.query_id: one.corpus_id for one in eval_set.qrels()}
    lines = drawn_lines(eval_set, 20)
    first = lines[0][0]
    short = [line for line in lines if line[0] != first or (line[2] < 5 and line[1] != right[first])]
    short = [line for line in short if line[0] != first or line[2] < 3]
    length = sum(line[0] == first for line in short)
    run, found = imported(tmp_path, eval_set, short)
    assert found.depth == length < 5
    assert found.shortest == (first, length)
    assert not run.knows("ndcg_at_10")
    run, found = imported(tmp_path, eval_set, short, complete_to=10)
    assert found.depth == 10
    assert run.scores("ndcg_at_10")[0] == 0


def test_missing_queries_are_refused_or_counted_as_nothing(tmp_path, eval_set):
    lines = [line for line in drawn_lines(eval_set) if line[0] not in ("0000_caption_00", "0003_caption_01")]
    with pytest.raises(ResultsError, match="no line for 2 of 12 queries: 0000_caption_00, 0003_caption_01"):
        imported(tmp_path, eval_set, lines)
    run, found = imported(tmp_path, eval_set, lines, allow_missing=True)
    assert found.missing == ["0000_caption_00", "0003_caption_01"]
    assert run.scores("recall_at_10")[[0, 7]].tolist() == [0, 0]
    assert run.record.info["imported"]["missing_queries"] == 2
    expected = measured(tmp_path, eval_set, lines)["ndcg_at_10"]
    assert float(run.scores("ndcg_at_10").mean()) == pytest.approx(expected)


def test_another_file_of_the_same_name_is_another_run(tmp_path, eval_set):
    one, _ = imported(tmp_path, eval_set, drawn_lines(eval_set, seed=1))
    again, _ = imported(tmp_path, eval_set, drawn_lines(eval_set, seed=1))
    other, _ = imported(tmp_path, eval_set, drawn_lines(eval_set, seed=2))
    assert one.record.folder == again.record.folder != other.record.folder
    assert one.record.key.revision != other.record.key.revision


@pytest.mark.parametrize("name", ["", " ", "a\nb", "\ud800"])
def test_a_model_needs_a_name(tmp_path, eval_set, name):
    with pytest.raises(UsageError, match="cannot name a model"):
        imported(tmp_path, eval_set, drawn_lines(eval_set), name)


def test_scores_that_float32_does_not_hold_keep_their_order(tmp_path, eval_set):
    lines = [(query, image, rank, 1e300 / rank) for query, image, rank, _ in drawn_lines(eval_set)]
    run, _ = imported(tmp_path, eval_set, lines)
    assert np.isfinite(run.record.queries()["score"].to_numpy()).all()


def test_the_leaderboard_and_compare_take_imported_runs(tmp_path, eval_set):
    runs = [
        imported(tmp_path, eval_set, drawn_lines(eval_set, depth, seed), name)[0]
        for name, depth, seed in (("a/whole", None, 1), ("a/cut", 10, 2))
    ]
    board = build_leaderboard()
    rows = {row["name"]: row for row in board.document["tables"][0]["rows"]}
    assert (rows["a/cut"]["depth"], rows["a/cut"]["imported_from"]) == (10, "some.trec")
    assert rows["a/cut"]["ndcg_at_10"] == round(runs[1].scores("ndcg_at_10").mean(), 5)
    assert rows["a/cut"]["recall_at_100"] is None
    assert rows["a/whole"]["recall_at_100"] == 1
    assert rows["a/cut"]["rank"] is not None
    assert compare(*runs, resamples=100).paired.queries == 12
    by_depth = build_leaderboard(sort="recall_at_100").document["tables"][0]["rows"]
    assert [(row["name"], row["rank"]) for row in by_depth] == [("a/whole", 1), ("a/cut", None)]


def test_the_command_says_what_is_known(tmp_path, capsys, monkeypatch):
    data = small_set(home() / "data" / "dogs", name="dog-image-search", title="Dogs")
    path = write_trec(tmp_path / "x.trec", drawn_lines(data, 10))
    assert cli.main(["import", str(path), "--model", "other/tool", "--data", "DogImageSearch"]) == 0
    shown = capsys.readouterr()
    assert "Dogs · other/tool\n" in shown.out
    assert "known to 10" in shown.out
    assert shown.err == ""
    write_trec(path, [line for line in drawn_lines(data, 10) if line[2] == 1 or line[0] > "0001"])
    assert cli.main(["import", str(path), "--model", "other/tool", "--data", str(data.folder)]) == 0
    shown = capsys.readouterr()
    assert "no score beyond rank 1 is known" in shown.err
    assert "–" in shown.out
    assert cli.main(["leaderboard"]) == 0
    assert "cut off at rank 1: scores beyond are not known" in capsys.readouterr().out


def test_sets_are_named_by_folder_or_task(eval_set):
    assert set_named(str(eval_set.folder)).content_id == eval_set.content_id
    assert set_named("VehicleImageSearchMini").folder == mini_folder()
    with pytest.raises(UsageError, match="no evaluation set 'Nothing' here") as refused:
        set_named("Nothing")
    assert "VehicleImageSearchMini" in str(refused.value)


def test_the_page_lists_a_run_that_is_cut_off_and_shows_the_captions_of_whole_ones(tmp_path, eval_set, capsys):
    for name, depth, seed in (("a/whole", None, 1), ("a/cut", 10, 2)):
        imported(tmp_path, eval_set, drawn_lines(eval_set, depth, seed), name)
    site = tmp_path / "site"
    assert cli.main(["report", "--data", str(eval_set.folder), "--out", str(site)]) == 0
    page = (site / "index.html").read_text(encoding="utf-8")
    assert "a/whole" in page
    assert "a/cut: imported from some.trec, made elsewhere, cut off at rank 10" in page
    core = (site / "data" / "core.js").read_text(encoding="utf-8")
    assert "a/whole" in core
    assert "a/cut" not in core


def test_a_page_of_cut_runs_alone_is_refused(tmp_path, eval_set, capsys):
    imported(tmp_path, eval_set, drawn_lines(eval_set, 10), "a/cut")
    assert cli.main(["report", "--data", str(eval_set.folder), "--out", str(tmp_path / "site")]) == 1
    assert "no run record" in capsys.readouterr().err
