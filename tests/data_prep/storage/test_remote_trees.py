"""Files and archives of a web server are read where they lie, and only what is needed travels."""

from __future__ import annotations

import logging
import time
import traceback

import pytest
from range_server import SIGNATURE, RangeServer
from remote_places import FILES, tar_gz_of, tar_of, without_waiting, zip_of

from data_prep.storage import Entry, PassedOver
from data_prep.storage.opening import open_tree
from data_prep.storage.remote import READERS
from data_prep.storage.stretches import LOOK
from data_prep.storage.tars import parts_of, read_tar
from data_prep.storage.zips import ZipTree
from mteb_vehicle_search.addresses import shown, without_secrets
from mteb_vehicle_search.errors import SourceError
from mteb_vehicle_search.remote.patience import patiently
from mteb_vehicle_search.settings import home

BIG = bytes(range(256)) * 40_000
LIST = "Name the archive itself (a zip or a tar), or a folder of s3://, gs:// or hf://."


@pytest.fixture
def server():
    running = RangeServer()
    yield running
    running.close()


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    return without_waiting(monkeypatch)


def ranges(server):
    return [one.range for one in server.asked()]


def test_a_file_beside_the_one_that_is_named_is_found(server):
    file = server.serve("/data/a b/x y.tar", b"123")
    server.serve("/data/a b/LOC val.csv", b"12")
    tree, name = open_tree(f"{server.url}/data/a%20b/x%20y.tar?download=1")
    assert (tree.where, name, tree.remote, tree.listable) == (f"{server.url}/data/a%20b", "x y.tar", True, False)
    assert tree.path(name) == f"{server.url}/data/a%20b/x y.tar"
    assert tree.path("") == tree.where
    assert tree.entry(name) == Entry("x y.tar", 3, file.etag)
    assert tree.entry("LOC val.csv").size_bytes == 2
    assert tree.entry("absent.csv") is None
    assert tree.travelling(["x y.tar", "LOC val.csv"]) == 5


def test_a_folder_s_address_leads_to_its_files(server):
    server.serve("/data/train/é/1.jpg", b"123")
    tree, name = open_tree(f"{server.url}/data/")
    assert (tree.where, name) == (f"{server.url}/data", "")
    assert list(tree.read(["train/é/1.jpg"])) == [(b"123", "")]


@pytest.mark.parametrize("call", ["entries", "walk"])
def test_web_folders_cannot_be_listed(server, call):
    tree, _ = open_tree(f"{server.url}/data")
    with pytest.raises(SourceError) as caught:
        list(getattr(tree, call)("train"))
    what = f"{server.url}/data/train cannot be listed: web servers do not tell what is in a folder"
    assert str(caught.value) == f"{what}\n{LIST}"
    assert server.log == []


def test_a_file_is_read_anywhere(server):
    server.serve("/x.bin", BIG)
    tree, _ = open_tree(server.url)
    with tree.open("x.bin") as file:
        file.seek(5_000_000)
        assert file.read(10) == BIG[5_000_000:5_000_010]
        file.seek(-10, 2)
        assert file.read() == BIG[-10:]
        file.seek(0)
        assert file.read() == BIG
    assert ranges(server)[:2] == ["bytes=0-0", "bytes=5000000-5004095"]


def test_what_is_known_to_be_needed_travels_and_nothing_else(server):
    server.serve("/x.bin", BIG)
    tree, _ = open_tree(server.url)
    wanted = [(10, 1_000), (6_000_000, 6_500_000)]
    with tree.open("x.bin", wanted) as file:
        for start, end in wanted:
            file.seek(start)
            assert file.read(end - start) == BIG[start:end]
    assert sorted(ranges(server)) == ["bytes=0-0", "bytes=10-999", "bytes=6000000-6499999"]


def test_an_empty_file(server):
    server.serve("/x.csv", b"")
    tree, name = open_tree(f"{server.url}/x.csv")
    assert tree.entry(name).size_bytes == 0
    assert list(tree.read([name])) == [(b"", "")]
    with tree.open(name) as file:
        assert file.read() == b""


