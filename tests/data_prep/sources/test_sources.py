"""What every source gives, and what tells that a part has changed."""

from __future__ import annotations

import dataclasses

import pytest
from format_twins import captioned_files, write_flickr30k, write_imagenet

from data_prep.sources import PerClass, Shard, Source, SourceImage
from data_prep.sources.flickr30k import open_flickr30k
from data_prep.sources.imagenet import open_imagenet

PART = Shard("train/n01.tar", "/data/train.tar", 1000, "train", 3, 512, "stamp")
CHANGES = {
    "name": "train/n02.tar",
    "size_bytes": 1001,
    "split": "val",
    "class_index": 4,
    "offset": 1024,
    "stamp": "another",
}


def test_an_image_is_of_no_class_and_sound_unless_its_source_says_otherwise():
    image = SourceImage("id", b"data", "source", "split")
    assert (image.class_index, image.wnid, image.captions, image.problem) == (-1, "", (), "")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("x/caf\udce9", "x/caf\\udce9"),
        ("x/a\nb", "x/a\\nb"),
        ("x/a\x1bb", "x/a\\x1bb"),
        ("x/a\u2028b", "x/a\\u2028b"),
    ],
)
def test_a_name_that_no_file_can_hold_is_a_reject_that_can_be_written(name, shown):
    image = SourceImage(name, b"data", "source", "split", captions=("A bus.",))
    assert (image.id, image.data, image.captions) == (shown, b"", ())
    assert image.problem == "its name is not a line of text in UTF-8"
    assert SourceImage(name, b"", "source", "", problem="unread\udcff").problem == "unread\\udcff"


def test_names_of_every_script_are_names():
    for name in ("x/caf\u00e9", "x/\u8eca", "x/a b", "x/a\u00a0b", "x/\U0001f68c"):
        assert SourceImage(name, b"data", "source", "") == SourceImage(name, b"data", "source", "")
        assert SourceImage(name, b"data", "source", "").id == name


def test_half_a_surrogate_pair_in_a_caption_is_a_reject():
    image = SourceImage("x/1", b"data", "source", "", captions=("A bus.", "A \ud83d bus."))
    assert (image.data, image.captions) == (b"", ())
    assert image.problem == "caption 2 holds half a surrogate pair, which is no text"
    sound = SourceImage("x/1", b"data", "source", "", captions=("A bus.\n", "A \U0001f68c."))
    assert (sound.problem, sound.data) == ("", b"data")


def test_other_numbers_of_images_than_a_class_has_are_told():
    source = Source("photos", "", per_class={"train": PerClass(5, 9), "val": PerClass(2, 2)})
    usual = {("train", "a"): 5, ("train", "b"): 9, ("val", "a"): 2, ("val", "b"): 2}
    assert source.doubts_of_classes(usual) == []
    assert source.doubts_of_classes({**usual, ("train", "a"): 4, ("val", "b"): 3, ("val", "c"): 0}) == [
        "photos: a class has 5 to 9 train images, but 1 of 2 have other numbers here (a 4).",
        "photos: a class has 2 val images, but 2 of 3 have other numbers here (b 3, c 0).",
    ]
    assert source.doubts_of_classes({("train", "a"): 4}, refused=1) == []
    assert len(source.doubts_of_classes({("train", "a"): 10}, refused=1)) == 1
    (many,) = source.doubts_of_classes({("train", wnid): 1_000 for wnid in "dcba"})
    assert many.endswith("but 4 of 4 have other numbers here (a 1,000, b 1,000, c 1,000, ...).")
    assert Source("drawn", "").doubts_of_classes({("train", "a"): 4}) == []


def test_another_number_of_captioned_images_is_told():
    source = Source("photos", "", images=31_014)
    told = ["photos: 152 images are there; the whole data set has 31,014."]
    assert (source.doubts_of_count(152), source.doubts_of_count(31_014), source.doubts_of_count(None)) == (told, [], [])
    assert Source("photos", "", images=31_014, also_images=(152,)).doubts_of_count(152) == []
    assert Source("drawn", "").doubts_of_count(152) == []


def test_a_part_is_of_no_class_and_begins_at_the_start_unless_its_source_says_otherwise():
    shard = Shard("name", "location", 1, "train")
    assert (shard.class_index, shard.offset, shard.stamp) == (-1, 0, "")


@pytest.mark.parametrize("field", CHANGES)
def test_a_changed_fact_changes_the_fingerprint(field):
    changed = dataclasses.replace(PART, **{field: CHANGES[field]})
    assert changed.fingerprint() != PART.fingerprint()


def test_another_folder_leaves_the_fingerprint_and_every_other_fact_is_in_it():
    assert dataclasses.replace(PART, location="/elsewhere/train.tar").fingerprint() == PART.fingerprint()
    # The stamp tells another number of images; how far away they are is no matter.
    assert {*CHANGES, "location", "images", "travels_bytes"} == {field.name for field in dataclasses.fields(Shard)}
    assert len(PART.fingerprint()) == 64


def test_sources_are_opened_where_they_are_named_else_from_the_hub(tmp_path):
    flickr30k = write_flickr30k(tmp_path / "flickr30k", "folder", captioned_files()[:2])
    assert open_flickr30k(flickr30k).count() == 2
    assert open_flickr30k().describe()["form"] == open_flickr30k("hub").describe()["form"] == "hub"
    imagenet = write_imagenet(tmp_path / "imagenet", "folders")
    assert open_imagenet(str(imagenet)).describe()["form"] == "folders"


@pytest.mark.parametrize("named", [(), ("hub",)])
def test_the_folder_for_downloads_reaches_the_hubs_source(tmp_path, named):
    source = open_imagenet(*named, download_folder=tmp_path / "work")
    shard = Shard("s.parquet", "data/s.parquet", 1, "train")
    (tmp_path / "work" / "data").mkdir(parents=True)
    (tmp_path / "work" / shard.location).write_bytes(b"left by an earlier run")
    source.release(shard)
    assert not (tmp_path / "work" / shard.location).exists()
