"""Who may ask the page's server: this browser, from this page, by the name that it was given."""

from __future__ import annotations

import hmac
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ADDRESS = "127.0.0.1"
# An answer has 200 bytes.
BODY_BYTES = 4_096
HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
STRANGER = "This address lacks its key. Open the whole address that vehicle-search judge printed."


class Guard:
    """Lets only those requests through that the page itself makes; every answer gets `HEADERS`.

    The token comes once in the address of the page (`/?token=...`) and then in a cookie, which no script can read and
    no other site's page sends. Names other than our own are refused, since a site may point its name at this machine.

    Args:
        app: What is guarded.
        port: Where it is served.
        token: The secret.
    """

    def __init__(self, app: ASGIApp, port: int, token: str) -> None:
        self.app, self.token = app, token
        self.hosts = (f"{ADDRESS}:{port}", f"localhost:{port}")
        # Cookies know no ports; several servers of this machine must not take each other's.
        self.cookie = f"judging_{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or have it answered."""
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        token_given = scope["path"] == "/" and self._same(_first(scope["query_string"], "token"))

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                if token_given:
                    headers.append("set-cookie", f"{self.cookie}={self.token}; HttpOnly; SameSite=Strict; Path=/")
            await send(message)

        refusal = self._refusal(scope["method"], scope["path"], Headers(scope=scope), token_given)
        answer = PlainTextResponse(refusal[1], refusal[0]) if refusal else self.app
        await answer(scope, receive, send_guarded)

    def _refusal(self, method: str, path: str, headers: Headers, token_given: bool) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if host not in self.hosts:
            return 421, "This server answers to its own address only."
        if method not in ("GET", "HEAD", "POST"):
            return 405, "Only GET and POST."
        if method == "POST" and headers.get("origin") != f"http://{host}":
            return 403, "Only the page itself may send answers."
        # A link may lead to the page from anywhere; all else is asked for by the page.
        if path != "/" and headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return 403, "Only the page itself may ask."
        if not token_given and not self._same(_cookie(headers.get("cookie", ""), self.cookie)):
            return 403, STRANGER
        length = headers.get("content-length", "" if method == "POST" else "0")
        if not length.isdecimal():
            return 411, "How long is it?"
        if int(length) > BODY_BYTES:
            return 413, "No answer is as long."
        return None

    def _same(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(errors="replace"), self.token.encode())


def _first(query: bytes, name: str) -> str:
    return parse_qs(query.decode("latin-1")).get(name, [""])[0]


def _cookie(header: str, name: str) -> str:
    try:
        found = SimpleCookie(header).get(name)
    except CookieError:
        return ""
    return found.value if found else ""
