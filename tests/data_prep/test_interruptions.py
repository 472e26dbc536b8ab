"""Killed, out of disk, cut off from the hub: the next run finishes, and the bytes are the same."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import format_twins
import interrupted
import pytest
from hub_server import HubServer
from small_sources import without_warnings

from data_prep import cli
from data_prep.sources.flickr30k import source as flickr30k_source
from data_prep.sources.imagenet import source as imagenet_source
from mteb_vehicle_search.eval_set import EvalSet

ACCEPTED = "good"  # The only token that the server takes.
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks, so that ten builds import their libraries once")


def digest(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Twins in the forms that the hub has, a classifier and presets with and without it."""
    folder = tmp_path_factory.mktemp("data")
    format_twins.write_all_as_the_hub_has_them(folder)
    names = [file.filename for file in format_twins.captioned_files()]
    (folder / "list.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    return folder


def arguments(data: Path, *more: object, hub: bool = False) -> list[str]:
    sources = [] if hub else ["--flickr30k", data / "flickr30k", "--imagenet", data / "imagenet"]
    return [
        *map(str, ["build", "--preset", data / "twins.toml", *sources, "--workers", 1, "--device", "cpu", "--quiet"]),
        *map(str, more),
    ]


@pytest.fixture(scope="module")
def classified(data, tmp_path_factory):
    """Files of an uninterrupted build."""
    out = tmp_path_factory.mktemp("classified") / "out"
    assert cli.main(arguments(data, "--out", out)) == 0
    return digest(out)


@pytest.fixture(scope="module")
def listed(data, tmp_path_factory):
    """Files of an uninterrupted build with a list instead of the classifier."""
    out = tmp_path_factory.mktemp("listed") / "out"
    assert cli.main(arguments(data, "--selection", data / "list.txt", "--out", out)) == 0
    return digest(out)


@pytest.fixture
def server(data):
    """The twins on the hub; ImageNet behind its gate."""
    running = HubServer()
    for repo, name in ((flickr30k_source.REPOSITORY.repo, "flickr30k"), (imagenet_source.REPOSITORY.repo, "imagenet")):
        files = [path for path in (data / name).rglob("*") if path.is_file()]
        running.repos[repo] = {str(path.relative_to(data / name)): path.read_bytes() for path in files}
    running.gated.add(imagenet_source.REPOSITORY.repo)
    yield running
    running.close()


@pytest.mark.parametrize("full", [False, True], ids=["killed", "disk full"])
def test_interrupted_at_ten_moments_a_build_gives_the_same_bytes(data, classified, tmp_path, monkeypatch, full):
    """Each time SIGKILL, or a full disk, meets a random one of the writes, renames and deletions that a build makes."""
    monkeypatch.setattr("data_prep.stages.chunks.CHUNK", 8)
    runs = interrupted.runs(arguments(data), tmp_path, seed=20, full=full)
    assert digest(tmp_path / "trial") == classified
    if full:
        stopped = [run for run in runs if run.status == 1]
        assert all("the disk is full" in run.error and "Traceback" not in run.error for run in stopped)
    else:
        stopped = [run for run in runs if run.status == -signal.SIGKILL]
    assert len(stopped) == 10
    assert {run.status for run in runs} <= {0, 1 if full else -signal.SIGKILL}
    assert cli.main(arguments(data, "--out", tmp_path / "out")) == 0
    assert digest(tmp_path / "out") == classified


@pytest.mark.slow
@pytest.mark.parametrize("full", [False, True], ids=["killed", "disk full"])
def test_interrupted_at_ten_moments_a_download_gives_the_same_bytes(data, listed, server, tmp_path, full):
    """The same with both sources on the hub, where connections drop as well."""
    rng = random.Random(11)
    server.faults = [rng.choice(["", "", "", "drop", "429", "503"]) for _ in range(60)]
    command = arguments(data, "--selection", data / "list.txt", hub=True)
    given = {"arguments": command, "folder": str(tmp_path), "seed": 30, "full": full}
    code = f"import runpy, sys; sys.argv = ['', {json.dumps(given)!r}]; "
    code += f"runpy.run_path({interrupted.__file__!r}, run_name='__main__')"
    done = server.run(code, tmp_path / "home", token=ACCEPTED)
    assert done.returncode == 0, done.stderr[-3000:]
    runs = [interrupted.Run(*run) for run in json.loads(done.stdout)]
    wanted = 1 if full else -signal.SIGKILL
    assert sum(run.status == wanted for run in runs) == 10
    assert {run.status for run in runs} <= {0, wanted}
    assert not full or all("the disk is full" in run.error for run in runs if run.status)
    code = WITHOUT_WAITING.format([*command, "--out", str(tmp_path / "out")])
    done = server.run(code, tmp_path / "home", token=ACCEPTED)
    assert done.returncode == 0, done.stderr[-3000:]
    assert digest(tmp_path / "out") == digest(tmp_path / "trial") == listed
    assert not list((tmp_path / "out.build").rglob("*.parquet"))


WITHOUT_WAITING = """
import time
sleep = time.sleep
time.sleep = lambda seconds: sleep(min(seconds, 0.01))
from data_prep import cli
raise SystemExit(cli.main({!r}))
"""


def test_a_connection_lost_within_a_shard(data, listed, server, tmp_path):
    """It stays away until the build gives up; the next run repeats nothing that had arrived."""
    command = arguments(data, "--selection", data / "list.txt", "--out", tmp_path / "out", hub=True)
    command += ["--flickr30k", str(data / "flickr30k")]
    server.faults = ["", "drop", *["503"] * 300]  # A shard arrives, half of the next one does.
    done = server.run(WITHOUT_WAITING.format(command), tmp_path / "home", token=ACCEPTED)
    assert done.returncode == 1
    lost = "ILSVRC/imagenet-1k/data/train-00001-of-00003.parquet"
    shown = done.stderr.splitlines()
    told = shown.index("Check the connection and run the command again: what is complete is kept.")
    assert shown[told - 1].startswith(f"error: {lost} could not be downloaded in 6 attempts; the last failure: ")
    assert not (tmp_path / "out").exists()
    server.faults, before = [], len(server.log)
    done = server.run(WITHOUT_WAITING.format(command), tmp_path / "home", token=ACCEPTED)
    assert done.returncode == 0, done.stderr
    assert digest(tmp_path / "out") == listed
    asked = {path for method, path, _ in server.log[before:] if method == "GET" and path.startswith("/cdn/")}
    names = ("train-00001-of-00003", "train-00002-of-00003", "validation-00000-of-00002", "validation-00001-of-00002")
    assert asked == {f"/cdn/ILSVRC/imagenet-1k/data/{name}.parquet" for name in names}


def test_killed_at_random_times_a_process_goes_on(data, listed, tmp_path):
    """The command as a user runs it, killed by the clock; with a list, since importing torch would take most of it."""
    command = [sys.executable, "-m", "data_prep"]
    command += arguments(data, "--selection", data / "list.txt", "--out", tmp_path / "out")
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    rng = random.Random(3)
    for _ in range(3):
        with subprocess.Popen(command, **silent) as process:
            limit = time.monotonic() + 20
            lock = tmp_path / "out.build" / "lock"
            while not lock.exists() and time.monotonic() < limit:
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 0.8))
            process.kill()
    assert subprocess.run(command, timeout=120, check=False, **silent).returncode == 0
    assert digest(tmp_path / "out") == listed


