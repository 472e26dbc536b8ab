"""The page's server: who is let in, what is written, and what it says when it cannot be."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
import urllib.request
from functools import partial

import pytest
from judging_pages import JUDGE, PageProcess, new_session, session_of
from PIL import Image
from small_set import small_set
from starlette.testclient import TestClient
from waiting import pause_until

from mteb_vehicle_search.errors import ResultsError, VehicleSearchError
from mteb_vehicle_search.judging import server
from mteb_vehicle_search.judging.address import address_of
from mteb_vehicle_search.judging.guard import Guard
from mteb_vehicle_search.judging.read_ahead import ReadAhead

PORT, TOKEN = 8123, "the-token"
ORIGIN = f"http://127.0.0.1:{PORT}"


@pytest.fixture(scope="module")
def eval_set(tmp_path_factory):
    """Six captioned images with two captions each, and thirty others."""
    return small_set(tmp_path_factory.mktemp("set") / "set")


@pytest.fixture
def session(eval_set, tmp_path):
    """Five captions with three images in question each, and two checks."""
    return new_session(eval_set, tmp_path / "judgments", units=5, each=3, checks=2)


@pytest.fixture
def page(session):
    """What answers for the session."""
    return server.Page(session)


@pytest.fixture
def stranger(page):
    """A client without a token."""
    with TestClient(Guard(page.app(), PORT, TOKEN), base_url=ORIGIN) as client:
        yield client


@pytest.fixture
def client(stranger):
    """The page's own client."""
    assert stranger.get("/", params={"token": TOKEN}).status_code == 200
    stranger.headers["origin"] = ORIGIN
    return stranger


def send(client, item, grade, **changed):
    answer = {"key": item.key, "grade": grade, "seconds": 1.5, "looked": False, "tab": "one", **changed}
    return client.post("/api/answer", json=answer)


def lines(session):
    path = session.folder / f"{JUDGE}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def addresses(session):
    key = session.items[0].key
    return ["/api/session", "/api/summary", f"/image/{key}", f"/known/{key}/0", "/static/page.js"]


def test_without_the_token_there_is_nothing(stranger, session):
    for address in ["/", "/?token=", "/?token=another", *addresses(session)]:
        answer = stranger.get(address)
        assert answer.status_code == 403
        assert "Open the whole address" in answer.text
        assert "set-cookie" not in answer.headers
    stranger.headers["origin"] = ORIGIN
    assert send(stranger, session.items[0], 1).status_code == 403
    assert stranger.post("/api/finish", json={}).status_code == 403
    assert lines(session) == []


def test_a_wrong_cookie_and_a_token_elsewhere_than_in_the_pages_address(stranger, session):
    stranger.cookies.set(f"judging_{PORT}", "another")
    assert stranger.get("/").status_code == 403
    stranger.cookies.clear()
    stranger.cookies.set("judging_1", TOKEN)
    assert stranger.get("/").status_code == 403
    assert stranger.get(f"/api/session?token={TOKEN}").status_code == 403


def test_the_token_comes_once_and_then_in_a_cookie(client, session):
    for address in ["/", *addresses(session)]:
        assert client.get(address).status_code == 200, address
    cookie = client.get("/", params={"token": TOKEN}).headers["set-cookie"]
    assert cookie == f"judging_{PORT}={TOKEN}; HttpOnly; SameSite=Strict; Path=/"


def test_only_by_its_own_name(client):
    for host in ("localhost:8123", "127.0.0.1:8123"):
        assert client.get("/", headers={"host": host}).status_code == 200
    for host in ("evil.example:8123", "127.0.0.1", "127.0.0.1:8124", "127.0.0.1:8123.evil.example", ""):
        assert client.get("/", headers={"host": host}).status_code == 421


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:8124", "https://127.0.0.1:8123"])
def test_answers_from_other_origins_are_refused(client, session, origin):
    client.headers["origin"] = origin
    assert send(client, session.items[0], 1).status_code == 403
    assert client.post("/api/finish", json={}).status_code == 403
    assert lines(session) == []


def test_an_answer_without_an_origin_is_refused(client, session):
    del client.headers["origin"]
    assert send(client, session.items[0], 1).status_code == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_other_sites_may_link_to_the_page_and_ask_for_nothing_else(client, session, site):
    client.headers["sec-fetch-site"] = site
    assert client.get("/").status_code == 200
    for address in addresses(session):
        assert client.get(address).status_code == 403
    assert send(client, session.items[0], 1).status_code == 403


