"""Which record belongs to which result, and which runs are one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hand_made_runs import hand_made, info_of, result_of, table_of

from mteb_vehicle_search.analysis.columns import Entry
from mteb_vehicle_search.analysis.pairing import TWO_RUNS, pair_with_records
from mteb_vehicle_search.analysis.runs import Found, Result
from mteb_vehicle_search.run_record import RunRecord, write_run_record

# One relevant image at rank 1 and one at rank 3, and two at rank 1.
MIDDLE, BEST = [1, 3], [1, 1]
TOLD = {"images_id": "7" * 64, "options": {}, "precision": "fp32", "preprocess": "exact"}


@pytest.fixture(autouse=True)
def _home(home):
    """Records are written."""


def record(ranks: list[int] = MIDDLE, **info: Any) -> RunRecord:
    return write_run_record(table_of(hand_made(ranks)), info_of(**info))


def half(path: str = "a.json", **changed: Any) -> Result:
    """Return a result of an earlier version whose score is that of MIDDLE."""
    return result_of(path, {"ndcg_at_10": 0.75}, **changed)


def full(path: str = "a.json", **changed: Any) -> Result:
    """Return a result that tells all of its key."""
    return half(path, **{**TOLD, "options": (), **changed})


def pairs(results: list[Result], records: list[RunRecord], all_records: bool = True) -> list[Entry]:
    return pair_with_records(Found(results=results), Found(records=records), all_records)[0]


def seen(entries: list[Entry]) -> list[tuple[Path | None, Path | None]]:
    return [(one.result and one.result.path, one.ranks and one.ranks.record.folder) for one in entries]


@pytest.mark.parametrize(
    ("key", "other"),
    [
        ("content_id", "6" * 64),
        ("images_id", "8" * 64),
        ("model_name", "some/other"),
        ("model_revision", "1" * 40),
        ("options", {"embed_dim": "64"}),
        ("precision", "bf16"),
        ("preprocess", "fast"),
    ],
)
def test_whatever_decides_the_numbers_tells_runs_apart(key, other):
    own, another = record(**TOLD), record(**{**TOLD, key: other})
    found = pairs([full()], [another, own])
    assert sorted(seen(found), key=str) == sorted([(Path("a.json"), own.folder), (None, another.folder)], key=str)
    assert len({one.key for one in found}) == 2
    # Although the score is the same.
    assert seen(pairs([full()], [another], all_records=False)) == [(Path("a.json"), None)]


@pytest.mark.parametrize("key", ["precision", "preprocess", "images_id"])
def test_what_an_earlier_result_does_not_tell_is_taken_from_its_record(key):
    changed = {"precision": "bf16", "preprocess": "fast", "images_id": "8" * 64}[key]
    own, other = record(**{**TOLD, key: changed}), record(BEST, **TOLD)
    for records in ([own, other], [other, own]):
        found = pairs([half()], records)
        assert {(one.result is not None, one.ranks.record.folder) for one in found} == {
            (True, own.folder),
            (False, other.folder),
        }
        (paired,) = [one for one in found if one.result]
        assert getattr(paired.key, key) == changed


def test_what_an_earlier_record_does_not_tell_is_taken_from_its_result():
    """The plain run's record was replaced by that of an experiment, which did not write its options down."""
    of_experiment = record(BEST, precision="fp32")
    plain = half("plain.json")
    experiment = result_of("experiment.json", {"ndcg_at_10": 1.0}, options=(("embed_dim", "64"),))
    found = pairs([plain, experiment], [of_experiment])
    assert seen(found) == [(Path("plain.json"), None), (Path("experiment.json"), of_experiment.folder)]
    assert [one.key.name for one in found] == ["some/model", "some/model[embed_dim=64]"]


def test_the_record_of_the_very_key_goes_first():
    for precision in ("fp32", "bf16"):
        own, other = record(**{**TOLD, "precision": "unknown"}), record(**{**TOLD, "precision": precision})
        (paired,) = [one for one in pairs([half(precision="unknown", images_id="7" * 64)], [other, own]) if one.result]
        assert paired.ranks.record.folder == own.folder


def test_an_earlier_run_that_was_made_again_is_one_run():
    old, new = record(precision="fp32", encoder={"preprocess": "exact"}, finished="2025"), record(**TOLD)
    new.info["finished"] = "2026"
    for results in ([], [half()], [full()], [half("old.json", date="2020"), full("new.json")]):
        (one,) = pairs(results, [old, new])
        assert one.ranks.record is new
        assert one.key.images_id == "7" * 64
        assert one.result is (results[-1] if results else None)


def test_images_that_are_not_told_are_by_themselves_where_there_are_several():
    silent = record(precision="fp32", encoder={"preprocess": "exact"})
    others = [record(**{**TOLD, "images_id": images * 64}) for images in "78"]
    found = pairs([], [silent, *others])
    assert [one.key.images_id[:1] for one in found] == ["", "7", "8"]


