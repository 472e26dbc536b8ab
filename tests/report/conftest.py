"""One site for all tests of the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from browsing import watched
from small_runs import MODELS, write_run, write_set

from mteb_vehicle_search.analysis.leaderboard import build_leaderboard
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.report.build import build_report


@pytest.fixture(scope="session")
def eval_set(tmp_path_factory) -> EvalSet:
    """The small evaluation set."""
    return write_set(tmp_path_factory.mktemp("report") / "set")


@pytest.fixture(scope="session")
def site(eval_set, tmp_path_factory) -> Path:
    """The page of three models, in a folder whose name needs escaping in an address."""
    folder = tmp_path_factory.mktemp("report site")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VEHICLE_SEARCH_HOME", str(folder / "home"))
        for number, model in enumerate(MODELS):
            write_run(eval_set, model, about={"n_parameters": 10 ** (6 + number), "images_per_s": 100.0 / (1 + number)})
        build_report(build_leaderboard([folder / "home"]), eval_set, folder / "site")
    return folder / "site"


@pytest.fixture
def visit(browser, site):
    """Open the page at an address; nothing may be written to the console or asked of the network."""
    with watched(browser) as pages:

        def visit(address: str = "", folder: Path = site, context: Any = None, **settings: Any):
            page = pages.page(context, **settings)
            page.add_init_script(SHIFTS)
            page.goto((folder / "index.html").as_uri() + address)
            page.wait_for_selector("#detail .answers")
            return page

        yield visit
    assert pages.problems == []
    assert [url for url in pages.requests if not url.startswith(("file:", "data:"))] == []


# Sums the layout shifts that no input caused.
SHIFTS = """window.shifted = 0;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shifted += entry.value;
}).observe({ type: "layout-shift", buffered: true });"""