def test_no_other_site_may_read_or_frame_it(client, session):
    for address in ["/", "/nowhere", *addresses(session)]:
        headers = client.get(address, headers={"origin": "http://evil.example"}).headers
        assert "access-control-allow-origin" not in headers
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["cache-control"] == "no-store"
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
    assert client.options("/api/answer", headers={"origin": "http://evil.example"}).status_code == 405


@pytest.mark.parametrize(
    "path",
    [
        "/image/..%2f..%2fmanifest.json",
        "/image/flickr30k%2f0000",
        "/image/0000000000000000",
        "/known/{key}/1",
        "/known/{key}/-1",
        "/known/../manifest.json",
        "/static/..%2fserver.py",
        "/static/%2e%2e/server.py",
        "/static//etc/passwd",
        "/static/",
    ],
)
def test_images_and_files_only_by_the_names_that_were_given(client, session, path):
    answer = client.get(path.format(key=session.items[0].key))
    assert answer.status_code == 404
    assert "def " not in answer.text
    assert answer.headers["content-security-policy"]


def test_the_images_are_those_of_the_set(client, session, eval_set):
    for item in session.items:
        answer = client.get(f"/image/{item.key}")
        assert answer.headers["content-type"] == "image/jpeg"
        assert answer.content == eval_set.jpeg(item.image)
        known = session.units[item.unit].known[0]
        assert client.get(f"/known/{item.key}/0").content == eval_set.jpeg(known)


def test_who_asked_for_the_own_image_has_looked(client, session):
    first, other = session.items[0], session.items[-1]
    assert client.get(f"/known/{first.key}/1").status_code == 404
    send(client, first, 1)
    client.get(f"/known/{first.key}/0")
    send(client, session.items[1], 1)
    send(client, other, 1)
    assert [line["shown_known"] for line in lines(session)] == [False, True, False]
    looked = [unit["looked"] for unit in client.get("/api/session").json()["units"]]
    assert looked == [True, False, False, False, False]


def test_the_page_is_told_nothing_of_checks_models_and_own_images(client, session):
    given = client.get("/api/session", params={"tab": "one"})
    assert set(given.json()["items"][0]) == {"key", "unit", "grade"}
    assert set(given.json()["units"][0]) == {"caption", "known", "looked"}
    for word in ("check", "random", "some/model", *(unit.known[0] for unit in session.units)):
        assert word not in given.text


def test_an_answer_is_on_the_disk_before_it_is_acknowledged(client, session, monkeypatch):
    at_sync = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: at_sync.append(len(lines(session))) or real(file))
    answer = send(client, session.items[0], 3, seconds=2.5, looked=True)
    assert answer.status_code == 200
    assert answer.json()["grade"] == 3
    assert answer.json()["progress"]["decisions"] == 1
    assert at_sync == [1]
    (line,) = lines(session)
    assert (line["image"], line["grade"], line["seconds"]) == (session.items[0].image, 3, 2.5)
    assert line["shown_known"] is True
    assert line["guide"] == server.guide()[1]
    assert line["at"].endswith("+00:00")


def test_an_answer_sent_again_is_not_doubled(client, session):
    for _ in range(3):
        assert send(client, session.items[0], 2).json()["grade"] == 2
    assert [line["grade"] for line in lines(session)] == [2]
    for _ in range(2):
        assert send(client, session.items[0], None).json()["grade"] is None
    assert [line["grade"] for line in lines(session)] == [2, None]


def test_the_page_is_had_by_one_tab_at_a_time(client, session):
    first, second = session.items[:2]
    client.get("/api/session", params={"tab": "one"})
    assert send(client, first, 1).status_code == 200
    assert client.get("/api/session", params={"tab": "two"}).json()["items"][0]["grade"] == 1
    refused = send(client, second, 1)
    assert refused.status_code == 409
    assert "another tab" in refused.json()["error"]
    assert send(client, second, 3, tab="two").status_code == 200
    # The first takes it back, with an answer of an item that was answered in the meantime: that one stands.
    client.get("/api/session", params={"tab": "one"})
    assert send(client, second, 1).json()["grade"] == 3
    assert [line["grade"] for line in lines(session)] == [1, 3]


