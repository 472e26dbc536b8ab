"""An own encoder over chunk borders: the same bytes as chunk by chunk, stored behind, gone on with after trouble."""

import errno
import os
import signal
import threading
import time
from contextlib import nullcontext
from threading import Event
from types import SimpleNamespace

import pytest
import torch
from planted import BATCH, WHERE, ask, end, images_of, index, stored
from safetensors import safe_open
from small_set import small_set

from mteb_vehicle_search.errors import EncodeError
from mteb_vehicle_search.models import tiny_clip
from mteb_vehicle_search.models.encoder import ImageTextEncoder
from mteb_vehicle_search.search import described, vectors
from mteb_vehicle_search.search.at_work import ModelAtWork
from mteb_vehicle_search.search.corpus import CorpusImages
from mteb_vehicle_search.search.exact_search import ExactSearch
from mteb_vehicle_search.search.vectors import EmbeddingStore

PATIENCE_S = 60
IMAGES, CHUNK = 36, 10


@pytest.fixture(scope="module")
def eval_set(tmp_path_factory):
    return small_set(tmp_path_factory.mktemp("small") / "set")


@pytest.fixture(autouse=True)
def small_and_quick(monkeypatch):
    monkeypatch.setattr(vectors, "CHUNK_ROWS", CHUNK)
    monkeypatch.setattr(described, "versions", lambda: {"torch": "9"})


@pytest.fixture(params=["shared cores", "a device"])
def placed(request, monkeypatch):
    """Decode in the threads that compute, as on a processor, or ahead of them, as beside a device."""
    monkeypatch.setattr(ImageTextEncoder, "_decodes_ahead", request.param == "a device")
    # Threads that decode ahead change how many torch computes with here, which no device cares about.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def encoder(**changed):
    model = tiny_clip().load_model(device="cpu")
    meta = {"name": "toy/own", "revision": "r1", "n_parameters": 7, "training_datasets": None}
    model.mteb_model_meta = SimpleNamespace(
        **{**meta, "similarity_fn_name": "cosine", "experiment_kwargs": None, **changed}
    )
    return model


def chunk_by_chunk():
    """An encoder that is asked for each chunk by itself."""
    model = encoder()
    given = model.encode
    model.encode = lambda *args, **named: given(*args, **named)
    return model


def asked_of(monkeypatch):
    """Note the ids of the images that are decoded."""
    asked, read = [], CorpusImages.jpeg
    monkeypatch.setattr(CorpusImages, "jpeg", lambda self, row: asked.append(self.ids[row]) or read(self, row))
    return asked


def files(found):
    """What each file says and holds; safetensors writes what it says in any order."""
    held = {}
    for path in found.store.folder.glob("*.safetensors"):
        with safe_open(path, "numpy") as file:
            held[path.name] = file.metadata(), file.get_tensor("vectors").tobytes()
    return held


def left_behind():
    return [t.name for t in threading.enumerate() if t.name.startswith(("device", "decode", "backlog"))]


def indexing(model, eval_set, num_proc=2):
    found = ExactSearch(model, eval_set)
    return found, lambda: found.index(
        images_of(eval_set), **WHERE, encode_kwargs={"batch_size": BATCH}, num_proc=num_proc
    )


@pytest.mark.usefixtures("placed")
@pytest.mark.parametrize("workers", [1, 2])
def test_files_and_ranks_are_those_of_chunk_by_chunk_to_the_byte(eval_set, workers):
    plain = chunk_by_chunk()
    assert not plain.streams
    first = index(plain, eval_set, num_proc=workers)
    wanted, wanted_run = files(first), ask(first)
    first.store.clear()
    end(first)
    second = index(encoder(), eval_set, num_proc=workers)
    assert files(second) == wanted
    assert sorted(wanted) == [f"chunk-{number:06d}.safetensors" for number in range(4)]
    assert ask(second) == wanted_run
    assert second.outcome.info["resumed_images"] == 0
    assert second.outcome.info["images_per_s"] > 0
    assert left_behind() == []
    end(second)


@pytest.mark.usefixtures("placed")
@pytest.mark.parametrize("gone", [[0], [1, 3], [0, 1, 2], [3]])
def test_a_resumed_run_encodes_what_is_missing_and_gives_the_same_bytes(eval_set, monkeypatch, gone):
    first = index(encoder(), eval_set)
    wanted = files(first)
    end(first)
    for number in gone:
        first.store.path(number).unlink()
    asked, ids = asked_of(monkeypatch), eval_set.corpus_ids()
    second = index(encoder(), eval_set)
    end(second)
    assert files(second) == wanted
    missing = [one for number in gone for one in ids[10 * number : 10 * number + 10]]
    probe = ids[10 * min({0, 1, 2, 3} - set(gone)) :][:BATCH]
    assert sorted(asked) == sorted(probe + missing)
    assert second._resumed_images == IMAGES - len(missing)
    assert second._encoded_images == len(missing)


