"""The way of a number to its file and back: whose it is, that it is whole, and that nothing is lost."""

from __future__ import annotations

import importlib
import json
import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import mteb
import numpy as np
import pytest
from mteb.cache import ResultCache
from mteb.models import ModelMeta
from small_set import small_set
from toy_encoder import ToyEncoder

import mteb_vehicle_search
from mteb_vehicle_search import stored_results
from mteb_vehicle_search.analysis.leaderboard import build_leaderboard
from mteb_vehicle_search.errors import EvalSetError, ResultsError
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.models import image_text_meta, model_metas
from mteb_vehicle_search.models.located import _loader
from mteb_vehicle_search.plugin import registry
from mteb_vehicle_search.run_record import RunRecord
from mteb_vehicle_search.settings import embeddings_folder, home
from mteb_vehicle_search.tasks import task_of

mteb_vehicle_search.register()


def build(name: str, **changed: Any) -> EvalSet:
    """Build a small set where sets are built, and let mteb know it."""
    eval_set = small_set(home() / "data" / name, name=name, title=name.replace("-", " ").title(), **changed)
    registry.register()
    return eval_set


@pytest.fixture
def dogs() -> EvalSet:
    return build("dog-image-search")


@pytest.fixture
def cats() -> EvalSet:
    return build("cat-image-search", captioned=7)


@pytest.fixture
def cache(tmp_path: Path) -> ResultCache:
    return ResultCache(tmp_path / "results")


def evaluate(cache: ResultCache | None, *names: str, encoder: Any = None, tasks: Any = None, **kwargs: Any) -> Any:
    asked = tasks or [mteb.get_task(name) for name in names]
    done = mteb.evaluate(
        encoder or ToyEncoder(), asked, cache=cache, num_proc=0, encode_kwargs={"batch_size": 5}, **kwargs
    )
    return done.task_results


def files(cache: ResultCache, name: str) -> list[dict[str, Any]]:
    paths = sorted(Path(cache.cache_path).rglob(f"{name}.json"), key=lambda path: len(path.parts))
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def vectors() -> list[Path]:
    return [path for path in embeddings_folder().rglob("*") if path.suffix in (".npy", ".safetensors")]


# A set is a task


def test_each_set_is_a_task_of_its_own(dogs: EvalSet, cats: EvalSet, cache: ResultCache) -> None:
    found = evaluate(cache, "DogImageSearch", "CatImageSearch")
    assert [(one.task_name, one.dataset_revision) for one in found] == [
        ("DogImageSearch", dogs.content_id),
        ("CatImageSearch", cats.content_id),
    ]
    alone = [evaluate(None, name)[0].scores for name in ("DogImageSearch", "CatImageSearch")]
    assert [one.scores for one in found] == alone
    assert alone[0] != alone[1]
    for name, eval_set in (("DogImageSearch", dogs), ("CatImageSearch", cats)):
        (stored,) = files(cache, name)
        assert stored["dataset_revision"] == eval_set.content_id
        assert stored["scores"]["test"][0]["run"]["images_id"] == eval_set.images_id
    tables = build_leaderboard([Path(cache.cache_path)]).document["tables"]
    assert {table["task"] for table in tables} == {"DogImageSearch", "CatImageSearch"}
    assert {table["title"] for table in tables} == {"Dog Image Search", "Cat Image Search"}


def test_a_second_run_gives_the_stored_result_and_shows_it(dogs: EvalSet, cache: ResultCache, capsys: Any) -> None:
    (first,) = evaluate(cache, "DogImageSearch")
    capsys.readouterr()
    encoder = ToyEncoder()
    (second,) = evaluate(cache, "DogImageSearch", encoder=encoder)
    assert second.scores["test"][0]["ndcg_at_10"] == pytest.approx(first.scores["test"][0]["ndcg_at_10"], abs=1e-6)
    assert encoder.images_seen == 0
    shown = capsys.readouterr().out
    assert f"{first.scores['test'][0]['ndcg_at_10']:.4f}" in shown
    assert "--overwrite-strategy always" in shown


