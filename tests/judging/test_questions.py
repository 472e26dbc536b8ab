"""In question is what some run has above a known image; a stratum says how much is to be expected of it."""

import math

import pytest
from hand_made_runs import hand_made
from questioned import run_of

from mteb_vehicle_search.judging.questions import STRATA, cluster_count, questions


def one(*runs):
    (found,) = questions(runs)
    return found


def test_images_above_the_known_one_are_in_question():
    found = one(run_of("org/a", {"q001_0": ["imagenet/003", "imagenet/001"]}))
    assert found.query == "q001_0"
    assert found.known == ("flickr30k/001",)
    assert found.cluster == "flickr30k/001"
    assert found.images == ("imagenet/001", "imagenet/003")


def test_all_ten_are_in_question_where_the_known_one_is_not_among_them():
    above = [f"imagenet/{number:03}" for number in range(12)]
    assert one(run_of("org/a", {"q001_0": above})).images == tuple(above[:10])


def test_the_union_over_runs_is_in_question():
    runs = [run_of("org/a", {"q001_0": ["imagenet/003"]}), run_of("org/b", {"q001_0": ["imagenet/001"]})]
    assert one(*runs).images == ("imagenet/001", "imagenet/003")


def test_a_caption_that_every_run_puts_first_is_in_no_question():
    runs = [run_of("org/a", {"q001_0": [], "q002_0": []}), run_of("org/b", {"q001_0": [], "q002_0": ["imagenet/001"]})]
    assert [found.query for found in questions(runs)] == ["q002_0"]


@pytest.mark.parametrize(
    ("top", "expected"),
    [
        (["x", "f/1", "y", "f/2", "z"], ("x", "y")),
        (["f/1", "f/2", "x"], None),
        (["f/2", "x", "y"], ("x", "y")),
    ],
    ids=["up to the last", "none above", "one is not among the best"],
)
def test_with_several_known_images_what_is_above_any_of_them_is_in_question(top, expected):
    ranks = [top.index(image) + 1 if image in top else 50 for image in ("f/1", "f/2")]
    run = hand_made(ranks, query_ids=["q", "q"], relevant_ids=["f/1", "f/2"], top_ids=[top, top])
    found = questions([run])
    assert [question.images for question in found] == ([expected] if expected else [])
    assert all(question.known == ("f/1", "f/2") for question in found)


def test_captions_that_share_an_image_are_of_one_cluster_by_its_least_image():
    pairs = [("q0", "f/2"), ("q0", "f/1"), ("q1", "f/2"), ("q2", "f/3")]
    pairs.sort()
    run = hand_made(
        [2] * 4,
        query_ids=[query for query, _ in pairs],
        relevant_ids=[image for _, image in pairs],
        top_ids=[["x", image] for _, image in pairs],
    )
    assert [(found.query, found.cluster) for found in questions([run])] == [("q0", "f/1"), ("q1", "f/1"), ("q2", "f/3")]
    assert cluster_count(run) == 2


@pytest.mark.parametrize(
    ("above", "rank"), [((0, 3), "1"), ((2, 5), "2-3"), ((3, 12), "4-10"), ((9, 12), "4-10"), ((10, 20), "above 10")]
)
def test_the_stratum_says_the_best_rank_of_any_run(above, rank):
    runs = [
        run_of(f"org/{name}", {"q001_0": [f"imagenet/{start + number:03}" for number in range(count)]})
        for name, count, start in zip("ab", above, (0, 50))
    ]
    assert one(*runs).stratum == f"models differ, best rank {rank}"


def filled(model, above, **info):
    """Return a run that has most images first, so that it is better than chance."""
    return run_of(model, {**{f"q{n:03}_0": [] for n in range(20, 40)}, **above}, **info)


def test_the_stratum_says_whether_models_agree():
    same = {"q001_0": ["imagenet/007", "imagenet/001"]}
    other = {"q001_0": ["imagenet/007"]}
    assert one(filled("org/a", same), filled("org/b", other)).stratum == "suspected, best rank 2-3"
    # Of one model only one run votes on what is suspected.
    assert one(filled("org/a", same), filled("org/a", other, precision="bf16")).stratum == "models agree, best rank 2-3"
    assert one(filled("org/a", same), filled("org/b", {"q001_0": ["imagenet/001"]})).stratum.startswith("models differ")


def test_another_caption_of_a_suspected_image_is_suspected_too():
    a = filled("org/a", {"q001_0": ["imagenet/007"], "q001_1": ["imagenet/007"]})
    b = filled("org/b", {"q001_0": ["imagenet/007"], "q001_1": []})
    assert {found.query: found.stratum for found in questions([a, b])} == {
        "q001_0": "suspected, best rank 2-3",
        "q001_1": "suspected, best rank 1",
    }


def test_strata_have_names_in_the_order_of_what_is_expected():
    assert len(STRATA) == 12
    assert [name.partition(",")[0] for name in STRATA[::4]] == ["suspected", "models agree", "models differ"]


def test_the_gain_is_what_a_score_would_rise_by_on_average():
    found = one(run_of("org/a", {"q001_0": ["imagenet/003"]}), run_of("org/b", {"q001_0": []}))
    assert found.gain == pytest.approx((1 - 1 / math.log2(3)) / 2)
