"""What a build would do and what it lacks, found out in seconds: the start of every build, and `build --dry-run`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from data_prep.job import BuildOptions
from data_prep.markers import STAGES, Stages
from data_prep.preset import Preset
from data_prep.sources.registry import SOURCES
from data_prep.stages.distractors import shard_stage
from data_prep.stages.embed import pool_stage
from data_prep.stages.select import check_selection, selected_share
from mteb_vehicle_search.errors import BuildError, VehicleSearchError
from mteb_vehicle_search.files import check_replaceable, check_writable
from mteb_vehicle_search.terminal import in_bytes

if TYPE_CHECKING:
    from data_prep.sources import CaptionedSource, DistractorSource, Shard

T = TypeVar("T")
OWN_TASKS = {
    "vehicleimagesearch": "vehicle-image-search",
    "vehicleimagesearchmini": "vehicle-image-search-mini",
}
IMAGE_KB = 10.5  # One image of 160 px at JPEG quality 75: 720 MB for 68,154 images.
SCORES_KB = 4.0  # 1,000 probabilities, fp32.
VIEW_KB = 4.0  # Of an image by a miner: 1,000 dimensions, fp32; most have fewer.
SHARDS_IN_FLIGHT_GB = 1.0  # One ImageNet shard in use and the next one downloading.
LINES = {"100 Mbit/s": 100e6 / 8, "1 Gbit/s": 1e9 / 8}  # Bytes per second.


@dataclass
class Plan:
    """What `plan` found.

    Attributes:
        rows: (what, value) to show.
        problems: Why the build would fail, all of them.
        doubts: What makes a source look incomplete, sentences.
        warnings: What else nobody should miss, sentences.
        needed_gb: Disk needed at the peak, in GB (1e9 bytes), without what is there already.
        free_gb: Disk that is free, likewise.
        captioned: The source of captioned images, opened; None if that failed.
        distractors: The source of distractors, likewise.
        shards: The distractors' shards.
        travels: Bytes that have yet to come over a network, by what they are of.
    """

    rows: list[tuple[str, str]] = field(default_factory=list)
    problems: list[VehicleSearchError] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    needed_gb: float = 0.0
    free_gb: float = 0.0
    captioned: CaptionedSource | None = None
    distractors: DistractorSource | None = None
    shards: list[Shard] = field(default_factory=list)
    travels: dict[str, int] = field(default_factory=dict)

    def attempt(self, action: Callable[..., T], *arguments: Any) -> T | None:
        """Return what an action returns, or None if it raises an error of ours, which becomes one of the problems."""
        try:
            return action(*arguments)
        except VehicleSearchError as error:
            if str(error) not in map(str, self.problems):
                self.problems.append(error)
            return None

    def require(self) -> tuple[CaptionedSource, DistractorSource]:
        """Return the opened sources.

        Raises:
            VehicleSearchError: There are problems: the only one, or a BuildError that tells them all.
        """
        if len(self.problems) > 1:
            told = "\n".join(f"{number}. {error}" for number, error in enumerate(self.problems, start=1))
            raise BuildError(f"The build cannot start, for {len(self.problems)} reasons:\n{told}")
        if self.problems or self.captioned is None or self.distractors is None:
            raise self.problems[0]
        return self.captioned, self.distractors


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
    """Look at the sources, the classifier, the disk and the stages already done; downloads and writes nothing."""
    preset = options.preset
    found = Plan(
        [
            ("preset", f"{preset.title} ({preset.name})"),
            ("task", preset.task),
            ("output", str(options.out)),
            ("work", str(options.work)),
        ]
    )
    found.attempt(check_task_name, preset)
    found.attempt(check_replaceable, options.out)
    found.attempt(check_writable, options.work)
    found.attempt(_check_flags, options)
    _look_at_captioned(options, found)
    in_flight_gb = _look_at_distractors(options, found)
    model_gb = _look_at_selection(options, found) + _look_at_miners(options, found)
    found.rows += [(f"{name} travels", _with_times(size)) for name, size in found.travels.items()]
    if len(found.travels) > 1:
        found.rows.append(("in all", _with_times(sum(found.travels.values()))))
    if found.doubts and not options.allow_incomplete:
        found.problems += [
            BuildError(doubt, "Get the missing part, or go on with what is there: --allow-incomplete")
            for doubt in found.doubts
        ]
    else:
        found.warnings += found.doubts
    left_gb = max(0.0, _products_gb(options, found) - _size_gb(options.work))
    found.needed_gb = model_gb + in_flight_gb + left_gb
    there = next(path for path in (options.out, *options.out.parents) if path.exists())
    found.free_gb = shutil.disk_usage(there).free / 1e9
    found.rows += [("disk needed at the peak", f"{found.needed_gb:.2f} GB"), ("disk free", f"{found.free_gb:.2f} GB")]
    if found.needed_gb > found.free_gb:
        found.warnings.append(
            f"About {found.needed_gb:.2f} GB are needed; {found.free_gb:.2f} GB are free on the disk."
        )
    _look_at_stages(options, found)
    return found


def _check_flags(options: BuildOptions) -> None:
    if options.recipe and options.selection is not None:
        raise BuildError("A recipe says which images are kept: --selection has no meaning beside --recipe.")
    roles = {"captioned": options.preset.captioned.source, "distractors": options.preset.distractors.source}
    used = {source.name for source in options.preset.sources() if not source.located}
    for role in sorted(set(options.sources) & set(roles)):
        if not SOURCES[roles[role]].located:
            raise BuildError(f"--{role} says where images of one's own lie; here it is --{roles[role]}.")
    if unused := sorted(set(options.sources) - used - set(roles)):
        raise BuildError(
            f"The preset {options.preset.name} uses no {unused[0]}: --{unused[0]} has no meaning here.",
            f"It is made of {' and '.join(sorted(set(roles.values())))}.",
        )


def _look_at_stages(options: BuildOptions, found: Plan) -> None:
    stages = Stages(options.work)
    markers = stages.finished()
    for name in STAGES:
        if name in ("embed", "mine") and not options.preset.miners:
            continue
        parts = f"{markers[name]} part{'s' if markers[name] > 1 else ''} done" if name in markers else "to do"
        found.rows.append((f"stage {name}", "done" if stages.path(name).is_file() else parts))


def _look_at_captioned(options: BuildOptions, found: Plan) -> None:
    """Open and check the captioned source, and find out what of it has to travel."""
    name = _row_name(options.preset.captioned.source, "captioned")
    source = found.captioned = found.attempt(options.open_captioned)
    if _show_source(name, source, found) is None or source is None:
        return
    doubts = found.attempt(source.check)
    if doubts is None:
        return
    found.doubts += doubts
    found.warnings += [*source.notes, *SOURCES[options.preset.captioned.source].doubts_of_count(source.count())]
    size = found.attempt(_captioned_bytes, options, source)
    _add_travels(name, size or 0, found)


def _captioned_bytes(options: BuildOptions, source: CaptionedSource) -> int:
    """How many bytes of the captioned images have yet to travel.

    For the classifier and for clusters all, then those that are kept, for the miners of distractors too.
    """
    preset, stages, kept = options.preset, Stages(options.work), selected_share(options, source.count())
    chosen = options.selection is None and options.recipe is None
    clustered = bool(chosen and preset.cluster_miners())
    size = 0
    if chosen and preset.selection_classes() and not stages.path("classify").is_file():
        size += source.travels_bytes()
    if (clustered or preset.pool_miners()) and not stages.path("embed/captioned").is_file():
        size += source.travels_bytes(1.0 if clustered else kept)
    if not stages.path("captioned").is_file():
        size += source.travels_bytes(kept)
    return size


def _look_at_distractors(options: BuildOptions, found: Plan) -> float:
    """Open the distractors, list their shards, and find out what of them has to travel.

    Returns:
        How many gigabytes of them lie on the disk while they are in use.
    """
    wanted = options.preset.distractors
    source = found.distractors = found.attempt(options.open_distractors)
    name = _row_name(wanted.source, "distractors")
    described = _show_source(name, source, found)
    if described is None or source is None:
        return 0.0
    shards = found.attempt(source.shards, options.preset.wanted_classes(), wanted.splits)
    found.shards = [shard for shard in shards or [] if shard.split in {*wanted.splits, ""}]
    known = {(one.split, one.name.rpartition("/")[2]): one.images for one in found.shards if one.images >= 0}
    found.warnings += SOURCES[wanted.source].doubts_of_classes(known)
    stages = Stages(options.work)
    passes = [shard_stage, *([pool_stage] if options.preset.pool_miners() else [])]
    left = [shard for of in passes for shard in found.shards if not stages.path(of(shard)).is_file()]
    size = sum(shard.travels_bytes for shard in left)
    _add_travels(name, size, found)
    if options.preset.pool_miners():
        images, count = _pool_images(options.preset, found), len(options.preset.pool_miners())
        found.rows.append(("pool", f"{images:,} images at most, read twice: to be embedded, and for those chosen"))
        found.rows.append(("views", f"of {count} miners, up to {images * count * VIEW_KB / 1e6:.2f} GB"))
    # The hub's shards are downloaded; other remote files are read where they lie.
    return min(size / 1e9, SHARDS_IN_FLIGHT_GB) if described["form"] == "hub" else 0.0


def _row_name(source: str, role: str) -> str:
    """What a source is called in the plan: images of one's own by what they are for."""
    return role if SOURCES[source].located else source


