"""The pipeline, from top to bottom: classify, embed, select, mine, reduce the images, find duplicates, export, verify.

Every stage leaves a marker in the work folder (`<out>.build`), and is skipped by the next run if nothing that it
depends on has changed.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data_prep.job import BuildOptions, Job
from data_prep.markers import STAGES, Stages
from data_prep.plan import plan
from data_prep.preset import Preset, load_preset
from data_prep.recipes.differences import tell_differences
from data_prep.recipes.reading import load_recipe
from data_prep.sources.imagenet.classes import wnids
from data_prep.sources.registry import SOURCES
from data_prep.stages.distractors import reduce_distractors
from data_prep.stages.embed import embed_captioned, embed_pool
from data_prep.stages.export import export, find_duplicates
from data_prep.stages.mine import mine
from data_prep.stages.reduce import ReducedImage, merge, reduce_captioned
from data_prep.stages.select import select
from mteb_vehicle_search import settings
from mteb_vehicle_search.engine import engine_of
from mteb_vehicle_search.errors import BuildError, VehicleSearchError
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.eval_set.known import ORIGINAL, chosen_folder
from mteb_vehicle_search.files import locked
from mteb_vehicle_search.terminal import Reporter, positive, print_rows

SHOWN_REJECTS = 5
ROLES = ("captioned", "distractors")


def build(options: BuildOptions, reporter: Reporter) -> EvalSet:
    """Build an evaluation set at `options.out`, or finish one that was interrupted; it is verified.

    Raises:
        BuildError: Something is missing or in the way, found out before the work starts (see `plan`); another build is
            at work there; too many inputs were refused; or the result does not verify.
        SourceError: A source is missing, refused or damaged.
        EngineError: There is no cluster, or its workers are lost or differ.
    """
    engine = engine_of(options.engine)
    found = plan(options)
    captioned, distractors = found.require()
    for warning in found.warnings:
        reporter.warn(warning)
    with locked(options.work), _tidy(options.work), engine:
        stages = Stages(options.work, reporter.say)
        for stage in options.rebuild:
            stages.discard(stage)
        job = Job(options, reporter, stages, captioned.describe(), engine=engine)
        clustered = options.selection is None and options.recipe is None and job.preset.cluster_miners()
        views = embed_captioned(job, captioned, None) if clustered else None
        selected, mined = select(job, captioned, views), None
        if job.preset.pool_miners():
            kept = None if selected.scores is None else {*selected.scores}
            views = views or embed_captioned(job, captioned, kept)
            mined = mine(job, views, kept, embed_pool(job, distractors, found.shards))
        markers = [
            reduce_captioned(job, captioned, selected.scores),
            *reduce_distractors(job, distractors, found.shards, mined and mined.arms),
        ]
        job.check_rejects()
        entries = merge(job, markers)
        if options.recipe is None and mined is None:  # These say themselves which images of a class there are.
            _tell_doubts(job, entries)
        duplicates = find_duplicates(job, entries, markers)
        return export(job, entries, selected, duplicates, markers, mined)


@contextmanager
def _tidy(work: Path) -> Iterator[None]:
    """Leave no work folder behind in which nothing was done."""
    try:
        yield
    except BaseException:
        if not {path.name for path in work.rglob("*") if path.is_file()} - {"lock", "lock.file", "holder.json"}:
            shutil.rmtree(work, ignore_errors=True)
        raise


def _tell_doubts(job: Job, entries: list[ReducedImage]) -> None:
    """Warn of classes with more or fewer images than the source is known to have."""
    source = SOURCES[job.preset.distractors.source]
    wanted = job.preset.wanted_classes()
    counts = {(split, wnids()[index]): 0 for split in job.preset.distractors.splits for index in wanted}
    for entry in entries:
        if (key := (entry.facts["split"], entry.facts["wnid"])) in counts:
            counts[key] += 1
    for doubt in source.doubts_of_classes(counts, refused=len(job.rejected)):
        job.reporter.warn(doubt)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vehicle-search-data build`."""
    add = parser.add_argument
    made_of = parser.add_mutually_exclusive_group()
    preset = "original (default), wordnet, mini, or a .toml file"
    made_of.add_argument("--preset", default="original", metavar="NAME", help=preset)
    recipe = "file or URL of a recipe: rebuild that set from copies of your own, and say what differs"
    made_of.add_argument("--recipe", metavar="FILE", help=recipe)
    for name, source in SOURCES.items():
        if source.help:
            add(f"--{name}", metavar="SRC", help=source.help)
    table = "file or URL of the captions (default: the file beside the images, or the hub's where that is another one)"
    add("--captions", default="", metavar="FILE", help=table)
    own = "folder or URL of captioned images of your own (default: as the preset says)"
    add("--captioned", metavar="SRC", help=own)
    add("--distractors", metavar="SRC", help="likewise of uncaptioned images")
    add("--out", type=Path, metavar="FOLDER", help="default: where the task looks for it")
    listed = "'published', or a file of image names: keep these images and run no classifier"
    add("--selection", metavar="LIST", help=listed)
    threads = "threads that decode and resize (default: one per core)"
    add("--workers", type=positive, default=settings.usable_cores(), metavar="N", help=threads)
    add("--device", default="auto", help="of classifier and miners: auto (default), cpu, cuda or cuda:N")
    engine = "where shards and images are worked on: local (default), or ray: machines of RAY_ADDRESS, or this one"
    add("--engine", metavar="ENGINE", help=engine)
    add("--batch-size", type=positive, default=32, metavar="N", help="of classifier and miners (default: %(default)s)")
    again = f"do a stage again although nothing changed: {', '.join(STAGES)}"
    add("--rebuild", action="append", default=[], metavar="STAGE", choices=STAGES, help=again)
    add("--allow-rejects", action="store_true", help="go on with more than 0.5 %% of bad images")
    add("--allow-incomplete", action="store_true", help="go on although a source looks incomplete")
    add("--dry-run", action="store_true", help="show the plan and stop; exits with 1 if the build would fail")
    add("--quiet", action="store_true", help="no progress bars; warnings are shown all the same")


