"""The engine of many machines: its workers are actors of a Ray cluster. The only module that knows Ray.

`RAY_ADDRESS` says which cluster; without it, one is started on this machine, and stopped at the end.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.cloudpickle import dumps  # type: ignore[attr-defined]
from ray.exceptions import RayError, RayTaskError

from mteb_vehicle_search import settings
from mteb_vehicle_search.engine import Engine, Listener, Result, Shared, Unit, Value, Worker
from mteb_vehicle_search.engine.crew import AHEAD, Crew, Limits, LostError, Member
from mteb_vehicle_search.engine.seat import Seat
from mteb_vehicle_search.engine.units import Units
from mteb_vehicle_search.errors import EngineError

# What the driver has set goes with the work; a login does not, as every machine has its own.
CARRIED = ("VEHICLE_SEARCH_", "HF_", "MTEB_", "TOKENIZERS_")
LOGIN = "HF_TOKEN"
NO_GPU = {"CUDA_VISIBLE_DEVICES": ""}
# Of a cluster on this machine: results are fetched as they come, so few lie there.
OBJECT_STORE_BYTES = 1_000_000_000
# The names of sockets have 107 bytes at most, of which Ray's own part may take 69.
LONGEST_FOLDER = 38
ANSWERS_WITHIN_S = 10.0
# So much goes with a call (Ray's max_direct_call_object_size). What is fetched from a machine that is gone, which Ray
# may take for the nearest, is asked of another after 10 s only.
IN_CALL_BYTES = 100_000 - 10_000
# A cluster that is started by hand wants it from whoever connects, if it is there.
_TOKEN = Path.home() / ".ray" / "auth_token"
# What Ray says of an end -> what it means.
MACHINE = {"its node has died": "its machine was lost", "is temporarily unavailable": "the connection to it was lost"}
PROCESS = {"error code 2. End of file": "its process ended; out of memory, or a crash"}


class RayEngine(Engine):
    """Does units on the actors of a Ray cluster: each takes one GPU if there are GPUs, else processors.

    Environment: `RAY_ADDRESS`; `VEHICLE_SEARCH_WORKER_CPUS`, `..._UNIT_TIMEOUT_S`, `..._NODE_TIMEOUT_S`; of
    `VEHICLE_SEARCH_DEVICE` only whether it is a GPU. Where this process uses Ray already, its cluster is taken, and
    left as it is.

    Raises:
        SettingsError: A variable is no number above 0.
    """

    name = "ray"

    def __init__(self) -> None:
        number = settings.number
        self._limits = Limits(
            number("VEHICLE_SEARCH_UNIT_TIMEOUT_S", 1800), number("VEHICLE_SEARCH_NODE_TIMEOUT_S", 1800)
        )
        number("VEHICLE_SEARCH_WORKER_CPUS", 1)
        self._cluster: _Cluster | None = None
        self._kept: tuple[Any, tuple[Any, ...], list[Member]] | None = None

    def __enter__(self) -> RayEngine:
        self._cluster = _Cluster()
        return self

    def __exit__(self, *error: object) -> None:
        cluster, self._cluster, self._kept = self._cluster, None, None
        if cluster is not None:
            cluster.close()

    @property
    def _open(self) -> _Cluster:
        if self._cluster is None:
            raise EngineError("The engine 'ray' is used within its `with` block.")
        return self._cluster

    @property
    def device(self) -> str:
        return self._open.device

    def map(
        self,
        make_worker: Callable[[], Worker[Unit, Result]],
        units: Iterable[Unit],
        *,
        identity: Mapping[str, str] | None = None,
        listener: Listener | None = None,
        most: int | None = None,
    ) -> Generator[tuple[int, Result]]:
        cluster, kept, self._kept = self._open, self._kept, None
        if kept is None or kept[0] != make_worker:
            for member in kept[2] if kept else ():
                cluster.end(member.seat)
            kept = make_worker, cluster.packed(make_worker), []
        _, worker, members = kept
        told = {"identity": identity or {}, "listener": listener or Listener(), "limits": self._limits}
        crew = Crew(cluster, worker, Units(units, most), members, **told)
        try:
            yield from crew.results()
        finally:
            if self._cluster is cluster:
                self._kept = kept

    def share(self, value: Value) -> Shared[Value]:
        # It lies in the memory of each machine, and arrays are not copied from there.
        _ = self._open
        reference: Any = ray.put(value)
        return _SharedByRay(reference)

    def describe(self) -> str:
        return self._open.describe()


class _SharedByRay(Shared[Value]):
    def get(self) -> Value:
        return ray.get(self._value)  # type: ignore[call-overload]


class _Seat(Seat):
    def where(self) -> tuple[str, str]:
        """Return the id of the node beside machine and process."""
        return ray.get_runtime_context().get_node_id(), super().where()


class _Cluster:
    """A Ray cluster, connected to or started; carries calls to actors (a `crew.Carrier`)."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._is_ours = not ray.is_initialized()
        self._actors: set[Any] = set()
        # Ray takes this over, and would keep it.
        self._on_terminate = signal.getsignal(signal.SIGTERM)
        try:
            if self._is_ours:
                self._connect(os.environ.get("RAY_ADDRESS", "").strip())
            self._gpus, self._cpus = self._share()
        except BaseException:
            self.close()
            raise
        self.device = "cuda:0" if self._gpus else settings.text("VEHICLE_SEARCH_DEVICE") or "cpu"
        self.needs = f"{'1 GPU and ' if self._gpus else ''}{self._cpus:g} processor{'s' if self._cpus != 1 else ''}"
        options = {"num_gpus": self._gpus, "num_cpus": self._cpus, "max_concurrency": AHEAD + 2}
        self._new_actor = ray.remote(max_restarts=0, max_task_retries=0, **options)(_Seat)

    def _connect(self, address: str) -> None:
        debugging = settings.flag("VEHICLE_SEARCH_DEBUG")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        quiet: dict[str, Any] = {
            "log_to_driver": debugging,
            "logging_level": logging.INFO if debugging else logging.ERROR,
        }
        # It prints each worker's end on standard output, and has no public way to leave that to us.
        ray._private.worker._worker_logs_enabled = debugging  # type: ignore[attr-defined]
        if address in ("", "local"):
            self._folder = _short_folder()
            local = {"num_cpus": settings.usable_cores(), "object_store_memory": OBJECT_STORE_BYTES}
            ray.init("local", include_dashboard=False, _temp_dir=str(self._folder), **local, **quiet)
            return
        hint = "Set RAY_ADDRESS to host:port of a cluster's head, or to auto on one of its machines; or unset it."
        if _TOKEN.is_file() and "RAY_AUTH_MODE" not in os.environ:
            hint += " If it wants a token: RAY_AUTH_MODE=token."
        if "://" in address:
            raise EngineError(
                f"RAY_ADDRESS={address} is for Ray's clients; work is started on a machine of the cluster.",
                f"ray job submit --address {address} -- COMMAND",
            )
        try:
            host, colon, port = address.rpartition(":")
            if colon:  # Ray itself would try for a minute.
                socket.create_connection((host, int(port)), ANSWERS_WITHIN_S).close()
            ray.init(address, **quiet)
        except (OSError, ValueError, RuntimeError) as error:
            why = " ".join(str(error).split()) or type(error).__name__
            raise EngineError(f"There is no Ray cluster for us at RAY_ADDRESS={address}: {why}", hint) from error

    def _share(self) -> tuple[int, float]:
        """Return how many GPUs and processors each worker takes."""
        nodes = _nodes()
        device = settings.text("VEHICLE_SEARCH_DEVICE").strip().lower()
        machines = [node for node in nodes if node.get("GPU", 0) >= 1]
        on_gpu = not device.startswith(("cpu", "mps")) and bool(device or machines)
        share = min((node.get("CPU", 0) / node["GPU"] for node in machines), default=1.0) if on_gpu else 1.0
        return int(on_gpu), settings.number("VEHICLE_SEARCH_WORKER_CPUS", share // 1 or share)

    def close(self) -> None:
        """End our actors; leave or stop the cluster."""
        for actor in [*self._actors]:
            self.end(actor)
        if self._is_ours:
            ray.shutdown()
            ray._private.worker._worker_logs_enabled = True  # type: ignore[attr-defined]
            if threading.current_thread() is threading.main_thread() and self._on_terminate is not None:
                signal.signal(signal.SIGTERM, self._on_terminate)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def packed(self, make_worker: Callable[[], Any]) -> tuple[Any, ...]:
        """Return what `Seat.make` takes; what is large travels once to each machine."""
        threads = str(max(1, int(self._cpus)))
        environ = {name: value for name, value in os.environ.items() if name.startswith(CARRIED) and name != LOGIN}
        own = {"VEHICLE_SEARCH_ENGINE": "local", "VEHICLE_SEARCH_CORES": threads, "OMP_NUM_THREADS": threads}
        quiet = {"TQDM_DISABLE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        # Ray shows each actor its own GPU only; one that has none sees none, whatever its library would take.
        on = {"VEHICLE_SEARCH_DEVICE": self.device, **({} if self._gpus else NO_GPU)}
        how = dumps(make_worker)
        return (
            how if len(how) <= IN_CALL_BYTES else ray.put(how),
            {**environ, **own, **quiet, **on},
            [*map(os.path.abspath, sys.path)],
        )

    def describe(self) -> str:
        """Return version, address, machines and the workers that fit, in a sentence."""
        nodes, context = _nodes(), ray.get_runtime_context()
        counts = {name: sum(node.get(name, 0) for node in nodes) for name in ("CPU", "GPU")}
        what = "started on this machine" if self._folder else f"at {context.gcs_address}"
        return (
            f"Ray {ray.__version__} {what}: {_several(len(nodes), 'node')}, {_several(counts['CPU'], 'processor')}, "
            f"{_several(counts['GPU'], 'GPU')}; room for {_several(self.room(), 'worker')} of {self.needs} each."
        )

    def room(self) -> int:
        fits = [
            min(node.get(name, 0) // amount for name, amount in (("CPU", self._cpus), ("GPU", self._gpus)) if amount)
            for node in _nodes()
        ]
        return int(sum(fits))

    def start(self) -> Any:
        actor = self._new_actor.remote()
        self._actors.add(actor)
        return actor

    def call(self, seat: Any, method: str, *arguments: Any) -> Any:
        if method == "do":
            arguments = (dumps(arguments[0]),)
        return getattr(seat, method).remote(*arguments)

    def first(self, calls: Sequence[Any], timeout_s: float) -> Any | None:
        # Not fetched before it is asked for: the store of this machine would fill.
        ready, _ = ray.wait([*calls], timeout=timeout_s, fetch_local=False) if calls else ([], [])
        return ready[0] if ready else None

    def answer(self, call: Any) -> Any:
        try:
            return ray.get(call)
        except RayTaskError as error:
            raise EngineError(
                f"A machine of the cluster cannot run a worker: {_cause(error)}.",
                "Install mteb-vehicle-search on every machine, the same version as here.",
            ) from error
        except RayError as error:
            cause = _cause(error)
            raise LostError(cause, with_machine=cause in MACHINE.values()) from error

    def end(self, seat: Any) -> None:
        if seat in self._actors:
            self._actors.remove(seat)
            ray.kill(seat)


def _nodes() -> list[dict[str, float]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _several(count: float, what: str) -> str:
    return f"{count:,.0f} {what}{'s' if count != 1 else ''}"


def _short_folder() -> Path:
    """Return a new folder for sockets and logs, with a path that is short enough for the names of sockets."""
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    if len(os.fsencode(folder)) > LONGEST_FOLDER and os.name == "posix":
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    return folder


def _cause(error: Exception) -> str:
    """Return what of Ray's page says what happened."""
    text = " ".join(str(error).split())
    for found, said in {**MACHINE, **PROCESS}.items():
        if found in text:
            return said
    text = re.sub(r"^The actor died unexpectedly before finishing this task\. .*? ip: \S+ ", "", text)
    return f"{text[:300] or type(error).__name__}".rstrip(". ")
