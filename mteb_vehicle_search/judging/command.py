"""`vehicle-search judge`: draw what is judged, say what it will buy, and show the page."""

from __future__ import annotations

import argparse
import getpass
import re
import sys
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from mteb_vehicle_search.analysis.judging_plan import half_width_bought, half_width_now
from mteb_vehicle_search.analysis.names import MODEL_HELP
from mteb_vehicle_search.analysis.selection import RUNS_HELP
from mteb_vehicle_search.judging.choosing import BUDGET, Chosen, choose, sample_of
from mteb_vehicle_search.judgments import JUDGMENTS_HELP, Judgments, Sample, read_judgments, write_sample
from mteb_vehicle_search.judgments.judgment import GRADES, JUDGE
from mteb_vehicle_search.terminal import positive

if TYPE_CHECKING:
    from mteb_vehicle_search.judging.session import Summary

# Until judges have shown how long they need.
ASSUMED_S, ENOUGH = 4.0, 20
SHARES = (0.02, 0.1, 0.3)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "models",
        nargs="*",
        metavar="RUN",
        help=f"whose images are judged: {MODEL_HELP} (default: all runs on the set that are better than chance)",
    )
    parser.add_argument(
        "--data", type=Path, metavar="SET", help="folder of the evaluation set (default: that of the runs)"
    )
    parser.add_argument(
        "--budget",
        type=_budget,
        metavar="N",
        help=f"decisions that the whole sample may take, or 'all' (default: as before, else {BUDGET:,})",
    )
    parser.add_argument("--judge", metavar="NAME", help="who judges (default: your login name)")
    parser.add_argument("--second", action="store_true", help="judge what is for two judges, a tenth")
    parser.add_argument("--seed", type=int, metavar="N", help="of the order of a new sample (default: 0)")
    parser.add_argument(
        "--port", type=int, default=0, metavar="N", help="of the page on 127.0.0.1 (default: any free one)"
    )
    parser.add_argument("--no-browser", action="store_true", help="only print the address of the page")
    parser.add_argument("--dry-run", action="store_true", help="say what it will buy; write nothing")
    parser.add_argument(
        "--predict",
        metavar="MODEL",
        help="show no page: let an mteb model predict all judgments of the sample from those that people made",
    )
    parser.add_argument("--judgments", type=Path, metavar="FOLDER", help=JUDGMENTS_HELP)
    parser.add_argument("--runs", type=Path, metavar="FOLDER", help=RUNS_HELP)


def _budget(text: str) -> int:
    return 0 if text == "all" else positive(text)


def main(args: argparse.Namespace) -> int:
    """Judge until the judge stops, and say what was said."""
    chosen = choose(args.models, args.data, args.runs, args.judgments)
    sample, said = sample_of(chosen, args.seed, args.budget)
    if args.predict:
        from mteb_vehicle_search.judging.predict import predict

        sys.stdout.write(f"{predict(args.predict, chosen, sample)}\n")
        return 0
    sys.stdout.writelines(f"{line}\n" for line in (said, *offer(chosen, sample)))
    sys.stdout.flush()
    if args.dry_run:
        return 0
    # Needs the extra `judge`; without it nothing is written.
    from mteb_vehicle_search.judging.server import serve
    from mteb_vehicle_search.judging.session import Session

    folder, content_id = chosen.judgments.folder, chosen.eval_set.content_id
    session = Session(sample, chosen.judgments, args.judge or login_name(), chosen.eval_set, args.second)
    write_sample(folder, sample)

    def half_width() -> float | None:
        found = half_width_now(chosen.runs, read_judgments(folder, content_id), sample)
        return found.images if found else None

    summary = serve(session, port=args.port, open_browser=not args.no_browser, half_width=half_width)
    sys.stdout.write(f"{told(summary)}\nKept in {folder}. The same command goes on.\n")
    return 0


def offer(chosen: Chosen, sample: Sample) -> list[str]:
    """Return what judging a sample costs and buys, in a few lines."""
    planned = sample.units[: sample.planned]
    clusters = len({unit.cluster for unit in planned})
    images, decisions = sum(len(unit.images) for unit in planned), sum(map(sample.shown, planned))
    each, whose = pace(chosen.judgments)
    lines = [
        f"{len(planned):,} of {len(sample.units):,} captions in question, of {clusters:,} images in "
        f"{len(sample.strata)} strata, by {len(sample.runs)} run{'s' if len(sample.runs) > 1 else ''}.",
        f"{decisions:,} decisions ({images:,} images in question, {decisions - images:,} checks): about "
        f"{decisions * each / 3600:.1f} hours at {each:.1f} s each, {whose}.",
    ]
    bought = [(share, half_width_bought(chosen.runs, sample, sample.planned, share)) for share in SHARES]
    if all(width for _, width in bought):
        said = ", ".join(f"±{width.images:.3f} if {share:.0%}" for share, width in bought if width)
        lines.append(f"Corrected nDCG@10 will be known to {said} of the images are right (95 %, for further images).")
    else:
        lines.append("That is too little for an interval of the corrected nDCG@10; give a larger --budget.")
    return lines


def pace(judgments: Judgments) -> tuple[float, str]:
    """Return the seconds that a decision takes, and whose pace that is."""
    seconds = [one.seconds for one in judgments.lines]
    return (median(seconds), "as until now") if len(seconds) >= ENOUGH else (ASSUMED_S, "which is assumed")


def login_name() -> str:
    """Return a judge's name made of the login name."""
    try:
        login = getpass.getuser()
    except (OSError, KeyError, ImportError):
        login = ""
    name = re.sub(r"[^A-Za-z0-9._@+-]", "-", login).lstrip("._@+-")[:64]
    return name if JUDGE.fullmatch(name) else "judge"


def told(summary: Summary) -> str:
    """Return what a judge said, in a sentence."""
    done = summary.progress
    grades = ", ".join(f"{says} {summary.grades.get(grade, 0):,}" for grade, says in GRADES.items())
    checks = ", ".join(
        f"{kind} images {passed} of {asked}" for kind, (passed, asked) in summary.checks.items() if asked
    )
    pace = f", {done.seconds:.1f} s each" if done.seconds is not None else ""
    return (
        f"{summary.judge}: {done.decisions:,} of {done.of_decisions:,} decisions, {done.units:,} of {done.of_units:,} "
        f"captions{pace}; {grades}{f'; checks passed: {checks}' if checks else ''}."
    )
