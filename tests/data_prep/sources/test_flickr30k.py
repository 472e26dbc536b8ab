"""Every form of Flickr30k gives the same images; damage is named."""

from __future__ import annotations

import os
import zipfile
import zlib
from pathlib import Path
from types import SimpleNamespace

import pytest
from counted_tree import CountedTree
from folder_hub import FolderHub
from format_twins import FLICKR_FORMS, captioned_files, write_flickr30k
from remote_places import tar_of

from data_prep.sources.flickr30k import captions_files, open_flickr30k
from data_prep.sources.flickr30k import source as flickr30k_source
from data_prep.sources.flickr30k.captions import CSV_NAME, EXPECTED, ZIP_NAME
from data_prep.sources.flickr30k.captions_files import FileCaptions
from data_prep.sources.flickr30k.images import FolderImages, TarImages, ZipImages
from data_prep.sources.flickr30k.parquet import ParquetFlickr30k
from data_prep.sources.flickr30k.source import FilesFlickr30k, HubFlickr30k
from data_prep.storage import PassedOver
from data_prep.storage.local import LocalTree
from mteb_vehicle_search.errors import SourceError

FILES = captioned_files(6)
FIRST = FILES[0].filename


def write_annotations(path: Path, files=FILES) -> Path:
    """A captions file, under any name."""
    write_flickr30k(path.parent / "whole", "folder", files)
    path.parent.mkdir(parents=True, exist_ok=True)
    return (path.parent / "whole" / CSV_NAME).rename(path)


def write_images(folder: Path, files=FILES) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        (folder / file.filename).write_bytes(file.data)


def described(source) -> dict:
    """What the source tells of itself, without the stamp, which the clock is in."""
    return {key: value for key, value in source.describe().items() if key != "stamp"}


def write_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


@pytest.mark.parametrize("form", FLICKR_FORMS)
def test_every_form_gives_what_the_csv_says_in_its_order(tmp_path, form):
    source = open_flickr30k(write_flickr30k(tmp_path, form))
    images = list(source.images())
    files = captioned_files()
    assert source.describe()["form"] == form.partition("_")[0]
    assert source.count() == len(images) == 40
    assert [i.id for i in images] == [f"flickr30k/{f.filename[:-4]}" for f in files]
    assert [i.data for i in images] == [f.data for f in files]
    assert [i.captions for i in images] == [f.captions for f in files]
    assert [i.split for i in images] == ["" if form == "parquet_without_splits" else f.split for f in files]


def test_odd_white_space_and_escapes_survive(tmp_path):
    images = list(open_flickr30k(write_flickr30k(tmp_path, "folder")).images())
    assert images[1].captions[0] == '  A man says "stop" ,  twice .\t'
    assert images[2].captions[1] == "Two caf\u00e9 owners \u2014 and a \u201cbus\u201d, comma's\nnew line ."


def test_shuffled_parquet_is_put_in_order(tmp_path):
    files = captioned_files()
    write_flickr30k(tmp_path, "parquet", files[20:] + files[:20])
    assert [i.data for i in open_flickr30k(tmp_path).images()] == [f.data for f in files]


def test_what_is_found_and_what_is_expected_are_said(tmp_path):
    (tmp_path / "holiday.txt").write_text("x")
    with pytest.raises(SourceError, match=r"found: holiday\.txt\nExpected a folder with flickr_annotations_30k\.csv"):
        open_flickr30k(tmp_path)
    with pytest.raises(SourceError) as caught:
        open_flickr30k(tmp_path / "none")
    assert str(caught.value) == f"there is no folder {tmp_path}/none\n{EXPECTED}"


@pytest.mark.parametrize(
    ("names", "says"),
    [("", "nothing"), ("cba", "a, b, c"), ("jihgfedcba", "a, b, c, d, e, f, g, h")],
    ids=["none", "three", "ten"],
)
def test_at_most_eight_names_are_listed(tmp_path, names, says):
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(SourceError) as caught:
        open_flickr30k(tmp_path)
    assert str(caught.value) == f"{tmp_path} does not hold Flickr30k; found: {says}\n{EXPECTED}"


