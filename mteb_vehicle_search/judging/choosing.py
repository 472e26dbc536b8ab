"""What is judged: on which evaluation set, by which runs, in which sample."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mteb_vehicle_search.analysis.chance import better_than_chance
from mteb_vehicle_search.analysis.ranks import RunRanks, load_ranks
from mteb_vehicle_search.analysis.selection import Selection, choose_runs, known_runs
from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.eval_set.known import sets_here
from mteb_vehicle_search.judging.drawing import draw, within
from mteb_vehicle_search.judgments import Judgments, Known, Sample, judgments_folder, read_judgments
from mteb_vehicle_search.run_record import RunRecord

RUN_HINT = "Run a model first: mteb run -t VehicleImageSearchMini -m vehicle-search/tiny-clip"
# Decisions: about 1.4 hours, and 200 images of a hard set.
BUDGET = 1_300


class Chosen(NamedTuple):
    """An evaluation set, runs on it, and what was judged of it so far."""

    eval_set: EvalSet
    runs: list[RunRanks]
    judgments: Judgments


def choose(models: Sequence[str], data: Path | None, runs: Path | None, judgments: Path | None) -> Chosen:
    """Return what the arguments of a command name; what cannot be used is said on standard error.

    Args:
        models: Which runs (`analysis/README.md`); none: all of the set that are better than chance.
        data: The evaluation set; None: that of the named runs, else the first of the usual ones that has runs.
        runs: Where run records lie; None: the usual places.
        judgments: The root of the judgments; None: the usual one.

    Raises:
        ResultsError: There is no such run, or its evaluation set is not here.
        DataNotFoundError, EvalSetError: `data` is no evaluation set.
    """
    eval_set = EvalSet.open(data) if data else None
    if models:
        records = choose_runs(models, runs, content_id=eval_set.content_id if eval_set else None)
        eval_set = eval_set or _set_of(records[0])
        if foreign := [one for one in records if not _searched(one, eval_set)]:
            raise ResultsError(
                f"{foreign[0].key.full_name} searched other images than those of {eval_set.folder}.",
                "Name the evaluation set of the runs with --data, or run the model again.",
            )
        found = [load_ranks(record) for record in records]
    else:
        eval_set, records = _with_runs([eval_set] if eval_set else sets_here(), known_runs(runs))
        found = _telling([load_ranks(record) for record in records])
    folder = judgments_folder(eval_set.content_id, judgments)
    said = read_judgments(folder, eval_set.content_id, Known.of(eval_set))
    sys.stderr.writelines(f"not used: {problem}\n" for problem in said.problems)
    return Chosen(eval_set, found, said)


def _set_of(record: RunRecord) -> EvalSet:
    for eval_set in sets_here():
        if eval_set.content_id == record.key.content_id and _searched(record, eval_set):
            return eval_set
    raise ResultsError(
        f"The evaluation set of {record.key.full_name}, content id {record.key.content_id[:12]}, is not here.",
        "Name its folder: --data FOLDER",
    )


def _searched(record: RunRecord, eval_set: EvalSet) -> bool:
    """Tell whether a run searched just these images, or does not tell which."""
    return record.key.content_id == eval_set.content_id and record.key.images_id in ("", eval_set.images_id)


def _with_runs(sets, records: Sequence[RunRecord]) -> tuple[EvalSet, list[RunRecord]]:
    asked = []
    for eval_set in sets:
        asked.append(str(eval_set.folder))
        of_content = [one for one in records if one.key.content_id == eval_set.content_id]
        # Telling the images takes a look at every image.
        if here := [one for one in of_content if _searched(one, eval_set)]:
            return eval_set, Selection(here).newest(here)
    raise ResultsError(f"There is no run record of {', '.join(asked) or 'any evaluation set'}.", RUN_HINT)


def _telling(runs: list[RunRanks]) -> list[RunRanks]:
    """Return the runs that are better than chance, and say which are not: all that they rank high would be judged."""
    better = better_than_chance(runs)
    for run, is_better in zip(runs, better):
        if not is_better and any(better):
            name = run.record.key.full_name
            sys.stderr.write(f"left out: {name}, not told apart from chance; it is judged if it is named\n")
    return [run for run, is_better in zip(runs, better) if is_better] or runs


def sample_of(chosen: Chosen, seed: int | None, budget: int | None) -> tuple[Sample, str]:
    """Return the sample of the runs, an earlier one or a new one, and what to say of it.

    Args:
        chosen: The runs and the samples that there are.
        seed: Of the order; None: an earlier one, whatever its seed, else 0.
        budget: Decisions; None: as planned earlier, else `BUDGET`; 0: without a limit.

    Raises:
        ResultsError: As by `draw`.
    """
    judgments = chosen.judgments
    fresh = draw(chosen.runs, chosen.eval_set.corpus_ids(), seed=seed or 0)
    earlier = [
        one
        for one in judgments.samples.values()
        if one.runs == fresh.runs and seed in (None, one.seed) and _asked(one) == _asked(fresh)
    ]
    if earlier:
        judged, _, sample = max((len(judgments.judged(one)), one.id, one) for one in earlier)
        said = f"The sample {sample.id} goes on: {judged:,} captions are judged."
    else:
        sample, said = fresh, f"A new sample, {fresh.id}, is drawn."
        if judgments.samples:
            kept = sum(one.pair in fresh.pairs for one in judgments.lines)
            others = ", ".join(sorted(judgments.samples))
            said += f" Others ({others}) are of other runs or seeds; {kept:,} judgments of theirs count for it too."
    if budget is None and earlier:
        return sample, said
    return within(sample, BUDGET if budget is None else budget or sys.maxsize), said


def _asked(sample: Sample) -> set[tuple[str, tuple[str, ...]]]:
    return {(unit.query, unit.images) for unit in sample.units}
