"""A local web server that gives files by ranges, also ones too big for memory, and misbehaves when it is told to."""

from __future__ import annotations

import gzip
import hashlib
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

Content = Callable[[int, int], bytes]
SIGNATURE = "X-Signature=secret"  # With a number behind it, in signed addresses.
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")
_CHUNK = 256 << 10
_BURST_S = 0.1


@dataclass
class Asked:
    """A request as it is answered: `sent` counts the bytes of the body that have left."""

    method: str
    path: str
    query: str
    range: str
    authorization: str
    status: int = 0
    sent: int = 0
    encoding: str = ""  # The ways of packing that it takes.


@dataclass
class Served:
    """A file: its size, what gives its bytes from a start to before an end, and its validators ("" for none)."""

    size: int
    content: Content
    etag: str
    modified: str = "Wed, 21 Oct 2026 07:28:00 GMT"
    ranges: bool = True
    login: str = ""  # The Authorization that it takes; "" if it is open.
    uses: int = -1  # How often a signed address of it is good; -1: it is given without one.
    faults: list[str] = field(default_factory=list)  # Taken one by one; see `RangeServer`.
    looks: list[str] = field(default_factory=list)  # The same, taken by HEAD and by who asks for the first byte alone.
    kind: str = "application/octet-stream"


class RangeServer:
    """Serves files under 127.0.0.1; `faults` of a file spoil its next answers, one each.

    - `401`, `403`, `404`, `429`, `500`, `503`: that status; 429 and 503 with `Retry-After: 7`.
    - `whole`: 200 and all of it, whatever part was asked for.
    - `wrong range`: 206 and as many bytes from elsewhere, said openly.
    - `fewer`, `more`: 206 with half of the bytes, or with 10 more; the length is that of what is sent.
    - `drop`: the right headers and half of the bytes, then the connection ends.
    - `changed`: from now on it is another file of the same size.
    - `no length`, `more in chunks`: in chunks, without a Content-Length.
    - `gzip`: packed, though that was not asked for.
    - `slow`: nothing for ever (until the server is closed).
    - ``: as it should be.

    Args:
        bytes_per_s: How many bytes all connections may send together; 0 for no limit.

    Attributes:
        log: Every request.
    """

    def __init__(self, bytes_per_s: float = 0) -> None:
        self.files: dict[str, Served] = {}
        self.log: list[Asked] = []
        self.signed: dict[str, int] = {}
        self.closed = threading.Event()
        self._pace = _Pace(bytes_per_s)
        self._server = _Threads(("127.0.0.1", 0), _handler(self, self._pace))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._server.server_port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    def serve(self, path: str, content: bytes) -> Served:
        """Put a file, or other bytes in the place of one, whose validators change with it."""
        self.files[path] = Served(len(content), lambda start, end: content[start:end], _etag(content))
        return self.files[path]

    def serve_virtual(self, path: str, size: int, content: Content) -> Served:
        """Put a file that exists nowhere as a whole: `content` makes what is asked for."""
        self.files[path] = Served(size, content, f'"{size:x}"')
        return self.files[path]

    def asked(self, method: str = "GET", path: str = "") -> list[Asked]:
        """The requests of a method, for one file or all."""
        return [one for one in self.log if one.method == method and path in ("", one.path)]

    def sent(self) -> int:
        """How many bytes of contents have left."""
        return sum(one.sent for one in self.log)

    def counts(self) -> Counter[str]:
        """How many requests there were, by method."""
        return Counter(one.method for one in self.log)

    def close(self) -> None:
        self.closed.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Threads(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away in mid-answer is one of the things tried here."""


class _Pace:
    """Lets bytes pass as a line of limited speed does, which all connections share."""

    def __init__(self, bytes_per_s: float) -> None:
        self._speed, self._lock, self._free = bytes_per_s, threading.Lock(), 0.0

    def wait(self, size: int) -> None:
        if not self._speed:
            return
        with self._lock:
            # What a thread oversleeps, the line makes up for.
            self._free = max(self._free, time.monotonic() - _BURST_S) + size / self._speed
            until = self._free
        time.sleep(max(0.0, until - time.monotonic()))


def _etag(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()[:16]}"'


def _handler(server: RangeServer, pace: _Pace) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def _answer(self) -> None:
            parts = urlsplit(self.path)
            path = unquote(parts.path)
            asked, login = self.headers.get("Range", ""), self.headers.get("Authorization", "")
            # Before the answer leaves, so that who has it finds it in the log.
            self._asked = Asked(self.command, path, parts.query, asked, login)
            self._asked.encoding = self.headers.get("Accept-Encoding", "")
            server.log.append(self._asked)
            self._give(path, parts.query)

        def _give(self, path: str, query: str) -> None:
            file = server.files.get(path.removeprefix("/signed"))
            if file is None:
                return self._reply(404, {})
            if path.startswith("/signed/"):
                if server.signed.get(query, 0) < 1:
                    return self._reply(403, {})
                server.signed[query] -= 1
            elif file.uses >= 0:
                signature = f"{SIGNATURE}{len(server.signed)}"
                server.signed[signature] = file.uses
                return self._reply(302, {"Location": f"/signed{path}?{signature}"})
            if file.login and self.headers.get("Authorization") != file.login:
                return self._reply(401, {"WWW-Authenticate": "Basic"})
            look = self.command == "HEAD" or self.headers.get("Range") == "bytes=0-0"
            faults = file.looks if look else file.faults
            fault = faults.pop(0) if faults else ""
            if fault.isdigit():
                return self._reply(int(fault), {"Retry-After": "7"} if fault in ("429", "503") else {})
            if fault == "slow":
                server.closed.wait(60)
                self.close_connection = True
                return None
            if fault == "changed":
                before = file.content
                file.content = lambda start, end: bytes(byte ^ 0xFF for byte in before(start, end))
                file.etag, file.modified = f'"of {file.etag[1:-1]}"', "Thu, 22 Oct 2026 07:28:00 GMT"
            return self._file(file, fault)

        def _file(self, file: Served, fault: str) -> None:
            headers = {"ETag": file.etag, "Last-Modified": file.modified, "Content-Type": file.kind}
            if file.ranges:
                headers["Accept-Ranges"] = "bytes"
            start, end, status = 0, file.size, 200
            asked = _RANGE.fullmatch(self.headers.get("Range", ""))
            known = self.headers.get("If-Range", file.etag)
            if asked and file.ranges and fault != "whole" and known in (file.etag, file.modified):
                start, end, status = int(asked[1]), min(file.size, int(asked[2] or file.size - 1) + 1), 206
                if start >= end:
                    return self._reply(416, {"Content-Range": f"bytes */{file.size}"})
                if fault == "wrong range":
                    start, end = (start - 1, end - 1) if start else (start + 1, end + 1)
                headers["Content-Range"] = f"bytes {start}-{end - 1}/{file.size}"
                if fault == "fewer":
                    end = start + (end - start) // 2
                elif fault in ("more", "more in chunks"):
                    end += 10
            headers = {name: value for name, value in headers.items() if value}
            if fault == "gzip":
                packed = gzip.compress(file.content(start, end))
                return self._reply(
                    status, {**headers, "Content-Encoding": "gzip"}, len(packed), lambda a, b: packed[a:b]
                )
            return self._reply(
                status,
                headers,
                end - start,
                lambda a, b: file.content(start + a, min(file.size, start + b)).ljust(b - a, b"\0"),
                chunked=fault in ("no length", "more in chunks"),
                stop=(end - start) // 2 if fault == "drop" else None,
            )

        def _reply(
            self,
            status: int,
            headers: dict[str, str],
            size: int = 0,
            content: Content = lambda start, end: b"",
            *,
            chunked: bool = False,
            stop: int | None = None,
        ) -> None:
            """Answer with `size` bytes of a content, in chunks without a length, or not all of them."""
            self._asked.status = status
            self.send_response(status)
            self.send_header(*(("Transfer-Encoding", "chunked") if chunked else ("Content-Length", str(size))))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "HEAD":
                return
            for at in range(0, size, _CHUNK):
                data = content(at, min(at + _CHUNK, size))
                if ends := stop is not None and at + len(data) > stop:
                    data = data[: max(0, stop - at)]
                pace.wait(len(data))
                self._asked.sent += len(data)
                self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data) if chunked and data else data)
                if ends:
                    self.close_connection = True
                    return
            if chunked:
                self.wfile.write(b"0\r\n\r\n")

    return Handler
