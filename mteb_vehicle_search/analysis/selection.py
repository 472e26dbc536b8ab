"""Which run records a command means: by model name, by name@revision, or by folder."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.run_record import RunRecord
from mteb_vehicle_search.settings import runs_folder

# mteb writes to this folder of the working directory unless told otherwise.
RESULTS = Path("results")
RUNS_HELP = "folder that holds run records (default: where runs are written, and ./results)"


def add_selection_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --runs, --task and --content-id."""
    parser.add_argument("--runs", type=Path, metavar="FOLDER", help=RUNS_HELP)
    parser.add_argument("--task", help="only runs of this task")
    parser.add_argument("--content-id", metavar="ID", help="only runs on this evaluation set; its first digits suffice")


def record_key(record: RunRecord) -> tuple[str, ...]:
    """Return what tells one run from another: task, content id, model, revision."""
    return tuple(str(record.info.get(key)) for key in ("task_name", "content_id", "model_name", "model_revision"))


def newest(records: Iterable[RunRecord]) -> list[RunRecord]:
    """Return one record of each run, the one that finished last, sorted by what it is of."""
    ordered = sorted(records, key=lambda record: (str(record.info.get("finished", "")), str(record.folder)))
    chosen = {record_key(record): record for record in ordered}
    return [chosen[key] for key in sorted(chosen)]


def run_places(root: Path | None) -> list[Path]:
    """Return the folders to look for run records in: `root`, or by default those that exist of the usual two."""
    return [root] if root else [place for place in (runs_folder(), RESULTS) if place.is_dir()]


def known_runs(root: Path | None = None) -> list[RunRecord]:
    """Return one record of each run under `run_places(root)`; damaged ones are named on stderr."""
    records = []
    for path in sorted(path for place in run_places(root) for path in place.rglob("run.json")):
        try:
            records.append(RunRecord.open(path.parent))
        except ResultsError as error:
            sys.stderr.write(f"skipped {path}: {error.message}\n")
    return newest(records)


def find_runs(
    model: str, root: Path | None = None, *, content_id: str | None = None, task: str | None = None
) -> list[RunRecord]:
    """Return the runs that `model` names: a run record's folder, a model name, or name@revision.

    Raises:
        ResultsError: There is none; says which models have runs.
    """
    folder = Path(model)
    if (folder / "run.json").is_file():
        return [RunRecord.open(folder)]
    records = known_runs(root)
    where = " and ".join(str(place) for place in run_places(root) or [runs_folder()])
    name, _, revision = model.partition("@")
    found = [
        record
        for record in records
        if record.info.get("model_name") == name
        and (not revision or str(record.info.get("model_revision")).startswith(revision))
        and str(record.info.get("content_id", "")).startswith(content_id or "")
        and (task is None or record.info.get("task_name") == task)
    ]
    if found:
        return found
    known = sorted({str(record.info.get("model_name")) for record in records})
    if not known:
        raise ResultsError(
            f"There are no run records under {where}.",
            "Run a model first: mteb run -t VehicleImageSearchMini -m vehicle-search/tiny-clip",
        )
    limits = [f"--task {task}"] if task else []
    limits += [f"--content-id {content_id}"] if content_id else []
    raise ResultsError(
        f"There is no run of {model!r}{' with ' + ' '.join(limits) if limits else ''} under {where}.",
        f"Models with runs: {', '.join(known)}.",
    )


def choose_runs(
    models: list[str], root: Path | None = None, *, content_id: str | None = None, task: str | None = None
) -> list[RunRecord]:
    """Return one run of each model, all on the same evaluation set.

    Raises:
        ResultsError: A model has no run, the models share no evaluation set, or the choice is not clear.
    """
    found = [find_runs(model, root, content_id=content_id, task=task) for model in models]
    shared = set.intersection(*[{str(record.info.get("content_id")) for record in records} for records in found])
    if not shared:
        where = [
            f"{model}: {', '.join(sorted({_set_name(record) for record in records}))}"
            for model, records in zip(models, found)
        ]
        raise ResultsError(
            f"The models were not run on the same evaluation set ({'; '.join(where)}); their scores do not compare.",
            "Run both models on the same data.",
        )
    if len(shared) > 1:
        names = sorted({_set_name(record) for records in found for record in records if _id(record) in shared})
        raise ResultsError(
            f"There are runs on several evaluation sets: {', '.join(names)}.",
            "Choose one with --content-id ID (the first digits suffice).",
        )
    chosen = []
    for model, records in zip(models, found):
        here = [record for record in records if _id(record) in shared]
        if len(here) > 1:
            revisions = [str(record.info.get("model_revision")) for record in here]
            raise ResultsError(
                f"{model} has runs of several revisions: {', '.join(revisions)}.",
                f"Choose one: {model.partition('@')[0]}@REVISION",
            )
        chosen.append(here[0])
    return chosen


def _id(record: RunRecord) -> str:
    return str(record.info.get("content_id"))


def _set_name(record: RunRecord) -> str:
    return f"{_id(record)[:12]} ({record.info.get('task_name')})"