def test_a_folder_may_be_named_from_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_flickr30k(tmp_path / "photos", "folder", FILES)
    assert open_flickr30k("~/photos").describe()["location"] == str(tmp_path / "photos" / "flickr30k-images")


# Files beside the captions -> the form that is read, and from where. A slash at the end: a folder of the images.
LAYOUTS = {
    "a folder": (["flickr30k-images/"], "folder", "flickr30k-images"),
    "a folder of another name": (["images/"], "folder", "images"),
    "two folders": (["images/", "flickr30k-images/"], "folder", "flickr30k-images"),
    "a folder beside its zip": (["flickr30k-images/", "flickr30k-images.zip"], "folder", "flickr30k-images"),
    "a zip": (["flickr30k-images.zip"], "zip", "flickr30k-images.zip"),
    "a zip of another name": (["photos.zip"], "zip", "photos.zip"),
    "a zip beside others": (["a.zip", "flickr30k-images.zip"], "zip", "flickr30k-images.zip"),
    "images beside the captions": (["./"], "folder", "."),
    "a zip beside images": (["./", "flickr30k-images.zip"], "zip", "flickr30k-images.zip"),
}


@pytest.mark.parametrize(("there", "form", "location"), LAYOUTS.values(), ids=LAYOUTS)
def test_layouts(tmp_path, there, form, location):
    write_annotations(tmp_path / "data" / CSV_NAME)
    for path in (tmp_path / "data" / "whole" / "flickr30k-images").iterdir():
        path.unlink()
    (tmp_path / "data" / "whole" / "flickr30k-images").rmdir()
    (tmp_path / "data" / "whole").rmdir()
    for name in there:
        if name.endswith("/"):
            write_images(tmp_path / "data" / name)
        else:
            write_zip(tmp_path / "data" / name, {f"flickr30k-images/{f.filename}": f.data for f in FILES})
    source = open_flickr30k(tmp_path / "data")
    assert [i.data for i in source.images()] == [f.data for f in FILES]
    place = tmp_path / "data" / location
    assert described(source) == {
        "form": form,
        "location": str(place),
        "revision": "",
        "files": [CSV_NAME, place.name],
    }
    assert source.count() == 6


@pytest.mark.parametrize("there", [[], ["a.zip", "b.zip"], ["images.txt"]], ids=["nothing", "two zips", "a text"])
def test_captions_without_images(tmp_path, there):
    write_annotations(tmp_path / "data" / CSV_NAME)
    (tmp_path / "data" / "whole").rename(tmp_path / "elsewhere")
    for name in there:
        write_zip(tmp_path / "data" / name, {})
    with pytest.raises(SourceError) as caught:
        open_flickr30k(tmp_path / "data")
    said = f"{tmp_path}/data/{CSV_NAME} is there, but no images: neither a zip nor flickr30k-images/\n{EXPECTED}"
    assert str(caught.value) == said


def test_the_only_csv_may_have_any_name_and_one_of_two_is_not_guessed(tmp_path):
    write_annotations(tmp_path / "captions.csv")
    write_images(tmp_path / "images")
    assert open_flickr30k(tmp_path).describe()["files"] == ["captions.csv", "images"]
    (tmp_path / "other.csv").touch()
    with pytest.raises(SourceError, match=r"holds no captions file, and the list of files of nlphuji/flickr30k is"):
        open_flickr30k(tmp_path)
    (tmp_path / "captions.csv").rename(tmp_path / CSV_NAME)
    assert open_flickr30k(tmp_path).describe()["files"] == [CSV_NAME, "images"]


def test_parquet_files_are_found_below_and_folders_passed_over(tmp_path):
    write_flickr30k(tmp_path / "TEST" / "test", "parquet", FILES)
    (tmp_path / "a.parquet").mkdir()
    source = open_flickr30k(tmp_path)
    assert isinstance(source, ParquetFlickr30k)
    assert described(source) == {
        "form": "parquet",
        "location": str(tmp_path),
        "revision": "",
        "files": ["0000.parquet", "0001.parquet"],
    }
    assert [i.data for i in source.images()] == [f.data for f in FILES]


def touched(path: Path) -> None:
    """Another time of change, as a new download has."""
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))


