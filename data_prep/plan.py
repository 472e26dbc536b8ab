"""What a build would do, before it does anything: `build --dry-run`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from data_prep.options import BuildOptions, open_captioned, open_distractors
from data_prep.stages import STAGES, Stages, check_replaceable
from mteb_vehicle_search.errors import SourceError

if TYPE_CHECKING:
    from data_prep.sources import CaptionedSource, DistractorSource

IMAGE_KB = 10.5  # One image of 160 px at JPEG quality 75: 720 MB for 68,154 images.
SCORES_KB = 4.0  # 1,000 probabilities, fp32.
SHARDS_IN_FLIGHT_GB = 1.0  # One ImageNet shard in use and the next one downloading.
FLICKR30K_IMAGES = 31_014


class Plan(NamedTuple):
    """What `plan` found: rows (what, value) to show, and the disk needed at the peak and free, in GB (1e9 bytes)."""

    rows: list[tuple[str, str]]
    needed_gb: float
    free_gb: float


def plan(options: BuildOptions) -> Plan:
    """Look at the sources, the disk and the stages already done; downloads and writes nothing.

    Raises:
        BuildError: The target holds other things.
    """
    check_replaceable(options.out)
    preset = options.preset
    rows = [("preset", f"{preset.name} ({preset.title})"), ("output", str(options.out)), ("work", str(options.work))]
    captioned_gb, found = _look_at(preset.captioned.source, lambda: open_captioned(options))
    distractors_gb, others = _look_at(preset.distractors.source, lambda: open_distractors(options))
    rows += [*found, *others]
    if preset.classifier and options.selection is None:
        classifier = preset.classifier
        rows.append(("classifier", f"{classifier.model} at {classifier.revision[:12] or 'local folder'}"))
    else:
        rows.append(("selection", options.selection or "all captioned images"))
    needed_gb = captioned_gb + min(distractors_gb, SHARDS_IN_FLIGHT_GB) + _products_gb(options)
    folder = options.out
    while not folder.exists():
        folder = folder.parent
    free_gb = shutil.disk_usage(folder).free / 1e9
    rows += [("disk needed at the peak", f"{needed_gb:.2f} GB"), ("disk free", f"{free_gb:.2f} GB")]
    done = Stages(options.work).finished()
    rows += [(f"stage {name}", f"{done[name]} marker(s) present" if name in done else "to do") for name in STAGES]
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
    text = ", ".join(f"{key} {_brief(value)}" for key, value in described.items() if value)
    return size_gb, [(name, text), (f"{name} download", f"{size_gb:.2f} GB")]


def _products_gb(options: BuildOptions) -> float:
    preset = options.preset
    classes = preset.distractor_classes()
    images = (preset.expected.captioned or 2_500) + (
        preset.expected.distractors or (len(classes.classes) * 1350 if classes else 2_000)
    )
    scored = FLICKR30K_IMAGES if preset.classifier and options.selection is None else 0
    # The images lie in the work folder and in the export.
    return (2 * images * IMAGE_KB + scored * SCORES_KB) / 1e6


def _brief(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 100 else text[:97] + "..."
