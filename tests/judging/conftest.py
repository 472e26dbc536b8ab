"""Mini's drawn scenes, and the page of a judge in a real browser."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from browsing import watched
from judging_pages import JUDGE, new_session
from waiting import pause_until

from mteb_vehicle_search import settings
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.judging import server
from mteb_vehicle_search.judgments import read_judgments


@pytest.fixture(scope="session")
def mini() -> EvalSet:
    """The embedded set."""
    return EvalSet.open(settings.mini_folder())


@pytest.fixture
def visit(browser):
    """Open the page at an address; nothing may be written to the console or asked of another origin."""
    with watched(browser) as pages:

        def visit(url: str, context: Any = None, guide: bool = False, **given: Any):
            page = pages.page(context, **given)
            page.goto(url)
            page.wait_for_selector("#stage img, #summary:not([hidden])")
            if not guide and page.locator("#guide").is_visible():
                page.click("#guide button")
            return page

        visit.problems = pages.problems
        yield visit
    # A refused answer is logged by the browser itself; tests that want one say so.
    assert pages.problems == []
    assert [url for url in pages.requests if not url.startswith("http://127.0.0.1:")] == []


class Served:
    """The page of a new session, served from a thread until `end`."""

    def __init__(self, eval_set: EvalSet, folder: Path, monkeypatch: pytest.MonkeyPatch, **drawn: Any) -> None:
        self.folder, self.eval_set = folder, eval_set
        self.session = new_session(eval_set, folder, **drawn)
        said: list[str] = []
        monkeypatch.setattr(server, "say", said.append)
        self.pages: list[server.Page] = []
        monkeypatch.setattr(server, "Page", lambda *given: self.pages.append(Original(*given)) or self.pages[-1])
        self.summary: Any = None
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()
        pause_until(lambda: said)
        self.url = said[0].split()[3]

    def _serve(self) -> None:
        self.summary = server.serve(self.session, open_browser=False, half_width=lambda: 0.0412)

    @property
    def page(self) -> server.Page:
        """What answers the browser."""
        return self.pages[0]

    @property
    def lines(self) -> list[Any]:
        """The judge's grades that are on the disk, as (query, image) -> grade."""
        given = read_judgments(self.folder).grades
        return {pair: of_judges[JUDGE] for pair, of_judges in given.items()}

    def end(self) -> None:
        """End the server, unless the page did."""
        self.page.on_finish()
        self.thread.join(10)
        assert not self.thread.is_alive()


Original = server.Page


@pytest.fixture
def serve(mini, tmp_path, monkeypatch):
    """Serve a session of Mini."""
    served = []

    def serve(**drawn: Any) -> Served:
        served.append(Served(mini, tmp_path / "judgments", monkeypatch, **drawn))
        return served[-1]

    yield serve
    for one in served:
        one.end()
