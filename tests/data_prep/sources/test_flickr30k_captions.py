"""What a row of the captions file may be, and that every other is refused with its line."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from data_prep.sources.flickr30k.captions import (
    CSV_NAME,
    EXPECTED,
    FOLDER_NAME,
    ZIP_NAME,
    Row,
    caption_row,
    captioned_image,
    read_annotations,
)
from mteb_vehicle_search.errors import SourceError

FIVE = ["one", "two", "three", "four", "five"]
COLUMNS = ("raw", "sentids", "split", "filename", "img_id")


def write(path: Path, *rows: tuple[str, str, str], columns: tuple[str, ...] = COLUMNS, start: bytes = b"") -> Path:
    """A captions file of (filename, split, raw), with columns that nobody reads between them."""
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, columns, extrasaction="ignore")
    table.writeheader()
    for number, (filename, split, raw) in enumerate(rows):
        table.writerow({"raw": raw, "sentids": "[]", "split": split, "filename": filename, "img_id": number})
    path.write_bytes(start + text.getvalue().encode())
    return path


def refused(path: Path) -> str:
    with pytest.raises(SourceError) as caught:
        read_annotations(path.read_bytes(), str(path))
    assert EXPECTED in str(caught.value)
    return str(caught.value).partition("\n")[0]


def test_names_are_those_of_the_published_data_set():
    assert (CSV_NAME, ZIP_NAME) == ("flickr_annotations_30k.csv", "flickr30k-images.zip")
    assert FOLDER_NAME == "flickr30k-images"


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"], ids=["plain", "with a byte order mark"])
def test_rows_come_in_the_order_of_the_file(tmp_path, start):
    odd = [' "stop" , ', "new\nline", "caf\u00e9", "\u201cbus\u201d", ""]
    path = write(
        tmp_path / "a.csv",
        ("9.jpg", "val", json.dumps(FIVE)),
        ("10.JPEG", "", json.dumps(odd)),
        ("a_b-c.d.Jpg", "test", json.dumps(odd, ensure_ascii=False, indent=1)),
        ("7.jpeg", "train", json.dumps(FIVE)),
        start=start,
    )
    assert read_annotations(path.read_bytes(), str(path)) == [
        Row("9.jpg", "val", tuple(FIVE)),
        Row("10.JPEG", "", tuple(odd)),
        Row("a_b-c.d.Jpg", "test", tuple(odd)),
        Row("7.jpeg", "train", tuple(FIVE)),
    ]


@pytest.mark.parametrize("gone", ["raw", "split", "filename"])
def test_a_missing_column_is_named(tmp_path, gone):
    columns = tuple(name for name in COLUMNS if name != gone)
    path = write(tmp_path / "a.csv", ("1.jpg", "train", json.dumps(FIVE)), columns=columns)
    assert refused(path) == f"{path} has no column {gone}; it has {', '.join(columns)}"


def test_missing_columns_are_named_in_order_and_a_long_header_is_cut(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("x" * 500 + "\n", encoding="utf-8")
    assert refused(path) == f"{path} has no column filename, raw, split; it has {'x' * 200}"
    path.write_text("", encoding="utf-8")
    assert refused(path) == f"{path} has no column filename, raw, split; it has nothing"


def test_a_file_without_rows(tmp_path):
    path = write(tmp_path / "a.csv")
    assert refused(path) == f"{path} has no rows"


BAD_ROWS = {
    "raw is no JSON": ("2.jpg", "train", "['one']", "column raw is not a JSON list"),
    "raw is empty": ("2.jpg", "train", "", "column raw is not a JSON list"),
    "raw is nested without end": ("2.jpg", "train", "[" * 100_000, "column raw is not a JSON list"),
    "a sentence instead of a list": ("2.jpg", "train", '"abcde"', "2.jpg does not have five captions but 'abcde'"),
    "no captions": ("2.jpg", "train", "[]", "2.jpg does not have five captions but []"),
    "one caption is a number": ("2.jpg", "train", '["a", "b", "c", "d", 5]', "2.jpg does not have five captions"),
    "another split": ("2.jpg", "holdout", json.dumps(FIVE), "split 'holdout' is none of train, val, test"),
    "a name stands twice": ("1.jpg", "val", json.dumps(FIVE), "1.jpg stands twice"),
    "no name": ("", "train", json.dumps(FIVE), "'' is not the name of a JPEG file"),
    "a path": ("../2.jpg", "train", json.dumps(FIVE), "'../2.jpg' is not the name of a JPEG file"),
    "more than a name": ("2.jpg.exe", "train", json.dumps(FIVE), "'2.jpg.exe' is not the name of a JPEG file"),
    "a blank in the name": ("a 2.jpg", "train", json.dumps(FIVE), "'a 2.jpg' is not the name of a JPEG file"),
    "an ending without a dot": ("2jpg", "train", json.dumps(FIVE), "'2jpg' is not the name of a JPEG file"),
}


@pytest.mark.parametrize(("filename", "split", "raw", "says"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_a_bad_row_is_named_with_its_line(tmp_path, filename, split, raw, says):
    """The first caption of the good row before it holds a line break, and so the bad row is on line 5."""
    good = ("1.jpg", "train", json.dumps(FIVE).replace('"one",', '"one",\n'))
    path = write(tmp_path / "a.csv", good, ("0.jpg", "val", json.dumps(FIVE)), (filename, split, raw))
    assert refused(path).startswith(f"{path}, line 5: {says}")


def test_a_row_that_is_too_short(tmp_path):
    path = write(tmp_path / "a.csv", ("1.jpg", "train", json.dumps(FIVE)))
    path.write_text(path.read_text(encoding="utf-8") + json.dumps(FIVE)[:1] + "\n", encoding="utf-8")
    assert refused(path).startswith(f"{path}, line 3: column raw is not a JSON list")


def test_long_captions_are_cut_in_the_message(tmp_path):
    path = write(tmp_path / "a.csv", ("1.jpg", "train", json.dumps("x" * 1000)))
    assert refused(path) == f"{path}, line 2: 1.jpg does not have five captions but '{'x' * 79}"


def test_a_file_that_is_not_utf_8_is_named_with_its_line(tmp_path):
    path = write(tmp_path / "a.csv", ("1.jpg", "train", json.dumps(FIVE)))
    path.write_bytes(path.read_bytes() + b"caf\xe9,,,\n")
    assert refused(path) == f"{path}, line 3: not UTF-8: invalid continuation byte"
    path.write_bytes(b"\nraw\xe9,,,\n")
    assert refused(path) == f"{path}, line 2: not UTF-8: invalid continuation byte"


def test_a_field_without_end(tmp_path):
    path = write(tmp_path / "a.csv", ("1.jpg", "train", "x" * (csv.field_size_limit() + 1)))
    assert refused(path) == f"{path} is not a CSV file: field larger than field limit ({csv.field_size_limit()})"


@pytest.mark.parametrize("split", ["train", "val", "test", "", None])
def test_splits_that_are_known(split):
    assert caption_row("1.jpg", split, FIVE, "here") == Row("1.jpg", split or "", tuple(FIVE))


@pytest.mark.parametrize("filename", [None, 7, b"1.jpg"])
def test_a_name_that_is_no_text(filename):
    with pytest.raises(SourceError, match=r"here: .* is not the name of a JPEG file"):
        caption_row(filename, "", FIVE, "here")


def test_the_image_of_a_row():
    image = captioned_image(Row("a.b_1.jpeg", "val", tuple(FIVE)), b"bytes")
    assert (image.id, image.data, image.problem) == ("flickr30k/a.b_1", b"bytes", "")
    assert (image.source, image.split, image.captions) == ("flickr30k", "val", tuple(FIVE))
    assert (image.class_index, image.wnid) == (-1, "")


@pytest.mark.parametrize(("place", "blank"), [(1, ""), (3, " \t"), (5, "\n")])
def test_an_image_with_a_blank_caption_becomes_a_reject(place, blank):
    told = [blank if number == place else text for number, text in enumerate(FIVE, start=1)]
    image = captioned_image(Row("1.jpg", "", tuple(told)), b"bytes")
    assert (image.data, image.problem) == (b"", f"caption {place} is empty")
    assert image.captions == tuple(told)


def test_an_image_that_cannot_be_read_keeps_that_reason():
    image = captioned_image(Row("1.jpg", "", ("", *FIVE[1:])), b"", "cannot be read: it is gone")
    assert (image.data, image.problem) == (b"", "cannot be read: it is gone")
