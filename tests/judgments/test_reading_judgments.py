"""What a folder of judgments holds: the last word of each judge on each pair, and what could not be used."""

import pytest
from judged_runs import predictions_of
from small_judgments import CONTENT_ID, judgment, line, sample, unit

from mteb_vehicle_search.judgments import JudgeFile, Known, read_judgments, write_sample
from mteb_vehicle_search.judgments.predictions import write_predictions


def put(folder, name, *judgments):
    (folder / f"{name}.jsonl").write_bytes(b"".join(one.as_line() for one in judgments))


def said(folder):
    return {(one.judge, *one.pair): one.grade for one in read_judgments(folder).lines}


def test_a_folder_that_is_not_there_holds_nothing(tmp_path):
    found = read_judgments(tmp_path / "none")
    assert (found.samples, found.lines, found.problems) == ({}, (), ())


def test_a_damaged_line_is_named_with_its_number_and_the_rest_is_used(tmp_path):
    path = tmp_path / "ada.jsonl"
    path.write_bytes(line(query="q1") + b"{oh\n\n" + line(query="q2", grade=9) + line(query="q3"))
    found = read_judgments(tmp_path)
    assert [one.query for one in found.lines] == ["q1", "q3"]
    assert [(one.path, one.line) for one in found.problems] == [(path, 2), (path, 4)]
    assert str(found.problems[1]) == f"{path}:4: A judgment cannot have the grade 9: there are 0, 1, 2, 3."


def test_lines_from_another_system_are_read(tmp_path):
    (tmp_path / "ada.jsonl").write_bytes(line().replace(b"\n", b"\r\n"))
    assert len(read_judgments(tmp_path).lines) == 1


def test_judgments_of_another_evaluation_set_are_named_and_not_used(tmp_path):
    put(tmp_path, "ada", judgment("q1"), judgment("q2", content_id="9" * 64))
    found = read_judgments(tmp_path, CONTENT_ID)
    assert [one.query for one in found.lines] == ["q1"]
    assert [(one.line, one.reason) for one in found.problems] == [(2, "it is of another evaluation set, 999999999999")]
    assert read_judgments(tmp_path).problems == ()


def test_judgments_of_unknown_ids_are_named_and_not_used(tmp_path):
    put(tmp_path, "ada", judgment("q1", "a"), judgment("q9", "a"), judgment("q1", "z"))
    found = read_judgments(tmp_path, CONTENT_ID, Known({"q1"}, {"a"}))
    assert [one.pair for one in found.lines] == [("q1", "a")]
    assert [(one.line, one.reason) for one in found.problems] == [
        (2, "there is no caption 'q9' in the evaluation set"),
        (3, "there is no image 'z' in the evaluation set"),
    ]


def test_the_last_line_of_a_pair_counts_whatever_the_clock_said(tmp_path):
    late, early = "2026-11-01T12:00:00+00:00", "2026-11-01T08:00:00+00:00"
    put(tmp_path, "ada", judgment(grade=1, at=late), judgment(grade=3, at=early))
    assert list(said(tmp_path).values()) == [3]


def test_what_was_taken_back_does_not_count(tmp_path):
    put(tmp_path, "ada", judgment(grade=3), judgment(grade=None), judgment("q2", grade=2))
    assert said(tmp_path) == {("ada", "q2", "imagenet/00"): 2}


@pytest.mark.parametrize("names", [("a", "b"), ("b", "a")], ids=["first", "second"])
def test_between_two_files_of_a_judge_the_later_word_counts(tmp_path, names):
    """As text, the earlier one looks later."""
    put(tmp_path, names[0], judgment(grade=1, at="2026-11-01T10:30:00+02:00"))
    put(tmp_path, names[1], judgment(grade=3, at="2026-11-01T09:00:00+00:00"))
    assert list(said(tmp_path).values()) == [3]


def test_between_two_files_only_the_last_line_of_each_is_compared(tmp_path):
    """The clock of the second ran ahead before its judge thought again."""
    put(tmp_path, "a", judgment(grade=1, at="2026-11-01T10:00:00+00:00"))
    put(tmp_path, "b", judgment(grade=2, at="2026-11-01T23:00:00+00:00"), judgment(grade=3, at="2026-11-01T09:00:00Z"))
    assert list(said(tmp_path).values()) == [1]


def test_several_judges_of_a_pair_have_a_word_each(tmp_path):
    put(tmp_path, "ada", judgment(grade=1))
    put(tmp_path, "bob", judgment(grade=3, judge="bob"))
    assert read_judgments(tmp_path).grades == {("q00", "imagenet/00"): {"ada": 1, "bob": 3}}


def test_a_model_decides_nothing(tmp_path):
    put(tmp_path, "clip", judgment(judge="clip", kind="model"))
    assert read_judgments(tmp_path).lines == ()


def test_files_of_other_kinds_and_hidden_ones_are_passed_over(tmp_path):
    JudgeFile(tmp_path, "ada").append(judgment())
    (tmp_path / "._ada.jsonl").write_bytes(b"\x00\x05\x16\x07")
    (tmp_path / "notes.txt").write_text("ada is away")
    (tmp_path / "predicted").mkdir()
    (tmp_path / "predicted" / "x.jsonl").write_text("{")
    found = read_judgments(tmp_path)
    assert len(found.lines) == 1
    assert found.problems == ()


