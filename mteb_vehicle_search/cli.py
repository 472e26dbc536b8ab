"""`vehicle-search`: run mteb with our tasks, and read what the runs gave; and how both programs run a command."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from mteb_vehicle_search import mistakes, settings, terminal
from mteb_vehicle_search.errors import UsageError, VehicleSearchError
from mteb_vehicle_search.settings import VARIABLES
from mteb_vehicle_search.streams import Stream, shown


class Command(NamedTuple):
    """A subcommand; its module is imported when it is chosen.

    Attributes:
        module: Gives `add_arguments(parser)` and `main(args) -> int`; of a raw command only `main(words) -> int`.
        summary: What it does, in a line of the program's help.
        more: What its own help says beside the summary.
        raw: Whether all that follows its name is its own to parse, `--help` included.
    """

    module: str
    summary: str
    more: str = ""
    raw: bool = False


class Program(NamedTuple):
    """A command line: its name, what its help says before and after the commands, and the commands by name."""

    name: str
    description: str
    epilog: str
    commands: Mapping[str, Command]


COMMANDS = {
    "run": Command(
        "mteb_vehicle_search.plugin.run",
        "evaluate models; takes the arguments of 'mteb run', several models, and --limit for a smoke test",
        raw=True,
    ),
    "models": Command("mteb_vehicle_search.plugin.listing", "list the models that can be run here"),
    "leaderboard": Command(
        "mteb_vehicle_search.analysis.leaderboard", "rank models by the results on one evaluation set"
    ),
    "compare": Command(
        "mteb_vehicle_search.analysis.compare_table", "tell whether one model is better than another, or just luckier"
    ),
    "growth": Command("mteb_vehicle_search.analysis.corpus_growth", "predict the score on a larger or smaller corpus"),
    "population": Command(
        "mteb_vehicle_search.analysis.population_table",
        "estimate ranks in the whole pool that the corpus was drawn from",
    ),
    "bias": Command("mteb_vehicle_search.analysis.bias", "tell how much miners favour models through what they mined"),
    "report": Command("mteb_vehicle_search.report.build", "write an HTML report of the runs, with the images"),
    "judge": Command(
        "mteb_vehicle_search.judging.command",
        "judge what models rank above the known images, on a local page",
        "Scores are then corrected by it, with intervals. It says first what it takes and buys; stop at any time.",
    ),
    "judgments": Command("mteb_vehicle_search.judging.status", "tell what was judged, check it, and export it"),
    "query": Command(
        "mteb_vehicle_search.plugin.query", "search a set for any text or image, and look at what is found"
    ),
    "export": Command("mteb_vehicle_search.exchange.export", "write a run for other programs: TREC, parquet"),
    "import": Command("mteb_vehicle_search.exchange.importing", "take in a run that another program made"),
    "submit": Command(
        "mteb_vehicle_search.exchange.submission", "check results against the rules of mteb's repository"
    ),
    "convert": Command(
        "mteb_vehicle_search.models.conversion", "turn a checkpoint of open_clip's trainer into a model"
    ),
    "reproduce": Command("mteb_vehicle_search.reproduce", "run the published models, compare with what was reported"),
}
EXAMPLES = """\
examples:
  vehicle-search run -t VehicleImageSearchMini -m vehicle-search/tiny-clip
      a first result in a minute: nothing to download, no account
  vehicle-search models
      which models there are, which are downloaded, which were run
  vehicle-search run -t VehicleImageSearch -m MODEL -m ANOTHER
      the real evaluation; 'vehicle-search-data build' makes its data
  vehicle-search leaderboard
      what all runs gave, with intervals

'mteb run' knows the same tasks and models; 'vehicle-search run' is for installations that skip start-up hooks.

environment:
{variables}

exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted
"""
PROGRAM = Program(
    "vehicle-search",
    "Vehicle Image Search: evaluate image-text models and see what their scores mean.",
    EXAMPLES.format(
        variables="\n".join(
            f"  {name:23} {says}" if len(name) < 24 else f"  {name}\n{'':26}{says}" for name, says in VARIABLES.items()
        )
    ),
    COMMANDS,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `vehicle-search`; see `run_program`."""
    return run_program(PROGRAM, argv)


