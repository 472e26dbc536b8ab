"""The real hub client against a server that behaves like the hub, also when it behaves badly."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import re
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from format_twins import VEHICLES, captioned_files, classed_files, write_flickr30k, write_imagenet
from hub_server import HubServer
from huggingface_hub import errors
from huggingface_hub.hf_api import RepoFile, RepoFolder

from data_prep import hub
from data_prep.hub import HubFile, HubRepository
from data_prep.sources.flickr30k import source as flickr30k_source
from data_prep.sources.imagenet import source as imagenet_source
from mteb_vehicle_search.errors import SourceError

FLICKR, IMAGENET = flickr30k_source.REPOSITORY.repo, imagenet_source.REPOSITORY.repo
CONVERTED = "c" * 40
ACCEPTED = "good"  # The only token that the server takes.
BIG = bytes(range(256)) * 100_000

DOWNLOAD = """
from pathlib import Path
from data_prep.hub import HubRepository, HubFile
from mteb_vehicle_search.errors import SourceError
waits = []
data = HubRepository("o/big", "a" * 40, gated={gated}, sleep=waits.append)
try:
    file = data.files()[0]
    path = data.download(file, Path({folder!r}))
    print(len(path.read_bytes()), waits)
except SourceError as error:
    print(error, waits)
"""


PIN = "a" * 40
FILE = HubFile("data/x.bin", -1, "")


def http_error(status: int, headers: dict[str, str] | None = None, kind: type = errors.HfHubHTTPError) -> Exception:
    """What the hub's client raises for an answer."""
    response = SimpleNamespace(status_code=status, headers=headers or {}, request=None)
    return kind(f"{status} of the server\nSee https://explained", response=response)


def not_found_because(cause: Exception) -> Exception:
    """What the client raises when it cannot reach the hub and has no copy."""
    error = errors.LocalEntryNotFoundError("neither there nor here")
    error.__cause__ = cause
    return error


