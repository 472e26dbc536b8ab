"""What the tables of an evaluation set hold, and what its content id covers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, get_type_hints

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT_VERSION = 1
ROWS_PER_GROUP = 128


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
    """One image of the corpus: id, JPEG bytes, and a provenance row (the fields of `Provenance`, no None).

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


class Provenance(NamedTuple):
    """Where an image comes from: a row of the provenance table, beside its `corpus-id`."""

    source: str  # name of the data set
    split: str  # "" if unknown
    captioned: bool  # whether queries ask for it
    class_index: int  # ImageNet-1k class; -1 without one
    wnid: str  # WordNet id of the class; "" without one
    class_name: str  # its lemmas; "" without one
    vehicle_score: float  # summed probability of the vehicle classes; -1 if not classified
    width: int  # of the original, in pixels
    height: int  # likewise
    sha256: str  # of the source's bytes, hexadecimal
    perceptual_hash: str  # 16 hexadecimal digits
    duplicates: list[str]  # ids of the images that show the same, exactly or nearly


def schemas() -> dict[str, pa.Schema]:
    """Return the columns of each table: "corpus", "queries", "qrels", "provenance", "rejected"."""
    import pyarrow as pa

    kinds = {str: pa.string(), bool: pa.bool_(), int: pa.int32(), float: pa.float32(), list[str]: pa.list_(pa.string())}
    text, image = pa.string(), pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    features = {"id": {"dtype": "string", "_type": "Value"}, "image": {"mode": "RGB", "_type": "Image"}}
    stated = {"huggingface": json.dumps({"info": {"features": features}})}
    provenance = [(name, kinds[hint]) for name, hint in get_type_hints(Provenance).items()]
    return {
        "corpus": pa.schema([("id", text), ("image", image)]).with_metadata(stated),
        "queries": pa.schema([("id", text), ("text", text)]),
        "qrels": pa.schema([("query-id", text), ("corpus-id", text), ("score", pa.int64())]),
        "provenance": pa.schema([("corpus-id", text), *provenance]),
        "rejected": pa.schema([("id", text), ("stage", text), ("reason", text)]),
    }


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