# What happens to which form -> whether its stamp must change.
CHANGES = {
    "nothing in a folder": ("folder", lambda data: None, False),
    "nothing in a zip": ("zip", lambda data: None, False),
    "nothing in parquet files": ("parquet", lambda data: None, False),
    "other captions of a folder": ("folder", lambda data: swap_bytes(data / CSV_NAME), True),
    "other captions of a zip": ("zip", lambda data: swap_bytes(data / CSV_NAME), True),
    "captions copied again": ("zip", lambda data: touched(data / CSV_NAME), False),
    "a longer image": ("folder", lambda data: append(data / "flickr30k-images" / FIRST), True),
    "another name": ("folder", lambda data: rename(data / "flickr30k-images" / FIRST, "0.jpg"), True),
    "a new image": ("folder", lambda data: (data / "flickr30k-images" / "0.jpg").touch(), True),
    "a folder in place of a file of one byte": (
        "folder",
        lambda data: into_folder(data / "flickr30k-images" / "1.jpg"),
        True,
    ),
    "a hidden file": ("folder", lambda data: (data / "flickr30k-images" / ".DS_Store").touch(), False),
    "an image copied again": ("folder", lambda data: touched(data / "flickr30k-images" / FIRST), False),
    "a longer zip": ("zip", lambda data: append(data / ZIP_NAME, keep_time=True), True),
    "a newer zip": ("zip", lambda data: touched(data / ZIP_NAME), True),
    "a longer parquet file": ("parquet", lambda data: append(data / "0001.parquet", keep_time=True), True),
    "a newer parquet file": ("parquet", lambda data: touched(data / "0001.parquet"), True),
    "another name of a parquet file": ("parquet", lambda data: rename(data / "0001.parquet", "0002.parquet"), True),
}


def into_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def swap_bytes(path: Path) -> None:
    """Other content of the same size and time of change."""
    status, content = path.stat(), path.read_bytes()
    path.write_bytes(content[:-9] + bytes(reversed(content[-9:])))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def append(path: Path, keep_time: bool = False) -> None:
    status = path.stat()
    path.write_bytes(path.read_bytes() + b"x")
    if keep_time:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def rename(path: Path, name: str) -> None:
    path.rename(path.with_name(name))


@pytest.mark.parametrize(("form", "change", "new"), CHANGES.values(), ids=CHANGES)
def test_the_stamp_of_local_files_tells_that_they_changed(tmp_path, form, change, new):
    folder = write_flickr30k(tmp_path, form, FILES)
    if form == "folder":
        (folder / "flickr30k-images" / "1.jpg").write_bytes(b"x")
    before = open_flickr30k(folder).describe()["stamp"]
    change(folder)
    assert (open_flickr30k(folder).describe()["stamp"] != before) is new


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_the_captions_are_read_once(tmp_path, monkeypatch, form):
    read = []
    original = captions_files.read_annotations
    monkeypatch.setattr(
        captions_files, "read_annotations", lambda content, where: (read.append(where), original(content, where))[1]
    )
    source = open_flickr30k(write_flickr30k(tmp_path, form, FILES))
    assert [source.count(), len(list(source.images())), len(list(source.images()))] == [6, 6, 6]
    assert read == [str(tmp_path / CSV_NAME)]


def test_a_missing_image_is_named_and_one_that_cannot_be_read_becomes_a_reject(tmp_path):
    write_flickr30k(tmp_path, "folder", FILES)
    images = tmp_path / "flickr30k-images"
    (images / FIRST).unlink()
    (images / FIRST).mkdir()
    (images / FILES[2].filename).unlink()
    tree = LocalTree(tmp_path)
    source = FilesFlickr30k(FileCaptions(tree, CSV_NAME), FolderImages(tree, "flickr30k-images")).images()
    first, second = next(source), next(source)
    assert (first.id, first.data, first.problem) == (f"flickr30k/{FIRST[:-4]}", b"", "cannot be read: Is a directory")
    assert (second.data, second.problem) == (FILES[1].data, "")
    with pytest.raises(SourceError) as caught:
        next(source)
    assert str(caught.value) == (f"{images}/{FILES[2].filename} is missing")


