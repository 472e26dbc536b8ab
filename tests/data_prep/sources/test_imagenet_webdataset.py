"""ImageNet as webdataset tars: which tars are of which split, and what tells an image's class and name."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from data_prep.sources.imagenet import open_imagenet
from data_prep.sources.imagenet.classes import original_stem, wnids
from data_prep.storage import PassedOver
from mteb_vehicle_search.errors import SourceError

TENCH, WAGON = wnids()[0], wnids()[436]


def write(path: Path, *members: tuple[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def read(folder: Path, wanted: set[int], splits=("train",), passed: PassedOver | None = None) -> list:
    source = open_imagenet(folder)
    return [image for shard in source.shards(wanted, splits) for image in source.images(shard, wanted, passed)]


def sample(key: str, index: int, name: str, data: bytes = b"jpeg") -> list[tuple[str, bytes]]:
    return [
        (f"{key}.cls", str(index).encode()),
        (f"{key}.jpg", data),
        (f"{key}.json", json.dumps({"filename": name}).encode()),
    ]


def test_the_name_is_that_of_the_facts_and_the_class_that_of_its_own_file(tmp_path):
    rows = [*sample("0001", 436, f"{WAGON}/{WAGON}_7.JPEG", b"a"), *sample("0002", 0, f"{TENCH}_9.JPEG", b"b")]
    write(tmp_path / "imagenet1k-train-0000.tar", *rows)
    passed = PassedOver()
    (image,) = read(tmp_path, {436}, passed=passed)
    assert (image.id, image.data, image.class_index, image.split) == (f"imagenet/train/{WAGON}_7", b"a", 436, "train")
    assert passed == {"of classes that are not wanted": 1}


def test_the_name_among_the_facts_counts_before_that_of_the_sample(tmp_path):
    write(tmp_path / "train.tar", *sample(f"{WAGON}_1", 436, f"{WAGON}_2.JPEG"))
    assert [image.id for image in read(tmp_path, {436})] == [f"imagenet/train/{WAGON}_2"]


@pytest.mark.parametrize(
    "facts",
    [{"label": 436}, {"cls": "436"}, {"class_index": 436}, {"wnid": WAGON}, {"label": WAGON}],
    ids=lambda facts: json.dumps(facts),
)
def test_a_class_may_stand_among_the_facts(tmp_path, facts):
    write(
        tmp_path / "train.tar",
        (f"{WAGON}_7.jpg", b"a"),
        (f"{WAGON}_7.json", json.dumps(facts).encode()),
    )
    assert [image.id for image in read(tmp_path, {436})] == [f"imagenet/train/{WAGON}_7"]


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        (f"{WAGON}_7.JPEG", f"{WAGON}_7"),
        (f"train/{WAGON}/{WAGON}_7.JPEG", f"{WAGON}_7"),
        (f"a\\{WAGON}_7", f"{WAGON}_7"),
        (f"{WAGON}_7_{WAGON}.JPEG", f"{WAGON}_7"),
        (f"ILSVRC2012_val_00000293_{WAGON}.JPEG", "ILSVRC2012_val_00000293"),
        ("000123.jpg", ""),
        (f"x{WAGON}_7.JPEG", ""),
    ],
)
def test_the_stem_that_imagenet_gave_an_image(name, stem):
    assert original_stem(name) == stem


def test_an_image_without_imagenets_name_is_a_reject(tmp_path):
    """Its id would be another one than in every other form."""
    write(tmp_path / "train-0.tar", ("000123.jpg", b"a"), ("000123.cls", b"436\n"))
    (image,) = read(tmp_path, {436})
    assert (image.id, image.data) == (f"imagenet/train/{WAGON}/000123.JPEG", b"")
    assert image.problem == "'000123.JPEG' is not the name of an ImageNet image"


def test_a_class_that_is_not_told_and_facts_that_are_none(tmp_path):
    path = write(tmp_path / "train-0.tar", ("1.jpg", b"a"))
    with pytest.raises(SourceError) as caught:
        read(tmp_path, {436})
    assert str(caught.value) == (f"{path}: 1 does not say its class\nExpected a file .cls with a number from 0 to 999.")
    write(path, ("1.jpg", b"a"), ("1.cls", b"1000"))
    with pytest.raises(SourceError, match="1 does not say its class"):
        read(tmp_path, {436})
    write(path, ("1.jpg", b"a"), ("1.json", b"{"))
    with pytest.raises(SourceError, match=r"1\.json is no JSON"):
        read(tmp_path, {436})


def test_tars_of_both_splits_lie_together_or_in_folders_and_others_are_not_meant(tmp_path):
    write(tmp_path / "train" / "b.tar", *sample("1", 436, f"{WAGON}_1"))
    write(tmp_path / "train" / "a.tar.gz")
    write(tmp_path / "validation" / "a.tar", *sample("1", 436, "ILSVRC2012_val_00000001"))
    write(tmp_path / "imagenet-val-1.tar", *sample("1", 436, "ILSVRC2012_val_00000002"))
    write(tmp_path / "test-1.tar", *sample("1", 436, "ILSVRC2012_test_00000002"))
    (tmp_path / "train-folder.tar").mkdir()
    (tmp_path / ".train.tar").touch()
    shards = open_imagenet(tmp_path).shards({436})
    assert [(shard.name, shard.split) for shard in shards] == [
        ("train/a.tar.gz", "train"),
        ("train/b.tar", "train"),
        ("imagenet-val-1.tar", "val"),
        ("validation/a.tar", "val"),
    ]
    assert [shard.size_bytes for shard in shards] == [(tmp_path / shard.name).stat().st_size for shard in shards]
    assert open_imagenet(tmp_path).describe() == {
        "form": "webdataset",
        "location": str(tmp_path),
        "revision": "",
        "files": sorted(shard.name for shard in shards),
    }
    before = shards[1].fingerprint()
    os.utime(tmp_path / "train" / "b.tar", ns=(1, 2))
    assert open_imagenet(tmp_path).shards({436})[1].fingerprint() != before


def test_a_split_that_is_used_must_be_there(tmp_path):
    path = write(tmp_path / "train-0.tar", *sample("1", 436, f"{WAGON}_1"))
    assert len(open_imagenet(tmp_path).shards({436}, ["train"])) == 1
    assert [shard.name for shard in open_imagenet(path).shards({436}, ["train"])] == ["train-0.tar"]
    with pytest.raises(SourceError, match=f"{tmp_path} holds no tars for val\nEvery split that is used must be there"):
        open_imagenet(tmp_path).shards({436})


def test_samples_without_an_image_are_counted_and_two_of_a_kind_are_told(tmp_path):
    path = write(tmp_path / "train-0.tar", ("1.cls", b"436"), *sample("2", 436, f"{WAGON}_2"), ("3.json", b"{}"))
    passed = PassedOver()
    assert len(read(tmp_path, {436}, passed=passed)) == 1
    assert passed == {"samples without an image": 2}
    write(path, ("1.jpg", b"a"), ("1.png", b"b"))
    with pytest.raises(SourceError, match="sample 1 has two files of the kind png"):
        read(tmp_path, {436})
