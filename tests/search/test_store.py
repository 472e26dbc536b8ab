"""The store of vectors: whole files or none, made anew when anything that decides vectors has changed."""

import errno
import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save

from mteb_vehicle_search.errors import EncodeError
from mteb_vehicle_search.search import vectors as embeddings
from mteb_vehicle_search.search.vectors import EmbeddingStore, delete_store

IDENTITY = {"model": "org/model", "versions": {"torch": "2", "mteb": "1"}, "fingerprint": None}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "deep" / "in" / "store"


def vectors(rows, dimension=3, start=0):
    return np.arange(start, start + rows * dimension, dtype=np.float32).reshape(rows, dimension)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("rows", "ranges"),
    [
        (0, []),
        (1, [range(1)]),
        (4095, [range(4095)]),
        (4096, [range(4096)]),
        (4097, [range(4096), range(4096, 4097)]),
        (8192, [range(4096), range(4096, 8192)]),
        (9000, [range(4096), range(4096, 8192), range(8192, 9000)]),
    ],
)
def test_chunks_of_4096_rows_cover_every_image_once(folder, rows, ranges):
    assert EmbeddingStore(folder, rows, IDENTITY).ranges() == ranges


def test_what_was_written_is_read_again_chunk_by_chunk(folder, monkeypatch):
    monkeypatch.setattr(embeddings, "CHUNK_ROWS", 4)
    store = EmbeddingStore(folder, 10, IDENTITY)
    parts = [vectors(4), vectors(4, start=100), vectors(2, start=200)]
    for chunk in (2, 0, 1):
        assert not store.has(chunk)
        store.write(chunk, parts[chunk])
        assert store.has(chunk)
    found = list(EmbeddingStore(folder, 10, IDENTITY).chunks())
    assert [rows for rows, _ in found] == [range(4), range(4, 8), range(8, 10)]
    for (_, read), part in zip(found, parts, strict=True):
        assert read.dtype == np.float32
        np.testing.assert_array_equal(read, part)
    assert names(folder) == [
        "chunk-000000.safetensors",
        "chunk-000001.safetensors",
        "chunk-000002.safetensors",
        "identity.json",
    ]


def test_a_file_is_flushed_to_the_disk_before_it_gets_its_name(folder, monkeypatch):
    happened = []
    fsync, replace = os.fsync, Path.replace

    def watched_fsync(descriptor):
        fsync(descriptor)
        happened.append(("fsync", os.fstat(descriptor).st_ino, os.fstat(descriptor).st_size))

    def watched_replace(path, target):
        assert not target.exists()
        assert path == target.with_name(f"{target.name}.partial")
        happened.append(("replace", path.stat().st_ino, path.stat().st_size))
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(Path, "replace", watched_replace)
    store = EmbeddingStore(folder, 10, IDENTITY)
    store.write(0, vectors(10))
    assert [what for what, *_ in happened] == ["fsync", "replace"] * 2  # the identity and the chunk
    for path, flushed, renamed in zip((folder / "identity.json", store.path(0)), happened[::2], happened[1::2]):
        # The same file, and all of it: nothing was left in Python's buffer.
        assert flushed[1:] == renamed[1:] == (path.stat().st_ino, path.stat().st_size)


