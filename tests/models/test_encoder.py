"""The encode loop: the same vectors however they are computed, and what happens when something fails."""

import logging
import threading
from itertools import product

import pytest
import torch
from small_set import small_set
from stand_ins import tiny_jina

from mteb_vehicle_search.corpus import CorpusImages, image_loader
from mteb_vehicle_search.errors import EncodeError, ModelLoadError
from mteb_vehicle_search.models import batches as loop
from mteb_vehicle_search.models import tiny_clip
from mteb_vehicle_search.models.devices import choose_devices
from mteb_vehicle_search.models.encoder import ImageTextEncoder
from mteb_vehicle_search.models.jina_clip import JinaClipEncoder

TEXTS = [f"a {colour} car {'by the sea ' * n}" for n, colour in enumerate(["red", "blue", "white", "black", "green"])]


def tiny(device="cpu", **changed):
    return tiny_clip().load_model(device=device, **changed)


def texts_loader(texts=TEXTS, batch_size=2):
    return torch.utils.data.DataLoader([{"text": text} for text in texts], batch_size=batch_size)


@pytest.fixture
def images(tmp_path):
    evaluation = small_set(tmp_path / "set")
    return CorpusImages(evaluation, evaluation.corpus_ids())


def encode(model, images, batch_size=7, workers=2, **given):
    loader = image_loader(images, batch_size, 0, lambda n: None)
    return model.encode(loader, batch_size=batch_size, num_proc=workers, **given)


@pytest.fixture(scope="module")
def jina_folder(tmp_path_factory):
    return tiny_jina(tmp_path_factory.mktemp("jina"))


@pytest.mark.parametrize("kind", ["tiny-clip", "tiny Jina"])
def test_batch_size_and_workers_change_nothing(images, jina_folder, kind):
    model = tiny() if kind == "tiny-clip" else JinaClipEncoder("tiny/jina", device="cpu", folder=jina_folder)
    wanted, wanted_texts = encode(model, images, 16, 1), model.encode(texts_loader())
    assert wanted.shape == (36, 128 if kind == "tiny-clip" else 64)
    assert (wanted.norm(dim=1) - 1).abs().max() < 1e-6
    for batch_size, workers in product((1, 7, 64), (0, 2)):
        found = encode(model, images, batch_size, workers)
        assert (wanted * found).sum(-1).min() >= 0.99999
        texts = model.encode(texts_loader(batch_size=batch_size), batch_size=batch_size, num_proc=workers)
        assert (wanted_texts * texts).sum(-1).min() >= 0.99999


@pytest.mark.parametrize("devices", ["cpu", "cpu,cpu"])
def test_decoding_ahead_as_beside_a_gpu_gives_the_same_vectors(images, monkeypatch, devices):
    wanted = encode(tiny(), images)
    monkeypatch.setattr(ImageTextEncoder, "_decodes_ahead", True)
    monkeypatch.setenv("VEHICLE_SEARCH_DEVICE", devices)
    threads = torch.get_num_threads()
    for batch_size, workers in [(7, 2), (1, 3), (64, 1)]:
        assert (encode(tiny(), images, batch_size, workers) * wanted).sum(-1).min() >= 0.99999
    assert torch.get_num_threads() == threads
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("device", "decode"))]


def test_a_broken_image_ends_decoding_ahead(images, monkeypatch):
    monkeypatch.setattr(ImageTextEncoder, "_decodes_ahead", True)
    monkeypatch.setattr(images, "jpeg", lambda index: b"\xff\xd8 nothing")
    with pytest.raises(EncodeError, match=r"flickr30k/0000 does not decode"):
        encode(tiny(), images)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_an_ordinary_loader_gives_the_same_vectors(images):
    model = tiny()
    ordinary = torch.utils.data.DataLoader(
        [{"image": images[i]["image"]} for i in range(len(images))],
        batch_size=5,
        collate_fn=lambda rows: {"image": [row["image"] for row in rows]},
    )
    assert (model.encode(ordinary) * encode(model, images)).sum(-1).min() >= 0.99999


