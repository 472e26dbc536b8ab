"""The stages `classify` and `select`: which captioned images are kept, and how the published selection compares."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow.parquet as pq

from data_prep.hub import require_answer
from data_prep.job import BuildOptions, Job
from data_prep.markers import fingerprint
from data_prep.preset import Selection
from data_prep.sources.registry import SOURCES
from data_prep.stages.classify import MakeClassifier, score_images, summed_scores
from mteb_vehicle_search.engine.shown import Shown
from mteb_vehicle_search.errors import BuildError, SourceError
from mteb_vehicle_search.files import file_sha256, write_whole
from mteb_vehicle_search.terminal import in_bytes

if TYPE_CHECKING:
    from data_prep.class_set import ClassSet
    from data_prep.sources import CaptionedSource, SourceImage

PUBLISHED_URL = (
    "https://raw.githubusercontent.com/lukemerrick/vehicle-image-search-eval/"
    "5320e45153c783bbae0e810a553ed379ae5f45ff/vehicle_image_search/qrels.csv"
)
PUBLISHED_SHA256 = "f4e4c1d3122ac1894b5a2b4a8b3eb0c99ec455f1834dbcd53e24452867dc8c59"
PUBLISHED_BYTES = 413_446
PUBLISHED_IMAGES = 2_145


def check_selection(options: BuildOptions) -> None:
    """Make sure that the list that `options.selection` names can be had.

    Raises:
        BuildError: It is missing or is no list.
        SourceError: It would be downloaded, and its server does not answer.
    """
    if options.selection == "published":
        if not _is_published(options.work / "published.csv"):
            require_answer(PUBLISHED_URL)
    elif options.selection is not None:
        read_selection(Path(options.selection), options.preset.captioned.source)


def selected_share(options: BuildOptions, count: int | None) -> set[str] | float:
    """Return the ids of the images that are kept if that is known before the build, else about which share they are.

    Args:
        options: Of the build.
        count: How many captioned images there are, if that is known.
    """
    source, expected = options.preset.captioned.source, options.preset.expected.captioned
    if options.selection is not None:
        path = options.work / "published.csv" if options.selection == "published" else Path(options.selection)
        if path.is_file():
            return read_selection(path, source)
        expected = PUBLISHED_IMAGES
    if options.recipe:
        return set(options.recipe.captioned)
    rule = options.preset.selection
    if expected and count:
        return min(1.0, expected / count)
    return rule.share if rule and rule.share and options.selection is None else 1.0


def _is_published(path: Path) -> bool:
    return path.is_file() and file_sha256(path) == PUBLISHED_SHA256


def apply_rule(scores: Iterable[tuple[str, float]], rule: Selection) -> dict[str, float]:
    """Return the kept ids with their scores, sorted by id; scores equal at a share's border are decided by id."""
    ranked = sorted(scores, key=lambda item: (-item[1], item[0]))
    if rule.threshold is None:
        return dict(sorted(ranked[: round((rule.share or 0) * len(ranked))]))
    return dict(sorted(item for item in ranked if item[1] > rule.threshold))


def selection_digest(ids: Iterable[str]) -> str:
    """Return the sha256 of the file names `<stem>.jpg`, sorted bytewise, one per line."""
    names = sorted(f"{identifier.partition('/')[2]}.jpg".encode() for identifier in ids)
    return hashlib.sha256(b"".join(name + b"\n" for name in names)).hexdigest()


