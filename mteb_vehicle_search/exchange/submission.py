"""`vehicle-search submit --check`: what mteb's repository of results would refuse, and why, before anybody asks it.

Its rules: `results/<organisation>__<model>/<revision>/<Task>.json` beside a `model_meta.json` of that name and
revision; readable by mteb, with scores of the splits of the task; the model and the task in mteb itself; one dataset
revision for a task; scores that it has already change by at most 0.001; files of at most 10 MB.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mteb_vehicle_search.analysis.runs import files_below, read_json
from mteb_vehicle_search.errors import ResultsError, UsageError, first_line
from mteb_vehicle_search.mistakes import known_tasks
from mteb_vehicle_search.stored_results import ASIDE

META, RESULTS, EXPERIMENTS = "model_meta.json", "results", "experiments"
LARGEST_BYTES = 10_000_000
SLACK, ROUNDING = 0.001, 1e-9
REPOSITORY = "https://github.com/embeddings-benchmark/results"


class Refusal(NamedTuple):
    """A file that would be refused, and why."""

    path: Path
    why: str


class Checked(NamedTuple):
    """The results that were looked at, and what would be refused of them."""

    files: list[Path]
    refused: list[Refusal]


def check_results(root: Path, repository: Path | None = None) -> Checked:
    """Look at every result below a folder, as `mteb run --output-folder` writes them.

    Args:
        root: The folder, or its `results`.
        repository: A clone of the repository, whose results are then compared too.

    Raises:
        ResultsError: There is no result, or the clone is none.
    """
    if repository is not None and not (repository / RESULTS).is_dir():
        raise ResultsError(f"{repository} is no clone of {REPOSITORY}: it has no folder {RESULTS}.")
    below = root / RESULTS if (root / RESULTS).is_dir() else root
    files = [path for path in files_below(below, "*/*/**/*.json") if path.name != META and ASIDE not in path.parts]
    if not files:
        raise ResultsError(f"There are no results in {root}.", "Run a model first: mteb run ... --output-folder FOLDER")
    refused, revisions = [], dict[str, tuple[str, Path]]()
    for path in files:
        refused += [Refusal(path, why) for why in _of_file(path, below, repository, revisions)]
    return Checked(files, refused)


def _of_file(path: Path, below: Path, repository: Path | None, revisions: dict[str, tuple[str, Path]]) -> Iterator[str]:
    """Yield what is wrong with a result; `revisions` holds the dataset revision of each task that was seen, by file."""
    from mteb.results import TaskResult

    size = path.stat().st_size
    if size > LARGEST_BYTES:
        yield f"it has {size / 1e6:,.1f} MB; the largest file may have {LARGEST_BYTES / 1e6:,.0f}"
    yield from _of_place(path, below)
    try:
        result = TaskResult.from_disk(path, load_historic_data=False)
    except (OSError, ValueError) as error:
        yield f"mteb cannot read it: {first_line(error)}"
        return
    task = known_tasks().get(result.task_name)
    if task is None or not str(task.__module__).startswith("mteb."):
        yield f"mteb itself has no task {result.task_name}; it has to take the task before results of it"
    elif not any(result.scores.get(split) for split in task().eval_splits):
        yield f"it has no score of the splits of {result.task_name}"
    if path.stem != result.task_name:
        yield f"its name is not that of its task, {result.task_name}.json"
    seen, first = revisions.setdefault(result.task_name, (result.dataset_revision, path))
    if seen != result.dataset_revision:
        yield f"it is of the dataset revision {result.dataset_revision}, and {first} is of {seen}: a task has one"
    if repository is not None:
        yield from _of_repository(result, repository / RESULTS / path.relative_to(below))


def _of_place(path: Path, below: Path) -> Iterator[str]:
    """Yield what is wrong with the folders and with the metadata of the model."""
    parts = path.relative_to(below).parts
    if len(parts) != 3 and not (len(parts) == 5 and parts[2] == EXPERIMENTS):
        yield f"it does not lie in ORGANISATION__MODEL/REVISION/ below {below}"
        return
    meta_path = path.parent / META
    try:
        meta = read_json(meta_path)
    except ResultsError as error:
        yield f"there is no {META} beside it" if not meta_path.exists() else f"its {META}: {error.message}"
        return
    name, revision = str(meta.get("name")), str(meta.get("revision"))
    if name.replace("/", "__").replace(" ", "_") != parts[0] or "/" not in name:
        yield f"its {META} names the model {name}, and its folder is {parts[0]}"
    if revision != parts[1]:
        yield f"its {META} names the revision {revision}, and its folder is {parts[1]}"
    if name not in _models_of_mteb():
        yield f"mteb itself has no model {name}; add its ModelMeta there first"


def _models_of_mteb() -> set[str]:
    """Return the names of the models that mteb brings, without those that we and others register."""
    from mteb.models import ModelMeta

    modules = [module for name, module in sys.modules.items() if name.startswith("mteb.models.model_implementations.")]
    return {str(one.name) for module in modules for one in vars(module).values() if isinstance(one, ModelMeta)}


def _of_repository(result: Any, there: Path) -> Iterator[str]:
    """Yield how a result contradicts the one that the repository has; `there` is its place."""
    from mteb.results import TaskResult

    if not there.is_file():
        return
    try:
        old = TaskResult.from_disk(there)
    except (OSError, ValueError) as error:
        yield f"the repository's {there} cannot be read: {first_line(error)}"
        return
    if old.dataset_revision != result.dataset_revision:
        yield f"the repository has it of the dataset revision {old.dataset_revision}, not {result.dataset_revision}"
        return
    before = {
        (split, one["hf_subset"]): one["main_score"] for split, of_split in old.scores.items() for one in of_split
    }
    for split, of_split in result.scores.items():
        for one in of_split:
            known = before.get((split, one["hf_subset"]))
            if known is not None and abs(known - one["main_score"]) > SLACK + ROUNDING:
                where = f"{split}, {one['hf_subset']}"
                yield f"{where}: the repository has the main score {known:.5f}, and this is {one['main_score']:.5f}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vehicle-search submit`."""
    parser.description = (
        f"Say what {REPOSITORY} would refuse of results, and why. 'mteb submit-results' then hands them in."
    )
    parser.add_argument("results", type=Path, metavar="RESULTS", help="folder of results, as --output-folder named it")
    parser.add_argument("--check", action="store_true", help="look, and send nothing; there is nothing else to do here")
    parser.add_argument(
        "--repository", type=Path, metavar="CLONE", help="a clone of it, to compare with the scores that it has"
    )


def main(args: argparse.Namespace) -> int:
    """Print what would be refused; return 1 if anything would."""
    if not args.check:
        raise UsageError(
            "This only looks: say --check.", "mteb submit-results --output-folder FOLDER hands results in."
        )
    found = check_results(args.results, args.repository)
    for path, why in found.refused:
        sys.stdout.write(f"{path}: {why}.\n")
    count = len({one.path for one in found.refused})
    rest = "" if args.repository else " Scores that it has already were not compared: --repository CLONE."
    sys.stdout.write(f"{count:,} of {len(found.files):,} results would be refused.{rest}\n")
    return 1 if found.refused else 0
