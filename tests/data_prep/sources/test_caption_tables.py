"""Tables of captions: every form gives the same captions, and what is wrong with a row is told exactly."""

from __future__ import annotations

import csv
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from data_prep.sources.tables import BadRow, find_tables, read_table
from data_prep.sources.tables import gathering as limits
from mteb_vehicle_search.errors import SourceError

CAPTIONS = {
    "a.jpg": ("A red car.", "Un véhicule; rouge, « vu » de côté"),
    "sub/b.PNG": ('A "bus", parked',),
    "c d.webp": ("Two\nlines",),
}


def rows_of(captions):
    return [(name, text) for name, texts in captions.items() for text in texts]


def separated(captions, delimiter=",", ending="\n", head=("file", "caption")):
    out = io.StringIO(newline="")
    table = csv.writer(out, delimiter=delimiter, lineterminator=ending)
    table.writerow(head)
    table.writerows(rows_of(captions))
    return out.getvalue().encode()


def parquet(columns):
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


def json_lines(captions, lists=False):
    rows = captions.items() if lists else rows_of(captions)
    return b"".join(json.dumps({"file_name": name, "text": value}).encode() + b"\n" for name, value in rows)


def coco(captions):
    images = [{"id": number, "file_name": name, "width": 3} for number, name in enumerate(captions)]
    numbers = {image["file_name"]: image["id"] for image in images}
    said = [{"image_id": numbers[name], "id": 9, "caption": text} for name, text in rows_of(captions)]
    return json.dumps({"info": {}, "images": images, "annotations": said}).encode()


def wide(captions, delimiter=","):
    most = max(map(len, captions.values()))
    out = io.StringIO(newline="")
    table = csv.writer(out, delimiter=delimiter)
    table.writerow([*(f"caption_{n}" for n in range(1, most + 1)), "image"])
    table.writerows([*texts, *[""] * (most - len(texts)), name] for name, texts in captions.items())
    return out.getvalue().encode()


def listed(captions):
    out = io.StringIO(newline="")
    table = csv.writer(out)
    table.writerow(["raw", "split", "filename"])
    table.writerows([json.dumps(texts), "test", name] for name, texts in captions.items())
    return out.getvalue().encode()


FORMS = {
    "t.csv": separated,
    "bom.csv": lambda captions: b"\xef\xbb\xbf" + separated(captions, ending="\r\n"),
    "semicolons.csv": lambda captions: separated(captions, ";"),
    "t.tsv": lambda captions: separated(captions, "\t", "\r\n"),
    "bars.csv": lambda captions: separated(captions, "|"),
    "headless.csv": lambda captions: separated(captions).split(b"\n", 1)[1],
    "wide.csv": wide,
    "listed.csv": listed,
    "t.jsonl": json_lines,
    "lists.ndjson": lambda captions: json_lines(captions, lists=True),
    "t.json": lambda captions: json.dumps([{"image": n, "caption": t} for n, t in rows_of(captions)]).encode(),
    "nested.json": lambda captions: json.dumps(
        {
            "dataset": "x",
            "images": [
                {"filename": name, "sentences": [{"raw": text, "tokens": []} for text in texts], "split": "restval"}
                for name, texts in captions.items()
            ],
        }
    ).encode(),
    "by_name.json": lambda captions: json.dumps(captions).encode(),
    "coco.json": coco,
    "t.parquet": lambda captions: parquet(dict(zip(("path", "sentence"), map(list, zip(*rows_of(captions)))))),
    "lists.parquet": lambda captions: parquet(
        {"path": list(captions), "captions": [list(texts) for texts in captions.values()]}
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_captions(form):
    table = read_table(FORMS[form](CAPTIONS), form)
    assert table.captions == CAPTIONS
    assert list(table.captions) == list(CAPTIONS)
    assert table.bad == ()


NAMES = st.text("abcdef0123456789_-é ", min_size=1, max_size=8).map(str.strip).filter(bool)
TEXTS = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n,;|\"'\t"), min_size=1, max_size=30
)
TABLES = st.dictionaries(
    NAMES.map(lambda name: f"{name}.jpg"),
    st.lists(TEXTS.map(str.strip).filter(bool), min_size=1, max_size=4, unique=True).map(tuple),
    min_size=1,
    max_size=6,
)


