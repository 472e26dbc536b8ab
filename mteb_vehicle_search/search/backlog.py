"""Work that is done in a thread of its own, piece by piece, while whoever hands it over goes on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from types import TracebackType

# Pieces that wait or are being done: what they hold stays in memory.
AHEAD = 2
# Whoever pressed Ctrl-C waits so long for what is finished but for its storing.
PATIENCE_S = 0.5


class Backlog:
    """A `with` block whose pieces of work are done in order, in one other thread, and are done when it ends.

    The first error ends it: nothing after it is done, and it is raised by the next call, or by the end of the block. If
    the block itself fails, what was handed over is still done; if it is interrupted, as much as half a second allows.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="backlog")
        self._left: deque[Future[None]] = deque()
        self._failed = False

    def __enter__(self) -> Backlog:
        # A thread that is interrupted while it starts its first other does not know of that one, and would not wait.
        try:
            self._pool.submit(lambda: None).result()
        except BaseException:
            # There is no end of the block where there was no beginning, and the process would wait for that thread.
            self._pool.shutdown(wait=False)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is None or isinstance(error, Exception):
                # An error in here came before that of the block.
                self._settle(0)
            else:
                wait(self._left, timeout=PATIENCE_S)
        finally:
            # A file that is being written is written to its end, as it would be by the thread that is interrupted.
            self._pool.shutdown(wait=True, cancel_futures=True)

    def hand_over(self, work: Callable[[], None]) -> None:
        """Have it done; waits while there are `AHEAD` pieces before it."""
        self.check()
        self._settle(AHEAD - 1)
        self._left.append(self._pool.submit(self._do, work))

    def check(self) -> None:
        """Raise the error of a piece that has failed."""
        while self._left and self._left[0].done():
            self._left.popleft().result()

    def _settle(self, left: int) -> None:
        while len(self._left) > left:
            # An untimed wait would not notice Ctrl-C, where a library has set that signal to resume system calls.
            wait([self._left[0]], timeout=0.2)
            self.check()

    def _do(self, work: Callable[[], None]) -> None:
        if self._failed:
            return
        try:
            work()
        except BaseException:
            self._failed = True
            raise
