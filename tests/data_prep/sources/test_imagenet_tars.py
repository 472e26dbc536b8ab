"""The original tar files are read where they lie: which members are parts, and what is in them."""

from __future__ import annotations

import io
import os
import re
import tarfile
from pathlib import Path

import pytest
from hypothesis import strategies as st

from data_prep.sources.imagenet import files as imagenet_files
from data_prep.sources.imagenet.classes import wnids
from data_prep.sources.imagenet.files import TRAIN_TAR, VAL_TAR, FilesImagenet
from data_prep.sources.imagenet.truth import GROUND_TRUTH, GroundTruth
from data_prep.storage import PassedOver, tars
from data_prep.storage.local import LocalTree
from mteb_vehicle_search.errors import SourceError

TENCH, SHARK, WAGON = wnids()[0], wnids()[2], wnids()[436]


def tar_of(*members: tuple[str, bytes | str]) -> bytes:
    """A tar of files; "folder", "link" and "device" instead of bytes make such members."""
    kinds = {"folder": tarfile.DIRTYPE, "link": tarfile.SYMTYPE, "device": tarfile.CHRTYPE}
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            if isinstance(data, str):
                info.type, data = kinds[data], b""
                info.linkname = "/etc/passwd" if info.issym() else ""
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


def inner(wnid: str, *numbers: int) -> bytes:
    return tar_of(*((f"{wnid}_{number}.JPEG", f"{wnid}/{number}".encode()) for number in numbers))


def files(root: Path) -> FilesImagenet:
    return FilesImagenet(LocalTree(root))


def truth_of(*indexes: int) -> GroundTruth:
    return GroundTruth(dict(enumerate(indexes, start=1)), GROUND_TRUTH)


def val_name(number: int) -> str:
    return f"ILSVRC2012_val_{number:08d}.JPEG"


@pytest.fixture
def root(tmp_path, monkeypatch):
    """The training tar with classes in another order than by name, and four images for validation."""
    train = [("train/", "folder"), (f"{WAGON}.tar", inner(WAGON, 5, 3)), (f"train/{TENCH}.tar", inner(TENCH, 1))]
    (tmp_path / TRAIN_TAR).write_bytes(tar_of(*train))
    (tmp_path / VAL_TAR).write_bytes(tar_of(*((val_name(n), f"val {n}".encode()) for n in (2, 1, 4, 3))))
    monkeypatch.setattr(imagenet_files, "ground_truth", lambda tree, root: truth_of(436, 0, 2, 0))
    return tmp_path


def read(root: Path, wanted: set[int]) -> list[tuple[str, bytes]]:
    source = files(root)
    return [(image.id, image.data) for shard in source.shards(wanted) for image in source.images(shard, wanted)]


def test_names_are_those_of_the_published_files():
    assert (TRAIN_TAR, VAL_TAR) == ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar")


@pytest.mark.parametrize(
    ("there", "ok"),
    [
        ([TRAIN_TAR, VAL_TAR], True),
        ([TRAIN_TAR, "val/"], True),
        ([TRAIN_TAR], True),
        ([VAL_TAR], True),
        (["val/"], False),
        ([f"{TRAIN_TAR}/", "val/"], False),
        ([f"{TRAIN_TAR}/", f"{VAL_TAR}/"], False),
    ],
)
def test_one_of_the_tars_must_be_there(tmp_path, there, ok):
    for name in there:
        (tmp_path / name).mkdir() if name.endswith("/") else (tmp_path / name).touch()
    assert FilesImagenet.fits(LocalTree(tmp_path)) is ok


def test_parts_are_inner_tars_by_name_and_then_validation(root):
    shards = files(root).shards({0, 436})
    assert [shard.name for shard in shards] == [f"train/{TENCH}.tar", f"train/{WAGON}.tar", "val.tar"]
    assert [shard.split for shard in shards] == ["train", "train", "val"]
    assert [shard.class_index for shard in shards] == [0, 436, -1]
    assert [shard.location for shard in shards] == [TRAIN_TAR] * 2 + [VAL_TAR]
    whole = (root / TRAIN_TAR).read_bytes()
    for shard, content in zip(shards, (inner(TENCH, 1), inner(WAGON, 5, 3))):
        assert shard.size_bytes == len(content)
        assert whole[shard.offset : shard.offset + shard.size_bytes] == content
    assert (shards[2].size_bytes, shards[2].offset) == ((root / VAL_TAR).stat().st_size, 0)
    assert files(root).describe()["form"] == "tar"
    assert [shard.travels_bytes for shard in shards] == [0, 0, 0]


