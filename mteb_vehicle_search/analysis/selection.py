"""Which runs a command means: MODEL arguments, narrowed by task and evaluation set."""

from __future__ import annotations

import argparse
import difflib
import shlex
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from mteb_vehicle_search.analysis import names
from mteb_vehicle_search.analysis.runs import RESULTS, files_below, open_record
from mteb_vehicle_search.analysis.sets import ID_DIGITS, SearchedImages, SetKey, other_pixels, title_of
from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.run_record import RunKey, RunRecord
from mteb_vehicle_search.settings import runs_folder

RUNS_HELP = "folder that holds run records (default: where runs are written, and ./results)"


def add_selection_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --runs, --task and --content-id."""
    parser.add_argument("--runs", type=Path, metavar="FOLDER", help=RUNS_HELP)
    parser.add_argument("--task", help="only runs of this task")
    parser.add_argument(
        "--content-id", metavar="ID", help="only runs on this evaluation set (or images id); its first digits suffice"
    )


def run_places(root: Path | None) -> list[Path]:
    """Return the folders to look for run records in: `root`, or by default those that exist of the usual two."""
    return [root] if root else [place for place in (runs_folder(), RESULTS) if place.is_dir()]


def known_runs(root: Path | None = None) -> list[RunRecord]:
    """Return all run records under `run_places(root)`; damaged ones are named on stderr."""
    records = []
    for path in (path for place in run_places(root) for path in files_below(place, "run.json")):
        try:
            records.append(open_record(path.parent))
        except ResultsError as error:
            sys.stderr.write(f"skipped {path}: {error.message}\n")
    return records


class Selection:
    """Run records to choose from, each with its completed key.

    Args:
        records: Those that can be named.
        beside: Others that say which images there are.
    """

    def __init__(self, records: Sequence[RunRecord], beside: Sequence[RunRecord] = ()) -> None:
        self.records = records
        self._searched = SearchedImages(record.key for record in [*records, *beside])

    def key(self, record: RunRecord) -> RunKey:
        """Return what decided the numbers of a run."""
        return self._searched.complete(record.key)

    def newest(self, records: Iterable[RunRecord]) -> list[RunRecord]:
        """Return one record of each run, the one that finished last, sorted by key."""
        ordered = sorted(records, key=lambda record: (str(record.info.get("finished") or ""), str(record.folder)))
        chosen = {self.key(record): record for record in ordered}
        return [chosen[key] for key in sorted(chosen)]

    def named(self, text: str, content_id: str | None = None, task: str | None = None) -> list[RunRecord]:
        """Return the runs that `name@revision[option=value]` names, of this task and on this evaluation set.

        Raises:
            ResultsError: The text is malformed.
        """
        wanted = names.parse(text, {self.key(record).model for record in self.records})
        here = [record for record in self.records if task in (None, record.info["task_name"])]
        start = content_id or ""
        here = [one for one in here if any(part.startswith(start) for part in SetKey.of(self.key(one)))]
        return self.newest(record for record in here if wanted.fits(self.key(record)))

    def like(self, text: str) -> str:
        """Return what somebody may have meant who named no run."""
        keys = [self.key(record) for record in self.newest(self.records)]
        models = sorted({key.model for key in keys})
        model = names.parse(text, models).model
        if own := sorted({key.full_name for key in keys if key.model == model}):
            return "\n".join(["Its runs:", *map(_typed, own)])
        near = difflib.get_close_matches(model, models, cutoff=0.75) or [
            one for one in models if model.lower() in one.lower()
        ]
        return f"Did you mean {' or '.join(near)}?" if near else f"Models with runs: {', '.join(models)}."


def choose_runs(
    models: Sequence[str], root: Path | None = None, *, content_id: str | None = None, task: str | None = None
) -> list[RunRecord]:
    """Return one run for each of `models` (see README.md for the names), all on the same evaluation set.

    Raises:
        ResultsError: A model has no run, the models share no evaluation set, or the choice is not clear.
    """
    folders = {model: open_record(Path(model)) for model in models if (Path(model) / "run.json").is_file()}
    selection = Selection(known_runs(root) if len(folders) < len(set(models)) else [], list(folders.values()))
    where = " and ".join(map(str, run_places(root) or [runs_folder()]))
    if len(folders) < len(set(models)) and not selection.records:
        raise ResultsError(
            f"There are no run records under {where}.",
            "Run a model first: mteb run -t VehicleImageSearchMini -m vehicle-search/tiny-clip",
        )
    limits = [f"--{key} {value}" for key, value in (("task", task), ("content-id", content_id)) if value]
    found = []
    for model in models:
        records = [folders[model]] if model in folders else selection.named(model, content_id, task)
        if not records:
            limited = f" with {' '.join(limits)}" if limits else ""
            raise ResultsError(f"There is no run of {model!r}{limited} under {where}.", selection.like(model))
        found.append(records)
    shared = _shared_set(models, found, selection)
    return [
        _only(model, [one for one in records if SetKey.of(selection.key(one)) == shared], selection)
        for model, records in zip(models, found)
    ]


def _shared_set(models: Sequence[str], found: list[list[RunRecord]], selection: Selection) -> SetKey:
    """Return the one evaluation set on which all models have runs."""
    sets = [{SetKey.of(selection.key(record)) for record in records} for records in found]
    shared = set.intersection(*sets)
    if len(shared) == 1:
        return shared.pop()
    every = [record for records in found for record in records]
    if shared:
        which = [record for record in every if SetKey.of(selection.key(record)) in shared]
        raise ResultsError(
            f"There are runs on several evaluation sets: {', '.join(_set_names(which, every, selection))}"
            f"{_pixels(which, selection)}.",
            "Choose one with --content-id ID (the first digits suffice).",
        )
    where = [f"{model}: {', '.join(_set_names(records, every, selection))}" for model, records in zip(models, found)]
    raise ResultsError(
        f"The models were not run on the same evaluation set ({'; '.join(where)}{_pixels(every, selection)}); "
        "their scores do not compare.",
        "Run both models on the same data.",
    )


def _set_names(records: list[RunRecord], every: list[RunRecord], selection: Selection) -> list[str]:
    """Return the sets of some of the runs, sorted: first digits, title of the newest, images where others differ."""
    newest = sorted(records, key=lambda one: str(one.info.get("finished") or ""))
    titles = {SetKey.of(selection.key(record)): title_of(record.info) for record in newest}
    several = Counter(content_id for content_id, _ in {SetKey.of(selection.key(record)) for record in every})
    images = {
        key: f", images id {key.images_id[:ID_DIGITS] or 'unknown'}" if several[key.content_id] > 1 else ""
        for key in titles
    }
    return [f"{key.content_id[:ID_DIGITS]} ({titles[key]}{images[key]})" for key in sorted(titles)]


def _pixels(records: list[RunRecord], selection: Selection) -> str:
    """Return what tells two sets of one content id apart, for a message; "" if no two have one."""
    first: dict[str, RunRecord] = {}
    for record in records:
        other = first.setdefault(selection.key(record).content_id, record)
        if selection.key(other).images_id != selection.key(record).images_id:
            return f"; one content id, but {other_pixels(other.info, record.info)}"
    return ""


def _only(model: str, records: list[RunRecord], selection: Selection) -> RunRecord:
    """Return the run that is meant; of several the one whose options are all named."""
    keys = [selection.key(record) for record in records]
    if len(records) > 1:
        wanted = names.parse(model, {key.model for key in keys})
        full = [record for record, key in zip(records, keys) if wanted.is_full(key)]
        if len(full) == 1:
            return full[0]
        raise ResultsError(
            f"{model} names {len(records)} runs, which differ in {' and '.join(names.differences(keys))}.",
            "\n".join(["Name one of them:", *(_typed(key.full_name) for key in keys)]),
        )
    return records[0]


def _typed(name: str) -> str:
    return f"  {shlex.quote(name)}"