@pytest.mark.usefixtures("placed")
def test_an_image_of_the_third_chunk_is_named_and_the_first_two_are_kept(eval_set, monkeypatch):
    read, ids = CorpusImages.jpeg, eval_set.corpus_ids()
    with monkeypatch.context() as broken:
        broken.setattr(CorpusImages, "jpeg", lambda self, row: b"torn" if self.ids[row] == ids[24] else read(self, row))
        first, run = indexing(encoder(), eval_set)
        with pytest.raises(EncodeError, match=f"Image {ids[24]} does not decode"):
            run()
    end(first)
    assert stored(first) == [0, 1]
    assert left_behind() == []
    asked = asked_of(monkeypatch)
    end(index(encoder(), eval_set))
    assert sorted(asked) == sorted(ids[:BATCH] + ids[20:])


class Disk:
    """Stands between the store and the disk."""

    def __init__(self, monkeypatch, before=lambda chunk: None):
        self.begun, self.written, write = [], [], EmbeddingStore.write

        def watched(store, chunk, found):
            self.begun.append(chunk)
            before(chunk)
            write(store, chunk, found)
            self.written.append(chunk)

        monkeypatch.setattr(EmbeddingStore, "write", watched)


@pytest.mark.usefixtures("placed")
def test_a_slow_disk_does_not_stop_computing(eval_set, monkeypatch):
    release = Event()
    disk = Disk(monkeypatch, lambda chunk: release.wait(PATIENCE_S))
    asked = asked_of(monkeypatch)
    found, run = indexing(encoder(), eval_set)
    thread = threading.Thread(target=run)
    thread.start()
    deadline = time.monotonic() + PATIENCE_S
    while (len(asked) < 3 * CHUNK or not disk.begun) and time.monotonic() < deadline:
        time.sleep(0.01)
    # The third chunk is computed while the first is not on the disk; the vectors of no more wait in memory.
    assert len(asked) >= 3 * CHUNK
    assert (disk.begun, disk.written) == ([0], [])
    release.set()
    thread.join(PATIENCE_S)
    assert disk.written == [0, 1, 2, 3]
    assert stored(found) == [0, 1, 2, 3]
    end(found)


def test_no_more_than_two_finished_chunks_wait_for_the_disk(tmp_path, monkeypatch):
    eval_set = small_set(tmp_path / "longer", distractors=94)  # ten chunks
    release, most, held = Event(), [], set()
    disk = Disk(monkeypatch, lambda chunk: release.wait(PATIENCE_S))
    whole = ImageTextEncoder.encode_chunks

    def counted(self, images, chunks, **given):
        for number, give in enumerate(whole(self, images, chunks, **given)):
            yield give
            held.add(number)
            most.append(len(held) - len(disk.written))

    monkeypatch.setattr(ImageTextEncoder, "encode_chunks", counted)
    found, run = indexing(encoder(), eval_set)
    thread = threading.Thread(target=run)
    thread.start()
    time.sleep(1.5)
    assert most == [1, 2]
    release.set()
    thread.join(PATIENCE_S)
    assert max(most) <= 3
    assert stored(found) == list(range(10))
    end(found)


@pytest.mark.usefixtures("placed")
def test_a_full_disk_ends_it_as_when_nothing_is_stored_behind(eval_set, monkeypatch):
    def refuse(path, content, real=vectors.write_whole):
        if path.name == "chunk-000001.safetensors":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(path, content)

    with monkeypatch.context() as disk:
        disk.setattr(vectors, "write_whole", refuse)
        said = []
        for model in (chunk_by_chunk(), encoder()):
            found, run = indexing(model, eval_set)
            with pytest.raises(EncodeError) as refused:
                run()
            said.append((refused.value.message, refused.value.hint))
            assert isinstance(refused.value.__cause__, OSError)
            assert stored(found) == [0]
            found.store.clear()
            end(found)
    assert said[0] == said[1]
    assert "No space left on device" in said[0][0]
    assert left_behind() == []


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda part, row: part.index_fill(0, row, 0), "all-zero vector for 1 of 10 inputs, first image {}"),
        (lambda part, row: part.index_fill(0, row, torch.nan), "NaN or infinite values for 1 of 10 .*first image {}"),
    ],
)
def test_a_bad_vector_is_named_and_the_chunks_before_are_kept(eval_set, monkeypatch, spoil, message):
    whole, number = ImageTextEncoder._whole, []

    def spoiled(self, parts):
        number.append(len(number))
        found = whole(self, parts)
        return spoil(found, torch.tensor([3])) if number[-1] == 2 else found

    monkeypatch.setattr(ImageTextEncoder, "_whole", spoiled)
    found, run = indexing(encoder(), eval_set)
    with pytest.raises(EncodeError, match="toy/own returned .*" + message.format(eval_set.corpus_ids()[23])):
        run()
    assert stored(found) == [0, 1]
    end(found)


