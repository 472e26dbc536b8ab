"""The encode loop: the same vectors however they are computed, and what happens when something fails."""

import gc
import io
import logging
import os
import re
import threading
from itertools import product

import numpy as np
import pytest
import torch
from PIL import Image
from small_set import small_set
from stand_ins import tiny_jina

from mteb_vehicle_search import settings
from mteb_vehicle_search.errors import EncodeError, ModelLoadError
from mteb_vehicle_search.models import batches as loop
from mteb_vehicle_search.models import encoder, tiny_clip
from mteb_vehicle_search.models.batches import Lane, Towers
from mteb_vehicle_search.models.encoder import ImageTextEncoder
from mteb_vehicle_search.models.jina_clip import JinaClipEncoder
from mteb_vehicle_search.models.preprocess import ShortestSideCrop, Squash
from mteb_vehicle_search.search.corpus import CorpusImages, image_loader


class PlainTowers(torch.nn.Module):
    """Towers whose vectors can be told without them; they note what they are given."""

    def __init__(self):
        super().__init__()
        self.one = torch.nn.Parameter(torch.ones(1))
        self.register_buffer("table", torch.ones(1))
        self.drop = torch.nn.Dropout(0.9)
        self.given = []

    def image(self, pixels):
        """Return the pixels themselves."""
        self.given.append((pixels, torch.is_inference_mode_enabled()))
        return self.drop(pixels.flatten(1) * self.one)

    def text(self, tokens, mask):
        """Return the sum of the tokens that are not masked, their number, and how many there are in all."""
        self.given.append((tokens, torch.is_inference_mode_enabled()))
        seen = mask.sum(1)
        return torch.stack([(tokens * mask).sum(1), seen, torch.full_like(seen, tokens.shape[1])], dim=1)


class Plain(ImageTextEncoder):
    """The encode loop around `PlainTowers`; a text has a token for each letter."""

    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 0.2)
    fixed_length = False
    cast = True

    def __init__(self, device="cpu"):
        super().__init__("org/plain", "0123", device)
        self.crop = ShortestSideCrop(8, self.mode)
        self.loaded = []

    def load(self):
        self.loaded.append(PlainTowers())
        return Towers(self.loaded[-1], self.loaded[-1].image, self.loaded[-1].text, self.cast)

    def tokenise(self, texts):
        longest = max(map(len, texts))
        tokens = torch.tensor([[ord(letter) for letter in text.ljust(longest)] for text in texts])
        return tokens, torch.tensor([[1] * len(text) + [0] * (longest - len(text)) for text in texts])

    def shapes(self):
        """Return the shapes of what the towers were given."""
        return [tuple(part.shape) for part, _ in self.towers.module.given]


