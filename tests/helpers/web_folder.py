"""A local web server that gives the files of a folder, and does not say what is in it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class WebFolder:
    """See `serving`.

    Attributes:
        url: Of the folder.
        asked: How often each path below it was asked for.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.asked: Counter[str] = Counter()


@contextmanager
def serving(folder: Path) -> Iterator[WebFolder]:
    """Give a server for as long as it is used; paths with `page` in them are a page for people."""

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            web.asked[self.path.removeprefix("/set/")] += 1
            if "page" not in self.path:
                self.path = self.path.removeprefix("/set")
                super().do_GET()
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<html>Please log in.</html>")

        def list_directory(self, path: object) -> None:
            self.send_error(404)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    web = WebFolder(f"http://127.0.0.1:{server.server_port}/set")
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()