@pytest.mark.parametrize(("size", "read"), [(9, 9), (10, 10), (11, 11), (12, 11)])
@pytest.mark.parametrize("form", ["folder", "zip"])
def test_images_are_read_to_one_byte_above_the_limit(tmp_path, monkeypatch, form, size, read):
    monkeypatch.setattr("data_prep.storage.zips.MAX_FILE_BYTES", 10)
    monkeypatch.setattr("data_prep.storage.local.MAX_FILE_BYTES", 10)
    source = open_flickr30k(write_flickr30k(tmp_path, form, (FILES[0]._replace(data=bytes(range(size))),)))
    assert [i.data for i in source.images()] == [bytes(range(read))]


def zip_source(folder: Path, members: dict[str, bytes], files=FILES[:1]) -> FilesFlickr30k:
    """A zip of these members with captions for the first image."""
    write_annotations(folder / CSV_NAME, files)
    write_zip(folder / ZIP_NAME, members)
    tree = LocalTree(folder)
    return FilesFlickr30k(FileCaptions(tree, CSV_NAME), ZipImages(tree, ZIP_NAME))


@pytest.mark.parametrize("name", [FIRST, f"flickr30k-images/{FIRST}", f"a/b/.../{FIRST}", f"a..b/{FIRST}"])
def test_zip_members_are_found_by_their_bare_name(tmp_path, name):
    others = {"flickr30k-images/": b"", f"flickr30k-images/{FIRST}/": b"", "readme.txt": b"x"}
    assert [i.data for i in zip_source(tmp_path, {**others, name: b"sound"}).images()] == [b"sound"]


@pytest.mark.parametrize(
    "name",
    [
        f"../{FIRST}",
        f"flickr30k-images/../{FIRST}",
        f"/{FIRST}",
        f"/tmp/{FIRST}",
        f"__MACOSX/{FIRST}",
        f"__MACOSX/flickr30k-images/._{FIRST}",
        f"flickr30k-images/__MACOSX/{FIRST}",
        f"flickr30k-images/{FIRST}/",
    ],
)
def test_zip_members_that_point_outside_and_litter_are_no_images(tmp_path, name):
    assert [i.data for i in zip_source(tmp_path / "a", {name: b"bad", f"x/{FIRST}": b"sound"}).images()] == [b"sound"]
    with pytest.raises(SourceError) as caught:
        list(zip_source(tmp_path / "b", {name: b"bad"}).images())
    assert str(caught.value) == (
        f"{tmp_path}/b/{ZIP_NAME} has no {FIRST}, but {CSV_NAME} names it\n"
        "Get the zip and the captions file that belong together."
    )


@pytest.mark.parametrize("form", ["zip", "folder"])
class TestEndOfTheCaptions:
    """A CSV that was cut at the end of a row is a whole CSV by itself."""

    @pytest.fixture
    def folder(self, tmp_path, form):
        """Six images, of which the captions file names four."""
        folder = write_flickr30k(tmp_path / "data", form, FILES)
        self._write(folder, FILES[:4])
        return folder

    @staticmethod
    def _write(folder, files):
        """The captions alone."""
        csv = write_flickr30k(folder / f"captions of {len(files)}", "zip", files) / CSV_NAME
        csv.replace(folder / CSV_NAME)

    def test_images_that_no_row_names_are_a_doubt(self, folder, form):
        (doubt,) = open_flickr30k(folder).check()
        where = "flickr30k-images.zip" if form == "zip" else "flickr30k-images"
        assert doubt == (
            f"{folder / CSV_NAME} names 4 images, which is not the 31,014 of Flickr30k, and {len(FILES) - 4} images of "
            f"{where} are named by no row, first {min(f.filename for f in FILES[4:])}: is the file cut short?"
        )

    def test_there_is_none_if_every_image_is_named_or_the_count_is_right(self, folder, form, monkeypatch):
        monkeypatch.setattr("data_prep.sources.flickr30k.source.IMAGES", 4)
        assert open_flickr30k(folder).check() == []
        monkeypatch.undo()
        self._write(folder, FILES)
        assert open_flickr30k(folder).check() == []

    def test_they_are_counted_as_passed_over(self, folder, form):
        passed = PassedOver()
        assert len(list(open_flickr30k(folder).images(passed))) == 4
        litter = {"files of the operating system": len(FILES)} if form == "zip" else {}
        assert passed == {"images that no row of the captions file names": len(FILES) - 4, **litter}

    def test_images_that_are_missing_are_known_at_once(self, folder, form):
        names = sorted(f"{number}.jpg" for number in (1, 2, 3))
        self._write(folder, (*FILES, *(FILES[0]._replace(filename=name) for name in names)))
        with pytest.raises(SourceError, match=r"has no 1\.jpg, but .* names it, and 2 others like it\n"):
            open_flickr30k(folder).check()


