"""Images made small: decoded safely, resized, encoded as JPEG, hashed.

The images of one shard of a source become a file of JPEGs end to end, and an index of what each is. They are read back
in any order with one seek an image, so that the export can merge hundreds of shuffled shards by id without holding the
images.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image

from data_prep.job import Job
from data_prep.markers import Marker, fingerprint
from data_prep.preset_tables import RESAMPLE
from data_prep.sources import encoded_bytes
from data_prep.stages.decoding import ImageRejected, decode
from data_prep.storage import PassedOver
from mteb_vehicle_search.eval_set.schema import ImagePolicy, Rejected
from mteb_vehicle_search.files import new_file, write_whole
from mteb_vehicle_search.settings import usable_cores

if TYPE_CHECKING:
    from data_prep.sources import CaptionedSource, SourceImage

MAX_JPEG_SIDE_PX = 65_500  # libjpeg's JPEG_MAX_DIMENSION.


class Prepared(NamedTuple):
    """An image ready for the corpus.

    Attributes:
        jpeg: The resized image, without metadata.
        width: Of the original as it was decoded (upright, if the orientation was applied), in pixels.
        height: Likewise.
        sha256: Of the source's bytes, hex.
        perceptual_hash: `imagehash.phash` of the resized image, 16 hex characters.
        warning: What the decoder complained of without losing pixels; usually "".
    """

    jpeg: bytes
    width: int
    height: int
    sha256: str
    perceptual_hash: str
    warning: str = ""


def target_size(width: int, height: int, shortest_side_px: int) -> tuple[int, int]:
    """Width and height after resizing: the shorter side is `shortest_side_px` at most, never upscaled.

    The ratio is min(1, shortest / min(width, height)), both sides rounded half to even, as the original did.
    """
    ratio = min(1, shortest_side_px / min(width, height))
    return round(width * ratio), round(height * ratio)


def prepare(data: bytes, policy: ImagePolicy = ImagePolicy(), *, apply_exif: bool = True) -> Prepared:  # noqa: B008 - frozen
    """Decode, resize and encode one image.

    Raises:
        ImageRejected: If it cannot be decoded, or is too long for a JPEG.
        ValueError: If the policy names an unknown filter.
    """
    shrunk = shrink(data, policy, apply_exif=apply_exif)
    out, small = io.BytesIO(), shrunk.small
    small.save(out, "JPEG", quality=policy.jpeg_quality)
    digest = hashlib.sha256(data).hexdigest()
    return Prepared(out.getvalue(), *shrunk.image.size, digest, perceptual_hash(small), shrunk.warning)


class Shrunk(NamedTuple):
    """A decoded RGB image, the same reduced for the set, and what the decoder complained of."""

    image: Image.Image
    small: Image.Image
    warning: str


def shrink(data: bytes, policy: ImagePolicy, *, apply_exif: bool) -> Shrunk:
    """Decode and resize one image; raises what `prepare` raises."""
    if policy.resample not in RESAMPLE:
        raise ValueError(f"resample must be one of {sorted(RESAMPLE)}, not {policy.resample!r}")
    image, warning = decode(data, apply_exif=apply_exif, colour_profile=policy.colour_profile)
    size = target_size(*image.size, policy.shortest_side_px)
    small = image if size == image.size else image.resize(size, Image.Resampling[policy.resample.upper()])
    small.info = {}  # Pillow would copy comments of the source file into the JPEG.
    if max(size) > MAX_JPEG_SIDE_PX:
        raise ImageRejected(f"too long for a JPEG: {size[0]} x {size[1]}, the limit is {MAX_JPEG_SIDE_PX:,} a side")
    return Shrunk(image, small, warning)


def perceptual_hash(image: Image.Image) -> str:
    """`imagehash.phash` of the image, brought to 32 x 32 grey by averaging: 64 bits as 16 hex characters.

    The bits and their notation are the library's, but the cosine transform is one matrix product, which takes a fifth
    of the time. It is rounded, so that a flat image has the same hash on every machine.
    """
    import imagehash  # Here because it imports scipy, which takes a noticeable part of a second.

    tiny = image.convert("L").resize((32, 32), Image.Resampling.BOX, reducing_gap=1.0)
    cosines = _cosines()
    low = np.round(cosines @ np.asarray(tiny, dtype=np.float64) @ cosines.T, 6)
    ordered = np.sort(low, axis=None)
    return str(imagehash.ImageHash(low > (ordered[31] + ordered[32]) / 2))


@lru_cache(maxsize=1)
def _cosines() -> np.ndarray:
    """The first 8 rows of the 32-point DCT-II, scaled as scipy's `fftpack.dct` scales it."""
    return 2 * np.cos(np.pi * np.outer(np.arange(8), 2 * np.arange(32) + 1) / 64)


def prepare_all(
    images: Iterable[SourceImage],
    policy: ImagePolicy = ImagePolicy(),  # noqa: B008 - frozen
    *,
    workers: int | None = None,
) -> Generator[tuple[SourceImage, Prepared | ImageRejected], None, None]:
    """Each image with its prepared form or the reason why there is none, in the given order.

    Threads suffice, since Pillow decodes, resizes and encodes outside the interpreter's lock
    (`benchmarks/resize.py` measures it); by default as many as there are usable cores. At most four images per worker
    are in memory: `images` is read from one thread, and only as fast as the results are taken.
    """
    workers = workers or usable_cores()
    pending: deque[tuple[SourceImage, Future[Prepared | ImageRejected]]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="prepare")
    try:
        for image in images:
            pending.append((image, pool.submit(_prepare_or_reject, image, policy)))
            if len(pending) >= 4 * workers:
                first, future = pending.popleft()
                yield first, future.result()
        while pending:
            first, future = pending.popleft()
            yield first, future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _prepare_or_reject(image: SourceImage, policy: ImagePolicy) -> Prepared | ImageRejected:
    if image.problem:
        return ImageRejected(image.problem)
    try:
        return prepare(image.data, policy, apply_exif=policy.turns(captioned=bool(image.captions)))
    except ImageRejected as rejected:
        return rejected


