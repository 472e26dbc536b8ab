"""Every form of Flickr30k gives the same images; damage is named."""

from __future__ import annotations

import pytest
from format_twins import FLICKR_FORMS, captioned_files, write_flickr30k

from data_prep.sources import open_flickr30k
from mteb_vehicle_search.errors import SourceError


@pytest.mark.parametrize("form", FLICKR_FORMS)
def test_every_form_gives_what_the_csv_says_in_its_order(tmp_path, form):
    source = open_flickr30k(write_flickr30k(tmp_path, form))
    images = list(source.images())
    files = captioned_files()
    assert source.describe()["form"] == form.partition("_")[0]
    assert source.download_gb == 0
    assert source.count() == len(images) == 40
    assert [i.id for i in images] == [f"flickr30k/{f.filename[:-4]}" for f in files]
    assert [i.data for i in images] == [f.data for f in files]
    assert [i.captions for i in images] == [f.captions for f in files]
    assert [i.split for i in images] == ["" if form == "parquet_without_splits" else f.split for f in files]
    assert not any(i.apply_exif for i in images)


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
    with pytest.raises(SourceError, match="there is no folder"):
        open_flickr30k(tmp_path / "none")
