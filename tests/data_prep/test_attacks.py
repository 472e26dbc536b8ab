"""Hostile and broken inputs through the command line: each ends in a row of rejects or in one exact message.

An attack spoils a copy of small, sound data. `says` is the whole message on standard error, or the rows of
`rejected.parquet`; `{data}` stands for the folder, an ellipsis for words of a library that change with its version.
No attack may leave a file outside the output, or a half-made output.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import format_twins
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_sources import without_warnings

from data_prep import cli
from data_prep.sources.imagenet.classes import wnids
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.files import locked, safe_name

FILES = format_twins.captioned_files(6)
CLASSED = format_twins.classed_files(2)
TRAIN = [file for file in CLASSED if file.split == "train" and file.class_index in format_twins.VEHICLES]
FIRST, SECOND = FILES[0].filename, FILES[1].filename
FIRST_ID = f"flickr30k/{FIRST[:-4]}"
CART, CAB = TRAIN[0], TRAIN[1]  # Of the first two wanted classes.
CART_WNID, CAB_WNID = wnids()[CART.class_index], wnids()[CAB.class_index]
CART_ID = f"imagenet/train/{CART.stem}"
EXPECTED_FLICKR30K = (
    "\nExpected a folder with flickr_annotations_30k.csv and flickr30k-images.zip, flickr30k-images/ or "
    "flickr30k-images.tar.gz, UIUC's or Kaggle's copy, or parquet files; a folder, a zip, or an address of https://, "
    "s3://, gs:// or hf://; or: hub"
)
EXPECTED_IMAGENET = (
    "\nExpected one of: the hub's shards (train-00000-of-00294.parquet ...), ILSVRC2012_img_train.tar with "
    "ILSVRC2012_img_val.tar and the devkit or val/<wnid>/, train/<wnid>/*.JPEG with val/<wnid>/*.JPEG, or with a flat "
    "val/ and the devkit or LOC_val_solution.csv (Kaggle's copy, unpacked or the zip), or webdataset tars; a folder, a "
    "zip, or an address of https://, s3://, gs:// or hf://; or: hub"
)
UNPACK = "Every wanted class must be there: unpack these again."
CSV, ZIP = "flickr30k/flickr_annotations_30k.csv", "flickr30k/flickr30k-images.zip"
IMAGE = f"flickr30k/flickr30k-images/{FIRST}"
TRAIN_TAR = "imagenet/ILSVRC2012_img_train.tar"
SHARD = "imagenet/data/train-00001-of-00003.parquet"
END = b"\xff\xd9"


class Attack(NamedTuple):
    """What is done to which forms of the sources, and how the build must answer."""

    spoil: Callable[[Path], object]
    says: str | list[tuple[str, str, str]]
    flickr30k: str = "folder"
    imagenet: str = "folders"
    arguments: tuple[str, ...] = ()


def replace_file(name: str, content: bytes | Callable[[bytes], bytes]) -> Callable[[Path], object]:
    """An attack that changes the bytes of one file."""

    def spoil(data: Path) -> None:
        path = data / name
        path.write_bytes(content(path.read_bytes()) if callable(content) else content)

    return spoil


def replace_text(name: str, old: str, new: str) -> Callable[[Path], object]:
    """An attack that changes the first `old` in a text file."""

    def change(before: bytes) -> bytes:
        assert old.encode() in before
        return before.replace(old.encode(), new.encode(), 1)

    return replace_file(name, change)


def zip_members(*members: tuple[str, bytes], mode: str = "a") -> Callable[[Path], object]:
    """An attack that adds members to the zip."""

    def spoil(data: Path) -> None:
        with zipfile.ZipFile(data / ZIP, mode, zipfile.ZIP_DEFLATED) as archive:
            for name, content in members:
                archive.writestr(name, content)

    return spoil


def change_table(name: str, change: Callable[[pa.Table], pa.Table]) -> Callable[[Path], object]:
    """An attack that writes a parquet file anew."""

    def spoil(data: Path) -> None:
        pq.write_table(change(pq.read_table(data / name)), data / name)

    return spoil


def set_column(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)


def first_image(table: pa.Table, **fields: object) -> pa.Table:
    """The table with other fields in the image of its first wanted row."""
    rows = table.column("image").to_pylist()
    labels = table.column("label").to_pylist() if "label" in table.column_names else [CART.class_index] * len(rows)
    row = next(i for i, label in enumerate(labels) if label in format_twins.VEHICLES)
    rows[row] = {**rows[row], **fields}
    return set_column(table, "image", pa.array(rows, table.schema.field("image").type))


def png_bomb(width: int, height: int) -> bytes:
    """A small PNG whose header promises many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


