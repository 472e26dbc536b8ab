"""The real hub client against a server that behaves like the hub, also when it behaves badly."""

from __future__ import annotations

import json

import pytest
from format_twins import VEHICLES, captioned_files, classed_files, write_flickr30k, write_imagenet
from hub_server import HubServer

from data_prep import hub

FLICKR, IMAGENET = hub.FLICKR30K.repo, hub.IMAGENET.repo
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
    assert hub.FLICKR30K.commit().startswith("2b239be")
    assert len(hub.FLICKR30K.commit()) == len(hub.IMAGENET.commit()) == 40


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


@pytest.mark.parametrize(("commit", "ok"), [("0d6d904" + "0" * 33, True), ("f" * 40, False)])
def test_a_branch_is_accepted_only_at_the_known_commit(server, tmp_path, commit, ok):
    server.branches["o/big", "main"] = commit
    code = """
from data_prep.hub import HubRepository
try:
    print(HubRepository("o/big", "main", expected_prefix="0d6d904").commit())
except Exception as error:
    print(error)
"""
    printed = server.run(code, tmp_path).stdout
    assert printed.strip() == commit if ok else f"is now {commit}, expected a commit beginning 0d6d904" in printed


FLICKR_CODE = """
import hashlib, json
from data_prep.sources import open_flickr30k
source = open_flickr30k()
before = source.download_gb
images = list(source.images())
print(json.dumps([before, source.download_gb, source.describe(), source.count(),
    [[i.id, hashlib.sha256(i.data).hexdigest(), list(i.captions), i.split] for i in images]]))
"""


@pytest.mark.parametrize("form", ["zip", "parquet"])
def test_flickr30k_from_the_hub(server, tmp_path, form):
    import hashlib

    folder = tmp_path / "twin"
    write_flickr30k(folder / "TEST" / "test" if form == "parquet" else folder, form)
    serve(server, FLICKR, folder)
    server.branches[FLICKR, "refs/convert/parquet"] = CONVERTED
    server.faults = ["drop", "429"]
    result = server.run(FLICKR_CODE, tmp_path / "home")
    assert result.returncode == 0, result.stderr
    before, after, described, count, images = json.loads(result.stdout)
    assert before == pytest.approx(4.39)
    assert after == 0
    assert described["revision"] == (hub.FLICKR30K.revision if form == "zip" else CONVERTED)
    assert count == 40
    assert images == [
        [f"flickr30k/{f.filename[:-4]}", hashlib.sha256(f.data).hexdigest(), list(f.captions), f.split]
        for f in captioned_files()
    ]


IMAGENET_CODE = """
import json, time
from pathlib import Path
from data_prep.sources import open_imagenet
folder = Path({folder!r})
source = open_imagenet(None, download_folder=folder)
wanted = set({wanted!r})
parts, found, most = source.parts(wanted), [], 0
for number, part in enumerate(parts):
    source.prefetch(part)
    if number + 1 < len(parts):
        source.prefetch(parts[number + 1])
    found += [image.id for image in source.images(part, wanted)]
    source.release(part)
    most = max(most, len(list(folder.rglob("*.parquet"))))
print(json.dumps([sorted(found), most, [str(p) for p in folder.rglob("*.parquet")], source.describe(),
    [part.fingerprint() for part in parts] == [part.fingerprint() for part in source.parts()]]))
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
    assert described["revision"] == hub.IMAGENET.revision
    assert not any("test-" in path for path in server.downloads())


def test_a_gate_before_imagenet_is_explained(server, tmp_path):
    server.repos[IMAGENET] = {}
    server.gated.add(IMAGENET)
    code = """
from data_prep.sources import open_imagenet
try:
    open_imagenet().parts()
except Exception as error:
    print(error)
"""
    assert server.run(code, tmp_path).stdout.endswith(
        "1. Log in at https://huggingface.co/datasets/ILSVRC/imagenet-1k and accept the terms.\n2. Run: hf auth login\n"
    )
