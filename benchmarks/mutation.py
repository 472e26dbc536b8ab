"""Put small mistakes into the product, one at a time, and see whether the tests notice.

    python benchmarks/mutation.py sample --count 400 --seed 7      a seeded sample over everything
    python benchmarks/mutation.py module data_prep/push.py --tests tests/data_prep/test_push.py
                                                                   every mistake in a module, against its own tests
    python benchmarks/mutation.py chosen                           the mistakes of chosen_mistakes/*.toml

`sample` draws places in the code (see mutants.py), then one mistake for each, and runs only the tests that came by the
mistake's line, the quickest and those of the module's own test file first, until one fails. Which tests those are is
measured by one run of the suite with coverage contexts, kept in `--contexts FILE` as long as no file changes.
Mistakes that change nothing are named with a reason in equivalent_mutants/*.toml, and are not counted. At the end every
test that noticed something is run without a mistake: what it "noticed" counts only if it passes then.

Prints the share that was noticed by module, and every survivor. Needs the `dev` extra, and an operating system that can
fork: the heavy libraries are imported once.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mutants import Mutant, all_points, points, product_files
from mutation_runs import Contexts, Outcome, Run, check_unchanged, run_all
from tqdm import tqdm

HERE = Path(__file__).parent
ROOT = HERE.parent
# The parts of which nearly every mistake must be noticed.
CORE = {
    "search": ("mteb_vehicle_search/search/",),
    "metrics": ("metrics.py", "thinning.py", "tasks.py"),
    "analysis": ("analysis/",),
    "evaluation set": ("mteb_vehicle_search/eval_set/",),
    "run record": ("run_record.py",),
    "stages": (
        "data_prep/stages/",
        "data_prep/build.py",
        "data_prep/job.py",
        "data_prep/markers.py",
        "data_prep/plan.py",
    ),
    "presets": ("data_prep/preset.py", "data_prep/class_set.py", "data_prep/toml_schema.py", "data_prep/init.py"),
    "storage": ("data_prep/storage/",),
    "sources": ("data_prep/sources/", "data_prep/hub.py"),
    "recipes": ("data_prep/recipes/", "data_prep/push.py"),
}
WANTED_CORE, WANTED_ALL = 0.95, 0.90


class Report(NamedTuple):
    """A mutant and what became of it."""

    mutant: Mutant
    outcome: Outcome


def main(argv: Sequence[str] | None = None) -> int:
    """Run the chosen command; returns 1 if fewer mistakes were noticed than are wanted."""
    args = _arguments(argv)
    with tempfile.TemporaryDirectory(prefix="mutation-") as scratch:
        trees = [_copy(Path(scratch) / f"tree-{number}") for number in range(args.jobs)]
        mutants, runs, wanted = args.draw(args, trees)
        equivalent = _equivalent_mutants()
        counted = [(m, r) for m, r in zip(mutants, runs) if (m.where, m.before, m.after) not in equivalent]
        print(f"{len(counted)} mistakes, {len(mutants) - len(counted)} more that change nothing", flush=True)
        reports = []
        outcomes = run_all([run for _, run in counted], trees, args.budget)
        for number, outcome in tqdm(outcomes, total=len(counted), unit="mistake", dynamic_ncols=True):
            report = Report(counted[number][0], outcome)
            reports.append(report)
            if not outcome.noticed or args.verbose:
                _show(report)
        false = check_unchanged({r.outcome.by for r in reports if r.outcome.by}, trees[0])
    for nodeid in sorted(false):
        print(f"FAILS WITHOUT A MISTAKE: {nodeid}")
    reports = [
        r._replace(outcome=Outcome(False, "", r.outcome.seconds)) if r.outcome.by in false else r for r in reports
    ]
    if args.out:
        _write(args.out, reports)
    return _summary(reports, wanted)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--jobs", type=int, default=2, help="mistakes tried at once (default: 2)")
    common.add_argument("--budget", type=float, default=120, help="seconds of tests for one mistake (default: 120)")
    common.add_argument("--verbose", action="store_true", help="show what was noticed, too")
    common.add_argument("--out", type=Path, help="write every mistake and its outcome there, as JSON")
    commands = parser.add_subparsers(required=True)
    sample = commands.add_parser("sample", parents=[common], help="a seeded sample over the product")
    sample.add_argument("--count", type=int, default=400, help="mistakes to draw (default: 400)")
    sample.add_argument("--seed", type=int, required=True)
    sample.add_argument("--contexts", type=Path, help="keep the map from lines to tests in this file")
    sample.set_defaults(draw=_sample)
    module = commands.add_parser("module", parents=[common], help="every mistake in some modules, against given tests")
    module.add_argument("modules", nargs="+", help="source files, relative to the checkout")
    module.add_argument("--tests", nargs="+", required=True, help="test files or node ids")
    module.add_argument("--share", type=float, default=1.0, help="draw only this share of the places (default: 1)")
    module.add_argument("--seed", type=int, default=0)
    module.set_defaults(draw=_module)
    overlooked = "mistakes that the suite once overlooked, against the tests that are for them"
    chosen = commands.add_parser("chosen", parents=[common], help=overlooked)
    chosen.add_argument("--only", default="", help="those whose file or note contains this")
    chosen.set_defaults(draw=_chosen)
    return parser.parse_args(argv)


def _sample(args: argparse.Namespace, trees: list[Path]) -> tuple[list[Mutant], list[Run], float]:
    contexts = Contexts.measure(trees[0], args.contexts)
    rng = random.Random(args.seed)
    places = all_points(ROOT, product_files(ROOT))
    drawn = rng.sample(places, min(args.count, len(places)))
    mutants = [place.mutant(rng.randrange(len(place.variants))) for place in drawn]
    runs = [Run(m.path, m.code, contexts.tests_of(m.path, m.line, args.budget)) for m in mutants]
    return mutants, runs, WANTED_ALL


def _module(args: argparse.Namespace, trees: list[Path]) -> tuple[list[Mutant], list[Run], float]:
    rng = random.Random(args.seed)
    places = [place for path in args.modules for place in points(ROOT, path)]
    if args.share < 1:
        places = rng.sample(places, round(args.share * len(places)))
    mutants = [place.mutant(number) for place in places for number in range(len(place.variants))]
    return mutants, [Run(m.path, m.code, tuple(args.tests)) for m in mutants], WANTED_CORE


def _chosen(args: argparse.Namespace, trees: list[Path]) -> tuple[list[Mutant], list[Run], float]:
    listed = _tables("chosen_mistakes", "mistake")
    sources = {path: (ROOT / path).read_text(encoding="utf-8") for path in product_files(ROOT)}
    mutants, runs = [], []
    for entry in listed:
        if args.only not in entry["file"] + entry["note"]:
            continue
        found = [path for path in sources if f"/{path}".endswith("/" + entry["file"])]
        text = sources[found[0]] if len(found) == 1 else ""
        if text.count(entry["old"]) != 1:
            print(f"STALE: {entry['file']} has not just one {entry['old']!r}")
        # Without its place in the code nothing runs, and it counts as a survivor.
        place, tests = text.find(entry["old"]), tuple(entry["tests"] if text.count(entry["old"]) == 1 else ())
        path, code = (found or [entry["file"]])[0], text.replace(entry["old"], entry["new"])
        mutants.append(Mutant(path, text[:place].count("\n") + 1, entry["note"], entry["old"], entry["new"], code))
        runs.append(Run(path, code, tests))
    return mutants, runs, 1.0


def _copy(tree: Path) -> Path:
    """Copy what git knows or would know of the checkout, and its history, which a test looks into."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)
    if (ROOT / ".git").is_dir():
        shutil.copytree(ROOT / ".git", tree / ".git")
    return tree


