"""Every test works in its own world: no user data, no hub, no network."""

import os
import shutil
from pathlib import Path

import pytest

from mteb_vehicle_search.settings import VARIABLES

# Before anything imports huggingface_hub, which reads it once.
os.environ["HF_HUB_OFFLINE"] = os.environ.get("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Where `real.py` looks, in this process and in those that run tests for it.
if chosen := os.environ.pop("VEHICLE_SEARCH_REAL", ""):
    os.environ["REAL_PHOTOGRAPHS"] = str(Path(chosen).absolute())


# A process takes a file at a time: what takes a minute must not be the last.
LONG = (
    *("data_prep/test_interruptions.py", "engine/test_ray.py", "report/test_page.py", "judging/test_judging_page.py"),
    *("test_poor_consoles.py", "data_prep/test_hub_models.py", "plugin/test_import_order.py", "test_installed.py"),
    *("search/test_start_methods.py", "analysis/test_dependence.py", "plugin/test_located_models.py"),
)


def pytest_collection_modifyitems(items):
    """Put the tests of long files first; random order among files and tests stays otherwise."""
    here = Path(__file__).parent
    items.sort(key=lambda item: item.path.relative_to(here).as_posix() not in LONG)


@pytest.fixture(autouse=True)
def isolated(tmp_path_factory, monkeypatch):
    """Point every cache and data folder at a temporary one."""
    base = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HF_HOME", str(base / "hf"))
    monkeypatch.setenv("MTEB_CACHE", str(base / "mteb"))
    monkeypatch.setenv("VEHICLE_SEARCH_HOME", str(base / "vehicle-search"))
    for name in VARIABLES:
        if name not in ("VEHICLE_SEARCH_HOME", "VEHICLE_SEARCH_DEBUG"):
            monkeypatch.delenv(name, raising=False)
    # Set, so that what `--debug` makes of it ends with the test.
    monkeypatch.setenv("VEHICLE_SEARCH_DEBUG", "0")


@pytest.fixture(scope="session")
def browser():
    """A headless chromium."""
    chromium = shutil.which("chromium")
    if not chromium:
        pytest.skip("chromium is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        started = play.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield started
        started.close()
