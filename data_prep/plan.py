"""What a build would do, before it does anything: `build --dry-run`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from data_prep.job import BuildOptions
from data_prep.markers import STAGES, Stages
from data_prep.preset import Preset
from data_prep.sources.registry import SOURCES
from mteb_vehicle_search.errors import BuildError, SourceError
from mteb_vehicle_search.files import check_replaceable

if TYPE_CHECKING:
    from data_prep.sources import CaptionedSource, DistractorSource

OWN_TASKS = {
    "vehicleimagesearch": "vehicle-image-search",
    "vehicleimagesearchmini": "vehicle-image-search-mini",
}
IMAGE_KB = 10.5  # One image of 160 px at JPEG quality 75: 720 MB for 68,154 images.
SCORES_KB = 4.0  # 1,000 probabilities, fp32.
SHARDS_IN_FLIGHT_GB = 1.0  # One ImageNet shard in use and the next one downloading.


class Plan(NamedTuple):
    """What `plan` found: rows (what, value) to show, and the disk needed at the peak and free, in GB (1e9 bytes)."""

    rows: list[tuple[str, str]]
    needed_gb: float
    free_gb: float


def check_task_name(preset: Preset) -> None:
    """Make sure that the set's task is not one that exists; names that differ by case alone share a result file.

    Raises:
        BuildError: It is mteb's, another package's, or that of another set which ships with this one.
    """
    # It imports mteb, which takes seconds.
    from mteb_vehicle_search.plugin.registry import known_tasks

    name = preset.task.lower()
    # The tasks of evaluation sets are registered too, maybe of this very one.
    taken = [
        f"{known} of {task.__module__}"
        for known, task in known_tasks().items()
        if known.lower() == name and not task.__module__.startswith("mteb_vehicle_search.")
    ]
    if OWN_TASKS.get(name, preset.name) != preset.name:
        taken.append(f"that of the set {OWN_TASKS[name]}")
    if taken:
        raise BuildError(f"The task name {preset.task} is taken: {taken[0]}.", "State another task_name in the preset.")


def plan(options: BuildOptions) -> Plan:
    """Look at the sources, the disk and the stages already done; downloads and writes nothing.

    Raises:
        BuildError: The target holds other things, or the task name is taken.
    """
    preset = options.preset
    check_task_name(preset)
    check_replaceable(options.out)
    rows = [
        ("preset", f"{preset.title} ({preset.name})"),
        ("task", preset.task),
        ("output", str(options.out)),
        ("work", str(options.work)),
    ]
    captioned_gb, found = _look_at(preset.captioned.source, options.open_captioned)
    distractors_gb, others = _look_at(preset.distractors.source, options.open_distractors)
    model_gb, chosen = _look_at_selection(options)
    rows += [*found, *others, *chosen]
    needed_gb = captioned_gb + model_gb + min(distractors_gb, SHARDS_IN_FLIGHT_GB) + _products_gb(options)
    folder = next(path for path in (options.out, *options.out.parents) if path.exists())
    free_gb = shutil.disk_usage(folder).free / 1e9
    rows += [("disk needed at the peak", f"{needed_gb:.2f} GB"), ("disk free", f"{free_gb:.2f} GB")]
    stages = Stages(options.work)
    markers = stages.finished()
    for name in STAGES:
        parts = f"{markers[name]} part{'s' if markers[name] > 1 else ''} done" if name in markers else "to do"
        rows.append((f"stage {name}", "done" if stages.path(name).is_file() else parts))
    return Plan(rows, needed_gb, free_gb)


def _look_at(
    name: str, source: Callable[[], CaptionedSource | DistractorSource]
) -> tuple[float, list[tuple[str, str]]]:
    """Return the gigabytes to download for a source, and rows about it; one that is not ready says why."""
    try:
        opened = source()
        described, size_gb = opened.describe(), opened.download_gb
    except SourceError as error:
        return 0.0, [(name, f"NOT READY: {error}")]
    where = f"{described['form']} {described.get('location', '')}".strip()
    rows = [(name, f"{where} at {described['revision'][:12]}" if described.get("revision") else where)]
    if files := described.get("files"):
        rest = f" and {len(files) - 2} more" if len(files) > 2 else ""
        rows.append((f"{name} files", ", ".join(files[:2]) + rest))
    return size_gb, [*rows, (f"{name} download", f"{size_gb:.2f} GB")]


def _look_at_selection(options: BuildOptions) -> tuple[float, list[tuple[str, str]]]:
    classifier = options.preset.classifier
    if options.selection is not None or classifier is None:
        return 0.0, [("selection", options.selection or "all captioned images")]
    if classifier.library == "transformers" and (options.preset.folder / classifier.model).is_dir():
        return 0.0, [("classifier", f"{classifier.model} (a local folder)")]
    from data_prep.hub import model_gb
    from data_prep.stages.classifiers import hub_files

    try:
        size_gb = model_gb(*hub_files(classifier))
    except SourceError as error:
        return 0.0, [("classifier", f"NOT READY: {error}")]
    name = f"{classifier.model} at {classifier.revision[:12]}"
    return size_gb, [("classifier", name), ("classifier download", f"{size_gb:.2f} GB")]


def _products_gb(options: BuildOptions) -> float:
    preset, classes = options.preset, options.preset.distractor_classes()
    per_class = SOURCES[preset.distractors.source].per_class
    distractors = len(classes.classes) * per_class if classes and per_class else 2_000
    images = (preset.expected.captioned or 2_500) + (preset.expected.distractors or distractors)
    classified = preset.classifier and options.selection is None
    scored = SOURCES[preset.captioned.source].images or 0 if classified else 0
    # The images lie in the work folder and in the export.
    return (2 * images * IMAGE_KB + scored * SCORES_KB) / 1e6
