"""Whole evaluations through mteb with small encoders: scores, checks, resuming."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from itertools import islice
from pathlib import Path

import mteb
import numpy as np
import pytest
from mteb.models import ModelMeta
from mteb.models.abs_encoder import AbsEncoder
from small_set import small_set

import mteb_vehicle_search
from mteb_vehicle_search import embeddings
from mteb_vehicle_search.errors import DataNotFoundError, EncodeError
from mteb_vehicle_search.run_record import RunRecord

mteb_vehicle_search.register()


class ToyEncoder(AbsEncoder):
    """Vectors from a hash of the pixels or the text; `spoil` may damage them."""

    spoil = staticmethod(lambda ids, vectors: vectors)

    def __init__(self):
        self.mteb_model_meta = ModelMeta.create_empty(
            {"name": "toy/encoder", "revision": "r1", "modalities": ["text", "image"]}
        )
        self.images_seen = 0

    def encode(self, inputs, *, prompt_type=None, **kwargs):
        ids, rows = [], []
        for batch in inputs:
            items = batch.get("image", batch.get("text"))
            ids += list(batch["id"])
            for item in items:
                seed = abs(hash(item)) if isinstance(item, str) else int(np.asarray(item, dtype=np.int64).sum())
                rows.append(np.random.default_rng(seed % 2**32).standard_normal(16))
            self.images_seen += len(batch.get("image", []))
        return self.spoil(ids, np.array(rows, dtype=np.float32))


@pytest.fixture
def data(tmp_path, monkeypatch):
    evaluation = small_set(tmp_path / "set")
    monkeypatch.setenv("VEHICLE_SEARCH_DATA", str(tmp_path / "set"))
    return evaluation


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
    from mteb_vehicle_search.places import embeddings_folder

    run(ToyEncoder())
    assert not list(embeddings_folder().rglob("*.npy"))
    monkeypatch.setenv("VEHICLE_SEARCH_KEEP_EMBEDDINGS", "1")
    run(ToyEncoder())
    assert len(list(embeddings_folder().rglob("*.npy"))) == 1


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
        (zero_for_one, "all-zero vector for 1 of 36 inputs, first image flickr30k/0004"),
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


SLOW_RUN = """
    import sys, time
    import numpy as np
    from mteb_vehicle_search import embeddings
    embeddings.CHUNK_ROWS = 9
    sys.path.insert(0, {tests!r})
    import test_tasks
    from test_tasks import ToyEncoder, run
    class Slow(ToyEncoder):
        def encode(self, inputs, **kwargs):
            print("encoding", flush=True)
            time.sleep(0.3)
            return super().encode(inputs, **kwargs)
    Slow.__module__, Slow.__qualname__ = "test_tasks", "ToyEncoder"
    print("scores", run(Slow()).scores["test"][0], flush=True)
"""


def test_sigkill_at_three_moments_of_encoding_then_resume_gives_identical_scores(data):
    command = [sys.executable, "-c", textwrap.dedent(SLOW_RUN).format(tests=str(Path(__file__).parent))]
    environment = {**os.environ, "PYTHONHASHSEED": "7"}  # The encoder's vectors hang on hashes.
    for batches in (1, 3, 4):
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        started = (line for line in process.stdout if "encoding" in line)
        assert len([*islice(started, batches)]) == batches
        time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL

    def scores(home):
        variables = {**environment, "VEHICLE_SEARCH_HOME": home}
        found = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
        return next(line for line in found.stdout.splitlines() if line.startswith("scores"))

    home = os.environ["VEHICLE_SEARCH_HOME"]
    resumed = scores(home)
    (record,) = RunRecord.find(content_id=data.content_id)
    assert record.info["resumed_images"] > 0
    assert resumed == scores(home + "-fresh")