def test_many_small_files_come_in_their_order(server):
    contents = {f"{number}.jpg": bytes([number]) * (number + 1) for number in range(60)}
    for name, content in contents.items():
        server.serve(f"/p/{name}", content)
    tree, _ = open_tree(f"{server.url}/p")
    assert list(tree.read(contents)) == [(content, "") for content in contents.values()]


def test_no_more_files_travel_ahead_than_are_soon_taken(server):
    for number in range(60):
        server.serve(f"/p/{number}.jpg", b"x")
    reading = open_tree(f"{server.url}/p").tree.read(f"{number}.jpg" for number in range(60))
    next(reading)
    time.sleep(0.3)
    assert READERS < len({one.path for one in server.log}) <= 2 * READERS + 1
    reading.close()


def test_no_more_of_a_file_is_read_than_is_taken(server, monkeypatch):
    monkeypatch.setattr("data_prep.storage.remote.MAX_FILE_BYTES", 100)
    server.serve("/x.jpg", BIG)
    tree, _ = open_tree(server.url)
    assert list(tree.read(["x.jpg"])) == [(BIG[:101], "")]


def test_what_is_missing_is_named(server):
    tree, _ = open_tree(f"{server.url}/p")
    with pytest.raises(SourceError, match=rf"^{server.url}/p/x.jpg is missing$"):
        list(tree.read(["x.jpg"]))
    with pytest.raises(SourceError, match=rf"^there is no {server.url}/p/x.jpg$"):
        tree.open("x.jpg")


def test_of_a_zip_the_list_and_the_wanted_members_travel(server):
    content = zip_of(FILES)
    server.serve("/x.zip", content)
    tree, name = open_tree(f"{server.url}/x.zip")
    assert isinstance(tree, ZipTree)
    assert name == ""
    assert [entry.name for entry in tree.entries()] == ["a", "b", "c.txt"]
    assert [entry.name for entry in tree.walk("b")] == ["0.jpg", "deep/1.jpg"]
    before = server.sent()
    assert list(tree.read(["b/0.jpg"])) == [(FILES["b/0.jpg"], "")]
    assert len(FILES["b/0.jpg"]) <= server.sent() - before <= len(FILES["b/0.jpg"]) + 100
    assert tree.travelling(["b/0.jpg"]) == server.sent() - before


def test_of_a_second_zip_tree_only_the_end_travels(server):
    """The list of members is kept on disk, for as long as the zip is the same."""
    many = {f"{number:04}.jpg": b"x" for number in range(3_000)}
    server.serve("/x.zip", zip_of(many))
    assert len(list(open_tree(f"{server.url}/x.zip").tree.walk())) == 3_000
    list_bytes = server.sent()
    server.log.clear()
    assert len(list(open_tree(f"{server.url}/x.zip").tree.walk())) == 3_000
    assert server.sent() < list_bytes - 3_000 * 46  # The fixed part of a record.
    assert len(ranges(server)) == 2
    server.serve("/x.zip", zip_of({**many, "new.jpg": b"x"}))
    assert "new.jpg" in [entry.name for entry in open_tree(f"{server.url}/x.zip").tree.walk()]


def test_a_list_is_not_kept_of_what_tells_no_version(server):
    file = server.serve("/x.tar", tar_of(FILES))
    file.etag = file.modified = ""
    for _ in range(2):
        tree, name = open_tree(f"{server.url}/x.tar")
        assert [part.name for part in parts_of(tree, name)] == list(FILES)
    assert not (home() / "listings").exists()


def test_the_date_is_a_version_too(server):
    file = server.serve("/x.tar", tar_of(FILES))
    file.etag = ""
    tree, name = open_tree(f"{server.url}/x.tar")
    assert tree.entry(name).stamp == file.modified
    parts_of(tree, name)
    server.log.clear()
    parts_of(*open_tree(f"{server.url}/x.tar"))
    assert ranges(server) == ["bytes=0-0"]
    file.modified = "Sat, 24 Oct 2026 07:28:00 GMT"
    parts_of(*open_tree(f"{server.url}/x.tar"))
    assert len(ranges(server)) > 2


