"""The evaluation set: a folder with corpus, queries, qrels and their provenance.

The folder is a valid hub dataset (configs `corpus`, `queries`, `qrels`), so plain `datasets` and mteb's stock
loader read it as well. Everything is sorted by id and written deterministically; `verification.py` checks it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mteb_vehicle_search.errors import DataNotFoundError, EvalSetError

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT_VERSION = 1
ROWS_PER_GROUP = 128
BUILD_HINT = (
    "Build it with 'vehicle-search-data build' (needs access to Flickr30k and ImageNet-1k), see\n"
    "'vehicle-search-data build --dry-run' for what that takes; or point VEHICLE_SEARCH_DATA at an existing\n"
    "evaluation set. Without data, 'mteb run -t VehicleImageSearchMini -m vehicle-search/tiny-clip' works now."
)


@dataclass(frozen=True)
class ImagePolicy:
    """How images were reduced: part of the content id.

    Attributes:
        shortest_side_px: Length of the shorter side after the resize, in pixels; images are never enlarged.
        resample: Name of Pillow's resampling filter.
        jpeg_quality: Quality that Pillow's JPEG encoder was given (1-95).
    """

    shortest_side_px: int = 160
    resample: str = "bicubic"
    jpeg_quality: int = 75


class CorpusImage(NamedTuple):
    """One image of the corpus: id, JPEG bytes, and a provenance row (keys of `provenance_schema`, no None)."""

    id: str
    jpeg: bytes
    provenance: dict[str, Any]


class Query(NamedTuple):
    """One text query."""

    id: str
    text: str


class Qrel(NamedTuple):
    """A relevance judgement: `corpus_id` answers `query_id`."""

    query_id: str
    corpus_id: str
    score: int = 1


class Rejected(NamedTuple):
    """An input that was left out: its source id, the stage that refused it, and why."""

    id: str
    stage: str
    reason: str


def _schemas() -> dict[str, pa.Schema]:
    import pyarrow as pa

    text, whole, real = pa.string(), pa.int32(), pa.float32()
    image = pa.struct([("bytes", pa.binary()), ("path", text)])
    features = {
        "id": {"dtype": "string", "_type": "Value"},
        "image": {"mode": "RGB", "_type": "Image"},
    }
    corpus = pa.schema([("id", text), ("image", image)]).with_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )
    provenance = pa.schema(
        [
            ("corpus-id", text),
            ("source", text),
            ("split", text),
            ("captioned", pa.bool_()),
            ("class_index", whole),
            ("wnid", text),
            ("class_name", text),
            ("vehicle_score", real),
            ("width", whole),
            ("height", whole),
            ("sha256", text),
            ("perceptual_hash", text),
        ]
    )
    return {
        "corpus": corpus,
        "queries": pa.schema([("id", text), ("text", text)]),
        "qrels": pa.schema([("query-id", text), ("corpus-id", text), ("score", pa.int64())]),
        "provenance": provenance,
        "rejected": pa.schema([("id", text), ("stage", text), ("reason", text)]),
    }


def provenance_schema() -> pa.Schema:
    """Return the columns of the provenance table.

    `source` names the data set; `split` is "" if unknown; `class_index` is -1 and `wnid`, `class_name` are "" for
    images without a class; `vehicle_score` is the summed probability of the vehicle classes, -1 if not classified;
    `width`, `height` are the original size in pixels; `sha256` (hex) is of the source's bytes; `perceptual_hash` is
    16 hexadecimal digits.
    """
    return _schemas()["provenance"]


def content_id(corpus_ids: Iterable[str], queries: Iterable[Query], qrels: Iterable[Qrel], policy: ImagePolicy) -> str:
    """Return the sha256 (64 hex digits) that identifies what an evaluation set asks and searches.

    It covers the format version, the image policy, and the sorted corpus ids, queries and qrels; not the bytes of the
    images, so that it is the same on every machine.
    """
    digest = hashlib.sha256()

    def add(*fields: object) -> None:
        digest.update(json.dumps(fields, ensure_ascii=True, separators=(",", ":")).encode() + b"\n")

    add("format", FORMAT_VERSION)
    add("policy", *asdict(policy).values())
    for corpus_id in sorted(corpus_ids):
        add("corpus", corpus_id)
    for query in sorted(queries):
        add("query", *query)
    for qrel in sorted(qrels):
        add("qrel", *qrel)
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


class EvalSet:
    """An evaluation set on disk, opened by reading its manifest only.

    Attributes:
        folder: Where it lies.
        manifest: The parsed `manifest.json`.
    """

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        self.folder = folder
        self.manifest = manifest

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> EvalSet:
        """Open the evaluation set in `folder`.

        Raises:
            DataNotFoundError: There is no manifest.
            EvalSetError: The manifest is damaged or of another format version.
        """
        folder = Path(folder)
        path = folder / "manifest.json"
        if not path.is_file():
            raise DataNotFoundError(f"No evaluation set in {folder} (no manifest.json there).", BUILD_HINT)
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
            version = manifest["format_version"]
            if missing := {"content_id", "name", "files", "policy"} - set(manifest):
                raise KeyError(*sorted(missing))
        except (ValueError, KeyError, TypeError) as error:
            raise EvalSetError(f"{path} is not a manifest: {error!r}.", BUILD_HINT) from error
        if version != FORMAT_VERSION:
            raise EvalSetError(
                f"{path} has format version {version}; this package reads {FORMAT_VERSION}.",
                "Install the matching version of mteb-vehicle-search, or rebuild the evaluation set.",
            )
        return cls(folder, manifest)

    @property
    def content_id(self) -> str:
        """The sha256 that names this evaluation set (see `content_id()`)."""
        return self.manifest["content_id"]

    @property
    def name(self) -> str:
        """Short name, from the preset."""
        return self.manifest["name"]

    @property
    def policy(self) -> ImagePolicy:
        """How the images were reduced."""
        return ImagePolicy(**self.manifest["policy"])

    def files(self, part: str) -> list[Path]:
        """Return the parquet files of `part` ("corpus", "queries", "qrels", "provenance"), in order."""
        return [self.folder / name for name in sorted(self.manifest["files"]) if name.startswith(part + "/")]

    def table(self, part: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Return a whole part as one table; do not use it for the images of a large corpus.

        Raises:
            EvalSetError: A file is missing or damaged.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        tables = []
        for path in self.files(part):
            try:
                tables.append(pq.read_table(path, columns=list(columns) if columns else None))
            except (OSError, pa.ArrowException) as error:
                hint = f"See 'vehicle-search-data verify {self.folder}'."
                raise EvalSetError(f"{path} cannot be read: {error}", hint) from error
        if not tables:
            raise EvalSetError(f"{self.folder} has no {part} files.", BUILD_HINT)
        return pa.concat_tables(tables)

    def corpus_ids(self) -> list[str]:
        """Return the ids of all images, sorted."""
        return self.table("corpus", ["id"])["id"].to_pylist()

    def queries(self) -> list[Query]:
        """Return all queries, sorted by id."""
        table = self.table("queries")
        return [Query(*row) for row in zip(table["id"].to_pylist(), table["text"].to_pylist())]

    def qrels(self) -> list[Qrel]:
        """Return all relevance judgements, sorted."""
        table = self.table("qrels")
        return [Qrel(*row) for row in zip(*(table[c].to_pylist() for c in ("query-id", "corpus-id", "score")))]

    def provenance(self) -> pa.Table:
        """Return one row per image, in the order of `corpus_ids()`; columns of `provenance_schema()`."""
        return self.table("provenance")

    def rejected(self) -> pa.Table:
        """Return the inputs that were left out: `id`, `stage`, `reason`."""
        import pyarrow.parquet as pq

        return pq.read_table(self.folder / "rejected.parquet")

    def sources(self) -> list[str]:
        """Return the source of each image, in the order of `corpus_ids()`."""
        return self.table("provenance", ["source"])["source"].to_pylist()

    @cached_property
    def _reader(self) -> _ImageReader:
        return _ImageReader(self.files("corpus"))

    @cached_property
    def _position(self) -> dict[str, int]:
        return {corpus_id: i for i, corpus_id in enumerate(self.corpus_ids())}

    def jpeg(self, corpus_id: str) -> bytes:
        """Return the JPEG bytes of one image.

        Raises:
            KeyError: No such image.
        """
        return self._reader[self._position[corpus_id]]

    def jpeg_at(self, index: int) -> bytes:
        """Return the JPEG bytes of the image at `index` in the order of `corpus_ids()`."""
        return self._reader[index]

    def images(self) -> Iterator[tuple[str, bytes]]:
        """Yield (id, JPEG bytes) of all images in order, one row group in memory at a time."""
        for index, corpus_id in enumerate(self.corpus_ids()):
            yield corpus_id, self._reader[index]


class _ImageReader:
    """Random access to the JPEG bytes, with the row group in use kept in memory."""

    def __init__(self, paths: list[Path]) -> None:
        import pyarrow.parquet as pq

        self._groups: list[tuple[Path, int]] = []
        self._starts: list[int] = []
        row = 0
        for path in paths:
            metadata = pq.read_metadata(path)
            for group in range(metadata.num_row_groups):
                self._groups.append((path, group))
                self._starts.append(row)
                row += metadata.row_group(group).num_rows
        self._cached: tuple[int, Any] = (-1, None)

    def __getitem__(self, index: int) -> bytes:
        import pyarrow.parquet as pq

        group = bisect_right(self._starts, index) - 1
        held, column = self._cached
        if held != group:
            path, number = self._groups[group]
            with pq.ParquetFile(path) as file:
                table = file.read_row_group(number, columns=["image"])
            column = table["image"].combine_chunks().field("bytes")
            # One assignment, so that threads reading at once see a consistent pair.
            self._cached = (group, column)
        return column[index - self._starts[group]].as_py()


def write_eval_set(
    folder: str | os.PathLike[str],
    *,
    name: str,
    title: str,
    images: Iterable[CorpusImage],
    queries: Iterable[Query],
    qrels: Iterable[Qrel],
    rejected: Iterable[Rejected] = (),
    policy: ImagePolicy = ImagePolicy(),
    card: str = "",
    preset: dict[str, Any] | None = None,
    notes: dict[str, Any] | None = None,
    rows_per_file: int = 8192,
) -> EvalSet:
    """Write an evaluation set; the folder appears only when it is complete.

    Args:
        folder: Target; an evaluation set already there is replaced at the end.
        name: Short name, such as "vehicle-image-search".
        title: Title of the dataset card.
        images: The corpus, sorted by id; consumed as a stream.
        queries: The queries, in any order.
        qrels: The judgements, in any order.
        rejected: What was left out and why.
        policy: How the images were reduced.
        card: Body of the dataset card, Markdown.
        preset: What the set was made of, JSON, for the manifest.
        notes: Counts, duplicates, comparison with the published set, JSON, for the manifest.
        rows_per_file: Images per corpus file; a multiple of `ROWS_PER_GROUP` keeps row groups full.

    Returns:
        The set, opened.

    Raises:
        EvalSetError: Ids are unsorted or stand twice, or a judgement names an unknown id.
    """
    folder = Path(folder).absolute()
    partial = folder.with_name(f".{folder.name}.partial")
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    queries, qrels, rejected = sorted(queries), sorted(qrels), sorted(rejected)
    ids, sources = _write_images(partial, images, rows_per_file)
    _check_judgements(ids, queries, qrels)
    _write_table(partial / "queries" / "test-00000-of-00001.parquet", "queries", queries)
    _write_table(partial / "qrels" / "test-00000-of-00001.parquet", "qrels", qrels)
    _write_table(partial / "rejected.parquet", "rejected", rejected)
    (partial / "README.md").write_text(_card(title, card), encoding="utf-8", newline="\n")
    files = {
        path.relative_to(partial).as_posix(): {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
        for path in sorted(partial.rglob("*"))
        if path.is_file()
    }
    manifest = {
        "format_version": FORMAT_VERSION,
        "name": name,
        "title": title,
        "content_id": content_id(ids, queries, qrels, policy),
        "bytes_id": hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest(),
        "policy": asdict(policy),
        "counts": {
            "corpus": len(ids),
            "queries": len(queries),
            "qrels": len(qrels),
            "rejected": len(rejected),
            "sources": dict(sorted(sources.items())),
        },
        "preset": preset or {},
        "notes": notes or {},
        "files": files,
    }
    text = json.dumps(manifest, indent=2, ensure_ascii=False, allow_nan=False, sort_keys=True)
    (partial / "manifest.json").write_text(text + "\n", encoding="utf-8", newline="\n")
    _replace(partial, folder)
    return EvalSet.open(folder)


def _write_images(partial: Path, images: Iterable[CorpusImage], rows_per_file: int) -> tuple[list[str], dict]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schemas = _schemas()
    ids: list[str] = []
    sources: dict[str, int] = {}
    paths: list[Path] = []
    provenance: list[dict[str, Any]] = []
    (partial / "corpus").mkdir()
    batch: list[CorpusImage] = []
    writer: pq.ParquetWriter | None = None
    rows = 0

    def flush() -> None:
        nonlocal writer, rows
        if not batch:
            return
        if writer is None:
            paths.append(partial / "corpus" / f"part-{len(paths):05d}.parquet")
            # JPEG does not compress further.
            writer = pq.ParquetWriter(paths[-1], schemas["corpus"], compression="none")
        struct = [{"bytes": image.jpeg, "path": None} for image in batch]
        writer.write_table(pa.table({"id": [image.id for image in batch], "image": struct}, schema=schemas["corpus"]))
        rows += len(batch)
        batch.clear()
        if rows >= rows_per_file:
            writer.close()
            writer, rows = None, 0

    for image in images:
        if ids and image.id <= ids[-1]:
            raise EvalSetError(f"Images are not sorted by unique id: {image.id!r} follows {ids[-1]!r}.")
        ids.append(image.id)
        row = {"corpus-id": image.id, **image.provenance}
        sources[row["source"]] = sources.get(row["source"], 0) + 1
        provenance.append(row)
        batch.append(image)
        if len(batch) == ROWS_PER_GROUP:
            flush()
    flush()
    if writer is not None:
        writer.close()
    if not ids:
        raise EvalSetError("An evaluation set needs at least one image.")
    for number, path in enumerate(paths):
        path.rename(path.with_name(f"test-{number:05d}-of-{len(paths):05d}.parquet"))
    (partial / "provenance").mkdir()
    table = pa.Table.from_pylist(provenance, schema=schemas["provenance"])
    if any(column.null_count for column in table.columns):
        empty = [name for name in table.column_names if table[name].null_count]
        raise EvalSetError(f"Provenance has empty values in {', '.join(empty)}.")
    pq.write_table(table, partial / "provenance" / "test-00000-of-00001.parquet", compression="zstd")
    return ids, sources


def _write_table(path: Path, part: str, rows: Sequence[tuple]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _schemas()[part]
    columns = [[row[i] for row in rows] for i in range(len(schema))]
    path.parent.mkdir(exist_ok=True)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema)]
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), path, compression="zstd")


def _check_judgements(ids: list[str], queries: list[Query], qrels: list[Qrel]) -> None:
    known, asked = set(ids), {query.id for query in queries}
    if len(asked) != len(queries):
        raise EvalSetError("Two queries have the same id.")
    for qrel in qrels:
        if qrel.query_id not in asked or qrel.corpus_id not in known:
            raise EvalSetError(f"The judgement {qrel.query_id!r} -> {qrel.corpus_id!r} names an unknown id.")
    if unanswered := asked - {qrel.query_id for qrel in qrels}:
        raise EvalSetError(f"{len(unanswered)} queries have no relevant image, first {min(unanswered)!r}.")


def _card(title: str, body: str) -> str:
    configs = "".join(
        f"- config_name: {part}\n  data_files:\n  - split: test\n    path: {part}/test-*.parquet\n"
        for part in ("corpus", "queries", "qrels", "provenance")
    )
    head = "---\ntask_categories:\n- text-to-image\ntags:\n- mteb\n- image\n- text\n"
    return f"{head}configs:\n{configs}---\n\n# {title}\n\n{body.strip()}\n"


def _replace(partial: Path, folder: Path) -> None:
    """Put the finished folder in place of an earlier one."""
    old = folder.with_name(f".{folder.name}.old")
    if old.exists():
        shutil.rmtree(old)
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    if old.exists():
        shutil.rmtree(old)
