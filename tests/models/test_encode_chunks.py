"""Encoding over the borders of chunks: the same bits as chunk by chunk, without a pause, and nothing left behind."""

import io
import threading
import time
from contextlib import closing
from threading import Semaphore

import numpy as np
import pytest
import torch
from PIL import Image
from waiting import pause_until

from mteb_vehicle_search.errors import EncodeError
from mteb_vehicle_search.models import tiny_clip
from mteb_vehicle_search.models.batches import Towers
from mteb_vehicle_search.models.encoder import ImageTextEncoder
from mteb_vehicle_search.models.preprocess import ShortestSideCrop

PATIENCE_S = 60


class Flat(torch.nn.Module):
    """Towers that give the pixels themselves, after a while if they are told to wait."""

    def __init__(self):
        super().__init__()
        self.one = torch.nn.Parameter(torch.ones(1))
        self.sizes, self.before = [], lambda: None

    def image(self, pixels):
        self.before()
        self.sizes.append(len(pixels))
        return pixels.flatten(1) * self.one


class Plain(ImageTextEncoder):
    """The encode loop around `Flat`."""

    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 0.2)
    tokenise = None

    def __init__(self):
        super().__init__("org/plain", "0123", "cpu")
        self.crop = ShortestSideCrop(8, self.mode)

    def load(self):
        module = Flat()
        return Towers(module, module.image, module.image)


