"""Markers, staleness and the lock."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys

import pytest

from data_prep.markers import STAGES, Marker, Stages, fingerprint
from mteb_vehicle_search.errors import BuildError
from mteb_vehicle_search.eval_set.schema import Rejected
from mteb_vehicle_search.files import locked, write_whole

HOLD = """
import sys, time
from pathlib import Path
from mteb_vehicle_search.files import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def finished(tmp_path):
    messages = []
    stages = Stages(tmp_path, messages.append)
    write_whole(tmp_path / "out.txt", b"result")
    refused = [Rejected("b", "s", "why"), Rejected("a", "s", "why")]
    stages.finish("select", {"rule": {"threshold": 0.6}, "x": (1, 2)}, [tmp_path / "out.txt"], {"n": 2}, refused)
    return stages, messages


def test_finished_stage_is_recognised(finished):
    stages, messages = finished
    marker = stages.done("select", {"rule": {"threshold": 0.6}, "x": (1, 2)})
    assert marker.counts == {"n": 2}
    assert [item.id for item in marker.rejected] == ["a", "b"]
    assert messages == []
    assert stages.finished() == {"select": 1}


def test_changed_configuration_says_what_changed(finished):
    stages, messages = finished
    assert stages.done("select", {"rule": {"threshold": 0.5}, "x": [1, 2]}) is None
    assert messages == ["Stage 'select' is stale and is done again: rule.threshold was 0.6, is 0.5."]


@pytest.mark.parametrize(("content", "reason"), [(b"resulT", "was changed"), (b"res", "is missing or truncated")])
def test_damaged_output_is_noticed(finished, tmp_path, content, reason):
    stages, messages = finished
    (tmp_path / "out.txt").write_bytes(content)
    assert stages.done("select", {"rule": {"threshold": 0.6}, "x": [1, 2]}) is None
    assert messages == [f"Stage 'select' is stale and is done again: out.txt {reason}."]


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, "b was null, is 2"),
        ({"a": 1, "b": 2}, {"a": 1}, "b was 2, is null"),
        ({"b": 1, "a": 1, "c": 3}, {"a": 2, "b": 2, "c": 3}, "a was 1, is 2; b was 1, is 2"),
        ({"x": {"y": {"z": 1}, "v": 0}}, {"x": {"y": {"z": 2}, "v": 0}}, "x.y.z was 1, is 2"),
        ({"x": {"y": 1}}, {"x": 3}, 'x was {"y": 1}, is 3'),
        ({"x": 3}, {"x": {"y": 1}}, 'x was 3, is {"y": 1}'),
        ({"x": "a" * 58}, {"x": ""}, f'x was "{"a" * 58}", is ""'),
        ({"x": "a" * 59}, {"x": ""}, f'x was "{"a" * 56}..., is ""'),
    ],
)
def test_differences_are_said_in_words(tmp_path, before, after, words):
    messages = []
    stages = Stages(tmp_path, messages.append)
    stages.finish("select", before)
    assert stages.done("select", after) is None
    assert messages == [f"Stage 'select' is stale and is done again: {words}."]


def test_a_reason_is_said_once_for_all_parts_of_a_stage(tmp_path):
    messages = []
    stages = Stages(tmp_path, messages.append)
    for stage in ("distractors/part-00000", "distractors/part-00001", "distractors/part-00002", "captioned"):
        stages.finish(stage, {"x": 1})
    for stage, x in (
        ("distractors/part-00000", 2),
        ("distractors/part-00001", 2),
        ("distractors/part-00002", 3),
        ("captioned", 2),
    ):
        assert stages.done(stage, {"x": x}) is None
    assert [message.partition("'")[2].partition("'")[0] for message in messages] == [
        "distractors",
        "captioned",
    ]
    assert messages[0] == "Stage 'distractors' is stale and is done again: x was 1, is 2."


def test_other_parts_than_before_are_one_line(tmp_path):
    messages = []
    stages = Stages(tmp_path, messages.append)
    for name in "abc":
        stages.finish(f"distractors/{name}", {})
    stages.finish("captioned", {})
    stages.tell_changes("distractors", [f"distractors/{name}" for name in "abcd"])
    assert messages == [], "an interrupted build goes on"
    stages.tell_changes("distractors", [f"distractors/{name}" for name in "bcd"])
    assert messages == [
        "Stage 'distractors' has other parts than before: 2 of 3 are done, and 1 that were done are not used any more."
    ]


def test_a_stage_that_was_never_done_says_nothing(tmp_path):
    messages = []
    assert Stages(tmp_path, messages.append).done("select", {}) is None
    assert messages == []
    assert Stages(tmp_path).done("select", {}) is None


def test_the_marker_lists_what_was_made_from_what(finished, tmp_path):
    content = json.loads((tmp_path / "stages" / "select.json").read_text(encoding="utf-8"))
    configuration = {"rule": {"threshold": 0.6}, "x": [1, 2]}
    canonical = b'{"rule": {"threshold": 0.6}, "x": [1, 2]}'
    assert content == {
        "stage": "select",
        "fingerprint": hashlib.sha256(canonical).hexdigest(),
        "configuration": configuration,
        "outputs": {"out.txt": {"bytes": 6, "sha256": hashlib.sha256(b"result").hexdigest()}},
        "counts": {"n": 2},
        "rejected": [["a", "s", "why"], ["b", "s", "why"]],
    }


