"""A corpus that is searched while it is encoded: the same bytes as with stored vectors, whatever happened between."""

from __future__ import annotations

import pickle
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted import ask, end, index, queries_of, whole_run
from small_set import small_set
from test_encoding import Elsewhere, foreign, making, own

from mteb_vehicle_search.engine.local import LocalEngine
from mteb_vehicle_search.errors import EncodeError, EngineError
from mteb_vehicle_search.models.handover import one_array
from mteb_vehicle_search.search import streamed
from mteb_vehicle_search.search import vectors as stored
from mteb_vehicle_search.search.checkpoint import Checkpoint, PartialStore
from mteb_vehicle_search.search.encoding import Queries
from mteb_vehicle_search.search.exact_search import ExactSearch
from mteb_vehicle_search.search.parts import PartialRanking
from mteb_vehicle_search.search.sought import Rank, Sought
from mteb_vehicle_search.search.streamed import Together, batches_with, units_of

CHUNK = 7


@pytest.fixture(scope="module")
def eval_set(tmp_path_factory):
    return small_set(tmp_path_factory.mktemp("small") / "set")


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(stored, "CHUNK_ROWS", CHUNK)
    monkeypatch.setenv("VEHICLE_SEARCH_DEVICE", "cpu")


@pytest.fixture
def streaming(monkeypatch):
    monkeypatch.setenv("VEHICLE_SEARCH_STREAM", "1")


def chunks_of(rows, size):
    return [range(start, min(start + size, rows)) for start in range(0, rows, size)]


def bytes_of(found):
    """All that a search found, in what can be compared."""
    outcome = found.outcome
    arrays = [*outcome.ranking, *outcome.run, outcome.grades]
    return outcome.query_ids, outcome.pairs, [(array.dtype, array.shape, array.tobytes()) for array in arrays]


# Cutting


@pytest.mark.parametrize(
    ("chunks", "units", "longest"),
    [(1, 1, 1), (17, 17, 1), (127, 127, 1), (128, 64, 2), (1024, 64, 16), (5000, 313, 16)],
)
def test_units_are_all_chunks_in_order_and_neither_few_nor_long(chunks, units, longest):
    corpus = chunks_of(3 * chunks - 1, 3)
    found = units_of(corpus)
    assert [chunk for unit in found for chunk in unit] == corpus
    assert (len(found), max(map(len, found))) == (units, longest)


@given(st.lists(st.integers(0, 96)), st.integers(1, 40), st.integers(1, 11) | st.none())
def test_batches_are_those_of_the_chunks_in_which_the_rows_are(rows, size, batch):
    chunks = chunks_of(97, size)
    found = batches_with(rows, chunks, batch)
    cut = [chunk[at : at + (batch or size)] for chunk in chunks for at in range(0, len(chunk), batch or size)]
    assert found == [part for part in cut if {*part} & {*rows}]


def test_a_row_beyond_the_chunks_is_refused():
    with pytest.raises(ValueError, match="Row 10 is in no chunk"):
        batches_with([3, 10], chunks_of(10, 4), 2)


@pytest.mark.parametrize(
    ("said", "images", "wanted"),
    [
        (None, 2_000_000, False),
        (None, 2_000_001, True),
        ("1", 1, True),
        ("0", 10**9, False),
        ("no", 10**9, False),
    ],
)
def test_it_is_as_the_variable_says_or_the_size(monkeypatch, said, images, wanted):
    if said is not None:
        monkeypatch.setenv("VEHICLE_SEARCH_STREAM", said)
    assert streamed.wanted(images) is wanted


# Putting together

UNITS = [(range(4),), (range(4, 8), range(8, 12)), (range(12, 15),)]
NOTHING = PartialRanking(np.array([[-9, -9]]), np.array([[0, 0]]), np.array([0]), np.array([0]))
SCORES = np.array([0.5], dtype=np.float32)
FOUND = [
    PartialRanking(np.array([[50 + n, n]]), np.array([[n, 1]]), np.array([n]), np.array([sum(map(len, unit))]))
    for n, unit in enumerate(UNITS)
]


@pytest.fixture
def store(tmp_path):
    return PartialStore(tmp_path / "found.safetensors", {"queries": "ab"})


