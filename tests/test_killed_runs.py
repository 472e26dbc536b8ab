"""A run that is killed between the last image and its end: the next gives the same bytes and encodes nothing again."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from pathlib import Path
from typing import Any

import mteb
import pytest
from forked import status_of
from mteb.cache import ResultCache
from small_set import small_set
from toy_encoder import ToyEncoder

import mteb_vehicle_search
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.plugin import registry
from mteb_vehicle_search.run_record import record_files
from mteb_vehicle_search.search.backlog import Backlog
from mteb_vehicle_search.settings import embeddings_folder, home, runs_folder

mteb_vehicle_search.register()

MOMENTS = 12
# What tells when something was done, and how long it took.
TIMES = ("date", "evaluation_time", "evaluation_phases")


@pytest.fixture
def dogs() -> EvalSet:
    eval_set = small_set(home() / "data" / "dogs", name="dog-image-search")
    registry.register()
    return eval_set


def evaluate(results: Path, encoder: ToyEncoder) -> None:
    cache = ResultCache(results)
    mteb.evaluate(encoder, mteb.get_task("DogImageSearch"), cache=cache, num_proc=0, encode_kwargs={"batch_size": 5})


def outcome(results: Path) -> tuple[dict[str, Any], bytes, dict[str, Any]]:
    """Return what was stored, without times: mteb's result, the table of ranks, and mteb's words on the model."""
    (path,) = results.rglob("DogImageSearch.json")
    stored = json.loads(path.read_text(encoding="utf-8"))
    (record,) = record_files(runs_folder())
    meta = json.loads((path.parent / "model_meta.json").read_text(encoding="utf-8"))
    kept = {key: value for key, value in stored.items() if key not in TIMES}
    return kept, (record.parent / "queries.parquet").read_bytes(), meta


def in_a_child(results: Path, kill_at: int = 0) -> int:
    """Evaluate in a fork that kills itself so many calls after the last image; return how many there were, or -9."""
    told = results.with_name(f"{results.name}.steps")

    def watched() -> None:
        count = 0

        def step(frame: Any, event: str, arg: Any) -> None:
            nonlocal count
            count += 1
            if count == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

        leave = Backlog.__exit__

        def left(self: Backlog, *given: Any) -> None:
            # All images are stored; what is killed is this thread.
            leave(self, *given)
            sys.setprofile(step)

        Backlog.__exit__ = left  # type: ignore[method-assign]
        evaluate(results, ToyEncoder())
        sys.setprofile(None)
        told.write_text(str(count), "utf-8")

    status = status_of(watched)
    return int(told.read_text("utf-8")) if status == 0 else status


def test_a_killed_run_is_finished_by_the_next(dogs: EvalSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate(tmp_path / "whole", ToyEncoder())
    whole = outcome(tmp_path / "whole")
    # Only now is everything imported, so that a child takes as many calls as the next.
    steps = in_a_child(tmp_path / "again")
    assert steps > 10_000
    where = home()
    # Half of them anywhere, half near the end, where files are written; the number of calls differs by some hundred.
    seeded, last = random.Random(11), steps - 1000
    moments = seeded.sample(range(1, last), MOMENTS // 2) + seeded.sample(range(last - steps // 50, last), MOMENTS // 2)
    for number, moment in enumerate(sorted(moments)):
        monkeypatch.setenv("VEHICLE_SEARCH_HOME", str(tmp_path / f"home {number}"))
        (home() / "data").mkdir(parents=True)
        (home() / "data" / "dogs").symlink_to(where / "data" / "dogs")
        results = tmp_path / f"results {number}"
        assert in_a_child(results, moment) == -signal.SIGKILL
        encoder = ToyEncoder()
        evaluate(results, encoder)
        # The first batch proves that it is the same model.
        assert encoder.images_seen in (0, 5), moment
        assert outcome(results) == whole, moment
        assert not [path for path in embeddings_folder().rglob("*") if "chunk" in path.name], moment
