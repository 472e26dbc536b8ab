"""The corpus as a dataset and its loader: every image under its own id, and every one reported once."""

import io

import mteb
import numpy as np
import pytest
from datasets import Dataset
from mteb._create_dataloaders import create_dataloader
from mteb.types import PromptType
from PIL import Image
from small_set import jpeg, small_set

from mteb_vehicle_search.errors import EncodeError
from mteb_vehicle_search.search.corpus import CorpusImages, image_loader, text_loader


@pytest.fixture
def eval_set(tmp_path):
    return small_set(tmp_path / "set", rows_per_file=8)


@pytest.fixture
def images(eval_set):
    return CorpusImages(eval_set, eval_set.corpus_ids())


def jpeg_of(corpus_id):
    """The bytes that small_set wrote under an id."""
    number = int(corpus_id.split("/")[-1].removeprefix("n"))
    return jpeg(number + 500 * corpus_id.startswith("imagenet"))


def encoded(form, mode, size=(8, 6)):
    file = io.BytesIO()
    Image.new(mode, size).save(file, form)
    return file.getvalue()


def test_every_id_has_its_own_image(images):
    assert len(images) == 36
    assert (
        images["id"]
        == images.ids
        == [f"flickr30k/{n:04d}" for n in range(6)] + [f"imagenet/train/n{n:04d}" for n in range(30)]
    )
    for index, corpus_id in enumerate(images.ids):
        wanted = Image.open(io.BytesIO(jpeg_of(corpus_id)))
        found = images[index]
        assert set(found) == {"id", "image"}
        assert found["id"] == corpus_id
        assert images.jpeg(index) == jpeg_of(corpus_id)
        assert found["image"].mode == "RGB"
        np.testing.assert_array_equal(np.asarray(found["image"]), np.asarray(wanted))


def test_a_part_of_a_part_still_has_the_right_images(images):
    part = images.chunk(range(5, 30))
    inner = part.chunk(range(4, 9))
    assert (len(part), len(inner)) == (25, 5)
    assert part["id"] == images.ids[5:30]
    assert inner.ids == images.ids[9:14]
    assert [item["id"] for item in inner] == inner.ids
    for index, corpus_id in enumerate(inner.ids):
        assert inner.jpeg(index) == jpeg_of(corpus_id)
        assert inner.image(index).tobytes() == inner[index]["image"].tobytes() == images.image(9 + index).tobytes()


def test_the_end_and_unknown_columns_are_refused(images):
    with pytest.raises(IndexError, match="36"):
        images[36]
    with pytest.raises(IndexError, match="3"):
        images.chunk(range(3))[3]
    with pytest.raises(KeyError, match="text"):
        images["text"]
    assert len(list(images.chunk(range(33, 36)))) == 3


def test_columns_look_like_those_of_datasets(images):
    from datasets import Dataset, Features
    from datasets import Image as ImageColumn

    assert images.column_names == list(images.features) == ["id", "image"]
    assert images.features["image"] == ImageColumn(mode="RGB")
    # The types describe the rows: datasets itself can store them.
    rows = {name: [images[n][name] for n in range(2)] for name in images.column_names}
    stored = Dataset.from_dict(rows, features=Features(images.features))
    assert stored["id"] == images.ids[:2]
    assert stored[0]["image"].mode == "RGB"


@pytest.mark.parametrize(("form", "mode"), [("JPEG", "L"), ("JPEG", "CMYK"), ("PNG", "P"), ("PNG", "LA")])
def test_every_mode_is_decoded_to_rgb(images, monkeypatch, form, mode):
    monkeypatch.setattr(images, "jpeg", lambda index: encoded(form, mode))
    assert images.image(0).mode == "RGB"
    assert images.image(0).size == (8, 6)


@pytest.mark.parametrize(
    "damaged",
    [
        b"",  # UnidentifiedImageError
        jpeg(1, (400, 300))[:700],  # OSError
        encoded("PNG", "RGB")[:40],  # SyntaxError or OSError
        encoded("PNG", "RGB").replace(b"IDAT", b"IDAX"),
        b"P6 x y 255 ",  # ValueError
    ],
)
def test_an_image_that_does_not_decode_is_named(images, monkeypatch, damaged):
    part = images.chunk(range(10, 20))
    monkeypatch.setattr(part, "jpeg", lambda index: damaged)
    with pytest.raises(EncodeError) as refused:
        part.image(2)
    folder = images._eval_set.folder
    assert refused.value.message.startswith(f"Image {images.ids[12]} of {folder} does not decode: ")
    assert f"vehicle-search-data verify {folder}" in refused.value.hint
    assert refused.value.__cause__ is not None


@pytest.mark.parametrize("error", [OSError("cut"), SyntaxError("cut"), ValueError("cut")])
def test_every_kind_of_pillows_complaints_is_told_the_same_way(images, monkeypatch, error):
    def broken(self, mode):
        raise error

    monkeypatch.setattr(Image.Image, "convert", broken)
    with pytest.raises(EncodeError, match=rf"{images.ids[0]} .* does not decode: cut"):
        images.image(0)


def test_batches_come_in_order_and_are_reported_when_done(images):
    reported, seen = [], []
    loader = image_loader(images.chunk(range(4, 15)), 4, 0, reported.append)
    for batch in loader:
        assert set(batch) == {"id", "image"}
        assert all(image.mode == "RGB" for image in batch["image"])
        assert reported == [len(ids) for ids in seen]  # those before, not this one
        seen.append(batch["id"])
    assert seen == [images.ids[4:8], images.ids[8:12], images.ids[12:15]]
    assert reported == [4, 4, 3]
    assert len(list(loader)) == len(loader) == 3


def test_ids_and_images_stay_together_in_a_batch(images):
    (batch,) = image_loader(images.chunk(range(20, 23)), 8, 0, lambda n: None)
    assert batch["id"] == images.ids[20:23]
    for index, image in enumerate(batch["image"]):
        assert image.tobytes() == images.image(20 + index).tobytes()


def test_workers_give_the_same_batches(images):
    reported = []
    loader = image_loader(images, 10, 2, reported.append)
    assert loader.num_workers == 2
    found = list(loader)
    assert [corpus_id for batch in found for corpus_id in batch["id"]] == images.ids
    pixels = [image.tobytes() for batch in found for image in batch["image"]]
    assert pixels == [images.image(index).tobytes() for index in range(36)]
    assert reported == [10, 10, 10, 6]


def test_without_somebody_to_tell_batches_come_all_the_same(images):
    assert [len(batch["id"]) for batch in image_loader(images, 10, 0)] == [10, 10, 10, 6]


@pytest.mark.parametrize("count", [1, 4, 9])
def test_batches_of_queries_are_those_of_mteb(count):
    texts = [f"A red car,  number {number}\n" for number in range(count)]
    queries = Dataset.from_dict({"id": [f"q{number}" for number in range(count)], "text": texts})
    metadata = mteb.get_task("VehicleImageSearchMini").metadata
    theirs = create_dataloader(queries, task_metadata=metadata, prompt_type=PromptType.query, batch_size=4)
    ours = text_loader(queries, 4)
    assert list(ours) == list(theirs)
    assert len(ours) == len(theirs)
    assert list(ours.dataset) == list(theirs.dataset)
