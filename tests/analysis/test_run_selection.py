"""Which run records a command means, and what it says when that is not clear."""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
from pathlib import Path

import pytest
from hand_made_runs import hand_made, info_of, table_of

from mteb_vehicle_search.analysis.names import GRAMMAR, Wanted, differences, parse, shown_names
from mteb_vehicle_search.analysis.runs import RESULTS
from mteb_vehicle_search.analysis.selection import (
    Selection,
    add_selection_arguments,
    choose_runs,
    known_runs,
    run_places,
)
from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.run_record import RunKey, RunRecord, write_run_record
from mteb_vehicle_search.settings import runs_folder

DATA, OTHER = "5a" * 32, "6b" * 32


def write(model: str = "org/good", *, content_id: str = DATA, revision: str | None = "0" * 40, **info) -> RunRecord:
    given = info_of(model_name=model, content_id=content_id, model_revision=revision, **info)
    return write_run_record(
        table_of(hand_made([1, 2])),
        {**given, "content_id": content_id, "model_name": model, "model_revision": revision},
    )


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
        ("org/good", "good"),
        ("org/good@", "good"),
        ("org/good@00", "good"),
        ("org/good@" + "0" * 40, "good"),
        ("org/good[]", "good"),
        ("org/good[precision=fp32]", "good"),
        ("org/poor", "poor"),
        ("org/none", "none"),
        ("org/none@no_revision_available", "none"),
    ],
)
def test_a_model_is_named_by_name_or_by_the_first_digits_of_its_revision(home, text, found):
    records = {
        "good": write(precision="fp32"),
        "poor": write("org/poor", revision="1" * 40),
        "none": write("org/none", revision=None),
    }
    assert folders(choose_runs([text])) == [records[found].folder]


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("org/god", "Did you mean org/good?"),
        ("GOOD", "Did you mean org/good?"),
        ("nothing/of/it", "Models with runs: org/good, org/poor."),
        ("org/good@1", f"Its runs:\n  'org/good@{'0' * 40}[precision=unknown]'"),
        ("org/good[embed_dim=64]", f"Its runs:\n  'org/good@{'0' * 40}[precision=unknown]'"),
    ],
)
def test_where_there_is_no_run_the_nearest_names_are_told(home, text, hint):
    write()
    write("org/poor")
    with pytest.raises(ResultsError) as refused:
        choose_runs([text])
    assert refused.value.message == f"There is no run of {text!r} under {runs_folder()}."
    assert refused.value.hint == hint


@pytest.mark.parametrize("text", ["org/good[", "org/good]", "org/good[a]", "org/good[=1]", "@0", "[]", "", "m[a=1]x"])
def test_what_is_no_name_is_told_the_grammar(home, text):
    write()
    with pytest.raises(ResultsError) as refused:
        choose_runs([text])
    assert (refused.value.message, refused.value.hint) == (f"{text!r} names no run.", GRAMMAR)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("m", Wanted("m")),
        ("m@r", Wanted("m", "r")),
        ("m@refs/pr/1", Wanted("m", "refs/pr/1")),
        ("m[]", Wanted("m", "", frozenset())),
        ("m[a=1]", Wanted("m", "", frozenset({("a", "1")}))),
        ("m@r[ a = 1 , b = x=y ]", Wanted("m", "r", frozenset({("a", "1"), ("b", "x=y")}))),
        ('m[a=["x", "y"],b=1,2]', Wanted("m", "", frozenset({("a", '["x", "y"]'), ("b", "1,2")}))),
        ("odd@name[x]", Wanted("odd@name[x]")),
        ("odd@name[x]@r[a=1]", Wanted("odd@name[x]", "r", frozenset({("a", "1")}))),
    ],
)
def test_the_grammar(text, wanted):
    assert parse(text, {"m", "odd", "odd@name[x]"}) == wanted


def key(revision: str = "0" * 40, precision: str = "fp32", preprocess: str = "exact", **options: str) -> RunKey:
    return RunKey(DATA, "", "org/m", revision, tuple(sorted(options.items())), precision, preprocess)