HELD = """
import sys
from data_prep import build, cli

find_duplicates = build.find_duplicates

def wait(*given):
    print("held", flush=True)
    sys.stdin.readline()
    return find_duplicates(*given)

build.find_duplicates = wait
raise SystemExit(cli.main({!r}))
"""


def test_two_builds_at_once(data, listed, tmp_path, capsys):
    """One is held in the middle of its work; the second is told and changes nothing; the first finishes."""
    command = arguments(data, "--selection", data / "list.txt", "--out", tmp_path / "out")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", HELD.format(command)], text=True, **pipes) as first:
        assert first.stdout.readline() == "held\n"
        before = digest(tmp_path / "out.build")
        capsys.readouterr()
        assert cli.main(command) == 1
        told = capsys.readouterr().err
        told = without_warnings(told)
        assert told.startswith(f"error: Another build is working on {tmp_path / 'out.build'} (process {first.pid} on ")
        assert "\nWait for it to finish, or give --out another folder. " in told
        assert digest(tmp_path / "out.build") == before
        assert not (tmp_path / "out").exists()
        _, error = first.communicate("go on\n", timeout=300)
    assert (first.returncode, without_warnings(error)) == (0, "")
    assert digest(tmp_path / "out") == listed
    assert EvalSet.open(tmp_path / "out").rejected().num_rows == 0
