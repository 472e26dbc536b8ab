"""Writes an evaluation set, deterministically and whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from mteb_vehicle_search.errors import EvalSetError
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.eval_set.groups import pool_problem
from mteb_vehicle_search.eval_set.manifest import manifest_problem
from mteb_vehicle_search.eval_set.schema import (
    FORMAT_VERSION,
    MAY_BE_EMPTY,
    ROWS_PER_GROUP,
    CorpusImage,
    ImagePolicy,
    Qrel,
    Query,
    Rejected,
    camel_case,
    content_id,
    images_id,
    is_id,
    schemas,
)
from mteb_vehicle_search.files import file_sha256, new_folder


class About(NamedTuple):
    """What the manifest and the dataset card say of a set."""

    name: str  # short, such as "vehicle-image-search"
    title: str  # of the dataset card
    policy: ImagePolicy = ImagePolicy()  # how the images were reduced
    card: str = ""  # body of the dataset card, Markdown
    preset: Mapping[str, Any] = MappingProxyType({})  # what the set was made of, JSON
    notes: Mapping[str, Any] = MappingProxyType({})  # counts, duplicates, comparison with the published set, JSON
    sources: Mapping[str, Any] = MappingProxyType({})  # terms and citations of each source, JSON
    task_name: str = ""  # of its mteb task; empty: the name in CamelCase
    pool: Mapping[str, Any] | None = None  # what the corpus is a sample of, see `EvalSet.pool`; None: of nothing
    amended_from: Mapping[str, Any] | None = None  # the set with fewer relevant images; None: there is none

    @property
    def name_of_task(self) -> str:
        """The name of its mteb task."""
        return self.task_name or camel_case(self.name)


def write_eval_set(
    folder: str | os.PathLike[str],
    about: About,
    *,
    images: Iterable[CorpusImage],
    queries: Iterable[Query],
    qrels: Iterable[Qrel],
    rejected: Iterable[Rejected] = (),
    rows_per_file: int = 8192,
) -> EvalSet:
    """Write an evaluation set and open it; the folder appears only when it is complete.

    Args:
        folder: Target; an evaluation set already there is replaced at the end.
        about: What the manifest and the card say.
        images: The corpus, sorted by id; consumed as a stream.
        queries: In any order, like the judgements (`qrels`) and what was left out (`rejected`).
        rows_per_file: Images per corpus file; a multiple of `ROWS_PER_GROUP` keeps row groups full.

    Raises:
        EvalSetError: Ids are unsorted, stand twice or cannot be ids; a query is empty, or none is there; a judgement
            stands twice, names an unknown id or has a score below 1; the pool does not fit the arms of the images (see
            `pool_problem`); or the manifest would say what cannot be.
    """
    folder = Path(folder).absolute()
    with new_folder(folder) as partial:
        queries, qrels, rejected = sorted(queries), sorted(qrels), sorted(rejected)
        ids, sources, digests = _write_images(partial, images, rows_per_file, about.pool)
        _check_judgements(ids, queries, qrels)
        _write_table(partial / "queries" / "test-00000-of-00001.parquet", "queries", queries)
        _write_table(partial / "qrels" / "test-00000-of-00001.parquet", "qrels", qrels)
        _write_table(partial / "rejected.parquet", "rejected", rejected)
        (partial / "README.md").write_text(_card(about.title, about.card), encoding="utf-8", newline="\n")
        counts = {"corpus": len(ids), "queries": len(queries), "qrels": len(qrels), "rejected": len(rejected)}
        manifest = {
            "format_version": FORMAT_VERSION,
            "name": about.name,
            "title": about.title,
            "task_name": about.name_of_task,
            "content_id": content_id(ids, queries, qrels, about.policy, about.pool),
            **digests,
            "policy": about.policy.as_json(),
            "counts": {**counts, "sources": dict(sorted(sources.items()))},
            "preset": dict(about.preset),
            "notes": dict(about.notes),
            "sources": dict(about.sources),
            **({"pool": dict(about.pool)} if about.pool is not None else {}),
            **({"amended_from": dict(about.amended_from)} if about.amended_from is not None else {}),
            **_files(partial),
        }
        if wrong := manifest_problem(manifest):
            raise EvalSetError(f"The manifest cannot be written: {wrong}.")
        text = json.dumps(manifest, indent=2, ensure_ascii=False, allow_nan=False, sort_keys=True)
        (partial / "manifest.json").write_text(text + "\n", encoding="utf-8", newline="\n")
    return EvalSet.open(folder)


def _files(folder: Path) -> dict[str, Any]:
    """Return the size and the digest of every file, and a digest of these."""
    files = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    return {"files": files, "bytes_id": hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()}


def _write_images(
    partial: Path, images: Iterable[CorpusImage], rows_per_file: int, pool: Mapping[str, Any] | None
) -> tuple[list[str], Counter[str], dict[str, str]]:
    """Return the ids, the images of each source, and the digests of what was searched (see `schema.images_id`)."""
    ids: list[str] = []
    jpegs: list[str] = []
    sources: Counter[str] = Counter()
    paths: list[Path] = []
    provenance: list[dict[str, Any]] = []
    (partial / "corpus").mkdir()
    writer: pq.ParquetWriter | None = None
    rows = 0

    def noted() -> Iterator[CorpusImage]:
        for image in images:
            _check_id("image", image.id)
            if ids and image.id <= ids[-1]:
                raise EvalSetError(f"Images are not sorted by unique id: {image.id!r} follows {ids[-1]!r}.")
            ids.append(image.id)
            jpegs.append(hashlib.sha256(image.jpeg).hexdigest())
            provenance.append({"corpus-id": image.id, "duplicates": [], **image.provenance})
            sources[image.provenance["source"]] += 1
            yield image

    stream = noted()
    while batch := list(islice(stream, ROWS_PER_GROUP)):
        if writer is None:
            paths.append(partial / "corpus" / f"part-{len(paths):05d}.parquet")
            # JPEG does not compress further.
            writer = pq.ParquetWriter(paths[-1], schemas()["corpus"], compression="none")
        struct = [{"bytes": image.jpeg, "path": None} for image in batch]
        writer.write_table(pa.table({"id": [image.id for image in batch], "image": struct}, schema=schemas()["corpus"]))
        rows += len(batch)
        if rows >= rows_per_file:
            writer.close()
            writer, rows = None, 0
    if writer is not None:
        writer.close()
    if not ids:
        raise EvalSetError("An evaluation set needs at least one image.")
    for number, path in enumerate(paths):
        path.rename(path.with_name(f"test-{number:05d}-of-{len(paths):05d}.parquet"))
    (partial / "provenance").mkdir()
    table = pa.Table.from_pylist(provenance, schema=schemas(arms=pool is not None)["provenance"])
    if empty := [name for name in table.column_names if table[name].null_count and name not in MAY_BE_EMPTY]:
        raise EvalSetError(f"Provenance has empty values in {', '.join(empty)}.")
    if pool is not None and (wrong := pool_problem(table, pool)):
        raise EvalSetError(f"The pool does not fit the images: {wrong}.")
    pq.write_table(table, partial / "provenance" / "test-00000-of-00001.parquet", compression="zstd")
    originals = [row["sha256"] for row in provenance]
    return ids, sources, {"images_id": images_id(zip(ids, jpegs)), "sources_id": images_id(zip(ids, originals))}


def _write_table(path: Path, table: str, rows: Sequence[tuple]) -> None:
    schema = schemas()[table]
    path.parent.mkdir(exist_ok=True)
    arrays = [pa.array([row[i] for row in rows], field.type) for i, field in enumerate(schema)]
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), path, compression="zstd")


def _check_judgements(ids: list[str], queries: list[Query], qrels: list[Qrel]) -> None:
    known, asked = set(ids), {query.id for query in queries}
    if not queries:
        raise EvalSetError("An evaluation set needs at least one query.")
    if len(asked) != len(queries):
        raise EvalSetError("Two queries have the same id.")
    for query in queries:
        _check_id("query", query.id)
        if not query.text.strip():
            raise EvalSetError(f"The query {query.id!r} is empty.")
    before = None
    for qrel in qrels:
        what = f"The judgement {qrel.query_id!r} -> {qrel.corpus_id!r}"
        if qrel.query_id not in asked or qrel.corpus_id not in known:
            raise EvalSetError(f"{what} names an unknown id.")
        if qrel[:2] == before:
            raise EvalSetError(f"{what} stands twice.")
        if qrel.score < 1:
            raise EvalSetError(f"{what} has score {qrel.score}; what is relevant has 1 or more.")
        before = qrel[:2]
    if unanswered := asked - {qrel.query_id for qrel in qrels}:
        raise EvalSetError(f"{len(unanswered)} queries have no relevant image, first {min(unanswered)!r}.")


def _check_id(what: str, text: str) -> None:
    if not is_id(text):
        raise EvalSetError(f"The {what} id {text!r} is empty or has control characters.")


def _card(title: str, body: str) -> str:
    configs = "".join(
        f"- config_name: {table}\n  data_files:\n  - split: test\n    path: {table}/test-*.parquet\n"
        for table in ("corpus", "queries", "qrels", "provenance")
    )
    head = "---\ntask_categories:\n- text-to-image\ntags:\n- mteb\n- image\n- text\n"
    return f"{head}configs:\n{configs}---\n\n# {title}\n\n{body.strip()}\n"
