"""Results and the run records of the very same runs, put together: one entry for each run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mteb_vehicle_search.analysis.columns import Entry
from mteb_vehicle_search.analysis.ranks import RunRanks, load_ranks
from mteb_vehicle_search.analysis.runs import Found, Result, Skipped, silent_fields
from mteb_vehicle_search.analysis.sets import SearchedImages
from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.run_record import RunKey, RunRecord

TWO_RUNS = "they are of two runs"


class Records:
    """Run records by preference, best first; their ranks are read once, and only if they are asked for."""

    def __init__(self, records: Iterable[RunRecord], images: SearchedImages) -> None:
        self._records = {record.folder: record for record in records}
        self.keys = {folder: images.complete(record.key) for folder, record in self._records.items()}
        self._ranks: dict[Path, RunRanks | ResultsError] = {}

    def fitting(self, key: RunKey, silent: frozenset[str]) -> list[Path]:
        """Return the records of a run: those of its key, then those that agree in all that result and record tell."""
        found = []
        for folder, own in self.keys.items():
            untold = silent | silent_fields(self._records[folder].info)
            if all(a == b for name, a, b in zip(RunKey._fields, own, key) if name not in untold):
                found.append(folder)
        return sorted(found, key=lambda folder: self.keys[folder] != key)

    def ranks(self, folder: Path) -> RunRanks:
        """Return the ranks of a record; raise a ResultsError if it is damaged."""
        if folder not in self._ranks:
            try:
                self._ranks[folder] = load_ranks(self._records[folder])
            except ResultsError as error:
                self._ranks[folder] = error
        found = self._ranks[folder]
        if isinstance(found, ResultsError):
            raise found
        return found


def pair_with_records(found: Found, known: Found, all_records: bool) -> tuple[list[Entry], list[Skipped]]:
    """Return one entry for each run, by key, and what was left out; of results of one run the newest counts.

    Those that were found make entries, and if `all_records` those that are only known too. Records that lie among the
    results come before others, newer ones before older ones.
    """
    every = [*found.records, *known.records]
    images = SearchedImages([*(one.key for one in found.results), *(record.key for record in every)])
    near = {record.folder for record in ([] if all_records else found.records)}

    def preference(record: RunRecord) -> tuple:
        return record.folder in near, str(record.info.get("finished") or ""), str(record.folder)

    records = Records(sorted(every, key=preference, reverse=True), images)
    entries: dict[RunKey, Entry] = {}
    # By folder, as a record may be tried for several results.
    damaged, of_others = {}, {}
    for result in sorted(found.results, key=lambda one: (one.date or "", str(one.path))):
        entry = _with_record(result, images.complete(result.key), records, damaged, of_others)
        if before := entries.get(entry.key):
            reason = f"{result.path} is a newer result of the same run"
            found.skipped.append(Skipped(before.result.path, reason))  # type: ignore[union-attr]
        entries[entry.key] = entry
    used = {entry.ranks.record.folder for entry in entries.values() if entry.ranks}
    for folder, key in records.keys.items():
        if key not in entries and folder not in used and (all_records or folder in near):
            try:
                entries[key] = Entry(None, records.ranks(folder), key)
                used.add(folder)
            except ResultsError as error:
                damaged[folder] = error.message
    reasons = {**damaged, **{folder: reason for folder, reason in of_others.items() if folder not in used}}
    return [entries[key] for key in sorted(entries)], [Skipped(folder, reason) for folder, reason in reasons.items()]


def _with_record(
    result: Result, key: RunKey, records: Records, damaged: dict[Path, str], of_others: dict[Path, str]
) -> Entry:
    """Return a result with the first record of the run that wrote it; note those that are damaged or of another run."""
    refused = {}
    for folder in records.fitting(key, result.silent):
        try:
            ranks = records.ranks(folder)
        except ResultsError as error:
            damaged[folder] = error.message
            continue
        if reason := _disagreement(result, ranks):
            refused[folder] = reason
            continue
        told = {name: getattr(records.keys[folder], name) for name in result.silent}
        return Entry(result, ranks, key._replace(**told))
    # An earlier run of the same model, superseded by one that fits, needs no mention.
    of_others.update(refused)
    return Entry(result, None, key)


def _disagreement(result: Result, ranks: RunRanks) -> str:
    """Say why a record is not of the run that wrote the result: their scores differ by more than rounding; else ""."""
    here, there = float(ranks.scores("ndcg_at_10").mean()), result.scores["ndcg_at_10"]
    # mteb rounds to five places.
    if abs(here - there) <= 2e-5:
        return ""
    return f"its ndcg_at_10 is {here:.5f}, but {result.path} says {there:.5f}: {TWO_RUNS}"
