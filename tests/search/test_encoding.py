"""The worker that encodes: made anew elsewhere it gives the same bytes, and what it cannot be made of is named."""

from __future__ import annotations

import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from socket import gethostname

import numpy as np
import pytest
import torch
from planted import BATCH, WHERE, ask, end, images_of, queries_of
from safetensors import safe_open
from small_set import small_set
from toy_encoder import ToyEncoder
from web_folder import serving

from mteb_vehicle_search import files, from_functions
from mteb_vehicle_search.engine import in_turn
from mteb_vehicle_search.engine.local import LocalEngine
from mteb_vehicle_search.errors import EncodeError, EvalSetError
from mteb_vehicle_search.eval_set import EvalSet, copying
from mteb_vehicle_search.eval_set.copies import origin_of
from mteb_vehicle_search.models import tiny_clip
from mteb_vehicle_search.models.handover import one_array
from mteb_vehicle_search.search import described, pieces
from mteb_vehicle_search.search import vectors as stored
from mteb_vehicle_search.search.encoding import About, MakeEncoder, Queries, Vectors, same_everywhere
from mteb_vehicle_search.search.exact_search import ExactSearch

GIVEN = {"batch_size": BATCH, "show_progress_bar": False, **WHERE}


@pytest.fixture(scope="module")
def eval_set(tmp_path_factory):
    return small_set(tmp_path_factory.mktemp("small") / "set")


@pytest.fixture(autouse=True)
def on_a_processor(monkeypatch):
    # A model that is made anew takes the device of its machine.
    monkeypatch.setenv("VEHICLE_SEARCH_DEVICE", "cpu")


def load_toy(name, revision=None, **options):
    return ToyEncoder(name, revision)


def own():
    return tiny_clip().load_model(device="cpu")


def foreign():
    return ToyEncoder().mteb_model_meta.model_copy(update={"loader": load_toy}).load_model()


def making(model, eval_set):
    here = model, eval_set, images_of(eval_set)
    return MakeEncoder(model.mteb_model_meta, eval_set.folder, None, eval_set.content_id, GIVEN, 0, here)


def elsewhere(made):
    """What arrives in another process."""
    return pickle.loads(pickle.dumps(made))  # noqa: S301


def held(result):
    """A result of any unit in what can be compared."""
    if isinstance(result, Vectors):
        return one_array(result()).tobytes()
    return tuple(map(held, result)) if isinstance(result, tuple) else result


@pytest.mark.parametrize("model_of", [own, foreign])
def test_a_worker_made_elsewhere_gives_the_same_bytes_in_any_order_of_units(eval_set, model_of):
    model = model_of()
    here, there = making(model, eval_set)(), elsewhere(making(model, eval_set))()
    assert here._model is model
    assert there._model is not model
    queries = Queries(queries_of(eval_set))
    units = [range(10), range(30, 36), queries, range(10, 30), About(), range(10)]
    first, second = ([*in_turn(one, enumerate(units), lambda count: None)] for one in (here, elsewhere_of(there)))
    assert [number for number, _ in first] == [*range(len(units))]
    assert [held(result) for _, result in first] == [held(result) for _, result in second]
    assert held(first[0][1]) == held(first[5][1]) != held(first[1][1])
    assert here.identity() == there.identity()
    whole = one_array(first[3][1]())
    assert (whole.shape[0], whole.dtype) == (20, np.float32)


def elsewhere_of(worker):
    """The same worker, whose results travel."""

    class Sending:
        def work(self, units, on_progress):
            for result in worker.work(units, on_progress):
                yield elsewhere(result)

    return Sending()


@pytest.mark.parametrize("model_of", [own, foreign])
def test_images_are_counted_as_they_are_encoded_and_queries_are_not(eval_set, model_of):
    counts = []
    units = [(0, range(10)), (1, Queries(queries_of(eval_set))), (2, range(30, 36))]
    list(in_turn(making(model_of(), eval_set)(), units, counts.append))
    assert counts == [5, 5, 5, 1]


def test_where_a_model_computes_is_each_machines_own_affair(eval_set):
    model = own()
    assert model.mteb_model_meta.loader_kwargs == {"device": "cpu"}
    assert elsewhere(making(model, eval_set))()._model.mteb_model_meta.loader_kwargs == {}


