"""Fixtures of the tests of models."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def untraced_threads() -> Iterator[None]:
    """Start threads without a tracer: CPython 3.11 can spin for ever in a traced one that is interrupted from outside.

    So coverage does not see what threads do in these tests; those of the search and the tasks show it.
    """
    tracer = threading.gettrace()
    threading.settrace(None)  # type: ignore[arg-type]
    yield
    threading.settrace(tracer)  # type: ignore[arg-type]
