"""The seam between work and where it is done: in this process, or by workers on the machines of a Ray cluster.

Work is cut into *units*: small to send, and with the same result whenever and wherever they are done (the rows of a
chunk, the name of a shard). A *worker* holds what is dear to make (a model, an open evaluation set) and does unit after
unit. An *engine* gives units to workers; whoever asked checks the results, which come in any order, and writes them.

    with engine_of(name) as engine, closing(engine.map(make_worker, units)) as results:
        for number, result in results:
            write(number, checked(result))

What can go wrong has three kinds. A worker or its machine is lost, or gets on no more: its units go to others, at most
`ATTEMPTS` times. A worker raises an error: that ends the work, as it would here. A result is wrong: the engine
does not know; whoever checks it raises, and nothing is tried again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from difflib import get_close_matches
from typing import Any, Generic, Protocol, TypeVar
from uuid import uuid4

from mteb_vehicle_search import settings
from mteb_vehicle_search.errors import EngineError, UsageError

# How often a unit is begun, if its workers are lost; and if whole machines are, for which it can do little.
ATTEMPTS = 3
ATTEMPTS_ON_LOST_MACHINES = 10
ENGINES = ("local", "ray")

Unit = TypeVar("Unit")
Result = TypeVar("Result")
Value = TypeVar("Value")
UnitOfWorker = TypeVar("UnitOfWorker", contravariant=True)
ResultOfWorker = TypeVar("ResultOfWorker", covariant=True)


class Worker(Protocol[UnitOfWorker, ResultOfWorker]):
    """Does units; made once in the process that it works in, and used from one thread."""

    def identity(self) -> Mapping[str, str]:
        """Return what decides its results, name -> version or digest: of weights, code, packages, the kind of device.

        The names are read by people: a worker that differs from the others is refused with the names and both values.
        """
        ...

    def work(self, units: Iterator[UnitOfWorker], on_progress: Callable[[int], None]) -> Generator[ResultOfWorker]:
        """Yield the result of each unit, in order.

        `units` never waits: it gives the units that are at hand now, and ends. So a worker may draw units ahead of the
        results that it has yet to yield, which keeps a device busy over their borders. Further units come with another
        call, which begins when this one has ended. Whoever does not draw to the end closes it.

        Args:
            units: At least one.
            on_progress: To be told how many items (images) of a unit were just done, before its result is yielded.

        Raises:
            VehicleSearchError: A unit cannot be done; says what is wrong with it. It is not tried again.
        """
        ...


class Shared(Generic[Value]):
    """Gives a value where a unit is done that holds this; the value travels there once, whatever number of units.

    Attributes:
        key: The same wherever it is, and no other's.
    """

    def __init__(self, value: Value) -> None:
        self.key = uuid4().hex
        self._value = value

    def get(self) -> Value:
        """Return the value, which is not to be changed."""
        return self._value


class Listener:
    """What is told of the work while it is done, in the thread that draws the results; by itself it does nothing."""

    def progress(self, count: int) -> None:
        """So many more items (images) are done; below 0, so many are to be done again, as their worker was lost."""

    def workers(self, workers: int, nodes: int) -> None:
        """Now there are so many workers, on so many machines; with 0, the work waits for one."""

    def lost(self, message: str) -> None:
        """A worker was lost; says where, why, and what became of its units, in a line."""


class Engine(ABC):
    """Where units are done. A `with` block: at its end, also after an error or Ctrl-C, nothing of it is left."""

    name: str
    device: str = ""  # Which one each worker has, within the `with` block; empty where whoever makes it chooses.

    def __enter__(self) -> Engine:
        return self

    @abstractmethod
    def __exit__(self, *error: object) -> None:
        """End all workers."""

    @property
    def is_here(self) -> bool:
        """Whether the work is done in this process: what a worker says it is made of is then not asked for."""
        return self.name == "local"

    @abstractmethod
    def map(
        self,
        make_worker: Callable[[], Worker[Unit, Result]],
        units: Iterable[Unit],
        *,
        identity: Mapping[str, str] | None = None,
        listener: Listener | None = None,
        most: int | None = None,
    ) -> Generator[tuple[int, Result]]:
        """Yield (number of the unit, its result) of each unit once, in any order; numbers count `units` from 0 on.

        Workers stay for the next call with an equal `make_worker`: a model is loaded once. Whoever does not draw to the
        end closes the generator.

        Args:
            make_worker: Returns a worker. Elsewhere than here it is pickled, as are the units and the results.
            units: Drawn only as fast as they are handed out. What one says as `str` names it in messages.
            identity: What a worker's `identity()` must say; what this does not name must be the same for all workers.
            listener: Is told how the work gets on.
            most: How many units may be drawn and not yet done, where they are large themselves; None: two a worker.

        Raises:
            EngineError: There is no worker, one differs from what it should be, or a unit ended `ATTEMPTS` workers.
            Exception: Whatever `make_worker` or a worker raised; what it was elsewhere stands in its notes.
        """

    def share(self, value: Value) -> Shared[Value]:
        """Return what units can hold in place of a value that many of them need; within the `with` block."""
        return Shared(value)

    @abstractmethod
    def describe(self) -> str:
        """Return where the work would be done, in a sentence; makes no worker.

        Raises:
            EngineError: The cluster that is set does not answer.
        """


def engine_of(name: str | None = None) -> Engine:
    """Return the engine of this name, else the one that `VEHICLE_SEARCH_ENGINE` names, else the local one.

    Nothing is started before its `with` block.

    Raises:
        UsageError: There is no such engine, or it is not installed.
        SettingsError: A variable of the engine's is no number above 0.
    """
    chosen = (name or settings.text("VEHICLE_SEARCH_ENGINE") or "local").strip()
    if chosen not in ENGINES:
        (near,) = get_close_matches(chosen.lower(), ENGINES, 1) or [" or ".join(ENGINES)]
        raise UsageError(f"There is no engine {chosen!r}; did you mean {near}?")
    if chosen == "local":
        from mteb_vehicle_search.engine.local import LocalEngine

        return LocalEngine()
    try:
        from mteb_vehicle_search.engine.ray import RayEngine
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise UsageError("The engine 'ray' is not installed.", "pip install 'mteb-vehicle-search[ray]'") from error
    return RayEngine()


def in_turn(
    worker: Worker[Unit, Result], units: Iterable[tuple[Any, Unit]], on_progress: Callable[[int], None]
) -> Generator[tuple[Any, Result]]:
    """Yield (key, result) of (key, unit) in order: how every engine uses a worker.

    Raises:
        EngineError: The worker yields more results than it drew units, or fewer.
    """
    asked: deque[Any] = deque()

    def drawn() -> Iterator[Unit]:
        for key, unit in units:
            asked.append(key)
            yield unit

    # What the garbage collector finds ends late, and in any thread.
    with closing(worker.work(drawn(), on_progress)) as results:
        for result in results:
            if not asked:
                raise EngineError(f"{type(worker).__name__} yielded more results than it drew units.")
            yield asked.popleft(), result
    if asked:
        raise EngineError(f"{type(worker).__name__} ended {len(asked)} results short.")
