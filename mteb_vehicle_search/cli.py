"""`vehicle-search`: run mteb with our tasks, and read what the runs gave."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple

from mteb_vehicle_search import terminal

PROG = "vehicle-search"


class Command(NamedTuple):
    """A subcommand; its module gives `add_arguments(parser)` and `main(args) -> int`, and is imported when chosen."""

    module: str
    summary: str


COMMANDS = {
    "leaderboard": Command(
        "mteb_vehicle_search.analysis.leaderboard", "rank models by the results on one evaluation set"
    ),
    "compare": Command(
        "mteb_vehicle_search.analysis.compare", "tell whether one model is better than another, or just luckier"
    ),
    "growth": Command("mteb_vehicle_search.analysis.corpus_growth", "predict the score on a larger or smaller corpus"),
    "report": Command("mteb_vehicle_search.report.build", "write an HTML report of the runs, with the images"),
    "reproduce": Command("mteb_vehicle_search.reproduce", "run the published models, compare with what was reported"),
}
RUN_SUMMARY = "evaluate a model; takes exactly the arguments of 'mteb run'"

EXAMPLES = """\
examples:
  vehicle-search run -t VehicleImageSearchMini -m vehicle-search/tiny-clip
      a first result in a minute: nothing to download, no account
  vehicle-search run -t VehicleImageSearch -m MODEL
      the real evaluation; 'vehicle-search-data build' makes its data
  vehicle-search leaderboard
      what all runs gave, with intervals

'mteb run' knows the same tasks and models; 'vehicle-search run' is for installations that skip start-up hooks.

environment:
  VEHICLE_SEARCH_HOME     folder of data, run records and embeddings
  VEHICLE_SEARCH_DATA     evaluation set of the task VehicleImageSearch
  VEHICLE_SEARCH_KEEP_EMBEDDINGS
                          1: a finished run keeps its vectors
  VEHICLE_SEARCH_DEVICE   cpu, cuda, cuda:1, mps, or several separated by commas
  VEHICLE_SEARCH_PRECISION
                          fp32, bf16 or fp16; default: bf16 on CUDA, fp32 on a CPU
  VEHICLE_SEARCH_PREPROCESS
                          exact (default) or fast, which is up to 3/255 off
  VEHICLE_SEARCH_COMPILE  1: compile the towers with torch.compile
  VEHICLE_SEARCH_STOCK_JINA
                          1: leave jinaai/jina-clip-v2 to mteb's own wrapper
  VEHICLE_SEARCH_NO_HOOK  1: leave Python's start-up alone; plain 'mteb' then does not know the tasks
  VEHICLE_SEARCH_DEBUG    1: the same as --debug

exit status: 0 done, 1 failed, 2 wrong usage
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, 1 for an error, 130 if interrupted; usage errors exit 2."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    # No global option takes a value, so the first word is the command.
    position = next((i for i, argument in enumerate(arguments) if not argument.startswith("-")), len(arguments))
    chosen = arguments[position] if position < len(arguments) else None
    debug = "--debug" in (arguments[:position] if chosen == "run" else arguments)
    if debug:
        os.environ[terminal.DEBUG] = "1"
    try:
        if chosen == "run":
            # What follows `run` is mteb's to parse, --help included.
            _parser(None).parse_args(arguments[: position + 1])
            return _run(arguments[position + 1 :])
        args = _parser(chosen).parse_args(arguments)
        return int(args.main(args) or 0)
    except BrokenPipeError:
        # The reader (head, less) has seen enough. Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        if terminal.debugging():
            raise
        sys.stderr.write("interrupted\n")
        return 130
    except Exception as error:
        if terminal.debugging():
            raise
        terminal.show(error)
        return 1


def _parser(chosen: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROG,
        description="Vehicle Image Search: evaluate image-text models and see what their scores mean.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the versions of this package and of mteb")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    commands.add_parser("run", help=RUN_SUMMARY, add_help=False)
    for name, command in COMMANDS.items():
        subparser = commands.add_parser(name, help=command.summary, description=_sentence(command.summary))
        if name == chosen:
            module = importlib.import_module(command.module)
            module.add_arguments(subparser)
            subparser.set_defaults(main=module.main)
            subparser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        # Reading installed metadata costs time that only this option should pay.
        from importlib.metadata import PackageNotFoundError, version

        try:
            ours = version("mteb-vehicle-search")
        except PackageNotFoundError:
            ours = "(not installed)"
        print(f"{PROG} {ours}, mteb {version('mteb')}")
        parser.exit()


def _sentence(summary: str) -> str:
    return f"{summary[0].upper()}{summary[1:]}."


def _run(arguments: list[str]) -> int:
    import mteb_vehicle_search

    mteb_vehicle_search.register()
    from mteb.cli import build_cli

    sys.argv = [PROG, "run", *arguments]
    _require_data(build_cli.build_cli().parse_args(sys.argv[1:]).tasks or [])
    build_cli.main()
    return 0


def _require_data(names: Sequence[str]) -> None:
    """Refuse a run without data at once: mteb loads the model first, which may be a long download.

    Raises:
        VehicleSearchError: The evaluation set of one of our tasks is missing or damaged.
    """
    from mteb_vehicle_search import tasks
    from mteb_vehicle_search.eval_set import EvalSet

    for name in names:
        task = getattr(tasks, name, None)
        if isinstance(task, type) and issubclass(task, tasks.EvalSetTask):
            EvalSet.open(task.data_folder())


if __name__ == "__main__":
    sys.exit(main())
