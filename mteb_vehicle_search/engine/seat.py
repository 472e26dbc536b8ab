"""What runs a worker in a process of its own: it is made there, takes units as they come, and answers each in bytes.

It knows nothing of what carries the bytes.
"""

from __future__ import annotations

import os
import pickle
import socket
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, NamedTuple

from mteb_vehicle_search.engine import in_turn


class Answer(NamedTuple):
    """What a worker's process answers: a result and the progress that it took, or an error and where it came from."""

    result: Any = None
    progress: int = 0
    error: Exception | None = None
    trace: str = ""


class Seat:
    """Holds the one worker of this process, which works in a thread of its own: units are taken ahead of results.

    `do` is called from several threads at a time, and answers each unit; the other methods answer at once, whatever the
    worker does.
    """

    def __init__(self) -> None:
        self._worker: Any = None
        self._asked: SimpleQueue[tuple[Future[Answer], Any]] = SimpleQueue()
        self._open: list[Future[Answer]] = []
        # In one, so that nobody reads the half of a change.
        self._done = (0, 0)

    def where(self) -> str:
        """Return the machine and the process, for people."""
        return f"on {socket.gethostname()} (process {os.getpid()})"

    def make(self, make_worker: bytes, environ: Mapping[str, str], path: Sequence[str]) -> bytes:
        """Set the environment, make the worker, and return the pickled Answer: its identity.

        `path` is where the driver finds modules; behind our own, so that nothing of this machine's is hidden.
        """
        # Before anything is unpickled: libraries read it when they are imported.
        os.environ.update(environ)
        sys.path += [folder for folder in path if folder not in sys.path]
        return _answer(self._make, make_worker)

    def _make(self, make_worker: bytes) -> Answer:
        self._worker = pickle.loads(make_worker)()  # noqa: S301 - it comes from the driver of this very job
        Thread(target=self._serve, name="worker", daemon=True).start()
        return Answer(dict(self._worker.identity()))

    def do(self, unit: bytes) -> bytes:
        """Do a unit after those that were asked for before, and return the pickled Answer."""

        def asked() -> Answer:
            future: Future[Answer] = Future()
            self._asked.put((future, pickle.loads(unit)))  # noqa: S301 - likewise
            return future.result()

        return _answer(asked)

    def progress(self) -> tuple[int, int]:
        """Return the number of units that were answered, and how many items are done of the next."""
        return self._done

    def _serve(self) -> None:
        while True:
            self._open = []
            try:
                for future, result in in_turn(self._worker, self._at_hand(self._asked.get()), self._tell):
                    self._open.remove(future)
                    answered, progress = self._done
                    self._done = (answered + 1, 0)
                    future.set_result(Answer(result, progress))
            except BaseException as error:
                # One that came after the last answer is told with the next.
                for future in self._open or [self._asked.get()[0]]:
                    future.set_exception(error)

    def _at_hand(self, first: tuple[Future[Answer], Any]) -> Iterator[tuple[Future[Answer], Any]]:
        asked = first
        while True:
            self._open.append(asked[0])
            yield asked
            try:
                asked = self._asked.get_nowait()
            except Empty:
                return

    def _tell(self, count: int) -> None:
        answered, progress = self._done
        self._done = (answered, progress + count)


def _answer(act: Callable[..., Answer], *arguments: Any) -> bytes:
    """Return the pickled Answer of an act, or what it raised; one that does not pickle is told in words."""
    try:
        return pickle.dumps(act(*arguments), protocol=5)
    except BaseException as error:
        trace = "".join(traceback.format_exception(error))
        try:
            if not isinstance(error, Exception):
                raise TypeError("it would end the driver")
            pickled = pickle.dumps(Answer(error=error, trace=trace), protocol=5)
            pickle.loads(pickled)  # noqa: S301 - our own; some errors pickle, but cannot be made again
        except Exception:
            told = RuntimeError(f"{type(error).__name__}: {error}")
            return pickle.dumps(Answer(error=told, trace=trace), protocol=5)
        return pickled
