"""What the plugin hands to mteb, within this process."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from environment import distribution

from mteb_vehicle_search import plugin
from mteb_vehicle_search.errors import PluginWarning

ROOT = Path(__file__).parents[1]
TASKS = ("VehicleImageSearch", "VehicleImageSearchMini")


def test_an_mteb_without_the_expected_modules_is_told_and_imports(tmp_path: Path) -> None:
    (tmp_path / "mteb").mkdir()
    (tmp_path / "mteb" / "__init__.py").write_text("__version__ = '9'", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-S", "-c", "import mteb_vehicle_search, mteb; print(mteb.__version__)"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
    )
    assert done.stdout.strip() == "9", done.stderr
    for what, module in (("tasks", "mteb.tasks"), ("models", "mteb.models"), ("benchmark entries", "mteb.benchmarks")):
        assert len(re.findall(rf"PluginWarning: The {what} of .*{module}", done.stderr)) == 1, done.stderr


# Registration within this process


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """mteb's models, to be changed freely."""
    import mteb  # noqa: F401

    copy = dict(sys.modules[plugin.MODELS].MODEL_REGISTRY)  # type: ignore[attr-defined]
    monkeypatch.setattr(sys.modules[plugin.MODELS], "MODEL_REGISTRY", copy)
    monkeypatch.setattr(plugin, "_told", set())
    return copy


def own_model(name: str) -> Any:
    from mteb.models import ModelMeta

    return ModelMeta.create_empty({"name": name, "embed_dim": 1})


def test_own_model_does_not_displace_another(registry: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    name = next(iter(registry))
    holder = registry[name]
    monkeypatch.setattr(plugin, "_own_offers", lambda: [plugin.Offer(own_model(name), plugin.OURS)])
    with pytest.warns(PluginWarning, match=re.escape(f"The model name {name!r} is taken by mteb")):
        plugin._add_own_models()
    assert registry[name] is holder
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plugin._add_own_models()  # told once


def test_jina_replaces_mtebs_entry_with_one_line_unless_told_otherwise(
    registry: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    mine, stock = own_model(plugin.REPLACED_MODEL), own_model(plugin.REPLACED_MODEL)
    registry[plugin.REPLACED_MODEL] = stock
    monkeypatch.setattr(plugin, "_own_offers", lambda: [plugin.Offer(mine, plugin.OURS)])
    caplog.set_level("INFO", plugin.logger.name)
    monkeypatch.setenv("VEHICLE_SEARCH_STOCK_JINA", "1")
    plugin._add_own_models()
    assert registry[plugin.REPLACED_MODEL] is stock
    assert not caplog.records
    monkeypatch.delenv("VEHICLE_SEARCH_STOCK_JINA")
    plugin._add_own_models()
    plugin._add_own_models()
    assert registry[plugin.REPLACED_MODEL] is mine
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert plugin.REPLACED_MODEL in caplog.text


def test_another_package_may_not_replace_jina(registry: dict[str, Any]) -> None:
    held = registry[plugin.REPLACED_MODEL]
    with pytest.warns(PluginWarning, match="the one of package 'x'"):
        plugin._add_models([plugin.Offer(own_model(plugin.REPLACED_MODEL), "package 'x'")])
    assert registry[plugin.REPLACED_MODEL] is held


def test_frozen_model_registry_is_told(registry: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[plugin.MODELS], "MODEL_REGISTRY", MappingProxyType(registry))
    with pytest.warns(PluginWarning, match=r"The models of .* with mteb .*MODEL_REGISTRY is a mappingproxy"):
        plugin.module_executed(plugin.MODELS)


def test_changed_computed_tasks_are_told_and_left_untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    import mteb

    mteb.get_task("NFCorpus")
    get_tasks: Any = sys.modules["mteb.get_tasks"]
    without = {name: task for name, task in get_tasks._TASKS_REGISTRY.items() if name not in TASKS}
    monkeypatch.setattr(get_tasks, "_TASKS_REGISTRY", dict(without))
    monkeypatch.delattr(get_tasks, "TASK_LIST")
    monkeypatch.setattr(plugin, "_told", set())
    with pytest.warns(PluginWarning, match=r"The tasks of .*AttributeError.*TASK_LIST"):
        plugin.module_executed(plugin.TASKS)
    left = get_tasks._TASKS_REGISTRY
    assert left == without


def test_entry_point_failure_names_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    distribution(tmp_path, "halfway", "json:no_such_name")
    (found,) = importlib.metadata.distributions(path=[str(tmp_path)])
    monkeypatch.setattr(plugin, "_told", set())
    (point,) = found.entry_points
    with pytest.warns(PluginWarning, match=r"'halfway' .*no_such_name.* AttributeError"):
        assert plugin._offers_of(point) == []
