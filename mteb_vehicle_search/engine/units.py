"""Which units are still to be done, and how often each was begun and lost; of engines whose workers may be lost."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from typing import Any

from mteb_vehicle_search.engine import ATTEMPTS, ATTEMPTS_ON_LOST_MACHINES
from mteb_vehicle_search.errors import EngineError


class Units:
    """Units by number, from 0 on; drawn as they are asked for.

    Which of a lost worker's units ended it is not known. So those that were lost are *suspects*: they go first, each to
    a worker that has nothing else, and no worker takes anything ahead meanwhile. One that is lost too often is then
    known to be the cause, or had very bad luck.

    Args:
        units: What is to be done.
        most: How many may be drawn and not yet done; None: any number.
    """

    def __init__(self, units: Iterable[Any], most: int | None = None) -> None:
        self._undrawn = enumerate(units)
        self._most = math.inf if most is None else most
        self._waiting: deque[tuple[int, Any]] = deque()
        self._suspects: deque[tuple[int, Any]] = deque()
        self._begun: dict[int, Any] = {}
        self._losses: dict[int, list[bool]] = {}

    def waiting(self, count: int) -> bool:
        """Tell whether at least `count` units wait for a worker."""
        while (there := len(self._waiting) + len(self._suspects)) < count:
            if there + len(self._begun) >= self._most or (drawn := next(self._undrawn, None)) is None:
                return False
            self._waiting.append(drawn)
        return True

    def left(self) -> bool:
        """Tell whether any unit is not done."""
        return bool(self._begun) or self.waiting(1)

    def take(self, busy_with: Iterable[int], reserved: int) -> tuple[int, Any] | None:
        """Return the next (number, unit) for a worker, which has begun it then; None if there is none for it.

        Args:
            busy_with: Numbers of the units that the worker has already. An idle one gets whatever there is.
            reserved: How many units are better left to others, which will soon be idle, than taken ahead.
        """
        busy = [*busy_with]
        if busy and (self._suspects or not self._losses.keys().isdisjoint(busy) or not self.waiting(reserved + 1)):
            return None
        if not self.waiting(1):
            return None
        number, unit = (self._suspects or self._waiting).popleft()
        self._begun[number] = unit
        return number, unit

    def done(self, number: int) -> None:
        """Note that there is a result."""
        del self._begun[number]

    def lost(self, numbers: Iterable[int], where: str, cause: str, *, with_machine: bool) -> None:
        """Note that a worker was lost that had begun these, by itself or with its machine.

        Raises:
            EngineError: That was the last attempt at one of them.
        """
        for number in numbers:
            unit, losses = self._begun.pop(number), self._losses.setdefault(number, [])
            losses.append(with_machine)
            self._suspects.append((number, unit))
            if too_many(losses):
                raise EngineError(
                    f"Unit {number} ({_short(unit)}) ended {len(losses)} workers; the last one {where}: {cause}.",
                    "Look at this unit on one machine: --engine local. What is finished is kept.",
                )


def too_many(losses: list[bool]) -> bool:
    """Tell whether to give up after these losses, each of a worker by itself, or (True) with its machine."""
    return losses.count(False) >= ATTEMPTS or len(losses) >= ATTEMPTS_ON_LOST_MACHINES


def _short(unit: Any) -> str:
    text = " ".join(str(unit).split())
    return text if len(text) <= 100 else f"{text[:97]}..."