def jpeg_bomb(data: bytes) -> bytes:
    """The JPEG with a header that promises 65,000 x 65,000 pixels."""
    start = data.index(b"\xff\xc0") + 5
    return data[:start] + struct.pack(">HH", 65_000, 65_000) + data[start + 4 :]


def huge_file(data: Path) -> None:
    """A file that a terabyte would fit in, sparse."""
    with (data / IMAGE).open("r+b") as file:
        file.truncate(1 << 40)


def link_to_itself(data: Path) -> None:
    (data / IMAGE).unlink()
    (data / IMAGE).symlink_to(FIRST)


def damaged_member(data: Path) -> None:
    """The zip written anew, one member with another byte than its checksum says."""
    with zipfile.ZipFile(data / ZIP) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(data / ZIP, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    content = FILES[0].data
    replace_file(ZIP, lambda before: before.replace(content, content[:-1] + b"\x00"))(data)


def inner_tar(add: Callable[[tarfile.TarFile], object]) -> Callable[[Path], object]:
    """An attack that adds members to the inner tar of CART's class."""

    def spoil(data: Path) -> None:
        outer: dict[str, bytes] = {}
        with tarfile.open(data / TRAIN_TAR) as tar:
            for member in tar:
                stream = tar.extractfile(member)
                assert stream is not None
                outer[member.name] = stream.read()
        inner = io.BytesIO(outer[f"{CART_WNID}.tar"])
        with tarfile.open(fileobj=inner, mode="a") as tar:
            add(tar)
        outer[f"{CART_WNID}.tar"] = inner.getvalue()
        with tarfile.open(data / TRAIN_TAR, "w") as tar:
            for name, content in outer.items():
                add_member(tar, name, content)

    return spoil


def add_member(tar: tarfile.TarFile, name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, len(content), "/etc/passwd" if kind != tarfile.REGTYPE else ""
    tar.addfile(info, io.BytesIO(content))


def without_inner_tar(data: Path) -> None:
    with tarfile.open(data / TRAIN_TAR, "w") as tar:
        add_member(tar, f"{CAB_WNID}.tar", b"")


def other_things(data: Path) -> None:
    (data / "out").mkdir()
    (data / "out" / "thesis.tex").write_text("years of work", encoding="utf-8")


def full_disk(name: str) -> Callable[[Path], object]:
    """An attack that makes the file system refuse to write one file of the work folder, as a full disk does."""

    def spoil(data: Path) -> None:
        path = data / "out.build" / name
        path.parent.mkdir(parents=True)
        path.symlink_to("/dev/full")

    return spoil


def empty_class(data: Path) -> None:
    for path in (data / "imagenet" / "val" / CAB_WNID).iterdir():
        path.unlink()


def second_of_an_id(data: Path) -> None:
    """Another image of the same name, in another shard."""
    change = lambda t: first_image(t, path=f"{CART.stem}_{CART_WNID}.JPEG")  # noqa: E731
    for number in range(3):
        name = f"imagenet/data/train-{number:05d}-of-00003.parquet"
        paths = [item["path"] for item in pq.read_table(data / name).column("image").to_pylist()]
        if not any(path.startswith(CART.stem) for path in paths):
            table = pq.read_table(data / name)
            labels = table.column("label").to_pylist()
            row = next(i for i, label in enumerate(labels) if label in format_twins.VEHICLES)
            labels[row] = CART.class_index
            pq.write_table(set_column(change(table), "label", pa.array(labels)), data / name)
            return


NOT_FROM_HERE = {
    "names that point out of the zip": Attack(
        zip_members(
            (f"../../{SECOND}", b"evil"),
            (f"/tmp/{SECOND}", b"evil"),
            (f"..\\..\\{SECOND}", b"evil"),
            ("flickr30k-images/../../escaped.jpg", b"evil"),
            (f"__MACOSX/._{SECOND}", b"evil"),
        ),
        [],
        "zip",
    ),
    "a column more, and a byte order mark": Attack(
        replace_file(CSV, lambda text: b"\xef\xbb\xbf" + text.replace(b"img_id", b"img_id,licence", 1)), []
    ),
    "a foreign class folder": Attack(
        lambda data: shutil.copytree(data / "imagenet/val" / CAB_WNID, data / "imagenet/train/dogs"), []
    ),
}

IMAGES = {
    "a truncated JPEG": Attack(
        replace_file(IMAGE, lambda good: good[: len(good) // 2]),
        [(FIRST_ID, "captioned", "truncated: the file ends before the image does")],
    ),
    "a JPEG whose data end early": Attack(
        replace_file(IMAGE, lambda good: good[: len(good) // 2] + END),
        [(FIRST_ID, "captioned", "damaged: Corrupt JPEG data: premature end of data segment")],
    ),
    "a web page named .jpg": Attack(
        replace_file(IMAGE, b"<html>404 Not Found</html>"),
        [(FIRST_ID, "captioned", "not an image: begins with b'<html>40'")],
    ),
    "an empty file": Attack(replace_file(IMAGE, b""), [(FIRST_ID, "captioned", "empty file")]),
    "a PNG bomb": Attack(
        replace_file(IMAGE, png_bomb(10_000, 9_000)),
        [(FIRST_ID, "captioned", "too many pixels: 10000 x 9000 = 90,000,000, the limit is 89,478,485")],
    ),
    "a JPEG bomb": Attack(
        replace_file(IMAGE, jpeg_bomb), [(FIRST_ID, "captioned", "too many pixels: the limit is 89,478,485")]
    ),
    "a file of a terabyte": Attack(huge_file, [(FIRST_ID, "captioned", "too many bytes: the limit is 67,108,864")]),
    "a link to itself": Attack(
        link_to_itself, [(FIRST_ID, "captioned", "cannot be read: Too many levels of symbolic links")]
    ),
    "a zip bomb": Attack(
        lambda data: (
            (data / ZIP).unlink(),
            zip_members(
                (f"flickr30k-images/{FIRST}", bytes(80_000_000)),
                *((f"flickr30k-images/{file.filename}", file.data) for file in FILES[1:]),
            )(data),
        ),
        [(FIRST_ID, "captioned", "too many bytes: the limit is 67,108,864")],
        "zip",
    ),
    "a damaged zip member": Attack(
        damaged_member,
        [
            (
                FIRST_ID,
                "captioned",
                f"zip member flickr30k-images/{FIRST} is damaged: Bad CRC-32 for file 'flickr30k-images/{FIRST}'",
            )
        ],
        "zip",
    ),
    "an empty caption": Attack(
        replace_text(CSV, json.dumps(FILES[0].captions[1]).replace('"', '""'), '"" ""'),
        [(FIRST_ID, "captioned", "caption 2 is empty")],
    ),
    "a parquet row without an image": Attack(
        change_table("flickr30k/0000.parquet", lambda table: first_image(table, bytes=None)),
        [(FIRST_ID, "captioned", "empty file")],
        "parquet",
    ),
    "a damaged distractor": Attack(
        replace_file(f"imagenet/train/{CART_WNID}/{CART.stem}.JPEG", b"\xff\xd8\xff\xe0" + bytes(200)),
        [(CART_ID, "distractors", r"not an image: begins with b'\xff\xd8\xff\xe0\x00\x00\x00\x00'")],
    ),
    "a stray file in a class folder": Attack(
        lambda data: (data / "imagenet/train" / CART_WNID / "README.txt").write_text("x", encoding="utf-8"),
        [
            (
                f"imagenet/train/{CART_WNID}/README.txt",
                "distractors",
                "'README.txt' is not the name of an ImageNet image",
            )
        ],
    ),
    "an image in the folder of another class": Attack(
        lambda data: shutil.copy(
            data / "imagenet/train" / CART_WNID / f"{CART.stem}.JPEG", data / "imagenet/train" / CAB_WNID
        ),
        [
            (
                f"imagenet/train/{CAB_WNID}/{CART.stem}.JPEG",
                "distractors",
                f"the name '{CART.stem}.JPEG' says class {CART_WNID}, the label says {CAB_WNID}",
            )
        ],
    ),
    "a link in an inner tar": Attack(
        inner_tar(lambda tar: add_member(tar, f"{CART_WNID}_7.JPEG", kind=tarfile.SYMTYPE)),
        [(f"imagenet/train/{CART_WNID}_7", "distractors", "is a link or a device in the tar, not a file")],
        imagenet="tar",
    ),
    "a path in an inner tar": Attack(
        inner_tar(lambda tar: add_member(tar, "../../../escaped.jpg", b"evil")),
        [
            (
                f"imagenet/train/{CART_WNID}/escaped.jpg",
                "distractors",
                "'../../../escaped.jpg' is not the name of an ImageNet image",
            )
        ],
        imagenet="tar",
    ),
    "an id that stands in two shards": Attack(
        second_of_an_id,
        [(CART_ID, "export", "the id stands twice; the first is in distractors/train-…")],
        imagenet="shards",
    ),
}

CONTAINERS = {
    "a missing image": Attack(
        lambda data: (data / IMAGE).unlink(),
        f"{{data}}/flickr30k/flickr30k-images has no {FIRST}, but flickr_annotations_30k.csv names it\n"
        "Unpack the images again: an unpacking may have been interrupted.",
    ),
    "a zip without an image": Attack(
        zip_members(("flickr30k-images/x.jpg", b""), mode="w"),
        f"{{data}}/{ZIP} has no {FIRST}, but flickr_annotations_30k.csv names it, and 5 others like it\n"
        "Get the zip and the captions file that belong together.",
        "zip",
    ),
    "a zip member that stands twice": Attack(
        zip_members((f"other/{FIRST}", b"evil")),
        f"{{data}}/{ZIP} holds {FIRST} twice: as flickr30k-images/{FIRST} and as other/{FIRST}\n"
        "Which one is meant is unknown: get the zip again.",
        "zip",
    ),
    "a web page instead of a zip": Attack(
        replace_file(ZIP, b"<html>Log in to download</html>"),
        f"{{data}}/{ZIP} is not a readable zip: its end is missing, as of an unfinished download\n"
        "Download the zip again.",
        "zip",
    ),
    "a zip cut short": Attack(
        replace_file(ZIP, lambda good: good[:-2000]),
        f"{{data}}/{ZIP} is not a readable zip: its end is missing, as of an unfinished download\n"
        "Download the zip again.",
        "zip",
    ),
    "a CSV without a column": Attack(
        replace_text(CSV, "filename", "file"),
        f"{{data}}/{CSV} has no column filename; it has raw, sentids, split, file, img_id{EXPECTED_FLICKR30K}",
    ),
    "captions that are no JSON": Attack(
        replace_text(CSV, '"[""', '"['),
        f"{{data}}/{CSV}, line 2: column raw is not a JSON list: …{EXPECTED_FLICKR30K}",
    ),
    "captions nested without end": Attack(
        replace_text(CSV, '"[""', '"' + "[" * 100_000 + '""'),
        f"{{data}}/{CSV}, line 2: column raw is not a JSON list: …{EXPECTED_FLICKR30K}",
    ),
    "four captions": Attack(
        replace_text(CSV, json.dumps(FILES[0].captions[0]).replace('"', '""') + ", ", ""),
        f"{{data}}/{CSV}, line 2: {FIRST} does not have five captions but […{EXPECTED_FLICKR30K}",
    ),
    "a path as a file name": Attack(
        replace_text(CSV, FIRST, "../../etc/passwd.jpg"),
        f"{{data}}/{CSV}, line 2: '../../etc/passwd.jpg' is not the name of a JPEG file{EXPECTED_FLICKR30K}",
    ),
    "an unknown split": Attack(
        replace_text(CSV, ",train,", ",holdout,"),
        f"{{data}}/{CSV}, line 2: split 'holdout' is none of train, val, test{EXPECTED_FLICKR30K}",
    ),
    "an image named twice": Attack(
        replace_text(CSV, SECOND, FIRST), f"{{data}}/{CSV}, line 3: {FIRST} stands twice{EXPECTED_FLICKR30K}"
    ),
    "a CSV that is not UTF-8": Attack(
        replace_file(CSV, lambda good: good.replace(SECOND.encode(), b"caf\xe9.jpg")),
        f"{{data}}/{CSV}, line 3: not UTF-8: invalid continuation byte{EXPECTED_FLICKR30K}",
    ),
    "a CSV field without end": Attack(
        replace_text(CSV, '"[""', '"' + "x" * 200_000),
        f"{{data}}/{CSV} is not a CSV file: field larger than field limit (131072){EXPECTED_FLICKR30K}",
    ),
    "a CSV of headings": Attack(
        replace_file(CSV, lambda good: good.splitlines(keepends=True)[0]),
        f"{{data}}/{CSV} has no rows{EXPECTED_FLICKR30K}",
    ),
    "a parquet file of another layout": Attack(
        change_table("flickr30k/0000.parquet", lambda t: set_column(t, "image", pa.array([b"x"] * t.num_rows))),
        f"{{data}}/flickr30k/0000.parquet: column image is binary, not a struct with bytes{EXPECTED_FLICKR30K}",
        "parquet",
    ),
    "a parquet file cut short": Attack(
        replace_file("flickr30k/0001.parquet", lambda good: good[:-2000]),
        "{data}/flickr30k/0001.parquet is damaged: …\nDownload the file again.",
        "parquet",
    ),
    "a label out of range": Attack(
        change_table(SHARD, lambda t: set_column(t, "label", pa.array([1000] * t.num_rows))),
        f"{{data}}/{SHARD}, row 0: label 1000 is no ImageNet-1k class\nDelete the file and get it again.",
        imagenet="shards",
    ),
    "a shard of another layout": Attack(
        change_table(SHARD, lambda t: set_column(t, "label", t.column("label").cast(pa.string()))),
        f"{{data}}/{SHARD} is not in the hub's layout: image (struct<bytes: binary, path: string>), label (string)"
        f"{EXPECTED_IMAGENET}",
        imagenet="shards",
    ),
    "a shard cut short": Attack(
        replace_file(SHARD, lambda good: good[:-100]),
        f"{{data}}/{SHARD} is damaged: …\nDelete the file and get it again.",
        imagenet="shards",
    ),
    "a missing shard": Attack(
        lambda data: (data / SHARD).unlink(),
        "{data}/imagenet/data lacks 1 of the train shards: 1\nDownload them as well.",
        imagenet="shards",
    ),
    "a training tar cut short": Attack(
        replace_file(TRAIN_TAR, lambda good: good[: len(good) // 2]),
        f"{{data}}/{TRAIN_TAR} is damaged: unexpected end of data\nGet the file again.",
        imagenet="tar",
    ),
    "a missing inner tar": Attack(
        without_inner_tar,
        f"{{data}}/{TRAIN_TAR} lacks 9 of the inner tars: {CART_WNID}.tar, …\nIt may be cut short; get it again.",
        imagenet="tar",
    ),
    "no devkit": Attack(
        lambda data: (data / "imagenet/ILSVRC2012_devkit_t12.tar.gz").unlink(),
        "{data}/imagenet has no ILSVRC2012_validation_ground_truth.txt, without which the classes of its validation "
        "images are unknown\nPut ILSVRC2012_devkit_t12.tar.gz or LOC_val_solution.csv there, or sort the images into "
        "val/<wnid>/.",
        imagenet="tar_devkit_packed",
    ),
    "a devkit cut short": Attack(
        replace_file("imagenet/ILSVRC2012_devkit_t12.tar.gz", lambda good: good[: len(good) // 2]),
        "{data}/imagenet/ILSVRC2012_devkit_t12.tar.gz is damaged: …\nGet the file again.",
        imagenet="tar_devkit_packed",
    ),
    "an empty class folder": Attack(
        empty_class, f"in {{data}}/imagenet/val there are no images in {CAB_WNID}\n{UNPACK}"
    ),
    "a missing class folder": Attack(
        lambda data: shutil.rmtree(data / "imagenet/val" / CAB_WNID),
        f"{{data}}/imagenet/val has no class folder {CAB_WNID}\n{UNPACK}",
    ),
}

SETTINGS = {
    "an unknown key in a preset": Attack(
        replace_text("twins.toml", "[captioned]", "[captioned]\ncapitons = 3"),
        "{data}/twins.toml: unknown key 'capitons' in [captioned].\nKnown keys there: "
        "caption_column, captions, fewest_captions, file_column, location, source, table.",
    ),
    "a preset from the web": Attack(
        lambda data: None,
        "There is no preset 'https://example.org/p.toml'.\n"
        "Shipped presets: clusters, million, mini, mini-million, original, wordnet; or give a .toml file.",
        arguments=("--preset", "https://example.org/p.toml"),
    ),
    "a class set from the web": Attack(
        replace_text("twins.toml", "twins.tsv", "https://example.org/twins.tsv"),
        "There is no class set {data}/https:/example.org/twins.tsv.\n"
        "Shipped class sets: orig49, wordnet; or name a .tsv file.",
    ),
    "a classifier from the web": Attack(
        lambda data: (
            (data / "twins.toml")
            .open("a", encoding="utf-8")
            .write(
                '[classifier]\nlibrary = "transformers"\nmodel = "https://example.org/evil"\n'
                f'revision = "{"0" * 40}"\n[selection]\nclasses = "orig49"\nshare = 0.5\n'
            )
        ),
        "{data}/twins.toml: classifier.model must be a folder beside the preset, or a name on the hub such as "
        "owner/name; 'https://example.org/evil' is neither.",
    ),
    "a class set that is not UTF-8": Attack(
        replace_file("twins.tsv", lambda good: good + b"\xff\xfe"), "{data}/twins.tsv is not a table in UTF-8: …."
    ),
    "a class set with another numbering": Attack(
        replace_text("twins.tsv", CART_WNID, "n01440764"),
        f"{{data}}/twins.tsv, line 2: class {CART.class_index} of ImageNet-1k is {CART_WNID}, not n01440764.\n"
        "Classes are numbered 0 to 999 in the order of their WordNet ids.",
    ),
    "an image as the list": Attack(
        replace_file("list.txt", FILES[0].data),
        "{data}/list.txt is not a list of file names: invalid start byte at byte 0.\n"
        "Expected one name such as 1000092795.jpg per line, or a CSV with the column document_id.",
    ),
    "paths in the list": Attack(
        replace_file("list.txt", b"../../etc/passwd\n"),
        "{data}/list.txt: '../../etc/passwd' is not a file name.\nExpected one name such as 1000092795.jpg per line.",
    ),
    "an output that holds other things": Attack(
        other_things,
        "{data}/out holds other things, which a build would delete: thesis.tex.\n"
        "Give --out a folder that does not exist yet.",
    ),
    "an output that is a file": Attack(
        lambda data: (data / "out").write_bytes(b"mine"),
        "{data}/out is not a folder.\nGive --out a folder that does not exist yet.",
    ),
    "a disk that is full": Attack(
        full_disk("captioned/part-00000.partial"),
        "the disk is full (No space left on device).\n"
        "Free some space and run the same command again; finished work is kept.",
    ),
    "a disk that is full for a marker": Attack(
        full_disk(f"stages/distractors/{safe_name(f'train/{CAB_WNID}')}.json.partial"),
        "the disk is full (No space left on device).\n"
        "Free some space and run the same command again; finished work is kept.",
    ),
}

ATTACKS = {**NOT_FROM_HERE, **IMAGES, **CONTAINERS, **SETTINGS}


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Small sources in all forms that attacks use, a preset, and the list of the captioned images."""
    folder = tmp_path_factory.mktemp("sound")
    for form in {attack.flickr30k for attack in ATTACKS.values()}:
        format_twins.write_flickr30k(folder / "flickr30k" / form, form, FILES)
    for form in {attack.imagenet for attack in ATTACKS.values()}:
        format_twins.write_imagenet(folder / "imagenet" / form, form, CLASSED)
    return folder


def build(data: Path, *arguments: str) -> int:
    """Run the command on the data in a folder that `lay_out` made."""
    options = [
        "--preset",
        "twins.toml",
        "--selection",
        "list.txt",
        "--flickr30k",
        "flickr30k",
        "--imagenet",
        "imagenet",
    ]
    options = [option if option.startswith("--") else str(data / option) for option in options]
    return cli.main(
        ["build", *options, "--out", str(data / "out"), "--workers", "2", "--allow-rejects", "--quiet", *arguments]
    )


def lay_out(sound: Path, data: Path, attack: Attack) -> None:
    shutil.copytree(sound / "flickr30k" / attack.flickr30k, data / "flickr30k")
    shutil.copytree(sound / "imagenet" / attack.imagenet, data / "imagenet")
    format_twins.write_preset(data)
    (data / "list.txt").write_text("".join(f"{file.filename}\n" for file in FILES), encoding="utf-8")


@pytest.fixture(scope="module")
def unspoilt(sound, tmp_path_factory):
    """The build that nobody attacked."""
    data = tmp_path_factory.mktemp("unspoilt") / "data"
    lay_out(sound, data, Attack(lambda data: None, []))
    assert build(data) == 0
    return EvalSet.open(data / "out")


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks(sound, unspoilt, tmp_path, capsys, name):
    attack, data = ATTACKS[name], tmp_path / "data"
    if "full" in name and not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    lay_out(sound, data, attack)
    attack.spoil(data)
    before = everything(tmp_path)
    status = build(data, *attack.arguments)
    if isinstance(attack.says, str):
        error = without_warnings(capsys.readouterr().err)
        assert matches(error, f"error: {attack.says}\n".replace("{data}", str(data))), error
        assert status == 1
        assert not (data / "out" / "manifest.json").exists()
    else:
        assert status == 0, capsys.readouterr().err
        eval_set = EvalSet.open(data / "out")
        rows = [tuple(row.values()) for row in eval_set.rejected().to_pylist()]
        assert len(rows) == len(attack.says)
        for row, expected in zip(rows, sorted(attack.says)):
            assert row[:2] == expected[:2]
            assert matches(row[2], expected[2]), row[2]
        lost = {row[0] for row in attack.says} & set(unspoilt.corpus_ids())
        assert (eval_set.content_id == unspoilt.content_id) == (not lost)
        assert name == "an id that stands in two shards" or not lost & set(eval_set.corpus_ids())
    made = {path for path in everything(tmp_path) - before if not path.startswith(("data/out/", "data/out.build"))}
    assert made <= {"data/out"}


def test_the_attacks_are_many():
    assert len(ATTACKS) >= 15


def test_a_second_build_at_the_same_place_is_told(sound, tmp_path, capsys):
    lay_out(sound, tmp_path / "data", Attack(lambda data: None, []))
    with locked(tmp_path / "data" / "out.build"):
        assert build(tmp_path / "data") == 1
    told = without_warnings(capsys.readouterr().err)
    assert told.startswith(f"error: Another build is working on {tmp_path}/data/out.build (process {os.getpid()} on ")
    assert "\nWait for it to finish, or give --out another folder. " in told
    assert build(tmp_path / "data") == 0


def everything(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def matches(text: str, expected: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, expected.split("…"))), text, re.DOTALL) is not None
