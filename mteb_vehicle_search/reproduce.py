"""`vehicle-search reproduce`: run the two published models as they were run, and compare with what was published."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, NamedTuple

from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.eval_set.known import ORIGINAL, bring, chosen_folder

# fp32 and Pillow preprocessing: the mode in which the published scores were made.
MODE: dict[str, Any] = {"precision": "fp32", "preprocess": "exact"}
ORIGINAL_IMAGES, ORIGINAL_QUERIES = 68_154, 10_725
TOLERANCE = 0.001


class Published(NamedTuple):
    """A score that was published; source: github.com/lukemerrick/vehicle-image-search-eval at 5320e451."""

    model: str
    ndcg_at_10: float


PUBLISHED = {
    "metaclip": Published("timm/vit_huge_patch14_clip_224.metaclip_altogether", 0.51109),
    "jina": Published("jinaai/jina-clip-v2", 0.38448),
}


class Comparison(NamedTuple):
    """A measured NDCG@10 with its 95 % interval, beside the published one."""

    published: Published
    measured: float
    low: float
    high: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the two differ by at most the tolerance."""
        return abs(self.measured - self.published.ndcg_at_10) <= self.tolerance


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    parser.add_argument("--models", nargs="+", choices=list(PUBLISHED), default=list(PUBLISHED), help="default: both")
    parser.add_argument("--tolerance", type=float, default=TOLERANCE, help="largest difference of NDCG@10 that passes")
    parser.add_argument("--batch-size", type=int, default=32, help="images per forward pass")
    parser.add_argument("--device", default=None, help="cpu, cuda, cuda:1 or mps; default: the best there is")


def main(args: argparse.Namespace) -> int:
    """Run the models on the original set; return 0 if every score is the published one within the tolerance, else 1.

    Raises:
        DataNotFoundError: The evaluation set is missing.
        ResultsError: It is not of the original's size.
        ModelLoadError: A model's weights are not to be had.
    """
    bring(ORIGINAL)
    _require_original(EvalSet.open(chosen_folder()).manifest["counts"], chosen_folder())
    comparisons = []
    for name in args.models:
        published = PUBLISHED[name]
        scores = evaluate(published.model, args.batch_size, args.device)
        figures = (scores["ndcg_at_10"], scores["ndcg_at_10_ci_low"], scores["ndcg_at_10_ci_high"])
        comparisons.append(Comparison(published, *figures, args.tolerance))
    sys.stdout.write(table(comparisons))
    return 0 if all(comparison.passed for comparison in comparisons) else 1


def evaluate(model: str, batch_size: int, device: str | None) -> dict[str, Any]:
    """Return the scores of `model` on VehicleImageSearch, encoded anew in the published mode."""
    # mteb takes seconds to import; the command's help does not need it.
    import mteb

    import mteb_vehicle_search

    mteb_vehicle_search.register()
    task: Any = mteb.get_task("VehicleImageSearch")
    loaded = mteb.get_model(model, device=device, **MODE)
    result = mteb.evaluate(loaded, task, cache=None, encode_kwargs={"batch_size": batch_size})
    return dict(result.task_results[0].scores["test"][0])


def table(comparisons: list[Comparison]) -> str:
    """Return measured against published, a line for each model, with a verdict."""
    lines = [f"{'model':<52} {'published':>9} {'measured':>9} {'95 % interval':>19} {'difference':>10}  verdict"]
    for one in comparisons:
        difference = one.measured - one.published.ndcg_at_10
        verdict = "pass" if one.passed else f"FAIL (more than {one.tolerance:g} apart)"
        lines.append(
            f"{one.published.model:<52} {one.published.ndcg_at_10:>9.5f} {one.measured:>9.5f} "
            f"{f'{one.low:.5f} - {one.high:.5f}':>19} {difference:>+10.5f}  {verdict}"
        )
    return "\n".join([*lines, "NDCG@10 in fp32 with exact preprocessing, as published.", ""])


def _require_original(counts: dict[str, int], folder: Path) -> None:
    found = (counts.get("images", counts.get("corpus")), counts["queries"])
    if found != (ORIGINAL_IMAGES, ORIGINAL_QUERIES):
        raise ResultsError(
            f"{folder} has {found[0]} images and {found[1]} queries; the published scores are of "
            f"{ORIGINAL_IMAGES:,} and {ORIGINAL_QUERIES:,}.",
            "Build it: vehicle-search-data build --preset original",
        )
