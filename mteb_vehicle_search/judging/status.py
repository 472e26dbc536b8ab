"""`vehicle-search judgments`: what was judged, whether it can be relied on, and the same for other programs."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mteb_vehicle_search import settings
from mteb_vehicle_search.analysis.agreement import agreement, judge_figures
from mteb_vehicle_search.errors import ResultsError, UsageError
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.eval_set.known import sets_here
from mteb_vehicle_search.eval_set.schema import is_content_id
from mteb_vehicle_search.files import write_whole
from mteb_vehicle_search.judging.export import as_parquet, as_qrels
from mteb_vehicle_search.judgments import JUDGMENTS_HELP, Judgments, Known, judgments_folder, read_judgments
from mteb_vehicle_search.judgments.judgment import GRADES
from mteb_vehicle_search.terminal import print_rows

ACTIONS = {"status": ("table", "json"), "export": ("trec", "parquet"), "check": ("table", "json")}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "action",
        choices=tuple(ACTIONS),
        help="status: counts, agreement, judges, time an image; export: for other programs; check: name all that is "
        "damaged, and exit with 1 if anything is",
    )
    parser.add_argument("--data", type=Path, metavar="SET", help="only those of this evaluation set")
    parser.add_argument("--judgments", type=Path, metavar="FOLDER", help=JUDGMENTS_HELP)
    parser.add_argument(
        "--format",
        choices=("table", "json", "trec", "parquet"),
        help="table (default) or json; of an export trec (qrels, default) or parquet (everything)",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to write (default: print; parquet needs one)")


def main(args: argparse.Namespace) -> int:
    """Do what is asked for; return the exit status."""
    form = args.format or ACTIONS[args.action][0]
    if form not in ACTIONS[args.action]:
        raise UsageError(f"{args.action} has no format {form}.", f"There are {' and '.join(ACTIONS[args.action])}.")
    if args.out and form == "table":
        raise UsageError("A table is only printed.", "Add --format json for a file, or leave --out away.")
    found = list(_folders(args.data, args.judgments))
    if not found:
        raise ResultsError(
            f"There are no judgments in {args.judgments or settings.judgments_folder()}.",
            "Judge some: vehicle-search judge; or name their folder with --judgments.",
        )
    if args.action == "export":
        return _export(found, form, args.out)
    texts = _check(found, form) if args.action == "check" else _status(found, form)
    if args.out:
        write_whole(args.out, texts.encode())
    else:
        sys.stdout.write(texts)
    return int(args.action == "check" and any(judgments.problems for judgments, _ in found))


def _folders(data: Path | None, root: Path | None) -> Iterator[tuple[Judgments, EvalSet | None]]:
    """Yield what each folder of judgments holds, with its evaluation set if that is here."""
    if data is not None:
        eval_set = EvalSet.open(data)
        folders = {eval_set.content_id: eval_set}
    else:
        root = root or settings.judgments_folder()
        names = sorted(path.name for path in root.glob("*") if path.is_dir() and is_content_id(path.name))
        here = {eval_set.content_id: eval_set for eval_set in sets_here()} if names else {}
        folders = {name: here.get(name) for name in names}
    for content_id, eval_set in folders.items():
        known = None if eval_set is None else Known.of(eval_set)
        folder = judgments_folder(content_id, root)
        if folder.is_dir():
            yield read_judgments(folder, content_id, known), eval_set


def figures(judgments: Judgments, eval_set: EvalSet | None) -> dict[str, Any]:
    """Return what was judged of a set, JSON."""
    agreed = agreement(judgments)
    judges = judge_figures(judgments)
    given = {judge: dict.fromkeys(GRADES.values(), 0) for judge in judges}
    for one in judgments.lines:
        if one.grade is not None:
            given[one.judge][GRADES[one.grade]] += 1
    samples = [
        {
            "id": sample.id,
            "runs": list(sample.runs),
            "seed": sample.seed,
            "units": len(sample.units),
            "planned": sample.planned,
            "judged": len(judgments.judged(sample)),
        }
        for sample in judgments.samples.values()
    ]
    return {
        "content_id": judgments.folder.name,
        "title": eval_set.title if eval_set else None,
        "samples": samples,
        "judges": [
            {"judge": name, **of_judge._asdict(), "grades": given[name], "stops": of_judge.stops}
            for name, of_judge in judges.items()
        ],
        "agreement": {**agreed._asdict(), "warning": agreed.warning},
        "problems": len(judgments.problems),
    }


def _status(found: list[tuple[Judgments, EvalSet | None]], form: str) -> str:
    told = [figures(*one) for one in found]
    if form == "json":
        return json.dumps(told, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    for one in told:
        _show(one)
    return ""


def _show(one: dict[str, Any]) -> None:
    title = f"{one['title'] or 'An evaluation set that is not here'} (content id {one['content_id'][:12]})"
    rows = [
        (sample["id"], len(sample["runs"]), sample["units"], sample["planned"], sample["judged"])
        for sample in one["samples"]
    ]
    print_rows(title, ("sample", "runs", "captions", "planned", "judged"), rows)
    rows = [
        (
            judge["judge"],
            judge["decisions"],
            f"{judge['seconds']:.1f}",
            *judge["grades"].values(),
            f"{judge['known'] - judge['known_failed']}/{judge['known']}",
            f"{judge['random'] - judge['random_failed']}/{judge['random']}",
        )
        for judge in one["judges"]
    ]
    print_rows("", ("judge", "decisions", "s each", *GRADES.values(), "known", "random"), rows)
    lines = [f"{judge['judge']}: {judge['stops']}" for judge in one["judges"] if judge["stops"]]
    agreed = one["agreement"]
    if agreed["alpha"] is not None:
        ends = f"{agreed['low']:.2f} to {agreed['high']:.2f}"
        images, alpha, ac2 = f"{agreed['images']:,}", f"{agreed['alpha']:.2f}", f"{agreed['ac2']:.2f}"
        lines.append(f"Agreement on {images} images: alpha {alpha} (95 % {ends}), AC2 {ac2}.")
    else:
        lines.append(f"Agreement: {agreed['images']:,} images judged twice, which tells nothing yet.")
    lines += [agreed["warning"]] if agreed["warning"] else []
    lines += [f"{one['problems']:,} problems: vehicle-search judgments check"] if one["problems"] else []
    sys.stdout.writelines(f"{line}\n" for line in [*lines, ""])


def _check(found: list[tuple[Judgments, EvalSet | None]], form: str) -> str:
    problems = [problem for judgments, _ in found for problem in judgments.problems]
    if form == "json":
        told = [{"file": str(one.path), "line": one.line, "reason": one.reason} for one in problems]
        return json.dumps(told, indent=2, ensure_ascii=False) + "\n"
    lines = [
        f"{judgments.folder}: {len(judgments.lines):,} judgments, {len(judgments.samples):,} samples"
        f"{'' if eval_set else '; its evaluation set is not here, so ids are not checked'}"
        for judgments, eval_set in found
    ]
    lines += [*map(str, problems), f"{len(problems):,} problems." if problems else "No problem."]
    return "".join(f"{line}\n" for line in lines)


def _export(found: list[tuple[Judgments, EvalSet | None]], form: str, out: Path | None) -> int:
    if len(found) > 1:
        ids = ", ".join(judgments.folder.name[:12] for judgments, _ in found)
        raise UsageError(f"There are judgments of several evaluation sets: {ids}.", "Name one with --data SET.")
    if form == "parquet" and out is None:
        raise UsageError("Parquet is no text that can be printed.", "Name a file: --out FILE")
    content = as_qrels(found[0][0]) if form == "trec" else as_parquet(found[0][0])
    if out is None:
        sys.stdout.write(content.decode())
    else:
        write_whole(out, content)
    return 0