class Client:
    """Stands for the functions of the hub's client: gives or raises one of `outcomes` for each download."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.outcomes: list[Any] = []
        self.asked: list[Any] = []
        self.waits: list[float] = []
        self.tree: list[Any] = []
        self.sha = "c" * 40
        self.held: Any = None

        def give(*arguments: Any, **options: Any) -> Any:
            self.asked.append((*arguments, options))
            outcome = self.outcomes.pop(0)
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome() if callable(outcome) else outcome

        class Api:
            def list_repo_tree(api, *arguments: Any, **options: Any) -> Any:
                self.asked.append((*arguments, options))
                return iter(self.tree)

            def repo_info(api, *arguments: Any, **options: Any) -> Any:
                self.asked.append((*arguments, options))
                return SimpleNamespace(sha=self.sha)

        def look(*arguments: Any, **options: Any) -> Any:
            self.asked.append((*arguments, options))
            return self.held

        monkeypatch.setattr(huggingface_hub, "hf_hub_download", give)
        monkeypatch.setattr(huggingface_hub, "HfApi", Api)
        monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", look)

    def repository(self, revision: str = PIN, **options: Any) -> HubRepository:
        return HubRepository("o/n", revision, sleep=self.waits.append, **options)

    def refused(self, **options: Any) -> str:
        with pytest.raises(SourceError) as caught:
            self.repository(**options).download(FILE)
        return str(caught.value)


@pytest.fixture
def client(monkeypatch):
    hub._resolve.cache_clear()
    yield Client(monkeypatch)
    hub._resolve.cache_clear()


@pytest.fixture
def sound(tmp_path):
    (tmp_path / "sound.bin").write_bytes(b"sound")
    return tmp_path / "sound.bin"


def test_the_data_sets_are_pinned():
    flickr30k, imagenet = "2b239befc81b6e3f035ce6bd52f5f4d60f5625f7", "49e2ee26f3810fb5a7536bbf732a7b07389a47b5"
    assert HubRepository("nlphuji/flickr30k", flickr30k) == flickr30k_source.REPOSITORY
    assert HubRepository("nlphuji/flickr30k", "refs/convert/parquet") == flickr30k_source.CONVERSION
    assert HubRepository("ILSVRC/imagenet-1k", imagenet, gated=True) == imagenet_source.REPOSITORY
    assert flickr30k_source.REPOSITORY != flickr30k_source.CONVERSION


def test_a_repository_is_an_open_data_set_at_any_commit_unless_more_is_said():
    plain = HubRepository("o/n", "main")
    assert (plain.gated, plain.kind, plain.sleep) == (False, "dataset", time.sleep)
    assert plain == HubRepository("o/n", "main", sleep=print)
    assert plain.page == "https://huggingface.co/datasets/o/n"
    assert HubRepository("o/n", "main", kind="model").page == "https://huggingface.co/o/n"


@pytest.mark.parametrize("kind", ["dataset", "model"])
@pytest.mark.parametrize("folder", [None, "work"])
def test_a_file_is_asked_for_at_the_pin(client, sound, kind, folder):
    client.outcomes = [str(sound)]
    place = folder and Path(folder)
    assert client.repository(kind=kind).download(FILE, place) == sound
    options = {"revision": PIN, "repo_type": kind, "local_dir": place, "library_name": None}
    assert client.asked == [("o/n", "data/x.bin", options)]


PASSING = {
    "too many requests": http_error(429),
    "a server's fault": http_error(500),
    "a busy server": http_error(503),
    "a gateway": http_error(599),
    "no route": errors.HTTPError("no route"),
    "a lost connection": ConnectionResetError("reset"),
    "a disk's fault": OSError(errno.EIO, "Input/output error"),
    "no copy": not_found_because(errors.HTTPError("no route")),
}


@pytest.mark.parametrize("failure", PASSING.values(), ids=PASSING)
def test_what_may_pass_is_tried_again(client, sound, failure):
    client.outcomes = [failure, failure, str(sound)]
    assert client.repository().download(FILE) == sound
    assert client.waits == [2.0, 4.0]


@pytest.mark.parametrize("failure", PASSING.values(), ids=PASSING)
def test_after_six_attempts_the_last_failure_is_told(client, failure, caplog):
    caplog.set_level(logging.WARNING)
    client.outcomes = [failure] * 10
    with pytest.raises(SourceError) as caught:
        client.repository().download(FILE)
    brief = str(failure).partition("\n")[0]
    assert str(caught.value) == (
        f"o/n/data/x.bin could not be downloaded in 6 attempts; the last failure: {brief}\n"
        "Check the connection and run the command again: what is complete is kept."
    )
    assert caught.value.__cause__ is failure
    assert len(client.asked) == 6
    assert client.waits == [2.0, 4.0, 8.0, 16.0, 32.0]
    told = [record.getMessage() for record in caplog.records if record.name == "mteb_vehicle_search.remote.patience"]
    assert told == [
        f"o/n/data/x.bin: {brief}; attempt {attempt} of 6 in {wait} s"
        for attempt, wait in zip(range(2, 7), (2, 4, 8, 16, 32))
    ]


def test_a_failure_without_words_is_named_by_its_kind(client):
    client.outcomes = [TimeoutError()] * 6
    assert "; the last failure: TimeoutError\n" in client.refused()


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("asked", "wait"),
    [("0", 0.0), ("7", 7.0), ("300", 300.0), ("301", 300.0), ("", 2.0), ("Wed, 21 Oct 2026 07:28:00 GMT", 2.0)],
)
def test_the_server_says_how_long_to_wait_up_to_five_minutes(client, sound, status, asked, wait):
    client.outcomes = [http_error(status, {"Retry-After": asked}), str(sound)]
    client.repository().download(FILE)
    assert client.waits == [wait]


def test_a_wait_is_not_taken_from_an_earlier_answer(client, sound):
    client.outcomes = [http_error(429, {"Retry-After": "7"}), http_error(503), ConnectionResetError("x"), str(sound)]
    client.repository().download(FILE)
    assert client.waits == [7.0, 4.0, 8.0]


@pytest.mark.parametrize("status", [400, 404, 428, 430, 499])
def test_what_will_not_pass_is_told_at_once(client, status):
    client.outcomes = [http_error(status)]
    said = f"the hub does not give o/n/data/x.bin: HTTP {status}\nSee https://huggingface.co/datasets/o/n"
    assert client.refused() == said
    assert client.waits == []


def test_a_failure_without_an_answer(client):
    failure = http_error(500)
    failure.response = None
    client.outcomes = [failure]
    assert client.refused().startswith("the hub does not give o/n/data/x.bin: HTTP 0\n")


GATES = {
    "a login is needed": (http_error(401), 401),
    "it is forbidden": (http_error(403), 403),
    "no such repository": (http_error(401, kind=errors.RepositoryNotFoundError), 401),
    "a gate": (http_error(403, kind=errors.GatedRepoError), 403),
    "a gate of another status": (http_error(404, kind=errors.GatedRepoError), 404),
    "a gate before an absent file": (not_found_because(http_error(401, kind=errors.GatedRepoError)), 403),
}


@pytest.mark.parametrize(("failure", "status"), GATES.values(), ids=GATES)
@pytest.mark.parametrize("gated", [False, True])
def test_a_refusal_says_what_to_do_and_is_not_tried_again(client, failure, status, gated):
    client.outcomes = [failure]
    words = (
        "this dataset is given only to people who accepted its terms\n1. Log in at "
        "https://huggingface.co/datasets/o/n and accept the terms.\n2. Run: hf auth login"
    )
    if not gated:
        words = (
            "it does not exist or needs a login\nLook at https://huggingface.co/datasets/o/n, then run: hf auth login"
        )
    assert client.refused(gated=gated) == f"the hub refuses o/n/data/x.bin (HTTP {status}): {words}"
    assert client.waits == []


def test_without_the_network_a_local_copy_is_asked_for(client):
    client.outcomes = [errors.OfflineModeIsEnabled("offline")]
    assert client.refused() == (
        "o/n/data/x.bin is needed from the hub, but the environment says HF_HUB_OFFLINE\n"
        "Unset HF_HUB_OFFLINE, or name a local copy."
    )
    assert client.waits == []


def test_a_full_disk_is_told_at_once(client):
    client.outcomes = [OSError(errno.ENOSPC, "No space left on device")]
    assert client.refused() == (
        "the disk is full: o/n/data/x.bin does not fit\nMake room and run the command again; it goes on."
    )
    assert client.waits == []


def test_our_own_errors_and_those_of_the_program_pass(client):
    own = SourceError("moved", "Look.")
    client.outcomes = [own]
    with pytest.raises(SourceError) as caught:
        client.repository().download(FILE)
    assert caught.value is own
    client.outcomes = [KeyError("a mistake")]
    with pytest.raises(KeyError):
        client.repository().download(FILE)
    assert client.waits == []


class Download:
    """Puts files into a folder as the hub's cache does: a link to a blob, beside other blobs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.blob, self.link, self.other = folder / "blobs" / "1", folder / "snapshots" / "x", folder / "blobs" / "2"
        for path in (self.blob, self.link, self.other):
            path.parent.mkdir(parents=True, exist_ok=True)
        self.other.write_bytes(b"of another file")

    def of(self, content: bytes) -> Any:
        def download() -> str:
            if not self.blob.exists():  # As the client does: what is there is not downloaded again.
                self.blob.write_bytes(content)
            if not self.link.is_symlink():
                self.link.symlink_to(self.blob)
            return str(self.link)

        return download