def test_of_a_tar_of_tars_the_headers_and_the_wanted_inner_tar_travel(server):
    inner = {f"{name}.tar": tar_of({f"{name}_{i}.jpg": bytes([i]) * 60_000 for i in range(5)}) for name in "abc"}
    server.serve("/t.tar", tar_of(inner))
    tree, name = open_tree(f"{server.url}/t.tar")
    parts = parts_of(tree, name)
    assert [part.name for part in parts] == list(inner)
    assert server.sent() < 40_000
    before = server.sent()
    passed = PassedOver()
    found = [(one.name, one.data, one.problem) for one in read_tar(tree, name, passed, parts[1])]
    assert found == [(f"b_{i}.jpg", bytes([i]) * 60_000, "") for i in range(5)]
    assert server.sent() - before <= len(inner["b.tar"]) + LOOK + 1
    server.log.clear()
    assert parts_of(*open_tree(f"{server.url}/t.tar")) == parts
    assert ranges(server) == ["bytes=0-0"]


@pytest.mark.parametrize(("name", "pack"), [("x.tar", tar_of), ("x.tar.gz", tar_gz_of), ("x.tgz", tar_gz_of)])
def test_a_whole_tar_is_read_as_it_comes(server, name, pack):
    server.serve(f"/{name}", pack(FILES))
    tree, named = open_tree(f"{server.url}/{name}")
    passed = PassedOver()
    assert {one.name: one.data for one in read_tar(tree, named, passed)} == FILES
    assert server.sent() == len(pack(FILES)) + 2 * (named == "x.tar") or server.sent() <= len(pack(FILES)) + 2


SIGNED = "?X-Amz-Signature=abcdef&token=t0ken"


def secrets_in(text):
    return [one for one in ("abcdef", "t0ken", "passw0rd", "someone", SIGNATURE, "X-Amz") if one in text]


def test_no_secret_of_an_address_is_written_anywhere(server, caplog):
    caplog.set_level(logging.DEBUG, "data_prep")
    file = server.serve("/x.tar", tar_of(FILES))
    address = f"http://someone:passw0rd@{server.host}/x.tar{SIGNED}"
    tree, name = open_tree(address)
    file.looks, file.faults = ["503"], ["drop", "503"]
    parts_of(tree, name)
    assert server.log[0].authorization.startswith("Basic ")
    texts = [tree.where, tree.path(name), *(record.getMessage() for record in caplog.records)]
    assert len(caplog.records) >= 2
    for fault in ("403", "whole", "changed", "404", "400", "503", "drop", "wrong range", "fewer", "more"):
        file.faults = [fault] * 6
        with pytest.raises(SourceError) as caught:
            open_tree(address).tree.open(name).read(10)
        # A traceback is shown with --debug.
        texts += [str(caught.value), "".join(traceback.format_exception(caught.value))]
    kept = list((home() / "listings").iterdir())
    assert len(kept) == 1
    texts += [kept[0].name, kept[0].read_text("utf-8")]
    assert f"{server.url}/x.tar" in texts[-1]
    assert [secrets_in(text) for text in texts] == [[]] * len(texts)


def test_no_secret_of_a_failure_is_written(caplog):
    def fail():
        raise OSError("no answer of https://u:p@h/x?sig=secret1")

    with pytest.raises(SourceError) as caught:
        patiently(fail, "x", lambda error: None)
    told = [str(caught.value), *(record.getMessage() for record in caplog.records)]
    assert len(told) == 6
    assert ["no answer of https://h/x" in one and "secret1" not in one for one in told] == [True] * 6


def test_a_login_of_netrc_is_used(server, tmp_path, monkeypatch):
    file = server.serve("/x.tar", tar_of(FILES))
    file.login = "Basic c29tZW9uZTpwYXNzdzByZA=="
    with pytest.raises(SourceError, match=r"x.tar is refused \(HTTP 401\)\nGive a login in ~/.netrc; "):
        parts_of(*open_tree(f"{server.url}/x.tar"))
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login someone password passw0rd\n", encoding="utf-8")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert len(parts_of(*open_tree(f"{server.url}/x.tar"))) == len(FILES)


