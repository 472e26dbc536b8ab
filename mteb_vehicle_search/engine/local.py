"""The engine that needs nothing: one worker in this process."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from itertools import chain
from typing import Any

from mteb_vehicle_search import settings
from mteb_vehicle_search.engine import Engine, Listener, Result, Unit, Worker, in_turn


class LocalEngine(Engine):
    """Does units in order, each when its result is drawn, with a worker that is made for the first one.

    The worker is not asked for its identity: it is of this process.
    """

    name = "local"

    def __init__(self) -> None:
        self._made: tuple[Any, Any] | None = None

    def __exit__(self, *error: object) -> None:
        self._made = None

    def map(
        self,
        make_worker: Callable[[], Worker[Unit, Result]],
        units: Iterable[Unit],
        *,
        identity: Mapping[str, str] | None = None,
        listener: Listener | None = None,
        most: int | None = None,
    ) -> Generator[tuple[int, Result]]:
        listener, numbered = listener or Listener(), enumerate(units)
        if (first := next(numbered, None)) is None:
            return
        if self._made is None or self._made[0] != make_worker:
            self._made = make_worker, make_worker()
        listener.workers(1, 1)
        yield from in_turn(self._made[1], chain([first], numbered), listener.progress)

    def describe(self) -> str:
        return f"This process, with {settings.usable_cores()} processors."
