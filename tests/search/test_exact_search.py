"""ExactSearch: what it asks of an encoder, what it keeps and encodes again, and what it says about the run."""

import hashlib
import json
import logging
import os
import shutil
import sys
from contextlib import suppress
from datetime import UTC, datetime
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from socket import gethostname
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import planted
import pytest
import torch
from datasets import Dataset
from mteb.types import PromptType
from planted import (
    BATCH,
    WHERE,
    Call,
    Planted,
    ask,
    end,
    images_of,
    index,
    queries_of,
    stored,
    whole_numbers,
    whole_run,
)
from safetensors import safe_open
from safetensors.numpy import save
from small_set import small_set

from mteb_vehicle_search import settings
from mteb_vehicle_search.errors import EncodeError
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.eval_set.schema import Qrel
from mteb_vehicle_search.models.encoder import ImageTextEncoder
from mteb_vehicle_search.search import described, encoding, probing
from mteb_vehicle_search.search import exact_search as search
from mteb_vehicle_search.search import vectors as embeddings
from mteb_vehicle_search.search.exact_search import ExactSearch
from mteb_vehicle_search.settings import embeddings_folder

VERSIONS = described.versions
IMAGES, QUERIES, CHUNK = 36, 12, 10


class Namesake(Planted):
    """Another class."""


class Own(Planted, ImageTextEncoder):
    """One of our encoders, which reads the dataset itself and reports its progress."""

    mteb_model_meta = None
    load = tokenise = lambda self: None

    def encode(self, loader, *, on_progress, prompt_type, **options):
        ids = list(loader.dataset["id"])
        self.calls.append(Call(ids, prompt_type, loader, set(), {}, {**options, "on_progress": on_progress}))
        if on_progress:
            on_progress(len(ids) - 1)
            on_progress(1)
            if not loader.num_workers:
                list(loader)  # what the loader says is counted no more
        return torch.from_numpy(self.answer(ids))

    def describe(self):
        return {"device": "cpu,cpu", "precision": "bf16", "num_workers": 3, "preprocess": "fast"}

    def fingerprint(self):
        return "as it was"


@pytest.fixture(scope="module")
def eval_set(tmp_path_factory):
    """36 images, 12 queries, of which one has two relevant images."""
    eval_set = small_set(tmp_path_factory.mktemp("small") / "plain")
    qrels = [*eval_set.qrels(), Qrel("0001_caption_01", "imagenet/train/n0002")]
    return small_set(eval_set.folder.with_name("set"), qrels=sorted(qrels))


@pytest.fixture(autouse=True)
def small_and_quick(monkeypatch):
    monkeypatch.setattr(embeddings, "CHUNK_ROWS", CHUNK)
    monkeypatch.setattr(described, "versions", lambda: {"torch": "9"})  # reading all of them takes longer than a search


@pytest.fixture
def vectors(eval_set):
    return whole_numbers(eval_set)


def with_manifest(eval_set, **changed):
    return EvalSet(eval_set.folder, {**eval_set.manifest, **changed})


@pytest.mark.parametrize(("similarity", "top_k"), [("dot", 4), ("dot", 50), ("cosine", 4), (None, 36), (None, 1)])
def test_everything_agrees_with_brute_force(eval_set, vectors, similarity, top_k):
    if similarity != "dot":  # no angle twice, since rounding would decide
        rng = np.random.default_rng(1)
        vectors = {given: rng.standard_normal(6) * (1 + row % 3) for row, given in enumerate(vectors)}
    found = index(Planted(vectors, similarity_fn_name=similarity), eval_set)
    # In an order that is not that of the ids, and not all of them.
    chosen = [eval_set.queries()[number] for number in (7, 3, 2, 11, 0)]
    queries = Dataset.from_dict({"id": [q.id for q in chosen], "text": [q.text for q in chosen]})
    run = ask(found, queries, top_k=top_k)
    outcome, ids = found.outcome, eval_set.corpus_ids()

    def as_compared(names):
        taken = np.array([vectors[name] for name in names], dtype=np.float64)
        return taken if similarity == "dot" else taken / np.linalg.norm(taken, axis=1, keepdims=True)

    scores = as_compared(queries["id"]) @ as_compared(ids).T
    judged = {(qrel.query_id, qrel.corpus_id) for qrel in eval_set.qrels()}
    pairs = [(q, row) for q, query in enumerate(queries["id"]) for row, i in enumerate(ids) if (query, i) in judged]
    assert len(pairs) == 6
    assert outcome.query_ids == list(run) == queries["id"][:]
    assert outcome.pairs == pairs
    sources = eval_set.sources()
    for number, (query, row) in enumerate(pairs):
        over = [i for i in range(IMAGES) if i != row and scores[query, i] >= scores[query, row]]
        assert outcome.ranking.ranks[number] == len(over) + 1
        assert outcome.ranking.tied[number] == sum(scores[query, i] == scores[query, row] for i in over)
        by_source = [sum(sources[i] == name for i in over) for name in ("flickr30k", "imagenet")]
        assert outcome.ranking.above[number].tolist() == by_source
    for number, query in enumerate(queries["id"]):
        listed = run[query]
        assert len(listed) == min(top_k, IMAGES)
        best = sorted(scores[number].tolist(), reverse=True)[:top_k]
        np.testing.assert_allclose([scores[number, ids.index(i)] for i in listed], best)
        np.testing.assert_allclose(list(listed.values()), best, atol=1e-4)
        assert all(type(score) is float for score in listed.values())
        assert (np.diff(list(listed.values())) < 0).all()
        assert list(listed) == [ids[row] for row in outcome.run.rows[number]]


