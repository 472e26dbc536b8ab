"""A checkpoint is whole, proves itself, and is of this search, or it is refused."""

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mteb_vehicle_search.errors import EncodeError
from mteb_vehicle_search.search.checkpoint import PartialStore
from mteb_vehicle_search.search.parts import PartialRanking

IDENTITY = {"queries": "ab12", "k": 2, "versions": {"torch": "2"}}
FOUND = PartialRanking(
    np.array([[9, -5], [2**62, 1]]), np.array([[3, 0], [1, 1], [0, 8]]), np.array([0, 1, 0]), np.array([40])
)
SCORES = np.array([0.5, -0.25, 0], dtype=np.float32)


@pytest.fixture
def store(tmp_path):
    return PartialStore(tmp_path / "deep" / "partial.safetensors", IDENTITY)


def same(checkpoint, units, found):
    assert checkpoint.units == units
    assert checkpoint.scores.dtype == np.float32
    np.testing.assert_array_equal(checkpoint.scores, SCORES)
    for read, written in zip(checkpoint.found, found, strict=True):
        assert read.dtype == np.int64
        np.testing.assert_array_equal(read, written)


def test_what_was_written_last_is_read_again(store):
    assert store.read() is None
    store.write({2**40, 7, 0}, SCORES, FOUND)
    same(PartialStore(store.path, dict(reversed(IDENTITY.items()))).read(), {0, 7, 2**40}, FOUND)
    more = FOUND._replace(images=np.array([50]))
    store.write({1}, SCORES, more)
    same(store.read(), {1}, more)
    assert [path.name for path in store.path.parent.iterdir()] == [store.path.name]


def test_the_same_checkpoint_has_the_same_bytes(store):
    store.write([3, 1, 2], SCORES, FOUND)
    first = store.path.read_bytes()
    store.write(iter([2, 3, 1]), SCORES, FOUND)
    assert store.path.read_bytes() == first


def test_no_unit_is_a_checkpoint_too(store):
    store.write([], SCORES, FOUND)
    same(store.read(), frozenset(), FOUND)


def test_every_damaged_byte_is_noticed(store):
    store.write({4, 5}, SCORES, FOUND)
    whole = store.path.read_bytes()
    length = 8 + int.from_bytes(whole[:8], "little")
    # The proof is text: any of its characters, and any byte of the arrays.
    for at in [*range(whole.index(b'"sha256"'), length - 2, 7), *range(length, len(whole))]:
        store.path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(EncodeError, match="is damaged"):
            store.read()
    for cut in (0, 7, length - 1, length, len(whole) - 1):
        store.path.write_bytes(whole[:cut])
        with pytest.raises(EncodeError, match="is damaged") as caught:
            store.read()
        assert str(store.path) in caught.value.message
        assert "Delete it" in str(caught.value.hint)


@pytest.mark.parametrize("change", [{"k": 3}, {"more": None}, {"versions": {"torch": "3"}}])
def test_of_another_search_it_is_refused(store, change):
    store.write({4}, SCORES, FOUND)
    with pytest.raises(EncodeError, match="not of this search"):
        PartialStore(store.path, {**IDENTITY, **change}).read()
    same(store.read(), {4}, FOUND)


def test_arrays_of_others_are_refused(store):
    store.write({4}, SCORES, FOUND)
    arrays = load_file(store.path)
    for wrong in ({"units": arrays["units"]}, {**arrays, "tied": np.zeros(3)}):
        for proof in (None, store._proof(arrays)):
            save_file(wrong, store.path, proof)
            with pytest.raises(EncodeError, match="is damaged"):
                store.read()


def test_a_full_disk_leaves_the_checkpoint_before(store, monkeypatch):
    store.write({4}, SCORES, FOUND)

    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mteb_vehicle_search.search.checkpoint.write_whole", full)
    with pytest.raises(EncodeError, match="No space left") as caught:
        store.write({4, 5}, SCORES, FOUND)
    assert "Free some room" in str(caught.value.hint)
    same(store.read(), {4}, FOUND)
