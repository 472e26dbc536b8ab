"""The copies of UIUC and Kaggle: their images with the hub's captions, or with the captions that come with them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from folder_hub import FolderHub
from format_twins import CSV_NAME, FLICKR_COPIES, captioned_files, tokenised, write_captions, write_flickr30k

from data_prep.sources.flickr30k import open_flickr30k
from data_prep.sources.flickr30k import source as flickr30k_source
from data_prep.storage import PassedOver
from mteb_vehicle_search.errors import SourceError

FILES = captioned_files(6)
IDS = [f"flickr30k/{file.filename[:-4]}" for file in FILES]
PLACES = {
    "uiuc_tar": ("tar", "flickr30k-images.tar"),
    "uiuc_tar_gz": ("tar", "flickr30k-images.tar.gz"),
    "uiuc_folder": ("folder", "flickr30k-images"),
    "kaggle": ("folder", "flickr30k_images/flickr30k_images"),
    "kaggle_captions": ("folder", "Images"),
}
OTHERS = {
    "uiuc_tar": "results_20130124.token",
    "uiuc_tar_gz": "results_20130124.token",
    "uiuc_folder": "results_20130124.token",
    "kaggle": "flickr30k_images/results.csv",
    "kaggle_captions": "captions.txt",
}


@pytest.fixture(params=FLICKR_COPIES)
def form(request):
    return request.param


@pytest.fixture
def folder(tmp_path, form):
    """A copy without the hub's captions, which lie in another folder."""
    folder = write_flickr30k(tmp_path / "copy", form, FILES)
    shutil.move(folder / "captions", tmp_path / "captions")
    return folder


def by_id(source, **options) -> dict:
    images = list(source.images(**options))
    assert len({image.id for image in images}) == len(images)
    return {image.id: image for image in images}


def test_with_the_hubs_captions_a_copy_is_the_hubs_data_set(tmp_path, folder, form):
    source = open_flickr30k(folder, str(tmp_path / "captions" / CSV_NAME))
    assert source.notes == []
    assert (source.describe()["form"], source.describe()["location"]) == (
        PLACES[form][0],
        str(folder / PLACES[form][1]),
    )
    images = by_id(source)
    assert [images[identifier].data for identifier in IDS] == [file.data for file in FILES]
    assert [images[identifier].captions for identifier in IDS] == [file.captions for file in FILES]
    assert [images[identifier].split for identifier in IDS] == [file.split for file in FILES]
    assert (source.check(), source.count(), source.travels_bytes()) == ([], 6, 0)


def test_the_captions_come_from_the_hub_where_others_lie_beside_the_images(tmp_path, folder, form, monkeypatch):
    content = (tmp_path / "captions" / CSV_NAME).read_bytes()
    hub = FolderHub({CSV_NAME: content}, tmp_path / "cache", "nlphuji/flickr30k", "b" * 40)
    monkeypatch.setattr(flickr30k_source, "REPOSITORY", hub)
    source = open_flickr30k(folder)
    assert source.notes == []
    assert hub.downloads() == [], "the plan downloads nothing"
    assert source.count() == 31_014
    assert [by_id(source)[identifier].captions for identifier in IDS] == [file.captions for file in FILES]
    assert hub.downloads() == [CSV_NAME]
    # A copy of it in the hub's cache is enough.
    again = FolderHub({}, tmp_path / "cache", "nlphuji/flickr30k", "b" * 40)
    monkeypatch.setattr(flickr30k_source, "REPOSITORY", again)
    assert open_flickr30k(folder).count() == 6
    assert again.asked == []


def test_without_the_hub_the_captions_beside_the_images_are_used_and_what_that_means_is_said(folder, form):
    source = open_flickr30k(folder)
    (note,) = source.notes
    assert note == (
        f"The captions are those of {folder / OTHERS[form]}. The published evaluation has those of {CSV_NAME}, which "
        "differ in spaces and punctuation: the content id will be another one, and scores will not be comparable with "
        "published ones. Name that file with --captions to have the published ones."
    )
    images = by_id(source)
    assert [images[identifier].data for identifier in IDS] == [file.data for file in FILES]
    expected = [tuple(tokenised(caption) for caption in file.captions) for file in FILES]
    assert [images[identifier].captions for identifier in IDS] == expected
    assert (source.check(), source.count()) == ([], 6)