class Jpegs:
    """A data set of JPEG bytes."""

    def __init__(self, count, broken=()):
        self.ids = [f"image {row}" for row in range(count)]
        self.broken = broken

    def __len__(self):
        return len(self.ids)

    def jpeg(self, row):
        if row in self.broken:
            raise self.broken[row]
        file = io.BytesIO()
        pixels = np.random.default_rng(row).integers(0, 256, (11, 9, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(file, "JPEG")
        return file.getvalue()


class Batches(list):
    """What a DataLoader is to the encode loop."""

    dataset = None


def loader_of(images):
    batches = Batches()
    batches.dataset = images
    return batches


def by_hand(images, model):
    """Return the vectors in float64: (pixels / 255 - mean) / std of the whole crop, at length 1."""
    pixels = np.stack([model.crop.decode(images.jpeg(row)).numpy() for row in range(len(images))]).astype(float)
    of_channel = [np.array(value).reshape(3, 1, 1) for value in (model.mean, model.std)]
    found = ((pixels / 255 - of_channel[0]) / of_channel[1]).reshape(len(images), -1)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("batch_size", [1, 4, 9, 10])
@pytest.mark.parametrize("ahead", [False, True])
def test_image_vectors_are_those_of_a_plain_loop(monkeypatch, batch_size, workers, ahead):
    monkeypatch.setattr(ImageTextEncoder, "_decodes_ahead", ahead)
    images, model, counts = Jpegs(9), Plain(), []
    found = model.encode(loader_of(images), batch_size=batch_size, num_proc=workers, on_progress=counts.append)
    assert (found.dtype, found.device.type, found.shape) == (torch.float32, "cpu", (9, 192))
    np.testing.assert_allclose(found.numpy(), by_hand(images, model), atol=1e-6)
    assert counts == [len(part) for part in loop.ranges(9, batch_size)]
    assert all(inference for _, inference in model.towers.module.given)
    assert len(model._lanes()) == workers


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_pixels_are_rounded_once_after_normalising_and_vectors_are_normalised_in_fp32(monkeypatch, precision, dtype):
    images = Jpegs(4)
    wanted = Plain()
    wanted.encode(loader_of(images), num_proc=1)
    monkeypatch.setenv("VEHICLE_SEARCH_PRECISION", precision)
    model = Plain()
    assert model.dtype == dtype
    found = model.encode(loader_of(images), num_proc=1)
    ((pixels, _),), ((exact, _),) = model.towers.module.given, wanted.towers.module.given
    assert (exact.dtype, pixels.dtype) == (torch.float32, dtype)
    assert torch.equal(pixels, exact.to(dtype))
    assert found.dtype == torch.float32
    exactly = pixels.flatten(1).double()
    torch.testing.assert_close(found.double(), exactly / exactly.norm(dim=1, keepdim=True), atol=1e-6, rtol=0)


def test_fp32_is_the_dtype_of_fp32():
    assert (Plain().precision, Plain().dtype) == ("fp32", torch.float32)


def test_32_images_make_a_batch_unless_told_otherwise():
    model = Plain()
    model.encode(loader_of(Jpegs(33)), num_proc=1)
    assert [shape[0] for shape in model.shapes()] == [32, 1]


@pytest.mark.parametrize(
    ("cores", "asked", "wanted"),
    [(4, None, 4), (16, None, 16), (17, None, 16), (64, None, 16), (1, None, 1), (4, 0, 4), (4, 3, 3), (4, 40, 40)],
)
def test_there_is_a_thread_for_each_core_up_to_16(monkeypatch, cores, asked, wanted):
    monkeypatch.setattr(settings, "usable_cores", lambda: cores)
    model = Plain()
    model.encode(loader_of(Jpegs(1)), num_proc=asked)
    assert model.describe()["num_workers"] == wanted


def test_an_ordinary_loaders_images_are_rgb_and_cut_into_batches_of_the_size_asked_for():
    images = [Image.open(io.BytesIO(Jpegs(9).jpeg(row))) for row in range(9)]
    images = [image.convert(mode) for image, mode in zip(images, ["RGB", "L", "RGBA"] * 3, strict=True)]
    model, counts = Plain(), []
    batches = Batches([{"image": images[:2]}, {"image": images[2:7]}, {"image": images[7:]}])
    found = model.encode(batches, batch_size=4, num_proc=1, on_progress=counts.append)
    wanted = torch.stack([model.crop(image.convert("RGB")) for image in images]).float() / 255
    shift, scale = (torch.tensor(value).view(3, 1, 1) for value in (model.mean, model.std))
    wanted = torch.nn.functional.normalize(((wanted - shift) / scale).flatten(1), dim=1)
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=0)
    assert counts == [4, 4, 1]


LENGTHS = [5, 1, 9, 5, 2, 9, 1, 30, 5]
LETTERS = ["abcdefghi"[row] * length for row, length in enumerate(LENGTHS)]


def plain_text_vectors(seen):
    """Return the vectors of LETTERS, given how many tokens each came with."""
    found = np.array([[sum(map(ord, text)), len(text), seen[row]] for row, text in enumerate(LETTERS)], dtype=float)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.mark.parametrize("workers", [1, 3])
def test_texts_are_encoded_shortest_first_as_long_as_the_longest_beside_them(monkeypatch, workers):
    monkeypatch.setattr(loop, "TOKENS_ON_PROCESSOR", 18)
    model, counts = Plain(), []
    batches = Batches([{"text": LETTERS[:4]}, {"text": LETTERS[4:]}])
    found = model.encode(batches, num_proc=workers, on_progress=counts.append)
    # Lengths 1 1 2 5 5 5 9 9 30: at most 18 tokens with the padding, but one text at least.
    wanted = [(3, 2), (3, 5), (2, 9), (1, 30)]
    assert sorted(model.shapes()) == sorted(wanted)
    if workers == 1:
        assert model.shapes() == wanted
        # Equally long ones in their own order.
        assert [chr(int(row[0])) for part, _ in model.towers.module.given for row in part] == list("bgeadicfh")
    assert sorted(counts) == [1, 2, 3, 3]
    assert found.dtype == torch.float32
    seen = {1: 2, 2: 2, 5: 5, 9: 9, 30: 30}
    np.testing.assert_allclose(found.numpy(), plain_text_vectors([seen[length] for length in LENGTHS]), atol=1e-6)
    assert all(inference for _, inference in model.towers.module.given)


def test_texts_of_a_model_with_a_fixed_length_keep_their_padding(monkeypatch):
    monkeypatch.setattr(loop, "TOKENS_ON_PROCESSOR", 65)
    model = Plain()
    model.fixed_length = True
    found = model.encode(Batches([{"text": LETTERS}]), num_proc=1)
    # 30 tokens each, whatever their own length.
    assert model.shapes() == [(2, 30)] * 4 + [(1, 30)]
    np.testing.assert_allclose(found.numpy(), plain_text_vectors([30] * 9), atol=1e-6)


def test_a_length_is_fixed_unless_a_model_says_otherwise():
    assert ImageTextEncoder.fixed_length is True


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([], "There is nothing to encode"),
        ([{"text": []}], "There is nothing to encode"),
        ([{"audio": [1], "about": [2]}], r"neither 'image' nor 'text', only \['about', 'audio'\]"),
    ],
)
def test_inputs_that_are_neither_images_nor_texts_are_an_error(monkeypatch, batches, message):
    monkeypatch.setattr(Plain, "tokenise", lambda self, texts: (torch.zeros((0, 1)).long(), torch.zeros((0, 1)).long()))
    with pytest.raises(EncodeError, match=message):
        Plain().encode(Batches(batches))


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("error", [OSError("truncated"), SyntaxError("truncated"), ValueError("truncated")], ids=repr)
def test_whatever_a_decoder_raises_the_image_is_named(monkeypatch, error, ahead):
    monkeypatch.setattr(ImageTextEncoder, "_decodes_ahead", ahead)
    with pytest.raises(EncodeError, match=r"^Image image 5 does not decode: truncated\.$") as caught:
        Plain().encode(loader_of(Jpegs(9, {5: error})), batch_size=4, num_proc=2)
    assert caught.value.__cause__ is error
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("device", "decode"))]