LARGE = bytes(range(256)) * 5000  # More than a block of the digest.
SHA256 = hashlib.sha256(LARGE).hexdigest()
HASHES = {
    "the last byte": (LARGE[:-1] + b"x", f"sha256 {{}} instead of {SHA256}"),
    "the first byte": (b"x" + LARGE[1:], f"sha256 {{}} instead of {SHA256}"),
    "one byte less": (LARGE[:-1], "1,279,999 bytes instead of 1,280,000"),
    "one byte more": (LARGE + b"x", "1,280,001 bytes instead of 1,280,000"),
    "nothing": (b"", "0 bytes instead of 1,280,000"),
}


@pytest.mark.parametrize(("content", "says"), HASHES.values(), ids=HASHES)
def test_a_damaged_file_is_deleted_and_downloaded_once_more(client, tmp_path, content, says):
    cache = Download(tmp_path)
    expected = HubFile("x", len(LARGE), SHA256)
    client.outcomes = [cache.of(content), cache.of(LARGE)]
    assert client.repository().download(expected) == cache.link
    assert cache.link.read_bytes() == LARGE
    cache.blob.unlink()
    client.outcomes = [cache.of(content), cache.of(content), cache.of(LARGE)]
    with pytest.raises(SourceError) as caught:
        client.repository().download(expected)
    problem = says.format(hashlib.sha256(content).hexdigest())
    assert str(caught.value) == f"o/n/x is damaged: {problem}\nRun the command again to download it anew."
    assert len(client.outcomes) == 1
    left = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_symlink() or path.is_file()]
    assert left == [Path("blobs/2")]
    assert client.waits == []


