"""What the page's scripts get, against what plainly follows from the scores of the runs."""

from __future__ import annotations

import io
import itertools
import math
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from hand_made_runs import entry_of, result_of
from PIL import Image
from scored_runs import best, draw_scores, write_scored_run, write_world

from mteb_vehicle_search.analysis.corpus_growth import GrowthPoint
from mteb_vehicle_search.analysis.dependence import Dependence
from mteb_vehicle_search.analysis.ranks import RunRanks, load_ranks
from mteb_vehicle_search.analysis.strata import Part, groups
from mteb_vehicle_search.analysis.uncertainty import Interval
from mteb_vehicle_search.analysis.vehicle_names import vehicles
from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.report import page_data, scripts
from mteb_vehicle_search.report.page_data import Growth, Model, Rows, gather, growth_of, models_of
from mteb_vehicle_search.report.scripts import script_data
from mteb_vehicle_search.report.thumbnails import decode_image

# Two full blocks of the page's data and the beginning of a third.
QUERIES = 2 * 512 + 40
TWO_RELEVANT = (0, 100, 511, 600, QUERIES - 1)
NAMES = ["first", "second", "short"]
ROW = {
    "ndcg_at_10": 0.5,
    "ndcg_at_10_ci_low": 0.4,
    "ndcg_at_10_ci_high": 0.6,
    "n_parameters": 1000,
    "images_per_s": 7.5,
}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A world, the scores of three models, and all files of its page; the third model's record keeps one image."""
    folder = tmp_path_factory.mktemp("page data")
    world = write_world(folder / "set", QUERIES, captioned=16, two_relevant=TWO_RELEVANT)
    scores = [draw_scores(world, seed) for seed in range(3)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VEHICLE_SEARCH_HOME", str(folder / "home"))
        runs = [
            write_scored_run(world, name, of_model, top=1 if name == "short" else 10)
            for name, of_model in zip(NAMES, scores)
        ]
    rows = gather(world.eval_set, runs)
    return world, scores, rows, script_data(world.eval_set, rows, models(*runs), {})


def models(*runs: RunRanks, growth: Growth | None = None) -> list[Model]:
    """Return the models of runs, as far as the scripts' data look at them."""
    return [Model(run.record.info["model_name"], ROW, number, run, growth) for number, run in enumerate(runs)]


def kept(model: int) -> int:
    return 1 if NAMES[model] == "short" else 10


def wrong_image(world, scores, model: int, query: str) -> int | None:
    """Return the best image that is not relevant, if the record shows one."""
    top = best(scores[model][query], kept(model))
    return next((image for image in top if image not in world.relevant[query]), None)


def blocks(files, model: int = 0) -> list[dict]:
    """Return the files of a model's top tens, in order."""
    names = [name for name in files if name.startswith(f"top{model}_")]
    assert names == [f"top{model}_{number}" for number in range(len(names))]
    return [files[name] for name in names]


def joined(files, key: str, model: int) -> list:
    """Return the entries of a model in all its blocks."""
    return list(itertools.chain.from_iterable(block[key] for block in blocks(files, model)))


# The rows


def test_rows_are_the_relevant_pairs_in_order(page):
    world, _, _, files = page
    core = files["core"]
    assert core["ids"] == [query for query, _ in world.rows]
    assert core["texts"] == [world.captions[query] for query, _ in world.rows]
    assert [files["images"][n] for n in core["relevant"]] == [world.images[right] for _, right in world.rows]
    assert core["models"] == NAMES


def test_images_are_numbered_in_the_order_in_which_the_page_first_shows_them(page):
    world, scores, _, files = page
    expected = []
    for query, right in world.rows:
        expected.append(right)
        for model in range(len(NAMES)):
            expected += best(scores[model][query], kept(model))
    assert files["images"] == [world.images[n] for n in dict.fromkeys(expected)]


def test_ranks_are_those_of_a_plain_count(page):
    world, scores, _, files = page
    for model in range(len(NAMES)):
        expected = [int((scores[model][query] > scores[model][query][right]).sum()) + 1 for query, right in world.rows]
        assert files[f"model{model}"]["ranks"] == expected


def test_the_best_wrong_image_is_relevant_to_no_row_of_the_query(page):
    world, scores, _, files = page
    for model in range(len(NAMES)):
        expected = [wrong_image(world, scores, model, query) for query, _ in world.rows]
        found = [world.images.index(files["images"][n]) if n >= 0 else None for n in files[f"model{model}"]["wrong"]]
        assert found == expected
    assert -1 in files["model2"]["wrong"]


def test_the_loss_is_what_the_best_wrong_image_is_ahead(page):
    world, scores, _, files = page
    for model in range(len(NAMES)):
        for (query, right), loss in zip(world.rows, files[f"model{model}"]["loss"], strict=True):
            wrong = wrong_image(world, scores, model, query)
            if wrong is None:
                assert loss is None
            else:
                assert loss == round(float(scores[model][query][wrong]) - float(scores[model][query][right]), 4)


def test_the_first_image_of_all_can_be_the_best_wrong_one():
    empty = Rows([], [], [], [], [], [], [], [], [], [])
    rows = empty._replace(
        wrong=[[0, -1, 2]], tops=[[[1, 0], [0], [2, 1]]], top_scores=[[[0.5, 0.4], [0.9], [0.3, 0.2]]]
    )
    assert scripts._losses(rows._replace(scores=[[0.5, 0.9, 0.2]]), 0) == [-0.1, None, 0.1]


# Blocks


def test_every_query_has_its_place_in_a_block_of_512_of_each_model(page):
    world, _, _, files = page
    rows = len(world.rows)
    assert files["core"]["block"] == scripts.BLOCK == 512
    for model in range(len(NAMES)):
        for block, length in zip(blocks(files, model), [512, 512, rows - 1024], strict=True):
            assert {key: len(value) for key, value in block.items()} == dict.fromkeys(
                ("images", "scores", "score"), length
            )


def test_blocks_hold_the_best_images_with_their_scores_to_the_last_query(page):
    world, scores, _, files = page
    for model in range(len(NAMES)):
        tops = [best(scores[model][query], kept(model)) for query, _ in world.rows]
        found = joined(files, "images", model)
        assert [[files["images"][n] for n in top] for top in found] == [[world.images[n] for n in top] for top in tops]
        expected = [[round(float(scores[model][q][n]), 4) for n in top] for (q, _), top in zip(world.rows, tops)]
        drops = joined(files, "scores", model)
        summed = [[round((2 * top[0] - sum(top[: n + 1])) * 1e-4, 4) for n in range(len(top))] for top in drops]
        assert summed == expected
        own = [round(float(scores[model][query][right]), 4) for query, right in world.rows]
        assert [round(score * 1e-4, 4) for score in joined(files, "score", model)] == own


def test_models_tell_how_many_captioned_images_are_above(page):
    world, scores, _, files = page
    captioned = np.array([fact["captioned"] for fact in world.facts])
    for model in range(len(NAMES)):
        expected = [
            int(((scores[model][query] > scores[model][query][right]) & captioned).sum()) for query, right in world.rows
        ]
        assert files[f"model{model}"]["captioned"] == expected


def test_a_full_last_block_is_followed_by_no_empty_one(tmp_path):
    world = write_world(tmp_path / "set", 512)
    run = write_scored_run(world, "a", draw_scores(world, 0))
    files = script_data(world.eval_set, gather(world.eval_set, [run]), models(run), {})
    assert [len(block["images"]) for block in blocks(files)] == [512]


def test_every_image_has_its_source_and_every_model_its_cost(page):
    world, _, _, files = page
    core = files["core"]
    sources = [world.facts[world.images.index(image)]["source"] for image in files["images"]]
    assert [core["sources"][place] for place in core["sourceOf"]] == sources
    assert core["costs"] == [{"score": 0.5, "low": 0.4, "high": 0.6, "parameters": 1000, "rate": 7.5}] * 3
    wrong = {core["classes"][core["classOf"][n]] for m in range(3) for n in files[f"model{m}"]["wrong"] if n >= 0}
    assert core["wrongClasses"] == sorted(wrong)
    assert core["gains"] == [round(1 / math.log2(1 + rank), 5) for rank in range(1, 11)]


# Classes, groups, suspects, charts


def test_every_image_has_the_first_name_of_its_class(page):
    world, _, _, files = page
    core = files["core"]
    assert core["classes"] == ["captioned image", "distractor", "moped", "trailer truck"]
    assert len(core["classOf"]) == len(files["images"])
    for image, place in zip(files["images"], core["classOf"]):
        fact = world.facts[world.images.index(image)]
        name = {"moped": "moped", "trailer truck, tractor trailer": "trailer truck"}.get(fact["class_name"])
        assert core["classes"][place] == (name or ("captioned image" if fact["captioned"] else "distractor"))


@pytest.mark.parametrize(
    ("class_name", "captioned", "label"),
    [
        ("moped", False, "moped"),
        ("moped", True, "moped"),
        (" police van , paddy wagon", False, "police van"),
        ("", True, "captioned image"),
        ("", False, "distractor"),
    ],
)
def test_labels(class_name, captioned, label):
    assert scripts._label({"class_name": class_name, "captioned": captioned}) == label


def test_the_bits_of_a_row_name_the_groups_that_it_is_in(page):
    world, _, _, files = page
    core = files["core"]
    texts = [world.captions[query] for query, _ in world.rows]
    assert [(group["title"], group["labels"]) for group in core["groups"]] == [
        (title, list(parts)) for title, parts in groups(texts).items()
    ]
    labels = [label for group in core["groups"] for label in group["labels"]]
    assert len(core["groupsOf"]) == len(texts)
    for text, mask in zip(texts, core["groupsOf"]):
        count = len(text.split())
        length = "up to 8" if count <= 8 else "9 to 12" if count <= 12 else "13 to 16" if count <= 16 else "17"
        named = {label for bit, label in enumerate(labels) if mask >> bit & 1}
        assert {label for label in named if label.endswith(("words", "words or more"))} == {
            label for label in labels if label.startswith(length)
        }
        assert {label for label in named if not label.endswith(("words", "words or more"))} == set(vehicles(text))
        assert mask >> len(labels) == 0


def hashed(world, hashes: dict[int, str], preset: dict | None = None) -> EvalSet:
    """Return the set with other perceptual hashes and preset; images that are not named have none."""
    facts = [{**fact, "perceptual_hash": hashes.get(n, "")} for n, fact in enumerate(world.facts)]

    class Hashed(EvalSet):
        def provenance(self):
            table = super().provenance()
            at = table.column_names.index("perceptual_hash")
            return table.set_column(at, "perceptual_hash", [[fact["perceptual_hash"] for fact in facts]])

    manifest = {key: value for key, value in world.eval_set.manifest.items() if key != "preset"}
    return Hashed(world.eval_set.folder, manifest if preset is None else {**manifest, "preset": preset})


@pytest.fixture
def small(tmp_path):
    """A small world and one run on it."""
    world = write_world(tmp_path / "set", 8)
    return world, write_scored_run(world, "a", draw_scores(world, 0))


def near_pairs(world, run, hashes, preset=None) -> set[tuple[str, str, int]]:
    """Return (relevant image, near duplicate, differing bits) as the page has them."""
    eval_set = hashed(world, hashes, preset)
    rows = gather(eval_set, [run])
    found = script_data(eval_set, rows, models(run), {})["suspects"]["near"]
    return {(rows.shown[one["relevant"]], rows.shown[one["image"]], one["bits"]) for one in found}


@pytest.mark.parametrize(
    ("preset", "greatest"),
    [
        (None, 4),
        ({}, 4),
        ({"duplicates": {}}, 4),
        ({"duplicates": {"max_distance": 2}}, 2),
    ],
    ids=str,
)
def test_near_duplicates_follow_the_rule_of_the_set(small, preset, greatest):
    world, run = small
    query, right = world.rows[0]
    rival = next(n for n in best(draw_scores(world, 0)[query], 10) if n != right)
    one = 0xF0F0_F0F0_F0F0_F0F0
    for bits in range(7):
        # Bits at the upper end, too.
        other = one ^ sum(1 << place for place in (63, 0, 32, 7, 50, 3)[:bits])
        found = near_pairs(world, run, {right: f"{one:016x}", rival: f"{other:016x}"}, preset)
        expected = {(world.images[right], world.images[rival], bits)}
        assert {pair for pair in found if pair[0] == world.images[right]} == (expected if bits <= greatest else set())


def test_images_without_a_hash_are_no_duplicates(small):
    world, run = small
    assert near_pairs(world, run, {}) == set()
    assert near_pairs(world, run, {0: "0" * 16}) == set()


def test_a_set_without_hashes_does_not_say_that_it_has_no_duplicates(small):
    world, run = small
    for hashes, known in (({}, False), ({3: "0" * 16}, True)):
        eval_set = hashed(world, hashes)
        files = script_data(eval_set, gather(eval_set, [run]), models(run), {})
        assert files["suspects"]["hashed"] is known
        assert files["suspects"]["near"] == []


def test_equal_shapes_in_other_colours_are_no_duplicates(small):
    world, run = small
    eval_set = hashed(world, dict.fromkeys(range(len(world.images)), "0" * 16))
    rows = gather(eval_set, [run])
    found = script_data(eval_set, rows, models(run), {})["suspects"]["near"]
    pairs = {(one["relevant"], one["image"]) for one in found}
    assert pairs == {(right, image) for right, top in zip(rows.relevant, rows.tops[0]) for image in top} - {
        (right, right) for right in rows.relevant
    }
    assert {(one["bits"], one["colour"]) for one in found} == {(0, 0)}
    # One image gets the colours of the others in another order, which its grey hash hardly notices.
    red, green, blue = decode_image("", eval_set.jpeg(world.images[0])).split()
    buffer = io.BytesIO()
    Image.merge("RGB", (green, blue, red)).save(buffer, "JPEG")
    painted = found[0]["image"]
    original = eval_set.jpeg
    eval_set.jpeg = lambda image: buffer.getvalue() if image == rows.shown[painted] else original(image)
    found = script_data(eval_set, rows, models(run), {})["suspects"]["near"]
    assert {(one["relevant"], one["image"]) for one in found} == {pair for pair in pairs if painted not in pair}


def test_suspects_have_their_lists_and_who_votes(page):
    world, _, _, files = page
    found, core = files["suspects"], files["core"]
    assert set(found) == {"voters", "agreed", "hashed", "near", "same"}
    rows = world.rows
    assert [voter["votes"] for voter in found["voters"]] == [True] * len(NAMES)
    ranks, wrong = ([files[f"model{m}"][key] for m in range(len(NAMES))] for key in ("ranks", "wrong"))
    mrr = [float(np.mean(1 / np.array(of_model))) for of_model in ranks]
    assert [voter["weight"] for voter in found["voters"]] == pytest.approx(mrr)
    assert found["agreed"]
    for one in found["agreed"]:
        assert set(one) == {"relevant", "image", "rows", "captions", "models", "rank", "agreement", "judged"}
        assert {core["relevant"][row] for row in one["rows"]} == {one["relevant"]}
        assert one["captions"] == core["relevant"].count(one["relevant"])
        votes = [
            (model, row)
            for model, row in itertools.product(range(len(NAMES)), one["rows"])
            if wrong[model][row] == one["image"] and ranks[model][row] > 1
        ]
        assert len({model for model, _ in votes}) == one["models"]
        assert np.median([ranks[model][row] for model, row in votes]) == one["rank"]
        share = sum(mrr[model] for model, _ in votes) / (one["captions"] * sum(mrr))
        assert one["agreement"] == pytest.approx(share, abs=1e-4)
    same = {}
    for row, (query, _) in enumerate(rows):
        same.setdefault(world.captions[query], []).append(row)
    repeated = [at for at in same.values() if len({rows[row][0] for row in at}) > 1]
    assert sorted(found["same"]) == sorted(repeated) != []


def test_charts_get_their_points_and_parts(small):
    world, run = small
    points = [
        GrowthPoint(0, 8, "ndcg_at_10", 0.9000049, 0.8, 1.0, "exact"),
        GrowthPoint(12, 20, "ndcg_at_10", 0.1234567, 0.0123456, 0.2345678, "exact"),
        GrowthPoint(13, 21, "ndcg_at_10", 0.1, None, None, "exact"),
    ]
    growth = Growth(points, ["exact", "measured", "exact"], None, "")
    parts = {
        "Length": [Part("short", 3, 2, [Interval(0.5, None, None)]), Part("long", 9, 5, [Interval(0.25, 0.0, 0.75)])]
    }
    core = script_data(world.eval_set, gather(world.eval_set, [run]), models(run, growth=growth), parts)["core"]
    assert core["strengths"] == [
        {
            "title": "Length",
            "parts": [
                {"label": "short", "queries": 3, "images": 2, "scores": [[0.5, None, None]]},
                {"label": "long", "queries": 9, "images": 5, "scores": [[0.25, 0.0, 0.75]]},
            ],
        }
    ]
    points = [[0, 0.9, 0.8, 1.0, "exact"], [12, 0.12346, 0.01235, 0.23457, "measured"]]
    points.append([13, 0.1, None, None, "exact"])
    assert core["growth"] == [{"model": "a", "points": points}]
    assert set(core) == {
        *("block", "models", "costs", "ids", "texts", "relevant", "classes", "classOf", "sources", "sourceOf"),
        *("wrongClasses", "gains", "groups", "groupsOf", "growth", "strengths", "judged", "grades"),
    }


# Growth


@pytest.mark.parametrize(
    ("distractors", "exact", "beyond", "far"),
    [
        (
            50,
            [0, 50],
            [100, 250, 500],
            [100_000, 300_000, 1_000_000, 3_000_000, 10_000_000],
        ),
        (
            20_000,
            [0, 100, 300, 1_000, 3_000, 10_000, 20_000],
            [40_000, 100_000, 200_000],
            [300_000, 1_000_000, 3_000_000, 10_000_000],
        ),
    ],
)
def test_a_curve_has_a_shape_on_both_sides_of_what_was_searched(tmp_path, distractors, exact, beyond, far):
    world = write_world(tmp_path / "set", 16, captioned=8, distractors=50)
    sources = {"flickr30k": {"images": 8, "captioned": 8}, "imagenet": {"images": distractors, "captioned": 0}}
    run = write_scored_run(world, "a", draw_scores(world, 0), sources=sources)
    run.record.info["corpus_size"] = 8 + distractors
    found = growth_of(run)
    assert found.why == ""
    assert [point.distractors for point in found.points] == [*exact, *beyond, *far]
    kinds = ["exact"] * (len(exact) - 1) + ["measured"] + ["modelled"] * len(beyond) + ["too far to trust"] * len(far)
    assert found.kinds == kinds
    assert {point.metric for point in found.points} == {"ndcg_at_10"}
    measured = found.points[len(exact) - 1]
    assert measured.value == pytest.approx(float(run.scores("ndcg_at_10").mean()))
    assert found.check is not None
    assert found.check.actual == pytest.approx(measured.value)


def test_a_corpus_of_captioned_images_only_has_one_point_and_no_check(tmp_path):
    world = write_world(tmp_path / "set", 16, captioned=8, distractors=0)
    sources = {"flickr30k": {"images": 8, "captioned": 8}, "imagenet": {"images": 0, "captioned": 0}}
    found = growth_of(write_scored_run(world, "a", draw_scores(world, 0), sources=sources))
    assert [(point.distractors, point.corpus_size) for point in found.points] == [(0, 8)]
    assert (found.kinds, found.check, found.why) == (["measured"], None, "")


def test_models_have_the_names_of_their_rows_and_are_numbered_where_they_have_ranks(tmp_path):
    world = write_world(tmp_path / "set", 8)
    runs = [write_scored_run(world, name, draw_scores(world, seed)) for seed, name in enumerate("ab")]
    result = result_of(model="b", revision="f" * 40)
    entries = [entry_of(None, runs[0]), replace(entry_of(result, None), name="b@f"), entry_of(None, runs[1])]
    found = models_of(entries)
    assert [model.name for model in found] == [entry.row["name"] for entry in entries] == ["a", "b@f", "b"]
    assert [model.number for model in found] == [0, None, 1]
    assert [model.ranks for model in found] == [runs[0], None, runs[1]]
    assert [model.row["model"] for model in found] == ["a", "b", "b"]
    assert [model.growth and len(model.growth.points) for model in found] == [
        len(growth_of(runs[0]).points),
        None,
        len(growth_of(runs[1]).points),
    ]


def test_a_curve_of_dependent_distractors_carries_the_warning(tmp_path, monkeypatch):
    world = write_world(tmp_path / "set", 16, captioned=8, distractors=50)
    run = write_scored_run(world, "a", draw_scores(world, 0))
    monkeypatch.setattr(page_data, "dependence_of", lambda ranks: Dependence(2.61, None, 50))
    assert growth_of(run).warning == Dependence(2.61, None, 50).warning != ""


def test_a_run_without_a_curve_says_why(tmp_path):
    world = write_world(tmp_path / "set", 8, two_relevant=[2])
    found = growth_of(write_scored_run(world, "a", draw_scores(world, 0)))
    assert (found.points, found.kinds, found.check) == ([], [], None)
    assert "several relevant images" in found.why


# What is refused


MIXED = {"flickr30k": {"images": 8, "captioned": 4}, "imagenet": {"images": 12, "captioned": 0}}


def test_runs_that_cannot_tell_captioned_images_have_no_such_numbers(tmp_path):
    world = write_world(tmp_path / "set", 8)
    runs = [
        write_scored_run(world, "a", draw_scores(world, 0)),
        write_scored_run(world, "b", draw_scores(world, 1), sources=MIXED),
    ]
    rows = gather(world.eval_set, runs)
    assert rows.captioned_above[0] is not None
    assert rows.captioned_above[1] is None
    files = script_data(world.eval_set, rows, models(*runs), {})
    assert [files[f"model{m}"]["captioned"] for m in range(2)] == [rows.captioned_above[0], None]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("score", math.nan),
        ("score", math.inf),
        ("score", None),
        ("top_scores", [*[0.5] * 9, math.nan]),
        ("top_scores", [-math.inf, *[0.5] * 9]),
        ("top_scores", [*[0.5] * 9, None]),
        ("top_scores", []),
        ("top_scores", None),
    ],
)
def test_a_score_that_is_no_number_is_refused_wherever_it_stands(small, column, value):
    world, run = small
    given = run.record.queries()[column].to_pylist()
    damaged = write_scored_run(world, "b", draw_scores(world, 1), **{column: [*given[:-1], value]})
    with pytest.raises(ResultsError) as refused:
        gather(world.eval_set, [run, damaged])
    assert f"{damaged.record.folder / 'queries.parquet'}: query q0007 has a score that is not a finite number" in str(
        refused.value
    )
    assert refused.value.hint == "Run the model again."


