"""Every form of ImageNet-1k gives the same images; only wanted ones are read; damage is named."""

from __future__ import annotations

import os
import tarfile
import threading
import zipfile
from pathlib import Path

import pytest
from folder_hub import FolderHub
from format_twins import IMAGENET_FORMS, VEHICLES, classed_files, write_imagenet, write_shards

from data_prep import hub
from data_prep.sources.imagenet import open_imagenet
from data_prep.sources.imagenet import source as imagenet
from data_prep.sources.imagenet import source as imagenet_source
from data_prep.sources.imagenet.classes import image_id, wnids
from data_prep.sources.imagenet.shards import EXPECTED, read_shard
from data_prep.sources.imagenet.source import REPOSITORY as IMAGENET
from data_prep.sources.imagenet.source import HubImagenet, ShardImagenet
from data_prep.storage.local import LocalTree
from mteb_vehicle_search.errors import SourceError

WANTED = set(VEHICLES)


def read_all(source, wanted=WANTED):
    return [image for shard in source.shards(wanted) for image in source.images(shard, wanted)]


@pytest.mark.parametrize("form", IMAGENET_FORMS)
def test_every_form_gives_the_same_images(tmp_path, form):
    source = open_imagenet(write_imagenet(tmp_path, form))
    images = sorted(read_all(source), key=lambda i: i.id)
    expected = sorted((f for f in classed_files() if f.class_index in WANTED), key=lambda f: (f.split, f.stem))
    assert len(images) == 60
    assert [i.id for i in images] == [f"imagenet/{f.split}/{f.stem}" for f in expected]
    assert [i.data for i in images] == [f.data for f in expected]
    assert [i.class_index for i in images] == [f.class_index for f in expected]
    assert [i.wnid for i in images] == [wnids()[f.class_index] for f in expected]
    assert {i.split for i in images} == {"train", "val"}


@pytest.mark.parametrize("form", IMAGENET_FORMS)
def test_parts_are_stable_and_tell_when_they_change(tmp_path, form):
    folder = write_imagenet(tmp_path, form)
    shards = open_imagenet(folder).shards(WANTED)
    again = open_imagenet(folder).shards(WANTED)
    assert [p.fingerprint() for p in shards] == [p.fingerprint() for p in again]
    assert len({p.name for p in shards}) == len(shards)
    assert [p.split for p in shards] == sorted(p.split for p in shards)
    path = next(folder.rglob(f"*{Path(shards[0].location).name}"), None) or next(folder.rglob("*.zip"))
    if path.is_dir():
        path = next(path.iterdir())
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(f"{shards[0].location}/another.JPEG", b"x")
    elif path.suffix == ".tar":
        os.utime(path, ns=(1, 2))
    else:
        path.write_bytes(path.read_bytes() + bytes(10240))
    changed = open_imagenet(folder).shards(WANTED)
    assert [p.fingerprint() for p in shards] != [p.fingerprint() for p in changed]


def test_only_wanted_inner_tars_are_read(tmp_path):
    folder = write_imagenet(tmp_path, "tar")
    wanted = {VEHICLES[0]}
    source = open_imagenet(folder)
    shards = source.shards(wanted)
    assert [p.name for p in shards] == [f"train/{wnids()[VEHICLES[0]]}.tar", "val.tar"]
    tar = folder / "ILSVRC2012_img_train.tar"
    data = bytearray(tar.read_bytes())
    inner = shards[0]
    keep = bytes(data[inner.offset : inner.offset + inner.size_bytes])
    # Everything else is ruined, but for the header that opens the file: nobody must look at it.
    data[tarfile.BLOCKSIZE :] = b"\xff" * (len(data) - tarfile.BLOCKSIZE)
    data[inner.offset : inner.offset + inner.size_bytes] = keep
    tar.write_bytes(data)
    images = list(source.images(inner, wanted))
    assert [i.class_index for i in images] == [VEHICLES[0]] * 5


