"""Read everything of an evaluation set and report every violation of its contract."""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from mteb_vehicle_search.errors import EvalSetError
from mteb_vehicle_search.eval_set import EvalSet, ImagePolicy, Qrel, Query, content_id, file_sha256


class Violation(NamedTuple):
    """One thing that is wrong, and where (a file or an id)."""

    where: str
    what: str


class Verification(NamedTuple):
    """What `verify` found.

    Attributes:
        violations: Everything that is wrong; empty if the set keeps its contract.
        counts: Rows read by part.
        content_id: The content id computed from the data, or the manifest's if the data could not be read.
    """

    violations: list[Violation]
    counts: dict[str, int]
    content_id: str


def verify(folder: str | os.PathLike[str], progress: bool = True) -> Verification:
    """Read every file of the evaluation set in `folder`, decode every image, and check all ids and counts.

    Raises:
        DataNotFoundError, EvalSetError: The set cannot even be opened.
    """
    evaluation = EvalSet.open(folder)
    found: list[Violation] = []
    _check_files(evaluation, found)
    rows: dict[str, list] = {}
    for part, read in (
        ("corpus", evaluation.corpus_ids),
        ("queries", evaluation.queries),
        ("qrels", evaluation.qrels),
        ("provenance", lambda: evaluation.table("provenance", ["corpus-id"])["corpus-id"].to_pylist()),
        ("rejected", lambda: evaluation.rejected().to_pylist()),
    ):
        try:
            rows[part] = list(read())
        except (EvalSetError, OSError, KeyError, ValueError) as error:
            found.append(Violation(part, f"cannot be read: {str(error).splitlines()[0]}"))
            rows[part] = []
    _check_ids(rows, found)
    expected = evaluation.manifest.get("counts", {})
    for part in ("corpus", "queries", "qrels", "rejected"):
        if expected.get(part) != len(rows[part]):
            found.append(
                Violation("manifest.json", f"{part}: says {expected.get(part)} rows, the data has {len(rows[part])}")
            )
    computed = evaluation.content_id
    try:
        policy = ImagePolicy(**evaluation.manifest["policy"])
        computed = content_id(rows["corpus"], rows["queries"], rows["qrels"], policy)
    except TypeError as error:
        found.append(Violation("manifest.json", f"unknown image policy: {error}"))
    if computed != evaluation.content_id:
        found.append(Violation("manifest.json", f"content id {evaluation.content_id} but the data gives {computed}"))
    _check_images(evaluation, found, progress, len(rows["corpus"]))
    return Verification(found, {part: len(values) for part, values in rows.items()}, computed)


def _check_files(evaluation: EvalSet, found: list[Violation]) -> None:
    for name, expected in sorted(evaluation.manifest["files"].items()):
        path = evaluation.folder / name
        if not path.is_file():
            found.append(Violation(name, "is missing"))
        elif path.stat().st_size != expected["bytes"]:
            found.append(Violation(name, f"has {path.stat().st_size} bytes instead of {expected['bytes']}"))
        elif file_sha256(path) != expected["sha256"]:
            found.append(Violation(name, "has another sha256 than the manifest says"))
    known = {"manifest.json", *evaluation.manifest["files"]}
    for path in sorted(evaluation.folder.rglob("*.parquet")):
        name = path.relative_to(evaluation.folder).as_posix()
        if name not in known:
            found.append(Violation(name, "is not in the manifest"))


def _check_ids(rows: dict[str, list], found: list[Violation]) -> None:
    corpus: list[str] = rows["corpus"]
    queries: list[Query] = rows["queries"]
    qrels: list[Qrel] = rows["qrels"]
    ids = [
        ("corpus", corpus),
        ("queries", [query.id for query in queries]),
        ("qrels", [q[:2] for q in qrels]),
    ]
    for part, values in ids:
        for value, count in Counter(values).items():
            if count > 1:
                found.append(Violation(part, f"id {value!r} stands {count} times"))
        if values != sorted(values):
            found.append(Violation(part, "is not sorted by id"))
    known, asked = set(corpus), {query.id for query in queries}
    for qrel in qrels:
        if qrel.corpus_id not in known:
            found.append(Violation("qrels", f"{qrel.query_id!r} points to unknown image {qrel.corpus_id!r}"))
        if qrel.query_id not in asked:
            found.append(Violation("qrels", f"unknown query {qrel.query_id!r}"))
        if qrel.score < 1:
            found.append(Violation("qrels", f"{qrel.query_id!r} has score {qrel.score}"))
    found.extend(
        Violation("queries", f"{query_id!r} has no relevant image")
        for query_id in sorted(asked - {qrel.query_id for qrel in qrels})
    )
    found.extend(Violation("queries", f"{query.id!r} is empty") for query in queries if not query.text.strip())
    if rows["provenance"] != corpus:
        odd = sorted(set(rows["provenance"]) ^ known)[:3]
        found.append(Violation("provenance", f"its ids are not those of the corpus, in order; differing: {odd}"))


def _jpegs(evaluation: EvalSet, found: list[Violation]) -> Iterator[tuple[str, bytes | None]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for path in evaluation.files("corpus"):
        try:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=128):
                    data = batch.column("image").field("bytes")
                    yield from zip(batch.column("id").to_pylist(), data.to_pylist())
        except (OSError, pa.ArrowException, KeyError) as error:
            reason = str(error).splitlines()[0]
            found.append(Violation(Path(path).name, f"images cannot be read: {reason}"))


def _problem(item: tuple[str, bytes | None], shortest_side_px: int) -> Violation | None:
    from PIL import Image

    corpus_id, jpeg = item
    if not jpeg:
        return Violation(corpus_id, "has no image")
    try:
        with Image.open(io.BytesIO(jpeg)) as image:
            image.load()
            size, mode, form = image.size, image.mode, image.format
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return Violation(corpus_id, f"does not decode: {error}")
    if form != "JPEG" or mode != "RGB":
        return Violation(corpus_id, f"is {form} {mode} instead of JPEG RGB")
    if min(size) > shortest_side_px:
        return Violation(corpus_id, f"is {size[0]} x {size[1]} px; the short side may have {shortest_side_px}")
    return None


def _check_images(evaluation: EvalSet, found: list[Violation], progress: bool, total: int) -> None:
    from tqdm import tqdm

    side = int(evaluation.manifest["policy"].get("shortest_side_px", 160))
    stream = _jpegs(evaluation, found)
    workers = os.cpu_count() or 1
    with (
        ThreadPoolExecutor(workers) as pool,
        tqdm(total=total, desc="verify", unit="image", disable=not progress) as bar,
    ):
        while items := list(islice(stream, 1024)):
            for problem in pool.map(lambda item: _problem(item, side), items):
                if problem:
                    found.append(problem)
            bar.update(len(items))
