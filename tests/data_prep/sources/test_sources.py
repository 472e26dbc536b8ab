"""What every source gives, what tells that a part has changed, and how one file is read."""

from __future__ import annotations

import dataclasses
import errno
from pathlib import Path
from typing import Any

import pytest
from format_twins import captioned_files, write_flickr30k, write_imagenet

from data_prep import sources
from data_prep.sources import Shard, SourceImage, read_image_file
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


def test_an_image_is_of_no_class_turned_by_its_exif_and_sound_unless_its_source_says_otherwise():
    image = SourceImage("id", b"data", "source", "split")
    assert (image.class_index, image.wnid, image.captions, image.apply_exif, image.problem) == (-1, "", (), True, "")


def test_a_part_is_of_no_class_and_begins_at_the_start_unless_its_source_says_otherwise():
    shard = Shard("name", "location", 1, "train")
    assert (shard.class_index, shard.offset, shard.stamp) == (-1, 0, "")


@pytest.mark.parametrize("field", CHANGES)
def test_a_changed_fact_changes_the_fingerprint(field):
    changed = dataclasses.replace(PART, **{field: CHANGES[field]})
    assert changed.fingerprint() != PART.fingerprint()


def test_another_folder_leaves_the_fingerprint_and_every_other_fact_is_in_it():
    assert dataclasses.replace(PART, location="/elsewhere/train.tar").fingerprint() == PART.fingerprint()
    assert {*CHANGES, "location"} == {field.name for field in dataclasses.fields(Shard)}
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