@pytest.mark.parametrize(("size", "sha256"), [(len(LARGE), SHA256), (-1, SHA256), (len(LARGE), ""), (-1, "")], ids=str)
def test_a_sound_file_is_accepted_as_far_as_it_is_known(client, tmp_path, size, sha256):
    cache = Download(tmp_path)
    client.outcomes = [cache.of(LARGE)]
    assert client.repository().download(HubFile("x", size, sha256)) == cache.link
    assert client.outcomes == []


def test_an_empty_file_may_be_expected(client, tmp_path):
    cache = Download(tmp_path)
    client.outcomes = [cache.of(b"x"), cache.of(b"")]
    assert client.repository().download(HubFile("x", 0, "")).read_bytes() == b""


def test_a_damaged_file_in_a_folder_of_ones_own_is_deleted(client, tmp_path):
    (tmp_path / "x").write_bytes(b"bad")
    client.outcomes = [str(tmp_path / "x"), lambda: (tmp_path / "x").write_bytes(b"bad") and str(tmp_path / "x")]
    with pytest.raises(SourceError, match="o/n/x is damaged: 3 bytes instead of 5"):
        client.repository().download(HubFile("x", 5, ""), tmp_path)
    assert not (tmp_path / "x").exists()


def test_files_are_listed_with_sizes_and_hashes_by_path(client):
    lfs = {"size": 9, "oid": "d" * 64, "pointerSize": 1}
    client.tree = [
        RepoFile(path="data/b.parquet", size=9, oid="1", lfs=lfs),
        RepoFolder(path="data", oid="2"),
        RepoFile(path="data/a.txt", size=3, oid="3"),
    ]
    found = client.repository(kind="model").files("data")
    assert found == [HubFile("data/a.txt", 3, ""), HubFile("data/b.parquet", 9, "d" * 64)]
    assert client.asked == [("o/n", "data", {"recursive": True, "revision": PIN, "repo_type": "model"})]
    client.asked.clear()
    client.repository().files()
    assert client.asked == [("o/n", None, {"recursive": True, "revision": PIN, "repo_type": "dataset"})]


def test_a_list_that_cannot_be_had_is_named(client, monkeypatch):
    monkeypatch.setattr(client, "tree", None)
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_tree", lambda *a, **k: (_ for _ in ()).throw(http_error(404)))
    with pytest.raises(SourceError, match="the hub does not give the list of files of o/n: HTTP 404"):
        client.repository().files()


@pytest.mark.parametrize(("held", "found"), [("/cache/x", Path("/cache/x")), (None, None), (object(), None)])
def test_the_cache_is_looked_into_at_the_pin(client, held, found):
    """The client answers with an object of its own for a file that is known not to exist."""
    client.held = held
    assert client.repository(kind="model").cached("data/x.bin") == found
    assert client.asked == [("o/n", "data/x.bin", {"revision": PIN, "repo_type": "model"})]


def test_a_branch_is_never_taken_from_the_cache(client):
    client.held = "/cache/x"
    assert client.repository("main").cached("data/x.bin") is None
    assert client.asked == []


@pytest.mark.parametrize("revision", ["main", "a" * 39, "a" * 41, "A" * 40, "g" * 40, ("a" * 40) + "\n"])
def test_only_a_full_hash_needs_no_look_up(client, revision):
    assert client.repository().commit() == PIN
    assert client.asked == []
    assert client.repository(revision, kind="model").commit() == "c" * 40
    assert client.asked == [("o/n", {"revision": revision, "repo_type": "model"})]


def test_a_branch_is_looked_up_once(client):
    for _ in range(2):
        assert client.repository("main").commit() == "c" * 40
    assert len(client.asked) == 1


def test_a_branch_that_cannot_be_looked_up_is_named(client, monkeypatch):
    monkeypatch.setattr(huggingface_hub.HfApi, "repo_info", lambda *a, **k: (_ for _ in ()).throw(http_error(404)))
    with pytest.raises(SourceError, match="the hub does not give the revision main of o/n: HTTP 404"):
        client.repository("main").commit()


@pytest.fixture
def server():
    running = HubServer()
    running.repos["o/big"] = {"data/big.bin": BIG}
    yield running
    running.close()