def same(one, other):
    return all(np.array_equal(mine, its) for mine, its in zip(one, other, strict=True))


def raise_after(done):
    raise KeyboardInterrupt


def begun(store):
    return store.read() or Checkpoint(frozenset(), SCORES, NOTHING)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_units_come_in_any_order_and_an_interrupted_run_goes_on(store, order):
    whole = PartialRanking(np.array([[52, 51]]), np.array([[3, 3]]), np.array([3]), np.array([15]))
    first = Together(store, UNITS, begun(store))
    assert first.missing == [0, 1, 2]
    with pytest.raises(KeyboardInterrupt), first:
        raise_after(first.take(order[0], FOUND[order[0]]))
    with Together(store, UNITS, begun(store)) as together:
        assert together.missing == sorted(order[1:])
        for number in order[1:]:
            together.take(number, FOUND[number])
        assert same(together.found, whole)
    kept = store.read()
    assert kept.units == {0, 1, 2}
    assert same(kept.found, whole)
    np.testing.assert_array_equal(kept.scores, SCORES)


def test_what_is_found_is_stored_now_and_then_and_at_the_end(store, monkeypatch):
    now, written = [100.0], []
    monkeypatch.setattr(streamed.time, "monotonic", lambda: now[0])
    real = PartialStore.write
    monkeypatch.setattr(
        PartialStore, "write", lambda self, units, *rest: written.append({*units}) or real(self, units, *rest)
    )
    with Together(store, UNITS, begun(store)) as together:
        together.take(1, FOUND[1])
        now[0] += streamed.CHECKPOINT_S - 1
        together.take(0, FOUND[0])
        assert written == []
        now[0] += 1
        together.take(2, FOUND[2])
        assert written == [{0, 1, 2}]
    # There is nothing more to store.
    assert written == [{0, 1, 2}]
    with Together(store, UNITS, begun(store)) as together:
        assert together.missing == []
    assert written == [{0, 1, 2}]


def test_an_answer_that_is_of_other_images_or_another_search_is_refused(store):
    short = FOUND[1]._replace(images=np.array([7]))
    with Together(store, UNITS, begun(store)) as together:
        together.take(0, FOUND[0])
        with pytest.raises(EngineError, match="Unit 1 has 8 images, and its worker searched 7"):
            together.take(1, short)
        with pytest.raises(EngineError, match="in unit 1 is of another search"):
            together.take(1, FOUND[1]._replace(tied=np.array([0, 0])))
    assert store.read().units == {0}


# The whole


@pytest.mark.parametrize("model_of", [own, foreign])
@pytest.mark.parametrize("engine_of", [LocalEngine, Elsewhere])
def test_it_finds_what_is_found_in_stored_vectors(eval_set, monkeypatch, model_of, engine_of):
    kept = whole_run(model_of(), eval_set)
    expected = bytes_of(kept)
    kept.store.delete()
    monkeypatch.setenv("VEHICLE_SEARCH_STREAM", "1")
    model = model_of()
    found = ExactSearch(model, eval_set, engine_of())
    monkeypatch.setattr("planted.ExactSearch", lambda *given: found)
    whole_run(model, eval_set)
    assert bytes_of(found) == expected
    assert found.outcome.info["resumed_images"] == 0
    names = {path.name.partition("-")[0] for path in found.store.folder.iterdir()}
    assert names == {"identity.json", "queries.safetensors", "found"}


@pytest.mark.parametrize("model_of", [own, foreign])
def test_a_run_that_was_interrupted_goes_on_and_finds_the_same(eval_set, streaming, monkeypatch, model_of):
    expected = whole_run(model_of(), eval_set)
    expected.store.delete()
    taken, real = [], Together.take

    def take(self, number, found):
        if len(taken) == 2:
            raise KeyboardInterrupt
        taken.append(number)
        real(self, number, found)

    with monkeypatch.context() as patched:
        patched.setattr(Together, "take", take)
        found = index(model_of(), eval_set)
        with pytest.raises(KeyboardInterrupt):
            ask(found)
        end(found)
    model, asked = model_of(), []
    again = index(model, eval_set)
    monkeypatch.setattr(again._work, "results", recording(again._work.results, asked))
    ask(again)
    end(again)
    assert bytes_of(again) == bytes_of(expected)
    info = again.outcome.info
    assert (info["resumed_images"], info["images_per_s"] is not None) == (2 * CHUNK, True)
    # The relevant images' scores are known as well.
    assert [unit for unit in asked if isinstance(unit, range)] == []
    third = whole_run(model_of(), eval_set)
    assert bytes_of(third) == bytes_of(expected)
    assert third.outcome.info["resumed_images"] == len(eval_set.corpus_ids())
    assert third.outcome.info["images_per_s"] is None


