"""Flickr30k as the hub's parquet files."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.sources import PassedOver, SourceImage
from data_prep.sources.flickr30k.captions import EXPECTED, caption_row, captioned_image
from mteb_vehicle_search.errors import SourceError

_NUMBERED = re.compile(r"(.*?)(\d{4,})(?:-of-(\d{4,}))?")  # test-00000-of-00009, 0000


class ParquetFlickr30k:
    """The hub's parquet files, with columns image, caption, filename and perhaps split."""

    form = "parquet"
    download_gb = 0.0

    def __init__(self, shards: list[Path], location: Path) -> None:
        self.shards = shards
        self.location = location

    def count(self) -> int:
        rows = 0
        for path in self.shards:
            with _reading(path) as file:
                rows += file.metadata.num_rows
        return rows

    def check(self) -> list[str]:
        """See `CaptionedSource.check`: the numbers in the names tell which files are missing.

        Raises:
            SourceError: Files of a numbered set are missing, or one is damaged.
        """
        for path in self.shards:
            with _reading(path):
                pass
        numbered = [match for path in self.shards if (match := _NUMBERED.fullmatch(path.stem))]
        for stem, of in sorted({(match[1], match[3]) for match in numbered}):
            held = {int(match[2]) for match in numbered if (match[1], match[3]) == (stem, of)}
            if absent := sorted(set(range(int(of) if of else max(held) + 1)) - held):
                listed = ", ".join(map(str, absent[:10]))
                raise SourceError(f"{self.location} lacks {len(absent)} of the parquet files: {listed}", EXPECTED)
        return []

    def describe(self) -> dict[str, Any]:
        facts = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in self.shards]
        return {
            "form": self.form,
            "location": str(self.location),
            "revision": "",
            "files": [path.name for path in self.shards],
            "stamp": hashlib.sha256(repr(facts).encode()).hexdigest(),
        }

    def images(self, passed: PassedOver | None = None) -> Iterator[SourceImage]:
        """The images in ascending order of file name as a string, which is the captions file's order."""
        order: list[tuple[str, Path, int, int]] = []
        for path in self.shards:
            with _reading(path) as file:
                names = file.schema_arrow.names
                if missing := {"image", "caption", "filename"} - set(names):
                    found = ", ".join(names)
                    raise SourceError(f"{path} has no column {', '.join(sorted(missing))}; it has {found}", EXPECTED)
                kind = file.schema_arrow.field("image").type
                if not pa.types.is_struct(kind) or kind.get_field_index("bytes") < 0:
                    raise SourceError(f"{path}: column image is {kind}, not a struct with bytes", EXPECTED)
                for group in range(file.num_row_groups):
                    column = file.read_row_group(group, columns=["filename"]).column("filename").to_pylist()
                    order += [(str(name), path, group, row) for row, name in enumerate(column)]
        order.sort()
        for first, second in pairwise(order):
            if first[0] == second[0]:
                raise SourceError(f"{first[0]} stands twice: in {first[1]} and {second[1]}")
        last: tuple[Path, int] | None = None
        table = None
        for _, path, group, row in order:
            if (path, group) != last:
                table, last = _read_group(path, group), (path, group)
            yield _parquet_image(table, row, f"{path}, row group {group}, row {row}")


@contextmanager
def _reading(path: Path) -> Iterator[Any]:
    try:
        with pq.ParquetFile(path) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{path} is damaged: {error}", "Download the file again.") from error


def _read_group(path: Path, group: int) -> Any:
    with _reading(path) as file:
        columns = [c for c in ("image", "caption", "split", "filename") if c in file.schema_arrow.names]
        return file.read_row_group(group, columns=columns)


def _parquet_image(table: Any, row: int, where: str) -> SourceImage:
    record = {name: table.column(name)[row].as_py() for name in table.column_names}
    data = (record["image"] or {}).get("bytes") or b""
    return captioned_image(caption_row(record["filename"], record.get("split"), record["caption"], where), data)