def test_other_errors_are_not_taken_for_a_broken_image():
    with pytest.raises(KeyError, match="lost"):
        Plain().encode(loader_of(Jpegs(3, {1: KeyError("lost")})))


def parts_of(model, inputs, capacity, device="cpu", error=torch.OutOfMemoryError, meanwhile=None):
    """Compute a batch where no more than `capacity` inputs fit; return the sizes tried."""
    tried = []

    def forward(part, lane):
        tried.append(len(part))
        if len(part) > capacity:
            if meanwhile and len(tried) == 1:
                model._largest_batch = meanwhile
            raise error("simulated")
        return part * 2

    batch = torch.arange(inputs)
    assert torch.equal(model._in_memory(forward, batch, Lane(torch.device(device), None)), batch * 2)
    return tried


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError])
@pytest.mark.parametrize(
    ("inputs", "capacity", "wanted"),
    [
        (16, 16, [16]),
        (16, 15, [16, 8, 8]),
        (16, 5, [16, 8, 4, 4, 4, 4]),
        (10, 3, [10, 5, 2, 2, 2, 2, 2]),
        (7, 3, [7, 3, 3, 1]),
        (3, 1, [3, 1, 1, 1]),
        (2, 1, [2, 1, 1]),
        (1, 1, [1]),
    ],
)
def test_a_batch_is_halved_until_it_fits(caplog, inputs, capacity, wanted, error):
    model = Plain()
    assert parts_of(model, inputs, capacity, error=error) == wanted
    halved = len(wanted) > 1
    assert (model.describe()["largest_batch"] is not None) == halved
    assert (f"Out of memory at batch size {inputs};" in caplog.text) == halved
    assert caplog.text.count("Out of memory") == halved


