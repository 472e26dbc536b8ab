"""Whole evaluations through mteb with small encoders: scores, checks, resuming."""

import json
import os
import shutil
import signal
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import mteb
import numpy as np
import pytest
from filelock import FileLock
from forked import status_of
from mteb.cache import ResultCache
from mteb.models import SearchEncoderWrapper
from small_set import small_set
from toy_encoder import ToyEncoder
from web_folder import serving

import mteb_vehicle_search
from mteb_vehicle_search import stored_results
from mteb_vehicle_search.citations import FLICKR30K
from mteb_vehicle_search.errors import DataNotFoundError, EncodeError, EvalSetError
from mteb_vehicle_search.eval_set import copying
from mteb_vehicle_search.eval_set.schema import Qrel
from mteb_vehicle_search.plugin import asked, registry
from mteb_vehicle_search.run_record import RunRecord
from mteb_vehicle_search.search import vectors as embeddings
from mteb_vehicle_search.search.exact_search import ExactSearch
from mteb_vehicle_search.settings import embeddings_folder, home, mini_folder

mteb_vehicle_search.register()


@pytest.fixture
def data(tmp_path, monkeypatch):
    eval_set = small_set(tmp_path / "set")
    monkeypatch.setenv("VEHICLE_SEARCH_DATA", str(tmp_path / "set"))
    return eval_set


def run(encoder):
    task = mteb.get_task("VehicleImageSearch")
    result = mteb.evaluate(encoder, task, cache=None, num_proc=0, encode_kwargs={"batch_size": 5})
    return result.task_results[0]


def test_scores_record_and_revision_agree(data):
    import pandas as pd

    result = run(ToyEncoder())
    scores = result.scores["test"][0]
    assert result.dataset_revision == data.content_id
    (record,) = RunRecord.find(content_id=data.content_id)
    table = record.queries().to_pandas()
    assert len(table) == 12
    assert record.info["copied_from"] is None
    gains = np.where(table["rank"] <= 10, 1 / np.log2(1 + table["rank"]), 0)
    assert scores["ndcg_at_10"] == pytest.approx(gains.mean(), abs=1e-5)
    assert scores["recall_at_1"] == pytest.approx((table["rank"] == 1).mean(), abs=1e-5)
    assert scores["mrr_at_10"] == pytest.approx(np.where(table["rank"] <= 10, 1 / table["rank"], 0).mean(), abs=1e-5)
    assert scores["median_rank"] == table["rank"].median()
    assert scores["ndcg_at_10_ci_low"] <= scores["ndcg_at_10"] <= scores["ndcg_at_10_ci_high"]
    assert (table["above_flickr30k"] + table["above_imagenet"] + 1 == table["rank"]).all()
    only = (table["rank"] > 1) & (table["above_flickr30k"] == 0)
    assert scores["beaten_only_by_distractors"] == pytest.approx(only.mean())
    for row in table.itertuples():
        if row.rank <= 10:
            assert row.top_ids[row.rank - 1] == row.relevant_id
        assert (pd.Series(row.top_scores).diff().dropna() < 0).all()
    assert record.info["corpus_size"] == 36
    assert record.info["sources"]["flickr30k"] == {"images": 6, "captioned": 6}
    json.dumps(record.info, allow_nan=False)


def test_vectors_are_dropped_after_a_run_unless_kept(data, monkeypatch):
    run(ToyEncoder())
    stored_results.end_earlier()
    assert not list(embeddings_folder().rglob("*.safetensors"))
    monkeypatch.setenv("VEHICLE_SEARCH_KEEP_EMBEDDINGS", "1")
    run(ToyEncoder())
    stored_results.end_earlier()
    kept = sorted(path.name for path in embeddings_folder().rglob("*.safetensors"))
    assert kept == ["chunk-000000.safetensors", "queries.safetensors"]


def spoiled(change):
    def spoil(ids, vectors):
        return change(list(ids), vectors)

    encoder = ToyEncoder()
    encoder.spoil = spoil
    return encoder


def nan_for_one(ids, vectors):
    if "imagenet/train/n0003" in ids:
        vectors[ids.index("imagenet/train/n0003")] = np.nan
    return vectors


def zero_for_one(ids, vectors):
    if "flickr30k/0004" in ids:
        vectors[ids.index("flickr30k/0004")] = 0
    return vectors


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (nan_for_one, "NaN or infinite values for 1 of 36 inputs, first image imagenet/train/n0003"),
        (zero_for_one, "all-zero vector for 1 of 5 inputs, first image flickr30k/0004"),
        (lambda ids, v: v[:-1] if len(ids) == 36 else v, "35 vectors for 36 inputs; the first image .*n0029"),
        (lambda ids, v: v[:, :7] if len(ids) == 12 else v, "dimension 7 from query 0000_caption_00 on; it was 16"),
        (lambda ids, v: v[:, 0], "of shape"),
    ],
)
def test_bad_vectors_are_refused_with_the_id(data, change, message):
    with pytest.raises(EncodeError, match=message):
        run(spoiled(change))