def test_other_files_beside_the_images_are_counted(tmp_path):
    folder = write_flickr30k(tmp_path, "folder", FILES[:2])
    for name in ("README.txt", "a b.jpg", ".hidden", "Thumbs.db"):
        (folder / "flickr30k-images" / name).touch()
    passed, source = PassedOver(), open_flickr30k(folder)
    assert (source.check(), len(list(source.images(passed)))) == ([], 2)
    assert passed == {
        "files whose names are not those of JPEG images": 2,
        "hidden files": 1,
        "files of the operating system": 1,
    }
    # In one folder with the images lies the captions file, which is used.
    for path in (folder / "flickr30k-images").iterdir():
        path.rename(folder / path.name)
    (folder / "flickr30k-images").rmdir()
    passed = PassedOver()
    assert len(list(open_flickr30k(folder).images(passed))) == 2
    assert passed["files whose names are not those of JPEG images"] == 2


def test_a_file_that_is_missing_among_numbered_ones(tmp_path):
    folder = write_flickr30k(tmp_path, "parquet", FILES)
    assert open_flickr30k(folder).check() == []
    (folder / "0001.parquet").rename(folder / "0003.parquet")
    with pytest.raises(SourceError, match="lacks 2 of the parquet files: 1, 2\n"):
        open_flickr30k(folder).check()
    (folder / "0003.parquet").rename(folder / "test-00001-of-00003.parquet")
    (folder / "0000.parquet").rename(folder / "test-00000-of-00003.parquet")
    with pytest.raises(SourceError, match="lacks 1 of the parquet files: 2\n"):
        open_flickr30k(folder).check()
    (folder / "test-00000-of-00003.parquet").write_bytes(b"PAR1")
    with pytest.raises(SourceError, match="is damaged"):
        open_flickr30k(folder).check()


def test_resource_forks_beside_the_images_are_no_images(tmp_path):
    files = (FILES[0]._replace(filename="._1.jpg"),)
    with pytest.raises(SourceError, match=r"has no \._1\.jpg"):
        list(zip_source(tmp_path, {"flickr30k-images/._1.jpg": b"of a Mac"}, files).images())


def test_an_image_that_stands_twice_in_the_zip(tmp_path):
    with pytest.raises(SourceError) as caught:
        list(zip_source(tmp_path, {f"a/{FIRST}": b"1", f"b/{FIRST}": b"2"}).images())
    assert str(caught.value) == (
        f"{tmp_path}/{ZIP_NAME} holds {FIRST} twice: as a/{FIRST} and as b/{FIRST}\n"
        "Which one is meant is unknown: get the zip again."
    )


def test_an_image_that_stands_twice_in_a_tar(tmp_path):
    write_annotations(tmp_path / CSV_NAME, FILES[:1])
    (tmp_path / "x.tar").write_bytes(tar_of({f"a/{FIRST}": b"1", f"b/{FIRST}": b"2"}))
    tree = LocalTree(tmp_path)
    with pytest.raises(SourceError, match=rf"x\.tar holds {FIRST} twice\nWhich one is meant is unknown"):
        list(FilesFlickr30k(FileCaptions(tree, CSV_NAME), TarImages(tree, "x.tar")).images())