def test_what_once_did_not_fit_is_not_tried_again_and_is_said_once(caplog):
    model = Plain()
    assert parts_of(model, 16, 5) == [16, 8, 4, 4, 4, 4]
    assert model._largest_batch == 4
    assert parts_of(model, 16, 5) == [4, 4, 4, 4]
    assert parts_of(model, 3, 5) == [3]
    assert model._largest_batch == 4
    assert parts_of(model, 6, 1) == [4, 2, 1, 1, 1, 1, 1, 1]
    assert model._largest_batch == 1
    assert caplog.text.count("Out of memory") == 1


@pytest.mark.parametrize(
    ("meanwhile", "wanted"), [(2, [8, 2, 2, 2, 2]), (4, [8, 4, 4]), (6, [8, 4, 4]), (16, [8, 4, 4])]
)
def test_threads_that_run_out_at_once_take_the_smaller_of_their_batches(meanwhile, wanted):
    model = Plain()
    assert parts_of(model, 8, 5, meanwhile=meanwhile) == wanted
    assert model._largest_batch == wanted[-1]


@pytest.mark.parametrize("device", ["cpu", "meta", "cuda"])
def test_memory_is_freed_before_the_next_try(monkeypatch, device):
    freed = []
    monkeypatch.setattr(gc, "collect", lambda: freed.append("collect"))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: freed.append("cuda"))
    parts_of(Plain(), 4, 2, device)
    assert freed == (["collect", "cuda"] if device == "cuda" else ["collect"])


def test_one_input_that_does_not_fit_is_an_error_with_its_way_out():
    model = Plain()
    with pytest.raises(EncodeError, match="org/plain does not fit into the memory of cpu even with one") as caught:
        parts_of(model, 3, 0)
    assert "VEHICLE_SEARCH_DEVICE" in caught.value.hint
    assert "VEHICLE_SEARCH_PRECISION" in caught.value.hint
    assert isinstance(caught.value.__cause__, torch.OutOfMemoryError)


def test_other_errors_do_not_halve_the_batch():
    model = Plain()
    with pytest.raises(RuntimeError, match="simulated"):
        parts_of(model, 4, 2, error=RuntimeError)
    assert model.describe()["largest_batch"] is None


def test_texts_are_halved_as_well(caplog):
    model = Plain()
    towers = model.towers

    def narrow(tokens, mask):
        if len(tokens) > 2:
            raise torch.OutOfMemoryError("simulated")
        return towers.text(tokens, mask)

    wanted = model.encode(Batches([{"text": ["abc", "def", "ghi", "abc", "x z"]}]))
    model._replicas = [towers._replace(text=narrow)]
    assert torch.equal(model.encode(Batches([{"text": ["abc", "def", "ghi", "abc", "x z"]}])), wanted)
    assert model.describe()["largest_batch"] == 2


def test_a_model_is_read_once_and_each_device_has_its_own(monkeypatch):
    monkeypatch.setenv("VEHICLE_SEARCH_DEVICE", "meta,cpu,cpu")
    model = Plain()
    assert model.loaded == []
    assert [str(device) for device in model.devices] == ["meta", "cpu", "cpu"]
    assert str(model.device) == "meta"
    replicas = model.replicas
    assert model.replicas is replicas
    assert len(model.loaded) == 1
    assert [str(towers.module.one.device) for towers in replicas] == ["meta", "cpu", "cpu"]
    assert [towers.module is model.loaded[0] for towers in replicas] == [False, False, True]
    assert model.towers is replicas[0]
    for towers in replicas:
        # A copy's methods are its own.
        assert towers.image.__self__ is towers.text.__self__ is towers.module
        assert not any(part.training for part in towers.module.modules())
        assert not towers.module.one.requires_grad


def test_the_last_device_has_the_model_too(monkeypatch):
    monkeypatch.setenv("VEHICLE_SEARCH_DEVICE", "cpu,meta")
    assert [str(towers.module.one.device) for towers in Plain().replicas] == ["cpu", "meta"]