def test_images_are_given_in_the_order_of_the_tar(root):
    assert read(root, {0, 436}) == [
        (f"imagenet/train/{TENCH}_1", f"{TENCH}/1".encode()),
        (f"imagenet/train/{WAGON}_5", f"{WAGON}/5".encode()),
        (f"imagenet/train/{WAGON}_3", f"{WAGON}/3".encode()),
        ("imagenet/val/ILSVRC2012_val_00000002", b"val 2"),
        ("imagenet/val/ILSVRC2012_val_00000001", b"val 1"),
        ("imagenet/val/ILSVRC2012_val_00000004", b"val 4"),
    ]
    source = files(root)
    last = source.shards({0, 436})[-1]
    assert [(i.split, i.class_index, i.wnid) for i in source.images(last, {436})] == [("val", 436, WAGON)]


def test_what_is_not_wanted_is_no_part_and_gives_no_images(root):
    source = files(root)
    assert [shard.name for shard in source.shards({436})] == [f"train/{WAGON}.tar", "val.tar"]
    tench, wagon, val = source.shards({0, 436})
    assert list(source.images(tench, {436})) == []
    assert len(list(source.images(wagon, {436}))) == 2
    assert [image.id[-1] for image in source.images(val, {436})] == ["1"]
    assert list(source.images(val, set())) == []


@pytest.mark.parametrize("name", [TRAIN_TAR, VAL_TAR])
def test_a_newer_file_changes_its_own_parts(root, name):
    before = files(root).shards({0, 436})
    os.utime(root / name, ns=(1, 2))
    after = files(root).shards({0, 436})
    changed = [a.fingerprint() != b.fingerprint() for a, b in zip(before, after)]
    assert changed == ([True, True, False] if name == TRAIN_TAR else [False, False, True])


def test_a_flat_folder_of_validation_images(root):
    (root / VAL_TAR).unlink()
    (root / "val").mkdir()
    for number in (4, 2, 1):
        (root / "val" / val_name(number)).write_bytes(f"flat {number}".encode())
    (root / "val" / val_name(3)).mkdir()
    (root / "val" / ".DS_Store").touch()
    shard = files(root).shards({0})[-1]
    assert (shard.name, shard.location, shard.split, shard.class_index) == ("val", "val", "val", -1)
    images = list(files(root).images(shard, {0, 2}))
    assert [(image.id[-1], image.data) for image in images] == [("2", b"flat 2"), ("3", b""), ("4", b"flat 4")]
    assert [image.problem for image in images] == ["", "cannot be read: Is a directory", ""]
    before = shard.fingerprint()
    (root / "val" / val_name(2)).write_bytes(b"longer 2")
    assert files(root).shards({0})[-1].fingerprint() != before


def test_validation_sorted_into_classes_comes_before_the_tar(root):
    for wnid, number in ((TENCH, 2), (WAGON, 1)):
        (root / "val" / wnid).mkdir(parents=True)
        (root / "val" / wnid / val_name(number)).write_bytes(b"sorted")
    shards = files(root).shards({436})
    assert [shard.name for shard in shards] == [f"train/{WAGON}.tar", f"val/{WAGON}"]
    assert [image.data for image in files(root).images(shards[1], {436})] == [b"sorted"]
    assert list(files(root).images(shards[1], {0})) == []


def test_the_tar_comes_before_a_flat_folder(root):
    (root / "val").mkdir()
    assert files(root).shards({0})[-1].location == VAL_TAR


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ({2, 436}, f"lacks 1 of the inner tars: {SHARK}.tar"),
        (
            {0, 1, 2, 3, 4, 5, 6, 436},
            "lacks 6 of the inner tars: " + ", ".join(f"{wnids()[n]}.tar" for n in range(1, 6)),
        ),
        (None, "lacks 998 of the inner tars: " + ", ".join(f"{wnids()[n]}.tar" for n in range(1, 6))),
    ],
)
def test_missing_inner_tars_are_named(root, wanted, says):
    with pytest.raises(SourceError) as caught:
        files(root).shards(wanted)
    assert str(caught.value) == f"{root}/{TRAIN_TAR} {says}\nIt may be cut short; get it again."


def test_every_class_is_wanted_unless_classes_are_named(root):
    tars = [(f"{wnid}.tar", b"") for wnid in reversed(wnids())]
    (root / TRAIN_TAR).write_bytes(tar_of(("n99999999.tar", b""), *tars, ("README", b"")))
    shards = files(root).shards()
    assert [shard.class_index for shard in shards] == [*range(1000), -1]


@pytest.mark.parametrize("kind", ["folder", "link"])
def test_only_files_are_inner_tars(root, kind):
    (root / TRAIN_TAR).write_bytes(tar_of((f"{WAGON}.tar", kind)))
    with pytest.raises(SourceError, match="lacks 1 of the inner tars"):
        files(root).shards({436})