@pytest.mark.parametrize(
    ("keys", "names", "differ"),
    [
        ([key()], ["org/m"], []),
        ([key(), key(a="1"), key(a="2")], ["org/m", "org/m[a=1]", "org/m[a=2]"], ["a"]),
        ([key(), key(precision="bf16")], ["org/m[precision=fp32]", "org/m[precision=bf16]"], ["precision"]),
        ([key(), key(preprocess="fast")], ["org/m[preprocess=exact]", "org/m[preprocess=fast]"], ["preprocess"]),
        ([key(), key("1" * 40)], [f"org/m@{'0' * 12}", f"org/m@{'1' * 12}"], ["revision"]),
        ([key(), key("0" * 39 + "1")], [f"org/m@{'0' * 40}", f"org/m@{'0' * 39}1"], ["revision"]),
        ([key(), key("")], [f"org/m@{'0' * 12}", "org/m@no_revision_available"], ["revision"]),
        (
            [key(a="1"), key(a="1", precision="bf16"), key(precision="bf16")],
            ["org/m[a=1,precision=fp32]", "org/m[a=1,precision=bf16]", "org/m"],
            ["a", "precision"],
        ),
        ([key(), key()._replace(model="org/n")], ["org/m", "org/n"], ["model"]),
    ],
)
def test_a_name_shows_options_and_more_only_where_two_look_alike(keys, names, differ):
    assert shown_names(keys) == names
    assert differences(keys) == differ


def test_a_folder_names_its_run_wherever_it_lies(home, tmp_path):
    record = write()
    moved = tmp_path / "elsewhere" / "a-run"
    shutil.copytree(record.folder, moved)
    assert folders(choose_runs([str(moved)])) == [moved]
    (moved / "queries.parquet").unlink()
    with pytest.raises(ResultsError, match=r"no queries\.parquet"):
        choose_runs([str(moved)])


def test_runs_are_narrowed_by_content_id_and_by_task(home):
    here, there = write(), write(content_id=OTHER, task_name="OtherTask")
    for given, record in (
        ({"content_id": "5a5"}, here),
        ({"content_id": OTHER}, there),
        ({"task": "OtherTask"}, there),
        ({"task": "VehicleImageSearch"}, here),
    ):
        assert folders(choose_runs(["org/good"], **given)) == [record.folder]
    for given, words in (
        ({"content_id": "5a", "task": "OtherTask"}, "with --task OtherTask --content-id 5a under"),
        ({"content_id": "a"}, "of 'org/good' with --content-id a under"),
        ({"task": "Vehicle"}, "of 'org/good' with --task Vehicle under"),
    ):
        with pytest.raises(ResultsError, match=words):
            choose_runs(["org/good"], **given)


def test_choosing_narrows_in_the_same_way(home):
    here, there = write(), write(content_id=OTHER, task_name="OtherTask")
    assert folders(choose_runs(["org/good"], content_id="5a")) == [here.folder]
    assert folders(choose_runs(["org/good"], task="OtherTask")) == [there.folder]
    moved = home.parent / "moved"
    shutil.copytree(there.folder, moved / "one")
    assert folders(choose_runs(["org/good"], moved)) == [moved / "one"]


def test_without_runs_it_says_how_to_make_one(home):
    with pytest.raises(ResultsError, match=f"no run records under {runs_folder()}") as refused:
        choose_runs(["org/good"])
    assert "mteb run -t VehicleImageSearchMini -m vehicle-search/tiny-clip" in str(refused.value)


def test_runs_lie_in_the_runs_folder_and_among_the_results_of_the_working_directory(home):
    assert run_places(None) == []
    RESULTS.mkdir()
    assert run_places(None) == [RESULTS]
    write()
    assert run_places(None) == [runs_folder(), RESULTS]
    assert run_places(Path("named")) == [Path("named")]
    with pytest.raises(ResultsError, match=f"under {runs_folder()} and {RESULTS}"):
        choose_runs(["some/other"])


