"""Markers, staleness and the lock."""

from __future__ import annotations

import subprocess
import sys

import pytest

from data_prep.folders import locked, write_whole
from data_prep.stages import Stages
from mteb_vehicle_search.errors import BuildError
from mteb_vehicle_search.eval_set import Rejected

HOLD = """
import sys, time
from pathlib import Path
from data_prep.folders import locked
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


@pytest.mark.parametrize(("content", "reason"), [(b"resulT", "was changed"), (b"res", "missing or truncated")])
def test_damaged_output_is_noticed(finished, tmp_path, content, reason):
    stages, messages = finished
    (tmp_path / "out.txt").write_bytes(content)
    assert stages.done("select", {"rule": {"threshold": 0.6}, "x": [1, 2]}) is None
    assert reason in messages[0]


def test_half_a_marker_is_no_marker(finished, tmp_path):
    stages, messages = finished
    path = stages.path("select")
    path.write_bytes(path.read_bytes()[:50])
    assert stages.done("select", {"rule": {"threshold": 0.6}, "x": [1, 2]}) is None
    assert "cannot be read" in messages[0]


def test_discarding_a_stage_discards_its_parts(tmp_path):
    stages = Stages(tmp_path)
    stages.finish("distractors/part-00000", {})
    stages.finish("distractors/part-00001", {})
    stages.discard("distractors")
    assert stages.finished() == {}


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