def test_row_groups_without_wanted_rows_are_not_read(tmp_path, monkeypatch):
    import pyarrow.parquet as pq

    one = [f for f in classed_files() if f.class_index == VEHICLES[0] and f.split == "train"]
    other = [f for f in classed_files() if f.class_index not in WANTED and f.split == "train"]
    path = write_shards(tmp_path, other * 6 + one, "train", 1)[0]
    table = pq.read_table(path).sort_by([("label", "ascending")])
    pq.write_table(table, path, row_group_size=100)
    read = []
    original = pq.ParquetFile.read_row_group
    monkeypatch.setattr(pq.ParquetFile, "read_row_group", lambda s, g, **k: (read.append(g), original(s, g, **k))[1])
    assert len(list(read_shard(path, "train", {VEHICLES[0]}))) == 5
    assert len(read) <= 2 < pq.ParquetFile(path).num_row_groups
    read.clear()
    assert list(read_shard(path, "train", {VEHICLES[1]})) == []
    assert read == []


def test_the_hubs_cache_is_found(tmp_path):
    snapshots = tmp_path / "hub" / "datasets--ILSVRC--imagenet-1k" / "snapshots"
    write_imagenet(snapshots / IMAGENET.revision, "shards")
    for place in (tmp_path, tmp_path / "hub", tmp_path / "hub" / "datasets--ILSVRC--imagenet-1k"):
        source = open_imagenet(place)
        assert source.describe()["form"] == "shards"
        assert len(read_all(source)) == 60


def test_names_are_stripped_and_checked():
    assert image_id("n03954731_53652_n03954731.JPEG", "train", "n03954731") == "imagenet/train/n03954731_53652"
    name = "ILSVRC2012_val_00000293_n03954731.JPEG"
    assert image_id(name, "val", "n03954731") == "imagenet/val/ILSVRC2012_val_00000293"
    with pytest.raises(ValueError, match="says class n03954731, the label says n00000001"):
        image_id("n03954731_53652.JPEG", "train", "n00000001")
    with pytest.raises(ValueError, match="is not the name of an ImageNet image"):
        image_id("../../x.JPEG", "train", "n03954731")


def test_absent_bytes_are_left_to_the_image_stage(tmp_path):
    files = tuple(f for f in classed_files(damaged=True))
    images = read_all(open_imagenet(write_imagenet(tmp_path, "shards", files)))
    assert sum(not i.data for i in images) == 1


def test_what_is_found_and_what_is_expected_are_said(tmp_path):
    (tmp_path / "train").mkdir()
    with pytest.raises(SourceError, match=r"found: train\nExpected one of: the hub's shards"):
        open_imagenet(tmp_path)


@pytest.mark.parametrize(
    ("names", "says"),
    [("", "nothing"), ("cba", "a, b, c"), ("jihgfedcba", "a, b, c, d, e, f, g, h")],
    ids=["none", "three", "ten"],
)
def test_at_most_eight_names_are_listed(tmp_path, names, says):
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(SourceError) as caught:
        open_imagenet(tmp_path)
    said = f"{tmp_path} does not hold ImageNet-1k with train and validation; found: {says}\n{EXPECTED}"
    assert str(caught.value) == said


def test_no_folder(tmp_path):
    with pytest.raises(SourceError) as caught:
        open_imagenet(tmp_path / "none")
    assert str(caught.value) == f"there is no folder {tmp_path}/none\n{EXPECTED}"


def test_a_folder_may_be_named_from_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_imagenet(tmp_path / "photos", "folders")
    assert open_imagenet("~/photos").describe()["location"] == str(tmp_path / "photos")


@pytest.fixture(scope="module")
def forms(tmp_path_factory):
    """ImageNet in the forms whose layouts are tried below."""
    return {form: write_imagenet(tmp_path_factory.mktemp(form), form) for form in ("shards", "tar", "folders")}


def shard_set(folder: Path, number: int = 1) -> Path:
    """Names alone, of a set of `number` shards for each split."""
    folder.mkdir(parents=True)
    for split in ("train", "validation"):
        for n in range(number):
            (folder / f"{split}-{n:05d}-of-{number:05d}.parquet").touch()
    return folder


# Where each form lies in a folder -> the form that is read, and from where.
CACHE = "datasets--ILSVRC--imagenet-1k"
LAYOUTS = {
    "shards beside the others": ({"shards": ".", "tar": ".", "folders": "."}, "shards", "data"),
    "tars beside folders": ({"tar": ".", "folders": "."}, "tar", "."),
    "folders": ({"folders": "."}, "folders", "."),
    "tars as Kaggle nests them": ({"tar": "ILSVRC/Data/CLS-LOC"}, "tar", "ILSVRC/Data/CLS-LOC"),
    "folders as Kaggle nests them": ({"folders": "ILSVRC/Data/CLS-LOC"}, "folders", "ILSVRC/Data/CLS-LOC"),
    "folders above nested tars": ({"folders": ".", "tar": "ILSVRC/Data/CLS-LOC"}, "folders", "."),
}


