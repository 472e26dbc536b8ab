"""What every source gives, what tells that a part has changed, and how one file is read."""

from __future__ import annotations

import dataclasses
import errno
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from format_twins import captioned_files, write_flickr30k, write_imagenet

from data_prep import sources
from data_prep.sources import (
    PassedOver,
    PerClass,
    Shard,
    Source,
    SourceImage,
    entries,
    not_an_image,
    read_image_file,
)
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


def test_no_more_than_64_mebibytes_of_an_image_are_read():
    assert sources.MAX_FILE_BYTES == 64 * 1024 * 1024


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


@pytest.mark.parametrize("kind", ["a pipe", "a socket"])
def test_what_is_no_file_is_not_waited_for(tmp_path, kind):
    path = tmp_path / "x.jpg"
    if kind == "a pipe":
        os.mkfifo(path)
        assert read_image_file(path) == (b"", "is a pipe, not a file")
    else:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(os.path.relpath(path))
            assert read_image_file(path) == (b"", "is a socket, not a file")


def test_files_of_systems_are_passed_over_and_counted(tmp_path):
    system = ("Thumbs.db", "desktop.ini", "@eaDir", "__MACOSX", "lost+found", "THUMBS.DB ")
    for name in (".DS_Store", "._1.jpg", "1.jpg", *system):
        (tmp_path / name).touch()
    passed = PassedOver()
    assert [path.name for path in entries(tmp_path, passed)] == ["1.jpg", "THUMBS.DB "]
    assert passed == {"hidden files": 2, "files of the operating system": 5}
    assert entries(tmp_path) == entries(tmp_path, PassedOver())


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("a/b.jpg", ""),
        ("./a/../b.jpg", ""),
        ("a/.b.jpg", "hidden files"),
        (".data/b.jpg", ""),
        ("a/.../b.jpg", ""),
        ("a/@eaDir/b.jpg", "files of the operating system"),
        ("__MACOSX/a/._b.jpg", "files of the operating system"),
        ("a\\Thumbs.db", "files of the operating system"),
    ],
)
def test_a_path_says_why_a_file_is_passed_over(name, why):
    assert not_an_image(name) == why


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
    # The stamp tells another number of images.
    assert {*CHANGES, "location", "images"} == {field.name for field in dataclasses.fields(Shard)}
    assert len(PART.fingerprint()) == 64


@pytest.mark.parametrize(("size", "read"), [(0, 0), (9, 9), (10, 10), (11, 11), (12, 11), (1000, 11)])
def test_a_file_is_read_to_one_byte_above_the_limit(tmp_path, monkeypatch, size, read):
    monkeypatch.setattr(sources, "MAX_FILE_BYTES", 10)
    content = bytes(range(256)) * 4
    (tmp_path / "image.jpg").write_bytes(content[:size])
    assert read_image_file(tmp_path / "image.jpg") == (content[:read], "")


def test_a_file_that_is_not_there_is_an_error_and_a_link_to_nowhere_a_reject(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_image_file(tmp_path / "none.jpg")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "none.jpg")
    assert read_image_file(tmp_path / "link.jpg") == (b"", "cannot be read: No such file or directory")
    (tmp_path / "folder.jpg").mkdir()
    assert read_image_file(tmp_path / "folder.jpg") == (b"", "cannot be read: Is a directory")


@pytest.mark.parametrize(
    ("error", "says"),
    [(OSError(errno.EIO, "Input/output error"), "Input/output error"), (OSError("a bad sector"), "a bad sector")],
)
def test_a_disk_that_fails(tmp_path, monkeypatch, error, says):
    def fail(path: Path, *arguments: Any) -> Any:
        raise error

    (tmp_path / "image.jpg").touch()
    monkeypatch.setattr(Path, "open", fail)
    assert read_image_file(tmp_path / "image.jpg") == (b"", f"cannot be read: {says}")


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
