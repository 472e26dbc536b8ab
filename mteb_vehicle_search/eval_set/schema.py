"""What the tables of an evaluation set hold, and what its content id covers."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
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
        exif: Which images were turned upright as their EXIF orientation says: "distractors" only, as the original
            evaluation did, "all" or "none".
        colour_profile: What became of an embedded colour profile: "drop" keeps the stored numbers and forgets what they
            mean, as the original evaluation did; "srgb" turns the colours into sRGB, which models are trained on.
    """

    shortest_side_px: int = 160
    resample: str = "bicubic"
    jpeg_quality: int = 75
    exif: str = "distractors"
    colour_profile: str = "drop"

    @property
    def decoding(self) -> dict[str, str]:
        """The options of decoding that are not those of the original evaluation."""
        usual = {f.name: f.default for f in fields(self) if f.name in ("exif", "colour_profile")}
        return {name: getattr(self, name) for name, value in usual.items() if getattr(self, name) != value}

    def as_json(self) -> dict[str, Any]:
        """Return what it says; `decoding`, which sets of earlier versions do not know, only where it says something."""
        first = {name: value for name, value in asdict(self).items() if name not in ("exif", "colour_profile")}
        return first | self.decoding

    def turns(self, *, captioned: bool) -> bool:
        """Tell whether the EXIF orientation of an image counts."""
        return self.exif == "all" or (self.exif == "distractors" and not captioned)


def first_name(class_name: str) -> str:
    """Return the first of the names of a class, which ImageNet separates by commas; empty if there is none."""
    return class_name.split(",")[0].strip()


class CorpusImage(NamedTuple):
    """One image of the corpus: id, JPEG bytes, and a provenance row (the fields of `Provenance`).

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
    vehicle_score: float | None  # summed probability of the selection's classes; None if not classified
    width: int  # of the original, in pixels
    height: int  # likewise
    sha256: str  # of the source's bytes, hexadecimal
    perceptual_hash: str  # 16 hexadecimal digits
    duplicates: list[str]  # ids of the images that show the same, exactly or nearly


class Arm(NamedTuple):
    """Why an image is in a corpus that is a sample of a pool: columns of the provenance table in such sets only."""

    arm: str  # one of ARMS
    mined_by: list[str]  # miners that find it near a captioned image, sorted; none but in the arm "mined"
    inclusion_probability: float  # with which it came into the corpus; 1 but in the arm "random"


ARMS = ("captioned", "mined", "random")
MAY_BE_EMPTY = {"vehicle_score"}  # Columns of the provenance table that have no value where there is none.


def schemas(*, arms: bool = False) -> dict[str, pa.Schema]:
    """Return the columns of each table: "corpus", "queries", "qrels", "provenance" (maybe with arms), "rejected"."""
    import pyarrow as pa

    kinds: dict[Any, pa.DataType] = {str: pa.string(), bool: pa.bool_(), int: pa.int32(), float | None: pa.float32()}
    kinds |= {list[str]: pa.list_(pa.string()), float: pa.float64()}
    text, image = pa.string(), pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    features = {"id": {"dtype": "string", "_type": "Value"}, "image": {"mode": "RGB", "_type": "Image"}}
    stated = {"huggingface": json.dumps({"info": {"features": features}})}
    provenance = [(name, kinds[hint]) for name, hint in get_type_hints(Provenance).items()]
    provenance += [(name, kinds[hint]) for name, hint in get_type_hints(Arm).items() if arms]
    return {
        "corpus": pa.schema([("id", text), ("image", image)]).with_metadata(stated),
        "queries": pa.schema([("id", text), ("text", text)]),
        "qrels": pa.schema([("query-id", text), ("corpus-id", text), ("score", pa.int64())]),
        "provenance": pa.schema([("corpus-id", text), *provenance]),
        "rejected": pa.schema([("id", text), ("stage", text), ("reason", text)]),
    }


def camel_case(name: str) -> str:
    """Return the task name of a set that states none: `dog-image-search` becomes `DogImageSearch`."""
    words = re.split(r"[^0-9A-Za-z]+", name)
    return "".join(word[:1].upper() + word[1:] for word in words)


def is_task_name(text: object) -> bool:
    """Tell whether it can name a task: `[A-Z][A-Za-z0-9]*`, at most 60 characters."""
    return isinstance(text, str) and re.fullmatch("[A-Z][A-Za-z0-9]{0,59}", text) is not None


def is_line(text: object) -> bool:
    """Tell whether it is one line of text that every file and console can take: no control characters."""
    return isinstance(text, str) and _CONTROL.search(text) is None


def is_id(text: object) -> bool:
    """Tell whether it can be the id of an image or a query: one line of text, not empty."""
    return is_line(text) and text != ""


# Half of a surrogate pair alone is in no UTF-8.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def images_id(images: Iterable[tuple[str, str]]) -> str:
    """Return the sha256 (64 hex digits) of what is searched, from (id, sha256 of the bytes in hexadecimal) in order.

    Of the JPEG bytes it says which pixels a run saw; of the sources' own bytes (`Provenance.sha256`) which images
    they were made from, whatever encoder made them.
    """
    digest = hashlib.sha256()
    for one in images:
        digest.update(_line(one))
    return digest.hexdigest()


# Made once: `json.dumps` would make one for each row.
_ENCODER = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"))


def _line(fields: Sequence[object]) -> bytes:
    return _ENCODER.encode(fields).encode("ascii") + b"\n"


def is_content_id(text: object) -> bool:
    """Tell whether it is a content id: 64 lower-case hexadecimal digits, as no other data set's revision is."""
    return isinstance(text, str) and re.fullmatch("[0-9a-f]{64}", text) is not None


def content_id(
    corpus_ids: Iterable[str],
    queries: Iterable[Query],
    qrels: Iterable[Qrel],
    policy: ImagePolicy,
    pool: Mapping[str, Any] | None = None,
) -> str:
    """Return the sha256 (64 hex digits) that identifies what an evaluation set asks and searches.

    It covers the format version, the image policy, the sorted corpus ids, queries and qrels, and the pool that the
    corpus is a sample of, if it is; not the bytes of the images, so that it is the same on every machine.
    """
    digest = hashlib.sha256()

    def add(*fields: object) -> None:
        digest.update(_line(fields))

    add("format", FORMAT_VERSION)
    add("policy", policy.shortest_side_px, policy.resample, policy.jpeg_quality)
    for option in policy.decoding.items():
        add("policy", *option)
    if pool is not None:
        add("pool", json.dumps(pool, sort_keys=True))
    for corpus_id in sorted(corpus_ids):
        add("corpus", corpus_id)
    for query in sorted(queries):
        add("query", *query)
    for qrel in sorted(qrels):
        add("qrel", *qrel)
    return digest.hexdigest()