def test_missing_data_says_where_it_looked(tmp_path, monkeypatch):
    monkeypatch.setenv("VEHICLE_SEARCH_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(DataNotFoundError, match=r"nowhere(.|\n)*vehicle-search-data build"):
        run(ToyEncoder())


def test_random_baseline_of_mteb_runs(data):
    result = run(mteb.get_model("mteb/baseline-random-encoder"))
    assert 0 < result.scores["test"][0]["ndcg_at_10"] < 1


def test_a_store_that_the_probe_refutes_is_not_used(data, monkeypatch):
    monkeypatch.setattr(embeddings, "CHUNK_ROWS", 9)
    honest = run(ToyEncoder()).scores["test"][0]

    def broken(ids, vectors):
        if "imagenet/train/n0020" in ids:
            raise KeyboardInterrupt
        return vectors * np.arange(1, 17)  # other weights under the same name

    with pytest.raises(KeyboardInterrupt):
        run(spoiled(broken))
    assert run(ToyEncoder()).scores["test"][0] == honest


def test_an_interrupted_run_goes_on(data, monkeypatch):
    monkeypatch.setattr(embeddings, "CHUNK_ROWS", 9)
    honest = run(ToyEncoder()).scores["test"][0]

    def stopped(ids, vectors):
        if "imagenet/train/n0020" in ids:
            raise KeyboardInterrupt
        return vectors

    with pytest.raises(KeyboardInterrupt):
        run(spoiled(stopped))
    second = ToyEncoder()
    assert run(second).scores["test"][0] == honest
    assert second.images_seen == 36 - 18 + 5  # two chunks were there; five images are the probe
    (record,) = RunRecord.find(content_id=data.content_id)
    assert record.info["resumed_images"] == 18


def at_call(number, target, name):
    """Return what makes the process kill itself in so many calls of a function from now."""

    def arm():
        original, calls = getattr(target, name), []

        def watched(*args, **kwargs):
            calls.append(name)
            if len(calls) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **kwargs)

        setattr(target, name, watched)

    return arm