def test_an_empty_place_is_no_image(eval_set, vectors):
    # The relevant image, in the list of three by its block's score, ranks behind its 34 equals; of two, behind 33.
    same = dict.fromkeys(vectors, np.ones(6)) | {eval_set.corpus_ids()[-1]: -np.ones(6)}
    found = index(Planted(same), eval_set)
    run = ask(found, top_k=3)
    for qrel in eval_set.qrels():
        assert not {qrel.corpus_id, eval_set.corpus_ids()[-1]} & set(run[qrel.query_id])
    twice = [query for query, _ in found.outcome.pairs if found.outcome.query_ids[query] == "0001_caption_01"]
    assert len(twice) == 2
    ranks = dict(zip(found.outcome.pairs, found.outcome.ranking.ranks.tolist()))
    assert sorted(rank for (query, _), rank in ranks.items() if query in twice) == [34, 35]
    assert {rank for (query, _), rank in ranks.items() if query not in twice} == {35}


def test_a_list_to_rank_again_is_refused(eval_set, vectors):
    found = index(Planted(vectors), eval_set)
    for given in ({}, {"0001_caption_01": ["flickr30k/0001"]}):
        with pytest.raises(EncodeError, match="does not re-rank"):
            found.search(queries_of(eval_set), top_k=3, **WHERE, encode_kwargs={}, top_ranked=given)
    assert found.outcome is None


def test_searching_needs_an_index(eval_set, vectors):
    model = Planted(vectors)
    with pytest.raises(EncodeError, match=r"search\(\) was called before index\(\)"):
        ask(ExactSearch(model, eval_set))
    assert model.calls == []


def test_it_is_the_model_for_mteb(eval_set, vectors):
    from mteb.models.models_protocols import SearchProtocol

    model = Planted(vectors)
    found = ExactSearch(model, eval_set)
    assert isinstance(found, SearchProtocol)
    assert found.mteb_model_meta is model.mteb_model_meta
    assert found.outcome is None


def test_a_similarity_that_is_not_offered_is_refused_at_once(eval_set, vectors):
    with pytest.raises(EncodeError, match="euclidean"):
        ExactSearch(Planted(vectors, similarity_fn_name="euclidean"), eval_set)


@pytest.mark.parametrize(
    ("device", "wanted"),
    [
        (None, "cpu"),
        ("cpu", "cpu"),
        ("mps", "cpu"),  # no float64 there
        ("cuda", "cuda"),
        ("cuda:1", "cuda:1"),
        (torch.device("cuda", 2), "cuda:2"),
    ],
)
def test_queries_are_sent_to_the_models_gpu(eval_set, vectors, monkeypatch, device, wanted):
    class Sent(Exception):
        pass

    class Arrived:
        def __init__(self, array):
            assert array.shape == (QUERIES, 6)

        def to(self, device):
            raise Sent(str(torch.device(device)))

    model = Planted(vectors)
    model.device = device
    found = index(model, eval_set)
    monkeypatch.setattr(torch, "from_numpy", Arrived)
    with pytest.raises(Sent) as sent:
        ask(found)
    assert str(sent.value) == wanted


def test_the_corpus_by_chunks_and_the_queries_at_once(eval_set, vectors):
    model = Planted(vectors)
    ask(index(model, eval_set))
    ids = eval_set.corpus_ids()
    # The first batch first, which tells whether the encoder is of use.
    assert model.asked() == [ids[:BATCH], ids[:10], ids[10:20], ids[20:30], ids[30:]]
    assert model.asked(PromptType.query) == [[query.id for query in eval_set.queries()]]


def test_a_foreign_encoder_gets_what_mteb_passes(eval_set, vectors):
    model = Planted(vectors)
    ask(index(model, eval_set, colour="red"), colour="red", show_progress_bar=True)
    assert len(model.calls) == 6
    for call in model.calls:
        assert call.where == WHERE
        assert call.options == {"batch_size": BATCH, "colour": "red", "show_progress_bar": False}
        assert call.loader.batch_size == BATCH
    assert [call.columns for call in model.calls] == [{"id", "image"}] * 5 + [{"id", "text", "query"}]


def test_our_own_encoders_also_get_workers_and_progress(eval_set, vectors):
    model = Own(vectors)
    ask(index(model, eval_set, num_proc=2), num_proc=2)
    assert [call.options["num_proc"] for call in model.calls] == [2] * 5
    assert [call.options["on_progress"] is not None for call in model.calls] == [True] * 4 + [False]
    assert {call.options["show_progress_bar"] for call in model.calls} == {False}
    assert {call.options["batch_size"] for call in model.calls} == {BATCH}