class ReducedImage(NamedTuple):
    """One finished image: where its JPEG lies, and what is known about it."""

    id: str
    path: Path
    offset: int
    length: int
    facts: dict[str, Any]

    def jpeg(self) -> bytes:
        """Return the JPEG bytes."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.length)


class Written(NamedTuple):
    """What `write_reduced` wrote: its files, the number of images, and the refused ones."""

    files: list[Path]
    images: int
    rejected: list[Rejected]


def write_jpegs(
    file: BinaryIO, prepared: Iterable[tuple[SourceImage, Prepared | ImageRejected]], stage: str
) -> tuple[list[str], list[Rejected]]:
    """Write the images of one shard end to end; return the lines of their index, and rows of the refused ones.

    `stage` is named in the rows.
    """
    lines, rejected, offset = [], [], 0
    for image, result in prepared:
        if not isinstance(result, Prepared):
            rejected.append(Rejected(image.id, stage, result.reason))
            continue
        file.write(result.jpeg)
        facts: dict[str, Any] = {key: getattr(image, key) for key in ("source", "split", "class_index", "wnid")}
        facts |= {key: value for key, value in result._asdict().items() if key != "jpeg"}
        facts["captions"] = image.captions
        lines.append(json.dumps([image.id, offset, len(result.jpeg), facts], ensure_ascii=False))
        offset += len(result.jpeg)
    return lines, rejected


def write_reduced(path: Path, prepared: Iterable[tuple[SourceImage, Prepared | ImageRejected]], stage: str) -> Written:
    """Write the images of one shard to `path` (JPEGs) and `path` + ".index" (JSON lines); replaces earlier ones.

    `stage` is named in the rows of refused images.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with new_file(path) as file:
        lines, rejected = write_jpegs(file, prepared, stage)
    return Written([path, write_index(path, lines)], len(lines), rejected)


def write_index(path: Path, lines: list[str]) -> Path:
    """Write the index beside a file of JPEGs; return where it lies."""
    index = path.with_name(path.name + ".index")
    write_whole(index, "".join(line + "\n" for line in lines).encode())
    return index


def read_reduced(path: Path) -> Iterator[ReducedImage]:
    """Yield the entries of a shard that `write_reduced` wrote."""
    with path.with_name(path.name + ".index").open(encoding="utf-8") as file:
        for line in file:
            identifier, offset, length, facts = json.loads(line)
            yield ReducedImage(identifier, path, offset, length, facts)


def reduce_captioned(job: Job, source: CaptionedSource, kept: dict[str, float | None] | None) -> Marker:
    """Reduce the kept captioned images, always in this process; None keeps all.

    They are few beside the distractors, and one stream in a fixed order.
    """
    configuration = {
        "source": job.described,
        "selection": "all" if kept is None else fingerprint(sorted(kept)),
        "images": job.preset.images.as_json(),
    }
    marker = job.stages.done("captioned", configuration)
    if marker is None:
        passed, total = PassedOver(), source.count() if kept is None else len(kept)
        images = job.reporter.track(source.images(passed, kept), "captioned", total, size_of=encoded_bytes)
        # Closed here whatever happens: a thread that collects garbage may be one that nobody should wait in.
        with closing(prepare_all(images, job.preset.images, workers=job.options.workers)) as stream:
            done = write_reduced(reduced_path(job.options.work, "captioned"), stream, "captioned")
        counts = counts_of(done.images, passed)
        marker = job.stages.finish("captioned", configuration, done.files, counts, done.rejected)
    book(job, marker)
    if kept is not None and job.options.recipe is None:  # What a recipe has more is told at the end.
        held = {entry.id for entry in _entries(job, marker)} | {item.id for item in marker.rejected}
        missing = sorted(set(kept) - held)
        job.rejected += [Rejected(i, "captioned", "selected, but the source does not have it") for i in missing]
    return marker


def merge(job: Job, markers: list[Marker]) -> list[ReducedImage]:
    """Return the entries of all shards, sorted by id; a second image of the same id is refused."""
    found: dict[str, ReducedImage] = {}
    for marker in markers:
        for entry in _entries(job, marker):
            if (first := found.setdefault(entry.id, entry)) is not entry:
                where = first.path.relative_to(job.options.work).as_posix()
                job.rejected.append(Rejected(entry.id, "export", f"the id stands twice; the first is in {where}"))
    job.check_rejects()
    return [found[identifier] for identifier in sorted(found)]


def book(job: Job, marker: Marker) -> None:
    """Count what a finished stage read, refused and passed over."""
    what = marker.stage.partition("/")[0]
    job.rejected += marker.rejected
    job.inputs[what] += marker.counts["images"] + len(marker.rejected)
    # Markers of earlier versions do not tell.
    job.passed_over[what].update(marker.counts.get("passed_over", {}))


def counts_of(images: int, passed: PassedOver) -> dict[str, Any]:
    """Return what a marker keeps of the number of images, and of files and rows that were not used."""
    return {"images": images, "passed_over": dict(sorted(passed.items()))}


def reduced_path(work: Path, stage: str) -> Path:
    """Return where the JPEGs lie that a stage writes."""
    return work / (f"{stage}.images" if "/" in stage else f"{stage}/part-00000")


def _entries(job: Job, marker: Marker) -> Iterator[ReducedImage]:
    return read_reduced(reduced_path(job.options.work, marker.stage))
