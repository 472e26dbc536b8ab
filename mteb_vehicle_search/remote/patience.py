"""What may pass is tried again, with growing waits; what will not is told at once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from threading import Event
from typing import TypeVar

from mteb_vehicle_search.addresses import without_secrets
from mteb_vehicle_search.errors import SourceError

T = TypeVar("T")
ATTEMPTS = 6
LONGEST_WAIT_S = 300.0
OFTEN_S = 0.2  # Between two looks at whether it is still wanted.
_log = logging.getLogger(__name__)


def patiently(
    action: Callable[[], T],
    what: str,
    judge: Callable[[Exception], float | None],
    sleep: Callable[[float], None] | None = None,
    stop: Event | None = None,
) -> T:
    """Return what an action returns, in the end.

    Args:
        action: Is called up to `ATTEMPTS` times.
        what: It gets, for messages.
        judge: Of an exception: raises a SourceError if it will not pass; else returns the seconds that a server asks
            to wait, or None.
        sleep: Waits; `time.sleep` by default.
        stop: Set by somebody who does not want it any more: nobody waits then.

    Raises:
        SourceError: Of `judge`, or since every attempt failed, or nobody wants it any more.
    """
    failure: Exception | None = None
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return action()
        except Exception as error:
            asked = judge(error)
            failure = error
        if attempt < ATTEMPTS:
            pause = min(LONGEST_WAIT_S, asked if asked is not None else 2.0**attempt)
            _log.warning("%s: %s; attempt %d of %d in %.0f s", what, brief(failure), attempt + 1, ATTEMPTS, pause)
            if sleep is not None:
                sleep(pause)
            else:
                _wait(pause, what, stop)
    raise SourceError(
        f"{what} could not be downloaded in {ATTEMPTS} attempts; the last failure: {brief(failure)}",
        "Check the connection and run the command again: what is complete is kept.",
    ) from failure


def _wait(seconds: float, what: str, stop: Event | None) -> None:
    if stop is None:
        time.sleep(seconds)
        return
    while seconds > 0 and not stop.is_set():
        time.sleep(min(seconds, OFTEN_S))
        seconds -= OFTEN_S
    if stop.is_set():
        raise SourceError(f"{what} is not read further")


def brief(failure: Exception | None) -> str:
    """Return an exception's first line without secrets; clients add links to explanations of HTTP statuses."""
    return without_secrets((str(failure).strip() or type(failure).__name__).splitlines()[0])


def asked_wait(headers: object) -> float | None:
    """Return the seconds that an answer's headers ask to wait, if they do."""
    asked = headers.get("Retry-After", "") if hasattr(headers, "get") else ""  # pyright: ignore
    return float(asked) if asked.isdigit() else None