# A first batch, four chunks of nine images, and then the queries are encoded; the identity's fsync comes before theirs.
# While a chunk is encoded, the two before may still be on their way to the disk.
MOMENTS = {
    "in the first batch": (at_call(1, ToyEncoder, "encode"), {0}),
    "in the first chunk": (at_call(2, ToyEncoder, "encode"), {0}),
    "in the third chunk": (at_call(4, ToyEncoder, "encode"), {0, 9, 18}),
    "between the vectors of the third chunk and their name": (at_call(4, os, "fsync"), {18}),
    "in the queries": (at_call(6, ToyEncoder, "encode"), {36}),
    "before the run record has its name": (at_call(1, Path, "rename"), {36}),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_sigkill_at_any_moment_then_resume_gives_identical_scores(data, monkeypatch, moment):
    arm, kept = MOMENTS[moment]
    monkeypatch.setattr(embeddings, "CHUNK_ROWS", 9)

    def armed():
        arm()
        run(ToyEncoder())

    assert status_of(armed) == -signal.SIGKILL
    resumed = run(ToyEncoder()).scores["test"][0]
    (record,) = RunRecord.find(content_id=data.content_id)
    assert record.info["resumed_images"] in kept
    monkeypatch.setenv("VEHICLE_SEARCH_HOME", str(home().with_name("fresh")))
    assert resumed == run(ToyEncoder()).scores["test"][0]


COMMON = {
    "type": "Any2AnyRetrieval",
    "category": "t2i",
    "modalities": ["text", "image"],
    "eval_splits": ["test"],
    "eval_langs": ["eng-Latn"],
    "main_score": "ndcg_at_10",
    "task_subtypes": ["Image Text Retrieval"],
    "dialect": [],
    "is_public": True,
    "annotations_creators": "derived",
    "reference": "https://github.com/lukemerrick/vehicle-image-search-eval",
    "prompt": {"query": "Find the image that the caption describes."},
}
OWN = {
    "VehicleImageSearch": {
        "date": ("2009-01-01", "2024-12-31"),
        "license": "not specified",
        "sample_creation": "found",
        "domains": ["Web"],
    },
    "VehicleImageSearchMini": {
        "date": ("2026-11-01", "2026-11-30"),
        "license": "apache-2.0",
        "sample_creation": "created",
        "domains": ["Constructed"],
        "bibtex_citation": "",
    },
}


@pytest.mark.parametrize("name", OWN)
def test_mteb_is_told_what_the_task_is(name):
    task = mteb.get_task(name)
    expected = {"name": name, **COMMON, **OWN[name]}
    assert {field: getattr(task.metadata, field) for field in expected} == expected
    assert task.k_values == (1, 3, 5, 10, 20, 100)
    assert task.abstask_prompt == "Find the image that the caption describes."
    assert task.metadata.description.startswith("Find the ")


def test_the_two_works_behind_the_task_are_cited():
    citation = mteb.get_task("VehicleImageSearch").metadata.bibtex_citation
    assert citation.endswith(FLICKR30K)
    assert "@misc{merrick2024vehicle," in citation


def test_the_revision_is_the_content_id(data):
    assert mteb.get_task("VehicleImageSearch").metadata.revision == data.content_id
    mini = json.loads((mini_folder() / "manifest.json").read_text(encoding="utf-8"))
    assert mteb.get_task("VehicleImageSearchMini").metadata.revision == mini["content_id"]


@pytest.mark.parametrize(("manifest", "error"), [(None, DataNotFoundError), ("{half", EvalSetError)])
def test_without_data_a_task_can_be_listed_and_says_what_is_missing_when_it_loads(data, manifest, error):
    path = data.folder / "manifest.json"
    path.unlink()
    if manifest:
        path.write_text(manifest, encoding="utf-8")
    task = mteb.get_task("VehicleImageSearch")
    assert task.metadata.revision == "not-built"
    with pytest.raises(error):
        task.load_data()
    assert not task.data_loaded


def test_the_task_looks_in_the_chosen_folder_else_in_the_home(data, monkeypatch):
    task = type(mteb.get_task("VehicleImageSearch"))
    assert task.data_folder() == data.folder
    monkeypatch.delenv("VEHICLE_SEARCH_DATA")
    assert task.data_folder() == home() / "data" / "vehicle-image-search"
    assert type(mteb.get_task("VehicleImageSearchMini")).data_folder() == mini_folder()


@pytest.fixture
def served(data, monkeypatch):
    """A web server that has the set, at whose address `VehicleImageSearch` looks."""
    monkeypatch.setattr(copying, "_copied", {})
    with serving(data.folder) as web:
        monkeypatch.setenv("VEHICLE_SEARCH_DATA", web.url)
        yield web


def test_a_set_behind_an_address_is_copied_when_it_is_evaluated_and_not_before(served, data):
    assert mteb.get_task("VehicleImageSearch").metadata.revision == "not-built"
    mteb.get_task("VehicleImageSearchMini").load_data()
    assert served.asked == {}
    result = run(ToyEncoder())
    assert result.dataset_revision == data.content_id
    (record,) = RunRecord.find(content_id=data.content_id)
    assert record.info["copied_from"] == served.url
    task = mteb.get_task("VehicleImageSearch")
    assert task.metadata.revision == data.content_id
    assert task.data_folder().parent == home() / "copies"
    assert served.asked.total() == 8


def test_a_stored_result_is_of_the_set_at_the_address_before_that_is_here(served, data, tmp_path, monkeypatch):
    cache = ResultCache(tmp_path / "results")
    task = mteb.get_task("VehicleImageSearch")
    mteb.evaluate(ToyEncoder(), task, cache=cache, num_proc=0)
    shutil.rmtree(home())
    copying._copied.clear()
    monkeypatch.setattr(ToyEncoder, "encode", lambda *given, **also: pytest.fail("it was encoded anew"))
    again = mteb.evaluate(ToyEncoder(), mteb.get_task("VehicleImageSearch"), cache=cache, num_proc=0).task_results[0]
    assert again.dataset_revision == data.content_id


def test_mteb_run_knows_the_task_of_a_set_behind_an_address_once_it_is_asked_for(served, data):
    small_set(data.folder, name="dog-image-search")
    try:
        with pytest.raises(KeyError):
            asked.our_tasks(["WombatImageSearch"])
        (task,) = asked.our_tasks(["DogImageSearch"]).values()
        assert task.require_data().folder.parent == home() / "copies"
    finally:
        registry.forget_tasks(["DogImageSearch"])


def test_statistics_are_written_beside_the_users_data():
    """mteb's own folder may belong to somebody else."""
    path = mteb.get_task("VehicleImageSearch").metadata.descriptive_stat_path
    assert path == home() / "statistics" / "VehicleImageSearch.json"


def test_loading_gives_mteb_queries_judgements_and_corpus(tmp_path, monkeypatch):
    judged = [Qrel(f"{n:04d}_caption_{c:02d}", f"flickr30k/{n:04d}") for n in range(3) for c in range(2)]
    judged.append(Qrel("0000_caption_00", "flickr30k/0002"))
    eval_set = small_set(tmp_path / "set", captioned=3, distractors=4, qrels=judged)
    monkeypatch.setenv("VEHICLE_SEARCH_DATA", str(tmp_path / "set"))
    task = mteb.get_task("VehicleImageSearch")
    task.load_data(num_proc=1)
    split = task.dataset["default"]["test"]
    assert split["queries"].to_list() == [{"id": id, "text": text} for id, text in eval_set.queries()]
    assert list(split["corpus"]["id"]) == eval_set.corpus_ids()
    assert split["relevant_docs"] == {
        query: dict.fromkeys(sorted(qrel.corpus_id for qrel in judged if qrel.query_id == query), 1)
        for query in sorted({qrel.query_id for qrel in judged})
    }
    assert split["relevant_docs"]["0000_caption_00"] == {"flickr30k/0000": 1, "flickr30k/0002": 1}
    assert split["top_ranked"] is None
    assert task.data_loaded


def test_data_is_loaded_once_and_forgotten_when_mteb_says_so(data):
    task = mteb.get_task("VehicleImageSearch")
    task.load_data()
    loaded = task.dataset
    task.load_data()
    assert task.dataset is loaded
    task._search = SimpleNamespace()
    task.unload_data()
    assert not task.data_loaded
    assert not hasattr(task, "_search")
    task.unload_data()  # nothing is there to forget
    task.load_data()
    assert task.dataset is not loaded


@pytest.mark.parametrize("model", [object(), SearchEncoderWrapper(ToyEncoder())], ids=["no encoder", "a search"])
def test_what_is_no_encoder_is_refused_by_name(data, model):
    task = mteb.get_task("VehicleImageSearch")
    with pytest.raises(EncodeError) as caught:
        task.evaluate(model, "test", encode_kwargs={})
    assert caught.value.message.startswith(f"{type(model).__name__} is not an encoder; VehicleImageSearch")
    assert not task._support_cross_encoder


@pytest.mark.parametrize("step", ["scores", "record"])
def test_a_search_that_left_nothing_is_an_error(data, step):
    task = mteb.get_task("VehicleImageSearch")
    task.load_data()
    task._search = ExactSearch(SimpleNamespace(mteb_model_meta=SimpleNamespace()), task.eval_set)
    with pytest.raises(EncodeError, match="left no outcome"):
        task.task_specific_scores({}, {}, {}, "test", "default") if step == "scores" else task._record({})


def test_the_record_says_when_the_run_was_and_what_it_scored(data, capsys):
    moments = [datetime.now(UTC)]

    def noted(ids, vectors):
        moments.append(datetime.now(UTC))
        return vectors

    scores = run(spoiled(noted)).scores["test"][0]
    after = datetime.now(UTC)
    (record,) = RunRecord.find()
    started, finished = (datetime.fromisoformat(record.info[key]) for key in ("started", "finished"))
    assert moments[0] <= started <= moments[1] < moments[-1] <= finished <= after
    names = {"ndcg_at_10", "map_at_10", "recall_at_1", "recall_at_10", "ndcg_at_10_ci_low", "ndcg_at_10_ci_high"}
    names |= {"median_rank", "beaten_only_by_distractors", "ndcg_at_10_ci_images"}
    assert record.info["scores"] == {name: scores[name] for name in names}
    assert (record.info["task_name"], record.info["content_id"]) == ("VehicleImageSearch", data.content_id)
    assert (record.info["model_name"], record.info["model_revision"]) == ("toy/encoder", "r1")
    assert record.folder.parts[-2:] == (data.content_id, record.key.folder_name)
    assert f"{scores['ndcg_at_10']:.4f}" in capsys.readouterr().out


def test_after_a_run_another_may_encode(data):
    run(ToyEncoder())
    (lock,) = embeddings_folder().rglob("lock")
    with FileLock(lock, timeout=0):
        pass


def test_judgements_that_were_edited_under_an_old_manifest_are_not_scored(data):
    import pyarrow as pa
    import pyarrow.parquet as pq

    (path,) = data.files("qrels")
    table = pq.read_table(path)
    images = table["corpus-id"].to_pylist()
    edited = table.set_column(1, "corpus-id", pa.array([images[-1], *images[1:]]))
    pq.write_table(edited, path)
    encoder = ToyEncoder()
    with pytest.raises(EvalSetError, match=rf"{data.content_id}(.|\n)*verify"):
        run(encoder)
    assert encoder.images_seen == 0