def published_file(folder: Path) -> Path:
    """Return the published list, downloaded into `folder` once and checked."""
    path = folder / "published.csv"
    if _is_published(path):
        return path
    try:
        with urllib.request.urlopen(PUBLISHED_URL, timeout=60) as response:
            content = response.read(PUBLISHED_BYTES + 1)
    except OSError as error:
        raise SourceError(
            f"The published selection cannot be downloaded from {PUBLISHED_URL}: {error}.",
            "Check the connection and try again, or download it by hand and name the file: --selection FILE.",
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != PUBLISHED_SHA256:
        raise SourceError(f"{PUBLISHED_URL} has sha256 {found} instead of {PUBLISHED_SHA256}; it is not used.")
    write_whole(path, content)
    return path


def read_selection(path: Path, source: str) -> set[str]:
    """Return the ids of the images that a list names: a qrels CSV (`document_id`) or one file name per line.

    Raises:
        BuildError: The file is missing or names nothing.
    """
    if not path.is_file():
        raise BuildError(f"There is no selection {path}.", "Give --selection published, or a file.")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise BuildError(
            f"{path} is not a list of file names: {error.reason} at byte {error.start:,}.",
            "Expected one name such as 1000092795.jpg per line, or a CSV with the column document_id.",
        ) from error
    if lines and "document_id" in lines[0].split(","):
        names = {row["document_id"] for row in csv.DictReader(lines)}
    else:
        names = {line.strip() for line in lines if line.strip()}
    whole = source in SOURCES and SOURCES[source].keeps_endings
    # With folders where images have them; of a name nothing else is known.
    fits = re.compile(r"[^/\x00-\x1f][^\x00-\x1f]*" if whole else r"[\w.-]+")
    if odd := sorted(name for name in names if not fits.fullmatch(name)):
        raise BuildError(
            f"{path}: {odd[0]!r} is not a file name.", "Expected one name such as 1000092795.jpg per line."
        )
    if not names:
        raise BuildError(f"{path} names no image.")
    return {f"{source}/{name if whole else re.sub(r'[.]jpe?g$', '', name)}" for name in names}


def compare(
    kept: Iterable[str], expected_count: int | None, expected_sha256: str | None, published: set[str] | None
) -> dict[str, Any]:
    """Say how a selection compares with the published one, as JSON for the manifest.

    Args:
        kept: Ids of the kept images.
        expected_count: How many the published selection has, if known.
        expected_sha256: Its `selection_digest`, if known.
        published: Its ids, if the list is at hand; then missing and extra ones are named.
    """
    kept = set(kept)
    digest = selection_digest(kept)
    found: dict[str, Any] = {"count": len(kept), "sha256": digest}
    if expected_sha256:
        found |= {
            "expected_count": expected_count,
            "expected_sha256": expected_sha256,
            "same": digest == expected_sha256,
        }
    if published is not None:
        found |= {"missing": sorted(published - kept), "extra": sorted(kept - published)}
    return found


def describe(compared: dict[str, Any]) -> list[str]:
    """Say in words what `compare` found."""
    lines = [f"Selection: {compared['count']} images, sha256 {compared['sha256'][:16]}..."]
    if "same" in compared:
        verdict = "the same as the published one" if compared["same"] else "NOT the published one"
        count = compared["expected_count"]
        lines.append(f"  It is {verdict} ({count} images, sha256 {compared['expected_sha256'][:16]}...).")
    for key in ("missing", "extra"):
        if names := compared.get(key):
            lines.append(f"  {len(names)} {key}, first {', '.join(names[:5])}")
    return lines


class Selected(NamedTuple):
    """The captioned images that are kept.

    Attributes:
        scores: Id -> summed probability (None: not classified); None if all images are kept.
        compared: How the selection compares with the published one, JSON for the manifest.
    """

    scores: dict[str, float | None] | None
    compared: dict[str, Any]


def select(job: Job, source: CaptionedSource) -> Selected:
    """Choose the captioned images as the options and the preset say.

    Raises:
        BuildError: Nothing is left, or too many images cannot be read.
    """
    preset, work, listed = job.preset, job.options.work, job.options.selection
    rule = None
    if listed is not None:
        ids = read_selection(published_file(work) if listed == "published" else Path(listed), preset.captioned.source)
        configuration: dict[str, Any] = {"list": selection_digest(ids)}
        kept: dict[str, float | None] = dict.fromkeys(sorted(ids))
    elif recipe := job.options.recipe:
        kept = recipe.scores()
        configuration = {"list": selection_digest(kept), "scores": fingerprint(kept)}
    elif preset.classifier:
        rule, classes = preset.selection, preset.selection_classes()
        if rule is None or classes is None:
            raise BuildError("A classifier needs [selection] in the preset.")
        files, configuration = _classify(job, source, classes)
        configuration |= {"classes": classes.indices, "rule": rule.as_json()}
        kept = {**apply_rule(summed_scores(files, classes.indices), rule)}
    else:
        return Selected(None, {})
    expected = preset.expected
    configuration["expected"] = [expected.captioned, expected.selection_sha256]
    path = work / "selection.json"
    published = work / "published.csv"
    known = None
    if published.is_file():
        known = read_selection(published, preset.captioned.source)
        configuration["published"] = selection_digest(known)
    marker = job.stages.done("select", configuration)
    if marker is None:
        if not kept:
            raise BuildError("The selection keeps no image at all.", "Lower selection.threshold in the preset.")
        compared = compare(kept, expected.captioned, expected.selection_sha256, known)
        write_whole(path, json.dumps(kept, indent=0).encode())
        marker = job.stages.finish("select", configuration, [path], compared)
    tell = job.reporter.say if marker.counts.get("same", True) else job.reporter.warn
    tell("\n".join(describe(marker.counts)))
    return Selected(json.loads(path.read_text(encoding="utf-8")), marker.counts)


def _classify(job: Job, source: CaptionedSource, classes: ClassSet) -> tuple[list[Path], dict[str, Any]]:
    from data_prep.stages.classifiers import THREADS, classifier_identity

    preset, options, engine = job.preset, job.options, job.engine
    if (classifier := preset.classifier) is None:
        raise BuildError("The preset has no classifier.")
    device, is_folder = _device(job), (preset.folder / classifier.model).is_dir()
    kind = f"cpu, {THREADS} thread a batch" if device == "cpu" else device.partition(":")[0]
    configuration = {"classifier": classifier_identity(classifier, preset.folder), "device": kind}
    configuration["batch_size"] = options.batch_size
    if decoding := preset.images.decoding:
        configuration["decoding"] = decoding
    whole = {**configuration, "source": job.described}
    marker = job.stages.done("classify", whole)
    if marker is None:
        how = (classifier, preset.folder, device, classes, options.batch_size, preset.images)
        make_worker = MakeClassifier(*how, is_folder, options.workers)
        identity = None if engine.is_here else make_worker.same_everywhere()
        with job.reporter.bar("classify", source.count()) as bar:
            shown = Shown(bar, engine)
            images, told = _noted(source.images(), shown), {"listener": shown, "warn": job.reporter.warn}
            found = score_images(job.stages, images, make_worker, configuration, engine, identity=identity, **told)
        files, rejected = found
        marker = job.stages.finish("classify", whole, files, {"chunks": len(files)}, rejected)
    files = [options.work / name for name in sorted(marker.outputs)]
    job.rejected += marker.rejected
    job.inputs["captioned"] += sum(pq.read_metadata(file).num_rows for file in files) + len(marker.rejected)
    job.check_rejects()
    return files, {"scores": fingerprint(marker.outputs)}


def _device(job: Job) -> str:
    """Return the torch device that classifies; elsewhere than here it is only known of what kind."""
    from data_prep.stages.classifiers import choose_device

    asked, engine = job.options.device, job.engine
    if engine.is_here:
        return choose_device(asked)
    return (engine.device if asked == "auto" else asked).partition(":")[0]


def _noted(images: Iterable[SourceImage], shown: Shown) -> Iterator[SourceImage]:
    """Yield the images, and say how many bytes they have."""
    size = 0
    for image in images:
        size += len(image.data)
        shown.note(in_bytes(size))
        yield image