class Jpegs:
    """A data set of JPEG bytes; `chunk` gives some of its rows as one of their own, as a corpus does."""

    def __init__(self, count, broken=()):
        self.ids, self.broken, self.asked = [f"image {row}" for row in range(count)], broken, []

    def __len__(self):
        return len(self.ids)

    def jpeg(self, row):
        self.asked.append(row)
        if row in self.broken:
            raise OSError("torn")
        file = io.BytesIO()
        pixels = np.random.default_rng(row).integers(0, 256, (11, 9, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(file, "JPEG")
        return file.getvalue()

    def chunk(self, rows):
        part = Jpegs(len(rows), {row - rows.start for row in self.broken})
        part.ids = self.ids[rows.start : rows.stop]
        part.jpeg = lambda row: self.jpeg(rows.start + row)
        return part


class Loader(list):
    """What a DataLoader is to the encode loop."""

    def __init__(self, images):
        super().__init__()
        self.dataset = images


def left_behind():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(("device", "decode"))]


def streamed(model, images, chunks, batch_size, workers, on_progress=None):
    found = [
        *model.encode_chunks(images, chunks, batch_size=batch_size, num_proc=workers, on_progress=on_progress),
    ]
    assert len(found) == len(chunks)
    return [vectors() for vectors in found]


CUTS = [
    [range(10), range(10, 20), range(20, 23)],
    [range(23)],
    [range(10), range(20, 23)],  # of an interrupted run, the middle is there
    [range(5, 6)],
    [],
]


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("batch_size", [1, 4, 10, 64])
@pytest.mark.parametrize("chunks", CUTS, ids=str)
def test_the_bits_and_the_batches_are_those_of_chunk_by_chunk(monkeypatch, chunks, batch_size, workers, ahead):
    monkeypatch.setattr(ImageTextEncoder, "_decodes_ahead", ahead)
    images, model, counts = Jpegs(23), Plain(), []
    wanted, told = [], []
    for rows in chunks:
        loader = Loader(images.chunk(rows))
        wanted.append(model.encode(loader, batch_size=batch_size, num_proc=workers, on_progress=told.append))
    sizes = sorted(model.towers.module.sizes)
    model.towers.module.sizes.clear()
    found = streamed(model, images, chunks, batch_size, workers, counts.append)
    assert all(torch.equal(*both) for both in zip(found, wanted, strict=True))
    assert all((part.dtype, part.device.type) == (torch.float32, "cpu") for part in found)
    assert counts == told
    assert sorted(model.towers.module.sizes) == sizes
    assert left_behind() == []


def test_a_real_models_bits_are_those_of_chunk_by_chunk():
    images, model = Jpegs(40), tiny_clip().load_model(device="cpu")
    chunks = [range(16), range(16, 32), range(32, 40)]
    wanted = [model.encode(Loader(images.chunk(rows)), batch_size=6, num_proc=2) for rows in chunks]
    assert all(torch.equal(*both) for both in zip(streamed(model, images, chunks, 6, 2), wanted, strict=True))
    assert model.describe()["num_workers"] == 2


@pytest.mark.parametrize(("devices", "workers"), [("cpu", 1), ("cpu", 2), ("cpu,cpu", 2)])
def test_the_next_chunk_is_under_way_before_one_is_given(monkeypatch, devices, workers):
    monkeypatch.setattr(ImageTextEncoder, "_decodes_ahead", True)
    monkeypatch.setenv("VEHICLE_SEARCH_DEVICE", devices)
    images, seen = Jpegs(12), []
    model = Plain()

    chunks = [range(4), range(4, 8), range(8, 12)]
    for _ in model.encode_chunks(images, chunks, batch_size=2, num_proc=workers):
        deadline = time.monotonic() + PATIENCE_S
        # Nobody draws meanwhile: these were handed out before.
        while not {4, 5} <= set(images.asked) and time.monotonic() < deadline:
            time.sleep(0.01)
        seen.append(set(images.asked))
    assert {4, 5} <= seen[0]


@pytest.mark.parametrize("workers", [1, 2])
def test_whoever_draws_is_not_in_inference_mode_and_chunks_are_drawn_as_they_are_needed(workers):
    images, drawn = Jpegs(400), []

    def chunks():
        for start in range(0, 400, 40):
            drawn.append(start)
            yield range(start, start + 40)

    with closing(Plain().encode_chunks(images, chunks(), batch_size=20, num_proc=workers)) as found:
        next(found)
        assert not torch.is_inference_mode_enabled()
        # Two batches each, and two for each lane ahead.
        assert len(drawn) <= 4
    assert left_behind() == []


def test_vectors_may_be_called_for_in_another_thread():
    images, model = Jpegs(6), Plain()
    wanted = model.encode(Loader(images), batch_size=4)
    found = [*model.encode_chunks(images, [range(6)], batch_size=4)]
    thread = threading.Thread(target=lambda: found.append(found.pop()().numpy().copy()))
    thread.start()
    thread.join(PATIENCE_S)
    np.testing.assert_array_equal(found[0], wanted.numpy())


@pytest.mark.parametrize("ahead", [False, True])
def test_a_broken_image_of_the_third_chunk_is_named_once_the_first_two_are_given(monkeypatch, ahead):
    monkeypatch.setattr(ImageTextEncoder, "_decodes_ahead", ahead)
    given, chunks = [], [range(4), range(4, 8), range(8, 12)]
    found = Plain().encode_chunks(Jpegs(12, {9}), chunks, batch_size=2, num_proc=2)
    with pytest.raises(EncodeError, match=r"Image image 9 does not decode: torn\."):
        given.extend(vectors().shape for vectors in found)
    assert given == [(4, 192), (4, 192)]
    assert left_behind() == []


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("where", ["progress", "chunk"])
@pytest.mark.parametrize("trouble", [KeyboardInterrupt, ValueError])
def test_whoever_listens_may_end_it_and_no_thread_is_left(monkeypatch, ahead, where, trouble):
    monkeypatch.setattr(ImageTextEncoder, "_decodes_ahead", ahead)

    def raised(*given):
        raise trouble

    on_chunk, on_progress = (raised, None) if where == "chunk" else (lambda vectors: None, raised)
    images, model, threads = Jpegs(400), Plain(), torch.get_num_threads()
    kept, chunks = [], [range(200), range(200, 400)]
    found = model.encode_chunks(images, chunks, batch_size=4, num_proc=2, on_progress=on_progress)
    with pytest.raises(trouble) as caught, closing(found):
        on_chunk(next(found))
    # The traceback, which keeps every frame alive, is still there.
    kept.append(caught)
    assert left_behind() == []
    assert torch.get_num_threads() == threads
    assert not torch.is_inference_mode_enabled()


@pytest.mark.parametrize("what", ["images", "texts"])
def test_encoding_leaves_no_thread_to_the_garbage_collector(monkeypatch, what):
    def raised(count):
        raise ValueError("enough")

    def tokenise(texts):
        return torch.ones((len(texts), 16_384), dtype=torch.int64), torch.ones((len(texts), 16_384), dtype=torch.int64)

    model = Plain()
    model.towers.module.before = lambda: time.sleep(0.01)
    monkeypatch.setattr(model, "tokenise", tokenise, raising=False)
    model._replicas = [model.towers._replace(text=lambda tokens, mask: tokens[:, :4].float())]
    loader = Loader(Jpegs(40)) if what == "images" else Loader(None)
    loader += [{"text": ["a"] * 40}]
    with pytest.raises(ValueError, match="enough") as caught:
        model.encode(loader, batch_size=2, num_proc=3, on_progress=raised)
    assert caught.value.__traceback__ is not None
    assert left_behind() == []


def test_an_encoder_with_its_own_encode_does_not_stream():
    class Other(Plain):
        def encode(self, inputs, **given):
            return super().encode(inputs, **given) * 2

    assert Plain().streams
    assert not Other().streams
    model = Plain()
    model.encode = lambda inputs, **given: None
    assert not model.streams


def test_an_interruption_ends_it_soon(monkeypatch):
    # Batches that would take a minute, as Ctrl-C finds them.
    entered = Semaphore(0)

    def slow():
        entered.release()
        for _ in range(PATIENCE_S * 100):
            time.sleep(0.01)

    model = Plain()
    model.towers.module.before = slow
    main = threading.get_ident()

    def interrupt():
        # Both threads are at work: one that is just starting would get the interruption in place of its maker.
        assert entered.acquire(timeout=PATIENCE_S)
        assert entered.acquire(timeout=PATIENCE_S)
        begun.append(time.monotonic())
        from mteb_vehicle_search.models import batches

        batches._interrupt(main)

    begun, thread = [], threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        next(model.encode_chunks(Jpegs(40), [range(20), range(20, 40)], batch_size=4, num_proc=2))
    assert time.monotonic() - begun[0] < PATIENCE_S / 4
    thread.join(PATIENCE_S)
    # One whose start was interrupted ends by itself, and is not waited for.
    pause_until(lambda: not left_behind())
    assert left_behind() == []
