"""Folders of classes: which are parts, when these change, and what is in them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from format_twins import write_imagenet

from data_prep.sources.imagenet.classes import wnids
from data_prep.sources.imagenet.files import FilesImagenet
from data_prep.storage import PassedOver
from data_prep.storage.local import LocalTree
from mteb_vehicle_search.errors import SourceError

# Of beach wagon (436) and tench (0), which come in another order by name than by index here.
TENCH, WAGON = "n01440764", "n02814533"
UNPACK = "Every wanted class must be there: unpack these again."


def files(root: Path) -> FilesImagenet:
    return FilesImagenet(LocalTree(root))


def train_of(root: Path, wanted: set[int] | None) -> list:
    return files(root).shards(wanted, ["train"])


def write(folder: Path, *names: str, data: bytes = b"bytes") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def root(tmp_path):
    for split, stem in (("train", "{}_1"), ("val", "ILSVRC2012_val_0000000{}")):
        for number, wnid in enumerate((TENCH, WAGON)):
            write(tmp_path / split / wnid, stem.format(wnid if split == "train" else number) + ".JPEG")
    return tmp_path


def test_parts_are_train_before_validation_by_the_name_of_the_class(root):
    shards = files(root).shards({436, 0})
    assert [shard.name for shard in shards] == [
        f"{split}/{wnid}" for split in ("train", "val") for wnid in (TENCH, WAGON)
    ]
    assert [shard.location for shard in shards] == [shard.name for shard in shards]
    assert [(shard.split, shard.class_index) for shard in shards] == [
        *(("train", 0), ("train", 436)),
        *(("val", 0), ("val", 436)),
    ]
    assert [(shard.size_bytes, shard.offset) for shard in shards] == [(5, 0)] * 4
    assert all(len(shard.stamp) == 64 for shard in shards)


def test_only_wanted_classes_are_parts_and_only_they_must_be_there(root):
    assert [shard.name for shard in files(root).shards({436})] == [f"train/{WAGON}", f"val/{WAGON}"]
    (root / "val" / TENCH / "ILSVRC2012_val_00000000.JPEG").unlink()
    assert len(files(root).shards({436})) == 2
    assert files(root).shards(set()) == []


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_wanted_class_that_is_missing(root, split):
    (root / split / WAGON).rename(root / "elsewhere")
    with pytest.raises(SourceError) as caught:
        files(root).shards({0, 436})
    assert str(caught.value) == f"{root}/{split} has no class folder {WAGON}\n{UNPACK}"


def test_of_all_classes_each_must_be_there(tmp_path):
    """Every class is one and the same folder here."""
    write(tmp_path / "train" / TENCH, "a")
    for place in (1, 999):
        (tmp_path / "train" / wnids()[place]).symlink_to(tmp_path / "train" / TENCH)
    with pytest.raises(SourceError, match=f"has no class folder {wnids()[2]}"):
        train_of(tmp_path, None)
    for wnid in wnids()[2:999]:
        (tmp_path / "train" / wnid).symlink_to(tmp_path / "train" / TENCH)
    assert [shard.class_index for shard in train_of(tmp_path, None)] == list(range(1000))


@pytest.mark.parametrize("names", [[], [".DS_Store"]])
def test_an_empty_class(tmp_path, names):
    write(tmp_path / "train" / TENCH, *names)
    with pytest.raises(SourceError) as caught:
        train_of(tmp_path, {0})
    assert str(caught.value) == f"in {tmp_path}/train there are no images in {TENCH}\n{UNPACK}"


def test_everything_that_is_missing_is_named_at_once(root):
    (root / "train" / WAGON).rename(root / "elsewhere")
    (root / "val" / TENCH / "ILSVRC2012_val_00000000.JPEG").unlink()
    wanted = {0, 436, *range(1, 8)}
    with pytest.raises(SourceError) as caught:
        files(root).shards(wanted)
    named = ", ".join(sorted(wnids()[number] for number in wanted - {0})[:5])
    absent = ", ".join(sorted(wnids()[number] for number in wanted - {0, 436})[:5])
    assert str(caught.value) == (
        f"{root}/train has no class folder {named} and 3 more; {root}/val has no class folder {absent} and 2 more; "
        f"in {root}/val there are no images in {TENCH}\n{UNPACK}"
    )
    assert [shard.name for shard in files(root).shards({0}, ["train"])] == [f"train/{TENCH}"]
    (root / "val").rename(root / "train-of-another-set")
    with pytest.raises(
        SourceError, match=f"there is neither {root}/ILSVRC2012_img_val.tar nor a folder val/ of images\n"
    ):
        files(root).shards({0})


def test_parts_know_how_many_images_they_hold(root):
    write(root / "train" / TENCH, "a", "b", ".hidden", "Thumbs.db")
    assert [shard.images for shard in files(root).shards({0})] == [3, 1]
    passed = PassedOver()
    shard = files(root).shards({0})[0]
    assert len(list(files(root).images(shard, {0}, passed))) == 3
    assert passed == {"hidden files": 1, "files of the operating system": 1}


def test_the_size_of_a_part_is_that_of_its_files(tmp_path):
    folder = write(tmp_path / "train" / TENCH, "a", "b", data=b"12345")
    write(folder, ".hidden", data=b"1234567")
    (folder / "folder").mkdir()
    assert [shard.size_bytes for shard in train_of(tmp_path, {0})] == [10]


CHANGES = {
    "nothing": (lambda folder: None, False),
    "a longer file": (lambda folder: write(folder, "a", data=b"123456"), True),
    "another file": (lambda folder: write(folder, "c"), True),
    "one file less": (lambda folder: (folder / "a").unlink(), True),
    "another name": (lambda folder: (folder / "a").rename(folder / "0"), True),
    "a folder for a file": (lambda folder: ((folder / "a").unlink(), (folder / "a").mkdir()), True),
    "a hidden file": (lambda folder: write(folder, ".DS_Store"), False),
    "a later time": (lambda folder: os.utime(folder / "a", ns=(1, 1)), False),
}


@pytest.mark.parametrize(("change", "new"), CHANGES.values(), ids=CHANGES)
def test_the_stamp_tells_that_a_class_changed(tmp_path, change, new):
    folder = write(tmp_path / "train" / TENCH, "a", "b")
    before = train_of(tmp_path, {0})[0]
    change(folder)
    assert (train_of(tmp_path, {0})[0].stamp != before.stamp) is new


def test_images_come_by_name_and_hidden_files_are_passed_over(tmp_path):
    names = [f"{WAGON}_10.JPEG", f"{WAGON}_2.JPEG", f"{WAGON}_1.JPEG"]
    folder = tmp_path / "train" / WAGON
    for name in names:
        write(folder, name, data=name.encode())
    write(folder, f"._{WAGON}_1.JPEG", "README.txt")
    (folder / f"{WAGON}_3.JPEG").mkdir()
    images = list(files(tmp_path).images(train_of(tmp_path, {436})[0], {436}))
    assert [image.id for image in images] == [
        f"imagenet/train/{WAGON}/README.txt",
        *(f"imagenet/train/{WAGON}_{number}" for number in (1, 10, 2, 3)),
    ]
    assert [image.data for image in images] == [b"", *(name.encode() for name in sorted(names)), b""]
    assert images[0].problem == "'README.txt' is not the name of an ImageNet image"
    assert [image.problem for image in images[1:]] == ["", "", "", "cannot be read: Is a directory"]
    assert {(image.split, image.class_index, image.wnid) for image in images} == {("train", 436, WAGON)}


def test_a_part_of_a_class_that_is_not_wanted_gives_nothing(root):
    source = files(root)
    shards = source.shards({0, 436})
    found = [[image.id for image in source.images(shard, {436})] for shard in shards]
    assert found == [[], [f"imagenet/train/{WAGON}_1"], [], ["imagenet/val/ILSVRC2012_val_00000001"]]


@pytest.mark.parametrize(
    ("names", "ok"),
    [([f"{TENCH}/"], True), ([TENCH], False), (["dogs/"], False), ([f"{TENCH}x/"], False), ([], False)],
)
def test_folders_of_classes_are_named_by_wordnet_ids(tmp_path, names, ok):
    (tmp_path / "train").mkdir()
    for name in names:
        (tmp_path / "train" / name).mkdir() if name.endswith("/") else (tmp_path / "train" / name).touch()
    assert FilesImagenet.fits(LocalTree(tmp_path)) is ok


@pytest.mark.parametrize(("there", "ok"), [(["train", "val"], True), (["train"], True), (["val"], True), ([], False)])
def test_a_tree_has_train_or_validation(tmp_path, there, ok):
    for split in there:
        write(tmp_path / split / TENCH, "a")
    assert FilesImagenet.fits(LocalTree(tmp_path)) is ok


def test_the_users_files_are_left_alone_and_named(tmp_path):
    source = files(write_imagenet(tmp_path / "data", "folders"))
    before = sorted(tmp_path.rglob("*"))
    for shard in source.shards({436}):
        source.prefetch(shard)
        source.release(shard)
    assert sorted(tmp_path.rglob("*")) == before
    assert source.describe() == {
        "form": "folders",
        "location": str(tmp_path / "data"),
        "revision": "",
        "files": ["train", "val"],
    }