def test_an_object_that_cannot_be_made_elsewhere_is_refused_in_a_sentence(eval_set):
    model = from_functions(
        image=lambda images: np.ones((len(images), 3)), text=lambda texts: np.ones((len(texts), 3)), name="me/mine"
    )
    made = making(model, eval_set)
    with pytest.raises(EncodeError) as refused:
        pickle.dumps(made)
    assert refused.value.message == (
        "me/mine is an object of this process only: its ModelMeta has no loader, by which other machines could make it."
    )
    # Here it is of use.
    assert one_array(next(made().work(iter([range(3)]), lambda count: None))()).tolist() == [[1.0] * 3] * 3


def test_a_set_that_is_not_there_or_is_another_is_named_with_the_machine(tmp_path):
    eval_set = small_set(tmp_path / "set")
    made = elsewhere(making(own(), eval_set))
    shutil.rmtree(eval_set.folder)
    with pytest.raises(EvalSetError, match=f"^On {gethostname()}: .*{eval_set.folder}") as refused:
        made()
    assert refused.value.hint == (
        "The evaluation set must lie at the same path on every machine, or behind an address: "
        "VEHICLE_SEARCH_DATA=hf://..., s3://..., gs://... or https://..."
    )
    other = small_set(eval_set.folder, distractors=7)
    with pytest.raises(EvalSetError) as refused:
        made()
    where, ids = f"On {gethostname()}, {eval_set.folder}", (other.content_id, eval_set.content_id)
    assert refused.value.message == f"{where} holds content id {ids[0]}, and {ids[1]} is to be evaluated."


@pytest.fixture
def from_address(eval_set, tmp_path, monkeypatch):
    """A set that the driver copied from an address, the server, and another machine's home."""
    monkeypatch.setattr(copying, "_copied", {})
    with serving(eval_set.folder) as web:
        copy = EvalSet.open(copying.copy(web.url))
        model, images = own(), images_of(eval_set)
        given = (model.mteb_model_meta, copy.folder, origin_of(copy.folder), copy.content_id, GIVEN, 0)
        made = MakeEncoder(*given, (model, copy, images))
        web.asked.clear()
        monkeypatch.setenv("VEHICLE_SEARCH_HOME", str(tmp_path / "another"))
        yield elsewhere(made), web


def test_another_machine_makes_its_own_copy_once_for_all_its_workers(from_address, eval_set, tmp_path):
    made, web = from_address
    with ThreadPoolExecutor(3) as pool:
        found = [*pool.map(lambda number: made._eval_set(), range(3))]
    assert {one.folder for one in found} == {made.origin.folder}
    assert made.origin.folder.is_relative_to(tmp_path / "another")
    assert set(web.asked.values()) == {1}
    assert held(next(made().work(iter([range(9)]), lambda count: None))) == held(
        next(making(own(), eval_set)().work(iter([range(9)]), lambda count: None))
    )


def test_what_another_machine_finds_at_the_address_must_be_the_same(from_address, eval_set, tmp_path, monkeypatch):
    made, web = from_address
    with serving(small_set(tmp_path / "other", distractors=7).folder) as elsewhere_served:
        origin = replace(made.origin, address=elsewhere_served.url)
        with pytest.raises(EvalSetError) as refused:
            replace(made, origin=origin)()
    where = f"On {gethostname()}: {elsewhere_served.url}/manifest.json has sha256 "
    assert refused.value.message.startswith(where)
    assert refused.value.message.endswith(f"; the evaluation began with {made.origin.manifest}.")
    assert refused.value.hint == "What lies there was changed: start the evaluation again."
    other = copying.copied(copying.look(web.url, None))
    with pytest.raises(EvalSetError) as refused:
        replace(made, content_id="c" * 64)()
    assert refused.value.message.startswith(
        f"On {gethostname()}, {other} holds content id {eval_set.content_id}, and ccc"
    )


def test_vectors_wait_for_the_device_only_where_they_are_asked_for_or_sent():
    asked = []

    def give():
        asked.append(1)
        return torch.full((2, 3), 0.5, dtype=torch.bfloat16)

    vectors = Vectors(give)
    assert asked == []
    sent = elsewhere(vectors)
    assert asked == [1]
    assert (sent().dtype, sent().tolist()) == (np.float32, [[0.5] * 3] * 2)
    assert elsewhere(sent)().tolist() == sent().tolist()
    assert vectors().dtype == torch.bfloat16


@pytest.mark.parametrize("junk", [{"vectors": 1}, None, ["a", "b"], [[1.0], [1.0, 2.0]]], ids=repr)
def test_what_are_no_vectors_travels_to_whoever_says_so(junk):
    assert elsewhere(Vectors(lambda: junk))() == junk


def differing(one, other):
    return {name for name in {*one, *other} if one.get(name) != other.get(name)}


