"""What mteb's own code, documents and wrappers do with a task, its corpus and its result works with ours."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import mteb
import pytest
from mteb.cache import ResultCache
from mteb.models import SearchEncoderWrapper
from mteb.models.cache_wrappers import CachedEmbeddingWrapper
from small_set import small_set
from toy_encoder import ToyEncoder

import mteb_vehicle_search
from mteb_vehicle_search.errors import EncodeError, EvalSetError
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.plugin import registry
from mteb_vehicle_search.run_record import RunRecord
from mteb_vehicle_search.settings import home

mteb_vehicle_search.register()


@pytest.fixture
def dogs() -> EvalSet:
    eval_set = small_set(home() / "data" / "dogs", name="dog-image-search")
    registry.register()
    return eval_set


def evaluate(model: Any, task: Any = None, cache: ResultCache | None = None, **kwargs: Any) -> Any:
    asked = task or mteb.get_task("DogImageSearch")
    return mteb.evaluate(model, asked, cache=cache, num_proc=0, encode_kwargs={"batch_size": 5}, **kwargs)


def scores(result: Any) -> dict[str, Any]:
    return result.task_results[0].scores["test"][0]


def test_descriptive_statistics_are_computed_and_kept_beside_the_users_data(dogs: EvalSet) -> None:
    found = mteb.get_task("DogImageSearch").calculate_descriptive_statistics()["test"]
    assert (found["num_documents"], found["num_queries"]) == (36, 12)
    assert found["documents_image_statistics"]["min_image_width"] == 40
    assert found["relevant_docs_statistics"]["average_relevant_docs_per_query"] == 1
    stored = json.loads((home() / "statistics" / "DogImageSearch.json").read_text(encoding="utf-8"))
    assert stored["test"]["num_documents"] == 36
    assert mteb.get_task("DogImageSearch").metadata.descriptive_stats["test"]["num_queries"] == 12


def test_a_cache_of_embeddings_changes_no_score(dogs: EvalSet, tmp_path: Path) -> None:
    plain = scores(evaluate(ToyEncoder()))
    first = ToyEncoder()
    assert scores(evaluate(CachedEmbeddingWrapper(first, tmp_path / "cache"))) == plain
    assert 0 < first.images_seen <= 36
    second = ToyEncoder()
    assert scores(evaluate(CachedEmbeddingWrapper(second, tmp_path / "cache"))) == plain
    assert second.images_seen == 0


@pytest.mark.parametrize("dtype", ["int8", "float16"])
def test_compressed_embeddings_are_searched(dogs: EvalSet, dtype: str) -> None:
    from mteb.models import CompressionWrapper
    from mteb.types import OutputDType

    plain = scores(evaluate(ToyEncoder()))
    found = scores(evaluate(CompressionWrapper(ToyEncoder(), output_dtype=OutputDType.from_str(dtype))))
    assert 0 < found["ndcg_at_10"] <= 1
    if dtype == "float16":
        assert found["ndcg_at_10"] == pytest.approx(plain["ndcg_at_10"], abs=0.05)
    options = {record.key.options for record in RunRecord.find(content_id=dogs.content_id)}
    assert len(options) == 2, "a compressed run is a run of its own"


def test_a_search_of_its_own_is_refused_with_what_to_pass(dogs: EvalSet) -> None:
    with pytest.raises(EncodeError, match="SearchEncoderWrapper is not an encoder"):
        evaluate(SearchEncoderWrapper(ToyEncoder()))


def test_saved_predictions_are_those_of_the_record(dogs: EvalSet, tmp_path: Path) -> None:
    evaluate(ToyEncoder(), prediction_folder=tmp_path)
    saved = json.loads((tmp_path / "DogImageSearch_predictions.json").read_text(encoding="utf-8"))
    run = saved["default"]["test"]
    (record,) = RunRecord.find(content_id=dogs.content_id)
    for row in record.queries().to_pylist():
        best = sorted(run[row["query_id"]], key=run[row["query_id"]].__getitem__, reverse=True)
        assert best[:10] == row["top_ids"]


def test_a_second_stage_is_refused_before_anything_is_encoded(dogs: EvalSet, tmp_path: Path) -> None:
    evaluate(ToyEncoder(), prediction_folder=tmp_path)
    task = mteb.get_task("DogImageSearch").convert_to_reranking(tmp_path, top_k=5)
    encoder = ToyEncoder()
    with pytest.raises(EncodeError, match="re-rank"):
        evaluate(encoder, task)
    assert encoder.images_seen == 0


@pytest.mark.parametrize("clean", ["remove_duplicates", "remove_by_image_size"])
def test_a_task_with_fewer_images_is_refused_and_not_searched_whole(dogs: EvalSet, clean: str) -> None:
    from mteb import data_cleaning

    task = mteb.get_task("DogImageSearch")
    given = {"min_size": 20} if clean == "remove_by_image_size" else {}
    try:
        cleaned = getattr(data_cleaning, clean)(task, **given)
    except TypeError:
        pytest.skip("mteb asks for other arguments")
    cleaned.dataset["default"]["test"]["corpus"] = cleaned.dataset["default"]["test"]["corpus"].select(range(20))
    with pytest.raises(EncodeError, match="whole evaluation set"):
        evaluate(ToyEncoder(), cleaned)


def test_results_are_loaded_tabulated_and_written_again(dogs: EvalSet, tmp_path: Path) -> None:
    cache = ResultCache(tmp_path / "results")
    result = evaluate(ToyEncoder(), cache=cache)
    loaded = cache.load_results(tasks=["DogImageSearch"])
    frame = loaded.to_dataframe()
    assert frame["toy/encoder"].tolist() == [pytest.approx(scores(result)["ndcg_at_10"], abs=1e-6)]
    (one,) = loaded.model_results[0].task_results
    assert one.get_score() == pytest.approx(scores(result)["ndcg_at_10"], abs=1e-6)
    assert one.only_main_score().scores["test"][0]["main_score"] == one.get_score()
    one.validate_and_filter_scores()
    one.to_disk(tmp_path / "again.json")
    # As text: mteb's nAUCs are NaN, which is like nothing.
    assert str(type(one).from_disk(tmp_path / "again.json").scores) == str(one.scores)
    result.to_disk(tmp_path / "model.json")
    assert type(result).from_disk(tmp_path / "model.json").task_results[0].dataset_revision == dogs.content_id
    assert one.to_dict()["scores"]["test"][0]["run"] == scores(result)["run"]
    assert one.is_mergeable(mteb.get_task("DogImageSearch"))


def test_tasks_and_benchmarks_are_selected_as_mtebs_are(dogs: EvalSet) -> None:
    found = {task.metadata.name for task in mteb.get_tasks(modalities=["image"], languages=["eng"])}
    assert {"DogImageSearch", "VehicleImageSearch", "VehicleImageSearchMini"} <= found
    task = mteb.get_task("DogImageSearch", languages=["eng"], eval_splits=["test"])
    assert (task.languages, list(task.eval_splits), task.hf_subsets) == (["eng"], ["test"], ["default"])
    assert "DogImageSearch" in repr(task)
    assert hash(task) == hash(mteb.get_task("DogImageSearch"))
    assert mteb.get_tasks(tasks=["DogImageSearch"]).to_dataframe()["name"].tolist() == ["DogImageSearch"]


def test_several_models_over_a_benchmark_of_ones_own(dogs: EvalSet, tmp_path: Path) -> None:
    benchmark = mteb.Benchmark(name="Mine", tasks=(mteb.get_task("DogImageSearch"),))
    cache = ResultCache(tmp_path / "results")
    for name in ("toy/a", "toy/b"):
        (one,) = evaluate(ToyEncoder(name), benchmark, cache).task_results
        assert one.dataset_revision == dogs.content_id
    assert len(cache.load_results(tasks=benchmark).model_results) == 2


def test_the_random_baseline_and_the_warnings_of_errors(dogs: EvalSet) -> None:
    found = evaluate(mteb.get_model("mteb/baseline-random-encoder"), raise_error=False)
    assert 0 < scores(found)["ndcg_at_10"] < 1
    broken = ToyEncoder()
    broken.spoil = lambda ids, vectors: vectors * float("nan")  # type: ignore[assignment]
    (error,) = evaluate(broken, raise_error=False).exceptions
    assert "NaN" in error.exception


def test_a_set_is_pushed_by_the_command_that_tells_the_terms(dogs: EvalSet) -> None:
    with pytest.raises(EvalSetError, match="terms of its sources") as refused:
        mteb.get_task("DogImageSearch").push_dataset_to_hub("me/dogs")
    assert refused.value.hint == f"vehicle-search-data push {dogs.folder} me/dogs"


def test_the_command_line_lists_the_set(dogs: EvalSet) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mteb", "available-tasks", "--tasks", "DogImageSearch"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "DogImageSearch" in done.stdout + done.stderr