def test_a_full_disk_leaves_what_was_stored_and_no_half_chunk(folder, monkeypatch):
    monkeypatch.setattr(embeddings, "CHUNK_ROWS", 4)
    store = EmbeddingStore(folder, 8, IDENTITY)
    store.write(0, vectors(4))

    def stopped(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(os, "fsync", stopped)
        for chunk in (0, 1):
            with pytest.raises(EncodeError) as refused:
                store.write(chunk, vectors(4, start=7))
            assert str(folder) in refused.value.message
            assert "No space left on device" in refused.value.message
            assert "VEHICLE_SEARCH_HOME" in refused.value.hint
            assert isinstance(refused.value.__cause__, OSError)
    np.testing.assert_array_equal(store.read(0), vectors(4))
    store = EmbeddingStore(folder, 8, IDENTITY)
    assert [store.has(chunk) for chunk in (0, 1)] == [True, False]
    for chunk in (0, 1):  # what was half written is in nobody's way
        store.write(chunk, vectors(4, start=7))
    assert names(folder) == ["chunk-000000.safetensors", "chunk-000001.safetensors", "identity.json"]


def test_what_a_kill_left_half_written_is_no_chunk(folder):
    store = EmbeddingStore(folder, 8, IDENTITY)
    store.write(0, vectors(8))
    store.path(0).rename(folder / "chunk-000000.safetensors.partial")
    assert not EmbeddingStore(folder, 8, IDENTITY).has(0)


def test_the_identity_is_stored_beside_the_vectors(folder):
    EmbeddingStore(folder, 8, IDENTITY)
    text = (folder / "identity.json").read_text(encoding="utf-8")
    assert json.loads(text) == IDENTITY
    assert '\n  "model": "org/model",\n' in text  # for people: a fact to a line
    assert names(folder) == ["identity.json"]


def test_the_same_identity_in_another_order_keeps_the_vectors(folder):
    EmbeddingStore(folder, 8, IDENTITY).write(0, vectors(8))
    again = {**dict(reversed(IDENTITY.items())), "versions": {"mteb": "1", "torch": "2"}}
    assert EmbeddingStore(folder, 8, again).has(0)


@pytest.mark.parametrize(
    "other",
    [
        {**IDENTITY, "model": "org/other"},
        {**IDENTITY, "versions": {"torch": "2", "mteb": "3"}},
        {**IDENTITY, "fingerprint": "none"},
        {**IDENTITY, "batch_size": 32},
        {"model": "org/model"},
    ],
)
def test_vectors_of_another_identity_are_deleted(folder, other):
    EmbeddingStore(folder, 8, IDENTITY).write(0, vectors(8))
    (folder / "chunk-000001.safetensors.partial").touch()
    store = EmbeddingStore(folder, 8, other)
    assert not store.has(0)
    assert names(folder) == ["identity.json"]
    assert json.loads((folder / "identity.json").read_text(encoding="utf-8")) == other


def test_a_folder_without_an_identity_is_somebody_elses(folder):
    EmbeddingStore(folder, 8, IDENTITY).write(0, vectors(8))
    (folder / "identity.json").unlink()
    (folder / "thesis.txt").write_text("all I have", encoding="utf-8")
    with pytest.raises(EncodeError, match="is no store of vectors; it is left alone") as refused:
        EmbeddingStore(folder, 8, IDENTITY)
    assert str(folder) in refused.value.message
    assert refused.value.hint
    delete_store(folder)
    assert names(folder) == ["chunk-000000.safetensors", "thesis.txt"]


def test_an_empty_folder_becomes_a_store(folder):
    folder.mkdir(parents=True)
    EmbeddingStore(folder, 8, IDENTITY)
    assert names(folder) == ["identity.json"]


def test_clearing_keeps_the_identity_only(folder, monkeypatch):
    monkeypatch.setattr(embeddings, "CHUNK_ROWS", 4)
    store = EmbeddingStore(folder, 8, IDENTITY)
    store.write(0, vectors(4))
    store.write(1, vectors(4))
    (folder / "chunk-000001.safetensors.partial").touch()
    store.clear()
    assert names(folder) == ["identity.json"]
    store.write(1, vectors(4))
    assert [store.has(chunk) for chunk in (0, 1)] == [False, True]


def test_deleting_removes_the_folder_and_nothing_beside_it(folder):
    store = EmbeddingStore(folder, 8, IDENTITY)
    store.write(0, vectors(8))
    (folder.parent / "store.lock").touch()
    store.delete()
    assert names(folder.parent) == ["store.lock"]
    store.delete()  # nothing there: nothing to do


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(b"not vectors"),
        lambda path: path.write_bytes(b""),
        lambda path: path.unlink(),
        lambda path: path.write_bytes(pickle.dumps({"a": 1})),
        lambda path: path.write_bytes(save({"other": vectors(8)})),
        lambda path: path.write_bytes(save({"vectors": vectors(8)})),
    ],
)
def test_a_damaged_chunk_is_named_with_the_way_out(folder, damage, caplog):
    store = EmbeddingStore(folder, 8, IDENTITY)
    store.write(0, vectors(8))
    damage(store.path(0))
    with pytest.raises(EncodeError) as refused:
        store.read(0)
    assert str(store.path(0)) in refused.value.message
    assert f"Delete the folder {folder}" in refused.value.hint
    assert refused.value.__cause__ is not None
    assert not store.has(0)
    assert (str(store.path(0)) in caplog.text) is store.path(0).exists()