def _place_of(preset: Preset, *, original: bool) -> Path:
    """Return where the set's task looks for it; the original's where `VEHICLE_SEARCH_DATA` says.

    Raises:
        BuildError: Another set is there, which a build would replace; or it is a copy from an address.
    """
    if original and isinstance(chosen := settings.chosen_data(), str):
        raise BuildError(
            f"VEHICLE_SEARCH_DATA names {chosen}, to which a build does not write.",
            "Give --out a folder, or unset VEHICLE_SEARCH_DATA.",
        )
    folder = chosen_folder() if original else settings.data_folder(preset.name)
    try:
        there = EvalSet.open(folder).name
    except VehicleSearchError:
        return folder
    if there != preset.name:
        raise BuildError(
            f"{folder} holds the set {there}, which a build of {preset.name} would replace.",
            "Give --out another folder, or unset VEHICLE_SEARCH_DATA.",
        )
    return folder


def main(args: argparse.Namespace) -> int:
    """Build, or show the plan; return the exit status."""
    # Pillow tells of broken EXIF and of large images; both are dealt with, and rejects say why.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    if args.quiet:
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # Before the hub's client is imported.
    recipe = load_recipe(args.recipe) if args.recipe else None
    preset = recipe.preset if recipe else load_preset(args.preset)
    original = recipe.task_name == ORIGINAL if recipe else args.preset == "original"
    options = BuildOptions(
        preset=preset,
        out=(args.out.expanduser() if args.out else _place_of(preset, original=original)).absolute(),
        sources={name: where for name in (*SOURCES, *ROLES) if (where := getattr(args, name, None)) is not None},
        captions=args.captions,
        selection=args.selection,
        recipe=recipe,
        workers=args.workers,
        device=args.device,
        batch_size=args.batch_size,
        rebuild=tuple(args.rebuild),
        allow_rejects=args.allow_rejects,
        allow_incomplete=args.allow_incomplete,
        engine=args.engine,
    )
    if args.dry_run:
        planned = plan(options)
        if not options.is_here:
            planned.rows.append(("engine", planned.attempt(_describe, options.engine) or "NOT READY"))
        print_rows("Plan", ("what", ""), planned.rows)
        for warning in planned.warnings:
            Reporter().warn(warning)
        planned.require()
        return 1 if planned.needed_gb > planned.free_gb else 0
    reporter = Reporter(args.quiet)
    eval_set = build(options, reporter)
    _show(eval_set, options)
    return tell_differences(recipe, eval_set, reporter) if recipe else 0


def _describe(name: str | None) -> str:
    with engine_of(name) as engine:
        return engine.describe()


def _show(eval_set: EvalSet, options: BuildOptions) -> None:
    notes = eval_set.manifest["notes"]
    counts, expected = notes["counts"], notes["expected"]
    rows = [
        (name.replace("_", " "), counts[name], expected.get(name, "-"), _compared(counts[name], expected.get(name)))
        for name in ("captioned", "distractors", "queries", "distinct_texts", "rejected")
    ]
    columns = ("count", "built", "published", "difference")[: 4 if expected else 2]
    print_rows(eval_set.manifest["title"], columns, [row[: len(columns)] for row in rows])
    lines = [
        f"Not used ({stage}): {', '.join(f'{count:,} {reason}' for reason, count in passed.items())}"
        for stage, passed in notes.get("passed_over", {}).items()
        if passed
    ]
    lines += ["  {} ({}): {}".format(*row.values()) for row in eval_set.rejected().slice(0, SHOWN_REJECTS).to_pylist()]
    if counts["rejected"] > SHOWN_REJECTS:
        lines.append(f"  ...; all of them are in {eval_set.folder / 'rejected.parquet'}")
    lines += [f"Content id {eval_set.content_id}", f"Verified; at {eval_set.folder}"]
    lines.append(f"Evaluate a model: {_command(eval_set)}")
    lines.append(f"{options.work} holds the finished stages; delete it when no rebuild is planned.")
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def _command(eval_set: EvalSet) -> str:
    command = f"mteb run -t {eval_set.task_name} -m MODEL"
    found = eval_set.folder.parent == settings.home() / "data" or eval_set.folder == chosen_folder()
    return command if found else f"VEHICLE_SEARCH_DATA={shlex.quote(str(eval_set.folder))} {command}"


def _compared(built: int, published: int | None) -> str:
    return "-" if published is None else f"{built - published:+,}" if built != published else "same"