@pytest.mark.parametrize(("there", "form", "location"), LAYOUTS.values(), ids=LAYOUTS)
def test_layouts(forms, tmp_path, there, form, location):
    for name, place in there.items():
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        for path in forms[name].iterdir():
            (tmp_path / place / path.name).symlink_to(path)
    source = open_imagenet(tmp_path)
    assert (source.describe()["form"], source.describe()["location"]) == (form, str(tmp_path / location))


PINNED = f"snapshots/{IMAGENET.revision}/data"


@pytest.mark.parametrize(
    ("there", "location"),
    [
        ([".", "data"], "."),
        (["data", PINNED], "data"),
        ([PINNED, f"snapshots/{'0' * 40}/data"], PINNED),
        ([f"snapshots/{'e' * 40}/data", f"snapshots/{'f' * 40}/data"], f"snapshots/{'e' * 40}/data"),
        ([PINNED, f"{CACHE}/{PINNED}"], PINNED),
        ([f"{CACHE}/{PINNED}", f"hub/{CACHE}/{PINNED}"], f"{CACHE}/{PINNED}"),
        ([f"hub/{CACHE}/snapshots/{'e' * 40}/data"], f"hub/{CACHE}/snapshots/{'e' * 40}/data"),
    ],
)
def test_shards_are_looked_for_in_the_folder_then_in_the_hubs_caches_at_the_pin_first(tmp_path, there, location):
    for place in there:
        shard_set(tmp_path / "top" / place) if place != "." else shard_set(tmp_path / "top")
    assert open_imagenet(tmp_path / "top").describe()["location"] == str(tmp_path / "top" / location)


def test_other_parquet_files_are_no_shards(tmp_path):
    (tmp_path / "0000.parquet").touch()
    with pytest.raises(SourceError, match=r"does not hold ImageNet-1k .*; found: 0000\.parquet"):
        open_imagenet(tmp_path)


def test_local_shards_are_parts_in_order_and_stay_where_they_are(tmp_path):
    folder = write_imagenet(tmp_path, "shards") / "data"
    (folder / "notes.txt").touch()
    source = ShardImagenet(LocalTree(folder), "")
    names = [f"train-{n:05d}-of-00003.parquet" for n in range(3)]
    names += [f"validation-{n:05d}-of-00002.parquet" for n in range(2)]
    assert source.describe() == {"form": "shards", "location": str(folder), "revision": "", "files": names}
    shards = source.shards({0})
    assert [shard.name for shard in shards] == names
    assert [shard.location for shard in shards] == names
    assert [shard.size_bytes for shard in shards] == [(folder / name).stat().st_size for name in names]
    assert [shard.split for shard in shards] == ["train"] * 3 + ["val"] * 2
    assert {(shard.class_index, shard.offset) for shard in shards} == {(-1, 0)}
    source.prefetch(shards[0])
    source.release(shards[0])
    assert all((folder / name).is_file() for name in names)
    os.utime(folder / names[1], ns=(1, 2))
    changed = [a.fingerprint() != b.fingerprint() for a, b in zip(shards, source.shards())]
    assert changed == [False, True, False, False, False]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """The hub's files: three training shards, two of validation, and one of the test split, which nobody wants."""
    folder = tmp_path_factory.mktemp("shards")
    files = classed_files(2)
    write_shards(folder, [f for f in files if f.split == "train"], "train", 3)
    write_shards(folder, [f for f in files if f.split == "val"], "validation", 2)
    contents = {f"data/{path.name}": path.read_bytes() for path in folder.iterdir()}
    return {**contents, "data/test-00000-of-00028.parquet": b"test", "README.md": b"x"}


@pytest.fixture
def repository(shards, tmp_path):
    return FolderHub(dict(shards), tmp_path / "cache", "ILSVRC/imagenet-1k", "d" * 40)


@pytest.fixture
def work(tmp_path):
    return tmp_path / "work"


def lying_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_the_hubs_repository_is_the_pinned_one():
    assert HubImagenet().dataset is imagenet_source.REPOSITORY
    assert isinstance(open_imagenet(), HubImagenet)
    assert isinstance(open_imagenet("hub"), HubImagenet)