def test_an_error_of_the_first_chunk_ends_the_computing_of_the_next(tmp_path, monkeypatch):
    eval_set = small_set(tmp_path / "longer", distractors=194)
    monkeypatch.setattr(vectors, "CHUNK_ROWS", 50)
    asked, failed = asked_of(monkeypatch), Event()

    def refuse(chunk):
        failed.set()
        raise EncodeError("no room")

    Disk(monkeypatch, refuse)
    model = encoder()
    towers = model.towers
    # Each batch takes a while, as with a real model.
    model._replicas = [towers._replace(image=lambda pixels: time.sleep(0.05) or towers.image(pixels))]
    found, run = indexing(model, eval_set, num_proc=1)
    with pytest.raises(EncodeError, match="no room"):
        run()
    assert failed.is_set()
    assert 50 < len(asked) < 100
    end(found)


@pytest.mark.usefixtures("placed")
@pytest.mark.parametrize("moment", ["in the second chunk", "while the first is written"])
def test_ctrl_c_ends_soon_and_keeps_what_is_finished(eval_set, monkeypatch, moment):
    pressed = []

    def press():
        if not pressed:
            pressed.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patched:
        disk = Disk(patched, lambda chunk: (press(), time.sleep(0.2)) if moment != "in the second chunk" else None)
        model, count = encoder(), []
        towers = model.towers

        def image(pixels):
            count.append(len(pixels))
            if len(count) == 4 and moment == "in the second chunk":
                deadline = time.monotonic() + PATIENCE_S
                while not disk.written and time.monotonic() < deadline:
                    time.sleep(0.01)
                press()
                # A batch of a slow model.
                for _ in range(PATIENCE_S * 100):
                    time.sleep(0.01)
            return towers.image(pixels)

        model._replicas = [towers._replace(image=image)]
        found, run = indexing(model, eval_set)
        with pytest.raises(KeyboardInterrupt) as caught:
            run()
    assert time.monotonic() - pressed[0] < PATIENCE_S / 4
    assert caught.value.__traceback__ is not None
    assert 0 in stored(found)
    assert [path.name for path in found.store.folder.iterdir() if path.name.endswith(".partial")] == []
    assert left_behind() == []
    end(found)
    again = index(encoder(), eval_set)
    assert again._resumed_images >= CHUNK
    end(again)


def test_a_similarity_of_its_own_is_looked_at_before_the_second_chunk(eval_set, monkeypatch):
    class Reversed(type(encoder())):
        def similarity(self, one, other):
            return -(one @ other.T)

    model = encoder()
    model.__class__ = Reversed
    asked = asked_of(monkeypatch)
    found, run = indexing(model, eval_set)
    with pytest.raises(EncodeError, match="similarity"):
        run()
    assert asked == eval_set.corpus_ids()[:BATCH]
    end(found)
    # One that orders as we do is asked for a batch more.
    Reversed.similarity = lambda self, one, other: one @ other.T
    calls, whole = [], ImageTextEncoder.encode_chunks

    def noted(self, images, chunks, **given):
        calls.append([])
        yield from whole(self, images, (calls[-1].append(rows) or rows for rows in chunks), **given)

    monkeypatch.setattr(ImageTextEncoder, "encode_chunks", noted)
    end(index(model, eval_set))
    assert calls == [[range(BATCH)], [range(10), range(10, 20), range(20, 30), range(30, 36)]]


def test_images_are_counted_as_they_are_encoded(eval_set, monkeypatch):
    steps = []
    bar = SimpleNamespace(update=steps.append)
    monkeypatch.setattr(ModelAtWork, "bar", lambda *given: nullcontext(bar))
    first = index(encoder(), eval_set)
    assert steps == [5, 5] * 3 + [5, 1]
    first.store.path(1).unlink()
    end(first)
    steps.clear()
    end(index(encoder(), eval_set))
    assert steps == [10, 10, 6, 5, 5]
