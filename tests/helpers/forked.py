"""Work in a fork of this process, which has its libraries at once and may be killed at any step."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import NoReturn

import pytest

PATIENCE_S = 120


def status_of(act: Callable[[], object]) -> int:
    """Run `act` in a fork; return its exit status: 0 or that of its SystemExit; 99 if it raised; negative: the signal.

    A fork has one thread: what another held when it was made stays held. One that waits for that says where it stands,
    is killed, and fails the test.
    """
    pid = os.fork()
    if pid == 0:
        _child(act)
    ends = time.monotonic() + PATIENCE_S
    while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
        if time.monotonic() > ends:
            # It says where it stands.
            os.kill(pid, signal.SIGABRT)
            time.sleep(1)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            pytest.fail(f"a fork did not end within {PATIENCE_S} s; what it did stands on standard error")
        time.sleep(0.005)
    return os.waitstatus_to_exitcode(ended[1])


def _child(act: Callable[[], object]) -> NoReturn:
    status = 99
    try:
        # To what is standard error now, whatever `act` makes of it. No timer: whoever calls this may have one, whose
        # thread is not here and would be waited for.
        faulthandler.enable(os.dup(2))
        # Its threads did not survive the fork.
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(1)
        act()
        status = 0
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