def test_after_a_start_any_tab_may_go_on(client, session):
    assert send(client, session.items[0], 1, tab="from before").status_code == 200
    assert send(client, session.items[1], 1, tab="another").status_code == 409


@pytest.mark.parametrize(("number", "status"), [(errno.ENOSPC, 507), (errno.EDQUOT, 507), (errno.EACCES, 500)])
def test_what_cannot_be_written_is_said_and_can_be_sent_again(client, session, monkeypatch, number, status):
    real = os.fsync

    def full(file):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", full)
    answer = send(client, session.items[0], 3)
    assert answer.status_code == status
    said = answer.json()["error"]
    assert f"{JUDGE}.jsonl" in said
    assert ("disk is full" in said) == (status == 507)
    assert lines(session) == []
    assert client.get("/api/session", params={"tab": "one"}).json()["items"][0]["grade"] is None
    monkeypatch.setattr(os, "fsync", real)
    assert send(client, session.items[0], 3).json()["grade"] == 3
    assert [line["grade"] for line in lines(session)] == [3]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[]", 400),
        (b"[" * 4000, 400),
        (b'{"grade": 1}', 400),
        (b"\xff", 400),
        ({"grade": 7}, 400),
        ({"grade": "1"}, 400),
        ({"seconds": -1}, 400),
        ({"seconds": None}, 400),
        ({"key": "0" * 16}, 404),
        ({"key": ["0"]}, 404),
        ({"note": "x" * 5000}, 413),
    ],
    ids=["cut off", "a list", "deep", "too little", "no UTF-8", "7", "text", "negative", "none", "key", "list", "long"],
)
def test_what_is_no_answer_is_refused(client, session, body, status):
    whole = {"key": session.items[0].key, "grade": 1, "seconds": 1.0, "looked": False, "tab": "one"}
    content = json.dumps({**whole, **body}).encode() if isinstance(body, dict) else body
    answer = client.post("/api/answer", content=content)
    assert answer.status_code == status
    assert "Traceback" not in answer.text
    assert lines(session) == []
    assert send(client, session.items[0], 1).status_code == 200


def test_an_answer_of_unknown_length_is_refused(client):
    assert client.post("/api/answer", content=iter([b"{}"])).status_code == 411


def test_captions_and_names_are_no_html(client, session, page):
    assert "<script>alert" not in server._html(title="<script>alert(1)</script>", judge="a", guide="<p>")
    assert "&lt;script&gt;alert" in server._html(title="<script>alert(1)</script>", judge="a", guide="<p>")


def test_an_image_that_cannot_be_read(client, session, page, monkeypatch):
    def damaged(image):
        raise VehicleSearchError("corpus/test.parquet cannot be read")

    monkeypatch.setattr(page.images, "get", damaged)
    answer = client.get(f"/image/{session.items[0].key}")
    assert answer.status_code == 500
    assert "cannot be read" in answer.json()["error"]


def test_the_half_width_is_computed_again_every_five_units(session):
    widths = iter([0.05, VehicleSearchError("no")])

    def half_width():
        given = next(widths)
        if isinstance(given, Exception):
            raise given
        return given

    page = server.Page(session, half_width)
    with TestClient(Guard(page.app(), PORT, TOKEN), base_url=ORIGIN) as client:
        client.get("/", params={"token": TOKEN})
        client.headers["origin"] = ORIGIN
        client.get("/api/session", params={"tab": "one"})
        pause_until(lambda: page._width == 0.05)
        for item in session.items[:-1]:
            assert send(client, item, 1).json()["progress"]["halfWidth"] == 0.05
        send(client, session.items[-1], 1)
        pause_until(lambda: page._width is None)


def test_images_are_read_ahead_and_otherwise_when_asked_for(eval_set, monkeypatch):
    ids = eval_set.corpus_ids()
    ahead = ReadAhead(eval_set, ids[:3])
    assert ahead.get(ids[1]) == eval_set.jpeg(ids[1])
    with ahead.reading():
        pause_until(lambda: len(ahead._held) == 3)
    monkeypatch.setattr(eval_set, "jpeg", lambda image: b"asked")
    assert Image.open(io.BytesIO(ahead.get(ids[0]))).size == (40, 32)
    assert ahead.get(ids[4]) == b"asked"