def test_what_the_towers_are_given_lies_on_their_device(monkeypatch):
    given = []

    def tower(*tensors):
        given.extend(tensor.device.type for tensor in tensors)
        return torch.zeros((len(tensors[0]), 2), device="meta")

    # There are no numbers on this device: they are made up afterwards.
    monkeypatch.setattr(encoder, "_unit", lambda vectors: torch.ones((len(vectors), 2)))
    model = Plain("meta")
    model._replicas = [model.towers._replace(image=tower, text=tower)]
    assert model.encode(Batches([{"text": LETTERS}])).shape == (9, 2)
    images = [Image.new("RGB", (9, 9))] * 2
    assert model.encode(Batches([{"image": images}])).shape == (2, 2)
    assert given == ["meta", "meta", "meta"]


def test_equally_long_texts_keep_their_order():
    # A sort that is not stable shows only beyond a few elements.
    texts = [chr(33 + number % 90) * (1 + number % 2) for number in range(400)]
    model = Plain()
    model.encode(Batches([{"text": texts}]), num_proc=1)
    ((tokens, _),) = model.towers.module.given
    assert [chr(int(row[0])) for row in tokens] == [text[0] for text in sorted(texts, key=len)]


@pytest.mark.parametrize(("cast", "wanted"), [(True, torch.bfloat16), (False, torch.float32)])
def test_weights_are_cast_unless_the_model_did_that_itself(monkeypatch, cast, wanted):
    monkeypatch.setenv("VEHICLE_SEARCH_PRECISION", "bf16")
    monkeypatch.setenv("VEHICLE_SEARCH_DEVICE", "cpu,cpu")
    monkeypatch.setattr(Plain, "cast", cast)
    for towers in Plain().replicas:
        assert (towers.module.one.dtype, towers.module.table.dtype) == (wanted, wanted)


@pytest.mark.parametrize(
    ("variable", "compiled"), [("1", True), ("0", False), ("", False), ("yes", True), (None, False)]
)
def test_towers_are_compiled_only_when_asked_and_then_work_a_batch_at_a_time(monkeypatch, variable, compiled):
    if variable is not None:
        monkeypatch.setenv("VEHICLE_SEARCH_COMPILE", variable)
    given = []
    monkeypatch.setattr(torch, "compile", lambda function: given.append(function.__name__) or function)
    model = Plain()
    model.encode(loader_of(Jpegs(2)), num_proc=3)
    assert given == (["image", "text"] if compiled else [])
    assert model.describe()["compile"] is compiled
    assert len(model._lanes()) == (1 if compiled else 3)


def test_the_record_says_how_the_encoder_works(monkeypatch):
    monkeypatch.setenv("VEHICLE_SEARCH_DEVICE", "cpu,meta")
    monkeypatch.setenv("VEHICLE_SEARCH_PREPROCESS", "fast")
    model = Plain()
    wanted = {
        "device": "cpu,meta",
        "precision": "fp32",
        "preprocess": "fast",
        "compile": False,
        "num_workers": 0,
        "largest_batch": None,
    }
    assert model.describe() == wanted
    monkeypatch.setenv("VEHICLE_SEARCH_DEVICE", "cpu")
    monkeypatch.setenv("VEHICLE_SEARCH_PREPROCESS", "exact")
    monkeypatch.setenv("VEHICLE_SEARCH_PRECISION", "bf16")
    model = Plain()
    model.encode(loader_of(Jpegs(1)), num_proc=2)
    model._largest_batch = 8
    wanted = {"device": "cpu", "precision": "bf16", "preprocess": "exact", "num_workers": 2, "largest_batch": 8}
    assert model.describe() == {**wanted, "compile": False}