def test_a_damaged_record_is_named_and_the_others_are_found(home, capsys):
    good, poor = write(), write("org/poor")
    (poor.folder / "run.json").write_text("{")
    assert folders(known_runs()) == [good.folder]
    assert f"skipped {poor.folder / 'run.json'}: {poor.folder} is not a run record" in capsys.readouterr().err
    assert folders(known_runs(good.folder.parent)) == [good.folder]
    assert known_runs(home / "nowhere") == []


def newest(records: list[RunRecord]) -> list[RunRecord]:
    return Selection(records).newest(records)


@pytest.mark.parametrize(
    ("field", "other"),
    [
        ("content_id", OTHER),
        ("model_name", "another"),
        ("model_revision", "another"),
        ("options", {"embed_dim": "64"}),
        ("precision", "bf16"),
        ("preprocess", "fast"),
    ],
)
def test_records_of_one_run_are_one_and_others_are_not(field, other):
    def record(folder: str, finished: str, **changed) -> RunRecord:
        return RunRecord(Path(folder), info_of(finished=finished, **changed))

    old, new, another = record("b", "2025"), record("a", "2026"), record("c", "2024", **{field: other})
    for records in ([old, new, another], [another, new, old]):
        found = newest(records)
        assert set(folders(found)) == {Path("a"), Path("c")}
        assert found == sorted(found, key=lambda one: one.key)


def test_of_records_of_one_run_the_last_to_finish_counts_then_the_last_folder():
    records = [RunRecord(Path(name), info_of(finished="2026")) for name in "bca"]
    assert folders(newest(records)) == [Path("c")]
    unfinished = RunRecord(Path("z"), info_of(finished=None))
    assert folders(newest([*records, unfinished])) == [Path("c")]


def test_one_set_under_two_names_of_its_task_is_one(home):
    write(task_name="Old", finished="2025")
    write("org/poor", task_name="New", finished="2026")
    assert [one.info["task_name"] for one in choose_runs(["org/good", "org/poor"])] == ["Old", "New"]
    shutil.copytree(choose_runs(["org/good"])[0].folder, home / "runs" / DATA / "again")
    newer = home / "runs" / DATA / "again" / "run.json"
    newer.write_text(json.dumps({**json.loads(newer.read_text()), "task_name": "New", "finished": "2027"}))
    assert folders(choose_runs(["org/good"])) == [newer.parent]
    assert folders(choose_runs(["org/good"], task="Old")) != [newer.parent]


def test_the_newest_record_among_both_places_is_taken(home):
    record = write(finished="2026-01-01")
    for name, finished in (("old", "2025-01-01"), ("new", "2027-01-01")):
        shutil.copytree(record.folder, RESULTS / name)
        (RESULTS / name / "run.json").write_text(json.dumps({**record.info, "finished": finished}))
    assert folders(choose_runs(["org/good"])) == [RESULTS / "new"]


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
        for text in ("org/good", "org/good@"):
            with pytest.raises(ResultsError) as refused:
                choose_runs([text])
            assert refused.value.message == f"{text} names 2 runs, which differ in revision."
            assert refused.value.hint == "\n".join(
                ["Name one of them:", *(f"  'org/good@{digit * 40}[precision=unknown]'" for digit in "01")]
            )
        assert folders(choose_runs(["org/good@1"])) == [again.folder]

    def test_a_revision_on_another_set_is_no_rival(self, home):
        write(revision="1" * 40, content_id=OTHER)
        both = [write(), write("org/poor")]
        assert folders(choose_runs(["org/good", "org/poor"])) == folders(both)


