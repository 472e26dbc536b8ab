"""How many refused inputs stop a build."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from data_prep.job import BuildOptions, Job
from data_prep.markers import Stages
from data_prep.preset import load_preset
from mteb_vehicle_search.errors import BuildError
from mteb_vehicle_search.eval_set.schema import Rejected
from mteb_vehicle_search.terminal import Reporter


def job(tmp_path: Path, rejected: list[Rejected], inputs: dict[str, int], allow: bool = False) -> Job:
    options = BuildOptions(load_preset("mini"), tmp_path / "out", allow_rejects=allow)
    return Job(options, Reporter(True), Stages(options.work), {}, Counter(inputs), rejected)


def refused(count: int) -> list[Rejected]:
    return [Rejected(f"image {n}", "captioned", f"reason {n}") for n in range(count)]


@pytest.mark.parametrize(
    ("count", "inputs", "stops"),
    [
        (0, {}, False),
        (1, {}, True),
        (1, {"captioned": 199}, True),
        (1, {"captioned": 200}, False),
        (2, {"captioned": 399}, True),
        (2, {"captioned": 400}, False),
        (5, {"captioned": 900, "distractors": 99}, True),
        (5, {"captioned": 900, "distractors": 100}, False),
    ],
)
def test_more_than_one_in_two_hundred_is_too_many(tmp_path, count, inputs, stops):
    if stops:
        with pytest.raises(
            BuildError, match=rf"{count} of {sum(inputs.values())} inputs were refused, more than 0\.5%"
        ):
            job(tmp_path, refused(count), inputs).check_rejects()
    else:
        job(tmp_path, refused(count), inputs).check_rejects()
    job(tmp_path, refused(count), inputs, allow=True).check_rejects()


def test_a_row_that_stands_twice_counts_once(tmp_path):
    job(tmp_path, refused(1) * 3, {"captioned": 200}).check_rejects()


def test_the_message_names_the_first_five_and_what_mends_it(tmp_path):
    with pytest.raises(BuildError) as error:
        job(tmp_path, refused(7)[::-1], {"captioned": 10}).check_rejects()
    lines = str(error.value).splitlines()
    assert lines[1:6] == [f"  image {n} (captioned): reason {n}" for n in range(5)]
    assert len(lines) == 7
    assert "Mend it and run the command again, or go on with --allow-rejects." in lines[6]


def test_a_new_job_has_read_and_refused_nothing(tmp_path):
    options = BuildOptions(load_preset("mini"), tmp_path / "out")
    first = Job(options, Reporter(True), Stages(options.work), {"form": "x"})
    second = Job(options, Reporter(True), Stages(options.work), {"form": "x"})
    first.inputs["captioned"] += 1
    first.rejected.append(Rejected("a", "b", "c"))
    assert (second.inputs, second.rejected) == (Counter(), [])
    assert first.preset is options.preset
