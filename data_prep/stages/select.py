"""The stages `classify` and `select`: which captioned images are kept, and how the published selection compares."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from data_prep.class_set import ClassSet
from data_prep.hub import require_answer
from data_prep.job import BuildOptions, Job
from data_prep.markers import fingerprint
from data_prep.preset import Preset, Selection
from data_prep.sources.registry import SOURCES
from data_prep.stages.classify import classify, summed_scores
from data_prep.stages.clusters import Cluster, choose_clusters, describe_clusters, find_clusters, joined_views
from data_prep.stages.views import Views
from mteb_vehicle_search.errors import BuildError, SourceError
from mteb_vehicle_search.files import file_sha256, write_whole

if TYPE_CHECKING:
    from data_prep.sources import CaptionedSource

PUBLISHED_URL = (
    "https://raw.githubusercontent.com/lukemerrick/vehicle-image-search-eval/"
    "5320e45153c783bbae0e810a553ed379ae5f45ff/vehicle_image_search/qrels.csv"
)
PUBLISHED_SHA256 = "f4e4c1d3122ac1894b5a2b4a8b3eb0c99ec455f1834dbcd53e24452867dc8c59"
PUBLISHED_BYTES = 413_446
PUBLISHED_IMAGES = 2_145


def check_selection(options: BuildOptions) -> None:
    """Make sure that the list that the options name, or else the preset, can be had.

    Raises:
        BuildError: It is missing or is no list.
        SourceError: It would be downloaded, and its server does not answer.
    """
    if options.selection == "published":
        if not _is_published(options.work / "published.csv"):
            require_answer(PUBLISHED_URL)
    elif options.selection is not None:
        read_selection(Path(options.selection), options.preset.captioned.source)
    elif (rule := options.preset.selection) and rule.method == "list":
        read_selection(options.preset.folder / rule.list, options.preset.captioned.source)


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
    if rule and rule.method == "list" and options.selection is None:
        return read_selection(options.preset.folder / rule.list, source)
    if rule and rule.method == "clusters" and options.selection is None:
        expected = expected or rule.images
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
        clusters: Those that are kept, JSON for the manifest; see `describe_clusters`. Empty: none were made.
    """

    scores: dict[str, float | None] | None
    compared: dict[str, Any]
    clusters: list[dict[str, Any]] = []  # noqa: RUF012 - never changed


class _Choice(NamedTuple):
    """What a method keeps: ids with scores, what that depends on, and in which clusters they are, if in any."""

    kept: dict[str, float | None]
    configuration: dict[str, Any]
    clusters: list[Cluster]


def select(job: Job, source: CaptionedSource, views: Views | None = None) -> Selected:
    """Choose the captioned images as the options and the preset say.

    Args:
        job: The build.
        source: Of the captioned images.
        views: Of all captioned images; only of a selection by clusters.

    Raises:
        BuildError: Nothing is left, or too many images cannot be read.
    """
    work, expected = job.options.work, job.preset.expected
    if (choice := _chosen(job, source, views)) is None:
        return Selected(None, {})
    configuration = {**choice.configuration, "expected": [expected.captioned, expected.selection_sha256]}
    path, listed = work / "selection.json", work / "clusters.json"
    published = work / "published.csv"
    known = None
    if published.is_file():
        known = read_selection(published, job.preset.captioned.source)
        configuration["published"] = selection_digest(known)
    marker = job.stages.done("select", configuration)
    if marker is None:
        if not choice.kept:
            raise BuildError("The selection keeps no image at all.", "Lower selection.threshold in the preset.")
        compared = compare(choice.kept, expected.captioned, expected.selection_sha256, known)
        write_whole(path, json.dumps(choice.kept, indent=0).encode())
        if choice.clusters:
            captions = {image.id: image.captions for image in source.images(None, choice.kept)}
            described = describe_clusters(choice.clusters, captions)
            write_whole(listed, json.dumps(described, indent=0, ensure_ascii=False).encode())
        marker = job.stages.finish("select", configuration, [path, listed] if choice.clusters else [path], compared)
    tell = job.reporter.say if marker.counts.get("same", True) else job.reporter.warn
    tell("\n".join(describe(marker.counts)))
    clusters = json.loads(listed.read_text(encoding="utf-8")) if choice.clusters else []
    return Selected(json.loads(path.read_text(encoding="utf-8")), marker.counts, clusters)


def _chosen(job: Job, source: CaptionedSource, views: Views | None) -> _Choice | None:
    """Return what is kept; None if all is. A list or a recipe of the options goes before the preset's method."""
    preset, work, listed = job.preset, job.options.work, job.options.selection
    if listed is not None:
        return _of_list(published_file(work) if listed == "published" else Path(listed), preset)
    if recipe := job.options.recipe:
        kept = recipe.scores()
        return _Choice(kept, {"list": selection_digest(kept), "scores": fingerprint(kept)}, [])
    if rule := preset.selection:
        if rule.method == "list":
            return _of_list(preset.folder / rule.list, preset)
        return _of_clusters(job, views, rule) if rule.method == "clusters" else _of_threshold(job, source, rule)
    if preset.classifier:
        raise BuildError("A classifier needs [selection] in the preset.")
    return None


def _of_list(path: Path, preset: Preset) -> _Choice:
    ids = read_selection(path, preset.captioned.source)
    return _Choice(dict.fromkeys(sorted(ids)), {"list": selection_digest(ids)}, [])


def _of_threshold(job: Job, source: CaptionedSource, rule: Selection) -> _Choice:
    classes = ClassSet.load(rule.classes, job.preset.folder)
    files, configuration = classify(job, source, classes)
    configuration |= {"classes": classes.indices, "rule": rule.as_json()}
    return _Choice({**apply_rule(summed_scores(files, classes.indices), rule)}, configuration, [])


def _of_clusters(job: Job, views: Views | None, rule: Selection) -> _Choice:
    if views is None:
        raise BuildError("A selection by clusters needs the views of the captioned images.")
    names = sorted(job.preset.cluster_miners())
    clusters = choose_clusters(find_clusters(*joined_views(views, names), rule.clusters or 0, rule.seed), rule)
    kept = sorted(identifier for cluster in clusters for identifier in cluster.ids)
    configuration = {"views": views.digest, "miners": names, "rule": rule.as_json()}
    return _Choice(dict.fromkeys(kept), configuration, clusters)
