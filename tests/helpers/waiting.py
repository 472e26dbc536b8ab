"""Wait for what other threads and processes do."""

import time
from collections.abc import Callable


def pause_until(condition: Callable[[], object]) -> None:
    """Wait until it holds, ten seconds at most."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)
