"""A browser's page that is watched: what it writes to the console, and what it asks for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

SETTINGS = {"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce"}


@dataclass
class Watched:
    """Pages of a browser, with all their problems and requests so far."""

    browser: Any
    problems: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    contexts: list[Any] = field(default_factory=list)

    def page(self, context: Any = None, **settings: Any) -> Any:
        """Return a new page, of a context of its own where none is given."""
        if context is None:
            context = self.browser.new_context(**{**SETTINGS, **settings})
            self.contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda message: self.problems.append(message.text))
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))
        return page


def serious_faults(page: Any) -> list[tuple[str, str]]:
    """Return what axe finds of a page that keeps people from using it: the rule, and the first place."""
    from axe_core_python.sync_playwright import Axe

    found = Axe().run(page)["violations"]
    return [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")]


@contextmanager
def watched(browser: Any) -> Iterator[Watched]:
    """Give what opens watched pages, and close them."""
    found = Watched(browser)
    yield found
    for context in found.contexts:
        context.close()
