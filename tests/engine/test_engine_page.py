"""The commands of the engine's README, tried on clusters of this machine."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="two nodes on one machine are not for Windows"),
]
ray = pytest.importorskip("ray")

PAGE = Path(__file__).parents[2] / "mteb_vehicle_search" / "engine" / "README.md"
SHOWN = [
    line.partition("  #")[0].strip()
    for block in re.findall(r"^```\n(.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    for line in block.splitlines()
]
# The published set is not here, nor a model of somebody's.
STAND_INS = {"-t VehicleImageSearch ": "-t VehicleImageSearchMini ", "-m MODEL": "-m vehicle-search/tiny-clip"}
TABLE = r"vehicle-search/tiny-clip\n(?s:.*)nDCG@10(?s:.*)0\.5996"


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "VEHICLE_SEARCH_"))}
    # Ray leaves a token there, which a cluster that is started later wants to see.
    folders = {
        "HOME": str(tmp_path),
        "VEHICLE_SEARCH_HOME": str(tmp_path / "home"),
        "MTEB_CACHE": str(tmp_path / "cache"),
    }
    path = os.pathsep.join([str(Path(sys.executable).parent), kept["PATH"]])
    return {**kept, **folders, "PATH": path, "RAY_USAGE_STATS_ENABLED": "0", "HF_HUB_OFFLINE": "1"}


def run(command: str, environ: dict[str, str], folder: Path) -> str:
    """Run a line of the page as a shell does; returns what it says."""
    done = subprocess.run(_here(command), shell=True, env=environ, cwd=folder, capture_output=True, text=True)  # noqa: S602
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextmanager
def node(command: str, environ: dict[str, str]) -> Iterator[None]:
    """Have a node of a cluster as long as the block."""
    words = [*command.split(), "--block", "--disable-usage-stats"]
    with subprocess.Popen(words, env=environ, stdout=subprocess.DEVNULL, start_new_session=True) as started:
        try:
            yield
        finally:
            its = psutil.Process(started.pid).children(recursive=True)
            started.send_signal(signal.SIGTERM)
            for process in psutil.wait_procs(its, timeout=20)[1]:
                process.kill()


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def test_the_page_shows_these_commands() -> None:
    programs = [re.sub(r"^(VEHICLE_SEARCH_\w+=\w+ )*", "", line).split()[0] for line in SHOWN]
    wanted = [
        "pip",
        *["vehicle-search"] * 3,
        "ray",
        "ray",
        "export",
        "vehicle-search",
        "mteb",
        "ray",
        "vehicle-search",
        "vehicle-search-data",
    ]
    assert programs == wanted


def test_the_commands_for_one_machine(environ: dict[str, str], tmp_path: Path) -> None:
    dry, first, on_gpus = SHOWN[1:4]
    assert re.match(
        r"Ray .* started on this machine: 1 node, 2 processors, .*room for 2 workers", run(dry, environ, tmp_path)
    )
    assert re.search(TABLE, run(first, environ, tmp_path))
    assert re.search(TABLE, run(f"{on_gpus} --overwrite-strategy always", environ, tmp_path))


def test_the_commands_for_a_cluster(environ: dict[str, str], tmp_path: Path) -> None:
    head, other, export, dry, stock, job, streamed, build = SHOWN[4:]
    port, dashboard = free_port(), free_port()
    address = f"{ray.util.get_node_ip_address()}:{port}"
    has_dashboard = find_spec("aiohttp_cors") is not None
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    head = f"{head.replace('6379', str(port))} --num-cpus=0 --temp-dir={folder}"
    head += f" --include-dashboard={str(has_dashboard).lower()} --dashboard-port={dashboard}"
    other = f"{other.replace('FIRST_MACHINE:6379', address)} --num-cpus=2"
    environ["RAY_ADDRESS"] = export.partition("=")[2].replace("FIRST_MACHINE:6379", address)
    try:
        with node(head, environ):
            wait_for(address, environ, "0 processors")
            with node(other, environ):
                wait_for(address, environ, "2 processors")
                assert re.match(r"Ray .* 2 nodes, 2 processors", run(dry, environ, tmp_path))
                assert re.search(TABLE, run(stock, environ, tmp_path))
                again = "--overwrite-strategy always"
                assert re.search(TABLE, run(f"{streamed} {again}", environ, tmp_path))
                assert "Content id 06954f03" in run(build, environ, tmp_path)
                if has_dashboard:
                    job = job.replace("FIRST_MACHINE:8265", f"127.0.0.1:{dashboard}")
                    assert re.search(TABLE, run(f"{job} {again}", environ, tmp_path))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _here(command: str) -> str:
    for shown, here in STAND_INS.items():
        command = command.replace(shown, here)
    return command


def wait_for(address: str, environ: dict[str, str], what: str) -> None:
    """Wait until a cluster has that, a minute at most."""
    script = (
        "from mteb_vehicle_search.engine.ray import RayEngine\nwith RayEngine() as engine: print(engine.describe())"
    )
    deadline, said = time.monotonic() + 60, ""
    while what not in said:
        assert time.monotonic() < deadline, said
        done = subprocess.run([sys.executable, "-c", script], env=environ, capture_output=True, text=True)
        said = done.stdout + done.stderr