def data_main(argv: Sequence[str] | None = None) -> int:
    """Run `vehicle-search-data`, unless another package called `data_prep`, of the user's own, hides ours."""
    ours = Path(__file__).resolve().parents[1] / "data_prep"
    spec = importlib.util.find_spec("data_prep")
    found = Path(spec.origin).resolve().parent if spec and spec.origin else None
    if found != ours:
        terminal.show(
            VehicleSearchError(
                f"Another package called data_prep, in {found}, hides the one of this command, in {ours}.",
                "Take it out of PYTHONPATH, or rename it.",
            )
        )
        return 1
    return importlib.import_module("data_prep.cli").main(argv)


def run_program(program: Program, argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit status: 0, 1 for an error, 130 if interrupted; usage errors exit 2.

    A result that could not be printed is an error, but not of a raw command, whose result is not what it prints.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    # No global option takes a value, so the first word is the command.
    position = next((i for i, argument in enumerate(arguments) if not argument.startswith("-")), len(arguments))
    command = program.commands.get(arguments[position]) if position < len(arguments) else None
    raw = command is not None and command.raw
    if "--debug" in (arguments[:position] if raw else arguments):
        os.environ[terminal.DEBUG] = "1"
    with shown() as out:
        try:
            status = _run(program, arguments, position)
        except SystemExit:  # of argparse: help, the version, wrong usage
            if _printed(out):
                raise
            return 1
        return status if _printed(out) or raw else status or 1


def _printed(out: Stream) -> bool:
    """Tell whether all output was written, and say why it was not, unless a reader (head, less) has seen enough."""
    out.flush()
    if out.error is not None and not isinstance(out.error, BrokenPipeError):
        reason = getattr(out.error, "strerror", None) or out.error
        sys.stderr.write(f"error: the output could not be printed: {reason}\n")
    return out.error is None


def _run(program: Program, arguments: list[str], position: int) -> int:
    """Run the command at this position of the arguments and return the exit status."""
    for sentence in settings.misspelt():
        sys.stderr.write(f"warning: {sentence}\n")
    chosen = arguments[position] if position < len(arguments) else None
    command = program.commands.get(chosen or "")
    try:
        parser = _parser(program, chosen)
        if not arguments:
            parser.print_help()
            parser.exit(2)
        if chosen is not None and command is None:
            near = get_close_matches(chosen, program.commands)
            parser.error(f"there is no command {chosen!r}" + (f"; did you mean {' or '.join(near)}?" if near else ""))
        if command and command.raw:
            parser.parse_args(arguments[: position + 1])
            return importlib.import_module(command.module).main(arguments[position + 1 :])
        args = parser.parse_args(arguments)
        return int(args.main(args) or 0)
    except KeyboardInterrupt:
        if terminal.debugging():
            raise
        terminal.say(terminal.INTERRUPTED)
        return 130
    except Exception as error:
        if terminal.debugging():
            raise
        said = mistakes.explained(error) or error
        terminal.show(said)
        return 2 if isinstance(said, UsageError) else 1


def _parser(program: Program, chosen: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program.name,
        description=program.description,
        epilog=program.epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the versions of this package and of mteb")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, command in program.commands.items():
        described = f"{command.summary[0].upper()}{command.summary[1:]}. {command.more}".strip()
        subparser = commands.add_parser(name, help=command.summary, description=described, add_help=not command.raw)
        if name == chosen and not command.raw:
            module = importlib.import_module(command.module)
            module.add_arguments(subparser)
            subparser.set_defaults(main=module.main)
            subparser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        # Reading installed metadata costs time that only this option should pay.
        from mteb_vehicle_search.run_record import version_of

        ours, its = (version_of(name) or "(not installed)" for name in ("mteb-vehicle-search", "mteb"))
        sys.stdout.write(f"{parser.prog} {ours}, mteb {its}\n")
        parser.exit()


if __name__ == "__main__":
    sys.exit(main())
