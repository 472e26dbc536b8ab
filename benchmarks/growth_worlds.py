"""Growth where distractors depend on each other: python benchmarks/growth_worlds.py (about fifteen minutes).

For each kind of world: in how many the interval for ten times the searched corpus covers the truth, with each query's
distractors taken for its own, with common distractors, and where the table says that it cannot be trusted instead.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np


def main() -> None:
    """Run all worlds; the README of the analysis quotes them."""
    # The worlds are those of the tests.
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))
    from dependent_worlds import DEPENDENT, INDEPENDENT, METRICS, look

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", type=int, default=30, help="of each kind (default: 30)")
    args = parser.parse_args()
    print(f"of {args.worlds} worlds, {', '.join(METRICS)}: own distractors | common ones | covered or warned | warned")
    for name, kind in {**INDEPENDENT, **DEPENDENT}.items():
        seen = [look(kind, seed) for seed in range(args.worlds)]
        warned = np.array([bool(one.depends.warning) for one in seen])
        alone = np.array([one.covered(lambda s: s.alone) for one in seen])
        shared = np.array([one.covered(lambda s: s.shared) for one in seen])
        counts = [table.sum(axis=0).tolist() for table in (alone, shared, shared | warned[:, None])]
        at_a_time = np.mean([one.depends.at_a_time or 1.0 for one in seen])
        print(
            f"{name}: {counts[0]} | {counts[1]} | {counts[2]} | {warned.sum()} (at a time {at_a_time:.2f})", flush=True
        )


if __name__ == "__main__":
    main()
