"""The evaluation set: a folder with corpus, queries, qrels and their provenance.

The folder is a valid hub dataset (configs `corpus`, `queries`, `qrels`), so plain `datasets` and mteb's stock
loader read it as well. Everything is sorted by id and written deterministically; `verification.py` checks it.
"""

from __future__ import annotations

import hashlib
import json
import os
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
    """One image of the corpus: id, JPEG bytes, and a provenance row (keys of `provenance_schema`, no None).

    `duplicates` may be absent from the row and is then empty.
    """

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


def schemas() -> dict[str, pa.Schema]:
    """Return the columns of each part: "corpus", "queries", "qrels", "provenance", "rejected"."""
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
            ("duplicates", pa.list_(text)),
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
    16 hexadecimal digits; `duplicates` holds the ids of the images that show the same, exactly or nearly.
    """
    return schemas()["provenance"]


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
