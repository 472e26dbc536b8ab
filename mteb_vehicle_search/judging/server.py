"""The page's server: Starlette on this machine only; an answer is on the disk before the page hears of it.

GET  /               the page
GET  /api/session    what is judged and what was answered; the tab that asks has the page from then on
POST /api/answer     a grade of an item, or None to take it back
GET  /api/summary    what was said so far
POST /api/finish     ends the server
GET  /image/KEY, /known/KEY/N   the image of an item; the Nth relevant image of its caption
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, cast

from mteb_vehicle_search.errors import ResultsError, UsageError, VehicleSearchError
from mteb_vehicle_search.judgments.judgment import GRADES, INSTALL

try:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.exceptions import HTTPException
    from starlette.requests import Request
    from starlette.responses import HTMLResponse, JSONResponse, Response
    from starlette.routing import Mount, Route
    from starlette.staticfiles import StaticFiles
except ModuleNotFoundError as error:
    raise UsageError("Judging needs starlette and uvicorn.", INSTALL) from error

from mteb_vehicle_search.judging.address import address_of
from mteb_vehicle_search.judging.guard import Guard
from mteb_vehicle_search.judging.read_ahead import ReadAhead
from mteb_vehicle_search.judging.session import Item, Session, Summary
from mteb_vehicle_search.judgments import JudgeFile
from mteb_vehicle_search.terminal import NO_ROOM, say

STATIC = Path(__file__).parent / "static"
# After so many more units the half-width is computed again, if it is known how.
EVERY_UNITS = 5
HalfWidth = Callable[[], float | None]


@cache
def guide() -> tuple[str, str]:
    """Return the guide (HTML) and its sha256, the same whatever ends its lines on this system."""
    text = (STATIC / "guide.html").read_text(encoding="utf-8")
    return text, hashlib.sha256(text.encode()).hexdigest()


def serve(
    session: Session, *, port: int = 0, open_browser: bool = True, half_width: HalfWidth | None = None
) -> Summary:
    """Serve the page until the judge finishes there, or presses Ctrl-C; returns what was said.

    Args:
        session: Its answers go into the judge's file in its folder.
        port: Of 127.0.0.1; 0: the one from before, else any.
        open_browser: Whether to open the page too; its address is printed in any case.
        half_width: Computes the present half-width of the corrected score's interval from the files; None: not known.

    Raises:
        ResultsError: Another process shows this judge the page, or the port is taken.
    """
    with address_of(session.folder, session.judge, port) as address:
        page = Page(session, half_width)
        config = uvicorn.Config(
            Guard(page.app(), address.port, address.token),
            log_level="warning",
            access_log=False,
            lifespan="off",
            server_header=False,
            http="h11",
            ws="none",
            loop="asyncio",
            timeout_graceful_shutdown=3,
        )
        server = uvicorn.Server(config)
        page.on_finish = lambda: setattr(server, "should_exit", True)
        # Ctrl-C arrives as an interruption, after the last answer has left.
        with page.images.reading(), suppress(KeyboardInterrupt):
            say(f"Judging as {session.judge}: {address.url}\nCtrl-C stops; the same command goes on.")
            if open_browser:
                # In a thread: some browsers come back when they are closed. The socket listens already.
                threading.Thread(target=webbrowser.open, args=(address.url,), daemon=True).start()
            server.run(sockets=[address.socket])
        if page.finished:
            address.forget()
    return session.summary()


class Page:
    """The page of one session: what it asks for, and what it sends."""

    def __init__(self, session: Session, half_width: HalfWidth | None = None) -> None:
        self.session, self._half_width = session, half_width
        self.file = JudgeFile(session.folder, session.judge)
        known = (image for unit in session.units for image in unit.known)
        self.images = ReadAhead(session.eval_set, [*(item.image for item in session.items), *known])
        self.on_finish: Callable[[], object] = lambda: None
        self.finished = False
        self._tab = ""
        self._writing = asyncio.Lock()
        self._width: float | None = None
        self._width_at = -EVERY_UNITS
        self._task: asyncio.Task[None] | None = None

    def app(self) -> Starlette:
        """Return what is served, unguarded."""
        return Starlette(
            routes=[
                Route("/", self.page),
                Route("/api/session", self.whole),
                Route("/api/answer", self.answer, methods=["POST"]),
                Route("/api/summary", self.summary),
                Route("/api/finish", self.finish, methods=["POST"]),
                Route("/image/{key}", self.image),
                Route("/known/{key}/{number:int}", self.known),
                Mount("/static", StaticFiles(directory=STATIC)),
            ],
            exception_handlers={HTTPException: _refused, VehicleSearchError: _broken},
        )

    async def page(self, request: Request) -> Response:
        """Return the HTML."""
        return HTMLResponse(_html(title=self.session.eval_set.title, judge=self.session.judge, guide=guide()[0]))

    async def whole(self, request: Request) -> Response:
        """Return the session; the tab that asks has the page from now on."""
        self._tab = request.query_params.get("tab", "")
        session = self.session
        units = [
            {"caption": session.captions[unit.query], "known": len(unit.known), "looked": session.looked(unit)}
            for unit in session.units
        ]
        items = [{"key": item.key, "unit": item.unit, "grade": session.grade(item)} for item in session.items]
        name = f"{session.sample.id} {session.judge}"
        return JSONResponse({"name": name, "units": units, "items": items, "progress": self._progress()})

    async def answer(self, request: Request) -> Response:
        """Write an answer, and return what is written of the item: `{"grade": ..., "progress": ...}`.

        A tab that another one took the page from gets 409; if the answer cannot be written, 507 (no room) or 500.
        """
        asked = await _json(request)
        if self._tab and asked.get("tab") != self._tab:
            raise HTTPException(409, "Judging goes on in another tab of this browser.")
        self._tab = str(asked.get("tab"))
        async with self._writing:
            try:
                grade = await run_in_threadpool(self._write, asked)
            except KeyError as error:
                raise HTTPException(404, "There is no such item; load the page again.") from error
            except (ResultsError, TypeError) as error:
                raise HTTPException(400, f"This is no answer: {error}") from error
            except OSError as error:
                raise HTTPException(507 if error.errno in NO_ROOM else 500, self._unwritten(error)) from error
        return JSONResponse({"grade": grade, "progress": self._progress()})

    def _write(self, asked: dict[str, Any]) -> int | None:
        key = str(asked["key"])
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = self.session.judgment(
            key, asked["grade"], seconds=asked["seconds"], at=at, guide=guide()[1], looked=asked["looked"] is True
        )
        if line is not None:
            self.file.append(line)
            self.session.take(line)
        return self.session.grade(self.session.item(key))

    def _unwritten(self, error: OSError) -> str:
        if error.errno in NO_ROOM:
            return f"The disk is full: {self.file.path} cannot grow. Free some space, then try again."
        return f"{self.file.path} cannot be written: {error.strerror or error}."

    def _progress(self) -> dict[str, Any]:
        progress = self.session.progress()
        if self._half_width and progress.units - self._width_at >= EVERY_UNITS and not self._task:
            self._width_at = progress.units
            self._task = asyncio.create_task(self._measure(self._half_width))
        return {**progress._asdict(), "halfWidth": self._width}

    async def _measure(self, half_width: HalfWidth) -> None:
        try:
            self._width = await run_in_threadpool(half_width)
        except VehicleSearchError as error:
            # The judgments are safe; what they give so far is a matter of the analysis.
            self._width = None
            say(f"The present half-width is not known: {error}")
        finally:
            self._task = None

    async def summary(self, request: Request) -> Response:
        """Return what was said so far."""
        return JSONResponse(self._summary())

    def _summary(self) -> dict[str, Any]:
        said = self.session.summary()
        return {"grades": said.grades, "seconds": said.seconds, "checks": said.checks, "progress": self._progress()}

    async def finish(self, request: Request) -> Response:
        """End the server, once this answer has left."""
        self.finished = True
        asyncio.get_running_loop().call_later(0.1, self.on_finish)
        return JSONResponse(self._summary())

    async def image(self, request: Request) -> Response:
        """Return the image of an item."""
        return await self._jpeg(self._item(request).image)

    async def known(self, request: Request) -> Response:
        """Return one of the images that are relevant by the labels."""
        item, number = self._item(request), request.path_params["number"]
        known = self.session.units[item.unit].known
        if number >= len(known):
            raise HTTPException(404, "There is no such image.")
        self.session.look(item)
        return await self._jpeg(known[number])

    def _item(self, request: Request) -> Item:
        try:
            return self.session.item(request.path_params["key"])
        except KeyError as error:
            raise HTTPException(404, "There is no such image.") from error

    async def _jpeg(self, image: str) -> Response:
        return Response(await run_in_threadpool(self.images.get, image), media_type="image/jpeg")


async def _json(request: Request) -> dict[str, Any]:
    try:
        asked = json.loads(await request.body())
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, "This is no answer: not JSON.") from error
    if not isinstance(asked, dict) or not {"key", "grade", "seconds", "looked", "tab"} <= asked.keys():
        raise HTTPException(400, "This is no answer: key, grade, seconds, looked and tab are wanted.")
    return asked


async def _refused(request: Request, error: Exception) -> Response:
    refusal = cast(HTTPException, error)
    return JSONResponse({"error": refusal.detail}, refusal.status_code)


async def _broken(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 500)


@cache
def _html(**content: str) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    page = Environment(
        loader=PackageLoader("mteb_vehicle_search.judging"), autoescape=True, undefined=StrictUndefined
    ).get_template("page.html.j2")
    return page.render({**content, "grades": GRADES, "guide": Markup(content["guide"])})  # noqa: S704