def test_a_proxy_of_the_environment_is_used(server, monkeypatch):
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    server.serve("/x.tar", tar_of(FILES))
    assert len(parts_of(*open_tree("http://somewhere.invalid/x.tar"))) == len(FILES)


def test_each_request_follows_to_a_signed_address_of_its_own(server, caplog):
    file = server.serve("/x.zip", zip_of(FILES))
    file.uses = 1
    tree, _ = open_tree(f"{server.url}/x.zip")
    for name, content in FILES.items():
        assert list(tree.read([name])) == [(content, "")]
    assert caplog.records == []
    assert SIGNATURE not in tree.where + tree.path("a/0.jpg")
    assert {one.status for one in server.log} == {302, 206}


def test_a_signed_address_that_was_given_and_expires_is_told(server):
    file = server.serve("/x.zip", zip_of(FILES))
    file.uses = 3
    server.signed[f"{SIGNATURE}0"] = 3
    tree, _ = open_tree(f"{server.url}/signed/x.zip?{SIGNATURE}0")
    tree.entries()
    with pytest.raises(SourceError) as caught:
        list(tree.read(["a/0.jpg", "b/0.jpg", "c.txt"]))
    assert str(caught.value) == (
        f"access to {server.url}/signed/x.zip is refused (HTTP 403)\n"
        "Give a login in ~/.netrc; a signed address may have expired: get a new one."
    )


def test_what_lies_beside_a_signed_file_and_is_refused_was_not_meant(server):
    server.serve("/x.tar", b"123")
    server.serve("/y.tar", b"123")
    tree, name = open_tree(f"{server.url}/signed/x.tar?{SIGNATURE}0")
    assert tree.entry("y.tar") is None
    with pytest.raises(SourceError, match="is refused"):
        tree.entry(name)


def test_a_signature_travels_letter_by_letter_and_opens_what_lies_beside_too(server):
    """As that of a whole container on Azure does; some signatures are of the letters of the address."""
    server.serve("/a b/x.tar", b"123")
    server.serve("/a b/é.csv", b"12")
    signature = "sv=1&sig=a%2Fb%2bc+d/e%3D"
    tree, name = open_tree(f"{server.url}/a%20b/x.tar?{signature}#part")
    assert tree.entry(name).size_bytes == 3
    assert tree.entry("é.csv").size_bytes == 2
    assert [one.query for one in server.log] == [signature] * 2


def test_a_page_instead_of_a_file_is_told(server):
    server.serve("/login/x.zip", b"<html>Please log in</html>").kind = "text/html; charset=utf-8"
    server.serve("/login/y.csv", b"<html>Please log in</html>").kind = "text/html; charset=utf-8"
    with pytest.raises(SourceError) as caught:
        open_tree(f"{server.url}/login/x.zip").tree.entries()
    assert str(caught.value) == (
        f"{server.url}/login/x.zip is a page for people, not the file\nIt may need a login, or this is the address of "
        "a page about it. Download it, and name the local file."
    )
    outer = open_tree(f"{server.url}/login/x.zip").tree.outer
    assert outer.entry("y.csv") is None


@pytest.mark.parametrize(
    ("address", "seen"),
    [
        ("https://host/a/x.zip", "https://host/a/x.zip"),
        ("https://user:pass@host:8/a/x.zip?sig=1#f", "https://host:8/a/x.zip"),
        ("HTTPS://host/a/", "https://host/a"),
        ("s3://key:secret@bucket/a?b/c#d.zip", "s3://bucket/a?b/c#d.zip"),
        ("hf://datasets/o/n@abc/x.zip", "hf://datasets/o/n@abc/x.zip"),
    ],
)
def test_addresses_are_shown_without_secrets(address, seen):
    assert shown(address) == seen


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("403, message='no', url='https://u:p@h/x?sig=1'", "403, message='no', url='https://h/x'"),
        ("Max retries: /x.zip?X-Amz-Signature=1&a=2 (no)", "Max retries: /x.zip (no)"),
        ("why? x = 1", "why? x = 1"),
        ("no route to host", "no route to host"),
    ],
)
def test_messages_are_shown_without_secrets(text, seen):
    assert without_secrets(text) == seen