class TestFourRunsOfOneModel:
    """A plain run, two experiments, and one in bf16."""

    @pytest.fixture
    def four(self, home) -> dict[str, RunRecord]:
        told = {"precision": "fp32", "preprocess": "exact", "images_id": "7" * 64}
        return {
            "plain": write(**told, options={}),
            "64": write(**told, options={"embed_dim": "64"}),
            "32": write(**told, options={"embed_dim": "32", "task": "a b"}),
            "bf16": write(**{**told, "precision": "bf16"}, options={}),
        }

    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("org/good[embed_dim=64]", "64"),
            ("org/good[embed_dim=32]", "32"),
            ("org/good[task=a b]", "32"),
            ("org/good@0[task=a b,precision=fp32]", "32"),
            ("org/good[precision=bf16]", "bf16"),
            ("org/good[precision=fp32,preprocess=exact]", "plain"),
        ],
    )
    def test_each_can_be_named(self, four, text, found):
        assert folders(choose_runs([text])) == [four[found].folder]

    def test_what_is_shown_and_what_is_told_can_be_typed(self, four):
        keys = {name: record.key for name, record in four.items()}
        for names in (shown_names(list(keys.values())), [key.full_name for key in keys.values()]):
            for name, record in zip(names, four.values()):
                # The plain run's name is all runs' name but for its precision.
                if name != "org/good[precision=fp32]":
                    assert folders(choose_runs([name])) == [record.folder]

    def test_an_unclear_name_is_told_what_differs_and_what_to_type(self, four):
        with pytest.raises(ResultsError) as refused:
            choose_runs(["org/good"])
        assert refused.value.message == "org/good names 4 runs, which differ in embed_dim and task and precision."
        first, *lines = refused.value.hint.splitlines()
        assert first == "Name one of them:"
        typed = [choose_runs(shlex.split(line))[0].folder for line in lines]
        assert sorted(typed) == sorted(record.folder for record in four.values())

    def test_no_options_are_none(self, four):
        with pytest.raises(ResultsError, match="names 2 runs, which differ in precision"):
            choose_runs(["org/good[]"])
        shutil.rmtree(four["bf16"].folder)
        assert folders(choose_runs(["org/good[]"])) == [four["plain"].folder]


class TestOtherPixels:
    """Runs of one content id that searched other images."""

    @pytest.fixture
    def two(self, home) -> list[RunRecord]:
        return [
            write(model, images_id=images * 64, sources_id="5" * 64)
            for model, images in (("org/good", "7"), ("org/poor", "8"))
        ]

    @pytest.mark.parametrize(
        ("sources", "what"),
        [
            ("5" * 64, "the same photographs encoded otherwise"),
            ("6" * 64, "other images"),
            (None, "other pixels (whether of the same photographs is not written down)"),
        ],
    )
    def test_they_are_not_compared(self, two, sources, what):
        write("org/poor", images_id="8" * 64, sources_id=sources)
        with pytest.raises(ResultsError) as refused:
            choose_runs(["org/good", "org/poor"])
        assert refused.value.message == (
            "The models were not run on the same evaluation set (org/good: 5a5a5a5a5a5a (VehicleImageSearch, "
            "images id 777777777777); org/poor: 5a5a5a5a5a5a (VehicleImageSearch, images id 888888888888); one "
            f"content id, but {what}); their scores do not compare."
        )

    def test_an_images_id_chooses(self, two):
        other = write(images_id="8" * 64, sources_id="5" * 64)
        with pytest.raises(ResultsError) as refused:
            choose_runs(["org/good"])
        assert refused.value.message == (
            "There are runs on several evaluation sets: 5a5a5a5a5a5a (VehicleImageSearch, images id 777777777777), "
            "5a5a5a5a5a5a (VehicleImageSearch, images id 888888888888); one content id, but the same photographs "
            "encoded otherwise."
        )
        assert folders(choose_runs(["org/good"], content_id="88")) == [other.folder]
        assert folders(choose_runs(["org/good"], content_id="77")) == [two[0].folder]
        assert folders(choose_runs(["org/good", "org/poor"])) == [other.folder, two[1].folder]

    def test_a_run_that_does_not_tell_joins_the_only_images(self, home):
        told, silent = write(images_id="7" * 64), write("org/poor")
        for models in (
            ["org/good", "org/poor"],
            [str(told.folder), str(silent.folder)],
            [str(told.folder), "org/poor"],
        ):
            assert folders(choose_runs(models)) == [told.folder, silent.folder]
        # Where there are two, nobody knows which.
        write("org/third", images_id="8" * 64)
        with pytest.raises(ResultsError, match="which images were searched is not written down"):
            choose_runs(["org/good", "org/poor"])