def _add_travels(name: str, size: int, found: Plan) -> None:
    found.travels[name] = found.travels.get(name, 0) + size


def _with_times(size: int) -> str:
    """Say how many bytes travel, and how long that takes at least on two usual lines."""
    if not size:
        return "nothing"
    times = " and ".join(f"{_in_time(size / speed)} at {line}" for line, speed in LINES.items())
    return f"{in_bytes(size)}: {times}"


def _in_time(seconds: float) -> str:
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5_970 else f"{seconds / 3_600:.1f} h"


def _show_source(name: str, source: CaptionedSource | DistractorSource | None, found: Plan) -> dict[str, Any] | None:
    """Add rows about a source; return how it describes itself, or None if it is not ready."""
    described = found.attempt(source.describe) if source is not None else None
    if described is None:
        found.rows.append((name, "NOT READY"))
        return None
    where = f"{described['form']} {described.get('location', '')}".strip()
    if described.get("revision"):
        where = f"{where} at {described['revision'][:12]}"
    found.rows.append((name, where))
    if files := described.get("files"):
        rest = f" and {len(files) - 2} more" if len(files) > 2 else ""
        found.rows.append((f"{name} files", ", ".join(files[:2]) + rest))
    return described


def _look_at_selection(options: BuildOptions, found: Plan) -> float:
    """See whether the list or the classifier can be had; return the gigabytes to download."""
    classifier, classes = options.preset.classifier, options.preset.selection_classes()
    rule = options.preset.selection
    if options.recipe:
        found.rows.append(("selection", f"as the recipe {options.recipe.where} says"))
        return 0.0
    if options.selection is not None:
        found.attempt(check_selection, options)
        found.rows.append(("selection", options.selection))
        return 0.0
    if rule and rule.method == "list":
        found.attempt(check_selection, options)
        found.rows.append(("selection", rule.list))
        return 0.0
    if rule and rule.method == "clusters":
        found.rows.append(("selection", f"of {rule.clusters:,} clusters up to {rule.images:,} images"))
        return 0.0
    if classifier is None or classes is None:
        found.rows.append(("selection", "all captioned images"))
        return 0.0
    from data_prep.stages.classifiers import check_files, choose_device

    if options.is_here:  # Elsewhere there may be other devices.
        found.attempt(choose_device, options.device)
    size_gb = found.attempt(check_files, classifier, options.preset.folder, classes)
    if size_gb is None:
        found.rows.append(("classifier", "NOT READY"))
        return 0.0
    if (options.preset.folder / classifier.model).is_dir():
        found.rows.append(("classifier", f"{classifier.model} (a local folder)"))
        return 0.0
    found.rows.append(("classifier", f"{classifier.model} at {classifier.revision[:12]}"))
    found.travels["classifier"] = round(size_gb * 1e9)
    return size_gb