def test_the_hubs_shards_are_parts_in_order(repository, work, shards):
    source = HubImagenet(repository, work)
    names = [f"train-{n:05d}-of-00003.parquet" for n in range(3)]
    names += [f"validation-{n:05d}-of-00002.parquet" for n in range(2)]
    listed = source.shards({0})
    assert [shard.name for shard in listed] == names
    assert [shard.location for shard in listed] == [f"data/{name}" for name in names]
    assert [shard.size_bytes for shard in listed] == [len(shards[f"data/{name}"]) for name in names]
    assert [shard.split for shard in listed] == ["train"] * 3 + ["val"] * 2
    assert {(shard.class_index, shard.offset) for shard in listed} == {(-1, 0)}
    assert source.describe() == {
        "form": "hub",
        "location": "ILSVRC/imagenet-1k",
        "revision": "d" * 40,
        "files": names,
    }
    assert repository.asked == [("files", "data")]  # Once, and nothing is downloaded.


def test_parts_change_with_their_hash_or_else_with_the_revision(repository, work, shards):
    before = HubImagenet(repository, work).shards()
    name = "data/train-00001-of-00003.parquet"
    repository.contents[name] = shards[name][:-1] + b"x"
    repository._commit = "e" * 40
    after = HubImagenet(repository, work).shards()
    changed = [a.fingerprint() != b.fingerprint() for a, b in zip(before, after)]
    assert changed == [False, True, False, False, False]
    repository.hashed = False
    stamps = {shard.stamp for shard in HubImagenet(repository, work).shards()}
    assert stamps == {"e" * 40}


def test_a_set_on_the_hub_that_is_not_whole(repository, work):
    del repository.contents["data/train-00001-of-00003.parquet"]
    with pytest.raises(SourceError, match="ILSVRC/imagenet-1k/data lacks 1 of the train shards: 1"):
        HubImagenet(repository, work).shards()


def test_what_is_in_the_hubs_cache_need_not_be_downloaded(repository, work, shards):
    sizes = {path: len(data) for path, data in shards.items() if "-of-0000" in path}
    source = HubImagenet(repository, work)
    assert sum(shard.travels_bytes for shard in source.shards()) == sum(sizes.values())
    first = "data/train-00000-of-00003.parquet"
    repository.download(hub.HubFile(first, -1, ""))
    assert sum(shard.travels_bytes for shard in source.shards()) == sum(sizes.values()) - sizes[first]


def test_access_is_asked_for_with_the_list_unless_all_is_there(repository, work, shards, monkeypatch):
    """The hub gives the list of a gated data set to everybody, and its files to those who accepted its terms."""

    def refuse():
        raise SourceError("accept the terms")

    monkeypatch.setattr(repository, "check_access", refuse)
    with pytest.raises(SourceError, match="accept the terms"):
        HubImagenet(repository, work).shards({0})
    for path, data in shards.items():
        (repository.cache / path).parent.mkdir(parents=True, exist_ok=True)
        (repository.cache / path).write_bytes(data)
    assert len(HubImagenet(repository, work).shards({0})) == 5
    assert [shard.split for shard in HubImagenet(repository, work).shards({0}, ["val"])] == ["val", "val"]


def test_a_shard_is_downloaded_read_and_deleted(repository, work):
    source = HubImagenet(repository, work)
    found = []
    for shard in source.shards(WANTED):
        found += list(source.images(shard, WANTED))
        assert lying_in(work) == [shard.location]
        source.release(shard)
        assert lying_in(work) == []
    expected = {f"imagenet/{f.split}/{f.stem}" for f in classed_files(2) if f.class_index in WANTED}
    assert {image.id for image in found} == expected
    assert len(found) == len(expected)
    assert {image.split for image in found} == {"train", "val"}
    assert len(repository.downloads()) == 5
    assert lying_in(repository.cache) == []


def test_a_shard_in_the_users_own_cache_is_read_there_and_stays(repository, work, shards):
    for path, data in shards.items():
        (repository.cache / path).parent.mkdir(parents=True, exist_ok=True)
        (repository.cache / path).write_bytes(data)
    source = HubImagenet(repository, work)
    for shard in source.shards(WANTED):
        assert len(list(source.images(shard, WANTED))) > 0
        source.release(shard)
    assert lying_in(repository.cache) == sorted(shards)
    assert repository.downloads() == []
    assert not work.exists()