def test_a_folder_in_place_of_a_file_is_named(tmp_path):
    (tmp_path / "ada.jsonl").mkdir()
    (problem,) = read_judgments(tmp_path).problems
    assert (problem.path, problem.line) == (tmp_path / "ada.jsonl", 0)
    assert problem.reason.startswith("it cannot be read: ")


def test_a_unit_is_judged_when_one_judge_graded_all_its_images(tmp_path):
    drawn = sample(unit("q0", "a"), unit("q1", "b", "c"), unit("q2", "d", "e"))
    put(tmp_path, "ada", judgment("q0", "a", 3), judgment("q1", "b", 0), judgment("q1", "c"), judgment("q2", "d"))
    put(tmp_path, "bob", *(judgment(*pair, judge="bob") for pair in (("q2", "e", 1), ("q0", "a", 2), ("q1", "b", 1))))
    found = read_judgments(tmp_path).judged(drawn)
    assert [(one.unit.query, one.grades) for one in found] == [
        ("q0", {"ada": {"a": 3}, "bob": {"a": 2}}),
        ("q1", {"ada": {"b": 0, "c": 1}}),
    ]


def test_samples_are_read_and_what_is_none_is_named(tmp_path):
    kept = write_sample(tmp_path, sample())
    other = write_sample(tmp_path, sample(content_id="9" * 64))
    damaged = tmp_path / "sample-damaged.json"
    damaged.write_text("{")
    found = read_judgments(tmp_path, CONTENT_ID)
    assert [*found.samples] == [kept.stem.removeprefix("sample-")]
    reasons = {one.path: one.reason for one in found.problems}
    assert reasons[other] == "it is of another evaluation set, 999999999999"
    assert reasons[damaged].startswith("is not a sample: ")


def test_a_sample_of_unknown_images_is_not_used(tmp_path):
    write_sample(tmp_path, sample(unit("q0", "a"), unit("q1", "a", "z")))
    found = read_judgments(tmp_path, CONTENT_ID, Known({"q0", "q1"}, {"a"}))
    assert found.samples == {}
    assert [one.reason for one in found.problems] == ["there is no image 'z' in the evaluation set"]


def test_what_was_judged_out_of_order_waits_for_its_turn(tmp_path):
    """A judged caption of another sample is not drawn at random from this one: it was complete by its images."""
    units = (unit("q0", "a"), unit("q1", "b"), unit("q2", "c"), unit("q3", "d", stratum="4-10, alone"))
    drawn = sample(*units, strata={"2-3, alone": 3, "4-10, alone": 1})
    put(tmp_path, "ada", judgment("q0", "a"), judgment("q2", "c"), judgment("q3", "d"))
    assert [one.unit.query for one in read_judgments(tmp_path).judged(drawn)] == ["q0", "q3"]
    put(tmp_path, "bob", judgment("q1", "b", judge="bob"))
    assert [one.unit.query for one in read_judgments(tmp_path).judged(drawn)] == ["q0", "q1", "q2", "q3"]


def test_predictions_of_a_sample_are_read(tmp_path):
    write_sample(tmp_path, sample())
    given = [predictions_of(sample(), lambda query, image: 0.25, model) for model in ("org/a", "org/b")]
    for one in given:
        write_predictions(tmp_path, one)
    found = read_judgments(tmp_path, CONTENT_ID)
    assert list(found.predictions) == given
    assert found.problems == ()
    # A sample that does not tell which images were searched is of any.
    silent = sample(images_id="")
    write_sample(tmp_path, silent)
    write_predictions(tmp_path, predictions_of(silent, lambda query, image: 0.5)._replace(images_id="7" * 64))
    assert len(read_judgments(tmp_path).predictions) == 3


MISFITS = {
    "another evaluation set": ({"content_id": "9" * 64}, "it is of another evaluation set, 999999999999"),
    "another sample": ({"sample": "0" * 12}, "it is of the sample 000000000000, which is not here"),
    "other images": (
        {"images_id": "7" * 64},
        "the model looked at the images with images id 777777777777, people judged those with 666666666666",
    ),
    "images that are lacking": (
        {"probabilities": {("q00", "imagenet/00"): 0.5, ("q01", "imagenet/09"): 0.5}},
        f"it lacks 2 of the 3 images in question of the sample {sample().id}",
    ),
    "no probability": ({"probabilities": {("q00", "imagenet/00"): 1.5}}, "holds what is no probability."),
    "a damaged file": (None, "holds no predictions: ArrowInvalid "),
}


@pytest.mark.parametrize("case", MISFITS)
def test_predictions_that_do_not_fit_are_named_and_not_used(tmp_path, case):
    changed, why = MISFITS[case]
    write_sample(tmp_path, sample())
    good = predictions_of(sample(), lambda query, image: 0.25)
    write_predictions(tmp_path, good)
    path = write_predictions(tmp_path, good._replace(name="org/other", **(changed or {})))
    if changed is None:
        path.write_bytes(path.read_bytes()[:200])
    found = read_judgments(tmp_path, CONTENT_ID)
    assert list(found.predictions) == [good]
    (problem,) = found.problems
    assert (problem.path, problem.line) == (path, 0)
    assert problem.reason.startswith(why)