def test_reading_ahead_ends_at_a_damaged_file_and_with_the_block(eval_set, monkeypatch):
    ids, asked, before = eval_set.corpus_ids(), [], {*threading.enumerate()}

    def read(image, damaged=False):
        asked.append(image)
        time.sleep(0.02)
        if damaged:
            raise VehicleSearchError("damaged")
        return b"jpeg"

    def ended():
        # Threads of other tests may end meanwhile.
        return {*threading.enumerate()} <= before

    monkeypatch.setattr(eval_set, "jpeg", partial(read, damaged=True))
    with ReadAhead(eval_set, ids).reading():
        pause_until(ended)
    assert len(asked) == 1
    monkeypatch.setattr(eval_set, "jpeg", read)
    with ReadAhead(eval_set, ids).reading():
        pause_until(lambda: len(asked) > 1)
    assert ended()
    assert len(asked) < len(ids)


def test_a_stopped_page_comes_back_at_its_address_and_a_finished_one_does_not(tmp_path):
    with address_of(tmp_path, JUDGE) as first:
        remembered = first.remembered
        assert first.url.startswith(f"http://127.0.0.1:{first.port}/?token=")
        assert len(first.token) >= 32
        if os.name == "posix":
            assert stat.S_IMODE(remembered.stat().st_mode) == 0o600
    with address_of(tmp_path, JUDGE) as again:
        assert again.url == first.url
        again.forget()
    with address_of(tmp_path, JUDGE) as new:
        assert new.token != first.token
    remembered.write_text("{", encoding="utf-8")
    with address_of(tmp_path, JUDGE) as after_damage:
        assert after_damage.token != new.token


def test_a_port_that_another_has_by_now(tmp_path):
    with address_of(tmp_path, JUDGE) as first:
        pass
    with address_of(tmp_path, "bob", first.port), address_of(tmp_path, JUDGE) as other:
        assert other.port != first.port
        assert other.token != first.token
        with pytest.raises(ResultsError, match=f"Port {first.port} of 127.0.0.1 cannot be used"):
            address_of(tmp_path, "eve", first.port).__enter__()


def test_one_page_for_a_judge(tmp_path):
    with address_of(tmp_path, JUDGE), pytest.raises(ResultsError, match="Another process shows ada the page"):
        address_of(tmp_path, JUDGE).__enter__()


def test_the_address_cannot_be_remembered_on_a_full_disk(tmp_path, monkeypatch):
    def full(*given, **named):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdopen", full)
        with address_of(tmp_path, JUDGE) as first:
            assert first.port
            assert not first.remembered.exists()
    with address_of(tmp_path, JUDGE) as second:
        assert second.token != first.token


def test_the_browser_is_opened(session, monkeypatch):
    opened, said = [], []
    monkeypatch.setattr(server.webbrowser, "open", opened.append)
    monkeypatch.setattr(server, "say", said.append)
    pages = []
    real = server.Page
    monkeypatch.setattr(server, "Page", lambda *given: pages.append(real(*given)) or pages[-1])
    thread = threading.Thread(target=server.serve, args=(session,))
    thread.start()
    pause_until(lambda: opened)
    assert opened[0] in said[0]
    pages[0].on_finish()
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.skipif(sys.platform == "win32", reason="a signal")
@pytest.mark.parametrize("early", [True, False])
def test_ctrl_c_ends_it_cleanly_with_what_was_said(eval_set, tmp_path, early):
    new_session(eval_set, tmp_path, units=5, each=3, checks=2)
    process = PageProcess(eval_set, tmp_path)
    if not early:
        with urllib.request.urlopen(process.url, timeout=10) as answer:
            assert b"What the grades mean" in answer.read()
    process.process.send_signal(signal.SIGINT)
    said = process.end()
    assert process.process.returncode == 0, said
    assert said.startswith("Ctrl-C stops; the same command goes on.\n")
    assert "Traceback (" not in said
    assert (tmp_path / ".page-ada" / "address.json").is_file()
    assert session_of(eval_set, tmp_path).progress()[0] == 0


def test_without_the_extra_one_sentence_says_what_to_install(tmp_path):
    for missing in ("starlette", "uvicorn"):
        code = (
            f"import sys; sys.modules[{missing!r}] = None\n"
            "from mteb_vehicle_search.errors import UsageError\n"
            "import mteb_vehicle_search.judging.session\n"
            "try:\n    import mteb_vehicle_search.judging.server\n"
            "except UsageError as error:\n    print(error)\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout == "Judging needs starlette and uvicorn.\npip install 'mteb-vehicle-search[judge]'\n"