def test_only_wanted_members_of_a_zip_travel_or_a_share_of_them_before_the_captions_are_known(tmp_path):
    write_annotations(tmp_path / CSV_NAME, FILES)
    write_zip(tmp_path / ZIP_NAME, {file.filename: file.data for file in FILES})
    far = CountedTree({ZIP_NAME: (tmp_path / ZIP_NAME).read_bytes()})
    source = FilesFlickr30k(FileCaptions(LocalTree(tmp_path), CSV_NAME), ZipImages(far, ZIP_NAME))
    first, every = FILES[0], source.travels_bytes()
    assert every > sum(len(file.data) for file in FILES)
    wanted = source.travels_bytes({f"flickr30k/{first.filename.removesuffix('.jpg')}"})
    assert len(first.data) < wanted < len(first.data) + 200
    source.captions = SimpleNamespace(ready=False)
    assert source.travels_bytes(0.25) == round(0.25 * every)


FAILURES = [
    zipfile.BadZipFile("bad"),
    zlib.error("bad"),
    RuntimeError("bad"),
    OSError("bad"),
    EOFError("bad"),
]


@pytest.mark.parametrize("failure", FAILURES, ids=lambda error: type(error).__name__)
def test_a_damaged_member_becomes_a_reject_and_the_others_are_read(tmp_path, monkeypatch, failure):
    source = open_flickr30k(write_flickr30k(tmp_path, "zip", FILES[:2]))
    original = zipfile.ZipFile.open

    def fail(archive, member, *arguments, **options):
        if member.filename.endswith(FIRST):
            raise failure
        return original(archive, member, *arguments, **options)

    monkeypatch.setattr(zipfile.ZipFile, "open", fail)
    first, second = source.images()
    assert (first.data, first.problem) == (b"", f"zip member flickr30k-images/{FIRST} is damaged: bad")
    assert (second.data, second.problem) == (FILES[1].data, "")


def test_a_file_that_is_no_zip(tmp_path):
    source = zip_source(tmp_path, {})
    (tmp_path / ZIP_NAME).write_bytes(b"<html>")
    with pytest.raises(SourceError) as caught:
        list(source.images())
    assert str(caught.value) == (
        f"{tmp_path}/{ZIP_NAME} is not a readable zip: its end is missing, as of an unfinished download\n"
        "Download the zip again."
    )
    (tmp_path / ZIP_NAME).unlink()
    with pytest.raises(SourceError, match=rf"there is no {tmp_path}/{ZIP_NAME}"):
        list(open_flickr30k(tmp_path / ZIP_NAME).images())


def published(folder: Path, form: str, files=FILES) -> dict[str, bytes]:
    """What a repository with this form holds."""
    write_flickr30k(folder, form, files)
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def repositories(tmp_path):
    """The data set with zip and captions, and its conversion to parquet with two splits."""
    tables = published(tmp_path / "tables", "parquet")
    wrong = published(tmp_path / "wrong", "parquet", captioned_files(2))
    converted = {f"TEST/test/{name}": data for name, data in tables.items()}
    converted |= {f"TEST/train/{name}": data for name, data in wrong.items()} | {"README.md": b"x"}
    dataset = FolderHub(published(tmp_path / "zip", "zip"), tmp_path / "cache", "nlphuji/flickr30k", "b" * 40)
    return dataset, FolderHub(converted, tmp_path / "cache-parquet", "nlphuji/flickr30k", "c" * 40)


def test_the_hubs_repositories_are_the_pinned_ones():
    assert (HubFlickr30k().dataset, HubFlickr30k().conversion) == (
        flickr30k_source.REPOSITORY,
        flickr30k_source.CONVERSION,
    )
    assert isinstance(open_flickr30k("hub"), HubFlickr30k)
    assert open_flickr30k().count() == 31_014
    assert open_flickr30k().travels_bytes() == 4_390_000_000
    assert open_flickr30k().travels_bytes(0.1) == 439_000_000
    assert open_flickr30k().describe()["location"] == "nlphuji/flickr30k"


def test_from_the_hub_the_captions_are_downloaded_once_and_the_zip_is_read_where_it_lies(repositories):
    dataset, conversion = repositories
    source = HubFlickr30k(dataset, conversion)
    told = {"form": "hub", "location": dataset.repo, "revision": "b" * 40, "files": [CSV_NAME, ZIP_NAME]}
    assert (source.travels_bytes(), source.count(), source.describe()) == (4_390_000_000, 31_014, told)
    assert dataset.asked == []
    assert [i.data for i in source.images()] == [f.data for f in FILES]
    assert (source.count(), source.describe()) == (6, told)
    assert [i.data for i in source.images()] == [f.data for f in FILES]
    assert dataset.asked == [("files", ""), ("tree", ""), ("files", ""), ("download", CSV_NAME)]
    assert conversion.asked == []


