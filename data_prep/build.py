"""The pipeline, from top to bottom: classify, select, reduce the images, find duplicates, export, verify.

Every stage leaves a marker in the work folder (`<out>.build`), and is skipped by the next run if nothing that it
depends on has changed.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.job import BuildOptions, Job, open_captioned, open_distractors
from data_prep.stages import Marker, Stages, fingerprint
from data_prep.stages.export import export, find_duplicates
from data_prep.stages.reduce import PartEntry, read_part, write_part
from data_prep.stages.select import select
from mteb_vehicle_search.eval_set import EvalSet, Rejected
from mteb_vehicle_search.files import check_replaceable, locked
from mteb_vehicle_search.terminal import Reporter

if TYPE_CHECKING:
    from data_prep.sources import CaptionedSource, DistractorSource, Part, SourceImage

EARLY_CHECK = 2_000  # Inputs after which too many rejects stop a build before its end.


def build(options: BuildOptions, reporter: Reporter) -> EvalSet:
    """Build an evaluation set, or finish one that was interrupted.

    Returns:
        The verified set, at `options.out`.

    Raises:
        BuildError: The target holds other things, another build is at work there, too many inputs were refused, or
            the result does not verify.
        SourceError: A source is missing, refused or damaged.
    """
    check_replaceable(options.out)
    with locked(options.work):
        stages = Stages(options.work, reporter.say)
        for stage in options.rebuild:
            stages.discard(stage)
        captioned, distractors = open_captioned(options), open_distractors(options)
        job = Job(options, reporter, stages, captioned.describe())
        selected = select(job, captioned)
        markers = [reduce_captioned(job, captioned, selected.scores), *reduce_distractors(job, distractors)]
        job.check_rejects()
        entries = merge(job, markers)
        duplicates = find_duplicates(job, entries, markers)
        return export(job, entries, selected, duplicates, markers)


def reduce_captioned(job: Job, source: CaptionedSource, kept: dict[str, float] | None) -> Marker:
    """Reduce the kept captioned images; None keeps all."""
    configuration = {
        "source": job.described,
        "selection": "all" if kept is None else fingerprint(sorted(kept)),
        "images": asdict(job.preset.images),
    }

    def images() -> Iterator[SourceImage]:
        found = (image for image in source.images() if kept is None or image.id in kept)
        return job.reporter.track(found, "captioned", source.count() if kept is None else len(kept))

    marker = _reduce(job, "captioned", configuration, images)
    if kept is not None:
        held = {entry.id for entry in _entries(job, marker)} | {item.id for item in marker.rejected}
        job.rejected += [
            Rejected(identifier, "captioned", "selected, but the source does not have it")
            for identifier in sorted(set(kept) - held)
        ]
    return marker


def reduce_distractors(job: Job, source: DistractorSource) -> Iterator[Marker]:
    """Reduce the distractors, part by part; a source's part is released when its images are safe."""
    classes = job.preset.distractor_classes()
    wanted = set(classes.indices) if classes else set()
    splits = {*job.preset.distractors.splits, ""}
    parts = [part for part in source.parts(wanted) if part.split in splits]
    for number, part in enumerate(job.reporter.track(parts, "distractors", len(parts))):
        configuration = {
            "part": part.name,
            "source": part.fingerprint(),
            "classes": sorted(wanted),
            "images": asdict(job.preset.images),
        }

        def images(number: int = number, part: Part = part) -> Iterator[SourceImage]:
            source.prefetch(part)
            if number + 1 < len(parts) and not job.stages.path(_part_stage(number + 1)).is_file():
                source.prefetch(parts[number + 1])
            return source.images(part, wanted)

        yield _reduce(job, _part_stage(number), configuration, images)
        source.release(part)
        if sum(job.inputs.values()) >= EARLY_CHECK:
            job.check_rejects()
    shutil.rmtree(job.options.work / "download", ignore_errors=True)


def merge(job: Job, markers: list[Marker]) -> list[PartEntry]:
    """Return the entries of all parts, sorted by id; a second image of the same id is refused."""
    found: dict[str, PartEntry] = {}
    for marker in markers:
        for entry in _entries(job, marker):
            if entry.id in found:
                first = found[entry.id].path.relative_to(job.options.work).as_posix()
                job.rejected.append(Rejected(entry.id, "export", f"the id stands twice; the first is in {first}"))
            else:
                found[entry.id] = entry
    job.check_rejects()
    return [found[identifier] for identifier in sorted(found)]


def _reduce(job: Job, stage: str, configuration: dict[str, Any], images: Callable[[], Iterator[SourceImage]]) -> Marker:
    from data_prep.stages.reduce import prepare_all  # Imports Pillow.

    what = stage.partition("/")[0]
    marker = job.stages.done(stage, configuration)
    if marker is None:
        stream = prepare_all(images(), job.preset.images, workers=job.options.workers)
        done = write_part(_part_path(job, stage), stream, what)
        marker = job.stages.finish(stage, configuration, done.files, {"images": done.images}, done.rejected)
    job.rejected += marker.rejected
    job.inputs[what] += marker.counts["images"] + len(marker.rejected)
    return marker


def _part_stage(number: int) -> str:
    return f"distractors/part-{number:05d}"


def _part_path(job: Job, stage: str) -> Path:
    return job.options.work / (stage if "/" in stage else f"{stage}/part-00000")


def _entries(job: Job, marker: Marker) -> Iterator[PartEntry]:
    return read_part(_part_path(job, marker.stage))