@pytest.mark.parametrize("count", [9, 11])
def test_as_many_scores_as_best_images_are_required(small, count):
    world, run = small
    given = run.record.queries()["top_scores"].to_pylist()
    damaged = write_scored_run(world, "b", draw_scores(world, 0), top_scores=[*given[:-1], [0.5] * count])
    with pytest.raises(ResultsError, match=rf"query q0007 has 10 best images but {count} scores") as refused:
        gather(world.eval_set, [run, damaged])
    assert refused.value.hint == "Run the model again."


@pytest.mark.parametrize(
    ("dropped", "named"),
    [(["score"], "score"), (["top_scores"], "top_scores"), (["top_scores", "score"], "score, top_scores")],
)
def test_missing_columns_are_named(small, dropped, named):
    world, run = small
    path = run.record.folder / "queries.parquet"
    pq.write_table(pq.read_table(path).drop_columns(dropped), path)
    with pytest.raises(ResultsError) as refused:
        gather(world.eval_set, [load_ranks(run.record)])
    assert refused.value.message == f"{path} has no column {named}."
    assert refused.value.hint == "Run the model again."


def test_the_order_of_the_rows_in_a_record_does_not_matter(tmp_path):
    world = write_world(tmp_path / "set", 30, two_relevant=range(0, 30, 3))
    run = write_scored_run(world, "a", draw_scores(world, 0))
    expected = gather(world.eval_set, [run])
    path = run.record.folder / "queries.parquet"
    table = pq.read_table(path)
    pq.write_table(table.take(np.random.default_rng(0).permutation(table.num_rows)), path)
    assert gather(world.eval_set, [load_ranks(run.record)]) == expected


