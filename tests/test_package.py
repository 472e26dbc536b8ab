"""What the package offers by its name alone, and what importing it costs."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest

import mteb_vehicle_search
from mteb_vehicle_search.plugin import hook, registry

ROOT = Path(__file__).parents[1]


def test_tasks_are_those_that_mteb_knows():
    import mteb

    for name in ("VehicleImageSearch", "VehicleImageSearchMini"):
        task = getattr(mteb_vehicle_search, name)
        assert task.metadata.name == name
        assert type(mteb.get_task(name)) is task


def test_the_version_is_that_of_the_distribution():
    assert mteb_vehicle_search.__version__ == importlib.metadata.version("mteb-vehicle-search")


def test_other_names_are_missing():
    with pytest.raises(AttributeError, match="module 'mteb_vehicle_search' has no attribute 'VehicleSearch'"):
        _ = mteb_vehicle_search.VehicleSearch  # type: ignore[attr-defined]


def test_names_are_listed_before_they_are_used():
    names = dir(mteb_vehicle_search)
    assert names == sorted(names)
    assert {"VehicleImageSearch", "VehicleImageSearchMini", "register", "__version__", "__doc__"} <= set(names)
    assert sorted(mteb_vehicle_search.__all__) == [
        "VehicleImageSearch",
        "VehicleImageSearchMini",
        "from_functions",
        "register",
    ]


def test_register_registers(monkeypatch):
    calls = []
    monkeypatch.setattr(registry, "register", lambda: calls.append("registered"))
    mteb_vehicle_search.register()
    assert calls == ["registered"]


def test_importing_installs_the_hook(monkeypatch):
    calls, executed = [], []
    monkeypatch.setattr(hook, "install", calls.append)
    monkeypatch.setattr(registry, "module_executed", executed.append)
    importlib.reload(mteb_vehicle_search)
    assert calls == [mteb_vehicle_search.mteb_executed]
    calls[0]("mteb.tasks")
    assert executed == ["mteb.tasks"]


def test_importing_loads_next_to_nothing():
    code = "import sys; before = set(sys.modules); import mteb_vehicle_search; print(sorted(set(sys.modules) - before))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, env=environment)
    names = ["mteb_vehicle_search", "mteb_vehicle_search.plugin", "mteb_vehicle_search.plugin.hook"]
    assert done.stdout.strip() == str(names), done.stderr