def test_texts_come_back_in_order(monkeypatch):
    model = tiny()
    alone = torch.cat([model.encode(texts_loader([text])) for text in TEXTS])
    monkeypatch.setattr(loop, "TOKENS_PER_BATCH", 64)
    assert (model.encode(texts_loader()) * alone).sum(-1).min() >= 0.99999


def test_progress_counts_every_image_once(images):
    counts = []
    encode(tiny(), images, on_progress=counts.append)
    assert sum(counts) == 36


def test_out_of_memory_halves_the_batch_and_says_so_once(images, caplog):
    model = tiny()
    wanted = encode(model, images, 16)
    towers, sizes = model.towers, []

    def narrow(pixels):
        if len(pixels) > 5:
            raise torch.OutOfMemoryError("simulated")
        sizes.append(len(pixels))
        return towers.image(pixels)

    model._replicas = [towers._replace(image=narrow)]
    with caplog.at_level(logging.WARNING):
        found = encode(model, images, 16)
    assert (wanted * found).sum(-1).min() >= 0.99999
    assert max(sizes) == 4
    assert caplog.text.count("Out of memory") == 1
    assert model.describe()["largest_batch"] == 4


def test_no_room_for_one_image_is_an_error(images):
    model = tiny()

    def none(pixels):
        raise torch.OutOfMemoryError("simulated")

    model._replicas = [model.towers._replace(image=none)]
    with pytest.raises(EncodeError, match="even with one input"):
        encode(model, images)


def test_several_devices_give_the_same_in_order(images, monkeypatch):
    wanted, wanted_texts = encode(tiny(), images, 3), tiny().encode(texts_loader())
    monkeypatch.setenv("VEHICLE_SEARCH_DEVICE", "cpu,cpu")
    model = tiny()
    assert len(model.replicas) == 2
    assert model.replicas[0].module is not model.replicas[1].module
    used, both = set(), threading.Barrier(2, timeout=20)

    def watched(number, towers):
        def image(pixels):
            if number not in used:
                both.wait()
                used.add(number)
            return towers.image(pixels)

        return towers._replace(image=image)

    model._replicas = [watched(number, towers) for number, towers in enumerate(model.replicas)]
    assert (encode(model, images, 3) * wanted).sum(-1).min() >= 0.99999
    assert used == {0, 1}
    assert (model.encode(texts_loader()) * wanted_texts).sum(-1).min() >= 0.99999
    assert model.describe()["device"] == "cpu,cpu"


def test_a_failing_device_ends_the_run_with_its_error(images, monkeypatch):
    monkeypatch.setenv("VEHICLE_SEARCH_DEVICE", "cpu,cpu")
    model = tiny()

    def broken(pixels):
        raise RuntimeError("device lost")

    model._replicas = [model.replicas[0], model.replicas[1]._replace(image=broken)]
    with pytest.raises(RuntimeError, match="device lost"):
        encode(model, images, 1)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("device", "decode"))]


def test_a_broken_image_is_named(images, monkeypatch):
    monkeypatch.setattr(images, "jpeg", lambda index: b"\xff\xd8 nothing")
    with pytest.raises(EncodeError, match=r"flickr30k/0000 does not decode"):
        encode(tiny(), images)


def test_devices_are_chosen_and_unknown_ones_refused(monkeypatch):
    assert [str(device) for device in choose_devices("cpu")] == ["cpu"]
    monkeypatch.setenv("VEHICLE_SEARCH_DEVICE", "gpu")
    with pytest.raises(ModelLoadError, match="'gpu' cannot be used"):
        choose_devices(None)


def test_precision_changes_the_fingerprint_and_stays_close(images, monkeypatch):
    full = tiny()
    wanted = encode(full, images)
    monkeypatch.setenv("VEHICLE_SEARCH_PRECISION", "bf16")
    half = tiny()
    assert half.fingerprint() != full.fingerprint()
    assert (encode(half, images) * wanted).sum(-1).min() >= 0.999
    monkeypatch.setenv("VEHICLE_SEARCH_PRECISION", "int8")
    with pytest.raises(ModelLoadError, match="'int8' is unknown"):
        tiny()
