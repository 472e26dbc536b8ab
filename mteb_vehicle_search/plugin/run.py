"""`vehicle-search run`: mteb's own command line for one model or several, with our tasks and models registered."""

from __future__ import annotations

import argparse
import functools
import gc
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from mteb_vehicle_search import mistakes, settings, terminal
from mteb_vehicle_search.engine import engine_of
from mteb_vehicle_search.errors import UsageError
from mteb_vehicle_search.plugin.asked import names_of_ours, our_tasks, require_data, require_model

USAGE = """\
usage: vehicle-search run -t TASK [...] -m MODEL [...] [--limit N] [--engine ENGINE] [options of 'mteb run'; --help]
such as: vehicle-search run -t VehicleImageSearchMini -m vehicle-search/tiny-clip
"""
OWN = """
Beyond 'mteb run':
  -m, --model MODEL [MODEL ...]
                        Several models, one after the other; one that fails does not end the others.
  --limit N             Smoke test: N captioned images with all their captions, and N distractors. Nothing is stored.
  --engine ENGINE       Where images and captions are encoded: local (default), or ray, on the machines of a cluster
                        that RAY_ADDRESS names, else on this one. It goes before VEHICLE_SEARCH_ENGINE.
  --stream              Keep no vectors of images: whoever encodes them searches them (VEHICLE_SEARCH_STREAM=1). By
                        itself above 2,000,000 images.
  --dry-run             Say where that is, and how many workers fit, and run nothing.
  -v, --verbosity [N]   mteb's log: alone or 2 its steps, 3 all of it, 0 nothing. Without it: a line of progress and the
                        table, and warnings.

A result that is there already is shown, not made again; --overwrite-strategy always makes it anew.
"""
WARNINGS, STEPS = 1, 2


def main(words: list[str]) -> int:
    """Run `mteb run` with these arguments, once for each model.

    Returns the exit status: 1 if a model failed, 2 if no model or no task is named, or none that there is.
    """
    import mteb_vehicle_search

    if not words:
        sys.stderr.write(USAGE)
        return 2
    mteb_vehicle_search.register()
    from mteb.cli import build_cli

    own, rest = _own_arguments(words)
    # Its help names the program.
    sys.argv = ["vehicle-search", "run", *words]
    try:
        asked = build_cli.build_cli().parse_args(["run", *rest])
    except SystemExit as end:
        if not end.code:
            sys.stdout.write(OWN)
        raise
    models = [model for model in dict.fromkeys(own.model or [asked.model]) if model]
    if not models or not _selects(asked):
        sys.stderr.write(USAGE)
        return 2
    if asked.model_revision and len(models) > 1:
        raise UsageError("--model-revision is of one model; there are several.", "Run them one by one.")
    settings.check()
    with ExitStack() as stack:
        chosen = {"VEHICLE_SEARCH_ENGINE": own.engine, "VEHICLE_SEARCH_STREAM": "1" if own.stream else None}
        stack.enter_context(_set({name: value for name, value in chosen.items() if value is not None}))
        engine = engine_of()
        require_data(asked.tasks or [], asked.benchmarks or [])
        if own.dry_run:
            with engine:
                sys.stdout.write(f"{engine.describe()}\n")
            return 0
        if own.limit:
            rest = [*rest, *_smoke_test(asked, own.limit, stack)]
        if own.verbosity < STEPS:
            stack.enter_context(_one_progress_line())
        return _run_each(models, asked, [*rest, "--verbosity", str(own.verbosity)])


def _own_arguments(words: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Return what is ours of the arguments, and the words that are mteb's."""
    parser = argparse.ArgumentParser("vehicle-search run", usage=USAGE[7:], add_help=False, allow_abbrev=False)
    parser.add_argument("-m", "--model", nargs="+", action="extend")
    parser.add_argument("--limit", type=terminal.positive)
    parser.add_argument("--engine")
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("-v", "--verbosity", type=int, nargs="?", const=STEPS, default=WARNINGS)
    return parser.parse_known_args(words)


@contextmanager
def _one_progress_line() -> Iterator[None]:
    """Let mteb show no bar of its own around those of the tasks."""
    import mteb

    evaluate = mteb.evaluate
    mteb.evaluate = functools.partial(evaluate, show_progress_bar=False)
    try:
        yield
    finally:
        mteb.evaluate = evaluate


@contextmanager
def _set(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables for all that runs meanwhile."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _run_each(models: list[str], asked: argparse.Namespace, words: list[str]) -> int:
    """Run each model that there is; what is wrong with the others is said before the first one runs."""
    from mteb.cli import build_cli

    failed: dict[str, Exception] = {}
    tasks = names_of_ours(asked)
    for model in models:
        _unless_it_fails(lambda model=model: require_model(model, asked.model_revision, tasks), model, models, failed)
    for model in [model for model in models if model not in failed]:
        sys.argv = ["vehicle-search", "run", *words, "-m", model]
        _unless_it_fails(build_cli.main, model, models, failed)
        # The next one needs the memory.
        gc.collect()
    if len(models) > 1:
        done = f"{len(models) - len(failed)} of {len(models)} models were evaluated"
        terminal.say(f"{done}; these failed: {', '.join(failed)}" if failed else f"{done}.")
    never_ran = len(failed) == len(models) and all(isinstance(error, UsageError) for error in failed.values())
    return 2 if never_ran else min(len(failed), 1)


def _unless_it_fails(step: Callable[[], object], model: str, models: list[str], failed: dict[str, Exception]) -> None:
    """Take a step with one of the models; if it fails, say so and note it, so that the others go on."""
    try:
        step()
    except Exception as error:
        if terminal.debugging():
            if len(models) == 1:
                raise
            traceback.print_exception(error)
        said = mistakes.explained(error) or error
        # Without what it came from: frames hold the model, and the next one needs the memory.
        failed[model] = said.with_traceback(None)
        said.__cause__ = said.__context__ = None
        if len(models) > 1:
            terminal.say(f"{model} failed:")
        terminal.show(said)


def _smoke_test(asked: argparse.Namespace, limit: int, stack: ExitStack) -> list[str]:
    """Make a small set of each task's, and return the arguments that evaluate these, and store nothing."""
    from mteb_vehicle_search.plugin import registry, smoke_test

    ours = our_tasks(asked.tasks or [])
    others = [name for name in asked.tasks or [] if name not in ours]
    if others or not ours or asked.benchmarks:
        raise UsageError(
            f"--limit is for evaluation sets of this package; {', '.join(others) or 'a benchmark'} is none.",
            "Name them: -t VehicleImageSearchMini --limit 50",
        )
    part = stack.enter_context(smoke_test.parts_of([task.require_data() for task in ours.values()], limit))
    stack.callback(registry.forget_tasks, part.tasks)
    registry.register()
    terminal.say(
        f"Smoke test of {', '.join(ours)}: {limit:,} captioned images with all their captions, and {limit:,} "
        "distractors, where there are so many. Nothing is stored, and the scores mean nothing."
    )
    return ["-t", *part.tasks, "--output-folder", str(part.output_folder), "--overwrite-strategy", "always"]


def _selects(asked: argparse.Namespace) -> bool:
    """Tell whether some tasks are chosen; mteb would take all its 1,500."""
    return any((asked.tasks, asked.benchmarks, asked.task_types, asked.categories, asked.languages))
