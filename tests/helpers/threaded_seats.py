"""A carrier of engine calls whose seats are threads of this process: workers are lost at a word, in no time."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from mteb_vehicle_search.engine.crew import LostError
from mteb_vehicle_search.engine.seat import Seat

DIES = "this process dies"


class ThreadedSeats:
    """Has room for so many workers; the others wait for it.

    Attributes:
        space: How many workers there may be.
        most_calls: The most units that one worker had at a time.
    """

    needs = "1 thread"

    def __init__(self, space: int) -> None:
        self.space = space
        self.seats: list[ThreadedSeat] = []
        self.started = self.most_calls = 0

    def room(self) -> int:
        self._place()
        return self.space

    def _place(self) -> None:
        for seat in self.seats[: self.space]:
            seat.place()

    def start(self) -> ThreadedSeat:
        self.started += 1
        self.seats.append(ThreadedSeat(self.started))
        return self.seats[-1]

    def call(self, seat: ThreadedSeat, method: str, *arguments: Any) -> Future[Any]:
        if method == "do":
            arguments = (pickle.dumps(arguments[0]),)
        call = seat.call(method, *arguments)
        self.most_calls = max(self.most_calls, seat.units())
        self._place()
        return call

    def first(self, calls: Sequence[Future[Any]], timeout_s: float) -> Future[Any] | None:
        if not calls:
            return None
        done = wait(calls, timeout_s, FIRST_COMPLETED).done
        return next((call for call in calls if call in done), None)

    def answer(self, call: Future[Any]) -> Any:
        answer = call.result()
        if isinstance(answer, bytes) and DIES in str(pickle.loads(answer).error):  # noqa: S301
            raise LostError(DIES, with_machine=False)
        return answer

    def end(self, seat: ThreadedSeat) -> None:
        if seat in self.seats:
            self.seats.remove(seat)
            seat.end()
            self._place()

    def unplug(self, count: int) -> None:
        """Lose the first workers, all at a time."""
        for seat in self.seats[:count]:
            seat.end()


class ThreadedSeat(Seat):
    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number
        self._is_unplugged = False
        self._pool: ThreadPoolExecutor | None = None
        self._waiting: list[tuple[Future[Any], str, tuple[Any, ...]]] = []
        self._running: list[tuple[Future[Any], str]] = []

    def where(self) -> tuple[str, str]:
        return f"node {self.number % 2}", f"in seat {self.number}"

    def place(self) -> None:
        self._pool = self._pool or ThreadPoolExecutor(4)
        waiting, self._waiting = self._waiting, []
        for call, method, arguments in waiting:
            self._run(self._pool, call, method, arguments)

    def call(self, method: str, *arguments: Any) -> Future[Any]:
        call: Future[Any] = Future()
        if self._is_unplugged:
            call.set_exception(LostError("it was unplugged", with_machine=True))
        elif self._pool is None:
            self._waiting.append((call, method, arguments))
        else:
            self._run(self._pool, call, method, arguments)
        return call

    def _run(self, pool: ThreadPoolExecutor, call: Future[Any], method: str, arguments: tuple[Any, ...]) -> None:
        def run() -> None:
            answer = getattr(self, method)(*arguments)
            if not call.done():
                call.set_result(answer)

        self._running.append((call, method))
        pool.submit(run)

    def units(self) -> int:
        return sum(method == "do" and not call.done() for call, method in self._running)

    def end(self) -> None:
        self._is_unplugged = True
        for call, *_ in [*self._running, *self._waiting]:
            if not call.done():
                call.set_exception(LostError("it was unplugged", with_machine=True))
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