def recording(real, asked):
    def results(units, listener=None):
        units = [*units]
        asked.extend(units)
        return real(units, listener)

    return results


def test_relevant_images_are_encoded_in_their_own_batches_only(eval_set, streaming, monkeypatch):
    found = index(own(), eval_set)
    asked = []
    monkeypatch.setattr(found._work, "results", recording(found._work.results, asked))
    ask(found)
    end(found)
    first = [unit for unit in asked if isinstance(unit, range)]
    rows = {row for _, row in found.outcome.pairs}
    assert all({*batch} & rows for batch in first)
    assert {row for batch in first for row in batch} >= rows
    assert all(len(batch) <= 5 and batch.start // CHUNK == (batch.stop - 1) // CHUNK for batch in first)
    assert all(one.stop <= other.start for one, other in pairwise(first))


def test_a_model_with_other_vectors_does_not_go_on_with_the_first_ones(eval_set, streaming):
    one = whole_run(foreign(), eval_set)
    changed = foreign()
    changed.spoil = lambda ids, vectors: vectors * np.linspace(1, 3, vectors.shape[1])
    other = whole_run(changed, eval_set)
    assert other.outcome.info["resumed_images"] == 0
    assert bytes_of(one) != bytes_of(other)


def test_a_damaged_checkpoint_is_named(eval_set, streaming):
    found = whole_run(own(), eval_set)
    (path,) = found.store.folder.glob("found-*")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(EncodeError, match="is damaged") as refused:
        whole_run(own(), eval_set)
    assert str(path) in refused.value.message


@pytest.mark.parametrize("spoilt", ["nan", "short"])
def test_bad_vectors_are_refused_and_named_where_they_are_searched(eval_set, streaming, spoilt):
    model, last = foreign(), eval_set.corpus_ids()[-1]

    def spoil(ids, vectors):
        if last not in ids or len(ids) == len(eval_set.queries()):
            return vectors
        return vectors[:-1] if spoilt == "short" else np.where(np.array(ids)[:, None] == last, np.nan, vectors)

    model.spoil = spoil
    found = index(model, eval_set)
    with pytest.raises(EncodeError, match=last):
        ask(found)
    end(found)
    # What was found before is kept.
    (path,) = found.store.folder.glob("found-*")
    assert path.is_file()


def test_a_worker_searches_for_what_each_unit_names(eval_set):
    engine, told = LocalEngine(), lambda count: None
    (encoded,) = making(foreign(), eval_set)().work(iter([Queries(queries_of(eval_set))]), told)
    queries, groups = one_array(encoded.vectors()), sorted({*eval_set.groups})
    units = [
        Rank((range(7), range(7, 14)), engine.share(Sought(some, [(0, 0)], groups, 36, 5, np.zeros(1, np.float32))))
        for some in (queries[:6], queries[6:])
    ]
    found = [*making(foreign(), eval_set)().work(iter(units), told)]
    alone = [*making(foreign(), eval_set)().work(iter(units[1:]), told)]
    assert found[1].best.tobytes() == alone[0].best.tobytes() != found[0].best.tobytes()


def test_a_search_travels_with_its_units(eval_set, streaming):
    unit = Rank((range(3), range(3, 5)), LocalEngine().share("sought"))
    again = pickle.loads(pickle.dumps(unit))  # noqa: S301
    assert str(again) == "images 0 to 5"
    assert (again.sought.get(), again.sought.key) == ("sought", unit.sought.key)
    assert LocalEngine().share("sought").key != unit.sought.key