def serve(server, repo, folder):
    server.repos[repo] = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def download(server, tmp_path, gated=False, token=""):
    code = DOWNLOAD.format(folder=str(tmp_path / "files"), gated=gated)
    result = server.run(code, tmp_path / "home", token)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_pins_are_full_hashes():
    assert flickr30k_source.REPOSITORY.commit().startswith("2b239be")
    assert len(flickr30k_source.REPOSITORY.commit()) == len(imagenet_source.REPOSITORY.commit()) == 40


def test_a_file_follows_the_redirect(server, tmp_path):
    assert download(server, tmp_path) == f"{len(BIG)} []"
    assert (tmp_path / "files" / "data" / "big.bin").read_bytes() == BIG


def test_a_dropped_connection_goes_on_where_it_stopped(server, tmp_path):
    server.faults = ["drop"]
    assert download(server, tmp_path).startswith(f"{len(BIG)} ")
    assert (tmp_path / "files" / "data" / "big.bin").read_bytes() == BIG
    ranges = [r for method, path, r in server.log if method == "GET" and path.startswith("/cdn/")]
    assert len(ranges) == 2
    assert ranges[0] == ""
    assert ranges[1].startswith("bytes=")
    assert 0 < int(ranges[1][6:].rstrip("-")) <= len(BIG) // 2


def test_429_and_503_are_retried(server, tmp_path):
    server.faults = ["429", "503", "503"]
    printed = download(server, tmp_path)
    assert printed.startswith(f"{len(BIG)} ")
    assert (tmp_path / "files" / "data" / "big.bin").read_bytes() == BIG
    assert server.faults == []


def test_endless_failure_ends_with_an_explanation(server, tmp_path):
    server.faults = ["503"] * 200
    printed = download(server, tmp_path)
    assert printed.startswith("o/big/data/big.bin could not be downloaded in 6 attempts; the last failure:")
    assert printed.endswith("[2.0, 4.0, 8.0, 16.0, 32.0]")
    assert "run the command again" in printed


def test_damaged_bytes_are_downloaded_again(server, tmp_path):
    server.faults = ["damage"]
    assert download(server, tmp_path) == f"{len(BIG)} []"
    assert (tmp_path / "files" / "data" / "big.bin").read_bytes() == BIG
    assert server.downloads()["/cdn/o/big/data/big.bin"] == 2


def test_bytes_that_stay_damaged_are_refused(server, tmp_path):
    server.faults = ["damage"] * 2
    printed = download(server, tmp_path)
    assert printed.startswith("o/big/data/big.bin is damaged: sha256 ")
    assert not (tmp_path / "files" / "data" / "big.bin").exists()


@pytest.mark.parametrize(("token", "status"), [("", 401), ("bad", 403)])
def test_a_gated_refusal_explains_the_two_steps(server, tmp_path, token, status):
    server.gated.add("o/big")
    printed = download(server, tmp_path, gated=True, token=token)
    assert printed == (
        f"the hub refuses the list of files of o/big (HTTP {status}): this dataset is given only to people who "
        "accepted its terms\n1. Log in at https://huggingface.co/datasets/o/big and accept the terms.\n"
        "2. Run: hf auth login []"
    )
    assert download(server, tmp_path, gated=True, token=ACCEPTED) == f"{len(BIG)} []"


def test_the_server_says_at_which_commit_a_branch_is(server, tmp_path):
    server.branches["o/big", "main"] = "f" * 40
    code = 'from data_prep.hub import HubRepository; print(HubRepository("o/big", "main").commit())'
    assert server.run(code, tmp_path).stdout.strip() == "f" * 40


FLICKR_CODE = """
import hashlib, json
from data_prep.sources.flickr30k import open_flickr30k
source = open_flickr30k()
before = source.travels_bytes()
images = list(source.images())
print(json.dumps([before, source.describe(), source.count(),
    [[i.id, hashlib.sha256(i.data).hexdigest(), list(i.captions), i.split] for i in images]]))
"""


@pytest.mark.parametrize("form", ["zip", "parquet"])
def test_flickr30k_from_the_hub(server, tmp_path, form):
    folder = tmp_path / "twin"
    write_flickr30k(folder / "TEST" / "test" if form == "parquet" else folder, form)
    serve(server, FLICKR, folder)
    server.branches[FLICKR, "refs/convert/parquet"] = CONVERTED
    server.faults = ["drop", "429"]
    result = server.run(FLICKR_CODE, tmp_path / "home")
    assert result.returncode == 0, result.stderr
    before, described, count, images = json.loads(result.stdout)
    assert before == 4_390_000_000
    assert described["revision"] == (flickr30k_source.REPOSITORY.revision if form == "zip" else CONVERTED)
    assert count == 40
    assert images == [
        [f"flickr30k/{f.filename[:-4]}", hashlib.sha256(f.data).hexdigest(), list(f.captions), f.split]
        for f in captioned_files()
    ]


