"""The gate: every violation that `verify` promises to report, one damaged set each, and nothing else is reported."""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import re
import shutil
import struct
import zlib
from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from small_set import jpeg, provenance, small_set

from mteb_vehicle_search.errors import DataNotFoundError
from mteb_vehicle_search.eval_set.schema import CorpusImage, ImagePolicy, Qrel, Query, Rejected, content_id, images_id
from mteb_vehicle_search.eval_set.verify import Violation, verify

SIDE_PX = 32  # The short side of the small set's images, so each is as large as it may be.
CORPUS, QUERIES, QRELS, PROVENANCE = (
    f"{part}/test-00000-of-00001.parquet" for part in ("corpus", "queries", "qrels", "provenance")
)
REJECTED = "rejected.parquet"
FIRST, SECOND, LAST = "flickr30k/0000", "flickr30k/0001", "imagenet/train/n0002"


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Five images, four queries, two rejects."""
    refused = [Rejected("flickr30k/8", "captioned", "empty file"), Rejected("flickr30k/9", "captioned", "truncated")]
    folder = tmp_path_factory.mktemp("sound") / "set"
    small_set(folder, captioned=2, distractors=3, policy=ImagePolicy(shortest_side_px=SIDE_PX), rejected=refused)
    return folder


@pytest.fixture
def folder(sound, tmp_path):
    """A copy that a test may damage."""
    return Path(shutil.copytree(sound, tmp_path / "set"))


def manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest."""
    path = folder / "manifest.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def sealed(folder: Path) -> None:
    """Make the manifest agree with what lies there, so that only the damage itself is left to be found."""

    def agree(content: dict[str, Any]) -> None:
        for name in content["files"]:
            data = (folder / name).read_bytes()
            content["files"][name] = {"bytes": len(data), "sha256": sha256(data).hexdigest()}
        tables = {}
        for name in (CORPUS, QUERIES, QRELS, PROVENANCE, REJECTED):
            try:
                tables[name.partition("/")[0].removesuffix(".parquet")] = pq.read_table(folder / name).to_pylist()
            except pa.ArrowException:
                continue
        content["counts"] |= {part: len(rows) for part, rows in tables.items() if part != "provenance"}
        if "source" in tables.get("provenance", [{}])[0]:
            content["counts"]["sources"] = Counter(row["source"] for row in tables["provenance"])
        for key, digest in (("images_id", jpegs_of), ("sources_id", sources_of)):
            with contextlib.suppress(KeyError, TypeError):
                content[key] = images_id(digest(tables))
        with contextlib.suppress(KeyError, TypeError):  # Else there is nothing to agree with.
            content["content_id"] = content_id(
                [row["id"] for row in tables["corpus"]],
                [Query(row["id"], row["text"]) for row in tables["queries"]],
                [Qrel(row["query-id"], row["corpus-id"], row["score"]) for row in tables["qrels"]],
                ImagePolicy(**content["policy"]),
            )

    manifest(folder, agree)


def jpegs_of(tables: dict[str, list[dict[str, Any]]]) -> list[tuple[str, str]]:
    return [(row["id"], sha256(row["image"]["bytes"] or b"").hexdigest()) for row in tables["corpus"]]


def sources_of(tables: dict[str, list[dict[str, Any]]]) -> list[tuple[str, str]]:
    return [(row["corpus-id"], row["sha256"]) for row in tables["provenance"]]


def rows(name: str, change: Callable[[list[dict[str, Any]]], object]) -> Callable[[Path], None]:
    """Change the rows of a table, under a manifest that agrees."""

    def spoil(folder: Path) -> None:
        table = pq.read_table(folder / name)
        content = table.to_pylist()
        change(content)
        pq.write_table(pa.Table.from_pylist(content, schema=table.schema), folder / name)
        sealed(folder)

    return spoil


def columns(name: str, change: Callable[[pa.Table], pa.Table]) -> Callable[[Path], None]:
    """Change the columns of a table, under a manifest that agrees."""

    def spoil(folder: Path) -> None:
        pq.write_table(change(pq.read_table(folder / name)), folder / name)
        sealed(folder)

    return spoil