def test_other_weights_code_and_images_have_another_identity(eval_set, tmp_path, monkeypatch):
    worker = making(own(), eval_set)()
    same = worker.identity()
    assert differing(same, same_everywhere(own(), eval_set)) == {"fingerprint", "device"}
    other = own()
    other.weights_id = lambda: "trained further"
    assert differing(making(other, eval_set)().identity(), same) == {"weights", "fingerprint"}
    assert differing(making(own(), small_set(tmp_path / "a", distractors=7))().identity(), same) == {
        "evaluation set",
        "images",
    }
    monkeypatch.setattr("mteb_vehicle_search.search.encoding.versions", lambda: {"torch": "0.0.1"})
    assert "torch" in differing(worker.identity(), same)


def test_the_code_is_that_of_every_module(eval_set, monkeypatch):
    before, real = same_everywhere(own(), eval_set), files.file_sha256
    files.code_digest.cache_clear()
    with monkeypatch.context() as patched:
        patched.setattr(files, "file_sha256", lambda path: "" if path.name == "preprocess.py" else real(path))
        assert differing(same_everywhere(own(), eval_set), before) == {"code of mteb_vehicle_search"}
    files.code_digest.cache_clear()
    assert same_everywhere(own(), eval_set) == before


class Elsewhere(LocalEngine):
    """Makes its worker of what would arrive on another machine; gives what would arrive from there, last first."""

    name = "elsewhere"

    def __init__(self):
        super().__init__()
        self.sent = self.arrived = None
        self.identities, self.units = [], []

    def map(self, make_worker, units, *, identity=None, listener=None):
        units = [*units]
        self.units += units
        if self.sent is not make_worker:
            self.sent, self.arrived = make_worker, elsewhere(make_worker)
        self.identities.append(identity)
        found = [(number, elsewhere(result)) for number, result in super().map(self.arrived, units, listener=listener)]
        yield from reversed(found)


def searched(model, eval_set, engine=None):
    """Search a set; return what the files say and hold, and what was found."""
    run = ExactSearch(model, eval_set, engine)
    run.index(images_of(eval_set), **WHERE, encode_kwargs={"batch_size": BATCH}, num_proc=0)
    found, held = ask(run), {}
    for path in run.store.folder.glob("*.safetensors"):
        with safe_open(path, "numpy") as file:
            held[path.name] = file.metadata(), file.get_tensor("vectors").tobytes()
    run.store.clear()
    end(run)
    return held, found, run.outcome.info["encoder"]


@pytest.mark.parametrize("model_of", [own, foreign])
def test_a_search_elsewhere_leaves_and_finds_the_same(eval_set, monkeypatch, model_of):
    monkeypatch.setattr(stored, "CHUNK_ROWS", 14)
    monkeypatch.setattr(pieces, "PIECE_ROWS", 7)
    engine, model = Elsewhere(), model_of()
    # Nothing is encoded here but a batch of a model that does not know its weights.
    model.load = None
    first, second = searched(model_of(), eval_set), searched(model, eval_set, engine)
    assert len(first[0]) == 4
    assert first == second
    whole, parts = [range(14), range(14, 28), range(28, 36)], [range(a, a + 5) for a in (0, 5, 14, 19, 28)]
    sent = [unit for unit in engine.units if isinstance(unit, range)]
    if model_of is own:
        assert sorted(sent, key=min) == sorted([*parts, range(10, 14), range(24, 28), range(33, 36)], key=min)
    else:
        assert sent == [range(BATCH), *whole]
    assert engine.identities == [same_everywhere(model, eval_set)] * len(engine.identities)
    if model_of is foreign:
        assert model.images_seen == BATCH


@pytest.mark.parametrize(
    ("change", "kinds", "refused"),
    [
        (1.0, ["cpu", "cpu"], False),
        (1.01, ["cpu", "cpu"], True),
        (1.01, ["gpu", "cpu"], False),
        (3.0, ["gpu", "cpu"], True),
    ],
)
def test_an_object_that_changed_since_it_was_loaded_is_refused(eval_set, monkeypatch, change, kinds, refused):
    model, factors = foreign(), np.ones(16)
    factors[0] = change
    model.spoil = lambda ids, vectors: vectors * factors
    monkeypatch.setattr(described, "kind_of_device", lambda one: kinds[one is model])
    if not refused:
        assert searched(model, eval_set, Elsewhere())
        return
    with pytest.raises(EncodeError, match="toy/encoder gives other vectors where it is made anew than here"):
        searched(model, eval_set, Elsewhere())