def _look_at_miners(options: BuildOptions, found: Plan) -> float:
    """See whether the miners can be had, and are none of the models that a set ranks; return the GB to download."""
    preset, total_gb = options.preset, 0.0
    # Whoever classifies has looked at the classifier.
    told = preset.selection_classes() is not None and options.selection is None
    for name, miner in preset.miners.items():
        from data_prep.stages.miners import check_files
        from data_prep.stages.ranked import check_not_ranked

        found.attempt(check_not_ranked, name, miner, preset.folder)
        size_gb = found.attempt(check_files, miner, preset.folder, preset.classifier)
        what = f"miner {name}"
        if size_gb is None:
            found.rows.append((what, "NOT READY"))
            continue
        pinned = f" at {miner.revision[:12]}" if miner.revision else ""
        found.rows.append((what, f"{miner.library} {miner.model}{pinned}".strip()))
        if size_gb and not (miner.library == "classifier" and told):
            found.travels[what] = round(size_gb * 1e9)
            total_gb += size_gb
    return total_gb


def _size_gb(folder: Path) -> float:
    size = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # Another build may be at work there, whose unfinished files come and go.
            size += path.lstat().st_size
    return size / 1e9


def _products_gb(options: BuildOptions, found: Plan) -> float:
    preset, pool, miners = options.preset, _pool_images(options.preset, found), len(options.preset.pool_miners())
    rule, captioned = preset.distractors, preset.expected.captioned or 2_500
    near = min(pool, captioned * rule.near * miners)
    of_pool = rule.size or (2 * near if rule.rate is None else round(near + rule.rate * (pool - near)))
    images = captioned + (preset.expected.distractors or (min(pool, of_pool) if miners else pool))
    classified = preset.classifier and options.selection is None
    known_count = SOURCES[preset.captioned.source].images
    count = known_count or (found.captioned.count() if found.captioned else None) or 0
    scored = count if classified else 0
    # The images lie in the work folder and in the export.
    return (2 * images * IMAGE_KB + scored * SCORES_KB + pool * miners * VIEW_KB) / 1e6


def _pool_images(preset: Preset, found: Plan) -> int:
    """Return how many uncaptioned images there are, or may be at most."""
    per_class, classes = SOURCES[preset.distractors.source].per_class, preset.distractor_classes()
    known = [shard.images for shard in found.shards]
    if classes and per_class:
        return len(classes.classes) * sum(per_class[split].most for split in preset.distractors.splits)
    return sum(known) if known and min(known) >= 0 else 2_000
