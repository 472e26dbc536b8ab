"""Images of one's own: a folder, a zip and a tar of them are the same, and what does not fit together is told."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from data_prep.sources import Place
from data_prep.sources.own import FOLDER, NONE, WEBDATASET, folder
from data_prep.storage import PassedOver
from mteb_vehicle_search.errors import SourceError

CAPTIONS = {
    "cars/1.jpg": ("A red car.", "A car, parked"),
    "cars/2.png": ("A blue car",),
    "3.webp": ("A cart", 'A "cart"', "Ein Karren"),
}
ALL = [*CAPTIONS, "cars/4.gif", "bikes/5.jpeg"]


def encoded(name: str) -> bytes:
    out = io.BytesIO()
    form = {"jpg": "JPEG", "jpeg": "JPEG"}.get(name.rpartition(".")[2], name.rpartition(".")[2])
    Image.new("RGB", (20, 10), (sum(name.encode()) % 256, 90, 30)).save(out, form)
    return out.getvalue()


def contents(names=ALL) -> dict[str, bytes]:
    return {name: encoded(name) for name in names}


def write(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def tarred(path: Path, files: dict[str, bytes], prefix: str = "") -> Path:
    with tarfile.open(path, "w:gz" if path.suffix in (".gz", ".tgz") else "w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(prefix + name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def rows():
    return [(name, text) for name, texts in CAPTIONS.items() for text in texts]


def parquet_table() -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(dict(zip(("file_name", "caption"), map(list, zip(*rows()))))), out)
    return out.getvalue()


def coco_table() -> bytes:
    images = [{"id": number, "file_name": name} for number, name in enumerate(CAPTIONS)]
    said = [{"image_id": list(CAPTIONS).index(name), "caption": text} for name, text in rows()]
    return json.dumps({"images": images, "annotations": said}).encode()


def csv_table(pairs=None, delimiter=",") -> bytes:
    quoted = [(name, '"' + text.replace('"', '""') + '"') for name, text in (rows() if pairs is None else pairs)]
    return "".join(delimiter.join(row) + "\r\n" for row in [("file", "caption"), *quoted]).encode()


TABLES = {
    "captions.csv": csv_table(),
    "captions.tsv": csv_table(delimiter="\t"),
    "captions.jsonl": b"".join(json.dumps({"image": n, "text": t}).encode() + b"\n" for n, t in rows()),
    "captions.parquet": parquet_table(),
    "captions.json": coco_table(),
}
TEXTS = {f"{name.rpartition('.')[0]}.txt": "\n".join(texts).encode() for name, texts in CAPTIONS.items()}
JSONS = {
    f"{name.rpartition('.')[0]}.json": json.dumps({"caption": texts, "width": 3}).encode()
    for name, texts in CAPTIONS.items()
}


def captioned(src, **options):
    return FOLDER.captioned(Place(str(src), **options))


def distractors(src, shared=None, source=FOLDER):
    return source.distractors(Place(str(src)), Place(str(shared)) if shared else None)


def read(source, **options):
    return sorted(source.images(**options), key=lambda image: image.id)


def read_all(source):
    return sorted((i for s in source.shards() for i in source.images(s, set())), key=lambda image: image.id)


WANTED = [(f"folder/{name}", encoded(name), CAPTIONS[name]) for name in sorted(CAPTIONS)]


def facts(images):
    return [(image.id, image.data, image.captions) for image in images]


@pytest.mark.parametrize("captions", [*TABLES, "texts", "jsons"])
@pytest.mark.parametrize("form", ["folder", "zip", "tar", "tar.gz", "./tar"])
def test_the_same_images_are_the_same_in_every_form(tmp_path, form, captions):
    beside = {"texts": TEXTS, "jsons": JSONS}.get(captions) or {captions: TABLES[captions]}
    files = dict(sorted({**contents(), **beside}.items(), key=lambda item: item[1]))  # No order of names.
    if form == "folder":
        src = write(tmp_path / "photos", files)
    elif form == "zip":
        src = zipped(tmp_path / "p.zip", files)
    else:
        src = tarred(tmp_path / f"p.{form.removeprefix('./')}", files, "./" if form.startswith("./") else "")
    source = captioned(src)
    passed = PassedOver()
    found = read(source, passed=passed)
    assert facts(found) == WANTED
    assert {image.source for image in found} == {"folder"}
    assert source.count() == 3
    assert source.check() == []
    assert source.notes == []
    assert source.travels_bytes() == source.travels_bytes({"folder/3.webp"}) == 0
    assert passed[folder.UNNAMED] == 2
    others = distractors(src, src)
    assert facts(read_all(others)) == [(f"folder/{name}", encoded(name), ()) for name in sorted(ALL[3:])]
    assert sum(shard.images for shard in others.shards()) == 2
    described = source.describe()
    assert described["form"] == form.rpartition("/")[2].removesuffix(".gz")
    assert described["location"] == str(src)
    assert described == captioned(src).describe()


@pytest.mark.parametrize("form", ["zip", "tar", "tgz"])
def test_a_table_may_lie_beside_an_archive_whose_files_are_in_a_folder_of_its_name(tmp_path, form):
    files = {f"pics/{name}": data for name, data in contents().items()}
    src = (zipped if form == "zip" else tarred)(tmp_path / f"pics.{form}", files)
    write(tmp_path, {"pics.csv": TABLES["captions.csv"], "other.csv": b"x,y\n1,2\n"})
    assert facts(read(captioned(src))) == WANTED


def test_names_are_whole_where_not_all_lies_in_a_folder_of_the_archives_name(tmp_path):
    src = zipped(tmp_path / "cars.zip", {**contents(), "t.csv": csv_table()})
    assert facts(read(captioned(src))) == WANTED


def test_only_what_is_selected_is_read(tmp_path):
    src = write(tmp_path / "p", {**contents(), "t.csv": csv_table([*rows(), ("3.webp", ""), ("gone.jpg", "x")])})
    passed = PassedOver()
    assert facts(read(captioned(src), only={"folder/3.webp"}, passed=passed)) == WANTED[:1]
    assert passed == {"not selected": 2, folder.UNNAMED: 2}


def test_what_does_not_fit_together_is_told(tmp_path):
    pairs = [*rows(), ("gone.jpg", "A"), ("cars/gone too.jpg", "B"), ("3.webp", ""), ("../3.webp", "C")]
    src = write(tmp_path / "p", {**contents(), "t.csv": csv_table(pairs), "read.me": b"", ".hidden/6.jpg": b"x"})
    source = captioned(src)
    (doubt,) = source.check()
    table = src / "t.csv"
    assert doubt == (
        f"t.csv names images that {src} does not hold: {table}, line 8: there is no file gone.jpg, and 1 more."
    )
    assert source.notes == [f"2 rows of captions are not used; the first: {table}, line 10: the caption is empty."]
    passed = PassedOver()
    found = read(source, passed=passed)
    assert facts(image for image in found if not image.problem) == WANTED
    assert {image.id: image.problem for image in found if image.problem} == {
        "folder/cars/gone too.jpg": f"{table}, line 9: there is no file cars/gone too.jpg",
        "folder/gone.jpg": f"{table}, line 8: there is no file gone.jpg",
        "folder/t.csv, bad row 1": f"{table}, line 10: the caption is empty",
        "folder/t.csv, bad row 2": f"{table}, line 11: ../3.webp leads out of the folder of the images; names are "
        "relative to it",
    }
    assert passed == {"hidden files": 1, "files that are no images": 1, folder.UNNAMED: 2}
    assert source.count() == 3


def test_images_with_too_few_captions_are_neither_used_nor_distractors(tmp_path):
    src = write(tmp_path / "p", {**contents(), "t.csv": csv_table()})
    source = FOLDER.captioned(Place(str(src), fewest_captions=2))
    passed = PassedOver()
    assert [image.id for image in read(source, passed=passed)] == ["folder/3.webp", "folder/cars/1.jpg"]
    assert passed[folder.FEWER] == 1
    assert source.describe()["stamp"] != captioned(src).describe()["stamp"]
    assert [image.id for image in read_all(distractors(src, src))] == ["folder/bikes/5.jpeg", "folder/cars/4.gif"]
    with pytest.raises(SourceError, match=r"no image of .* has 9 captions\nLower captioned.fewest_captions"):
        FOLDER.captioned(Place(str(src), fewest_captions=9)).check()


NAMES = {
    "without their folders": ("1.jpg", "cars/1.jpg"),
    "with folders above": ("data/photos/cars/1.jpg", "cars/1.jpg"),
    "from Windows": (r"cars\1.jpg", "cars/1.jpg"),
    "in another case": ("Cars/1.JPG", "cars/1.jpg"),
    "without an ending": ("1", "cars/1.jpg"),
    "decomposed": ("bikes/e\u0301.jpg", "bikes/\xe9.jpg"),
}


@pytest.mark.parametrize("case", NAMES)
def test_names_of_a_table_find_their_files(tmp_path, case):
    stated, name = NAMES[case]
    src = write(tmp_path / "p", {**contents(), "bikes/\xe9.jpg": b"x", "t.csv": csv_table([(stated, "A car")])})
    assert [(image.id, image.captions) for image in read(captioned(src))] == [(f"folder/{name}", ("A car",))]


def test_a_folder_is_no_other_whose_name_ends_alike(tmp_path):
    src = write(tmp_path / "p", {**contents(["oldcars/1.jpg"]), "t.csv": csv_table([("cars/1.jpg", "A car")])})
    with pytest.raises(SourceError, match=r"it names files such as cars/1\.jpg, and the images are such as oldcars"):
        captioned(src).check()


def test_names_that_may_mean_several_files_or_the_same_one_are_refused(tmp_path):
    files = contents(["a/1.jpg", "b/1.jpg", "c/2.jpg"])
    table = csv_table([("1.jpg", "A"), ("c/2.jpg", "B"), ("2.jpg", "C"), ("b/1.jpg", "D"), ("d/1.jpg", "E")])
    found = read(captioned(write(tmp_path / "p", {**files, "t.csv": table})))
    assert [image.id for image in found if not image.problem] == ["folder/b/1.jpg", "folder/c/2.jpg"]
    problems = [image.problem.partition(": ")[2] for image in found if image.problem]
    assert problems == [
        "1.jpg may be any of 2 files: a/1.jpg, b/1.jpg; it must say the folder, too",
        "2.jpg means the same file as c/2.jpg",
        "there is no file d/1.jpg",
    ]


def test_images_whose_names_differ_in_case_alone_are_refused(tmp_path):
    src = zipped(tmp_path / "p.zip", {**contents(["a/1.jpg"]), "A/1.JPG": b"x", "t.csv": csv_table([("1.jpg", "A")])})
    with pytest.raises(SourceError, match=r"holds A/1\.JPG and a/1\.jpg, which differ in case or accents alone"):
        captioned(src).check()
    with pytest.raises(SourceError, match="differ in case"):
        distractors(src).shards()


def test_what_leads_out_of_an_archive_is_not_read(tmp_path):
    files = {**contents(), "../6.jpg": encoded("6.jpg"), "/7.jpg": encoded("7.jpg"), "t.csv": csv_table()}
    for src in (zipped(tmp_path / "p.zip", files), tarred(tmp_path / "p.tar", files)):
        passed = PassedOver()
        assert facts(read(captioned(src), passed=passed)) == WANTED
        assert passed["names that lead out of the archive"] == 2
        assert len(read_all(distractors(src, src))) == 2


def test_a_member_twice_is_refused(tmp_path):
    src = tarred(tmp_path / "p.tar", {**contents(["1.jpg"]), "./1.jpg": b"x", "t.csv": b""})
    with pytest.raises(SourceError, match=r"p\.tar holds 1\.jpg twice"):
        captioned(src).check()
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        archive.writestr("1.jpg", b"x")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("1.jpg", b"x")
    with pytest.raises(SourceError, match=r"p\.zip holds 1\.jpg twice"):
        captioned(tmp_path / "p.zip").check()


NOTHING = {
    "no images": ({"t.csv": csv_table()}, {}, "holds no images; found: t.csv\nImages end in .jpg"),
    "no captions": (contents(), {}, "holds no captions\nExpected a table of file names and captions"),
    "two tables": (
        {**contents(), "a.csv": csv_table(), "b.csv": csv_table()},
        {},
        "which of 2 files holds the captions of .* is not clear: a.csv, b.csv\nName it in the preset: captioned.table",
    ),
    "no such table": (
        {**contents(), "a.csv": b""},
        {"captions": "b.csv"},
        "there is no b.csv, neither beside the preset nor",
    ),
    "other images": (
        {**contents(), "t.csv": csv_table([("x.jpg", "A")])},
        {},
        r"t.csv has captions of no image in .*: it names files such as x.jpg, and the images are such as 3.webp",
    ),
}


@pytest.mark.parametrize("case", NOTHING)
def test_a_location_without_captioned_images_is_refused(tmp_path, case):
    files, options, message = NOTHING[case]
    with pytest.raises(SourceError, match=message):
        captioned(write(tmp_path / "p", files), **options).check()


def test_a_file_that_is_no_archive_is_refused(tmp_path):
    src = write(tmp_path, {"t.csv": csv_table()}) / "t.csv"
    with pytest.raises(SourceError, match=r"t\.csv is neither a folder nor a zip or tar"):
        captioned(src)
    with pytest.raises(SourceError, match="there is no folder"):
        captioned(tmp_path / "gone")
    with pytest.raises(SourceError, match=r"t\.csv is no tar"):
        WEBDATASET.captioned(Place(str(src)))


def test_a_table_is_found_where_it_is_said_to_be(tmp_path):
    src = write(
        tmp_path / "p", {**contents(), "a.csv": csv_table([("3.webp", "A")]), "b.csv": csv_table([("1.jpg", "B")])}
    )
    outside = write(tmp_path, {"c.csv": csv_table([("2.png", "C")])}) / "c.csv"
    for name, wanted in (("a.csv", "A"), ("b.csv", "B"), (str(outside), "C"), (outside.as_uri(), "C")):
        assert [image.captions for image in read(captioned(src, captions=name))] == [(wanted,)]
    archive = zipped(
        tmp_path / "p.zip", {f"p/{name}": data for name, data in {**contents(), "t.csv": csv_table()}.items()}
    )
    for name in ("p/t.csv", "t.csv"):
        assert facts(read(captioned(archive, captions=name))) == WANTED
    assert [image.captions for image in read(captioned(archive, captions="c.csv"))] == [("C",)]


def test_captions_beside_images_are_preferred_if_it_is_said(tmp_path):
    src = write(tmp_path / "p", {**contents(), **TEXTS, "t.csv": csv_table([("3.webp", "A")])})
    assert [image.captions for image in read(captioned(src))] == [("A",)]
    assert facts(read(captioned(src, captions="beside"))) == WANTED
    write(src, {"stats.json": b"{}"})
    assert facts(read(captioned(src))) == WANTED


def test_odd_captions_beside_images_are_told(tmp_path):
    texts = {
        "1.txt": b"\n \n",
        "2.txt": b"\xff",
        "3.txt": b"\xef\xbb\xbfA\r\n\r\nA\r\nB\r\n",
        "4.json": b"{",
        "5.json": b'{"url": "x"}',
        "6.json": b'{"text": ["C", 3]}',
        "7.txt": b"",
        "7.json": b'"D"',
    }
    src = write(tmp_path / "p", {**contents([f"{number}.jpg" for number in range(1, 8)]), **texts})
    source = captioned(src)
    found = read(source)
    assert [(image.id, image.captions) for image in found if not image.problem] == [
        ("folder/3.jpg", ("A", "B")),
        ("folder/6.jpg", ("C",)),
        ("folder/7.jpg", ("D",)),
    ]
    assert [(image.id, image.problem.partition(": ")[2][:30]) for image in found if image.problem] == [
        ("folder/1.jpg, bad row 1", "the caption is empty"),
        ("folder/2.jpg, bad row 2", "its .txt cannot be read: 'utf-"),
        ("folder/4.jpg, bad row 3", "its .json cannot be read: Expe"),
        ("folder/6.jpg, bad row 4", "the caption is no text but 3"),
        ("folder/7.jpg, bad row 5", "the caption is empty"),
    ]
    assert [image.id for image in read_all(distractors(src, src))] == ["folder/5.jpg"]
    write(src, {"3.png": b""})
    with pytest.raises(SourceError, match=r"3\.txt lies beside two images"):
        captioned(src).check()


def test_a_change_of_a_caption_or_an_image_changes_what_is_described(tmp_path):
    src = write(tmp_path / "p", {**contents(), "t.csv": csv_table()})
    first = captioned(src).describe()
    write(src, {"t.csv": csv_table() + b"\r\n"})
    assert captioned(src).describe() == first
    write(src, {"t.csv": csv_table([*rows(), ("cars/2.png", "New")])})
    second = captioned(src).describe()
    assert second["stamp"] != first["stamp"]
    write(src, {"t.csv": csv_table([*rows(), ("cars/2.png", "New"), ("cars/1.jpg", "")])})
    assert captioned(src).describe()["stamp"] not in (first["stamp"], second["stamp"])
    write(src, {"t.csv": csv_table([*rows(), ("cars/2.png", "New")]), "3.webp": b"other"})
    assert captioned(src).describe()["stamp"] not in (first["stamp"], second["stamp"])


def test_a_tar_that_was_written_again_is_read_again(tmp_path):
    src = tarred(tmp_path / "p.tar", {**contents(), "t.csv": csv_table()})
    first = captioned(src).describe()["stamp"]
    assert captioned(src).describe()["stamp"] == first
    os.utime(src, (1, 1))
    assert captioned(src).describe()["stamp"] != first


def test_distractors_of_another_place_cannot_be_taken_for_captioned_ones(tmp_path):
    src = write(tmp_path / "p", {**contents(), "t.csv": csv_table()})
    other = write(tmp_path / "q", contents(["3.webp"]))
    assert [image.id for image in read_all(distractors(other, src))] == ["folder-distractors/3.webp"]
    assert [image.id for image in read_all(distractors(other))] == ["folder/3.webp"]


@pytest.mark.parametrize("way", ["above", "below"])
def test_captioned_images_are_no_distractors_of_a_folder_above_or_below(tmp_path, way):
    whole = write(tmp_path / "p", {**contents(), "cars/t.csv": csv_table([("1.jpg", "A")])})
    if way == "above":
        found = read_all(distractors(whole, whole / "cars"))
        assert [image.id for image in found] == [
            f"folder-distractors/{name}" for name in sorted({*ALL} - {"cars/1.jpg"})
        ]
    else:
        found = read_all(distractors(whole / "cars", whole))
        assert [image.id for image in found] == ["folder-distractors/2.png", "folder-distractors/4.gif"]


def test_shards_are_folders_and_pieces_of_big_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "PIECE", 4)
    names = ["a/1.jpg", "b/1.jpg", "b/2.jpg", "b/c/1.jpg", *(f"d/{n}.jpg" for n in range(9)), "e/1.jpg", "top.jpg"]
    src = write(tmp_path / "p", {name: b"x" * number for number, name in enumerate(names)})
    source = distractors(src)
    shards = source.shards()
    assert [(shard.name, shard.images) for shard in shards] == [
        (". to b", 4),
        ("b/c", 1),
        ("d from 0.jpg", 4),
        ("d from 4.jpg", 4),
        ("d from 8.jpg", 1),
        ("e", 1),
    ]
    assert [(shard.split, shard.class_index, shard.travels_bytes) for shard in shards] == [("", -1, 0)] * 6
    assert sum(shard.size_bytes for shard in shards) == sum(range(len(names)))
    assert [image.id for image in read_all(source)] == sorted(f"folder/{name}" for name in names)
    write(src, {"d/5.jpg": b"changed"})
    now = distractors(src).shards()
    assert [old.fingerprint() == new.fingerprint() for old, new in zip(shards, now)] == [
        True,
        True,
        True,
        False,
        True,
        True,
    ]


def test_two_images_that_change_places_change_their_shard(tmp_path):
    src = write(tmp_path / "p", {"1.jpg": b"one", "2.jpg": b"another"})
    (first,) = distractors(src).shards()
    write(src, {"1.jpg": b"another", "2.jpg": b"one"})
    (now,) = distractors(src).shards()
    assert now.size_bytes == first.size_bytes
    assert now.fingerprint() != first.fingerprint()


def test_a_tar_is_one_shard(tmp_path):
    src = tarred(tmp_path / "p.tar.gz", contents())
    (shard,) = distractors(src).shards()
    assert (shard.name, shard.images) == ("p", 5)
    assert shard.stamp


def test_no_distractors_are_none():
    source = NONE.distractors(Place(), None)
    assert source.shards(set()) == []
    assert source.describe() == {"form": "none"}
    assert list(source.images(None, set())) == []


def samples(keys, prefix=""):
    files = {}
    for key in keys:
        files[f"{prefix}{key}.jpg"] = encoded(f"{key}.jpg")
        if int(key) % 3:
            files[f"{prefix}{key}.txt"] = f"Sample {key}\nAgain {key}".encode()
        files[f"{prefix}{key}.json"] = b'{"width": 3}'
    return files


@pytest.fixture
def tars(tmp_path):
    root = tmp_path / "tars"
    (root / "more").mkdir(parents=True)
    tarred(root / "00000.tar", samples("1234"))
    tarred(root / "00001.tar.gz", samples("567"), "./")
    tarred(root / "more" / "00000.tar", samples("89"))
    return root


KEYS = ["00000/1", "00000/2", "00000/4", "00001/5", "00001/7", "more/00000/8"]


@pytest.mark.parametrize("source", ["webdataset", "folder"])
def test_samples_of_tars_are_images_with_captions(tars, source):
    kind = {"webdataset": WEBDATASET, "folder": FOLDER}[source]
    opened = kind.captioned(Place(str(tars)))
    passed = PassedOver()
    found = read(opened, passed=passed)
    assert facts(found) == [
        (f"{source}/{key}", encoded(f"{key[-1]}.jpg"), (f"Sample {key[-1]}", f"Again {key[-1]}")) for key in KEYS
    ]
    assert {image.source for image in found} == {source}
    assert passed == {folder.UNNAMED: 3}
    assert opened.check() == []
    assert opened.count() is None
    assert opened.describe()["files"] == ["00000.tar", "00001.tar.gz", "more/00000.tar"]
    assert [image.id for image in read(opened, only={f"{source}/00001/7"})] == [f"{source}/00001/7"]
    others = kind.distractors(Place(str(tars)), Place(str(tars)))
    assert [shard.name for shard in others.shards()] == ["00000", "00001", "more/00000"]
    assert [image.id for image in read_all(others)] == [
        f"{source}/{key}" for key in ("00000/3", "00001/6", "more/00000/9")
    ]


def test_a_sample_is_what_stands_before_the_first_dot(tmp_path):
    src = tarred(tmp_path / "x.tar", {"1.orig.png": encoded("1.png"), "1.orig.txt": b"", "1.txt": b"A car"})
    (image,) = WEBDATASET.captioned(Place(str(src))).images()
    assert (image.id, image.captions) == ("webdataset/x/1", ("A car",))


def test_one_tar_of_samples_has_its_stem(tars):
    opened = WEBDATASET.captioned(Place(str(tars / "more" / "00000.tar")))
    assert [image.id for image in read(opened)] == ["webdataset/00000/8"]


def test_samples_of_another_place_are_all_distractors(tars, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(tars / "00000.tar", other)
    found = read_all(distractors(other, tars, WEBDATASET))
    assert [image.id for image in found] == [f"webdataset-distractors/00000/{key}" for key in "1234"]
    assert {image.captions for image in found} == {()}
    assert [image.id for image in read_all(distractors(other, None, WEBDATASET))] == [
        f"webdataset/00000/{key}" for key in "1234"
    ]


def test_captions_of_samples_that_cannot_be_used_are_told(tmp_path):
    files = {**samples("12"), "4.jpg": b"x", "4.json": b'{"caption": "A", "alt": "B"}', "5.jpg": b"x", "5.txt": b"\xff"}
    src = tarred(tmp_path / "p.tar", files)
    opened = WEBDATASET.captioned(Place(str(src), fewest_captions=2))
    passed = PassedOver()
    found = read(opened, passed=passed)
    assert [image.id for image in found] == ["webdataset/p/1", "webdataset/p/2", "webdataset/p/5, bad caption 1"]
    assert found[-1].problem.startswith(f"{src}, sample 5: its .txt cannot be read: ")
    assert passed == {folder.FEWER: 1}
    by_key = read(WEBDATASET.captioned(Place(str(src), caption_column="alt")))
    assert ("webdataset/p/4", ("B",)) in [(image.id, image.captions) for image in by_key]


def test_tars_that_are_none_are_refused(tmp_path):
    write(tmp_path / "p", {"a.tar": b""})
    with pytest.raises(SourceError, match=r"a\.tar is empty"):
        WEBDATASET.captioned(Place(str(tmp_path / "p"))).check()
    with pytest.raises(SourceError, match=r"holds no tars; found: x\.txt"):
        WEBDATASET.captioned(Place(str(write(tmp_path / "q", {"x.txt": b""})))).check()
    src = tarred(tmp_path / "c.tar", {"a.jpg": b"x", "a.txt": b"A", "A.jpg": b"x", "A.txt": b"B"})
    with pytest.raises(SourceError, match="holds the samples a and A, which differ in case alone"):
        read(WEBDATASET.captioned(Place(str(src))))
    src = write(tmp_path / "q", {"a.tar": src.read_bytes(), "t.csv": csv_table()})
    with pytest.raises(SourceError, match=r"holds tars of samples, whose captions lie inside them; t\.csv cannot"):
        captioned(src, captions="t.csv")


@pytest.fixture
def bucket(tmp_path):
    """A folder behind an address, in memory."""
    import fsspec

    system = fsspec.filesystem("memory")
    root = f"memory://own/{tmp_path.name}"
    yield lambda files: [system.pipe_file(f"{root}/{name}", data) for name, data in files.items()] and root
    system.rm("/own", recursive=True)


def test_images_behind_an_address_travel_alone(bucket):
    root = bucket({**contents(), "t.csv": csv_table()})
    source = captioned(root)
    assert facts(read(source)) == WANTED
    assert source.check() == []
    sizes = {f"folder/{name}": len(encoded(name)) for name in ALL}
    assert source.travels_bytes() == sum(sizes[f"folder/{name}"] for name in CAPTIONS)
    assert source.travels_bytes(0.5) == round(source.travels_bytes() / 2)
    assert source.travels_bytes({"folder/3.webp", "folder/cars/4.gif"}) == sizes["folder/3.webp"]
    others = distractors(root, root)
    assert [image.id for image in read_all(others)] == ["folder/bikes/5.jpeg", "folder/cars/4.gif"]
    assert sum(s.travels_bytes for s in others.shards()) == sizes["folder/bikes/5.jpeg"] + sizes["folder/cars/4.gif"]


def test_archives_behind_an_address(bucket, tmp_path):
    files = {**contents(), "t.csv": csv_table()}
    plain, packed = tarred(tmp_path / "p.tar", files), tarred(tmp_path / "p.tgz", files)
    archive = zipped(tmp_path / "p.zip", files)
    root = bucket({path.name: path.read_bytes() for path in (plain, packed, archive)})
    for name in ("p.tar", "p.zip"):
        source = captioned(f"{root}/{name}")
        assert facts(read(source)) == WANTED
        assert source.describe()["location"].endswith(f"/{name}")
    assert captioned(f"{root}/p.tar").travels_bytes(0.1) == plain.stat().st_size
    assert captioned(f"{root}/p.zip").travels_bytes({"folder/3.webp"}) < archive.stat().st_size
    with pytest.raises(SourceError, match=r"p\.tgz cannot be listed without reading all of it, since it is packed"):
        captioned(f"{root}/p.tgz").check()


def test_samples_behind_an_address(bucket, tmp_path):
    tar = tarred(tmp_path / "00000.tar.gz", samples("124"))
    opened = WEBDATASET.captioned(Place(bucket({"00000.tar.gz": tar.read_bytes()})))
    assert [image.id for image in read(opened)] == [f"webdataset/00000/{key}" for key in "124"]
    assert opened.travels_bytes() == opened.travels_bytes({"x"}) == tar.stat().st_size
