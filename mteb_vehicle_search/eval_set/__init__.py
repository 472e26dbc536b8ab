"""The evaluation set: a folder with corpus, queries, qrels and their provenance.

The folder is a valid hub dataset (configs `corpus`, `queries`, `qrels`), so plain `datasets` and mteb's stock
loader read it as well. Everything is sorted by id and written deterministically; `verify.py` checks it.
"""

from __future__ import annotations

import hashlib
import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mteb_vehicle_search.errors import EvalSetError
from mteb_vehicle_search.eval_set.groups import groups_of, pool_problem
from mteb_vehicle_search.eval_set.manifest import BUILD_HINT, read_manifest
from mteb_vehicle_search.eval_set.schema import (
    ImagePolicy,
    Qrel,
    Query,
    camel_case,
    content_id,
    images_id,
    is_task_name,
    schemas,
)

if TYPE_CHECKING:
    import pyarrow as pa


class EvalSet:
    """An evaluation set in a folder, opened by reading its `manifest.json` only."""

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        self.folder = folder
        self.manifest = manifest

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> EvalSet:
        """Open the evaluation set in `folder`.

        Raises:
            DataNotFoundError: There is no manifest.
            EvalSetError: The manifest is damaged, of another format version, or says what cannot be.
        """
        folder = Path(folder)
        return cls(folder, read_manifest(folder))

    @property
    def content_id(self) -> str:
        """The sha256 that names this evaluation set (see `content_id()`)."""
        return self.manifest["content_id"]

    @property
    def name(self) -> str:
        """Short name, from the preset."""
        return self.manifest["name"]

    @property
    def task_name(self) -> str:
        """The name of its mteb task, from the preset; by default its own in CamelCase.

        Raises:
            EvalSetError: It cannot name a task.
        """
        name = self.manifest.get("task_name") or camel_case(self.name)
        if not is_task_name(name):
            raise EvalSetError(
                f"{self.folder}: {name!r} cannot name a task, which takes a capital and then letters and digits, at "
                "most 60 in all.",
                "State a task_name in the preset, and build the evaluation set again.",
            )
        return name

    @property
    def title(self) -> str:
        """What people read above its tables and on its page."""
        return self.manifest.get("title") or self.task_name

    def require_content(self) -> None:
        """Make sure that the tables are those that the content id names, so that no score goes under another's id.

        Raises:
            EvalSetError: They are not, or cannot be read.
        """
        try:
            computed = content_id(self.corpus_ids(), self.queries(), self.qrels(), self.policy, self.pool)
        except TypeError as error:
            raise EvalSetError(f"{self.folder} has rows in which a value is missing.", self._verify_hint) from error
        if computed != self.content_id:
            raise EvalSetError(
                f"{self.folder} is not what its manifest says: that names content id {self.content_id}, the data gives "
                f"{computed}.",
                self._verify_hint,
            )

    @property
    def _verify_hint(self) -> str:
        return f"See 'vehicle-search-data verify {self.folder}'."

    @property
    def policy(self) -> ImagePolicy:
        """How the images were reduced."""
        return ImagePolicy(**self.manifest["policy"])

    def files(self, table: str) -> list[Path]:
        """Return the parquet files of `table` ("corpus", "queries", "qrels", "provenance"), in order."""
        return [self.folder / name for name in sorted(self.manifest["files"]) if name.startswith(table + "/")]

    def read(self, table: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Return a whole table; do not use it for the images of a large corpus.

        Raises:
            EvalSetError: A file is missing or damaged.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        wanted = list(columns) if columns else schemas(arms=self.pool is not None)[table].names
        tables = []
        for path in self.files(table):
            try:
                held = pq.read_table(path, columns=list(columns) if columns else None)
                if missing := [name for name in wanted if name not in held.column_names]:
                    raise pa.ArrowInvalid(f"it has no column {', '.join(missing)}")
                if tables and not held.schema.equals(tables[0].schema):
                    raise pa.ArrowInvalid("its columns are not those of the file before it")
            except (OSError, pa.ArrowException) as error:
                raise EvalSetError(f"{path} cannot be read: {error}", self._verify_hint) from error
            tables.append(held)
        if not tables:
            raise EvalSetError(f"{self.folder} has no {table} files.", BUILD_HINT)
        return pa.concat_tables(tables)

    def corpus_ids(self) -> list[str]:
        """Return the ids of all images, sorted."""
        return self.read("corpus", ["id"])["id"].to_pylist()

    def queries(self) -> list[Query]:
        """Return all queries, sorted by id."""
        table = self.read("queries")
        return [Query(*row) for row in zip(table["id"].to_pylist(), table["text"].to_pylist())]

    def qrels(self) -> list[Qrel]:
        """Return all relevance judgements, sorted."""
        table = self.read("qrels")
        return [Qrel(*row) for row in zip(*(table[c].to_pylist() for c in ("query-id", "corpus-id", "score")))]

    def provenance(self) -> pa.Table:
        """Return one row per image, in the order of `corpus_ids()`; columns of `Provenance`."""
        import pyarrow as pa

        table = self.read("provenance")
        # Sets of earlier versions say -1 where there is none.
        scores = [None if score is None or score < 0 else score for score in table["vehicle_score"].to_pylist()]
        at = table.column_names.index("vehicle_score")
        return table.set_column(at, table.schema.field(at), pa.array(scores, pa.float32()))

    @cached_property
    def images_id(self) -> str:
        """What identifies the JPEG bytes, read from the data and not from the manifest (see `schema.images_id`)."""
        return images_id((corpus_id, hashlib.sha256(jpeg).hexdigest()) for corpus_id, jpeg in self.images())

    @cached_property
    def sources_id(self) -> str:
        """What identifies the sources' own bytes (see `schema.images_id`)."""
        table = self.read("provenance", ["corpus-id", "sha256"])
        return images_id(zip(table["corpus-id"].to_pylist(), table["sha256"].to_pylist()))

    def rejected(self) -> pa.Table:
        """Return the inputs that were left out: `id`, `stage`, `reason`."""
        import pyarrow.parquet as pq

        return pq.read_table(self.folder / "rejected.parquet")

    def sources(self) -> list[str]:
        """Return the source of each image, in the order of `corpus_ids()`."""
        return self.read("provenance", ["source"])["source"].to_pylist()

    @property
    def pool(self) -> dict[str, Any] | None:
        """What the corpus is a sample of; None if it stands for itself.

        `images` are `near` ones, all of which are in the corpus, and `far` ones, of which some are; `near_each` is how
        many neighbours of each captioned image each of the `miners` gave, and `seed` what decided the rest.
        """
        return self.manifest.get("pool")

    @cached_property
    def groups(self) -> list[str]:
        """The group of each image, in the order of `corpus_ids()`: images of one are counted together by a search.

        Raises:
            EvalSetError: The pool of the manifest does not fit the arms of the images.
        """
        if self.pool is None:
            return self.sources()
        table = self.provenance()
        if wrong := pool_problem(table, self.pool):
            raise EvalSetError(f"{self.folder}: the pool does not fit the images: {wrong}.", self._verify_hint)
        return groups_of(table, self.pool)

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
