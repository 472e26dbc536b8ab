"""The store of vectors: whole files or none, made anew when anything that decides vectors has changed."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest

from mteb_vehicle_search.errors import EncodeError
from mteb_vehicle_search.search import vectors as embeddings
from mteb_vehicle_search.search.vectors import EmbeddingStore

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
    assert names(folder) == ["chunk-000000.npy", "chunk-000001.npy", "chunk-000002.npy", "identity.json"]


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

    def stopped(file, array, **options):
        file.write(b"x" * 50)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(np, "save", stopped)
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
    assert names(folder) == ["chunk-000000.npy", "chunk-000001.npy", "identity.json"]


def test_what_a_kill_left_half_written_is_no_chunk(folder):
    store = EmbeddingStore(folder, 8, IDENTITY)
    store.write(0, vectors(8))
    store.path(0).rename(folder / "chunk-000000.npy.partial")
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
    (folder / "chunk-000001.npy.partial").touch()
    store = EmbeddingStore(folder, 8, other)
    assert not store.has(0)
    assert names(folder) == ["identity.json"]
    assert json.loads((folder / "identity.json").read_text(encoding="utf-8")) == other


def test_vectors_without_an_identity_are_deleted(folder):
    EmbeddingStore(folder, 8, IDENTITY).write(0, vectors(8))
    (folder / "identity.json").unlink()
    assert not EmbeddingStore(folder, 8, IDENTITY).has(0)
    assert names(folder) == ["identity.json"]


def test_clearing_keeps_the_identity_only(folder, monkeypatch):
    monkeypatch.setattr(embeddings, "CHUNK_ROWS", 4)
    store = EmbeddingStore(folder, 8, IDENTITY)
    store.write(0, vectors(4))
    store.write(1, vectors(4))
    (folder / "chunk-000001.npy.partial").touch()
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


def write_pickle(path):
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(b"not vectors"),
        lambda path: path.unlink(),
        write_pickle,  # reading it could run code
    ],
)
def test_a_damaged_chunk_is_named_with_the_way_out(folder, damage):
    store = EmbeddingStore(folder, 8, IDENTITY)
    store.write(0, vectors(8))
    damage(store.path(0))
    with pytest.raises(EncodeError) as refused:
        store.read(0)
    assert str(store.path(0)) in refused.value.message
    assert f"Delete the folder {folder}" in refused.value.hint
    assert refused.value.__cause__ is not None


def test_objects_are_never_pickled_into_a_store(folder):
    store = EmbeddingStore(folder, 1, IDENTITY)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        store.write(0, np.array([{"a": 1}], dtype=object))
    assert not store.has(0)