def test_folders_in_a_tar_are_passed_over_and_links_and_devices_are_rejects(root):
    odd = [("a/", "folder"), (f"a/{WAGON}_7.JPEG", "link"), (f"{WAGON}_8.JPEG", "device"), (f"a/{WAGON}_9.JPEG", b"9")]
    (root / TRAIN_TAR).write_bytes(tar_of((f"{WAGON}.tar", tar_of(*odd))))
    val = [("v/", "folder"), (f"v/{val_name(1)}", b"1"), (val_name(2), "link"), (val_name(4), b"4")]
    (root / VAL_TAR).write_bytes(tar_of(*val))
    source = files(root)
    train, val = source.shards({436})
    images = [*source.images(train, {0, 436}), *source.images(val, {0, 436})]
    problem = "is a link or a device in the tar, not a file"
    assert [(image.id.rpartition("/")[2], image.data, image.problem) for image in images] == [
        (f"{WAGON}_7", b"", problem),
        (f"{WAGON}_8", b"", problem),
        (f"{WAGON}_9", b"9", ""),
        ("ILSVRC2012_val_00000001", b"1", ""),
        ("ILSVRC2012_val_00000002", b"", problem),
        ("ILSVRC2012_val_00000004", b"4", ""),
    ]


@pytest.mark.parametrize("name", [val_name(5), val_name(0), "x.JPEG", f"{WAGON}_1.JPEG", f"{val_name(1)}.bak"])
@pytest.mark.parametrize("flat", [False, True], ids=["in the tar", "in a folder"])
def test_a_validation_image_without_a_class(root, name, flat):
    if flat:
        (root / VAL_TAR).unlink()
        (root / "val").mkdir()
        for each in (val_name(1), name):
            (root / "val" / each).touch()
    else:
        (root / VAL_TAR).write_bytes(tar_of((name, b"x")))
    source = files(root)
    shard = source.shards({436})[-1]
    with pytest.raises(SourceError) as caught:
        list(source.images(shard, {436}))
    assert str(caught.value) == (
        f"{root}/{shard.location}: {name!r} has no line in ILSVRC2012_validation_ground_truth.txt\n"
        "Only the validation images ILSVRC2012_val_<8 digits>.JPEG may be there."
    )


def test_the_ground_truth_is_looked_for_beside_the_tar(root, monkeypatch):
    asked = []
    monkeypatch.setattr(
        imagenet_files, "ground_truth", lambda tree, root: (asked.append(root), truth_of(*[436] * 4))[1]
    )
    assert len(read(root, {436})) == 2 + 4
    assert {*asked} == {""}


def test_only_splits_that_are_used_must_be_there(root):
    (root / VAL_TAR).rename(root / "elsewhere")
    assert [shard.name for shard in files(root).shards({0}, ["train"])] == [f"train/{TENCH}.tar"]
    with pytest.raises(SourceError) as caught:
        files(root).shards({0, 2})
    assert str(caught.value) == (
        f"{root}/{TRAIN_TAR} lacks 1 of the inner tars: {SHARK}.tar; there is neither {root}/{VAL_TAR} nor a folder "
        "val/ of images\nIt may be cut short; get it again."
    )
    (root / "elsewhere").rename(root / VAL_TAR)
    (root / TRAIN_TAR).unlink()
    assert [shard.name for shard in files(root).shards({0}, ["val"])] == ["val.tar"]
    with pytest.raises(SourceError, match=f"there is neither {root}/{TRAIN_TAR} nor a folder train/ of classes\n"):
        files(root).shards({0})
    (root / "train" / TENCH).mkdir(parents=True)
    (root / "train" / TENCH / f"{TENCH}_1.JPEG").write_bytes(b"unpacked")
    assert read(root, {0})[0] == (f"imagenet/train/{TENCH}_1", b"unpacked")


def test_a_validation_image_that_the_ground_truth_names_is_missing(root):
    (root / VAL_TAR).write_bytes(tar_of(*((val_name(n), b"x") for n in (1, 3))))
    source = files(root)
    says = f"{root}/{VAL_TAR} lacks {val_name(2)} and 1 others of the wanted classes, which {GROUND_TRUTH} names\n"
    with pytest.raises(SourceError, match=re.escape(says)):
        list(source.images(source.shards({0})[-1], {0}))
    assert len(list(source.images(source.shards({436})[-1], {436}))) == 1
    (root / VAL_TAR).unlink()
    (root / "val").mkdir()
    (root / "val" / val_name(4)).touch()
    with pytest.raises(SourceError, match=f"lacks {val_name(2)} of the wanted classes"):
        files(root).shards({0})