def test_a_cache_whose_name_begins_like_that_of_the_work_folder_stays(repository, tmp_path, shards):
    first = "data/train-00000-of-00003.parquet"
    (repository.cache / first).parent.mkdir(parents=True)
    (repository.cache / first).write_bytes(shards[first])
    source = HubImagenet(repository, tmp_path / "ca")
    shard = source.shards()[0]
    list(source.images(shard, WANTED))
    source.release(shard)
    assert lying_in(repository.cache) == [first]


def test_what_an_earlier_run_left_of_a_part_that_is_done_is_deleted(repository, work):
    source = HubImagenet(repository, work)
    first, second = source.shards()[:2]
    for shard in (first, second):
        (work / shard.location).parent.mkdir(parents=True, exist_ok=True)
        (work / shard.location).write_bytes(b"left")
    source.release(first)
    assert lying_in(work) == [second.location]
    source.release(first)  # Nothing is there to delete, and that is no error.
    assert lying_in(work) == [second.location]


def test_without_a_folder_there_is_nothing_to_release(repository):
    source = HubImagenet(repository)
    source.release(source.shards()[0])
    assert repository.downloads() == []


def test_without_a_folder_shards_lie_in_a_temporary_one_while_they_are_in_use(repository, tmp_path, monkeypatch):
    monkeypatch.setattr(imagenet.tempfile, "tempdir", str(tmp_path))
    source = HubImagenet(repository)
    first, second = source.shards()[:2]
    for shard in (first, second):
        list(source.images(shard, WANTED))
    (folder,) = tmp_path.glob("imagenet-*")
    assert lying_in(folder) == [first.location, second.location]
    source.release(first)
    assert lying_in(folder) == [second.location]
    source.release(second)
    assert [*tmp_path.iterdir()] == []
    list(source.images(first, WANTED))
    (folder,) = tmp_path.glob("imagenet-*")
    assert lying_in(folder) == [first.location]


def test_pieces_of_a_killed_download_are_deleted_once_and_nothing_else(repository, work):
    kept = work / ".cache" / "huggingface" / "x.lock"
    piece = work / ".cache" / "huggingface" / "x.incomplete"
    kept.parent.mkdir(parents=True)
    kept.touch()
    piece.touch()
    source = HubImagenet(repository, work)
    first, second = source.shards()[:2]
    list(source.images(first, WANTED))
    assert (kept.exists(), piece.exists()) == (True, False)
    piece.touch()  # Of the download under way.
    list(source.images(second, WANTED))
    assert (kept.exists(), piece.exists()) == (True, True)


def test_downloads_go_on_in_the_background_one_at_a_time_in_the_order_of_asking(repository, work, monkeypatch):
    """The first waits for `go`; meanwhile nobody else begins, and asking again asks for nothing."""
    go, began, at_work, most = threading.Event(), threading.Event(), [], []
    original = repository.download

    def download(file, folder=None):
        at_work.append(file.path)
        most.append(len(at_work))
        daemons.append(threading.current_thread().daemon)
        began.set()
        assert go.wait(30)
        at_work.remove(file.path)
        return original(file, folder)

    daemons = []
    monkeypatch.setattr(repository, "download", download)
    source = HubImagenet(repository, work)
    first, second = source.shards()[:2]
    source.prefetch(first)
    assert began.wait(30)
    source.prefetch(second)
    source.prefetch(first)
    assert at_work == [first.location]
    go.set()
    assert len(list(source.images(second, set(range(1000))))) > 0
    assert len(list(source.images(first, set(range(1000))))) > 0
    assert repository.downloads() == [first.location, second.location]
    assert most == [1, 1]
    assert daemons == [True, True]  # So that Ctrl-C ends them.


def test_a_failed_download_is_told_to_who_waits_and_tried_again_when_asked_again(repository, work):
    source = HubImagenet(repository, work)
    shard = source.shards()[0]
    repository.failures = [SourceError("the hub is away", "Wait."), KeyboardInterrupt()]
    for failure in (SourceError, KeyboardInterrupt):
        with pytest.raises(failure):
            list(source.images(shard, WANTED))
    assert len(list(source.images(shard, set(range(1000))))) > 0
    assert repository.downloads() == [shard.location] * 3


def test_a_released_part_is_downloaded_anew(repository, work):
    source = HubImagenet(repository, work)
    shard = source.shards()[0]
    for _ in range(2):
        list(source.images(shard, WANTED))
        source.release(shard)
    assert repository.downloads() == [shard.location] * 2