def test_runs_that_answer_other_queries_are_refused(small):
    world, run = small
    other = write_scored_run(world, "b", draw_scores(world, 1))
    path = other.record.folder / "queries.parquet"
    pq.write_table(pq.read_table(path).slice(0, 7), path)
    with pytest.raises(ResultsError, match="do not have the same queries"):
        gather(world.eval_set, [run, load_ranks(other.record)])


def test_a_query_that_the_set_lacks_is_named(small, tmp_path):
    _, run = small
    fewer = write_world(tmp_path / "fewer", 7)
    with pytest.raises(ResultsError) as refused:
        gather(fewer.eval_set, [run])
    assert refused.value.message == (f"{run.record.folder.parent} names 'q0007', which {fewer.eval_set.folder} lacks.")
    assert refused.value.hint == "Run the model again."


@pytest.mark.parametrize("column", ["relevant_id", "top_ids"])
def test_an_image_that_the_set_lacks_is_named_even_in_the_last_row_of_the_last_run(small, column):
    world, run = small
    given = run.record.queries()[column].to_pylist()
    other = "gone/1" if column == "relevant_id" else [*given[-1][:-1], "gone/1"]
    damaged = write_scored_run(world, "b", draw_scores(world, 0), **{column: [*given[:-1], other]})
    runs = [damaged] if column == "relevant_id" else [run, damaged]
    with pytest.raises(ResultsError, match="names 'gone/1', which"):
        gather(world.eval_set, runs)
