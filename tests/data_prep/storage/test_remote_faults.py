"""Whatever a web server does wrong ends in the right bytes or in one exact error."""

from __future__ import annotations

import socket

import pytest
from range_server import RangeServer
from remote_places import FILES, tar_gz_of, tar_of, without_waiting, zip_of

from data_prep.storage import PassedOver, remote, stretches
from data_prep.storage.opening import open_tree
from data_prep.storage.tars import parts_of, read_tar
from mteb_vehicle_search.errors import SourceError
from mteb_vehicle_search.remote import systems
from mteb_vehicle_search.remote.failures import Passing, meaning

DATA = bytes(range(256)) * 4_000
DOWNLOAD = "Download it, and name the local file."
ATTEMPTS = 6


@pytest.fixture
def server():
    running = RangeServer()
    yield running
    running.close()


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    return without_waiting(monkeypatch)


@pytest.fixture
def file(server):
    return server.serve("/a/x.bin", DATA)


def read(server):
    with open_tree(f"{server.url}/a").tree.open("x.bin", [(1_000, 300_000)]) as opened:
        opened.seek(1_000)
        return opened.read(299_000)


def refusal(server):
    with pytest.raises(SourceError) as caught:
        read(server)
    return str(caught.value)


PASSING = {
    "429": "HTTP 429",
    "500": "HTTP 500",
    "503": "HTTP 503",
    "wrong range": "bytes 1000 to 299999 were asked for; other ones came",
    "fewer": "149,500 bytes come instead of 299,000",
    "more": "299,010 bytes come instead of 299,000",
    "more in chunks": "more bytes came than the 299,000 that were asked for",
    "drop": "149,500 bytes came instead of 299,000",
    "408": "HTTP 408",
}


@pytest.mark.parametrize("fault", PASSING)
def test_what_may_pass_is_tried_again_until_the_right_bytes_come(server, file, waits, fault, caplog):
    file.faults = [fault, fault, fault]
    assert read(server) == DATA[1_000:300_000]
    assert waits == ([7.0] * 3 if fault in ("429", "503") else [2.0, 4.0, 8.0])
    told = [record.getMessage() for record in caplog.records]
    assert [one.startswith(f"{server.url}/a/x.bin: {PASSING[fault]}") for one in told] == [True] * 3
    assert told[0].endswith(f"; attempt 2 of 6 in {waits[0]:.0f} s")


@pytest.mark.parametrize("fault", PASSING)
def test_what_does_not_pass_in_six_attempts_is_told(server, file, waits, fault):
    file.faults = [fault] * ATTEMPTS
    message, _, hint = refusal(server).partition("\n")
    assert message.startswith(
        f"{server.url}/a/x.bin could not be downloaded in 6 attempts; the last failure: {PASSING[fault]}"
    )
    assert hint == "Check the connection and run the command again: what is complete is kept."
    assert len(waits) == ATTEMPTS - 1
    assert file.faults == []


@pytest.mark.parametrize("fault", ["429", "500", "503"])
def test_a_look_is_tried_again_too(server, file, waits, fault):
    file.looks = [fault] * 5
    assert read(server) == DATA[1_000:300_000]
    assert len(waits) == 5


@pytest.mark.parametrize("status", ["401", "403"])
@pytest.mark.parametrize("when", ["looks", "faults"])
def test_a_refusal_is_told_at_once(server, file, waits, status, when):
    setattr(file, when, [status] * 3)
    assert refusal(server) == (
        f"access to {server.url}/a/x.bin is refused (HTTP {status})\n"
        "Give a login in ~/.netrc; a signed address may have expired: get a new one."
    )
    assert waits == []
    assert len(getattr(file, when)) == 2


@pytest.mark.parametrize("status", ["404", "410"])
def test_what_is_not_there_is_told_at_once(server, file, waits, status):
    file.looks = [status]
    assert refusal(server) == f"there is no {server.url}/a/x.bin"
    file.faults = [status]
    assert refusal(server) == f"{server.url}/a/x.bin is gone\nIt was there before: run the command again."
    assert waits == []


@pytest.mark.parametrize("status", ["400", "405", "451"])
def test_another_no_is_told_at_once(server, file, waits, status):
    file.looks = [status]
    assert refusal(server) == f"{server.url}/a/x.bin cannot be read: HTTP {status}\nCheck the address."
    assert waits == []


def test_a_server_without_ranges_is_told_before_much_has_travelled(server, waits):
    content = tar_gz_of({"x.jpg": b"x" * 100}) + b"\0" * 50_000_000
    server.serve("/x.tar.gz", content).ranges = False
    with pytest.raises(SourceError) as caught:
        list(read_tar(*open_tree(f"{server.url}/x.tar.gz"), PassedOver()))
    assert str(caught.value) == (
        f"{server.url}/x.tar.gz cannot be read in the middle: its server answers with the whole file\n{DOWNLOAD}"
    )
    assert waits == []
    assert server.sent() < 30_000_000  # What fits into the buffers of connections that are closed at once.


def test_a_small_file_is_read_whole_from_a_server_without_ranges(server):
    file = server.serve("/x.csv", DATA)
    file.ranges = False
    tree, name = open_tree(f"{server.url}/x.csv")
    with tree.open(name) as opened:
        assert opened.read() == DATA
    assert list(tree.read([name])) == [(DATA, "")]


def test_a_server_that_stops_to_answer_ranges(server, file, waits):
    file.faults = ["whole"]
    assert refusal(server) == (
        f"{server.url}/a/x.bin cannot be read in the middle: its server answers with the whole file\n{DOWNLOAD}"
    )
    assert waits == []


