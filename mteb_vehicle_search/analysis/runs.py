"""Find and read what runs left: mteb's result files, run records, and published figures.

What cannot be read is named with a reason, never dropped silently.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from mteb_vehicle_search.analysis.fields import OBJECT, TEXT, is_text, require
from mteb_vehicle_search.analysis.reported import reported_figures
from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.metrics import scored
from mteb_vehicle_search.run_record import NO_REVISION, RunKey, RunRecord, options_of

# A result is of an evaluation set of ours if mteb's dataset revision is a content id.
CONTENT_ID = re.compile(r"[0-9a-f]{64}")
# What earlier versions wrote of a task that was made before its data.
NOT_BUILT = "not-built"
# Files of the result tree that are no results.
OTHER_FILES = re.compile(r"model_meta\.json|leaderboard\.json|sample-[0-9a-f]{12}\.json")
# mteb writes to this folder of the working directory unless told otherwise.
RESULTS = Path("results")
EXPERIMENTS = "experiments"
# The types of what names a run and of what is looked into; other facts of a wrong type are unknown ones.
RECORD = {
    **dict.fromkeys(("task_name", "content_id", "model_name"), ("string",)),
    **dict.fromkeys(("model_revision", "images_id", "sources_id", "title", "finished"), TEXT),
    **dict.fromkeys(("implementation", "precision", "preprocess"), TEXT),
    **dict.fromkeys(("options", "encoder", "versions"), OBJECT),
}
RUN = {
    **dict.fromkeys(("images_id", "sources_id", "implementation", "precision", "preprocess"), TEXT),
    "options": OBJECT,
}


class Skipped(NamedTuple):
    """A file that was not used, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Result:
    """One mteb result file: the scores of one run.

    `silent` names the parts of the key that the file does not tell; they stand there as unknown.
    """

    path: Path
    task: str
    key: RunKey
    silent: frozenset[str]
    sources_id: str
    scores: dict[str, float]
    date: str | None
    mteb_version: str | None
    meta: dict[str, Any]


@dataclass
class Found:
    """Everything that was found, what was skipped, and how many results were of other tasks."""

    results: list[Result] = field(default_factory=list)
    records: list[RunRecord] = field(default_factory=list)
    reported: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    others: int = 0


class OtherTaskError(ResultsError):
    """A readable result that is of another task."""


def find_results(places: list[Path], task: str | None = None) -> Found:
    """Read every result file, run record and list of published figures in files, and in folders and all below them.

    Only those of one task count; if it is None, of all evaluation sets.

    Raises:
        ResultsError: A place does not exist.
    """
    found = Found()
    for place in places:
        if not place.exists():
            raise ResultsError(f"{place} does not exist.", "Run a model first, or name the folder of the results.")
        below = (path for path in files_below(place, "*.json") if not OTHER_FILES.fullmatch(path.name))
        for path in below if place.is_dir() else [place]:
            try:
                _read(path, found, task)
            except OtherTaskError as error:
                found.others += 1
                # Whoever names a file wants to know.
                if path == place:
                    found.skipped.append(Skipped(path, error.message))
            except ResultsError as error:
                found.skipped.append(Skipped(path, error.message))
    return found


def files_below(folder: Path, pattern: str) -> Iterator[Path]:
    """Yield the files below a folder in order, but not what is hidden: a run that is being written, or replaced."""
    for path in sorted(folder.rglob(pattern)):
        if not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield path


def _read(path: Path, found: Found, task: str | None) -> None:
    if path.name == "run.json":
        record = open_record(path.parent)
        if task in (None, record.info["task_name"]):
            found.records.append(record)
        return
    content = read_json(path)
    if path.name == "reported.json":
        found.reported += [one for one in reported_figures(content) if task in (None, one["task_name"])]
        return
    result = read_result(path, content)
    if task not in (None, result.task):
        raise OtherTaskError(f"it is about another task, {result.task}")
    found.results.append(result)


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


def open_record(folder: Path) -> RunRecord:
    """Open a run record whose fields have their types.

    Raises:
        ResultsError: It is damaged, or of another schema version.
    """
    path = folder / "run.json"
    try:
        record = RunRecord.open(folder)
        require(record.info, RECORD)
        _require_names(RunKey.of(record.info))
    except RecursionError as error:
        raise ResultsError(f"{path} is nested too deeply.") from error
    except ResultsError as error:
        message = error.message if str(folder) in error.message else f"{path}: {error.message}."
        # It may show what was found, which may not be text.
        raise ResultsError(message.encode(errors="backslashreplace").decode(), error.hint) from error
    return record


def silent_fields(info: Mapping[str, Any]) -> frozenset[str]:
    """Return the parts of the key that a `run.json`, or the same part of a result, does not tell."""
    key = RunKey.of(info)
    missing = {
        "images_id": not key.images_id,
        "options": not isinstance(info.get("options"), dict),
        "precision": not info.get("precision") and key.precision == "unknown",
        "preprocess": "preprocess" not in info and not key.preprocess,
    }
    return frozenset(name for name, is_missing in missing.items() if is_missing)