def test_batches_have_32_unless_told_otherwise(eval_set, vectors):
    model = Planted(vectors)
    found = ExactSearch(model, eval_set)
    found.index(images_of(eval_set), **WHERE, encode_kwargs={}, num_proc=0)
    found.search(queries_of(eval_set), top_k=3, **WHERE, encode_kwargs={}, num_proc=0)
    assert [call.loader.batch_size for call in model.calls] == [32] * 6
    assert found.outcome.info["batch_size"] == 32
    end(found)
    again = Planted(vectors)
    assert whole_run(again, eval_set, batch_size=32).outcome.info["resumed_images"] == IMAGES


@pytest.mark.parametrize(
    ("num_proc", "items", "cores", "workers"),
    [
        (0, 10_000, 8, 0),
        (3, 1, 8, 3),
        (40, 1, 8, 40),
        (-1, 10_000, 8, 0),
        (None, 255, 8, 0),
        (None, 256, 8, 8),
        (None, 256, 16, 16),
        (None, 256, 17, 16),
        (None, 256, 1, 1),
    ],
)
def test_workers_are_the_processors_unless_told_otherwise(monkeypatch, num_proc, items, cores, workers):
    monkeypatch.setattr(encoding.multiprocessing, "get_start_method", lambda allow_none: "fork")
    monkeypatch.setattr(settings, "usable_cores", lambda: cores)
    assert encoding.loader_workers(num_proc, items) == workers


@pytest.mark.parametrize(
    ("chosen", "possible", "workers"),
    [
        ("spawn", ["fork"], 0),
        ("forkserver", ["fork"], 0),
        ("fork", ["spawn"], 8),
        (None, ["fork", "spawn", "forkserver"], 8),
        # Linux from Python 3.14 on; Windows.
        (None, ["forkserver", "spawn", "fork"], 0),
        (None, ["spawn"], 0),
    ],
)
def test_there_are_workers_where_forking_is_the_rule(monkeypatch, chosen, possible, workers):
    monkeypatch.setattr(encoding.multiprocessing, "get_start_method", lambda allow_none: chosen)
    monkeypatch.setattr(encoding.multiprocessing, "get_all_start_methods", lambda: possible)
    monkeypatch.setattr(settings, "usable_cores", lambda: 8)
    assert encoding.loader_workers(None, 10_000) == workers
    assert encoding.loader_workers(3, 10_000) == 3


