"""Builds in forked processes, each killed, or faced with a full disk, at one of its writes, renames and deletions."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import sys
from pathlib import Path
from typing import NamedTuple

from forked import status_of


class Run(NamedTuple):
    """How one process ended: its exit status (negative: the signal), file events, and words on standard error."""

    status: int
    events: int
    error: str


def run(arguments: list[str], log: Path, moment: int = 0, full: bool = False) -> Run:
    """Run the command line in a fork of this process.

    Args:
        arguments: Of the command.
        log: File for what it writes to standard error.
        moment: The file event at which the process kills itself; 0: never.
        full: It finds the disk full instead.
    """
    events = log.with_suffix(".events")
    status = status_of(lambda: _build(arguments, log, events, moment, full))
    count = int(events.read_text()) if events.is_file() else 0
    return Run(status, count, log.read_text(encoding="utf-8"))


def runs(arguments: list[str], folder: Path, seed: int, times: int = 10, full: bool = False) -> list[Run]:
    """Interrupt a build at random moments, again and again, so early that about all of them are under way."""
    trial = run([*arguments, "--out", str(folder / "trial")], folder / "trial.log")
    if trial.status:
        raise RuntimeError(trial.error)
    rng = random.Random(seed)
    moments = [rng.randrange(2, max(4, trial.events // 6)) for _ in range(times)]
    out = [*arguments, "--out", str(folder / "out")]
    return [run(out, folder / f"{number}.log", moment, full) for number, moment in enumerate(moments)]


def _build(arguments: list[str], log: Path, events: Path, moment: int, full: bool) -> None:
    file = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
    from data_prep import cli

    seen = [0]

    def count(event: str, details: tuple) -> None:
        written = event == "open" and isinstance(details[1], str) and set(details[1]) & set("wax")
        if written or event in ("os.rename", "os.mkdir") or (event == "os.remove" and not full):
            seen[0] += 1
            if moment and seen[0] >= moment:  # A full disk stays full.
                if full:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(details[0]))
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    status = cli.main(arguments)
    moment = 0
    events.write_text(str(seen[0]))
    raise SystemExit(status)


if __name__ == "__main__":  # In a process of its own, whose hub is another one.
    given = json.loads(sys.argv[1])
    import time

    # Before the forks, since they take seconds.
    import huggingface_hub.hf_api  # noqa: F401
    import mteb.get_tasks  # noqa: F401
    import pyarrow.parquet  # noqa: F401

    import data_prep.stages.reduce  # noqa: F401

    sleep = time.sleep
    time.sleep = lambda seconds: sleep(min(seconds, 0.01))  # The client waits longer before it asks again.
    given["folder"] = Path(given["folder"])
    print(json.dumps(runs(**given)))
