"""Small workers of both engines, and what becomes of them: pure Python, made by dataclasses that pickle."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mteb_vehicle_search.engine import Listener
from mteb_vehicle_search.errors import EncodeError


@dataclass(frozen=True)
class Squares:
    """Makes a worker that squares numbers; each of `steps` of a unit is progress."""

    steps: int = 1
    names: dict[str, str] = field(default_factory=lambda: {"weights": "w1", "torch": "2"})

    def __call__(self) -> SquareWorker:
        return SquareWorker(self)


class SquareWorker:
    def __init__(self, made_by: Squares) -> None:
        self.made_by = made_by

    def identity(self) -> dict[str, str]:
        return self.made_by.names

    def work(self, units: Iterator[int], on_progress: Callable[[int], None]) -> Iterator[int]:
        for unit in units:
            for _ in range(self.made_by.steps):
                on_progress(1)
            yield self.done(unit)

    def done(self, unit: int) -> Any:
        return unit * unit


@dataclass(frozen=True)
class Seen:
    """Makes a worker that returns with each unit all that it had drawn by then, `ahead` of them before their time."""

    ahead: int = 0

    def __call__(self) -> SeenWorker:
        return SeenWorker(self.ahead)


class SeenWorker(SquareWorker):
    def __init__(self, ahead: int) -> None:
        self.ahead, self.drawn = ahead, []

    def identity(self) -> dict[str, str]:
        return {}

    def work(self, units: Iterator[int], on_progress: Callable[[int], None]) -> Iterator[list[int]]:
        open_units = 0
        for unit in units:
            self.drawn.append(unit)
            open_units += 1
            if open_units > self.ahead:
                open_units -= 1
                yield list(self.drawn)
        for _ in range(open_units):
            yield list(self.drawn)


@dataclass(frozen=True)
class Troubled:
    """Makes a worker of squares that gets into trouble at some units, each so many times in all processes.

    Args:
        folder: Where its troubles, and the units that were begun, are counted.
        at: Unit -> (what happens: "exit", "hang", "refuse" or "nan"; how often).
        seconds: What a unit takes.
    """

    folder: str
    at: Mapping[int, tuple[str, int]] = field(default_factory=dict)
    seconds: float = 0.0

    def __call__(self) -> TroubledWorker:
        return TroubledWorker(self)

    def begun(self, unit: int) -> int:
        """Return how often a unit was begun."""
        return len([*Path(self.folder).glob(f"begun-{unit}-*")])


class TroubledWorker(SquareWorker):
    made_by: Any

    def identity(self) -> dict[str, str]:
        return {}

    def work(self, units: Iterator[int], on_progress: Callable[[int], None]) -> Iterator[Any]:
        for unit in units:
            on_progress(2)
            yield self.done(unit)

    def done(self, unit: int) -> Any:
        self._counts(f"begun-{unit}", 1_000)
        what, often = self.made_by.at.get(unit, ("", 0))
        if not self._counts(f"trouble-{unit}", often):
            what = ""
        if what == "exit":
            os._exit(3)
        if what == "refuse":
            raise EncodeError(f"Image {unit} does not decode.", "Look at it.")
        time.sleep(3_600 if what == "hang" else self.made_by.seconds)
        return float("nan") if what == "nan" else unit * unit

    def _counts(self, name: str, limit: int) -> bool:
        """Count one more, unless there are so many."""
        for number in range(limit):
            try:
                (Path(self.made_by.folder) / f"{name}-{number}").touch(exist_ok=False)
                return True
            except FileExistsError:
                continue
        return False


@dataclass(frozen=True)
class Unlike:
    """Makes workers whose weights differ but for the first one's, in all processes."""

    folder: str
    seconds: float = 0.0
    at: Mapping[int, tuple[str, int]] = field(default_factory=dict)

    def __call__(self) -> UnlikeWorker:
        return UnlikeWorker(self)


class UnlikeWorker(TroubledWorker):
    def identity(self) -> dict[str, str]:
        is_first = self._counts("made", 1)
        return {"torch": "2.14", "weights": "as they were" if is_first else "trained further"}


@dataclass(frozen=True)
class Bytes:
    """Makes a worker whose results have `size` bytes each, all those of the unit; it leaves a file for each."""

    folder: str
    size: int

    def __call__(self) -> BytesWorker:
        return BytesWorker(self)


class BytesWorker(SquareWorker):
    made_by: Any

    def identity(self) -> dict[str, str]:
        return {}

    def work(self, units: Iterator[int], on_progress: Callable[[int], None]) -> Iterator[Any]:
        for unit in units:
            (Path(self.made_by.folder) / str(unit)).touch()
            yield bytearray([unit]) * self.made_by.size


@dataclass(frozen=True)
class Asked:
    """Makes a worker that returns what an expression is in its process."""

    def __call__(self) -> Asked:
        return self

    def identity(self) -> dict[str, str]:
        return {}

    def work(self, units: Iterator[str], on_progress: Callable[[int], None]) -> Iterator[Any]:
        for unit in units:
            yield eval(unit, {"os": os, "sys": sys})  # noqa: S307


@dataclass(frozen=True)
class Miscounted:
    """Makes a worker that yields `results` results, whatever the number of units."""

    results: int

    def __call__(self) -> Miscounted:
        return self

    def identity(self) -> dict[str, str]:
        return {}

    def work(self, units: Iterator[int], on_progress: Callable[[int], None]) -> Iterator[int]:
        list(units)
        yield from range(self.results)


class Notes(Listener):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.counts: list[int] = []
        self.staff: list[tuple[int, int]] = []
        self.losses: list[str] = []

    def progress(self, count: int) -> None:
        self.counts.append(count)

    def workers(self, workers: int, nodes: int) -> None:
        self.staff.append((workers, nodes))

    def lost(self, message: str) -> None:
        self.losses.append(message)
