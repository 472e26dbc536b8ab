"""What may pass is tried again, with growing waits; what will not is told at once."""

from __future__ import annotations

import logging
import threading
import time

import pytest

from mteb_vehicle_search.errors import SourceError
from mteb_vehicle_search.remote import patience
from mteb_vehicle_search.remote.patience import ATTEMPTS, brief, patiently


class Flaky:
    """Fails a number of times, then answers."""

    def __init__(self, failures: int) -> None:
        self.failures, self.calls = failures, 0

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.failures:
            raise OSError(f"failure {self.calls}\nFor more information see a page")
        return "content"


def passing(error: Exception) -> float | None:
    return None


@pytest.mark.parametrize("failures", range(ATTEMPTS))
def test_it_is_tried_until_it_comes(failures, caplog):
    action, waits = Flaky(failures), []
    with caplog.at_level(logging.WARNING, logger="data_prep"):
        assert patiently(action, "a file", passing, waits.append) == "content"
    assert action.calls == failures + 1
    assert waits == [2.0, 4.0, 8.0, 16.0, 32.0][:failures]
    assert [record.getMessage() for record in caplog.records] == [
        f"a file: failure {number}; attempt {number + 1} of 6 in {wait:.0f} s" for number, wait in enumerate(waits, 1)
    ]


def test_in_the_end_it_is_given_up():
    action, waits = Flaky(100), []
    with pytest.raises(SourceError) as caught:
        patiently(action, "a file", passing, waits.append)
    assert action.calls == ATTEMPTS
    assert len(waits) == ATTEMPTS - 1  # After the last one nobody waits.
    assert str(caught.value) == (
        "a file could not be downloaded in 6 attempts; the last failure: failure 6\n"
        "Check the connection and run the command again: what is complete is kept."
    )
    assert str(caught.value.__cause__).startswith("failure 6\n")


@pytest.mark.parametrize("after", range(1, ATTEMPTS + 1))
def test_what_will_not_pass_is_told_at_once(after):
    action, judged, waits = Flaky(100), [], []

    def judge(error: Exception) -> float | None:
        judged.append(error)
        if len(judged) == after:
            raise SourceError("refused") from error
        return None

    with pytest.raises(SourceError, match=r"^refused$"):
        patiently(action, "a file", judge, waits.append)
    assert action.calls == after
    assert len(waits) == after - 1


@pytest.mark.parametrize(("asked", "waited"), [(0.0, 0.0), (7.0, 7.0), (300.0, 300.0), (86_400.0, 300.0)])
def test_a_server_may_say_how_long_to_wait(asked, waited):
    waits = []
    assert patiently(Flaky(2), "a file", lambda error: asked, waits.append) == "content"
    assert waits == [waited, waited]


def test_an_interruption_is_no_failure():
    calls = []

    def interrupted():
        calls.append(1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        patiently(interrupted, "a file", passing, lambda seconds: None)
    assert len(calls) == 1


def test_it_really_waits(monkeypatch):
    monkeypatch.setattr(patience, "LONGEST_WAIT_S", 0.0)
    assert patiently(Flaky(1), "a file", passing) == "content"


@pytest.mark.parametrize(
    ("failure", "wanted"),
    [
        (OSError("one\ntwo"), "one"),
        (OSError("\n one\r\ntwo"), "one"),
        (OSError(), "OSError"),
        (TimeoutError("   "), "TimeoutError"),
    ],
)
def test_a_failure_in_one_line(failure, wanted):
    assert brief(failure) == wanted


def test_nobody_waits_for_what_is_not_wanted_any_more():
    stop, began = threading.Event(), time.monotonic()
    threading.Timer(0.3, stop.set).start()

    def action():
        raise OSError("away")

    with pytest.raises(SourceError, match=r"^the file is not read further$"):
        patiently(action, "the file", lambda error: 300.0, stop=stop)
    assert time.monotonic() - began < 30, "it was asked to wait for 300 s"