def test_what_is_passed_over_is_counted(root):
    noise = [("._x.JPEG", b"x"), ("@eaDir/x.JPEG", b"x"), (f"{WAGON}_1.JPEG", b"1")]
    (root / TRAIN_TAR).write_bytes(tar_of((f"{WAGON}.tar", tar_of(*noise))))
    (root / VAL_TAR).write_bytes(tar_of((".hidden", b"x"), *((val_name(n), b"x") for n in range(1, 5))))
    source, passed = files(root), PassedOver()
    images = [image for shard in source.shards({436}) for image in source.images(shard, {436}, passed)]
    assert len(images) == 2
    assert passed == {"hidden files": 2, "files of the operating system": 1, "of classes that are not wanted": 3}


def test_an_inner_tar_without_images(root):
    (root / TRAIN_TAR).write_bytes(tar_of((f"{WAGON}.tar", tar_of((".DS_Store", b"x")))))
    source = files(root)
    with pytest.raises(SourceError, match=f"inner tar {WAGON}.tar holds no image\n"):
        list(source.images(source.shards({436})[0], {436}))


@pytest.mark.parametrize(("size", "given"), [(0, 0), (9, 9), (10, 10), (11, 11), (12, 11), (600, 11)])
def test_images_are_read_to_one_byte_above_the_limit(root, monkeypatch, size, given):
    monkeypatch.setattr(tars, "MAX_FILE_BYTES", 10)
    monkeypatch.setattr(imagenet_files, "ground_truth", lambda tree, root: truth_of(436, 0, 0, 0))
    data = bytes(range(256)) * 3
    (root / TRAIN_TAR).write_bytes(tar_of((f"{WAGON}.tar", tar_of((f"{WAGON}_1.JPEG", data[:size])))))
    (root / VAL_TAR).write_bytes(tar_of((val_name(1), data[:size])))
    assert [data for _, data in read(root, {436})] == [data[:given]] * 2


def test_an_inner_tar_that_ends_within_an_image(root):
    """As where a download of the inner tar broke off before it was packed."""
    whole = inner(WAGON, 1, 2)
    (root / TRAIN_TAR).write_bytes(tar_of((f"{WAGON}.tar", whole[: 512 * 3 + 5])))
    source = files(root)
    images = source.images(source.shards({436})[0], {436})
    assert next(images).id.endswith("_1")
    with pytest.raises(SourceError) as caught:
        next(images)
    assert str(caught.value) == (
        f"{root}/{TRAIN_TAR}, inner tar {WAGON}.tar ends within {WAGON}_2.JPEG\nIt is cut short; get the file again."
    )


def test_an_inner_tar_is_read_to_its_own_end(root):
    """Cut where an image ends, it has no end of its own; the next member of the training tar follows."""
    member = inner(WAGON, 1)[:1024]
    (root / TRAIN_TAR).write_bytes(tar_of((f"{WAGON}.tar", member), (f"{TENCH}.tar", inner(TENCH, 1))))
    with pytest.raises(SourceError, match=f"inner tar {WAGON}.tar is damaged: it is cut short at byte 1,024"):
        read(root, {436})


def test_a_validation_tar_that_ends_within_an_image(root):
    (root / VAL_TAR).write_bytes((root / VAL_TAR).read_bytes()[: 512 + 3])
    source = files(root)
    shard = source.shards({0})[-1]
    with pytest.raises(SourceError, match="is damaged"):
        list(source.images(shard, {436}))  # Nor can one go on behind an image that nobody wants.
    with pytest.raises(SourceError) as caught:
        list(source.images(shard, {0}))
    assert str(caught.value) == f"{root}/{VAL_TAR} ends within {val_name(2)}\nIt is cut short; get the file again."


@pytest.mark.parametrize("name", [TRAIN_TAR, VAL_TAR, "inner"])
def test_a_file_that_is_no_tar(root, name):
    if name == "inner":
        (root / TRAIN_TAR).write_bytes(tar_of((f"{WAGON}.tar", b"\xff" * 2000)))
        where = f"{root}/{TRAIN_TAR}, inner tar {WAGON}.tar"
    else:
        (root / name).write_bytes(b"\xff" * 2000)
        where = f"{root}/{name}"
    with pytest.raises(SourceError) as caught:
        read(root, {436})
    assert str(caught.value).startswith(f"{where} is damaged: ")
    assert str(caught.value).endswith("\nGet the file again.")


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.integers(0, 30)),
        st.tuples(st.just("seek"), st.integers(0, 40), st.just(io.SEEK_SET)),
        st.tuples(st.just("seek"), st.integers(0, 15), st.just(io.SEEK_CUR)),
        st.tuples(st.just("seek"), st.integers(-20, 5), st.just(io.SEEK_END)),
    ),
    max_size=12,
)
