"""Find and read what runs left: mteb's result files, run records, and published figures.

What cannot be read is named with a reason, never dropped silently.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.metrics import scored
from mteb_vehicle_search.run_record import RunRecord
from mteb_vehicle_search.settings import runs_folder

OURS = re.compile(r"VehicleImageSearch\w*")
# Files of the result tree that are no results.
OTHER_FILES = {"model_meta.json", "leaderboard.json"}


class Skipped(NamedTuple):
    """A file that was not used, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Result:
    """One mteb result file: the scores of one model on one task."""

    path: Path
    task: str
    content_id: str
    model: str
    revision: str
    scores: dict[str, float]
    date: str | None
    mteb_version: str | None
    meta: dict[str, Any]


@dataclass
class Found:
    """Everything that was found, and what was skipped."""

    results: list[Result] = field(default_factory=list)
    records: list[RunRecord] = field(default_factory=list)
    reported: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


def find_results(places: list[Path], task: str | None = None) -> Found:
    """Read every result file, run record and list of published figures in files, and in folders and all below them.

    Only those of one task count; if it is None, of all tasks of this package.

    Raises:
        ResultsError: A place does not exist.
    """
    found = Found()
    for place in places:
        if not place.exists():
            raise ResultsError(f"{place} does not exist.", "Run a model first, or name the folder of the results.")
        below = (path for path in place.rglob("*.json") if path.name not in OTHER_FILES)
        for path in sorted(below) if place.is_dir() else [place]:
            try:
                _read(path, found, task)
            except ResultsError as error:
                found.skipped.append(Skipped(path, error.message))
    return found


def _read(path: Path, found: Found, task: str | None) -> None:
    if path.name == "run.json":
        record = RunRecord.open(path.parent)
        if _wanted(str(record.info.get("task_name")), task):
            found.records.append(record)
        return
    content = read_json(path)
    if path.name == "reported.json":
        found.reported += [one for one in reported_figures(content) if _wanted(one["task_name"], task)]
        return
    result = _result(path, content)
    if not _wanted(result.task, task):
        raise ResultsError(f"it is about another task, {result.task}")
    found.results.append(result)


def _wanted(name: str, task: str | None) -> bool:
    return name == task if task else bool(OURS.fullmatch(name))


def read_json(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file that holds an object; mteb writes bare NaN, which is let through.

    Raises:
        ResultsError: It is not readable, not JSON, or not an object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ResultsError(f"it is not readable JSON: {error}") from error
    if not isinstance(content, dict):
        raise ResultsError("it is not a JSON object")
    return content


def _result(path: Path, content: dict[str, Any]) -> Result:
    for key in ("task_name", "dataset_revision", "scores"):
        if key not in content:
            raise ResultsError(f"it is not an mteb result: it has no {key!r}")
    shares = (*scored(), "ndcg_at_10_ci_low", "ndcg_at_10_ci_high")
    try:
        scores = content["scores"]["test"][0]
        values = {name: scores[name] for name in (*shares, "median_rank") if scores.get(name) is not None}
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ResultsError(f"it is not a result of a retrieval task: {type(error).__name__} {error}") from error
    if "ndcg_at_10" not in values:
        raise ResultsError("it has no score ndcg_at_10")
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ResultsError(f"its score {name} is {value!r}, not a finite number")
        if name in shares and not 0 <= value <= 1:
            raise ResultsError(f"its score {name} is {value!r}, not between 0 and 1")
    meta: dict[str, Any] = {}
    if (path.parent / "model_meta.json").is_file():
        try:
            meta = read_json(path.parent / "model_meta.json")
        except ResultsError as error:
            raise ResultsError(f"its model_meta.json is damaged: {error.message}") from error
    version = content.get("mteb_version")
    return Result(
        path,
        str(content["task_name"]),
        str(content["dataset_revision"]),
        str(meta.get("name") or path.parent.parent.name.replace("__", "/", 1)),
        str(meta.get("revision") or path.parent.name),
        {name: float(value) for name, value in values.items()},
        _iso_date(content.get("date")),
        str(version) if version is not None else None,
        meta,
    )


def reported_figures(content: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the checked entries of a `reported.json`.

    Raises:
        ResultsError: It has another version or a damaged entry.
    """
    if content.get("schema_version") != 1:
        raise ResultsError(f"its schema_version is {content.get('schema_version')!r}; this package reads 1")
    entries = content.get("reported")
    for entry in entries if isinstance(entries, list) else [None]:
        if not isinstance(entry, dict) or not all(
            isinstance(entry.get(key), str) for key in ("task_name", "model_name", "source")
        ):
            raise ResultsError("an entry lacks task_name, model_name or source")
        scores = entry.get("scores")
        if not isinstance(scores, dict) or not all(
            isinstance(value, (int, float)) and 0 <= value <= 1 for value in scores.values()
        ):
            raise ResultsError(f"the scores of {entry['model_name']} are not numbers between 0 and 1")
    return entries  # type: ignore[return-value]


def holds_flickr30k(training_datasets: Any) -> bool | None:
    """Say whether training data is known to hold Flickr30k; None: it is not known what the model was trained on."""
    if training_datasets is None:
        return None
    return any(re.search(r"flickr[-_ ]?30k", str(name), re.IGNORECASE) for name in training_datasets)


def _iso_date(value: object) -> str | None:
    """Return mteb's date, seconds since 1970 or a string, as ISO 8601."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return datetime.fromtimestamp(value, UTC).isoformat(timespec="seconds")
    return str(value) if value else None


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
    where = " and ".join(map(str, run_places(root) or [runs_folder()]))
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
    limits = " ".join(f"--{key} {value}" for key, value in (("task", task), ("content-id", content_id)) if value)
    raise ResultsError(
        f"There is no run of {model!r}{' with ' + limits if limits else ''} under {where}.",
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
    shared = set.intersection(*({_id(record) for record in records} for records in found))
    if not shared:
        where = [f"{model}: {', '.join(sorted(set(map(_set_name, records))))}" for model, records in zip(models, found)]
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