def test_what_lies_in_the_hubs_cache_needs_no_hub(repositories, tmp_path):
    dataset, conversion = repositories
    (tmp_path / "zip").rename(tmp_path / "cache")
    source = HubFlickr30k(dataset, conversion)
    assert [i.data for i in source.images()] == [f.data for f in FILES]
    assert dataset.asked == conversion.asked == []


@pytest.mark.parametrize("name", [CSV_NAME, ZIP_NAME])
def test_half_of_it_in_the_hubs_cache_is_not_enough(repositories, name):
    dataset, conversion = repositories
    dataset.cache.mkdir()
    (dataset.cache / name).write_bytes(dataset.contents[name])
    source = HubFlickr30k(dataset, conversion)
    assert source.travels_bytes() == (0 if name == ZIP_NAME else 4_390_000_000)
    assert [i.data for i in source.images()] == [f.data for f in FILES]
    assert dataset.downloads() == ([CSV_NAME] if name == ZIP_NAME else [])


@pytest.mark.parametrize("gone", [CSV_NAME, ZIP_NAME])
def test_without_the_zip_or_its_captions_the_test_split_of_the_conversion_is_read(repositories, gone):
    dataset, conversion = repositories
    del dataset.contents[gone]
    source = HubFlickr30k(dataset, conversion)
    assert [i.data for i in source.images()] == [f.data for f in FILES]
    assert dataset.downloads() == []
    asked = [*conversion.asked]
    assert conversion.downloads() == []
    assert [i.data for i in source.images()] == [f.data for f in FILES]
    assert conversion.asked == asked, "a second pass asks for nothing"
    assert source.describe() == {
        "form": "hub",
        "location": conversion.repo,
        "revision": "c" * 40,
        "files": ["TEST/test/*.parquet"],
    }
    assert source.count() == 6
    assert isinstance(source._opened, ParquetFlickr30k)
    assert source._opened.shards == ["TEST/test/0000.parquet", "TEST/test/0001.parquet"]


@pytest.mark.parametrize("name", [CSV_NAME, ZIP_NAME])
def test_half_of_it_in_the_hubs_cache_does_not_make_up_for_the_other(repositories, name):
    dataset, conversion = repositories
    dataset.cache.mkdir()
    (dataset.cache / name).write_bytes(dataset.contents[name])
    dataset.contents = {name: dataset.contents[name]}
    source = HubFlickr30k(dataset, conversion)
    assert [i.data for i in source.images()] == [f.data for f in FILES]
    assert source.describe()["location"] == conversion.repo
    assert isinstance(source._opened, ParquetFlickr30k)


def test_a_conversion_without_a_test_split_is_read_whole(repositories, tmp_path):
    dataset, conversion = repositories
    dataset.contents.clear()
    conversion.contents = {**published(tmp_path / "plain", "parquet"), "notes.txt": b"x"}
    assert [i.data for i in HubFlickr30k(dataset, conversion).images()] == [f.data for f in FILES]


def test_a_split_at_the_top_of_the_conversion(repositories, tmp_path):
    dataset, conversion = repositories
    dataset.contents.clear()
    conversion.contents = {path.removeprefix("TEST/"): data for path, data in conversion.contents.items()}
    assert [i.data for i in HubFlickr30k(dataset, conversion).images()] == [f.data for f in FILES]


def test_a_repository_that_holds_nothing_of_it(repositories):
    dataset, conversion = repositories
    dataset.contents, conversion.contents = {CSV_NAME: b"x"}, {"README.md": b"x"}
    with pytest.raises(SourceError) as caught:
        HubFlickr30k(dataset, conversion).images()
    said = f"nlphuji/flickr30k holds neither {ZIP_NAME} with {CSV_NAME} nor parquet files\n{EXPECTED}"
    assert str(caught.value) == said