def test_the_set_of_another_task_is_refused(dogs: EvalSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VEHICLE_SEARCH_DATA", str(dogs.folder))
    with pytest.raises(EvalSetError, match=r"DogImageSearch(.|\n)*-t DogImageSearch"):
        evaluate(None, "VehicleImageSearch")
    assert mteb.get_task("VehicleImageSearch").metadata.revision == "not-built"


def test_the_chosen_set_comes_before_one_of_its_name(
    dogs: EvalSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = small_set(tmp_path / "chosen", captioned=3, name="dog-image-search")
    monkeypatch.setenv("VEHICLE_SEARCH_DATA", str(chosen.folder))
    assert evaluate(None, "DogImageSearch")[0].dataset_revision == chosen.content_id != dogs.content_id


def test_a_damaged_folder_is_one_warning_and_the_others_are_tasks(dogs: EvalSet) -> None:
    damaged = home() / "data" / "zebras"
    damaged.mkdir()
    (damaged / "manifest.json").write_text("{half", encoding="utf-8")
    registry._told.clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        registry.register()
        registry.register()
    assert [str(damaged) in str(one.message) for one in caught] == [True]
    assert mteb.get_task("DogImageSearch").metadata.revision == dogs.content_id


def test_two_folders_of_one_task_name_are_one_warning(dogs: EvalSet) -> None:
    small_set(home() / "data" / "more-dogs", captioned=3, name="dog-image-search")
    registry._told.clear()
    with pytest.warns(mteb_vehicle_search.errors.PluginWarning, match=r"more-dogs.*DogImageSearch") as caught:
        registry.register()
    assert len(caught) == 1
    assert evaluate(None, "DogImageSearch")[0].dataset_revision == dogs.content_id


def test_a_name_that_mteb_has_is_mtebs() -> None:
    registry._told.clear()
    small_set(home() / "data" / "nf", name="nf", task_name="NFCorpus")
    with pytest.warns(mteb_vehicle_search.errors.PluginWarning, match="'NFCorpus' is taken"):
        registry.register()
    assert type(mteb.get_task("NFCorpus")).__module__.startswith("mteb.")


def test_a_task_of_a_set_pickles_and_keeps_its_class(dogs: EvalSet) -> None:
    task = mteb.get_task("DogImageSearch")
    again = pickle.loads(pickle.dumps(task))  # noqa: S301
    assert type(again) is type(task) is task_of(dogs)
    assert again.metadata.revision == dogs.content_id
    task.load_data()
    loaded = pickle.loads(pickle.dumps(task))  # noqa: S301
    assert loaded.dataset["default"]["test"]["corpus"][0]["id"] == dogs.corpus_ids()[0]


def test_a_task_of_a_set_comes_to_another_process(dogs: EvalSet, tmp_path: Path) -> None:
    (tmp_path / "task").write_bytes(pickle.dumps(mteb.get_task("DogImageSearch")))
    code = f"import pickle; task = pickle.load(open({str(tmp_path / 'task')!r}, 'rb')); print(task.metadata.revision)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == dogs.content_id, done.stderr


def test_no_path_of_this_computer_gets_into_a_result(dogs: EvalSet, cache: ResultCache) -> None:
    (result,) = evaluate(cache, "DogImageSearch")
    texts = [result.model_dump_json(), json.dumps(files(cache, "DogImageSearch"), default=str)]
    texts += [str(result.get_hf_eval_results()), str(result._to_hf_benchmark_result())]
    for text in texts:
        assert str(home().parent) not in text
    assert mteb.get_task("DogImageSearch").metadata.dataset["path"] == "DogImageSearch"


# What was measured, and on what


def test_one_task_object_over_three_models_gives_three_results(dogs: EvalSet, cache: ResultCache) -> None:
    task = mteb.get_task("DogImageSearch")
    found = [evaluate(cache, tasks=task, encoder=ToyEncoder(f"toy/{n}"))[0] for n in "abc"]
    assert [one.dataset_revision for one in found] == [dogs.content_id] * 3
    assert len({one.scores["test"][0]["ndcg_at_10"] for one in found}) == 3
    assert len(RunRecord.find(content_id=dogs.content_id)) == 3


def test_a_task_made_before_a_rebuild_says_what_it_measured(dogs: EvalSet, cache: ResultCache) -> None:
    task = mteb.get_task("DogImageSearch")
    new = build("dog-image-search", captioned=4)
    assert new.content_id != dogs.content_id
    assert evaluate(cache, tasks=task)[0].dataset_revision == new.content_id


@pytest.mark.parametrize("strategy", ["only-missing", "never", "always"])
def test_a_rebuilt_set_is_measured_anew_and_the_old_result_kept(
    dogs: EvalSet, cache: ResultCache, capsys: Any, strategy: str
) -> None:
    evaluate(cache, "DogImageSearch")
    (old,) = files(cache, "DogImageSearch")
    new = build("dog-image-search", captioned=4)
    capsys.readouterr()
    (result,) = evaluate(cache, "DogImageSearch", overwrite_strategy=strategy)
    assert result.dataset_revision == new.content_id
    stored, kept = files(cache, "DogImageSearch")
    assert kept == old
    assert stored["dataset_revision"] == new.content_id
    (path,) = (one for one in Path(cache.cache_path).rglob("DogImageSearch.json") if "other_runs" in one.parts)
    if strategy != "always":
        told = " ".join(capsys.readouterr().err.split())
        for part in (dogs.content_id, new.content_id, str(path), "vehicle-search leaderboard"):
            assert part in told
    both = build_leaderboard([Path(cache.cache_path)]).document["tables"]
    assert {table["content_id"] for table in both} == {dogs.content_id, new.content_id}
    assert len(cache.load_results(tasks=["DogImageSearch"]).model_results[0].task_results) == 1


def test_only_what_is_stored_is_refused_where_it_is_of_other_data(dogs: EvalSet, cache: ResultCache) -> None:
    evaluate(cache, "DogImageSearch")
    build("dog-image-search", captioned=4)
    with pytest.raises(ResultsError, match=dogs.content_id):
        evaluate(cache, "DogImageSearch", overwrite_strategy="only-cache")


def test_other_images_under_the_same_ids_are_other_data(dogs: EvalSet, cache: ResultCache) -> None:
    (before,) = evaluate(cache, "DogImageSearch")
    images = list(dogs.images())
    jpegs = dict(zip([one for one, _ in images], [jpeg for _, jpeg in images[::-1]], strict=True))
    from mteb_vehicle_search.eval_set.schema import CorpusImage

    rows = {row.pop("corpus-id"): row for row in dogs.provenance().to_pylist()}
    permuted = build("dog-image-search", images=[CorpusImage(one, jpegs[one], rows[one]) for one in dogs.corpus_ids()])
    assert permuted.content_id == dogs.content_id
    (after,) = evaluate(cache, "DogImageSearch")
    assert after.scores["test"][0]["run"]["images_id"] == permuted.images_id != dogs.images_id
    assert after.scores["test"][0]["ndcg_at_10"] != before.scores["test"][0]["ndcg_at_10"]
    assert len(files(cache, "DogImageSearch")) == 2
    assert len(RunRecord.find(content_id=dogs.content_id)) == 2
    assert len(build_leaderboard([Path(cache.cache_path)]).document["tables"]) == 2


def test_plain_run_experiments_and_precision_are_four_runs(
    dogs: EvalSet, cache: ResultCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "vehicle-search/tiny-clip"
    evaluate(cache, "DogImageSearch", encoder=mteb.get_model(name, device="cpu"))
    for options in ({"preprocess": "fast"}, {"precision": "bf16"}):
        evaluate(cache, "DogImageSearch", encoder=mteb.get_model(name, device="cpu", **options))
    evaluate(cache, "DogImageSearch", encoder=ToyEncoder("vehicle-search/tiny-clip", embed_dim=64))
    monkeypatch.setenv("VEHICLE_SEARCH_PRECISION", "fp16")
    evaluate(cache, "DogImageSearch", encoder=mteb.get_model(name, device="cpu"))
    keys = {record.key for record in RunRecord.find(content_id=dogs.content_id)}
    assert {key[4:] for key in keys} == {
        ((), "fp32", "exact"),
        ((), "fp32", "fast"),
        ((), "bf16", "exact"),
        ((("embed_dim", "64"),), "unknown", ""),
        ((), "fp16", "exact"),
    }
    (table,) = build_leaderboard([Path(cache.cache_path)]).document["tables"]
    assert len(table["rows"]) == 5
    assert len(files(cache, "DogImageSearch")) == 5


# Measured, then written, then shown, then cleaned


def test_vectors_live_until_the_result_is_written(dogs: EvalSet, cache: ResultCache, monkeypatch: Any) -> None:
    def watched(path: Path) -> None:
        assert json.loads(path.read_text(encoding="utf-8"))["dataset_revision"] == dogs.content_id
        assert vectors()
        seen.append(path)

    seen: list[Path] = []
    monkeypatch.setattr(stored_results, "show_written", watched)
    evaluate(cache, "DogImageSearch")
    assert len(seen) == 1
    assert not vectors()


def test_a_result_that_cannot_be_written_costs_no_encoding(
    dogs: EvalSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "results").write_text("in the way")
    with pytest.raises(ResultsError, match=r"cannot be written(.|\n)*nothing is encoded anew"):
        evaluate(ResultCache(tmp_path / "full"), "DogImageSearch")
    assert vectors()
    encoder = ToyEncoder()
    (result,) = evaluate(ResultCache(tmp_path / "elsewhere"), "DogImageSearch", encoder=encoder)
    assert (encoder.images_seen, encoder.texts_seen) == (5, 0), "the first batch proves that the model is the same"
    assert not vectors()
    assert result.scores == evaluate(None, "DogImageSearch")[0].scores


def test_without_a_cache_the_next_evaluation_encodes_anew(dogs: EvalSet) -> None:
    evaluate(None, "DogImageSearch")
    encoder = ToyEncoder()
    evaluate(None, "DogImageSearch", encoder=encoder)
    assert encoder.images_seen == 5 + 36, "the first batch tells at once whether the vectors are of use"
    stored_results.end_earlier()
    assert not vectors()


def test_a_result_file_that_was_cut_off_is_kept_and_replaced(dogs: EvalSet, cache: ResultCache, capsys: Any) -> None:
    (first,) = evaluate(cache, "DogImageSearch")
    (path,) = Path(cache.cache_path).rglob("DogImageSearch.json")
    path.write_bytes(path.read_bytes()[:100])
    (second,) = evaluate(cache, "DogImageSearch")
    assert second.scores == first.scores
    assert "cannot be read" in capsys.readouterr().err
    assert [one.stat().st_size for one in Path(cache.cache_path).rglob("DogImageSearch.json") if one != path] == [100]


def test_the_result_comes_last_and_whole(dogs: EvalSet, cache: ResultCache, monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[str] = []
    replace = Path.replace

    def watched(self: Path, target: Path) -> Path:
        if "results" in Path(target).parts:
            moved.append(Path(target).name)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", watched)
    evaluate(cache, "DogImageSearch")
    assert moved[:3][-1] == "DogImageSearch.json"
    assert {"model_meta.json", "run_settings.jsonl"} < set(moved)
    assert not list(Path(cache.cache_path).glob(".*"))


def test_results_of_other_tasks_pass_through(tmp_path: Path) -> None:
    calls: list[tuple[Any, ...]] = []
    save = stored_results.around_save(lambda *given, **named: calls.append((given, named)))

    class Other:
        task_name, dataset_revision = "NFCorpus", "0" * 40

    save("cache", Other, "model", "revision", encode_kwargs={"a": 1})
    assert calls == [(("cache", Other, "model", "revision"), {"encode_kwargs": {"a": 1}})]
    check = stored_results.around_check(lambda *given: given)
    assert check("task", "meta", "cache", "always") == ("task", "meta", "cache", "always")


def test_what_an_older_result_does_not_say_is_no_difference() -> None:
    old = stored_results.Stored.of({"dataset_revision": "c", "scores": {"test": [{"ndcg_at_10": 0.5}]}})
    new = stored_results.Stored("c", {"images_id": "i", "precision": "bf16"})
    assert old.differs_from(new) == ""
    assert new.differs_from(stored_results.Stored("c", {"precision": "fp32"})) == (
        "its precision is bf16, and fp32 is asked for"
    )
    for odd in ({}, {"scores": None}, {"scores": {"test": []}}, {"scores": {"test": [{"run": 1}]}}, {"scores": 1}):
        assert stored_results.Stored.of({"dataset_revision": "c", **odd}) == ("c", {})


# Whose code made it

SIGLIP = "google/siglip2-base-patch16-224"
FIRST_DAYS: dict[str, Any] = {}
TOLD, UNTOLD = {"precision": "fp32", "preprocess": "exact"}, {"precision": "unknown", "preprocess": ""}
PLUGIN = ModelMeta.create_empty({"name": "org/colours", "revision": "1"}).model_copy(update={"loader": small_set})


def ours(name: str) -> Any:
    return next(meta for meta in model_metas() if meta.name == name)


def mtebs(name: str) -> Any:
    module = importlib.import_module("mteb.models.model_implementations.siglip_models")
    return next(one for one in vars(module).values() if isinstance(one, ModelMeta) and one.name == name)


def located(name: str) -> Any:
    return image_text_meta(name, "1" * 40, _loader("transformers", None, "0" * 40))


@pytest.mark.parametrize(
    ("meta", "run", "used"),
    [
        (ours(SIGLIP), TOLD, True),
        (ours(SIGLIP), UNTOLD, False),
        (ours(SIGLIP), FIRST_DAYS, False),
        (ours(SIGLIP), {**TOLD, "implementation": "mteb"}, False),
        (ours(SIGLIP), {**TOLD, "implementation": "mteb_vehicle_search"}, True),
        (mtebs(SIGLIP), TOLD, False),
        (mtebs(SIGLIP), UNTOLD, True),
        (mtebs(SIGLIP), FIRST_DAYS, True),
        (mtebs(SIGLIP), {**TOLD, "implementation": "mteb_vehicle_search"}, False),
        (mtebs(SIGLIP), {**UNTOLD, "implementation": "mteb"}, True),
        (located("google/siglip2-large-patch16-384"), UNTOLD, False),
        (located("google/siglip2-large-patch16-384"), FIRST_DAYS, False),
        (located("google/siglip2-large-patch16-384"), TOLD, True),
        (ours("vehicle-search/tiny-clip"), FIRST_DAYS, True),
        (ours("jinaai/jina-clip-v2"), FIRST_DAYS, True),
        (ours("jinaai/jina-clip-v2"), TOLD, True),
        (ours("jinaai/jina-clip-v2"), UNTOLD, False),
        (PLUGIN, UNTOLD, True),
        (PLUGIN, TOLD, True),
        (PLUGIN, {**TOLD, "implementation": "mteb"}, False),
        (ToyEncoder().mteb_model_meta, {**UNTOLD, "implementation": "mteb"}, True),
    ],
)
def test_a_result_of_other_code_under_the_same_name_is_not_used(
    dogs: EvalSet, cache: ResultCache, meta: Any, run: dict[str, Any], used: bool
) -> None:
    assert (stored_and_used(dogs, cache, meta, run)) is used


def test_a_mode_that_an_encoder_does_not_have_is_no_difference(
    dogs: EvalSet, cache: ResultCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VEHICLE_SEARCH_PREPROCESS", "fast")
    assert stored_and_used(dogs, cache, located("org/sentences"), {"precision": "fp32", "preprocess": ""})
    assert not stored_and_used(dogs, cache, located("org/clip"), TOLD)


def stored_and_used(dogs: EvalSet, cache: ResultCache, meta: Any, run: dict[str, Any]) -> bool:
    scores = {"ndcg_at_10": 0.5, **({"run": run} if run else {})}
    path = cache.get_task_result_path("DogImageSearch", meta)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"dataset_revision": dogs.content_id, "scores": {"test": [scores]}}), encoding="utf-8")
    check = stored_results.around_check(lambda *given: ("stored", {"test": ["default"]}))
    return check(mteb.get_task("DogImageSearch"), meta, cache, "only-missing")[0] == "stored"


def test_a_result_of_other_code_is_kept_beside_the_new_one(dogs: EvalSet, cache: ResultCache) -> None:
    path, new = cache.get_task_result_path("DogImageSearch", ours(SIGLIP)), {"implementation": "mteb_vehicle_search"}
    assert not stored_and_used(dogs, cache, ours(SIGLIP), FIRST_DAYS)
    stored_results._set_aside(path, stored_results.Stored(dogs.content_id, new), ours(SIGLIP))
    assert not path.exists()
    assert len(list(path.parent.rglob("other_runs/*/DogImageSearch.json"))) == 1


def test_results_say_whose_code_made_them(dogs: EvalSet, cache: ResultCache) -> None:
    evaluate(cache, "DogImageSearch", encoder=mteb.get_model("vehicle-search/tiny-clip", device="cpu"))
    (stored,) = files(cache, "DogImageSearch")
    (record,) = RunRecord.find(content_id=dogs.content_id)
    said = [stored["scores"]["test"][0]["run"]["implementation"], record.info["implementation"]]
    assert said == ["mteb_vehicle_search"] * 2


def test_scores_are_those_of_plain_numpy(dogs: EvalSet) -> None:
    """The run that is stored beside the scores changes none of them."""
    (result,) = evaluate(None, "DogImageSearch")
    scores = result.scores["test"][0]
    (record,) = RunRecord.find(content_id=dogs.content_id)
    ranks = np.array(record.queries()["rank"].to_pylist())
    assert scores["ndcg_at_10"] == pytest.approx(np.where(ranks <= 10, 1 / np.log2(1 + ranks), 0).mean(), abs=1e-5)
    assert scores["run"] == {
        "images_id": dogs.images_id,
        "sources_id": dogs.sources_id,
        "implementation": "",
        "options": {},
        "precision": "unknown",
        "preprocess": "",
    }