@settings(max_examples=60, deadline=None)
@given(TABLES)
@example({"a.jpg": ('"',), "b.jpg": ("[", "a;b|c")})
def test_random_tables_come_back_whole(captions):
    if len({name.casefold() for name in captions}) < len(captions):
        return
    for form in FORMS:
        # Lists may be taken for what they are, and a headless table needs a second column that looks like prose.
        if form in ("headless.csv", "listed.csv") or any(text.startswith("[") for _, text in rows_of(captions)):
            continue
        assert read_table(FORMS[form](captions), form).captions == captions, form


def test_uiucs_tokens_are_read_line_by_line():
    content = b'a.jpg#0\t" Army " jeep .\na.jpg#1\tA jeep .\r\nb.jpg#0\tA bus .\nbroken line\n'
    table = read_table(content, "results_20130124.token")
    assert table.captions == {"a.jpg": ('" Army " jeep .', "A jeep ."), "b.jpg": ("A bus .",)}
    assert table.lines == {"a.jpg": "results_20130124.token, line 1", "b.jpg": "results_20130124.token, line 3"}
    assert [(row.where, row.name) for row in table.bad] == [("results_20130124.token, line 4", "")]


def test_the_malformed_row_of_kaggles_table_is_one_bad_row():
    content = (
        "image_name| comment_number| comment\n"
        '1.jpg| 0| A " Dodge " , seen from behind .\n'
        "2199200615.jpg| 4   A dog runs across the grass .\n"
        "2.jpg| 0| A cart .\n"
    )
    table = read_table(content.encode(), "results.csv")
    assert table.captions == {"1.jpg": ('A " Dodge " , seen from behind .',), "2.jpg": ("A cart .",)}
    assert table.bad == (BadRow("results.csv, line 3", "2199200615.jpg", "the row has 2 values instead of 3"),)
    assert (table.form, table.file_column, table.caption_column) == ("CSV with bars", "image_name", "comment")


def test_kaggles_other_table():
    table = read_table(b'image,caption\n1.jpg,"A car , red ."\n1.jpg,A cart\n', "captions.txt")
    assert table.captions == {"1.jpg": ("A car , red .", "A cart")}


def test_flickr30ks_own_table_has_splits():
    content = b'raw,sentids,split,filename,img_id\n"[""A"", ""B""]","[0, 1]",val,1.jpg,0\n"[""C""]",[2],odd,2.jpg,1\n'
    table = read_table(content, "flickr_annotations_30k.csv")
    assert table.captions == {"1.jpg": ("A", "B"), "2.jpg": ("C",)}
    assert table.splits == {"1.jpg": "val"}


def test_lists_that_python_wrote_are_lists():
    content = b'file,captions\na.jpg,"[\'A\']"\nc.jpg,"[\'D\', ""E\'s""]"\nb.jpg,"[\'C\'"\n'
    table = read_table(content, "t.csv")
    assert table.captions == {"a.jpg": ("A",), "c.jpg": ("D", "E's")}
    assert table.bad == (
        BadRow("t.csv, line 4", "b.jpg", "['C' is not a list of captions as the rows before have one"),
    )