def test_what_is_packed_on_its_way(server, file, waits):
    assert read(server) == DATA[1_000:300_000]
    assert {asked.encoding for asked in server.log} == {"identity"}, "nothing is to be packed"
    file.faults = ["gzip"]
    assert refusal(server) == (
        f"{server.url}/a/x.bin cannot be read in the middle: its server packs what it sends (gzip)\n{DOWNLOAD}"
    )
    file.ranges, file.looks = False, ["gzip"]
    said = f"{server.url}/a/x.bin cannot be read in the middle: its server does not tell its size\n{DOWNLOAD}"
    assert refusal(server) == said
    assert waits == []


def test_without_a_length_the_bytes_are_counted(server, file, waits):
    file.faults = ["no length"]
    assert read(server) == DATA[1_000:300_000]
    assert waits == []
    file.ranges, file.looks = False, ["no length"] * 2
    tree = open_tree(f"{server.url}/a").tree
    with pytest.raises(SourceError, match="cannot be read in the middle: its server does not tell its size"):
        tree.open("x.bin")
    with pytest.raises(SourceError, match=r"x.bin cannot be read: its server does not tell its size\nDownload it"):
        list(tree.read(["x.bin"]))


@pytest.mark.parametrize("validator", ["etag", "weak etag", "date", "size"])
def test_a_file_that_changes_while_it_is_read_is_told(server, file, waits, validator):
    if validator in ("date", "size"):
        file.etag = ""
    if validator == "size":
        file.modified = ""
    if validator == "weak etag":
        file.etag = f"W/{file.etag}"
    with open_tree(f"{server.url}/a").tree.open("x.bin") as opened:
        assert opened.read(10) == DATA[:10]
        if validator == "size":
            file.size -= 1
        else:
            file.faults = ["changed"]
        opened.seek(500_000)
        with pytest.raises(SourceError) as caught:
            opened.read(10)
    assert str(caught.value) == (
        f"{server.url}/a/x.bin changed while it was read\nRun the command again: it starts anew with that file."
    )
    assert waits == []


def test_a_zip_that_changed_after_it_was_listed_is_told(server):
    file = server.serve("/x.zip", zip_of(FILES))
    tree, _ = open_tree(f"{server.url}/x.zip")
    tree.entries()
    file.faults = ["changed"]
    with pytest.raises(SourceError, match=r"x.zip changed while it was read\n"):
        list(tree.read(["b/0.jpg"]))


def test_a_tar_is_whole_after_every_fault_that_passes(server, waits, monkeypatch):
    monkeypatch.setattr(stretches, "PIECE", 40_000)
    faults = ["drop", "fewer", "more", "", "503", "drop"]
    for name, content in (("x.tar", tar_of(FILES)), ("x.tgz", tar_gz_of(FILES))):
        file = server.serve(f"/{name}", content)
        file.faults = list(faults)
        assert {one.name: one.data for one in read_tar(*open_tree(f"{server.url}/{name}"), PassedOver())} == FILES
        assert file.faults == [] or name == "x.tgz"
    assert len(waits) >= 5


def test_a_failure_ahead_of_what_is_read_is_told_where_it_is_read(server, monkeypatch):
    monkeypatch.setattr(stretches, "PIECE", 10_000)
    file = server.serve("/x.bin", DATA)
    file.faults = ["", "", "401"]
    with open_tree(server.url).tree.open("x.bin", [(0, 100_000)]) as opened, pytest.raises(SourceError, match="401"):
        opened.read(100_000)


def test_an_unfinished_tar_is_damaged_as_a_local_one_is(server):
    content = tar_of(FILES)
    server.serve("/x.tar", content[: len(content) // 2])
    with pytest.raises(SourceError, match=r"x.tar is damaged: |x.tar ends within"):
        parts_of(*open_tree(f"{server.url}/x.tar"))


def test_a_server_that_is_not_there_is_asked_six_times(waits):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        with pytest.raises(SourceError) as caught:
            open_tree(f"http://127.0.0.1:{port}/x.zip").tree.entries()
    what = f"http://127.0.0.1:{port}/x.zip"
    assert str(caught.value).startswith(f"{what} could not be downloaded in 6 attempts; the last failure: ")
    assert waits == [2.0, 4.0, 8.0, 16.0, 32.0]


def test_a_server_that_falls_silent_is_asked_again(server, waits, monkeypatch):
    monkeypatch.setattr(systems, "SILENCE_S", 0.2)
    file = server.serve("/a/x.bin", DATA)
    file.faults = ["slow"]
    assert read(server) == DATA[1_000:300_000]
    assert waits == [2.0]


@pytest.mark.parametrize("url", ["https://", "http://[::1/x.zip", "http:///x.zip"])
def test_what_is_no_address_is_told_at_once(url, waits):
    with pytest.raises(SourceError, match=r"cannot be (read|reached)"):
        open_tree(url).tree.entry("x")
    assert waits == []


def test_a_mistake_of_the_program_is_not_hidden():
    mistake = KeyError("x")
    assert meaning(mistake, "x", "http") is mistake
    assert isinstance(meaning(TimeoutError(), "x", "http"), Passing)
    assert str(meaning(TimeoutError(), "x", "http")) == "TimeoutError"


def test_an_interruption_is_not_a_failure(server, file, waits, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    tree = open_tree(f"{server.url}/a").tree
    monkeypatch.setattr(remote.Web, "look", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tree.entry("x.bin")
    assert waits == []