@pytest.mark.parametrize(("num_proc", "workers"), [(None, 0), (0, 0), (1, 1)])
def test_images_are_decoded_by_as_many_workers(eval_set, vectors, num_proc, workers):
    model = Own(vectors)
    model.answer = lambda ids: np.ones((len(ids), 6))
    model.encode = lambda loader, **given: model.calls.append(loader) or model.answer(loader.dataset["id"])
    index(model, eval_set, num_proc=num_proc)
    assert [loader.num_workers for loader in model.calls] == [workers] * 4


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda ids, v: v[:-1] if "imagenet/train/n0004" in ids else v, "9 vectors for 10 .*image.* n0013"),
        (
            lambda ids, v: v[:, :5] if "imagenet/train/n0014" in ids else v,
            "5 from image .*n0014 on; it was 6",
        ),
        (lambda ids, v: v[:, :5] if len(ids) == QUERIES else v, "5 from query 0000_caption_00 on; it was 6"),
        (lambda ids, v: v * (np.array(ids) != "imagenet/train/n0020")[:, None], "all-zero .*first image .*n0020"),
        (lambda ids, v: v / (np.array(ids) != "0003_caption_01")[:, None], "NaN .*first query 0003_caption_01"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_bad_vectors_are_refused_with_the_first_id(eval_set, vectors, spoil, message):
    model = Planted(vectors)
    model.answer = lambda ids: spoil(ids, Planted.answer(model, ids))
    with pytest.raises(EncodeError, match="toy/encoder returned .*" + message.replace("n0013", "imagenet/train/n0013")):
        ask(index(model, eval_set))


@pytest.mark.parametrize(("similarity", "unit"), [("dot", False), ("cosine", True)])
def test_stored_vectors_are_as_they_are_compared(eval_set, vectors, similarity, unit):
    found = index(Planted(vectors, similarity_fn_name=similarity), eval_set)
    lengths = np.concatenate([np.linalg.norm(read, axis=1) for _, read in found.store.chunks()])
    plain = [np.linalg.norm(vectors[given]) for given in eval_set.corpus_ids()]
    np.testing.assert_allclose(lengths, np.ones(IMAGES) if unit else plain, rtol=1e-6)


def test_vectors_lie_in_a_folder_of_the_set_and_the_model(eval_set, vectors):
    found = index(Planted(vectors), eval_set)
    folder = embeddings_folder() / eval_set.content_id[:16] / found._described.key.folder_name
    assert found.store.folder == folder
    assert folder.name.startswith("toy__encoder__r1__")
    assert stored(found) == [0, 1, 2, 3]


def test_vectors_stay_when_the_search_ends(eval_set, vectors):
    # Until mteb has written its result; it is not the search that drops them.
    assert stored(whole_run(Planted(vectors), eval_set)) == [0, 1, 2, 3]


def test_a_second_run_of_the_same_model_is_refused_at_once_until_the_first_ends(eval_set, vectors, monkeypatch):
    def wait(seconds):
        raise AssertionError("It waits.")

    first = index(Planted(vectors), eval_set)
    second = Planted(vectors)
    with monkeypatch.context() as patched:
        patched.setattr("time.sleep", wait)
        with pytest.raises(EncodeError) as refused:
            index(second, eval_set)
    assert "Another run is encoding Vehicle Image Search with toy/encoder" in refused.value.message
    said = refused.value.message + refused.value.hint
    lock = first.store.folder.with_name(f".{first.store.folder.name}.lock") / "lock"
    for what in (f"process {os.getpid()}", f"on {gethostname()}", "for 0:00:0", f"is gone, delete {lock}"):
        assert what in said
    assert lock.is_file()
    assert second.calls == []
    assert stored(first) == [0, 1, 2, 3]
    ask(first)
    end(first)
    assert ask(index(second, eval_set))


@pytest.mark.parametrize(
    "trouble", [KeyboardInterrupt(), SystemExit(1), RuntimeError("CUDA error"), EncodeError("Bad.")]
)
@pytest.mark.parametrize("when", [PromptType.document, PromptType.query])
def test_others_may_begin_once_a_search_has_ended_however_it_ends(eval_set, vectors, trouble, when):
    model, queries = Planted(vectors), {query.id for query in eval_set.queries()}

    def answer(ids):
        if (ids[0] in queries) == (when == PromptType.query):
            raise trouble
        return Planted.answer(model, ids)

    model.answer = answer
    options = {"encode_kwargs": {"batch_size": BATCH}, "num_proc": 0}
    with pytest.raises(type(trouble)) as raised, ExactSearch(model, eval_set) as failing:  # noqa: PT012
        failing.index(images_of(eval_set), **WHERE, **options)
        failing.search(queries_of(eval_set), top_k=3, **WHERE, **options)
    assert failing is not None
    # What was raised, and all that it keeps alive, is still there, as in a notebook.
    assert raised.value is trouble
    second = whole_run(Planted(vectors), eval_set)
    assert second.outcome.info["resumed_images"] == (IMAGES if when == PromptType.query else 0)


def test_a_search_holds_its_lock_until_the_end_of_the_block(eval_set, vectors):
    with ExactSearch(Planted(vectors), eval_set) as first:
        first.index(images_of(eval_set), **WHERE, encode_kwargs={"batch_size": BATCH}, num_proc=0)
        ask(first)
        with pytest.raises(EncodeError, match="Another run is encoding Vehicle Image Search with toy/encoder"):
            index(Planted(vectors), eval_set)
    index(Planted(vectors), eval_set)


def test_other_models_and_other_sets_may_run_at_once(eval_set, vectors):
    running = [index(Planted(vectors), eval_set)]
    running.append(index(Planted(vectors, name="toy/other"), eval_set))
    running.append(index(Planted(vectors, revision="r2"), eval_set))
    running.append(index(Planted(vectors), with_manifest(eval_set, content_id="f" * 64)))
    assert len({found.store.folder for found in running}) == 4
    assert [stored(found) for found in running] == [[0, 1, 2, 3]] * 4


def test_a_search_that_is_dropped_holds_no_lock(eval_set, vectors):
    found = index(Planted(vectors), eval_set)
    del found
    index(Planted(vectors), eval_set)


def test_kept_vectors_give_the_same_results_without_encoding(eval_set, vectors):
    first = index(Planted(vectors), eval_set)
    results = ask(first)
    end(first)
    model = Planted(vectors)
    second = index(model, eval_set)
    assert ask(second) == results
    assert model.asked() == [eval_set.corpus_ids()[:BATCH]]  # the probe
    assert first.outcome.info["resumed_images"] == 0
    assert second.outcome.info["resumed_images"] == IMAGES
    assert second.outcome.info["images_per_s"] is None
    assert second.outcome.info["embed_dim"] == 6


@pytest.mark.parametrize("gone", [[0], [1, 3], [0, 1, 2], [3]])
def test_only_missing_chunks_are_encoded(eval_set, vectors, caplog, gone):
    caplog.set_level(logging.INFO, "mteb_vehicle_search.search.probing")
    first = whole_run(Planted(vectors), eval_set)
    for number in gone:
        first.store.path(number).unlink()
    model, ids = Planted(vectors), eval_set.corpus_ids()
    second = whole_run(model, eval_set)
    left = sorted({0, 1, 2, 3} - set(gone))
    rows = first.store.ranges()
    probe = ids[rows[left[0]].start :][:BATCH]
    assert model.asked() == [probe, *(ids[rows[number].start : rows[number].stop] for number in gone)]
    assert second.outcome.info["resumed_images"] == sum(len(rows[number]) for number in left)
    np.testing.assert_array_equal(second.outcome.run.rows, first.outcome.run.rows)
    assert f"{len(left)} chunks of images are already encoded" in caplog.text


def test_an_interrupted_run_goes_on_where_it_stopped(eval_set, vectors):
    ids, stopped = eval_set.corpus_ids(), Planted(vectors)

    def answer(asked):
        if asked[0] == ids[20]:
            raise KeyboardInterrupt
        return Planted.answer(stopped, asked)

    stopped.answer = answer
    first = ExactSearch(stopped, eval_set)
    with pytest.raises(KeyboardInterrupt):
        first.index(images_of(eval_set), **WHERE, encode_kwargs={"batch_size": BATCH}, num_proc=0)
    assert stored(first) == [0, 1]
    end(first)
    model = Planted(vectors)
    second = whole_run(model, eval_set)
    assert model.asked() == [ids[:BATCH], ids[20:30], ids[30:]]
    assert second.outcome.info["resumed_images"] == 20


@pytest.mark.parametrize("batch_size", [1, CHUNK, 2 * CHUNK])
def test_the_probe_is_a_batch_but_not_more_than_a_chunk(eval_set, vectors, batch_size):
    end(index(Planted(vectors), eval_set, batch_size=batch_size))
    model = Planted(vectors)
    index(model, eval_set, batch_size=batch_size)
    assert model.asked() == [eval_set.corpus_ids()[: min(batch_size, CHUNK)]]


@pytest.mark.parametrize("row", [0, BATCH - 1])
@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize(("share", "trusted"), [(0.9, True), (1.1, False)])
def test_stored_vectors_are_trusted_within_a_hundred_thousandth_of_the_largest_value(
    eval_set, vectors, caplog, row, sign, share, trusted
):
    # The largest is negative, in another row, and not 1.
    vectors = {given: vector.clip(-4, 2) for given, vector in vectors.items()}
    vectors[eval_set.corpus_ids()[1]][3] = -64
    first = index(Planted(vectors, similarity_fn_name="dot"), eval_set)
    end(first)
    before = first.store.read(0)
    changed = before.copy()
    changed[row, 2] = 0.5
    vectors[eval_set.corpus_ids()[row]][2] = 0.5
    changed[row, 2] += sign * share * 1e-5 * 64
    first.store.write(0, changed)
    model = Planted(vectors, similarity_fn_name="dot")
    second = index(model, eval_set)
    anew = [len(ids) for ids in model.asked()]
    assert anew == ([BATCH] if trusted else [BATCH, 10, 10, 10, 6])
    assert ("encoding all again" in caplog.text) is not trusted
    assert (str(second.store.folder) in caplog.text) is not trusted
    assert second.store.read(0)[row, 2] == (changed[row, 2] if trusted else 0.5)


def test_refuted_vectors_are_gone_even_if_the_run_is_interrupted(eval_set, vectors):
    first, ids = whole_run(Planted(vectors), eval_set), eval_set.corpus_ids()
    assert stored(first) == [0, 1, 2, 3]
    other = Planted({given: vector[::-1] for given, vector in vectors.items()})

    def answer(asked):
        if asked[0] == ids[20]:
            raise KeyboardInterrupt
        return Planted.answer(other, asked)

    other.answer = answer
    second = ExactSearch(other, eval_set)
    with pytest.raises(KeyboardInterrupt):
        second.index(images_of(eval_set), **WHERE, encode_kwargs={"batch_size": BATCH}, num_proc=0)
    assert stored(second) == [0, 1]
    end(second)


def test_the_very_same_vectors_need_no_tolerance(eval_set, vectors, monkeypatch):
    monkeypatch.setattr(probing, "TOLERANCE", 0)
    end(index(Planted(vectors), eval_set))
    model = Planted(vectors)
    index(model, eval_set)
    assert model.asked() == [eval_set.corpus_ids()[:BATCH]]


@pytest.mark.parametrize(("shape", "anew"), [((CHUNK, 5), [BATCH, 10, 10, 10, 6]), ((BATCH - 1, 6), [BATCH, 10])])
def test_stored_vectors_of_another_shape_are_not_trusted(eval_set, vectors, shape, anew):
    first = whole_run(Planted(vectors), eval_set)
    first.store.write(0, np.ones(shape, dtype=np.float32))
    model = Planted(vectors)
    second = whole_run(model, eval_set)
    assert [len(ids) for ids in model.asked()] == anew
    np.testing.assert_array_equal(second.outcome.run.rows, first.outcome.run.rows)


def flipped(store, other):
    content = bytearray(store.path(2).read_bytes())
    content[-1] ^= 128
    store.path(2).write_bytes(content)


def swapped(store, other):
    # Of as many rows, so that nothing but their proof tells them apart.
    one, two = store.path(1).read_bytes(), store.path(2).read_bytes()
    store.path(1).write_bytes(two)
    store.path(2).write_bytes(one)


def of_another_model(store, other):
    shutil.copy(other.path(2), store.path(2))


def rewritten(change):
    def damage(store, other):
        with safe_open(store.path(2), "numpy") as file:
            said, found = file.metadata(), file.get_tensor("vectors")
        store.path(2).write_bytes(save({"vectors": change(found)}, said))

    return damage


@pytest.mark.parametrize(
    ("damage", "anew"),
    [
        (flipped, [2]),
        (swapped, [1, 2]),
        (of_another_model, [2]),
        (rewritten(lambda found: found.astype(np.float16)), [2]),
        (rewritten(lambda found: found[:, :5]), [2]),
        (rewritten(lambda found: np.concatenate([found, found])), [2]),
        (rewritten(lambda found: found * np.float32(np.nan)), [2]),
        (lambda store, other: store.path(2).write_bytes(b""), [2]),
        (lambda store, other: store.path(2).write_bytes(store.path(2).read_bytes()[:-40]), [2]),
        (lambda store, other: (store.folder / "queries.safetensors").write_bytes(b"{}"), []),
        (lambda store, other: shutil.copy(other.folder / "queries.safetensors", store.folder), []),
    ],
)
@pytest.mark.parametrize("kind", [Planted, Own])
def test_what_is_damaged_is_encoded_again_and_nothing_else(eval_set, vectors, caplog, damage, anew, kind):
    wrong = {given: vector[::-1] for given, vector in vectors.items()}
    other = whole_run(kind(wrong, name="toy/other"), eval_set)
    first = whole_run(kind(vectors), eval_set)
    damage(first.store, other.store)
    model, ids = kind(vectors), eval_set.corpus_ids()
    second = whole_run(model, eval_set)
    # An encoder that identifies its weights need not show them where all is there.
    probe = [ids[:BATCH]] if kind is Planted or anew else []
    asked = [call.ids for call in model.calls if call.ids[0] in ids]
    assert asked[len(probe) :] == [ids[10 * chunk : 10 * chunk + 10] for chunk in anew]
    assert [one[:BATCH] for one in asked[: len(probe)]] == probe
    assert len(model.calls) - len(asked) == (0 if anew else 1)
    assert "is damaged" in caplog.text
    assert second.outcome.info["resumed_images"] == IMAGES - 10 * len(anew)
    for name in ("top", "top_scores", "above", "tied", "scores"):
        np.testing.assert_array_equal(getattr(second.outcome.ranking, name), getattr(first.outcome.ranking, name))


class World:
    """What a run is made of; a change is made to one of its parts."""

    def __init__(self, vectors, eval_set, monkeypatch, folder):
        self.vectors, self.eval_set, self.monkeypatch, self.folder = vectors, eval_set, monkeypatch, folder
        self.kind, self.meta, self.options, self.attributes = Planted, {}, {}, {}
        self.model = None

    def run(self):
        """Encode the corpus, and return the number of images in each request."""
        self.model = self.kind(self.vectors, **self.meta)
        vars(self.model).update(self.attributes)
        end(index(self.model, self.eval_set, **self.options))
        return [len(ids) for ids in self.model.asked()]

    def identity(self):
        """What lies beside the vectors."""
        (path,) = embeddings_folder().rglob("identity.json")
        return json.loads(path.read_text(encoding="utf-8"))

    def plugin(self, text, name="plugin"):
        """Return the class Encoder of a module that also holds the given text."""
        path = self.folder / f"{name}.py"
        path.write_text(f"{text}\n\n\nclass Encoder(Planted):\n    pass\n", encoding="utf-8")
        spec = spec_from_file_location(name, path)
        module = module_from_spec(spec)
        module.Planted = Planted
        self.monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module.Encoder


def other_content(world):
    """The folder above has the first digits only."""
    yield
    world.eval_set = with_manifest(world.eval_set, content_id=world.eval_set.content_id[:16] + "0" * 48)
    yield


def other_pixels(world):
    yield
    world.eval_set = with_manifest(world.eval_set)
    vars(world.eval_set)["images_id"] = "0" * 64
    yield


def other(part, before, after):
    """A change of a part, which is a dictionary, from one content to another."""

    def change(world):
        getattr(world, part).update(before)
        yield
        getattr(world, part).update(after)
        yield

    return change


def other_class(world):
    yield
    world.kind = Namesake
    yield


def other_module_of_the_same_text(world):
    world.kind = world.plugin("size = 1", "one")
    yield
    world.kind = world.plugin("size = 1", "two")
    yield


def other_code(world):
    world.kind = world.plugin("size = 1")
    yield
    world.kind = world.plugin("size = 2")
    yield


def other_version(world):
    yield
    world.monkeypatch.setattr(described, "versions", lambda: {"torch": "0.0.1"})
    yield


CHANGES = {
    "content": other_content,
    "pixels": other_pixels,
    # Folder names do not tell these apart.
    "model": other("meta", {"name": "toy/encoder"}, {"name": "toy__encoder"}),
    "revision": other("meta", {"revision": None}, {"revision": "r2"}),
    "experiment": other("meta", {}, {"experiment_kwargs": {"embed_dim": 3}}),
    "the experiment's value": other(
        "meta", {"experiment_kwargs": {"embed_dim": 4}}, {"experiment_kwargs": {"embed_dim": 3}}
    ),
    "class": other_class,
    "module": other_module_of_the_same_text,
    "code": other_code,
    "fingerprint": other("attributes", {"fingerprint": lambda: "a"}, {"fingerprint": lambda: "b"}),
    "batch size": other("options", {}, {"batch_size": BATCH + 1}),
    "similarity": other("meta", {"similarity_fn_name": "dot"}, {"similarity_fn_name": "cosine"}),
    "versions": other_version,
}
UNCHANGED = {
    "nothing": other("options", {}, {}),
    "progress": other("options", {}, {"show_progress_bar": False}),
    "the same fingerprint": other("attributes", {"fingerprint": lambda: "a"}, {"fingerprint": lambda: "a"}),
    "a fingerprint that is no function": other("attributes", {"fingerprint": "a"}, {"fingerprint": "b"}),
    "the same similarity": other("meta", {"similarity_fn_name": None}, {"similarity_fn_name": "cosine"}),
    "the number of parameters": other("meta", {"n_parameters": 1}, {"n_parameters": 2}),
}


@pytest.fixture
def world(eval_set, vectors, monkeypatch, tmp_path):
    # Of unit length and whole, so that the probe would trust them whatever was changed.
    unit = {given: np.eye(6)[number % 6] for number, given in enumerate(vectors)}
    return World(unit, eval_set, monkeypatch, tmp_path)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_decides_the_vectors_makes_them_anew(world, change):
    steps = change(world)
    next(steps)
    assert world.run() == [BATCH, 10, 10, 10, 6]
    next(steps)
    assert world.run() == [world.options.get("batch_size", BATCH), 10, 10, 10, 6]


@pytest.mark.parametrize("change", UNCHANGED.values(), ids=UNCHANGED)
def test_what_does_not_leaves_them(world, change):
    steps = change(world)
    next(steps)
    assert world.run() == [BATCH, 10, 10, 10, 6]
    next(steps)
    # An encoder that identifies its weights need not show that they are the same.
    assert world.run() == ([] if callable(world.attributes.get("fingerprint")) else [BATCH])


def test_all_that_decides_the_vectors_is_written_beside_them(world, eval_set):
    world.meta["experiment_kwargs"] = {"embed_dim": 3}
    world.options["colour"] = "red"
    world.attributes["fingerprint"] = lambda: "weights"
    world.attributes["describe"] = lambda: {"precision": "bf16", "preprocess": "fast"}
    world.run()
    source = Path(planted.__file__).read_text(encoding="utf-8")
    assert world.identity() == {
        "run": {
            "content_id": eval_set.content_id,
            "images_id": eval_set.images_id,
            "model": "toy/encoder",
            "revision": "r1",
            "options": [["colour", "red"], ["embed_dim", "3"]],
            "precision": "bf16",
            "preprocess": "fast",
        },
        "experiment": "{'embed_dim': 3}",
        "encoder": "planted.Planted",
        "code": hashlib.sha256(source.encode()).hexdigest(),
        "fingerprint": "weights",
        "batch_size": BATCH,
        "normalised": True,
        "versions": {"torch": "9"},
    }


@pytest.mark.parametrize("module", ["nowhere", "builtins"])
def test_an_encoder_without_source_is_known_by_its_name(world, monkeypatch, module):
    world.kind = type("Typed", (Planted,), {"__module__": module})
    assert world.run() == [BATCH, 10, 10, 10, 6]
    assert world.identity()["code"] == hashlib.sha256(b"").hexdigest()
    assert world.run() == [BATCH]
    world.kind = type("Other", (Planted,), {"__module__": module})
    assert world.run() == [BATCH, 10, 10, 10, 6]


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(search, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    return clock


def timed(kind, vectors, clock, **meta):
    """An encoder that takes 2 s for each request of images and 0.5 s for the queries."""
    model = kind(vectors, **meta)

    def answer(ids):
        clock.now += 0.5 if len(ids) == QUERIES else 2
        return Planted.answer(model, ids)

    model.answer = answer
    return model


def test_a_foreign_encoder(eval_set, vectors, clock):
    begun = datetime.now(UTC)
    model = timed(Planted, vectors, clock, training_datasets={"MSCOCO", "Flickr30k"})
    info = whole_run(model, eval_set).outcome.info
    started, finished = (datetime.fromisoformat(info.pop(key)) for key in ("started", "finished"))
    assert begun <= started < finished <= datetime.now(UTC)
    assert info == {
        "title": "Vehicle Image Search",
        "content_id": eval_set.content_id,
        "images_id": eval_set.images_id,
        "sources_id": eval_set.sources_id,
        "implementation": "",
        "bytes_id": eval_set.manifest["bytes_id"],
        "copied_from": None,
        "options": {},
        "preprocess": "",
        "model_name": "toy/encoder",
        "model_revision": "r1",
        "n_parameters": 7,
        "embed_dim": 6,
        "training_datasets": ["Flickr30k", "MSCOCO"],
        "versions": {"torch": "9"},
        "device": "unknown",
        "precision": "unknown",
        "batch_size": BATCH,
        "num_workers": 0,
        "images_per_s": IMAGES / 10,
        "texts_per_s": QUERIES / 0.5,
        "timings": {"encode_corpus_s": 10.0, "encode_queries_s": 0.5, "search_s": 0.0},
        "corpus_size": IMAGES,
        "query_count": QUERIES,
        "sources": {
            "flickr30k": {"images": 6, "captioned": 6},
            "imagenet": {"images": 30, "captioned": 0},
        },
        "encoder": {},
        "resumed_images": 0,
    }


def test_one_of_ours_describes_itself(eval_set, vectors, clock):
    model = timed(Own, vectors, clock)
    model.device = "cpu"
    info = whole_run(model, eval_set).outcome.info
    assert info["device"] == "cpu,cpu"
    assert info["precision"] == "bf16"
    assert info["num_workers"] == 3
    assert info["encoder"] == model.describe()
    assert info["training_datasets"] is None


class Cutting(Planted):
    """Tells how many texts it cut once it has read some, like our encoders."""

    texts: ClassVar[dict] = {}

    def encode(self, loader, *, prompt_type, **given):
        if prompt_type == PromptType.query:
            self.texts = {"context_tokens": 8, "texts": QUERIES, "texts_cut": 2}
        return super().encode(loader, prompt_type=prompt_type, **given)

    def describe(self):
        return {"library": "toy", **self.texts}


def test_what_was_cut_is_told_of_stored_queries_too(eval_set, vectors):
    told = {"library": "toy", "context_tokens": 8, "texts": QUERIES, "texts_cut": 2}
    assert whole_run(Cutting(vectors), eval_set).outcome.info["encoder"] == told
    again = Cutting(vectors)
    assert whole_run(again, eval_set).outcome.info["encoder"] == told
    assert again.asked(PromptType.query) == []


def test_a_device_is_told_without_a_description(eval_set, vectors):
    model = Planted(vectors)
    model.device, model.describe = torch.device("cpu"), "a toy"
    info = whole_run(model, eval_set).outcome.info
    assert info["device"] == "cpu"
    assert info["encoder"] == {}


def test_versions_are_those_of_the_packages_that_can_change_a_score(eval_set, vectors, monkeypatch):
    from mteb_vehicle_search.run_record import versions

    monkeypatch.setattr(described, "versions", VERSIONS)
    assert whole_run(Planted(vectors), eval_set).outcome.info["versions"] == versions()


@pytest.mark.parametrize(("known", "told"), [(None, None), (set(), []), ({"b", "a"}, ["a", "b"])])
def test_not_knowing_training_data_is_not_having_none(eval_set, vectors, known, told):
    model = Planted(vectors, training_datasets=known)
    assert whole_run(model, eval_set).outcome.info["training_datasets"] == told


def test_the_rate_is_that_of_the_images_that_were_encoded(eval_set, vectors, clock):
    first = whole_run(timed(Planted, vectors, clock), eval_set)
    first.store.path(3).unlink()
    info = whole_run(timed(Planted, vectors, clock), eval_set).outcome.info
    assert info["resumed_images"] == 30
    assert info["images_per_s"] == 6 / 4  # the probe takes its time, too


@pytest.mark.parametrize(("num_proc", "workers"), [(2, 2), (None, 0)])
def test_workers_of_a_foreign_encoder_are_those_of_its_loader(eval_set, vectors, num_proc, workers):
    model = Planted(vectors)
    model.encode = lambda loader, **given: Planted.answer(model, loader.dataset["id"])
    found = index(model, eval_set, num_proc=num_proc)
    ask(found, num_proc=num_proc)
    assert found.outcome.info["num_workers"] == workers


def test_times_add_up_even_if_something_fails(clock):
    timings = search._Timings()
    with timings.measure("a"):
        clock.now += 2
    with suppress(KeyboardInterrupt), timings.measure("a"):
        clock.now += 3
        raise KeyboardInterrupt
    with timings.measure("b"):
        clock.now += 1
    assert timings.seconds == {"a": 5.0, "b": 1.0}


class Bar:
    """In place of tqdm's: remembers what was shown."""

    shown: list

    def __init__(self, total, desc, unit, disable, **options):
        self.total, self.desc, self.unit, self.disable, self.options = total, desc, unit, disable, options
        self.steps, self.closed = [], False
        Bar.shown.append(self)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.closed = True

    def update(self, count):
        self.steps.append(count)


@pytest.fixture(autouse=True)
def bars(monkeypatch):
    Bar.shown = []
    monkeypatch.setattr("tqdm.auto.tqdm", Bar)


@pytest.mark.parametrize(("kind", "steps"), [(Planted, [5, 5] * 3 + [5, 1]), (Own, [9, 1] * 3 + [5, 1])])
def test_images_are_counted_as_they_are_encoded_and_as_they_are_searched(eval_set, vectors, kind, steps):
    whole_run(kind(vectors), eval_set)
    encoding, searching = Bar.shown
    assert (encoding.total, encoding.unit, encoding.desc) == (IMAGES, "image", "encode images")
    assert encoding.steps == steps
    assert (searching.total, searching.unit, searching.desc) == (IMAGES, "image", "search")
    assert searching.steps == [10, 10, 10, 6]
    # The time left is estimated from many batches, not from the last one.
    assert {bar.options["smoothing"] for bar in Bar.shown} == {0.1}
    assert encoding.closed
    assert searching.closed


def test_what_is_there_already_counts_and_the_probe_does_not(eval_set, vectors):
    first = whole_run(Planted(vectors), eval_set)
    first.store.path(1).unlink()
    Bar.shown = []
    whole_run(Planted(vectors), eval_set)
    assert Bar.shown[0].steps == [10, 10, 6, 5, 5]


@pytest.mark.parametrize(("options", "hidden"), [({}, False), ({"show_progress_bar": True}, False)])
def test_bars_are_shown_unless_told_otherwise(eval_set, vectors, options, hidden):
    whole_run(Planted(vectors), eval_set, **options)
    assert [bar.disable for bar in Bar.shown] == [hidden] * 2


def test_bars_are_hidden_on_request(eval_set, vectors):
    whole_run(Planted(vectors), eval_set, show_progress_bar=False)
    assert [bar.disable for bar in Bar.shown] == [True] * 2