def _equivalent_mutants() -> set[tuple[str, str, str]]:
    return {(entry["where"], entry["before"], entry["after"]) for entry in _tables("equivalent_mutants", "mutant")}


def _tables(folder: str, name: str) -> list[dict[str, Any]]:
    files = sorted((HERE / folder).glob("*.toml"))
    return [entry for file in files for entry in tomllib.loads(file.read_text(encoding="utf-8"))[name]]


def _part(path: str) -> str:
    return next((name for name, ends in CORE.items() if any(f"/{end}" in f"/{path}" for end in ends)), "")


def _show(report: Report) -> None:
    mutant, outcome = report
    verdict = f"noticed by {outcome.by or 'time'}" if outcome.noticed else "SURVIVED"
    tqdm.write(f"{verdict}  {mutant.path}:{mutant.line}  {mutant.scope}  ({outcome.seconds:.0f} s)")
    for sign, text in (("-", mutant.before), ("+", mutant.after)):
        for line in text.splitlines():
            tqdm.write(f"    {sign} {line}")
    sys.stdout.flush()


def _summary(reports: list[Report], wanted: float) -> int:
    by_part, by_module = defaultdict(list), defaultdict(list)
    for mutant, outcome in reports:
        by_module[mutant.path].append(outcome.noticed)
        by_part[_part(mutant.path) or "everything else"].append(outcome.noticed)
    print(f"\n{'module':<56} noticed      of  share")
    for title, groups in (("", by_module), ("part", by_part)):
        if title:
            print(f"\n{title:<56} noticed      of  share")
        for name in sorted(groups):
            print(_line(name, groups[name]))
    noticed = [outcome.noticed for _, outcome in reports]
    core = [outcome.noticed for mutant, outcome in reports if _part(mutant.path)]
    print(f"\n{_line('the parts named above', core)}  (wanted: {WANTED_CORE:.0%})" if core else "")
    print(f"{_line('all', noticed)}  (wanted: {wanted:.0%})")
    return int(_share(noticed) < wanted or _share(core) < WANTED_CORE)


def _line(name: str, noticed: list[bool]) -> str:
    return f"{name:<56} {sum(noticed):>7} {len(noticed):>7}  {_share(noticed):>5.1%}"


def _share(noticed: list[bool]) -> float:
    return sum(noticed) / len(noticed) if noticed else 1.0


def _write(path: Path, reports: Iterable[Report]) -> None:
    rows = [
        {"where": m.where, "path": m.path, "line": m.line, "before": m.before, "after": m.after, **o._asdict()}
        for m, o in reports
    ]
    path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