def test_only_what_is_wanted_is_read(folder, form):
    wanted, passed = set(IDS[1:3]), PassedOver()
    assert set(by_id(open_flickr30k(folder), passed=passed, only=wanted)) == wanted
    assert passed["not selected"] == 4


def test_a_copy_without_any_captions_and_without_the_hub(folder, form):
    (folder / OTHERS[form]).unlink()
    with pytest.raises(SourceError, match=f"{folder} holds no captions file, and .*\nPut {CSV_NAME} there, or name"):
        open_flickr30k(folder)


def test_an_image_that_the_captions_name_is_missing(tmp_path, folder, form):
    more = (*FILES, FILES[0]._replace(filename="1.jpg"))
    source = open_flickr30k(folder, str(write_captions(tmp_path / "more" / CSV_NAME, more)))
    # What is packed by gzip has no list.
    find = source.check if form != "uiuc_tar_gz" else lambda: list(source.images())
    with pytest.raises(SourceError, match=r"has no 1\.jpg, but flickr_annotations_30k\.csv names it"):
        find()


def test_the_malformed_row_of_kaggles_table_is_one_reject(tmp_path):
    """The real one lacks a separator in a row, whose image has four captions then."""
    folder = write_flickr30k(tmp_path, "kaggle", FILES)
    shutil.rmtree(folder / "captions")
    table = folder / OTHERS["kaggle"]
    lines = table.read_text(encoding="utf-8").splitlines(keepends=True)
    lines[5] = lines[5].replace("| 4| ", "| 4   ")
    table.write_text("".join(lines), encoding="utf-8")
    images = by_id(open_flickr30k(folder))
    (rejected,) = [image for image in images.values() if image.problem]
    assert rejected.id == "flickr30k/results.csv, bad row 1"
    assert f"{table}, line 6" in rejected.problem
    assert [len(images[identifier].captions) for identifier in IDS] == [4, 5, 5, 5, 5, 5]


def test_captions_of_what_is_no_image_of_flickr30k_are_a_reject(tmp_path):
    folder = write_flickr30k(tmp_path, "uiuc_folder", FILES)
    shutil.rmtree(folder / "captions")
    table = folder / OTHERS["uiuc_folder"]
    table.write_text(f"{table.read_text(encoding='utf-8')}drawn.png#0\tA cart .\n", encoding="utf-8")
    (rejected,) = [image for image in by_id(open_flickr30k(folder)).values() if image.problem]
    assert rejected.problem.endswith("'drawn.png' is not the name of a JPEG file")


@pytest.mark.parametrize("name", ["flickr30k-images.zip", "flickr30k-images.tar", "photos.tgz"])
def test_an_archive_may_be_named_itself(tmp_path, name):
    form = "zip" if name.endswith("zip") else "uiuc_tar" if name.endswith("tar") else "uiuc_tar_gz"
    folder = write_flickr30k(tmp_path / "data", form, FILES)
    if name == "photos.tgz":
        (folder / "flickr30k-images.tar.gz").rename(folder / name)
    csv = folder / CSV_NAME if form == "zip" else folder / "captions" / CSV_NAME
    source = open_flickr30k(folder / name, "" if form == "zip" else str(csv))
    assert [by_id(source)[identifier].captions for identifier in IDS] == [file.captions for file in FILES]
    assert source.describe()["location"] == str(folder / name)


def test_a_captions_file_that_is_none_is_told(tmp_path):
    folder = write_flickr30k(tmp_path / "data", "folder", FILES)
    with pytest.raises(SourceError, match="is not a captions file"):
        open_flickr30k(folder, str(folder / "flickr30k-images"))
    with pytest.raises(SourceError, match=r"there is no folder .*none\.csv|there is no .*none\.csv"):
        open_flickr30k(folder, str(Path(folder) / "none.csv"))
