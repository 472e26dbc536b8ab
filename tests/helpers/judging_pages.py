"""Samples of an evaluation set for the judging page, sessions of them, and the page as a process of its own.

python tests/helpers/judging_pages.py SET JUDGMENTS JUDGE [--port N] [--second]
"""

from __future__ import annotations

import argparse
import random
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.judging.session import Session
from mteb_vehicle_search.judgments import Sample, Unit, read_judgments, write_sample

JUDGE = "ada"


def draw(eval_set: EvalSet, units: int = 12, each: int = 4, checks: int = 12, seed: int = 0, **changed: Any) -> Sample:
    """Return a sample of random captions, each with `each` random images in question; a check in each of the first."""
    rng = random.Random(seed)
    known: dict[str, list[str]] = {}
    for one in eval_set.qrels():
        known.setdefault(one.query_id, []).append(one.corpus_id)
    ids = eval_set.corpus_ids()
    chosen, beside = [], {}
    for number, query in enumerate(rng.sample(sorted(known), units)):
        others = rng.sample([image for image in ids if image not in known[query]], each + 1)
        own = tuple(sorted(known[query]))
        chosen.append(Unit(query, own, own[0], "2-3, alone", 1, 0, tuple(sorted(others[:each]))))
        if number < checks:
            beside[query] = (own[0],) if number % 2 else (others[each],)
    given = {
        "images_id": "",
        "runs": ("some/model@r1",),
        "seed": seed,
        "queries": len(known),
        "clusters": len(ids),
        "strata": {"2-3, alone": units},
        "planned": units,
        "checks": beside,
        **changed,
    }
    return Sample(content_id=eval_set.content_id, units=tuple(chosen), **given)


def session_of(eval_set: EvalSet, folder: Path, judge: str = JUDGE, second: bool = False) -> Session:
    """Return the session of the one sample in a folder, with what was answered there."""
    judgments = read_judgments(folder, eval_set.content_id)
    (sample,) = judgments.samples.values()
    return Session(sample, judgments, judge, eval_set, second)


def new_session(eval_set: EvalSet, folder: Path, judge: str = JUDGE, **drawn: Any) -> Session:
    """Write a sample into a folder, and return its session."""
    write_sample(folder, draw(eval_set, **drawn))
    return session_of(eval_set, folder, judge)


class PageProcess:
    """The page of a judge in a process of its own, started again as often as one likes."""

    def __init__(self, eval_set: EvalSet, folder: Path, judge: str = JUDGE) -> None:
        self.command = [sys.executable, __file__, str(eval_set.folder), str(folder), judge]
        self.start()

    def start(self) -> None:
        """Start it; returns once it said where it is."""
        self.process = subprocess.Popen(self.command, stderr=subprocess.PIPE, text=True, encoding="utf-8")
        assert self.process.stderr is not None
        first = self.process.stderr.readline()
        assert "http://" in first, first + self.process.stderr.read()
        self.url = re.findall(r"http://\S+", first)[0]

    def kill(self) -> None:
        """End it without a word."""
        self.process.kill()
        self.end()

    def end(self) -> str:
        """Wait for its end; returns what else it said."""
        assert self.process.stderr is not None
        if self.process.stderr.closed:
            return ""
        with self.process.stderr as said:
            rest = said.read()
        self.process.wait(20)
        return rest


def main() -> None:
    """Serve the page until it is finished there."""
    from mteb_vehicle_search.judging.server import serve

    parser = argparse.ArgumentParser()
    parser.add_argument("set", type=Path)
    parser.add_argument("judgments", type=Path)
    parser.add_argument("judge")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--second", action="store_true")
    args = parser.parse_args()
    # A shell that runs the tests in the background has it ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    session = session_of(EvalSet.open(args.set), args.judgments, args.judge, args.second)
    print(serve(session, port=args.port, open_browser=False))


if __name__ == "__main__":
    main()