def resaved(path, change):
    """Change the vectors of a file, and leave what it says of them."""
    with safe_open(path, "numpy") as file:
        said, found = file.metadata(), file.get_tensor("vectors")
    path.write_bytes(save({"vectors": change(found)}, said))


def flipped(path):
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)


def with_nan(found):
    return np.where(found == found.max(), np.float32(np.nan), found)


@pytest.mark.parametrize(
    "damage",
    [
        flipped,
        lambda path: resaved(path, lambda found: found.astype(np.float64)),
        # The same bytes, read as other numbers.
        lambda path: resaved(path, lambda found: found.view(np.int32)),
        lambda path: resaved(path, lambda found: found.reshape(2, 6)),
        lambda path: resaved(path, lambda found: found.ravel()),
        lambda path: resaved(path, lambda found: found[:-1]),
        lambda path: resaved(path, with_nan),
        lambda path: shutil.copy(path.with_name("chunk-000000.safetensors"), path),
        lambda path: shutil.copy(path.with_name("queries.safetensors"), path),
    ],
)
def test_a_chunk_proves_what_it_is(folder, monkeypatch, damage):
    monkeypatch.setattr(embeddings, "CHUNK_ROWS", 4)
    store = EmbeddingStore(folder, 8, IDENTITY)
    for chunk in (0, 1):
        store.write(chunk, vectors(4, start=20 * chunk))
    store.write_queries(vectors(4, start=20), {})
    damage(store.path(1))
    assert [store.has(chunk) for chunk in (0, 1)] == [True, False]
    with pytest.raises(EncodeError, match="is damaged: it is not of these images and this model"):
        store.read(1)


@pytest.mark.parametrize("wrong", [vectors(3), vectors(5), vectors(4).ravel()[:4]])
def test_a_chunk_that_was_written_with_other_rows_is_none(folder, wrong):
    store = EmbeddingStore(folder, 4, IDENTITY)
    store.write(0, wrong)
    assert not store.has(0)


def test_a_chunk_of_another_model_is_none(folder):
    other = EmbeddingStore(folder.with_name("other"), 8, {**IDENTITY, "model": "org/other"})
    store = EmbeddingStore(folder, 8, IDENTITY)
    other.write(0, vectors(8))
    shutil.copy(other.path(0), store.path(0))
    assert other.has(0)
    assert not store.has(0)


def test_queries_prove_what_they_are(folder, caplog):
    store = EmbeddingStore(folder, 8, IDENTITY)
    assert store.queries(5) is None
    store.write_queries(vectors(5), {"texts_cut": 2})
    kept, told = EmbeddingStore(folder, 8, IDENTITY).queries(5)
    np.testing.assert_array_equal(kept, vectors(5))
    assert told == {"texts_cut": 2}
    assert not caplog.text
    assert store.queries(4) is None
    flipped(folder / "queries.safetensors")
    assert store.queries(5) is None
    assert "The queries are encoded again" in caplog.text
    store.clear()
    assert names(folder) == ["identity.json"]


def test_what_is_told_of_queries_is_proven_too_and_was_not_told_before(folder, caplog):
    store, path = EmbeddingStore(folder, 8, IDENTITY), folder / "queries.safetensors"
    store.write_queries(vectors(5), {"texts_cut": 2})
    path.write_bytes(path.read_bytes().replace(b"cut", b"rut"))
    assert store.queries(5) is None
    assert "The queries are encoded again" in caplog.text
    proof = store._proof(range(5), vectors(5), "")
    del proof["told"]
    path.write_bytes(save({"vectors": vectors(5)}, proof))
    kept, told = store.queries(5)
    assert told == {}
    np.testing.assert_array_equal(kept, vectors(5))


def test_vectors_are_stored_as_float32_in_the_order_of_their_rows(folder):
    store = EmbeddingStore(folder, 4, IDENTITY)
    given = vectors(3, 4).astype(np.float64).T  # not contiguous
    store.write(0, given)
    assert store.read(0).dtype == np.float32
    np.testing.assert_array_equal(store.read(0), given)
