"""Archives on the hub are read where they lie, by the hub's own client, in a process that knows only a stand-in."""

from __future__ import annotations

import hashlib
import json

import pytest
from folder_hub import FolderHub
from hub_server import HubServer
from remote_places import FILES, zip_of

from data_prep import hub
from data_prep.hub import HubRepository
from data_prep.storage.zips import ZipTree
from mteb_vehicle_search.errors import SourceError

PIN = "a" * 40
ACCEPTED = "good"  # The only token that the server takes.
CODE = """
import hashlib, json
from types import SimpleNamespace
from data_prep.hub import HubRepository
from mteb_vehicle_search.remote import patience
from data_prep.storage.opening import open_tree
from data_prep.storage.zips import ZipTree
from mteb_vehicle_search.errors import SourceError
waits, told = [], []
patience.time = SimpleNamespace(sleep=waits.append)
def tried(action):
    try:
        told.append(action())
    except SourceError as error:
        told.append(str(error))
def tree():
    return HubRepository("o/n", "a" * 40, gated=True, kind={kind!r}).tree()
def members():
    read = ZipTree(tree(), "deep/x.zip").read(["b/0.jpg", "c.txt"])
    return [hashlib.sha256(data).hexdigest() for data, problem in read]
{calls}
print(json.dumps([waits, told]))
"""


@pytest.fixture
def server():
    running = HubServer()
    running.repos["o/n"] = {"deep/x.zip": zip_of(FILES), "a.txt": b"abc", "empty/b.txt": b""}
    yield running
    running.close()


def run(server, tmp_path, *calls, kind="dataset", token=""):
    code = CODE.format(calls="\n".join(f"tried(lambda: {call})" for call in calls), kind=kind)
    result = server.run(code, tmp_path, token)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_only_wanted_members_of_a_zip_on_the_hub_travel(server, tmp_path):
    server.faults = ["", "drop"]
    listed = "[[e.name for e in tree().entries()], [e.name for e in tree().walk()], tree().where, tree().listable]"
    _, (found, about, text, beside) = run(
        server,
        tmp_path,
        "members()",
        listed,
        "list(tree().read(['a.txt']))[0][0].decode()",
        "tree().entry('b') is None",
    )
    assert found == [hashlib.sha256(FILES[name]).hexdigest() for name in ("b/0.jpg", "c.txt")]
    names = ["a.txt", "deep/x.zip", "empty/b.txt"]
    assert about == [["a.txt", "deep", "empty"], names, f"hf://datasets/o/n@{PIN}", True]
    assert (text, beside) == ("abc", True)
    asked = [range.removeprefix("bytes=") for method, path, range in server.log if path == "/cdn/o/n/deep/x.zip"]
    sizes = [int(one.partition("-")[2]) - int(one.partition("-")[0]) + 1 for one in asked]
    # The end with the list of members, and what is wanted: once more what a lost connection cut short.
    assert len(sizes) == 4
    assert sum(sizes[1:]) <= 2 * (len(FILES["b/0.jpg"]) + len(FILES["c.txt"]) + 200)


def test_a_model_s_files_are_found_too(server, tmp_path):
    calls = ("tree().where", "open_tree('hf://o/n@' + 'a' * 40 + '/deep').tree.entries()[0].name")
    assert run(server, tmp_path, *calls, kind="model") == [[], [f"hf://o/n@{PIN}", "x.zip"]]


def test_what_the_hub_does_not_give_is_told(server, tmp_path):
    server.gated.add("o/n")
    calls = (
        "list(open_tree('hf://datasets/o/absent/x.zip').tree.entries())",
        "list(open_tree('hf://datasets/o/n/deep/x.zip').tree.read(['c.txt']))",
    )
    waits, told = run(server, tmp_path, *calls)
    how = "is refused (HTTP 401)\nAccept its terms on its page, if it has any, then run: hf auth login"
    assert told == [f"access to hf://datasets/o/absent/x.zip {how}", f"access to hf://datasets/o/n/deep/x.zip {how}"]
    assert waits == []
    calls = (
        "tree().entries('absent')",
        "open_tree('hf://datasets/o/n/absent')",
        "open_tree('hf://datasets/o/n/y.zip').tree.walk()",
    )
    waits, told = run(server, tmp_path, calls[0], calls[1], f"list({calls[2]})", token=ACCEPTED)
    assert told == [
        [],
        "there is no folder hf://datasets/o/n/absent\nCheck the address, and whether it needs a login.",
        "there is no hf://datasets/o/n/y.zip",
    ]
    assert waits == []


def test_a_tree_asks_first_whether_the_hub_answers(monkeypatch):
    def silent():
        raise SourceError("no answer")

    monkeypatch.setattr(hub, "require_network", silent)
    with pytest.raises(SourceError, match="no answer"):
        HubRepository("o/n", PIN).tree()


def test_without_the_network_a_local_copy_is_asked_for():
    with pytest.raises(SourceError) as caught:
        HubRepository("o/n", PIN).tree()
    assert str(caught.value) == (
        f"hf://datasets/o/n@{PIN} is needed from the hub, but the environment says HF_HUB_OFFLINE\n"
        "Unset HF_HUB_OFFLINE, or name a local copy."
    )


def test_the_stand_in_in_this_process_has_a_tree_too(tmp_path):
    stand_in = FolderHub({"deep/x.zip": zip_of(FILES)}, tmp_path / "cache")
    assert list(ZipTree(stand_in.tree(), "deep/x.zip").read(["c.txt"])) == [(FILES["c.txt"], "")]
    assert stand_in.asked == [("tree", "")]