LONG = "x" * (limits.MAX_CAPTION_CHARACTERS + 1)
BAD = {
    "empty": ("b.jpg,", "b.jpg", "the caption is empty"),
    "blank": ('b.jpg,"  "', "b.jpg", "the caption is empty"),
    "long": (f"b.jpg,{LONG}", "b.jpg", "the caption has 5,001 characters; the limit is 5,000"),
    "10,000": (f"b.jpg,{'y' * 10_000}", "b.jpg", "the caption has 10,000 characters; the limit is 5,000"),
    "no name": (",A car", "", "there is no file name"),
    "too many": (
        "b.jpg,A car, red",
        "b.jpg",
        "the row has 3 values instead of 2; a value with ',' in it stands in quotes",
    ),
    "too few": ("b.jpg", "b.jpg", "the row has 1 value instead of 2"),
    "above": ("../b.jpg,A car", "", "../b.jpg leads out of the folder of the images; names are relative to it"),
    "below and above": ("a/../../b.jpg,A car", "", "a/../../b.jpg leads out of the folder of the images; names are"),
    "absolute": ("/b.jpg,A car", "", "/b.jpg leads out of the folder of the images; names are relative to it"),
    "drive": (r"C:\b.jpg,A car", "", "C:/b.jpg leads out of the folder of the images; names are relative to it"),
    "address": ("https://x/b.jpg,A car", "", "https://x/b.jpg is an address, not the name of a file"),
    "control": ("b.jpg,A \x01 car", "b.jpg", "the caption is no text: it holds U+0001"),
    "twice": ("a.jpg,A car", "a.jpg", "a caption of a.jpg stands twice: A car"),
    "no character": ("b\x85.jpg,A car", "", "'b\\x85.jpg' is no file name: it holds what is no character"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_row_is_told_and_the_others_go_on(case):
    row, name, reason = BAD[case]
    table = read_table(f"file,caption\na.jpg,A car\n{row}\nz.jpg,A bus\n".encode(), "t.csv")
    assert table.captions == {"a.jpg": ("A car",), "z.jpg": ("A bus",)}
    assert [(bad.where, bad.name) for bad in table.bad] == [("t.csv, line 3", name)]
    assert table.bad[0].reason.startswith(reason)


def test_a_caption_as_long_as_is_allowed_is_used():
    table = read_table(f"file,caption\na.jpg,{LONG[1:]}\n".encode(), "t.csv")
    assert table.captions == {"a.jpg": (LONG[1:],)}


def test_a_row_that_breaks_its_quotes_is_told_with_its_lines():
    content = b'file,caption\na.jpg,A\nb.jpg,"B\nC" d\ne.jpg,E\n'
    table = read_table(content, "t.csv")
    assert table.captions == {"a.jpg": ("A",), "e.jpg": ("E",)}
    assert [(bad.where, bad.reason[:36]) for bad in table.bad] == [
        ("t.csv, line 3 to 4", "is no row of separated values: ',' e")
    ]


def test_lines_are_counted_within_values():
    table = read_table(b'file,caption\r\na.jpg,"A\r\nB"\r\nb.jpg,\r\n', "t.csv")
    assert table.captions == {"a.jpg": ("A\r\nB",)}
    assert [bad.where for bad in table.bad] == ["t.csv, line 4"]


def test_json_lines_that_are_none_are_bad_rows():
    content = b'{"file": "a.jpg", "caption": "A"}\n{"file": \n[1]\n{"file": "b.jpg", "caption": 3}\n{"caption": "x"}\n'
    content += b'{"file": "c.jpg", "caption": ["C", null, "\\ud800"]}\n{"file": ["x"], "caption": "C"}\n'
    table = read_table(content, "t.jsonl")
    assert table.captions == {"a.jpg": ("A",), "c.jpg": ("C",)}
    assert [(bad.where.rpartition(" ")[2], bad.reason[:32]) for bad in table.bad] == [
        ("2", "is no JSON: Expecting value: lin"),
        ("3", "is not an object with a file nam"),
        ("4", "the caption is no text but 3"),
        ("5", "there is no file name"),
        ("6", "the caption is empty"),
        ("6", "the caption is no text: it holds"),
        ("7", "['x'] is no file name"),
    ]


def test_annotations_of_no_image_are_bad_rows():
    content = {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"image_id": 1, "caption": "A"}]}
    content["annotations"] += [{"image_id": 2, "caption": "B"}, {"image_id": [1], "caption": "B"}, 5]
    table = read_table(json.dumps(content).encode(), "coco.json")
    assert table.captions == {"a.jpg": ("A",)}
    assert [(bad.where, bad.reason[:24]) for bad in table.bad] == [
        ("coco.json, annotation 2", "no image has the id 2"),
        ("coco.json, annotation 3", "no image has the id [1]"),
        ("coco.json, annotation 4", "is not an object with a "),
    ]


