"""Tables as parquet: the columns of text, or of lists of texts, without whatever else is there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as kinds

from data_prep.sources.tables.records import Record, Records
from mteb_vehicle_search.errors import SourceError


def parquet_records(content: bytes, name: str) -> Records:
    """Return the rows of a parquet file.

    Raises:
        SourceError: It is damaged, or has no text.
    """
    try:
        file = pq.ParquetFile(pa.BufferReader(content))
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{name} is not a parquet file: {error}", "Write the table again.") from error
    columns = [field.name for field in file.schema_arrow if _is_textual(field.type)]
    if not columns:
        names = ", ".join(file.schema_arrow.names)
        raise SourceError(
            f"{name} has no columns of text; it has {names:.200}",
            "Expected a column of file names, and one of captions or lists of captions.",
        )

    def rows() -> Iterator[Record]:
        number = 0
        try:
            for batch in file.iter_batches(batch_size=1_000, columns=columns):
                for values in batch.to_pylist():
                    number += 1
                    yield Record(f"{name}, row {number}", values)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise SourceError(f"{name} is damaged after row {number}: {error}", "Write the table again.") from error

    return Records("parquet", columns, rows())


def _is_textual(kind: Any) -> bool:
    if kinds.is_dictionary(kind):
        return _is_textual(kind.value_type)
    if kinds.is_list(kind) or kinds.is_large_list(kind) or kinds.is_fixed_size_list(kind):
        return _is_textual(kind.value_type)
    if kinds.is_struct(kind):
        return any(_is_textual(kind.field(number).type) for number in range(kind.num_fields)) and not any(
            kinds.is_binary(kind.field(number).type) for number in range(kind.num_fields)
        )
    return kinds.is_string(kind) or kinds.is_large_string(kind) or kinds.is_integer(kind)
