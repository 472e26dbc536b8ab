"""Registration does not depend on who imports what first; each case in a fresh interpreter."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path

import mteb
import pytest
from environment import distribution

import mteb_vehicle_search

ROOT = Path(__file__).parents[2]
BOTH = "assert mteb.get_task('VehicleImageSearch') and mteb.get_task('VehicleImageSearchMini')"
mteb_vehicle_search.register()


def runs(code: str, *places: Path) -> None:
    """Run code in a fresh interpreter without start-up files, where every warning is an error."""
    paths = [*map(str, places), str(ROOT), *(path for path in sys.path if "site-packages" in path)]
    kept = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE")}
    done = subprocess.run(
        [sys.executable, "-S", "-W", "error:mteb-vehicle-search", "-W", "error:The ", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        env={**kept, "PYTHONPATH": os.pathsep.join(paths)},
    )
    assert done.returncode == 0, done.stderr
    assert "PluginWarning" not in done.stderr


@pytest.mark.parametrize(
    "first",
    [
        pytest.param("import mteb, mteb_vehicle_search", marks=pytest.mark.slow),
        "import mteb_vehicle_search, mteb",
        "from mteb_vehicle_search.tasks import VehicleImageSearch; import mteb",
        pytest.param("import mteb; from mteb_vehicle_search.tasks import VehicleImageSearch", marks=pytest.mark.slow),
        pytest.param("from mteb_vehicle_search import VehicleImageSearch; import mteb", marks=pytest.mark.slow),
        "import mteb.tasks, mteb_vehicle_search.plugin.registry; import mteb",
        "from mteb_vehicle_search.models.encoder import ImageTextEncoder; import mteb",
        pytest.param("import mteb_vehicle_search.search.exact_search, mteb", marks=pytest.mark.slow),
        "import mteb_vehicle_search.stored_results, mteb",
    ],
)
def test_the_tasks_are_there_whatever_is_imported_first(first: str) -> None:
    runs(f"{first}\n{BOTH}\nassert mteb.get_benchmark('VehicleImageSearch').tasks\n")


def test_a_pickled_task_brings_everything_with_it(tmp_path: Path) -> None:
    (tmp_path / "task").write_bytes(pickle.dumps(mteb.get_task("VehicleImageSearchMini")))
    runs(
        f"""
        import pickle
        task = pickle.load(open({str(tmp_path / "task")!r}, "rb"))
        import mteb
        assert type(mteb.get_task(task.metadata.name)) is type(task)
        assert task.metadata.revision.startswith("06954f03")
        {BOTH}
        """
    )


@pytest.mark.parametrize(
    ("first", "value"),
    [
        ("import mine", "mine:META"),
        pytest.param("import mteb_vehicle_search, mine", "mine:META", marks=pytest.mark.slow),
        pytest.param("import mteb, mteb_vehicle_search, mine", "mine:META", marks=pytest.mark.slow),
        ("import mine_whole", "mine_whole.models:META"),
    ],
)
def test_ones_own_plugin_may_be_imported_first(tmp_path: Path, first: str, value: str) -> None:
    """It imports mteb, which asks it for its models while it is being imported itself."""
    module = """
    import mteb
    import mteb_vehicle_search
    from mteb.models import ModelMeta
    META = ModelMeta.create_empty({"name": "mine/model", "modalities": ["text", "image"]})
    """
    (tmp_path / "mine.py").write_text(textwrap.dedent(module), encoding="utf-8")
    (tmp_path / "mine_whole").mkdir()
    (tmp_path / "mine_whole" / "__init__.py").write_text("from mine_whole.models import META\n", encoding="utf-8")
    (tmp_path / "mine_whole" / "models.py").write_text(textwrap.dedent(module), encoding="utf-8")
    distribution(tmp_path, "mine", value)
    name = value.partition(":")[0]
    runs(
        f"""
        {first}
        import mteb, sys
        assert mteb.get_model_meta("mine/model") is sys.modules[{name!r}].META
        from mteb.models.model_implementations import MODEL_REGISTRY
        assert "mine/model" in MODEL_REGISTRY and "vehicle-search/tiny-clip" in MODEL_REGISTRY
        assert MODEL_REGISTRY["mine/model"] in list(MODEL_REGISTRY.values())
        """,
        tmp_path,
    )