ERRORS = {
    "empty": (b"", "t.csv is empty"),
    "blank": (b" \n\n", "t.csv is empty"),
    "header alone": (b"file,caption\n", "t.csv has no rows"),
    "one column": (b"file\na.jpg\n", "t.csv is no table: its first line has one value, 'file'"),
    "latin": ("file,caption\na.jpg,Stra\xdfe\n".encode("latin-1"), "t.csv, line 2: not UTF-8: invalid"),
    "utf-16": ("file,caption\na.jpg,A\n".encode("utf-16"), "t.csv is in UTF-16, not UTF-8"),
    "open quote": (b'file,caption\na.jpg,"A\nb.jpg,B\n', "t.csv, line 2: a quote is opened and never closed"),
    "endless": (b'file,caption\na.jpg,"' + b"A" * 140_000 + b'"\n', "t.csv, line 2: a value is longer than 131,072"),
    "case": (
        b"file,caption\na/b.jpg,A\nA/b.JPG,B\n",
        "t.csv, line 3: A/b.JPG differs in case alone from a/b.jpg of t.csv, line 2",
    ),
    "no names": (
        b"x,y\n1,A car\n",
        "t.csv: which column holds the images' file names is not clear; its columns are 'x', 'y'",
    ),
    "no captions": (
        b"file,x,y\na.jpg,1,2\n",
        "t.csv: which column holds the captions is not clear; its columns are 'x', 'y'",
    ),
    "nothing usable": (
        b"file,caption\n../a.jpg,A\n",
        "t.csv: no row has a file name and a caption; the first: t.csv, line 2",
    ),
    "parquet": (b"PAR1garbage", "t.csv is not a parquet file: "),
    "numbers": (parquet({"a": [1.5]}), "t.csv has no columns of text; it has a"),
    "JSON": (b'{"a": ', "t.csv is no JSON: "),
    "other JSON": (b'{"a": 1}', "t.csv is no table of captions"),
    "instances": (
        b'{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"image_id": 1, "bbox": []}]}',
        "t.csv holds annotations without captions",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_what_is_no_table_is_told_exactly(case):
    content, message = ERRORS[case]
    with pytest.raises(SourceError) as error:
        read_table(content, "t.csv")
    assert error.value.message.startswith(message)
    assert error.value.hint


def test_columns_that_are_not_clear_are_asked_for_by_the_presets_keys():
    content = b"a,b,c\nx.jpg,y.jpg,A car\n"
    with pytest.raises(SourceError, match=r"captioned.file_column and captioned.caption_column"):
        read_table(content, "t.csv")
    assert read_table(content, "t.csv", file_column="b").captions == {"y.jpg": ("A car",)}
    assert read_table(content, "t.csv", file_column="a", caption_column="b").captions == {"x.jpg": ("y.jpg",)}
    with pytest.raises(SourceError, match="has no column 'd'; its columns are 'a', 'b', 'c'"):
        read_table(content, "t.csv", file_column="d")
    with pytest.raises(SourceError, match="has no column 'd'"):
        read_table(content, "t.csv", caption_column="d")


COLUMNS = {
    "the likelier name": ("image,filename,caption\n1,a.jpg,A b\n", "filename", "caption"),
    "numbers under a likelier name": ("file,image,caption\n17,a.jpg,A b\n", "image", "caption"),
    "names that look so": ("image,path,caption\nred,a.jpg,A b\n", "path", "caption"),
    "content": ("Datei,Satz,n\na.jpg,A red car,1\n", "Datei", "Satz"),
    "identifiers": ("image_id,title\n17,A b\n", "image_id", "title"),
    "spaces and capitals": ("File Name,Alt-Text\na.jpg,A b\n", "File Name", "Alt-Text"),
    "caption first": ("title,file,caption\nT,a.jpg,A b\n", "file", "caption"),
    "twice": ("file,caption,caption\na.jpg,A,B\n", "file", "caption, caption.2"),
    "numbered": ("file,comment10,comment9\na.jpg,A,B\n", "file", "comment9, comment10"),
}


@pytest.mark.parametrize("case", COLUMNS)
def test_columns_are_found(case):
    text, file, caption = COLUMNS[case]
    table = read_table(text.encode(), "t.csv")
    assert (table.file_column, table.caption_column) == (file, caption)


def test_a_mark_at_the_begin_is_no_part_of_a_column():
    table = read_table(FORMS["bom.csv"](CAPTIONS), "t.csv", file_column="file")
    assert table.file_column == "file"


def test_names_have_one_writing():
    table = read_table(b"file,caption\nsub\\a.jpg,A\n./b.jpg,B\nc//d.jpg,C\n", "t.csv")
    assert list(table.captions) == ["sub/a.jpg", "b.jpg", "c/d.jpg"]


def test_other_columns_do_not_matter():
    content = parquet({"image": [{"bytes": b"x", "path": "p"}], "file_name": ["a.jpg"], "caption": ["A"], "n": [0.5]})
    assert read_table(content, "t.parquet").captions == {"a.jpg": ("A",)}


def test_a_table_too_long_is_not_read(monkeypatch):
    monkeypatch.setattr("data_prep.sources.tables.MAX_TABLE_BYTES", 10)
    with pytest.raises(SourceError, match=r"t\.csv has 11 bytes: no more than 10 are read of a table"):
        read_table(b"file,captio", "t.csv")


def test_tables_are_found_by_their_names():
    names = [
        "z.csv",
        "sub/a.jsonl",
        "a.jpg",
        "a.json",
        "a.txt",
        "captions.txt",
        "notes.txt",
        ".b.csv",
        "x.token",
        "p.Parquet",
    ]
    assert find_tables(names) == ["captions.txt", "p.Parquet", "x.token", "z.csv", "sub/a.jsonl"]
