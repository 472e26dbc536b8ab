"""Sets on the hub, copied by its own client, in processes that know only a stand-in: killed, at once, without it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hub_server import HubServer
from small_set import small_set

from mteb_vehicle_search.eval_set import EvalSet, copies
from mteb_vehicle_search.settings import copies_folder

COMMITS = {name: name * 40 for name in "ab"}
BRANCH = "hf://datasets/o/n/sets/small"
PINNED = f"hf://datasets/o/n@{COMMITS['a']}/sets/small"
CODE = """
import json, os, signal, sys, time
from pathlib import Path
from mteb_vehicle_search.errors import VehicleSearchError
from mteb_vehicle_search.eval_set import copies, copying
from mteb_vehicle_search.remote import patience
patience._wait = lambda seconds, what, stop: None
address, kill_at, start = {given!r}
placed = [0]
def count(event, details):
    if event != "os.rename" or ".fetched" not in str(details[0]):
        return
    placed[0] += 1
    if placed[0] == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(count)
if start:
    print("ready", flush=True)
    while not Path(start).exists():
        time.sleep(0.005)
try:
    print(copying.copy(address))
except VehicleSearchError as error:
    print(error)
"""


@pytest.fixture
def hub(tmp_path):
    running = HubServer()
    serve(running, tmp_path / "made", distractors=30)
    yield running
    running.close()


def serve(hub, folder, **changed):
    """Put a set on the hub, whose branch is at it then."""
    small_set(folder, **changed)
    hub.branches["o/n", "main"] = COMMITS["b" if ("o/n", "main") in hub.branches else "a"]
    files = [path for path in folder.rglob("*") if path.is_file()]
    hub.repos["o/n"] = {f"sets/small/{path.relative_to(folder).as_posix()}": path.read_bytes() for path in files}


def copy(hub, tmp_path, address=BRANCH, kill_at=0, login=""):
    """Copy in a process of its own; return what it says, and on standard error."""
    done = hub.run(CODE.format(given=(address, kill_at, "")), tmp_path / "hf", login)
    assert done.returncode == (-9 if kill_at else 0), done.stderr
    return done.stdout.strip(), done.stderr


def fetched(hub):
    """How often the bytes of each file were sent."""
    return {path.removeprefix("/cdn/o/n/sets/small/"): count for path, count in hub.downloads().items()}


def test_a_branch_is_a_commit_from_the_first_look_on(hub, tmp_path):
    folder, _ = copy(hub, tmp_path)
    asked = [path for _, path, _ in hub.log]
    assert asked[0] == "/api/datasets/o/n"
    assert all(COMMITS["a"] in path or path.startswith("/cdn/") for path in asked[1:])
    origin = copies.origin_of(Path(folder))
    assert origin == copies.noted(BRANCH)
    assert origin.address == PINNED
    hub.log.clear()
    assert copy(hub, tmp_path)[0] == folder
    assert [path for _, path, _ in hub.log] == ["/api/datasets/o/n"]


def test_a_branch_that_moved_is_another_copy_and_without_the_hub_the_last_is_taken(hub, tmp_path):
    folder, _ = copy(hub, tmp_path)
    first = EvalSet.open(folder).content_id
    serve(hub, tmp_path / "other", distractors=7)
    assert EvalSet.open(copy(hub, tmp_path)[0]).content_id != first
    hub.close()
    said, told = copy(hub, tmp_path)
    assert said == str(copies.place(BRANCH)) != folder
    assert f"{BRANCH} cannot be looked at (" in told
    assert EvalSet.open(folder).content_id == first


def test_a_full_commit_that_is_here_needs_no_network(hub, tmp_path):
    folder, _ = copy(hub, tmp_path, PINNED)
    hub.log.clear()
    assert copy(hub, tmp_path, PINNED) == (folder, "")
    assert hub.log == []


def test_a_process_that_is_killed_leaves_no_copy_and_the_next_goes_on(hub, tmp_path):
    copy(hub, tmp_path, kill_at=4)
    assert copies.all_copies() == []
    assert not copies.place(BRANCH).exists()
    before = fetched(hub)
    # The manifest is looked at first.
    assert len(before) == 4
    folder, _ = copy(hub, tmp_path)
    assert EvalSet.open(folder).require_content() is None
    again = {name for name, count in fetched(hub).items() if count > 1} - {"manifest.json"}
    # What had come, and was not in its place yet.
    assert again == {[*before][-1]}
    assert len(fetched(hub)) == 7


def test_two_processes_at_once_fetch_each_file_once(hub, tmp_path):
    hub.pause_s = 0.05
    words = [sys.executable, "-c", CODE.format(given=(BRANCH, 0, str(tmp_path / "start")))]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(words, env=hub.environment(tmp_path / "hf"), **pipes) for _ in range(2)]
    assert [one.stdout.readline() for one in both] == ["ready\n"] * 2
    (tmp_path / "start").touch()
    said = [one.communicate(timeout=60) for one in both]
    assert [one[0].strip() for one in said] == [str(copies.place(BRANCH))] * 2
    counts = fetched(hub)
    # Each looked at it, and one copied it.
    assert counts.pop("manifest.json") == 3
    assert set(counts.values()) == {1}
    assert len(counts) == 6
    assert sum("It is waited for." in told for _, told in said) == 1


def test_a_lost_connection_and_damaged_bytes_on_the_way_are_got_over(hub, tmp_path):
    hub.faults = ["", "", "drop", "503", "damage"]
    folder, _ = copy(hub, tmp_path)
    assert EvalSet.open(folder).require_content() is None
    assert hub.faults == []


def test_the_hub_s_refusals_say_what_mends_them_and_keep_the_token(hub, tmp_path):
    hub.gated.add("o/n")
    said, told = copy(hub, tmp_path)
    assert said == (
        f"access to {BRANCH} is refused (HTTP 401)\n"
        "Accept its terms on its page, if it has any, then run: hf auth login"
    )
    assert "HTTP 403" in copy(hub, tmp_path, login="hf_A-SECRET")[0]
    folder, more = copy(hub, tmp_path, login="good")
    written = "".join(path.read_text() for path in copies_folder().rglob("*.json"))
    assert "good" not in told + more + written + folder
    assert "A-SECRET" not in written


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("hf://datasets/o/absent", "access to hf://datasets/o/absent is refused (HTTP 401)"),
        ("hf://datasets/o/n@gone/sets/small", "There is no evaluation set at hf://datasets/o/n@gone/sets/small."),
        ("hf://datasets/o/n/sets", "There is no evaluation set at hf://datasets/o/n/sets."),
        ("hf://o/n", "hf://o/n is no address of a data set on the hub"),
    ],
)
def test_what_is_not_there_is_told(hub, tmp_path, address, said):
    assert copy(hub, tmp_path, address)[0].splitlines()[0] == said
    assert json.dumps(fetched(hub)) == "{}"


def test_a_branch_with_a_slash_is_found(hub, tmp_path):
    hub.branches["o/n", "refs/pr/3"] = COMMITS["a"]
    address = "hf://datasets/o/n@refs/pr/3/sets/small"
    folder, _ = copy(hub, tmp_path, address)
    assert copies.origin_of(Path(folder)).address == PINNED
