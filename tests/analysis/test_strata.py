"""Divisions of the queries: the ends of every bin, rarity against its formula, and who beat the relevant image."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hand_made_runs import hand_made
from hypothesis import given, settings
from hypothesis import strategies as st
from small_set import small_set

from mteb_vehicle_search import settings as places
from mteb_vehicle_search.analysis.strata import in_order, queries_of, specificity, strata, words
from mteb_vehicle_search.errors import ResultsError, VehicleSearchError
from mteb_vehicle_search.eval_set.schema import Query


def test_words_are_lower_case_and_without_punctuation():
    assert words("A red  Car, (parked)—n°2 über_all!") == ["a", "red", "car", "parked", "n", "2", "über_all"]
    assert words(" ... ") == []


captions_of_few_words = st.lists(st.lists(st.sampled_from(["a", "A", "red", "car", "bus"]), max_size=5).map(" ".join))


@settings(derandomize=True, max_examples=60, deadline=None)
@given(captions_of_few_words)
def test_specificity_is_the_mean_rarity_of_the_distinct_words(captions):
    found = specificity(captions)
    for text, value in zip(captions, found, strict=True):
        own = set(text.lower().split())
        rarity = [math.log(len(captions) / sum(w in c.lower().split() for c in captions)) for w in own]
        assert value == pytest.approx(sum(rarity) / len(own) if own else 0.0)


def labels_of(texts: list[str], division: str) -> list[str]:
    ranks = hand_made([1] * len(texts))
    queries = [Query(query, text) for query, text in zip(ranks.query_ids.tolist(), texts)]
    return strata(ranks, ranks, queries)[division].tolist()


@pytest.mark.parametrize(
    ("count", "label"),
    [
        (0, "0-8 words"),
        (8, "0-8 words"),
        (9, "9-12 words"),
        (12, "9-12 words"),
        (13, "13-16 words"),
        (16, "13-16 words"),
        (17, "17 or more words"),
        (60, "17 or more words"),
    ],
)
def test_the_length_of_a_caption_in_words(count, label):
    assert labels_of(["car " * count, "a bus"], "caption length") == [label, "0-8 words"]


def test_a_third_of_the_captions_has_common_words_and_a_third_rare_ones():
    # One word each; the later ones occur less often: 12, 10, 8, 6, 4, 2 times.
    texts = [name for name, times in zip("abcdef", (12, 10, 8, 6, 4, 2)) for _ in range(times)]
    rare = np.array([math.log(42 / texts.count(text)) for text in texts])
    low, high = np.quantile(rare, 1 / 3), np.quantile(rare, 2 / 3)
    expected = ["1 common words" if r <= low else "2 middle" if r <= high else "3 rare words" for r in rare]
    assert labels_of(texts, "caption specificity") == expected
    # The quantiles lie on values of the sample: what equals a cut belongs below it.
    assert [expected.count(name) for name in ("1 common words", "2 middle", "3 rare words")] == [22, 8, 12]


def top(*names: str) -> list[str]:
    return list(names)


@pytest.mark.parametrize(
    ("shared", "label"),
    [(0, "0"), (1, "1-2"), (2, "1-2"), (3, "3-5"), (5, "3-5"), (6, "6 or more"), (9, "6 or more")],
)
def test_rivals_are_wrong_images_in_both_top_tens(shared, label):
    common = [f"imagenet/{n}" for n in range(shared)]
    one = hand_made([1], top_ids=[["flickr30k/00", *common, "imagenet/a"]])
    other = hand_made([1], top_ids=[["flickr30k/00", "imagenet/b", *common[::-1]]])
    for a, b in ((one, other), (other, one)):
        assert strata(a, b, None)["rivals in both top tens"].tolist() == [label]


def test_every_relevant_image_of_a_query_is_right():
    """The labels are of queries, though the rows are of pairs."""
    ids = {"query_ids": ["q0", "q1", "q1"], "relevant_ids": ["flickr30k/0", "flickr30k/1", "flickr30k/2"]}
    run = hand_made([2, 1, 2], top_ids=[["x", "flickr30k/0"], *[["flickr30k/2", "flickr30k/1", "y"]] * 2], **ids)
    found = strata(run, run, None)
    assert found["rivals in both top tens"].tolist() == ["1-2", "1-2"]
    assert found["beaten by"].tolist() == ["imagenet", "(none: both right)"]


@pytest.mark.parametrize(
    ("a", "b", "label"),
    [
        (["flickr30k/00"], ["flickr30k/00"], "(none: both right)"),
        (["flickr30k/01"], ["flickr30k/00"], "flickr30k"),
        (["flickr30k/00"], ["imagenet/1"], "imagenet"),
        (["imagenet/1"], ["flickr30k/01"], "flickr30k or imagenet"),
        (["imagenet/1"], ["imagenet/2"], "imagenet"),
        ([], ["imagenet/2"], "imagenet"),
        ([], [], "(none: both right)"),
    ],
)
def test_who_beats_the_relevant_image_in_either_run(a, b, label):
    one, other = (hand_made([2, 1], top_ids=[names, ["flickr30k/01"]]) for names in (a, b))
    for pair in ((one, other), (other, one)):
        assert strata(*pair, None)["beaten by"].tolist() == [label, "(none: both right)"]


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("coco/9", "unknown"),
        ("flickr30k/01", "flickr30k"),
        ("coco/01", "coco"),
        ("imagenet/7", "imagenet"),
        ("imagenet-21k/7", "imagenet-21k"),
        ("web/7", "unknown"),
    ],
)
def test_the_source_of_an_image_is_that_of_its_kind_that_its_id_begins_with(image, label):
    captioned, bare = {"images": 2, "captioned": 2}, {"images": 30, "captioned": 0}
    sources = {"flickr30k": captioned, "coco": captioned, "imagenet": bare, "imagenet-21k": bare}
    relevant = ["flickr30k/00", "flickr30k/01", "coco/01"]
    run = hand_made([2, 1, 1], relevant_ids=relevant, top_ids=[[image], *([name] for name in relevant[1:])])
    run.record.info["sources"] = sources
    assert strata(run, run, None)["beaten by"][0] == label


def test_the_only_source_of_a_kind_needs_no_name_in_the_id():
    run = hand_made([2, 2, 1], relevant_ids=["a", "b", "c"], top_ids=[["c"], ["anything"], ["c"]])
    assert strata(run, run, None)["beaten by"].tolist() == ["flickr30k", "imagenet", "(none: both right)"]


def test_without_captions_only_the_divisions_by_answers_are_left():
    run = hand_made([1])
    assert list(strata(run, run, None)) == ["rivals in both top tens", "beaten by"]
    assert list(strata(run, run, [Query("q00", "a car")])) == [
        "caption length",
        "caption specificity",
        "rivals in both top tens",
        "beaten by",
    ]


@pytest.mark.parametrize("ids", [["q00"], ["q01", "q00"], ["q00", "q02"], ["q00", "q01", "q02"]])
def test_captions_of_other_queries_are_refused(ids):
    run = hand_made([1, 1])
    with pytest.raises(ResultsError, match="captions are not those of the runs"):
        strata(run, run, [Query(id, "a car") for id in ids])


def test_labels_go_by_their_first_number_then_by_name():
    assert in_order(["17 or more", "9-12", "0-8", "9-12"]) == ["0-8", "9-12", "17 or more"]
    assert in_order(["imagenet", "(none: both right)", "flickr30k"]) == ["(none: both right)", "flickr30k", "imagenet"]
    assert in_order(["10 b", "10 a", "3 rare", "x 1"]) == ["x 1", "3 rare", "10 a", "10 b"]


class TestCaptionsOfAnEvaluationSet:
    """Where `queries_of` looks, and what it takes."""

    def test_a_named_set_gives_its_captions_in_the_order_of_the_ids(self, home, tmp_path):
        texts = [Query(f"{n:04d}_caption_{c:02d}", f"text {n} {c}") for c in (1, 0) for n in (5, 4, 3, 2, 1, 0)]
        eval_set = small_set(tmp_path / "set", queries=texts)
        found = queries_of(eval_set.content_id, tmp_path / "set")
        assert found == sorted(texts)

    def test_another_set_is_refused_with_both_ids(self, home, tmp_path):
        eval_set = small_set(tmp_path / "set")
        with pytest.raises(ResultsError, match=f"{eval_set.content_id[:12]}, the runs have 666666666666") as refused:
            queries_of("6" * 64, tmp_path / "set")
        assert "--data" in str(refused.value)

    def test_a_named_folder_that_is_no_set_is_refused(self, home, tmp_path):
        with pytest.raises(VehicleSearchError, match="nowhere"):
            queries_of("6" * 64, tmp_path / "nowhere")

    def test_the_usual_places_are_looked_through_until_one_fits(self, home, tmp_path, monkeypatch):
        own, built = small_set(tmp_path / "own"), small_set(places.data_folder("dogs"), captioned=2, name="dogs")
        mini = small_set(tmp_path / "mini", captioned=3)
        monkeypatch.setenv("VEHICLE_SEARCH_DATA", str(tmp_path / "own"))
        monkeypatch.setattr(places, "mini_folder", lambda: tmp_path / "mini")
        for one in (own, built, mini):
            assert queries_of(one.content_id) == sorted(one.queries())
        assert queries_of("6" * 64) is None
        monkeypatch.delenv("VEHICLE_SEARCH_DATA")
        assert queries_of(own.content_id) is None
        assert len(queries_of(mini.content_id)) == 6
        monkeypatch.setattr(places, "mini_folder", lambda: tmp_path / "nowhere")
        assert queries_of(mini.content_id) is None

    def test_the_mini_set_comes_with_the_package(self, home):
        from mteb_vehicle_search.eval_set import EvalSet

        mini = EvalSet.open(places.mini_folder())
        assert queries_of(mini.content_id) == sorted(mini.queries())