@pytest.mark.parametrize(
    "changed",
    [
        {"model_name": "org/other"},
        {"revision": "4567"},
        {"revision": None},
        {"precision": "bf16"},
        {"mode": "fast"},
        {"device": torch.device("cuda")},
        {"crop": ShortestSideCrop(9)},
        {"crop": ShortestSideCrop(8, "fast")},
        {"crop": ShortestSideCrop(8, "exact", "bilinear")},
        {"crop": Squash(8)},
        {"mean": (0.1, 0.2, 0.31)},
        {"std": (0.5, 0.25, 0.21)},
        {"weights_id": lambda: "other weights"},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_whatever_decides_the_vectors_changes_the_fingerprint(changed):
    model = Plain()
    before = model.fingerprint()
    assert re.fullmatch("[0-9a-f]{64}", before)
    for name, value in changed.items():
        setattr(model, name, value)
    assert model.fingerprint() != before


def test_what_does_not_decide_the_vectors_leaves_the_fingerprint_alone(monkeypatch):
    wanted = Plain().fingerprint()
    model = Plain()
    model.encode(loader_of(Jpegs(2)), batch_size=1, num_proc=3)
    model._largest_batch = 1
    assert model.fingerprint() == wanted
    assert model.weights_id() == ""
    monkeypatch.setenv("VEHICLE_SEARCH_DEVICE", "cpu,cpu")
    assert Plain().fingerprint() == wanted
    found = set()
    for device in ("cuda", "cuda:0", "cuda:1"):
        model.device = torch.device(device)
        model.devices = [model.device]
        found.add(model.fingerprint())
    assert len(found) == 1


@pytest.mark.parametrize(
    ("devices", "pinned", "ahead"),
    [(["cuda"], True, 3), (["cuda:0", "cuda:1", "cuda:2"], True, 7), (["meta"], False, 3)],
)
def test_beside_a_gpu_images_are_decoded_two_batches_ahead_for_each_into_memory_that_it_reads_itself(
    monkeypatch, devices, pinned, ahead
):
    found = []
    monkeypatch.setattr(encoder, "decoded_ahead", lambda *args, **given: found.append((args, given)) or [])
    model, images = Plain(), Jpegs(10)
    model.devices = [torch.device(name) for name in devices]
    model.device, model._workers = model.devices[0], 5
    assert model._decodes_ahead
    assert list(model._pixels(images, 4)) == []
    (((parts, decode, size), given),) = found
    assert list(parts) == [range(0, 4), range(4, 8), range(8, 10)]
    assert torch.equal(decode(3), model.crop.decode(images.jpeg(3)))
    assert size == 8
    assert given == {"workers": 5, "ahead": ahead, "pinned": pinned}


def test_on_a_processor_images_are_decoded_when_their_batch_is_called_for():
    asked = []

    class Noted(Jpegs):
        def jpeg(self, row):
            asked.append(row)
            return super().jpeg(row)

    model = Plain()
    assert not model._decodes_ahead
    batches = list(model._pixels(Noted(5), 2))
    assert asked == []
    assert batches[2]().shape == (1, 3, 8, 8)
    assert batches[1]().shape == (2, 3, 8, 8)
    assert asked == [4, 2, 3]


def test_precision_and_mode_are_chosen_when_the_model_is_made(monkeypatch):
    for name, value in [("PRECISION", "fp16"), ("PREPROCESS", "fast")]:
        monkeypatch.setenv(f"VEHICLE_SEARCH_{name}", value)
    model = Plain()
    assert (model.precision, model.mode, model.crop) == ("fp16", "fast", ShortestSideCrop(8, "fast"))
    assert (model.model_name, model.revision) == ("org/plain", "0123")


def test_arguments_decide_before_the_environment(monkeypatch):
    for name, value in [("PRECISION", "fp16"), ("PREPROCESS", "fast")]:
        monkeypatch.setenv(f"VEHICLE_SEARCH_{name}", value)
    model = tiny(precision="bf16", preprocess="exact")
    assert (model.precision, model.mode) == ("bf16", "exact")
    for name, value in [("PRECISION", "fp16"), ("PREPROCESS", "fast")]:
        assert os.environ[f"VEHICLE_SEARCH_{name}"] == value


def test_an_unknown_keyword_is_refused_by_name():
    with pytest.raises(TypeError, match="batchsize"):
        tiny(batchsize=3)


TEXTS = [f"a {colour} car {'by the sea ' * n}" for n, colour in enumerate(["red", "blue", "white", "black", "green"])]


def tiny(device="cpu", **changed):
    return tiny_clip().load_model(device=device, **changed)


def texts_loader(texts=TEXTS, batch_size=2):
    return torch.utils.data.DataLoader([{"text": text} for text in texts], batch_size=batch_size)


@pytest.fixture
def images(tmp_path):
    eval_set = small_set(tmp_path / "set")
    return CorpusImages(eval_set, eval_set.corpus_ids())


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
    monkeypatch.setattr(loop, "TOKENS_ON_PROCESSOR", 64)
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
    used, both = set(), threading.Barrier(2, timeout=120)

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
