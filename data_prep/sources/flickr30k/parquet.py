"""Flickr30k as the hub's parquet files."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.sources import NOT_SELECTED, SourceImage
from data_prep.sources.flickr30k.captions import EXPECTED, caption_row, captioned_image
from data_prep.storage import PassedOver, Tree, digest_of
from mteb_vehicle_search.errors import SourceError

_NUMBERED = re.compile(r"(.*?)(\d{4,})(?:-of-(\d{4,}))?")  # test-00000-of-00009, 0000


class ParquetFlickr30k:
    """The hub's parquet files, with columns image, caption, filename and perhaps split."""

    form = "parquet"
    notes: list[str] = []  # noqa: RUF012 - never changed

    def __init__(self, tree: Tree, shards: list[str]) -> None:
        self.tree, self.shards = tree, shards

    def count(self) -> int | None:
        rows = 0
        for name in self.shards:
            with _reading(self.tree, name) as file:
                rows += file.metadata.num_rows
        return rows

    def travels_bytes(self, only: Collection[str] | float = 1.0) -> int:
        return self.tree.travelling(self.shards)

    def check(self) -> list[str]:
        """See `CaptionedSource.check`: the numbers in the names tell which files are missing.

        Raises:
            SourceError: Files of a numbered set are missing, or one is damaged.
        """
        for name in self.shards:
            with _reading(self.tree, name):
                pass
        stems = [PurePosixPath(name).stem for name in self.shards]
        numbered = [match for stem in stems if (match := _NUMBERED.fullmatch(stem))]
        for stem, of in sorted({(match[1], match[3]) for match in numbered}):
            held = {int(match[2]) for match in numbered if (match[1], match[3]) == (stem, of)}
            if absent := sorted(set(range(int(of) if of else max(held) + 1)) - held):
                listed = ", ".join(map(str, absent[:10]))
                raise SourceError(f"{self.tree.where} lacks {len(absent)} of the parquet files: {listed}", EXPECTED)
        return []

    def describe(self) -> dict[str, Any]:
        facts = [self.tree.entry(name) for name in self.shards]
        return {
            "form": self.form,
            "location": self.tree.where,
            "revision": "",
            "files": [PurePosixPath(name).name for name in self.shards],
            "stamp": digest_of(facts),
        }

    def images(self, passed: PassedOver | None = None, only: Collection[str] | None = None) -> Iterator[SourceImage]:
        """The images in ascending order of file name as a string, which is the captions file's order."""
        order: list[tuple[str, str, int, int]] = []
        for path in self.shards:
            where = self.tree.path(path)
            with _reading(self.tree, path) as file:
                names = file.schema_arrow.names
                if missing := {"image", "caption", "filename"} - set(names):
                    found = ", ".join(names)
                    raise SourceError(f"{where} has no column {', '.join(sorted(missing))}; it has {found}", EXPECTED)
                kind = file.schema_arrow.field("image").type
                if not pa.types.is_struct(kind) or kind.get_field_index("bytes") < 0:
                    raise SourceError(f"{where}: column image is {kind}, not a struct with bytes", EXPECTED)
                for group in range(file.num_row_groups):
                    column = file.read_row_group(group, columns=["filename"]).column("filename").to_pylist()
                    order += [(str(name), path, group, row) for row, name in enumerate(column)]
        order.sort()
        for first, second in pairwise(order):
            if first[0] == second[0]:
                places = " and ".join(self.tree.path(each[1]) for each in (first, second))
                raise SourceError(f"{first[0]} stands twice: in {places}")
        last: tuple[str, int] | None = None
        table = None
        for name, path, group, row in order:
            if only is not None and f"flickr30k/{PurePosixPath(name).stem}" not in only:
                if passed is not None:
                    passed[NOT_SELECTED] += 1
                continue
            if (path, group) != last:
                table, last = _read_group(self.tree, path, group), (path, group)
            yield _parquet_image(table, row, f"{self.tree.path(path)}, row group {group}, row {row}")


@contextmanager
def _reading(tree: Tree, name: str) -> Iterator[Any]:
    try:
        with tree.open(name) as stream, pq.ParquetFile(stream) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{tree.path(name)} is damaged: {error}", "Download the file again.") from error


def _read_group(tree: Tree, name: str, group: int) -> Any:
    with _reading(tree, name) as file:
        columns = [c for c in ("image", "caption", "split", "filename") if c in file.schema_arrow.names]
        return file.read_row_group(group, columns=columns)


def _parquet_image(table: Any, row: int, where: str) -> SourceImage:
    record = {name: table.column(name)[row].as_py() for name in table.column_names}
    data = (record["image"] or {}).get("bytes") or b""
    return captioned_image(caption_row(record["filename"], record.get("split"), record["caption"], where), data)
