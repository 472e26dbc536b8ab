"""How good corrected scores are, by simulation: python benchmarks/judging.py (about ten minutes; --predicted: twenty).

Worlds with planted false negatives and judges who err (tests/helpers/judged_worlds.py), of whose captions some are
judged. Prints how often the 95 % intervals hold what judging everything would give (for these images) and what it gives
for further ones; how often two equal models are told apart; and how far judges' errors take the scores from what was
planted. With --predicted it prints instead what a model's predictions do to intervals (predicted_worlds.py): one that
sees nearly what is right, the scored model itself, and one that sees nothing. The README in
mteb_vehicle_search/analysis quotes both.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

# The simulations are those of the tests.
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))
from judged_worlds import CHANCES, coverage, people, scene
from predicted_worlds import coverage as predicted_coverage

COLUMNS = (
    *("planted", "images", "judged captions", "judges", "these images: % covered", "half-width"),
    *("further images: % covered", "half-width", "difference: % covered", "equal models told apart, %"),
    *("bias in standard errors", "s a world"),
)
SIZES = ((2_145, 200), (2_145, 600), (300, 200), (300, 400))
PREDICTED_COLUMNS = (
    *("planted", "images", "judged captions", "predicted by", "these images: % covered", "half-width"),
    *("further images: % covered", "half-width", "difference: % covered", "half-width", "bias in standard errors"),
)
# Planted, images, judged captions, and the part of the worlds: many images take ten times as long.
PREDICTED = (
    *((0.10, 300, 60, 1.0), (0.02, 300, 200, 1.0), (0.10, 300, 200, 1.0), (0.30, 300, 200, 1.0)),
    (0.10, 2_145, 200, 0.5),
)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=400, help="of each case (default: 400)")
    parser.add_argument("--images", type=int, default=20_000, help="that worlds are drawn from (default: 20,000)")
    parser.add_argument("--predicted", action="store_true", help="what predictions do; half as many worlds")
    args = parser.parse_args()
    if args.predicted:
        predicted(args.worlds // 2, args.images // 5)
        return
    print("planted right | raw nDCG@10, best model first | planted correction | what judges add by their errors")
    worlds = {}
    for share in CHANCES:
        worlds[share] = of = people(np.random.default_rng(1), args.images, share)
        raw, truth, said = (values.mean(axis=(-1, -2)) for values in (of.raw, of.truth, of.judged.mean(axis=0)))
        figures = " | ".join(" ".join(f"{one:+.4f}" for one in part) for part in (raw, truth - raw, said - truth))
        print(f"{100 * of.share:.1f} % | {figures}", flush=True)
    print(f"\n{' | '.join(COLUMNS)}")
    for share, of in worlds.items():
        for images, budget in SIZES:
            for judges in (1, 2):
                start = time.perf_counter()
                found = coverage(of, images, budget, args.worlds, seed=3, judges=judges)
                took = (time.perf_counter() - start) / args.worlds
                cells = [f"{share:.0%}", f"{images:,}", str(budget), str(judges)]
                cells += [spans(found.these), f"{found.half_these:.4f}"]
                cells += [spans(found.further), f"{found.half_further:.4f}"]
                cells += [f"{100 * one:.1f}" for one in (found.difference, found.told_apart)]
                print(" | ".join([*cells, f"{found.bias:+.1f}", f"{took:.2f}"]), flush=True)


def predicted(worlds: int, images: int) -> None:
    """Print the table of predictions."""
    print(" | ".join(PREDICTED_COLUMNS))
    for share, of_world, units, part in PREDICTED:
        of = scene(np.random.default_rng(1), images, share, 0.05)
        for kind, found in predicted_coverage(of, of_world, units, int(worlds * part), seed=3).items():
            covered = (found.these, found.half_these, found.further, found.half_further)
            covered = (*covered, found.difference, found.half_difference)
            cells = [f"{100 * one:.1f}" if at % 2 == 0 else f"{one:.4f}" for at, one in enumerate(covered)]
            named = [f"{share:.0%}", f"{of_world:,}", str(units), kind]
            print(" | ".join([*named, *cells, f"{found.bias:+.1f}"]), flush=True)


def spans(shares: np.ndarray) -> str:
    """Return the mean over the models, and the lowest and the highest, in %."""
    return f"{100 * shares.mean():.1f} ({100 * shares.min():.1f}-{100 * shares.max():.1f})"


if __name__ == "__main__":
    main()
