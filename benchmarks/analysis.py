"""Full simulations of the analysis: python benchmarks/analysis.py (about three minutes).

Prints type-I error and the error of the extrapolation; the README there quotes them. `interval_coverage.py` has the
intervals.
Run records in the runs folder are checked by holding out 90 % of their distractors as well.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mteb_vehicle_search.analysis.corpus_growth import hold_out
from mteb_vehicle_search.analysis.ranks import load_ranks
from mteb_vehicle_search.run_record import RunRecord


def main() -> None:
    """Run all simulations."""
    # The simulations are those of the tests.
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))
    from simulations import extrapolations, far_extrapolations, type_1_error

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--datasets", type=int, default=1_000, help="simulated data sets (default: 1,000)")
    args = parser.parse_args()
    n = args.datasets
    clustered, by_query = type_1_error(n, images=200, captions=5, flips=1_000, seed=12)
    print(f"type-I error at 5 %, {n} data sets: by image {clustered:.1%}, by query {by_query:.1%}")
    print("extrapolation of nDCG@10, 10,725 queries, from 6,601 distractors to 66,009:")
    for kind, (predicted, low, high, truth) in extrapolations(2_145, 5, 66_009, seed=13).items():
        print(
            f"  {kind}: predicted {predicted:.4f} [{low:.3f}, {high:.3f}], truth {truth:.4f}: {predicted - truth:+.4f}"
        )
    print("from 66,009 distractors to 1,000,000 and 10,000,000:")
    for kind, points in far_extrapolations(2_145, 5, 66_009, [1_000_000, 10_000_000], seed=14).items():
        shown = [f"{p:.4f} [{low:.3f}, {high:.3f}], truth {truth:.4f}" for p, low, high, truth in points]
        print(f"  {kind}: {'; '.join(shown)}")
    for record in RunRecord.find():
        check = hold_out(load_ranks(record))
        low, high = check.predicted.low, check.predicted.high
        print(
            f"{record.info['model_name']} on {record.info['task_name']}, from 10 % of the distractors: predicted "
            f"{check.predicted.mean:.4f} [{low:.3f}, {high:.3f}], truth {check.actual:.4f}: {check.error:+.4f}"
        )


if __name__ == "__main__":
    main()
