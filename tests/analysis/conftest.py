"""Run records of three simulated models, small enough for a test."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from simulated_runs import CONTENT_ID, MODELS, TASK, write_run

from mteb_vehicle_search.run_record import RunRecord

SMALL = {"images": 120, "captions": 5, "distractors": 3_000}


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """An empty home, and a working directory without results."""
    monkeypatch.setenv("VEHICLE_SEARCH_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("VEHICLE_SEARCH_DATA", raising=False)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "home"


@pytest.fixture(scope="session")
def simulated(tmp_path_factory) -> Path:
    """A runs folder with the records of good, twin-of-good and poor."""
    place = tmp_path_factory.mktemp("simulated")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VEHICLE_SEARCH_HOME", str(place))
        for model in MODELS:
            write_run(model, **SMALL)
    return place / "runs"


@pytest.fixture
def runs(home, simulated):
    """Records of good, twin-of-good and poor, by their last name; each test has its own copy."""
    shutil.copytree(simulated, home / "runs")
    records = (RunRecord.open(path.parent) for path in (home / "runs").rglob("run.json"))
    found = {record.info["model_name"].partition("/")[2]: record for record in records}
    return {model.name.partition("/")[2]: found[model.name.partition("/")[2]] for model in MODELS}


@pytest.fixture
def write_result(tmp_path):
    """Write an mteb result file; returns its path."""

    def write(model: str, scores: dict, *, revision="0" * 40, content_id=CONTENT_ID, task=TASK, meta=None) -> Path:
        folder = tmp_path / "work" / "results" / "results" / model.replace("/", "__") / revision
        folder.mkdir(parents=True, exist_ok=True)
        content = {
            "dataset_revision": content_id,
            "task_name": task,
            "mteb_version": "2.26.24",
            "scores": {"test": [{"hf_subset": "default", "nauc_ndcg_at_10_max": float("nan"), **scores}]},
            "evaluation_time": 1.5,
            "date": "2026-11-02T00:00:00",
        }
        (folder / f"{task}.json").write_text(json.dumps(content), encoding="utf-8")
        if meta is not None:
            (folder / "model_meta.json").write_text(json.dumps({"name": model, "revision": revision, **meta}))
        return folder / f"{task}.json"

    return write