def read_result(path: Path, content: dict[str, Any]) -> Result:
    """Return a result of one of our evaluation sets.

    Raises:
        OtherTaskError: It is a result on other data.
        ResultsError: It is damaged, or no result.
    """
    for key in ("task_name", "dataset_revision", "scores"):
        if key not in content:
            raise ResultsError(f"it is not an mteb result: it has no {key!r}")
    require(content, {"task_name": ("string",), "dataset_revision": ("string",), "mteb_version": TEXT})
    task, content_id = content["task_name"], content["dataset_revision"]
    if content_id == NOT_BUILT:
        raise ResultsError("it does not say on which evaluation set it was made; run the model again")
    if not CONTENT_ID.fullmatch(content_id):
        raise OtherTaskError(f"it is about another task, {task}")
    try:
        scores = content["scores"]["test"][0]
        run = scores.get("run") or {}
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ResultsError(f"it is not a result of a retrieval task: {type(error).__name__} {error}") from error
    if not isinstance(run, dict):
        raise ResultsError("its 'run' is not an object")
    require(run, RUN)
    meta = _meta(path)
    model, revision = _model(path, meta)
    info = {"options": options_of(meta.get("experiment_kwargs")), **{k: v for k, v in run.items() if v is not None}}
    info |= {"content_id": content_id, "model_name": model, "model_revision": revision}
    date = _iso_date(content.get("date"))
    values, sources_id = _scores(scores), run.get("sources_id") or ""
    version = content.get("mteb_version")
    key = RunKey.of(info)
    _require_names(key)
    return Result(path, task, key, silent_fields(info), sources_id, values, date, version, meta)


def _require_names(key: RunKey) -> None:
    for text in (*key[:4], *itertools.chain(*key.options), *key[5:]):
        if not is_text(text):
            raise ResultsError(f"its run has the name {text!r}, which holds half a character")


def _scores(scores: dict[str, Any]) -> dict[str, float]:
    shares = (*scored(), "ndcg_at_10_ci_low", "ndcg_at_10_ci_high")
    values = {
        name: scores[name] for name in (*shares, "median_rank", "ndcg_at_10_ci_images") if scores.get(name) is not None
    }
    if "ndcg_at_10" not in values:
        raise ResultsError("it has no score ndcg_at_10")
    for name, value in values.items():
        try:
            finite = not isinstance(value, bool) and isinstance(value, (int, float)) and math.isfinite(value)
        except OverflowError:
            finite = False
        if not finite:
            raise ResultsError(f"its score {name} is {reprlib.repr(value)}, not a finite number")
        if name in shares and not 0 <= value <= 1:
            raise ResultsError(f"its score {name} is {value!r}, not between 0 and 1")
    return {name: float(value) for name, value in values.items()}


def _meta(path: Path) -> dict[str, Any]:
    """Return mteb's metadata of the model of a result; empty if there is none."""
    if not (path.parent / "model_meta.json").is_file():
        return {}
    try:
        meta = read_json(path.parent / "model_meta.json")
        require(meta, {"name": TEXT, "revision": TEXT, "experiment_kwargs": OBJECT})
    except ResultsError as error:
        raise ResultsError(f"its model_meta.json is damaged: {error.message}") from error
    return meta


def meta_of(key: RunKey) -> dict[str, Any]:
    """Return what mteb's files in `./results` say of the model of a run; empty if they say nothing."""
    for path in files_below(RESULTS, "model_meta.json") if RESULTS.is_dir() else ():
        try:
            meta = _meta(path.parent / "any.json")
        except ResultsError:
            continue
        if meta.get("name") == key.model and (meta.get("revision") or "") in (key.revision, NO_REVISION, ""):
            return meta
    return {}


def _model(path: Path, meta: dict[str, Any]) -> tuple[str, str]:
    """Return name and revision of the model of a result: `<model>/<revision>/Task.json`, an experiment two deeper."""
    folder = path.parent
    if folder.parent.name == EXPERIMENTS:
        if not meta:
            raise ResultsError("it is of an experiment, but no model_meta.json beside it says of which")
        folder = folder.parent.parent
    return str(meta.get("name") or folder.parent.name.replace("__", "/", 1)), str(meta.get("revision") or folder.name)


def holds_flickr30k(training_datasets: Any) -> bool | None:
    """Say whether training data is known to hold Flickr30k; None: it is not known what the model was trained on."""
    if not isinstance(training_datasets, (list, dict)):
        return None
    return any(re.search(r"flickr[-_ ]?30k", str(name), re.IGNORECASE) for name in training_datasets)


def _iso_date(value: object) -> str | None:
    """Return mteb's date, seconds since 1970 or a string, as ISO 8601; None for what is no date."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return datetime.fromtimestamp(value, UTC).isoformat(timespec="seconds")
        except (ValueError, OverflowError, OSError):
            return None
    return value if isinstance(value, str) and value else None
