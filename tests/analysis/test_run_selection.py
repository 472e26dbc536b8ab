"""Which run records a command means, and what it says when that is not clear."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import pytest
from hand_made_runs import hand_made, info_of, table_of

from mteb_vehicle_search.analysis.runs import (
    RESULTS,
    add_selection_arguments,
    choose_runs,
    find_runs,
    known_runs,
    newest,
    record_key,
    run_places,
)
from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.run_record import RunRecord, write_run_record
from mteb_vehicle_search.settings import runs_folder

DATA, OTHER = "5a" * 32, "6b" * 32


def write(model: str = "org/good", *, content_id: str = DATA, revision: str | None = "0" * 40, **info) -> RunRecord:
    given = info_of(model_name=model, content_id=content_id, model_revision=revision, **info)
    return write_run_record(content_id, model, revision, table_of(hand_made([1, 2])), given)


def folders(records: list[RunRecord]) -> list[Path]:
    return [record.folder for record in records]


def test_the_arguments_and_their_defaults():
    parser = argparse.ArgumentParser()
    add_selection_arguments(parser)
    assert vars(parser.parse_args([])) == {"runs": None, "task": None, "content_id": None}
    named = parser.parse_args(["--runs", "a/b", "--task", "T", "--content-id", "5"])
    assert vars(named) == {"runs": Path("a/b"), "task": "T", "content_id": "5"}
    text = " ".join(parser.format_help().split())
    assert "--runs FOLDER" in text
    assert "--content-id ID" in text
    assert Path("results") == RESULTS


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("org/good", ["good"]),
        ("org/good@", ["good"]),
        ("org/good@00", ["good"]),
        ("org/good@" + "0" * 40, ["good"]),
        ("org/poor", ["poor"]),
    ],
)
def test_a_model_is_named_by_name_or_by_the_first_digits_of_its_revision(home, text, found):
    records = {"good": write(), "poor": write("org/poor", revision="1" * 40)}
    assert folders(find_runs(text)) == [records[name].folder for name in found]


@pytest.mark.parametrize("text", ["org/good@1", "org/goo", "good", "org/good@0000x", "@0"])
def test_another_name_or_revision_is_not_found(home, text):
    write()
    write("org/poor")
    with pytest.raises(ResultsError, match=f"^There is no run of '{text}' under {runs_folder()}") as refused:
        find_runs(text)
    assert "Models with runs: org/good, org/poor." in str(refused.value)


def test_a_folder_names_its_run_wherever_it_lies(home, tmp_path):
    record = write()
    moved = tmp_path / "elsewhere" / "a-run"
    shutil.copytree(record.folder, moved)
    assert folders(find_runs(str(moved))) == [moved]
    (moved / "queries.parquet").unlink()
    with pytest.raises(ResultsError, match=r"no queries\.parquet"):
        find_runs(str(moved))


def test_runs_are_narrowed_by_content_id_and_by_task(home):
    here, there = write(), write(content_id=OTHER, task_name="OtherTask")
    assert folders(find_runs("org/good")) == sorted([here.folder, there.folder], key=lambda f: f != there.folder)
    assert folders(find_runs("org/good", content_id="5a5")) == [here.folder]
    assert folders(find_runs("org/good", content_id=OTHER)) == [there.folder]
    assert folders(find_runs("org/good", task="OtherTask")) == [there.folder]
    assert folders(find_runs("org/good", task="VehicleImageSearch")) == [here.folder]
    with pytest.raises(ResultsError, match="with --task OtherTask --content-id 5a under"):
        find_runs("org/good", content_id="5a", task="OtherTask")
    with pytest.raises(ResultsError, match="of 'org/good' with --content-id a under"):
        find_runs("org/good", content_id="a")
    with pytest.raises(ResultsError, match="of 'org/good' with --task Vehicle under"):
        find_runs("org/good", task="Vehicle")


def test_choosing_narrows_in_the_same_way(home):
    here, there = write(), write(content_id=OTHER, task_name="OtherTask")
    assert folders(choose_runs(["org/good"], content_id="5a")) == [here.folder]
    assert folders(choose_runs(["org/good"], task="OtherTask")) == [there.folder]
    moved = home.parent / "moved"
    shutil.copytree(there.folder, moved / "one")
    assert folders(choose_runs(["org/good"], moved)) == [moved / "one"]


def test_without_runs_it_says_how_to_make_one(home):
    with pytest.raises(ResultsError, match=f"no run records under {runs_folder()}") as refused:
        find_runs("org/good")
    assert "mteb run -t VehicleImageSearchMini -m vehicle-search/tiny-clip" in str(refused.value)


def test_runs_lie_in_the_runs_folder_and_among_the_results_of_the_working_directory(home):
    assert run_places(None) == []
    RESULTS.mkdir()
    assert run_places(None) == [RESULTS]
    write()
    assert run_places(None) == [runs_folder(), RESULTS]
    assert run_places(Path("named")) == [Path("named")]
    with pytest.raises(ResultsError, match=f"under {runs_folder()} and {RESULTS}"):
        find_runs("some/other")


def test_a_damaged_record_is_named_and_the_others_are_found(home, capsys):
    good, poor = write(), write("org/poor")
    (poor.folder / "run.json").write_text("{")
    assert folders(known_runs()) == [good.folder]
    assert f"skipped {poor.folder / 'run.json'}: {poor.folder} is not a run record" in capsys.readouterr().err
    assert folders(known_runs(good.folder.parent)) == [good.folder]
    assert known_runs(home / "nowhere") == []


def test_a_run_is_its_task_content_id_model_and_revision():
    record = RunRecord(Path("x"), {"task_name": "T", "content_id": "5", "model_name": "m", "model_revision": None})
    assert record_key(record) == ("T", "5", "m", "None")


@pytest.mark.parametrize("key", ["task_name", "content_id", "model_name", "model_revision"])
def test_records_of_one_run_are_one_and_others_are_not(key):
    def record(folder: str, finished: str, **changed) -> RunRecord:
        return RunRecord(Path(folder), info_of(finished=finished, **changed))

    old, new, other = record("b", "2025"), record("a", "2026"), record("c", "2024", **{key: "another"})
    for records in ([old, new, other], [other, new, old]):
        found = newest(records)
        assert set(folders(found)) == {Path("a"), Path("c")}
        assert found == sorted(found, key=record_key)


def test_of_records_of_one_run_the_last_to_finish_counts_then_the_last_folder():
    records = [RunRecord(Path(name), info_of(finished="2026")) for name in "bca"]
    assert folders(newest(records)) == [Path("c")]
    unfinished = RunRecord(Path("z"), info_of())
    assert folders(newest([*records, unfinished])) == [Path("c")]


def test_the_newest_record_among_both_places_is_taken(home):
    record = write(finished="2026-01-01")
    for name, finished in (("old", "2025-01-01"), ("new", "2027-01-01")):
        shutil.copytree(record.folder, RESULTS / name)
        (RESULTS / name / "run.json").write_text(json.dumps({**record.info, "finished": finished}))
    assert folders(find_runs("org/good")) == [RESULTS / "new"]


class TestOneEvaluationSet:
    """`choose_runs`: one run of each model, all on the same data."""

    def test_the_shared_set_is_taken_even_if_each_model_has_more(self, home):
        write(content_id="7c" * 32)
        write("org/poor", content_id=OTHER)
        both = [write(), write("org/poor")]
        assert folders(choose_runs(["org/good", "org/poor"])) == folders(both)
        assert folders(choose_runs(["org/poor", "org/good"])) == folders(both)[::-1]

    def test_models_without_a_common_set_are_refused_with_theirs(self, home):
        write()
        write("org/poor", content_id=OTHER, task_name="OtherTask")
        write("org/poor", content_id="7c" * 32)
        with pytest.raises(ResultsError, match="not run on the same evaluation set") as refused:
            choose_runs(["org/good", "org/poor"])
        said = str(refused.value)
        assert "org/good: 5a5a5a5a5a5a (VehicleImageSearch); org/poor: 6b6b6b6b6b6b (OtherTask), 7c7c7c" in said
        assert "Run both models on the same data." in said

    def test_several_common_sets_need_a_choice(self, home):
        for model in ("org/good", "org/poor"):
            for content_id in (DATA, OTHER):
                write(model, content_id=content_id)
        write("org/good", content_id="7c" * 32)
        with pytest.raises(ResultsError, match="runs on several evaluation sets") as refused:
            choose_runs(["org/good", "org/poor"])
        said = str(refused.value)
        assert "5a5a5a5a5a5a (VehicleImageSearch), 6b6b6b6b6b6b (VehicleImageSearch)." in said
        assert "7c7c" not in said
        assert "--content-id ID" in said

    def test_several_revisions_need_a_choice(self, home):
        write()
        again = write(revision="1" * 40)
        with pytest.raises(ResultsError, match="org/good has runs of several revisions") as refused:
            choose_runs(["org/good"])
        assert f"{'0' * 40}, {'1' * 40}" in str(refused.value)
        assert "Choose one: org/good@REVISION" in str(refused.value)
        with pytest.raises(ResultsError, match="Choose one: org/good@REVISION"):
            choose_runs(["org/good@"])
        assert folders(choose_runs(["org/good@1"])) == [again.folder]

    def test_a_revision_on_another_set_is_no_rival(self, home):
        write(revision="1" * 40, content_id=OTHER)
        both = [write(), write("org/poor")]
        assert folders(choose_runs(["org/good", "org/poor"])) == folders(both)
