"""Every form of Flickr30k gives the same images; damage is named."""

from __future__ import annotations

import zipfile

import pytest
from format_twins import FLICKR_FORMS, captioned_files, write_flickr30k

from data_prep.sources import open_flickr30k
from mteb_vehicle_search.errors import SourceError


@pytest.mark.parametrize("form", FLICKR_FORMS)
def test_every_form_gives_what_the_csv_says_in_its_order(tmp_path, form):
    source = open_flickr30k(write_flickr30k(tmp_path, form))
    images = list(source.images())
    files = captioned_files()
    assert source.describe()["form"] == form
    assert source.download_gb == 0
    assert source.count() == len(images) == 40
    assert [i.id for i in images] == [f"flickr30k/{f.filename[:-4]}" for f in files]
    assert [i.data for i in images] == [f.data for f in files]
    assert [i.captions for i in images] == [f.captions for f in files]
    assert [i.split for i in images] == [f.split for f in files]
    assert not any(i.apply_exif for i in images)


def test_odd_white_space_and_escapes_survive(tmp_path):
    images = list(open_flickr30k(write_flickr30k(tmp_path, "folder")).images())
    assert images[1].captions[0] == '  A man says "stop" ,  twice .\t'
    assert images[2].captions[1] == "Two caf\u00e9 owners \u2014 and a \u201cbus\u201d, comma's\nnew line ."


def test_shuffled_parquet_is_put_in_order(tmp_path):
    files = captioned_files()
    write_flickr30k(tmp_path, "parquet", files[20:] + files[:20])
    assert [i.data for i in open_flickr30k(tmp_path).images()] == [f.data for f in files]


def test_zip_members_never_become_paths(tmp_path):
    folder = write_flickr30k(tmp_path / "data", "zip")
    name = captioned_files()[0].filename
    with zipfile.ZipFile(folder / "flickr30k-images.zip", "a") as archive:
        archive.writestr("flickr30k-images/../../escaped.jpg", b"evil")
        archive.writestr(f"../{name}", b"evil")
    first = next(iter(open_flickr30k(folder).images()))
    assert first.data == captioned_files()[0].data
    assert not list(tmp_path.rglob("escaped.jpg"))


def test_a_path_in_the_csv_is_refused(tmp_path):
    files = (captioned_files()[0]._replace(filename="../../etc/passwd.jpg"), *captioned_files()[1:])
    write_flickr30k(tmp_path, "parquet", files)
    with pytest.raises(SourceError, match=r"'\.\./\.\./etc/passwd\.jpg' is not the name of a JPEG file"):
        list(open_flickr30k(tmp_path).images())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda text: text.replace("filename", "file", 1), "has no column filename"),
        (lambda text: text.replace('"[""', '"[', 1), "line 2: column raw is not a JSON list"),
        (lambda text: text.replace(",train,", ",holdout,", 1), "split 'holdout' is none of train, val, test"),
        (lambda text: text + text.splitlines()[-1] + "\r\n", "stands twice"),
        (lambda text: text.splitlines()[0] + "\r\n", "has no rows"),
    ],
)
def test_a_spoilt_csv_is_named(tmp_path, spoil, message):
    path = write_flickr30k(tmp_path, "folder") / "flickr_annotations_30k.csv"
    before = path.read_bytes().decode()
    assert spoil(before) != before
    path.write_bytes(spoil(before).encode())
    with pytest.raises(SourceError, match=message):
        list(open_flickr30k(tmp_path).images())


def test_four_captions_are_refused(tmp_path):
    row = captioned_files()[0]
    write_flickr30k(tmp_path, "folder", (row._replace(captions=row.captions[:4]),))
    with pytest.raises(SourceError, match=f"{row.filename} does not have five captions"):
        list(open_flickr30k(tmp_path).images())


def test_a_missing_image_is_named(tmp_path):
    write_flickr30k(tmp_path, "folder")
    name = captioned_files()[3].filename
    (tmp_path / "flickr30k-images" / name).unlink()
    with pytest.raises(SourceError, match=f"{name} is missing, but flickr_annotations_30k.csv names it"):
        list(open_flickr30k(tmp_path).images())


def test_a_damaged_zip_member_is_named(tmp_path):
    path = write_flickr30k(tmp_path, "zip") / "flickr30k-images.zip"
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo(f"flickr30k-images/{captioned_files()[5].filename}")
    middle = member.header_offset + 60 + member.compress_size // 2
    data[middle : middle + 40] = bytes(40)
    path.write_bytes(data)
    images = list(open_flickr30k(tmp_path).images())
    assert [i.id for i in images if i.problem] == [f"flickr30k/{captioned_files()[5].filename[:-4]}"]
    assert f"zip member {member.filename} is damaged: " in images[5].problem


def test_a_cut_zip_and_a_cut_parquet_are_named(tmp_path):
    for form, pattern in (("zip", "is not a readable zip"), ("parquet", "is damaged")):
        folder = write_flickr30k(tmp_path / form, form)
        path = sorted(p for p in folder.iterdir() if p.suffix in (".zip", ".parquet"))[0]
        path.write_bytes(path.read_bytes()[:-2000])
        with pytest.raises(SourceError, match=pattern):
            list(open_flickr30k(folder).images())


def test_what_is_found_and_what_is_expected_are_said(tmp_path):
    (tmp_path / "holiday.txt").write_text("x")
    with pytest.raises(SourceError, match=r"found: holiday\.txt\nExpected a folder with flickr_annotations_30k\.csv"):
        open_flickr30k(tmp_path)
    with pytest.raises(SourceError, match="there is no folder"):
        open_flickr30k(tmp_path / "none")