def test_known_records_make_entries_only_if_all_do():
    known, stranger = record(), record(model_name="b/other")
    assert seen(pairs([half()], [known, stranger], all_records=False)) == [(Path("a.json"), known.folder)]
    assert seen(pairs([half()], [known, stranger])) == [(None, stranger.folder), (Path("a.json"), known.folder)]


def test_entries_are_sorted_by_key():
    keys = [("2", "a", "1"), ("1", "b", "1"), ("1", "a", "2"), ("1", "a", "1")]
    results = [half(content_id=c, model=m, revision=r) for c, m, r in keys]
    assert [one.result for one in pairs(results, [])] == results[::-1]


def test_one_key_under_two_names_of_a_task_is_one_run():
    old, new = half("old", task="Old", date="2025"), half("new", task="New", date="2026")
    (one,) = pairs([old, new], [])
    assert one.result is new
    early, late = record(task_name="Old", finished="2025"), record(task_name="New", finished="2026")
    assert early.folder == late.folder
    (one,) = pairs([], [late])
    assert one.task == "New"


def test_the_newest_result_of_a_run_counts_and_the_others_are_named():
    old, new, undated = half("b", date="2025"), half("a", date="2026"), half("z", date=None)
    for order in ([old, new, undated], [undated, new, old]):
        found = Found(results=list(order))
        assert [one.result for one in pair_with_records(found, Found(), all_records=False)[0]] == [new]
        assert [(one.path.name, one.reason) for one in found.skipped] == [
            ("z", "b is a newer result of the same run"),
            ("b", "a is a newer result of the same run"),
        ]
    same = Found(results=[half("b"), half("a")])
    assert pair_with_records(same, Found(), all_records=False)[0][0].result.path == Path("b")


def copies(*names: str, **finished: str) -> list[RunRecord]:
    """Return records of one run in several folders, as if moved there."""
    written = record()
    return [_copy(written, name, finished.get(name)) for name in names]


def _copy(written: RunRecord, name: str, finished: str | None) -> RunRecord:
    folder = written.folder.with_name(name)
    folder.mkdir()
    (folder / "queries.parquet").write_bytes((written.folder / "queries.parquet").read_bytes())
    return RunRecord(folder, {**written.info, **({"finished": finished} if finished else {})})


@pytest.mark.parametrize(("all_records", "first"), [(False, "near_new"), (True, "known_new")])
def test_records_near_the_results_go_first_and_newer_before_older(all_records, first):
    near_old, near_new, known = copies("near_old", "near_new", "known_new", near_old="1", near_new="2", known_new="3")
    found, elsewhere = Found(records=[near_old, near_new]), Found(records=[known])
    ((one,), skipped) = pair_with_records(found, elsewhere, all_records)
    assert (one.ranks.record.folder.name, skipped) == (first, [])
    same = Found(records=copies("b", "c", "a"))
    assert pair_with_records(same, Found(), all_records)[0][0].ranks.record.folder.name == "c"


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize(("off", "agrees"), [(1.9e-5, True), (2.1e-5, False)])
def test_scores_agree_up_to_the_rounding_of_mteb(sign, off, agrees):
    one = record()
    stored = result_of(scores={"ndcg_at_10": 0.75 + sign * off, "map_at_10": 0.1})
    ((entry,), skipped) = pair_with_records(Found(results=[stored]), Found(records=[one]), all_records=False)
    assert (entry.ranks is not None) is agrees
    if not agrees:
        assert [entry.path for entry in skipped] == [one.folder]
        assert f"its ndcg_at_10 is 0.75000, but a.json says {0.75 + sign * off:.5f}" in skipped[0].reason
        assert TWO_RUNS in skipped[0].reason


def test_a_damaged_record_is_named_and_the_next_one_counts():
    broken, one = copies("z", "y", z="2", y="1")
    (broken.folder / "queries.parquet").write_bytes(b"")
    for results in ([], [half()]):
        ((entry,), skipped) = pair_with_records(Found(results=results), Found(records=[broken, one]), True)
        assert entry.ranks.record is one
        assert [entry.path for entry in skipped] == [broken.folder]


def test_a_superseded_record_is_not_mentioned_beside_one_that_fits():
    superseded, one = _copy(record(BEST), "superseded", "2027"), _copy(record(), "fits", "2026")
    given = Found(results=[full(precision="unknown", preprocess="", images_id="")])
    (entry,), skipped = pair_with_records(given, Found(records=[superseded, one]), all_records=True)
    assert (entry.ranks.record.folder, skipped) == (one.folder, [])
    (entry,), skipped = pair_with_records(given, Found(records=[superseded]), all_records=True)
    assert entry.ranks is None
    assert [entry.path for entry in skipped] == [superseded.folder]
    assert pair_with_records(given, Found(), all_records=True)[1] == []