def bytes_of(name: str, change: Callable[[bytes], bytes], agree: bool = False) -> Callable[[Path], None]:
    """Change the bytes of a file; the manifest agrees only if asked."""

    def spoil(folder: Path) -> None:
        (folder / name).write_bytes(change((folder / name).read_bytes()))
        if agree:
            sealed(folder)

    return spoil


def image(data: bytes | None, number: int = 1) -> Callable[[Path], None]:
    """Put other bytes in place of an image."""
    return rows(CORPUS, lambda table: table[number]["image"].update(bytes=data))


def encoded(mode: str = "RGB", size: tuple[int, int] = (40, SIDE_PX), form: str = "JPEG") -> bytes:
    file = io.BytesIO()
    Image.new(mode, size).save(file, form)
    return file.getvalue()


def bomb() -> bytes:
    """A PNG of a few bytes whose header promises 3.6 billion pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def swap(table: list) -> None:
    table[0], table[1] = table[1], table[0]


def without(key: str) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.drop_columns([key])


def as_type(key: str, kind: pa.DataType) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.set_column(table.column_names.index(key), key, pa.nulls(len(table), kind))


def copied_file(name: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / QUERIES, folder / name)

    return spoil


def repeated_image(times: int) -> Callable[[Path], None]:
    """Let an image stand several times, in the corpus and in its provenance."""

    def repeat(table: list) -> None:
        table[1:1] = [dict(table[1]) for _ in range(times - 1)]

    def spoil(folder: Path) -> None:
        rows(CORPUS, repeat)(folder)
        rows(PROVENANCE, repeat)(folder)

    return spoil


def swapped_images(folder: Path) -> None:
    rows(CORPUS, swap)(folder)
    rows(PROVENANCE, swap)(folder)


def a_folder_instead(folder: Path) -> None:
    (folder / "README.md").unlink()
    (folder / "README.md").mkdir()


class Damage(NamedTuple):
    """What is done to the set, and all that must be reported: (where, how the words begin)."""

    spoil: Callable[[Path], object]
    reported: list[tuple[str, str]]


DAMAGES = {
    # Files.
    "same size, other bytes": Damage(
        bytes_of("README.md", lambda data: data.replace(b"Vehicle", b"vehicle")),
        [("README.md", "has another sha256 than the manifest says")],
    ),
    "a sha256 in the manifest": Damage(
        lambda folder: manifest(folder, lambda m: m["files"][REJECTED].update(sha256="0" * 64)),
        [(REJECTED, "has another sha256 than the manifest says")],
    ),
    "a longer file": Damage(
        bytes_of("README.md", lambda data: b"longer" * 200), [("README.md", "has 1200 bytes instead of ")]
    ),
    "a size in the manifest": Damage(
        lambda folder: manifest(folder, lambda m: m["files"][QUERIES].update(bytes=7)),
        [(QUERIES, "has ")],
    ),
    "a missing file": Damage(lambda folder: (folder / "README.md").unlink(), [("README.md", "is missing")]),
    "a folder in place of a file": Damage(a_folder_instead, [("README.md", "is missing")]),
    "several files": Damage(
        lambda folder: [
            (folder / "README.md").unlink(),
            manifest(folder, lambda m: m["files"][QUERIES].update(sha256="0" * 64)),
        ],
        [("README.md", "is missing"), (QUERIES, "has another sha256 than the manifest says")],
    ),
    "a file more in a part": Damage(
        copied_file("corpus/test-00001-of-00002.parquet"),
        [("corpus/test-00001-of-00002.parquet", "is not in the manifest")],
    ),
    "a file more beside them": Damage(copied_file("more.parquet"), [("more.parquet", "is not in the manifest")]),
    "a file more far below": Damage(copied_file("a/b/c.parquet"), [("a/b/c.parquet", "is not in the manifest")]),
    # Parts that cannot be read at all.
    "garbled corpus": Damage(
        bytes_of(CORPUS, lambda data: b"PAR1" + bytes(len(data)), agree=True),
        [("corpus", "cannot be read: "), (Path(CORPUS).name, "images cannot be read: ")],
    ),
    "garbled queries": Damage(bytes_of(QUERIES, lambda data: b"?", agree=True), [("queries", "cannot be read: ")]),
    "garbled qrels": Damage(bytes_of(QRELS, lambda data: b"", agree=True), [("qrels", "cannot be read: ")]),
    "garbled provenance": Damage(
        bytes_of(PROVENANCE, lambda data: data[:-9], agree=True), [("provenance", "cannot be read: ")]
    ),
    "garbled rejects": Damage(bytes_of(REJECTED, lambda data: b"?", agree=True), [("rejected", "cannot be read: ")]),
    "rejects that are not there": Damage(
        lambda folder: [(folder / REJECTED).unlink(), manifest(folder, lambda m: m["files"].pop(REJECTED))],
        [("rejected", "cannot be read: ")],
    ),
    "a part without files": Damage(
        lambda folder: [(folder / QUERIES).unlink(), manifest(folder, lambda m: m["files"].pop(QUERIES))],
        [("queries", "cannot be read: ")],
    ),
    # Columns.
    "no images": Damage(columns(CORPUS, without("image")), [(CORPUS, "column 'image' is missing")]),
    "images that are no struct": Damage(
        columns(CORPUS, as_type("image", pa.binary())),
        [(CORPUS, "column 'image' holds binary instead of struct<bytes: binary, path: string>")],
    ),
    "no texts": Damage(columns(QUERIES, without("text")), [(QUERIES, "column 'text' is missing")]),
    "numbers as texts": Damage(
        columns(QUERIES, as_type("text", pa.int32())), [(QUERIES, "column 'text' holds int32 instead of string")]
    ),
    "no scores": Damage(columns(QRELS, without("score")), [(QRELS, "column 'score' is missing")]),
    "scores as text": Damage(
        columns(QRELS, as_type("score", pa.string())), [(QRELS, "column 'score' holds string instead of int64")]
    ),
    "no source": Damage(columns(PROVENANCE, without("source")), [(PROVENANCE, "column 'source' is missing")]),
    "no reasons": Damage(columns(REJECTED, without("reason")), [(REJECTED, "column 'reason' is missing")]),
    # Rows without a value.
    "an image without an id": Damage(
        rows(CORPUS, lambda table: table[4].update(id=None)), [("corpus", "rows in which a value is missing: 1")]
    ),
    "queries without a text": Damage(
        rows(QUERIES, lambda table: [table[0].update(text=None), table[3].update(text=None)]),
        [("queries", "rows in which a value is missing: 2")],
    ),
    "a judgement without a score": Damage(
        rows(QRELS, lambda table: table[0].update(score=None)), [("qrels", "rows in which a value is missing: 1")]
    ),
    "a provenance without an id": Damage(
        rows(PROVENANCE, lambda table: table[0].update({"corpus-id": None})),
        [("provenance", "rows in which a value is missing: 1")],
    ),
    "a reject without a reason": Damage(
        rows(REJECTED, lambda table: table[1].update(reason=None)),
        [("rejected", "rows in which a value is missing: 1")],
    ),
    # Order.
    "images in another order": Damage(swapped_images, [("corpus", "is not sorted by id")]),
    "queries in another order": Damage(rows(QUERIES, swap), [("queries", "is not sorted by id")]),
    "judgements in another order": Damage(rows(QRELS, swap), [("qrels", "is not sorted by id")]),
    "provenance in another order": Damage(
        rows(PROVENANCE, swap), [("provenance", "its ids are not those of the corpus, in order; differing: []")]
    ),
    # Ids that stand several times.
    "an image twice": Damage(repeated_image(2), [("corpus", f"id {SECOND!r} stands 2 times")]),
    "an image three times": Damage(repeated_image(3), [("corpus", f"id {SECOND!r} stands 3 times")]),
    "a query twice": Damage(
        rows(QUERIES, lambda table: table.insert(1, {**table[0], "text": "another"})),
        [("queries", "id '0000_caption_00' stands 2 times")],
    ),
    "a judgement twice": Damage(
        rows(QRELS, lambda table: table.insert(1, {**table[0], "score": 2})),
        [("qrels", f"id ('0000_caption_00', {FIRST!r}) stands 2 times")],
    ),
    # What refers to what.
    "an unknown image": Damage(
        rows(QRELS, lambda table: table.append({**table[3], "corpus-id": "nowhere"})),
        [("qrels", "'0001_caption_01' points to unknown image 'nowhere'")],
    ),
    "an unknown query": Damage(
        rows(QRELS, lambda table: table.append({**table[3], "query-id": "nobody"})),
        [("qrels", "unknown query 'nobody'")],
    ),
    "score 0": Damage(
        rows(QRELS, lambda table: table[1].update(score=0)), [("qrels", "'0000_caption_01' has score 0")]
    ),
    "a negative score": Damage(
        rows(QRELS, lambda table: table[3].update(score=-1)), [("qrels", "'0001_caption_01' has score -1")]
    ),
    "queries without relevant images": Damage(
        rows(QRELS, lambda table: [table.pop(3), table.pop(0)]),
        [
            ("queries", "'0000_caption_00' has no relevant image"),
            ("queries", "'0001_caption_01' has no relevant image"),
        ],
    ),
    "an empty caption": Damage(
        rows(QUERIES, lambda table: table[3].update(text="")), [("queries", "'0001_caption_01' is empty")]
    ),
    "a blank caption": Damage(
        rows(QUERIES, lambda table: table[0].update(text=" \t\n")), [("queries", "'0000_caption_00' is empty")]
    ),
    "an image without provenance": Damage(
        rows(PROVENANCE, lambda table: table.pop()),
        [("provenance", f"its ids are not those of the corpus, in order; differing: ['{LAST}']")],
    ),
    "provenance without an image": Damage(
        rows(PROVENANCE, lambda table: table.append({**table[4], "corpus-id": "z"})),
        [("provenance", "its ids are not those of the corpus, in order; differing: ['z']")],
    ),
    "provenance of other images": Damage(
        rows(PROVENANCE, lambda table: [row.update({"corpus-id": f"a{n}"}) for n, row in enumerate(table)]),
        [("provenance", "its ids are not those of the corpus, in order; differing: ['a0', 'a1', 'a2']")],
    ),
    "no query": Damage(
        lambda folder: [rows(QRELS, lambda t: t.clear())(folder), rows(QUERIES, lambda t: t.clear())(folder)],
        [("queries", "has no row"), ("qrels", "has no row")],
    ),
    "a query whose id is empty": Damage(
        lambda folder: [
            rows(QUERIES, lambda t: t[0].update(id=""))(folder),
            rows(QRELS, lambda t: t[0].update({"query-id": ""}))(folder),
        ],
        [("queries", "id '' is empty or has control characters")],
    ),
    "an image whose id rings the bell": Damage(
        lambda folder: [
            rows(CORPUS, lambda t: t[4].update(id=LAST + "\a"))(folder),
            rows(PROVENANCE, lambda t: t[4].update({"corpus-id": LAST + "\a"}))(folder),
        ],
        [("corpus", f"id {LAST + chr(7)!r} is empty or has control characters")],
    ),
    # What the manifest says.
    **{
        f"another number of {part}": Damage(
            lambda folder, part=part: manifest(folder, lambda m: m["counts"].update({part: 3})),
            [("manifest.json", f"{part}: says 3 rows, the data has {held}")],
        )
        for part, held in (("corpus", 5), ("queries", 4), ("qrels", 4), ("rejected", 2))
    },
    "other sources": Damage(
        lambda folder: manifest(folder, lambda m: m["counts"].update(sources={"drawn": 5})),
        [("manifest.json", "sources: says {'drawn': 5}, the data has {'flickr30k': 2, 'imagenet': 3}")],
    ),
    "another content id": Damage(
        lambda folder: manifest(folder, lambda m: m.update(content_id="f" * 64)),
        [("manifest.json", f"content id {'f' * 64} but the data gives ")],
    ),
    "another policy": Damage(
        lambda folder: manifest(folder, lambda m: m["policy"].update(jpeg_quality=76)),
        [("manifest.json", "content id ")],
    ),
    "other images": Damage(
        lambda folder: manifest(folder, lambda m: m.update(images_id="f" * 64)),
        [("manifest.json", f"images_id {'f' * 64} but the data gives ")],
    ),
    "images of other sources": Damage(
        lambda folder: manifest(folder, lambda m: m.update(sources_id="f" * 64)),
        [("manifest.json", f"sources_id {'f' * 64} but the data gives ")],
    ),
    # Images.
    "no image": Damage(image(None), [(SECOND, "has no image")]),
    "an empty image": Damage(image(b"", 4), [(LAST, "has no image")]),
    "no image file": Damage(image(b"<html>"), [(SECOND, "does not decode: ")]),
    "a truncated image": Damage(image(jpeg(1)[:-20]), [(SECOND, "does not decode: ")]),
    "a damaged PNG": Damage(image(encoded(form="PNG").replace(b"IDAT", b"IDAX")), [(SECOND, "does not decode: ")]),
    "a decompression bomb": Damage(image(bomb()), [(SECOND, "does not decode: ")]),
    "a PNG": Damage(image(encoded(form="PNG")), [(SECOND, "is PNG RGB instead of JPEG RGB")]),
    "a grey image": Damage(image(encoded("L")), [(SECOND, "is JPEG L instead of JPEG RGB")]),
    "a CMYK image": Damage(image(encoded("CMYK"), 0), [(FIRST, "is JPEG CMYK instead of JPEG RGB")]),
    "an image that is too large": Damage(
        image(encoded(size=(40, SIDE_PX + 1))), [(SECOND, "is 40 x 33 px; the short side may have 32")]
    ),
    "a tall image that is too large": Damage(
        image(encoded(size=(33, 90)), 4), [(LAST, "is 33 x 90 px; the short side may have 32")]
    ),
    "several images": Damage(
        rows(CORPUS, lambda table: [table[n]["image"].update(bytes=b"?") for n in (0, 4)]),
        [(FIRST, "does not decode: "), (LAST, "does not decode: ")],
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damage_is_all_that_is_reported(folder, name):
    DAMAGES[name].spoil(folder)
    found = verify(folder, progress=False).violations
    wanted = DAMAGES[name].reported
    assert len(found) == len(wanted), found
    for violation, (where, what) in zip(found, wanted):
        assert violation.where == where
        assert violation.what.startswith(what)


@pytest.mark.parametrize(("name", "file"), [("garbled corpus", CORPUS), ("garbled qrels", QRELS)])
def test_what_cannot_be_read_is_said_with_its_file_and_the_reason(folder, name, file):
    DAMAGES[name].spoil(folder)
    (what, *_) = (violation.what for violation in verify(folder, progress=False).violations)
    assert what.startswith(f"cannot be read: {folder / file} cannot be read: ")
    assert "arquet" in what


def test_columns_are_looked_at_in_every_file_that_can_be_read(tmp_path):
    """A garbled file does not hide the next one, nor one that lacks two columns the second of them."""
    images = [CorpusImage(f"flickr30k/{n:04d}", jpeg(n), provenance(n, True)) for n in range(300)]
    given = {"queries": [Query("q", "text")], "qrels": [Qrel("q", "flickr30k/0000")], "rows_per_file": 128}
    small_set(tmp_path / "set", images=images, **given)
    names = [f"corpus/test-0000{n}-of-00003.parquet" for n in range(3)]
    (tmp_path / "set" / names[0]).write_bytes(b"PAR1")
    pq.write_table(pa.table({"else": [1]}), tmp_path / "set" / names[2])
    found = [
        violation for violation in verify(tmp_path / "set", progress=False).violations if "column" in violation.what
    ]
    assert found == [(names[2], "column 'id' is missing"), (names[2], "column 'image' is missing")]


def test_a_sound_set_has_no_violation(sound):
    found = verify(sound, progress=False)
    assert found.violations == []
    assert found.counts == {"corpus": 5, "queries": 4, "qrels": 4, "provenance": 5, "rejected": 2}
    assert found.content_id == json.loads((sound / "manifest.json").read_text(encoding="utf-8"))["content_id"]


@pytest.mark.parametrize(
    "spoil",
    [
        image(encoded(size=(SIDE_PX, 400))),  # Only the short side is bounded.
        image(encoded(size=(1, 1))),  # Nothing is enlarged.
        rows(QUERIES, lambda table: table[0].update(text=table[1]["text"])),
        rows(QRELS, lambda table: table.insert(1, {**table[0], "corpus-id": SECOND})),
        rows(REJECTED, lambda table: table.clear()),
        lambda folder: manifest(folder, lambda m: [m.pop(key) for key in ("images_id", "sources_id", "task_name")]),
        lambda folder: (folder / "notes.txt").write_text("mine", encoding="utf-8"),
        columns(PROVENANCE, lambda table: table.append_column("arm", pa.array(["far"] * 5))),
    ],
)
def test_what_the_contract_allows_is_no_violation(folder, spoil):
    spoil(folder)
    assert verify(folder, progress=False).violations == []


def test_the_content_id_is_that_of_the_data(folder):
    rows(QUERIES, lambda table: table[0].update(text="another text"))(folder)
    wanted = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["content_id"]
    manifest(folder, lambda m: m.update(content_id="f" * 64))
    assert verify(folder, progress=False).content_id == wanted


@pytest.mark.parametrize("name", ["garbled corpus", "garbled queries", "garbled qrels", "no images"])
def test_what_cannot_be_read_has_the_manifests_content_id(folder, name):
    DAMAGES[name].spoil(folder)
    manifest(folder, lambda m: m.update(content_id="f" * 64))
    found = verify(folder, progress=False)
    assert found.content_id == "f" * 64
    part = DAMAGES[name].reported[0][0].partition("/")[0]
    assert found.counts == {"corpus": 5, "queries": 4, "qrels": 4, "provenance": 5, "rejected": 2} | (
        {part: 0} if part in found.counts else {}
    )


def test_the_size_that_is_allowed_is_the_policys(folder):
    manifest(folder, lambda m: m["policy"].update(shortest_side_px=31))
    sealed(folder)
    found = verify(folder, progress=False).violations
    assert [v.what for v in found] == ["is 40 x 32 px; the short side may have 31"] * 5


@pytest.mark.parametrize(("side_px", "complaints"), [(160, 0), (161, 1)])
def test_a_policy_that_says_no_size_means_160_px(folder, side_px, complaints):
    image(encoded(size=(side_px, 200)))(folder)
    manifest(folder, lambda m: m["policy"].pop("shortest_side_px"))
    sealed(folder)
    assert len(verify(folder, progress=False).violations) == complaints


def test_images_of_every_batch_and_file_are_decoded(tmp_path):
    """More than a batch of the reader (128) and a round of the threads (1,024), over two files."""
    count = 1400
    small = encoded(size=(8, 8))
    ids = [f"flickr30k/{n:04d}" for n in range(count)]
    wrong = {0, 127, 128, 1023, 1024, 1151, 1152, 1279, 1280, count - 1}
    images = [CorpusImage(ids[n], b"?" if n in wrong else small, provenance(n, True)) for n in range(count)]
    queries, qrels = [Query("q", "text")], [Qrel("q", ids[0])]
    small_set(tmp_path / "set", images=images, queries=queries, qrels=qrels, rows_per_file=1280)
    assert len(list((tmp_path / "set" / "corpus").iterdir())) == 2
    found = verify(tmp_path / "set", progress=False)
    assert [v.where for v in found.violations] == [ids[n] for n in sorted(wrong)]
    assert found.counts["corpus"] == count


def test_a_file_that_breaks_off_is_named_and_the_others_are_decoded(tmp_path):
    images = [CorpusImage(f"flickr30k/{n:04d}", b"?", provenance(n, True)) for n in range(300)]
    queries, qrels = [Query("q", "text")], [Qrel("q", "flickr30k/0000")]
    small_set(tmp_path / "set", images=images, queries=queries, qrels=qrels, rows_per_file=128)
    (tmp_path / "set" / "corpus" / "test-00001-of-00003.parquet").write_bytes(b"PAR1")
    found = [tuple(v) for v in verify(tmp_path / "set", progress=False).violations]
    assert "test-00001-of-00003.parquet" in [where for where, what in found if what.startswith("images cannot be read")]
    decoded = [where for where, what in found if what.startswith("does not decode")]
    assert decoded == [f"flickr30k/{n:04d}" for n in (*range(128), *range(256, 300))]


def test_progress_is_shown_on_standard_error_if_asked(sound, capsys):
    assert inspect.signature(verify).parameters["progress"].default is True
    verify(sound)
    shown = capsys.readouterr()
    assert shown.err.lstrip("\r").startswith("verify: ")
    assert "5/5" in shown.err
    assert re.search(r"(?<![A-Za-z])image(?![A-Za-z])", shown.err)
    assert shown.out == ""
    verify(sound, progress=False)
    assert capsys.readouterr().err == ""


def test_a_folder_that_holds_no_set_is_an_error(tmp_path):
    with pytest.raises(DataNotFoundError):
        verify(tmp_path)


def test_a_violation_says_where_and_what():
    assert Violation("a", "b")._asdict() == {"where": "a", "what": "b"}