def test_the_marker_on_disk_says_the_same_as_the_returned_one(tmp_path):
    stages = Stages(tmp_path)
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "ü").write_bytes(b"12")
    made = stages.finish(
        "distractors/part-00001", {"x": 1}, [tmp_path / "parts" / "ü"], {"n": 1}, [Rejected("ü", "s", "w")]
    )
    assert made.stage == "distractors/part-00001"
    assert made.configuration == {"x": 1}
    assert made.outputs == {"parts/ü": {"bytes": 2, "sha256": hashlib.sha256(b"12").hexdigest()}}
    assert Stages(tmp_path).done("distractors/part-00001", {"x": 1}) == made
    text = stages.path("distractors/part-00001").read_bytes().decode("utf-8")
    # For people, and the same bytes for the same facts.
    assert text == json.dumps(json.loads(text), indent=1, sort_keys=True, ensure_ascii=False)
    bare = stages.finish("export", {})
    assert (bare.outputs, bare.counts, bare.rejected) == ({}, {}, [])
    assert Stages(tmp_path).done("export", {}) == bare == Marker("export", {}, {})


def test_the_marker_is_written_whole(tmp_path, monkeypatch):
    """It appears by a rename, after its bytes are on the disk; what interrupts it leaves the earlier one."""
    calls = []
    stages = Stages(tmp_path)
    stages.finish("select", {"x": 1})
    fsync, replace = os.fsync, type(tmp_path).replace
    monkeypatch.setattr(os, "fsync", lambda file: calls.append("fsync") or fsync(file))
    monkeypatch.setattr(
        type(tmp_path), "replace", lambda self, target: calls.append(target.name) or replace(self, target)
    )
    stages.finish("select", {"x": 2})
    assert calls == ["fsync", "select.json"]

    def full(file: int) -> None:
        raise OSError("full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="full"):
        stages.finish("select", {"x": 3})
    assert Stages(tmp_path).done("select", {"x": 2}) is not None


@pytest.mark.parametrize("spoil", ["outputs", "counts", "configuration", "rejected", "stage"])
def test_a_marker_that_lacks_something_is_done_again(finished, tmp_path, spoil):
    stages, messages = finished
    content = json.loads(stages.path("select").read_text(encoding="utf-8"))
    del content[spoil]
    stages.path("select").write_text(json.dumps(content), encoding="utf-8")
    assert stages.done("select", {"rule": {"threshold": 0.6}, "x": [1, 2]}) is None
    assert messages == ["Stage 'select' is stale and is done again: its marker cannot be read."]


def test_every_output_is_checked(tmp_path):
    stages = Stages(tmp_path)
    paths = [tmp_path / name for name in "abc"]
    for path in paths:
        path.write_bytes(b"12")
    for spoilt in paths:
        stages.finish("select", {}, paths)
        assert stages.done("select", {}) is not None
        spoilt.unlink()
        assert stages.done("select", {}) is None
        spoilt.write_bytes(b"12")
        assert stages.done("select", {}) is not None
        spoilt.write_bytes(b"13")
        assert stages.done("select", {}) is None


def test_fingerprints_differ_with_the_value_and_not_with_the_order_of_keys():
    assert fingerprint({"a": 1, "b": [None, "ü"]}) == fingerprint({"b": [None, "ü"], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})
    # The bytes are pure ASCII, whatever the machine's encoding.
    assert fingerprint("ü") == hashlib.sha256(b'"\\u00fc"').hexdigest()


def test_half_a_marker_is_no_marker(finished, tmp_path):
    stages, messages = finished
    path = stages.path("select")
    path.write_bytes(path.read_bytes()[:50])
    assert stages.done("select", {"rule": {"threshold": 0.6}, "x": [1, 2]}) is None
    assert "cannot be read" in messages[0]


def test_discarding_a_stage_discards_its_parts_and_nothing_else(tmp_path):
    stages = Stages(tmp_path)
    for stage in ("classify", "classify/chunk-00000", "distractors/part-00000", "distractors/part-00001", "export"):
        stages.finish(stage, {})
    assert stages.finished() == {"classify": 2, "distractors": 2, "export": 1}
    stages.discard("distractors")
    assert stages.finished() == {"classify": 2, "export": 1}
    stages.discard("classify")
    stages.discard("select")  # It was never done.
    assert stages.finished() == {"export": 1}
    assert Stages(tmp_path / "new").finished() == {}


def test_the_stages_are_named_in_the_order_of_their_work():
    assert STAGES == ("classify", "embed", "select", "mine", "captioned", "distractors", "duplicates", "export")


def test_second_build_is_told_and_the_lock_dies_with_its_process(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout.readline() == "held\n"
            message = rf"Another build is working on .*process {holder.pid}"
            with pytest.raises(BuildError, match=message), locked(tmp_path):
                pass
        finally:
            holder.kill()
    with locked(tmp_path):
        pass
