"""What the start-up hook costs every interpreter that does not import mteb.

Builds the wheel, installs it without dependencies into three environments, takes the start-up files away from two of
them, and starts their interpreters in turn. The difference between the two bare ones is the noise of the measurement.

    python benchmarks/start_up.py --out start_up.json
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
LIMIT_MS = 0.5
START_UP_FILES = ("mteb_vehicle_search.pth", "mteb_vehicle_search.start", "mteb_vehicle_search_autoload.py")


def environment(folder: Path, wheel: Path, hook: bool) -> Path:
    """Return the interpreter of a fresh environment with our wheel in it."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", "install"]
    subprocess.run([*pip, "--quiet", "--no-deps", "--no-index", wheel], check=True)
    (site_packages,) = folder.glob("lib/python*/site-packages")
    if not hook:
        for name in START_UP_FILES:
            (site_packages / name).unlink()
    code = "import sys; print(any(hasattr(finder, 'hands_over_mteb') for finder in sys.meta_path))"
    told = subprocess.run([python, "-I", "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    if told != str(hook):
        raise SystemExit(f"{python}: hook installed: {told}, expected: {hook}")
    return python


def start_ms(python: Path) -> float:
    """Return the wall time of one interpreter start and end, in milliseconds."""
    start = time.perf_counter()
    subprocess.run([python, "-I", "-c", "pass"], check=True)
    return (time.perf_counter() - start) * 1000


def main() -> int:
    """Measure, print, write; the exit status tells whether the limit was kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--rounds", type=int, default=300, help="starts of each interpreter (default: 300)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        code = "import sys, hatchling.build; hatchling.build.build_wheel(sys.argv[1])"
        subprocess.run([sys.executable, "-c", code, folder], cwd=ROOT, check=True, capture_output=True)
        (wheel,) = folder.glob("*.whl")
        kinds = {"without": False, "with": True, "again": False}
        pythons = {kind: environment(folder / kind, wheel, hook) for kind, hook in kinds.items()}
        for python in pythons.values():
            start_ms(python)
        times: dict[str, list[float]] = {kind: [] for kind in kinds}
        order = list(kinds)
        random.seed(0)
        for _ in range(args.rounds):
            random.shuffle(order)
            for kind in order:
                times[kind].append(start_ms(pythons[kind]))
    medians = {kind: median(values) for kind, values in times.items()}
    paired = [ours - bare for ours, bare in zip(times["with"], times["without"], strict=True)]
    noise = [again - bare for again, bare in zip(times["again"], times["without"], strict=True)]
    result = {
        "benchmark": "start_up",
        "python": platform.python_version(),
        "rounds": args.rounds,
        "without_hook_ms": round(medians["without"], 3),
        "with_hook_ms": round(medians["with"], 3),
        "difference_of_medians_ms": round(medians["with"] - medians["without"], 3),
        "median_paired_difference_ms": round(median(paired), 3),
        "noise_ms": round(median(noise), 3),
        "limit_ms": LIMIT_MS,
        "ratio": round(medians["with"] / medians["without"], 3),
    }
    print(
        f"interpreter start, median of {args.rounds}: without the hook {result['without_hook_ms']} ms, with it "
        f"{result['with_hook_ms']} ms (ratio {result['ratio']})\n"
        f"difference {result['median_paired_difference_ms']} ms (limit {LIMIT_MS} ms; two bare interpreters differ by "
        f"{result['noise_ms']} ms)"
    )
    if args.out:
        args.out.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n", encoding="utf-8", newline="\n")
    return 0 if max(result["median_paired_difference_ms"], result["difference_of_medians_ms"]) <= LIMIT_MS else 1


if __name__ == "__main__":
    sys.exit(main())
