"""The probability of every ImageNet-1k class for every captioned image.

All probabilities are stored, so that another threshold or class set needs no second pass over the images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.markers import Stages
from data_prep.stages.classifiers import Scorer
from data_prep.stages.decoding import ImageRejected, decode
from mteb_vehicle_search.errors import BuildError
from mteb_vehicle_search.eval_set.schema import ImagePolicy, Rejected
from mteb_vehicle_search.files import new_file

if TYPE_CHECKING:
    from data_prep.sources import SourceImage

CHUNK = 512  # Images per resumable chunk of scores.


def score_images(
    stages: Stages,
    images: Iterable[SourceImage],
    scorer: Any,
    configuration: dict[str, Any],
    workers: int,
    batch_size: int,
    policy: ImagePolicy = ImagePolicy(),  # noqa: B008 - frozen
) -> tuple[list[Path], list[Rejected]]:
    """Write the probabilities of all images in resumable chunks; return the chunk files and refused images.

    A chunk that an earlier run finished is recognised by the digest of its images, whatever form they come in.

    Args:
        stages: Markers are written as "classify/chunk-<n>".
        images: All captioned images, in a fixed order.
        scorer: A `Scorer`, or a function that makes one: called when the first chunk has to be computed.
        configuration: What the probabilities depend on besides the images and the batch size.
        workers: Threads that decode and preprocess.
        batch_size: Images per forward pass.
        policy: How images are decoded.

    Raises:
        BuildError: Some probability is NaN or infinite; names the first image.
    """
    files, rejected = [], []
    stream = iter(images)
    with ThreadPoolExecutor(workers) as pool:
        for number, chunk in enumerate(iter(lambda: list(islice(stream, CHUNK)), [])):
            stage = f"classify/chunk-{number:05d}"
            own = {**configuration, "batch_size": batch_size, "images": _digest(chunk)}
            path = stages.folder / "scores" / f"chunk-{number:05d}.parquet"
            marker = stages.done(stage, own)
            if marker is None:
                if not isinstance(scorer, Scorer):
                    scorer = scorer()
                refused = _score_chunk(path, chunk, scorer, pool, batch_size, policy)
                marker = stages.finish(stage, own, [path], {"images": len(chunk)}, refused)
            files.append(path)
            rejected.extend(marker.rejected)
    return files, rejected


def _digest(chunk: list[SourceImage]) -> str:
    facts = (f"{image.id}\n".encode() + hashlib.sha256(image.data).digest() for image in chunk)
    return hashlib.sha256(b"".join(facts)).hexdigest()


def _score_chunk(
    path: Path,
    chunk: list[SourceImage],
    scorer: Scorer,
    pool: ThreadPoolExecutor,
    batch_size: int,
    policy: ImagePolicy,
) -> list[Rejected]:
    def read(image: SourceImage) -> np.ndarray | Rejected:
        if image.problem:
            return Rejected(image.id, "classify", image.problem)
        try:
            upright = policy.turns(captioned=bool(image.captions))
            return scorer.pixels(decode(image.data, apply_exif=upright, colour_profile=policy.colour_profile).image)
        except ImageRejected as error:
            return Rejected(image.id, "classify", error.reason)

    results = list(pool.map(read, chunk))
    ids = [image.id for image, result in zip(chunk, results) if not isinstance(result, Rejected)]
    pixels = [result for result in results if not isinstance(result, Rejected)]
    probabilities = scorer.probabilities(pixels, batch_size) if pixels else np.zeros((0, 1), dtype=np.float32)
    # A score that is no number fits no rule, and the classifier, not the image, is to blame.
    odd = np.flatnonzero(~np.isfinite(probabilities).all(axis=1))
    if odd.size:
        raise BuildError(
            f"The classifier gives no finite probabilities for {odd.size} of {len(ids)} images, first {ids[odd[0]]}.",
            "Its weights may be damaged: get them again; or try --device cpu.",
        )
    column = pa.FixedSizeListArray.from_arrays(pa.array(probabilities.ravel()), probabilities.shape[1])
    path.parent.mkdir(parents=True, exist_ok=True)
    with new_file(path) as file:
        pq.write_table(pa.table({"id": ids, "p": column}), file, compression="zstd")
    return [result for result in results if isinstance(result, Rejected)]


def summed_scores(files: Iterable[Path], classes: Sequence[int]) -> Iterator[tuple[str, float]]:
    """Yield (id, summed probability of `classes`) of every scored image."""
    for path in files:
        table = pq.read_table(path)
        column = table["p"].combine_chunks()
        if not table.num_rows:
            continue
        probabilities = column.flatten().to_numpy().reshape(table.num_rows, -1)
        sums = probabilities[:, list(classes)].astype(np.float64).sum(axis=1)
        yield from zip(table["id"].to_pylist(), sums.tolist())
