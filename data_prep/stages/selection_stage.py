"""The stages `classify` and `select`: which captioned images are kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from data_prep.job import Job
from data_prep.stages import fingerprint
from data_prep.stages import select as selecting
from mteb_vehicle_search.errors import BuildError
from mteb_vehicle_search.files import write_whole

if TYPE_CHECKING:
    from data_prep.class_set import ClassSet
    from data_prep.sources import CaptionedSource


class Selected(NamedTuple):
    """The captioned images that are kept.

    Attributes:
        scores: Id -> summed probability (-1: not classified); None if all images are kept.
        compared: How the selection compares with the published one, JSON for the manifest.
    """

    scores: dict[str, float] | None
    compared: dict[str, Any]


def select(job: Job, source: CaptionedSource) -> Selected:
    """Choose the captioned images as the options and the preset say.

    Raises:
        BuildError: Nothing is left, or too many images cannot be read.
    """
    if job.options.selection is not None:
        choose, configuration = _listed(job, job.options.selection)
    elif job.preset.classifier:
        choose, configuration = _scored(job, source)
    else:
        return Selected(None, {})
    expected = job.preset.expected
    configuration["expected"] = [expected.captioned, expected.selection_sha256]
    path = job.options.work / "selection.json"
    published = job.options.work / "published.csv"
    known = None
    if published.is_file():
        known = selecting.read_selection(published, job.preset.captioned.source)
        configuration["published"] = selecting.selection_digest(known)
    marker = job.stages.done("select", configuration)
    if marker is None:
        kept = choose()
        if not kept:
            raise BuildError("The selection keeps no image at all.", "Lower selection.threshold in the preset.")
        compared = selecting.compare(kept, expected.captioned, expected.selection_sha256, known)
        write_whole(path, json.dumps(kept, indent=0).encode())
        marker = job.stages.finish("select", configuration, [path], compared)
    for line in selecting.describe(marker.counts):
        job.reporter.say(line)
    return Selected(json.loads(path.read_text(encoding="utf-8")), marker.counts)


def _listed(job: Job, selection: str) -> tuple[Callable[[], dict[str, float]], dict[str, Any]]:
    path = selecting.published_file(job.options.work) if selection == "published" else Path(selection)
    ids = selecting.read_selection(path, job.preset.captioned.source)
    return lambda: dict.fromkeys(sorted(ids), -1.0), {"list": selecting.selection_digest(ids)}


def _scored(job: Job, source: CaptionedSource) -> tuple[Callable[[], dict[str, float]], dict[str, Any]]:
    from data_prep.stages.classify import summed_scores

    rule, classes = job.preset.selection, job.preset.selection_classes()
    if rule is None or classes is None:
        raise BuildError("A classifier needs [selection] in the preset.")
    files, configuration = _classify(job, source, classes)
    configuration |= {"classes": classes.indices, "rule": asdict(rule)}
    return lambda: selecting.select(summed_scores(files, classes.indices), rule), configuration


def _classify(job: Job, source: CaptionedSource, classes: ClassSet) -> tuple[list[Path], dict[str, Any]]:
    import pyarrow.parquet as pq  # A large library.

    from data_prep.stages.classifiers import check_classes, choose_device, classifier_identity, load_scorer
    from data_prep.stages.classify import score_images

    preset, options = job.preset, job.options
    if (classifier := preset.classifier) is None:
        raise BuildError("The preset has no classifier.")
    device = choose_device(options.device)
    configuration = {
        "classifier": classifier_identity(classifier, preset.folder),
        "device": device.partition(":")[0],
    }
    whole = {**configuration, "batch_size": options.batch_size, "source": job.described}
    marker = job.stages.done("classify", whole)
    if marker is None:

        def scorer() -> Any:
            made = load_scorer(classifier, preset.folder, device)
            if warning := check_classes(made, classes):
                job.reporter.say(f"Warning: {warning}")
            return made

        images = job.reporter.track(source.images(), "classify", source.count())
        files, rejected = score_images(job.stages, images, scorer, configuration, options.workers, options.batch_size)
        marker = job.stages.finish("classify", whole, files, {"chunks": len(files)}, rejected)
    files = [options.work / name for name in sorted(marker.outputs)]
    job.rejected += marker.rejected
    job.inputs["captioned"] += sum(pq.read_metadata(file).num_rows for file in files) + len(marker.rejected)
    job.check_rejects()
    return files, {"scores": fingerprint(marker.outputs)}
