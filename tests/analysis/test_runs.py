"""Reading mteb's result files, run records and published figures; what cannot be read is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import mteb
import pytest
from hand_made_runs import hand_made, info_of, table_of
from mteb.cache import ResultCache
from mteb.results import TaskResult

from mteb_vehicle_search.analysis.reported import reported_figures
from mteb_vehicle_search.analysis.runs import find_results, holds_flickr30k, read_json
from mteb_vehicle_search.analysis.selection import known_runs
from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.run_record import RunKey, write_run_record

SCORES = (
    "ndcg_at_10",
    "map_at_10",
    "recall_at_1",
    "recall_at_5",
    "recall_at_10",
    "recall_at_100",
    "precision_at_10",
    "mrr_at_10",
    "ndcg_at_10_ci_low",
    "ndcg_at_10_ci_high",
)


ID = "5" * 64


def content(scores: dict | None = None, **changed) -> dict:
    return {
        "task_name": "VehicleImageSearch",
        "dataset_revision": ID,
        "mteb_version": "2.26.24",
        "date": "2026-11-02T00:00:00",
        "scores": {"test": [{"ndcg_at_10": 0.5, "hf_subset": "default", **(scores or {})}]},
        **changed,
    }


def put(value: object, place: str = "results/org__model/abc/VehicleImageSearch.json") -> Path:
    path = Path(place)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def _work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_every_field_of_a_result_file_is_read():
    values = {name: 0.1 + n / 100 for n, name in enumerate(SCORES)}
    path = put(content({**values, "median_rank": 7, "ndcg_at_20": 0.3, "nauc": float("nan")}))
    meta = {"name": "org/Model", "revision": "def", "license": "mit"}
    put(meta, "results/org__model/abc/model_meta.json")
    found = find_results([Path("results")])
    (one,) = found.results
    assert (one.path, one.task, one.key.content_id) == (path, "VehicleImageSearch", ID)
    assert (one.key.model, one.key.revision, one.meta) == ("org/Model", "def", meta)
    assert (one.date, one.mteb_version) == ("2026-11-02T00:00:00", "2.26.24")
    assert one.scores == {**values, "median_rank": 7.0}
    assert {type(value) for value in one.scores.values()} == {float}
    assert (found.skipped, found.records, found.reported) == ([], [], [])


def test_without_metadata_the_folders_name_model_and_revision():
    put(content(), "results/org__model__large/abc/VehicleImageSearch.json")
    (one,) = find_results([Path("results")]).results
    assert (one.key.model, one.key.revision, one.meta) == ("org/model__large", "abc", {})


def test_metadata_without_a_name_leaves_that_to_the_folders():
    put(content())
    put({"name": None, "revision": ""}, "results/org__model/abc/model_meta.json")
    (one,) = find_results([Path("results")]).results
    assert (one.key.model, one.key.revision) == ("org/model", "abc")


def test_figures_that_mteb_left_out_are_not_there():
    put(content({"map_at_10": None}, date=None, mteb_version=None))
    (one,) = find_results([Path("results")]).results
    assert one.scores == {"ndcg_at_10": 0.5}
    assert (one.date, one.mteb_version) == (None, None)


@pytest.mark.parametrize(
    ("date", "iso"),
    [
        (0, "1970-01-01T00:00:00+00:00"),
        (1_762_041_600.25, "2025-11-02T00:00:00+00:00"),
        ("yesterday", "yesterday"),
        ("", None),
        (True, None),
        (["2026"], None),
        (float("nan"), None),
        (float("-inf"), None),
        (1e300, None),
        (10**40, None),
    ],
)
def test_a_date_is_seconds_since_1970_or_a_text(date, iso):
    put(content(date=date))
    assert find_results([Path("results")]).results[0].date == iso


@pytest.mark.parametrize("key", ["task_name", "dataset_revision", "scores"])
def test_a_file_without_a_field_of_a_result_is_named(key):
    value = content()
    del value[key]
    path = put(value)
    (one,) = find_results([Path("results")]).skipped
    assert (one.path, one.reason) == (path, f"it is not an mteb result: it has no '{key}'")


@pytest.mark.parametrize(
    "scores",
    [{}, {"test": []}, {"test": None}, {"test": ["x"]}, {"test": {}}, {"dev": [{"ndcg_at_10": 0.5}]}, [], None],
)
def test_scores_of_another_shape_are_of_another_kind_of_task(scores):
    put(content(scores=None) | {"scores": scores})
    found = find_results([Path("results")])
    assert found.results == []
    assert "it is not a result of a retrieval task" in found.skipped[0].reason


@pytest.mark.parametrize("value", [None, "absent"])
def test_a_result_needs_the_main_score(value):
    scores = {"map_at_10": 0.5, **({"ndcg_at_10": None} if value is None else {})}
    put(content() | {"scores": {"test": [scores]}})
    assert find_results([Path("results")]).skipped[0].reason == "it has no score ndcg_at_10"


@pytest.mark.parametrize("name", [*SCORES, "median_rank"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), True, "0.5", [0.5]])
def test_a_score_is_a_finite_number(name, value):
    put(content({name: value}))
    found = find_results([Path("results")])
    assert found.results == []
    assert f"its score {name} is " in found.skipped[0].reason
    assert "not a finite number" in found.skipped[0].reason


@pytest.mark.parametrize(("value", "possible"), [(-0.001, False), (0, True), (1, True), (1.001, False)])
def test_a_score_lies_between_0_and_1(value, possible):
    for name in SCORES:
        put(content({name: value}))
        found = find_results([Path("results")])
        assert [one.scores[name] for one in found.results] == ([value] if possible else [])
        assert ["not between 0 and 1" in one.reason for one in found.skipped] == ([] if possible else [True])


def test_a_median_rank_may_be_large():
    put(content({"median_rank": 4_321.5}))
    assert find_results([Path("results")]).results[0].scores["median_rank"] == 4_321.5


@pytest.mark.parametrize("name", ["VehicleImageSearch", "DogImageSearch", "Dogs"])
def test_a_result_is_ours_by_its_content_id_whatever_the_task_is_called(name):
    put(content(task_name=name), f"results/org__model/abc/{name}.json")
    assert [one.task for one in find_results([Path("results")]).results] == [name]


@pytest.mark.parametrize("revision", ["5", "5" * 40, "5" * 63, "5" * 65, "A" * 64, "main", "5" * 64 + "\n"])
def test_results_of_other_tasks_are_counted_and_not_named(revision):
    put(content(), "results/org__model/abc/VehicleImageSearch.json")
    for number in range(40):
        # Whatever is in them.
        other = {"task_name": f"T{number}", "dataset_revision": revision, "scores": {"dev": []}}
        put(other, f"results/org__model/abc/T{number}.json")
    found = find_results([Path("results")])
    assert ([one.task for one in found.results], found.skipped, found.others) == (["VehicleImageSearch"], [], 40)


def test_a_file_of_another_task_that_is_named_is_told():
    path = put(content(task_name="NFCorpus", dataset_revision="ec0fa4fe99da2ff19ca1214b7966684033a58814"))
    (one,) = find_results([path]).skipped
    assert (one.path, one.reason) == (path, "it is about another task, NFCorpus")


def test_one_task_may_be_asked_for():
    for name in ("DogImageSearch", "CatImageSearch"):
        put(content(task_name=name), f"results/org__model/abc/{name}.json")
    found = find_results([Path("results")], "DogImageSearch")
    assert ([one.task for one in found.results], found.skipped, found.others) == (["DogImageSearch"], [], 1)


def test_a_result_of_a_task_that_was_made_before_its_data_is_named():
    put(content(dataset_revision="not-built"))
    (one,) = find_results([Path("results")]).skipped
    assert one.reason == "it does not say on which evaluation set it was made; run the model again"


def test_records_count_whatever_their_task_is_called(home):
    for task in ("VehicleImageSearch", "DogImageSearch"):
        write_run_record(
            table_of(hand_made([1])),
            {**info_of(task_name=task), "content_id": task, "model_name": "m", "model_revision": "1"},
        )

    def tasks(task: str | None = None) -> list[str]:
        found = find_results([home], task)
        assert found.skipped == []
        return [record.info["task_name"] for record in found.records]

    assert tasks() == ["DogImageSearch", "VehicleImageSearch"]
    assert tasks("DogImageSearch") == ["DogImageSearch"]


@pytest.mark.parametrize("name", [".model__1.partial", ".model__1.old", ".hidden/deeper"])
def test_what_is_being_written_or_replaced_is_no_record_and_no_result(home, name):
    record = write_run_record(table_of(hand_made([1])), info_of())
    shutil.copytree(record.folder, record.folder.parent / name)
    put(content(), f"results/{name}/VehicleImageSearch.json")
    found = find_results([home / "runs", Path("results")])
    assert ([one.folder for one in found.records], found.results, found.skipped) == ([record.folder], [], [])
    assert [one.folder for one in known_runs(home / "runs")] == [record.folder]
    # A hidden folder that is named is looked into.
    assert len(find_results([record.folder.parent / name]).records) == 1


class TestTheRunOfAResult:
    """`Result.key`: everything that decides its numbers, as far as the file and the metadata beside it tell."""

    EXPERIMENT = "results/org__model/abc/experiments/embed_dim_64/VehicleImageSearch.json"

    def one(self, path: Path):
        (found,) = find_results([path.parent]).results
        return found

    def test_it_is_what_the_file_says(self):
        run = {"images_id": "7" * 64, "sources_id": "8" * 64, "options": {"b": "x", "a": "1"}}
        path = put(content({"run": {**run, "precision": "bf16", "preprocess": "fast"}}))
        put({"name": "org/model", "revision": "abc", "experiment_kwargs": {"z": 1}}, f"{path.parent}/model_meta.json")
        found = self.one(path)
        options = (("a", "1"), ("b", "x"))
        assert found.key == RunKey(ID, "7" * 64, "org/model", "abc", options, "bf16", "fast")
        assert (found.sources_id, found.silent) == ("8" * 64, frozenset())

    def test_an_earlier_file_has_the_options_of_its_experiment_and_is_silent_on_the_rest(self):
        path = put(content(), self.EXPERIMENT)
        kwargs = {"embed_dim": 64, "task": "retrieval", "deep": {"b": 1, "a": None}}
        put({"name": "org/model", "revision": "abc", "experiment_kwargs": kwargs}, f"{path.parent}/model_meta.json")
        found = self.one(path)
        options = (("deep", '{"a": null, "b": 1}'), ("embed_dim", "64"), ("task", "retrieval"))
        assert found.key == RunKey(ID, "", "org/model", "abc", options)
        assert found.silent == {"images_id", "precision", "preprocess"}

    def test_an_experiment_lies_two_folders_below_its_revision(self):
        path = put(content(), self.EXPERIMENT)
        put({"experiment_kwargs": {"embed_dim": 64}}, f"{path.parent}/model_meta.json")
        assert self.one(path).key == RunKey(ID, "", "org/model", "abc", (("embed_dim", "64"),))

    def test_an_experiment_without_metadata_is_named(self):
        path = put(content(), self.EXPERIMENT)
        (one,) = find_results([path.parent]).skipped
        assert one.reason == "it is of an experiment, but no model_meta.json beside it says of which"

    def test_mteb_writes_experiments_as_they_are_read(self, tmp_path):
        meta = mteb.get_model_meta("mteb/baseline-random-encoder", experiment_kwargs={"embed_dim": 64, "task": "x"})
        scores = content()["scores"]
        given = {"task_name": "T", "dataset_revision": ID, "mteb_version": "2", "scores": {"test": scores["test"]}}
        task_result = TaskResult.model_construct(**given, evaluation_time=1.0)
        for one in (meta, meta.model_copy(update={"experiment_kwargs": None})):
            ResultCache(tmp_path / "cache").save_to_cache(task_result, one)
        found = find_results([tmp_path / "cache"])
        assert found.skipped == []
        experiment = (("embed_dim", "64"), ("task", "x"))
        keys = [(one.key.model, one.key.revision, one.key.options) for one in found.results]
        name = ("mteb/baseline-random-encoder", meta.revision)
        assert sorted(keys) == [(*name, ()), (*name, experiment)]

    @pytest.mark.parametrize(
        ("options", "told", "known"),
        [
            ({"precision": "bf16"}, {"precision": "bf16", "preprocess": "fast"}, ("bf16", "fast")),
            (
                {"precision": "auto", "preprocess": "fast"},
                {"precision": "fp32", "preprocess": "fast"},
                ("fp32", "fast"),
            ),
            ({"precision": "bf16"}, {"precision": "unknown"}, ("bf16", "")),
            ({"preprocess": "fast"}, {}, ("unknown", "fast")),
        ],
    )
    def test_precision_and_preprocessing_are_no_options_beside_themselves(self, options, told, known):
        key = RunKey.of({**info_of(), "options": {"a": "1", **options}, **told})
        assert (key.options, key.precision, key.preprocess) == ((("a", "1"),), *known)

    def test_no_revision_is_no_revision_however_it_is_written(self):
        path = put(content(), "results/org__model/no_revision_available/VehicleImageSearch.json")
        put({"name": "org/model", "revision": None}, f"{path.parent}/model_meta.json")
        assert self.one(path).key.revision == RunKey.of(info_of(model_revision=None)).revision == ""


def test_a_damaged_record_is_named():
    path = put("{", "runs/5/m__1/run.json")
    (one,) = find_results([Path("runs")]).skipped
    assert one.path == path
    assert "is not a run record" in one.reason


@pytest.mark.parametrize("name", ["model_meta.json", "leaderboard.json"])
def test_other_files_of_the_tree_are_passed_over_but_not_if_named(name):
    path = put({"name": "x"}, f"results/{name}")
    assert find_results([Path("results")]).skipped == []
    assert [one.path for one in find_results([path]).skipped] == [path]


def test_all_places_are_read_in_order_and_files_of_a_folder_sorted():
    for name in ("b", "a"):
        put(content(), f"two/org__{name}/1/VehicleImageSearch.json")
    single = put(content(), "one/org__z/1/VehicleImageSearch.json")
    put("nothing", "two/org__a/1/notes.txt")
    put("{", "two/bad.json")
    found = find_results([single, Path("two")])
    assert [one.key.model for one in found.results] == ["org/z", "org/a", "org/b"]
    assert [one.path.name for one in found.skipped] == ["bad.json"]
    with pytest.raises(ResultsError, match="three does not exist") as refused:
        find_results([single, Path("three")])
    assert "Run a model first" in str(refused.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("{", "not readable JSON"), ("[1]", "not a JSON object"), ("3", "not a JSON object"), ("[" * 99_999, "readable")],
)
def test_what_is_no_json_object_is_named(text, reason):
    path = put(text)
    with pytest.raises(ResultsError, match=reason):
        read_json(path)
    assert reason in find_results([Path("results")]).skipped[0].reason
    with pytest.raises(ResultsError, match="not readable JSON"):
        read_json(Path("nowhere.json"))


def test_damaged_metadata_is_named():
    path = put(content())
    put("[]", "results/org__model/abc/model_meta.json")
    (one,) = find_results([Path("results")]).skipped
    assert one.path == path
    assert one.reason == "its model_meta.json is damaged: it is not a JSON object"


ENTRY = {"task_name": "VehicleImageSearch", "model_name": "M", "source": "a paper", "scores": {"ndcg_at_10": 0.5}}


def test_published_figures_are_kept_of_all_tasks_or_of_one():
    other = {**ENTRY, "task_name": "Other"}
    put({"schema_version": 1, "reported": [ENTRY, other]}, "results/reported.json")
    assert find_results([Path("results")]).reported == [ENTRY, other]
    assert find_results([Path("results")], "Other").reported == [other]
    assert find_results([Path("results")]).skipped == []


@pytest.mark.parametrize("value", [0, 1, 0.5])
def test_the_ends_of_the_range_are_published_figures(value):
    entries = [{**ENTRY, "scores": {"ndcg_at_10": value, "map_at_10": 1 - value}}]
    assert reported_figures({"schema_version": 1, "reported": entries}) == entries
    assert reported_figures({"schema_version": 1, "reported": []}) == []


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"schema_version": 3}, "its schema_version is 3; this package reads 1 and 2"),
        ({"schema_version": True}, "its schema_version is True"),
        ({"schema_version": [2]}, r"its schema_version is [2]"),
        ({"schema_version": 2}, "its 'corpus_size' is None, not integer"),
        ({"schema_version": 2, "reported": [{**ENTRY, "corpus_size": 5}]}, "its 'query_count' is None, not integer"),
        ({"reported": [{**ENTRY, "corpus_size": "5"}]}, "its 'corpus_size' is '5', not integer or null"),
        ({"reported": [{**ENTRY, "content_id": 5}]}, "its 'content_id' is 5, not string or null"),
        ({"reported": [{**ENTRY, "scores": {"ndcg_at_10": True}}]}, "the scores of M are not numbers"),
        ({"schema_version": None}, "its schema_version is None"),
        ({"reported": None}, "an entry lacks task_name, model_name or source"),
        ({"reported": {}}, "an entry lacks"),
        ({"reported": [ENTRY, "text"]}, "an entry lacks"),
        *(
            ({"reported": [ENTRY, {**ENTRY, key: 5}]}, "an entry lacks")
            for key in ("task_name", "model_name", "source")
        ),
        ({"reported": [{**ENTRY, "scores": None}]}, "the scores of M are not numbers between 0 and 1"),
        ({"reported": [{**ENTRY, "scores": {"ndcg_at_10": 0.5, "map_at_10": -0.1}}]}, "the scores of M"),
        ({"reported": [{**ENTRY, "scores": {"ndcg_at_10": 1.1, "map_at_10": 0.5}}]}, "the scores of M"),
        ({"reported": [{**ENTRY, "scores": {"ndcg_at_10": "0.5", "map_at_10": 0.5}}]}, "the scores of M"),
    ],
)
def test_damaged_published_figures_are_named(changed, reason):
    path = put({"schema_version": 1, "reported": [ENTRY], **changed}, "results/reported.json")
    (one,) = find_results([Path("results")]).skipped
    assert one.path == path
    assert reason in one.reason


@pytest.mark.parametrize(
    ("names", "known"),
    [
        (None, None),
        ([], False),
        (["Other", "Flickr30kT2IRetrieval"], True),
        (["flickr-30k", "Other"], True),
        (["FLICKR_30K"], True),
        ({"flickr 30k": 1}, True),
        (["Flickr8k", "COCO"], False),
        (["flickr--30k"], False),
        ("flickr30k", None),
        (30, None),
    ],
)
def test_contamination(names, known):
    assert holds_flickr30k(names) is known