SELECTED_CODE = """
import json
from data_prep.sources.flickr30k import open_flickr30k
source = open_flickr30k()
images = list(source.images(only={only!r}))
told = [source._opened.travels_bytes({only!r}), sorted(i.id for i in images), sum(len(i.data) for i in images)]
print(json.dumps(told))
"""


def test_of_the_hubs_zip_only_the_selected_images_travel(server, tmp_path):
    serve(server, FLICKR, write_flickr30k(tmp_path / "twin", "zip"))
    wanted = [f"flickr30k/{file.filename[:-4]}" for file in captioned_files()[10:13]]
    result = server.run(SELECTED_CODE.format(only=wanted), tmp_path / "home")
    assert result.returncode == 0, result.stderr
    travels, ids, size = json.loads(result.stdout)
    assert ids == sorted(wanted)
    whole = (tmp_path / "twin" / "flickr30k-images.zip").stat().st_size
    asked = [re.fullmatch(r"bytes=(\d+)-(\d+)", at) for how, path, at in server.log if how == "GET" and "/cdn/" in path]
    ranges = [int(match[2]) - int(match[1]) + 1 for match in asked if match]
    # The images as they are packed; the list of the zip's members, and its end.
    assert 0.9 * size < travels < 1.2 * size + 3 * 200
    assert sum(ranges) < travels + 80 * 200 + 70_000 < whole


IMAGENET_CODE = """
import json, time
from pathlib import Path
from data_prep.sources.imagenet import open_imagenet
folder = Path({folder!r})
source = open_imagenet("hub", download_folder=folder)
wanted = set({wanted!r})
parts, found, most = source.shards(wanted), [], 0
for number, part in enumerate(parts):
    source.prefetch(part)
    if number + 1 < len(parts):
        source.prefetch(parts[number + 1])
    found += [image.id for image in source.images(part, wanted)]
    source.release(part)
    most = max(most, len(list(folder.rglob("*.parquet"))))
print(json.dumps([sorted(found), most, [str(p) for p in folder.rglob("*.parquet")], source.describe(),
    [part.fingerprint() for part in parts] == [part.fingerprint() for part in source.shards()]]))
"""


def test_imagenet_from_the_hub_shard_by_shard(server, tmp_path):
    killed = tmp_path / "work" / ".cache" / "huggingface" / "download" / "what-a-killed-process-left.incomplete"
    killed.parent.mkdir(parents=True)
    killed.write_bytes(b"half a shard")
    write_imagenet(tmp_path / "twin", "shards")
    serve(server, IMAGENET, tmp_path / "twin")
    server.repos[IMAGENET]["data/test-00000-of-00028.parquet"] = b"not needed"
    server.gated.add(IMAGENET)
    server.faults = ["drop", "", "503"]
    code = IMAGENET_CODE.format(folder=str(tmp_path / "work"), wanted=list(VEHICLES))
    result = server.run(code, tmp_path / "home", token=ACCEPTED)
    assert result.returncode == 0, result.stderr
    found, most, left, described, same = json.loads(result.stdout)
    expected = sorted(f"imagenet/{f.split}/{f.stem}" for f in classed_files() if f.class_index in VEHICLES)
    assert found == expected
    assert most <= 1
    assert left == []
    assert not killed.exists()
    assert same
    assert described["revision"] == imagenet_source.REPOSITORY.revision
    assert not any("test-" in path for path in server.downloads())


def test_a_gate_before_imagenet_is_explained(server, tmp_path):
    server.repos[IMAGENET] = {}
    server.gated.add(IMAGENET)
    code = """
from data_prep.sources.imagenet import open_imagenet
try:
    open_imagenet().shards()
except Exception as error:
    print(error)
"""
    assert server.run(code, tmp_path).stdout.endswith(
        "1. Log in at https://huggingface.co/datasets/ILSVRC/imagenet-1k and accept the terms.\n2. Run: hf auth login\n"
    )
