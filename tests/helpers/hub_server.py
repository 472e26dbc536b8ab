"""A local server that behaves like the hub towards its own client: redirects, ranges, gates, limits, broken lines."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from hub_uploads import Uploads

_RESOLVE = re.compile(r"(?:/datasets)?/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
_TREE = re.compile(r"/api/(?:datasets|models)/([^/]+/[^/]+)/tree/([^/]+)(?:/(.*))?")
_AUTH = re.compile(r"/api/(?:datasets|models)/([^/]+/[^/]+)/auth-check")
_INFO = re.compile(r"/api/(?:datasets|models)/([^/]+/[^/]+)(?:/revision/([^/]+))?")


class HubServer:
    """Serves repositories from memory; `faults` spoils the next answers.

    Attributes:
        repos: repo -> path -> bytes.
        branches: (repo, branch) -> commit.
        gated: Repositories that need the token `Bearer good`.
        private: Repositories that were created as private ones.
        objects: Uploaded LFS objects by sha256.
        faults: Taken one per download: `429`, `503`, `drop` (half of what was asked for, then a closed connection) or
            `damage` (right size, wrong bytes).
        log: Every request: method, path, range.
        pause_s: How long each file's bytes are waited for.
    """

    def __init__(self) -> None:
        self.repos: dict[str, dict[str, bytes]] = {}
        self.branches: dict[tuple[str, str], str] = {}
        self.gated: set[str] = set()
        self.private: set[str] = set()
        self.objects: dict[str, bytes] = {}
        self.faults: list[str] = []
        self.log: list[tuple[str, str, str]] = []
        self.pause_s = 0.0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def cdn_url(self) -> str:
        """Another host, as the hub's storage is: the client answers such a redirect differently."""
        return f"http://localhost:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def commit(self, repo: str, revision: str) -> str | None:
        if re.fullmatch(r"[0-9a-f]{40}", revision):
            return revision
        return self.branches.get((repo, revision))

    def downloads(self) -> Counter[str]:
        """How often each path's bytes were asked for."""
        return Counter(path for method, path, _ in self.log if method == "GET" and path.startswith("/cdn/"))

    def run(self, code: str, home: Path, token: str = "") -> subprocess.CompletedProcess[str]:
        """Run Python code in a process whose hub client knows only this server."""
        words = [sys.executable, "-c", code]
        return subprocess.run(
            words, env=self.environment(home, token), capture_output=True, text=True, timeout=120, check=False
        )

    def environment(self, home: Path, token: str = "") -> dict[str, str]:
        """Return what such a process has set."""
        return {
            **{k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))},
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
            **({"HF_TOKEN": token} if token else {}),
        }


def _handler(hub: HubServer) -> type[BaseHTTPRequestHandler]:
    class Handler(Uploads):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def _answer(self) -> None:
            path = unquote(urlsplit(self.path).path)
            raw = urlsplit(self.path).path
            hub.log.append((self.command, path, self.headers.get("Range", "")))
            if path.startswith("/cdn/"):
                time.sleep(hub.pause_s)
                self._bytes(path)
            elif match := _RESOLVE.fullmatch(raw):
                self._resolve(*map(unquote, match.groups()))
            elif match := _TREE.fullmatch(raw):
                recursive = "recursive=true" in urlsplit(self.path).query.lower()
                self._tree(*(unquote(group or "") for group in match.groups()), recursive)
            elif match := _AUTH.fullmatch(raw):
                if self._allowed(unquote(match[1]), "a" * 40):  # Whatever the revision.
                    self.send_json({})
            elif match := _INFO.fullmatch(raw):
                self._info(unquote(match[1]), unquote(match[2] or "main"))
            else:
                self._reply(404, {})

        def _reply(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
            self.send_response(status)
            headers = {"Content-Length": str(len(body)), **headers}
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def send_json(self, value: object, status: int = 200) -> None:
            self._reply(status, {"Content-Type": "application/json"}, json.dumps(value).encode())

        def _allowed(self, repo: str, revision: str) -> str | None:
            if repo not in hub.repos:
                self._reply(401, {"X-Error-Code": "RepoNotFound"})
                return None
            if repo in hub.gated and self.headers.get("Authorization") != "Bearer good":
                status = 403 if self.headers.get("Authorization") else 401
                self._reply(status, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted."})
                return None
            commit = hub.commit(repo, revision)
            if commit is None:
                self._reply(404, {"X-Error-Code": "RevisionNotFound"})
            return commit

        def _resolve(self, repo: str, revision: str, path: str) -> None:
            commit = self._allowed(repo, revision)
            if commit is None:
                return
            data = hub.repos[repo].get(path)
            if data is None:
                self._reply(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
                return
            digest = hashlib.sha256(data).hexdigest()
            headers = {
                "X-Repo-Commit": commit,
                "X-Linked-Size": str(len(data)),
                "X-Linked-Etag": f'"{digest}"',
                "ETag": f'"{digest}"',
                "Location": f"{hub.cdn_url}/cdn/{repo}/{path}",
            }
            self._reply(302, headers)

        def _tree(self, repo: str, revision: str, folder: str, recursive: bool) -> None:
            if self._allowed(repo, revision) is None:
                return
            above = f"{folder}/" if folder else ""
            below = {path: data for path, data in hub.repos[repo].items() if path.startswith(above)}
            if folder and not below:
                self._reply(404, {"X-Error-Code": "EntryNotFound"})
                return
            folders: set[str] = set()
            if not recursive:
                folders = {path[len(above) :].partition("/")[0] for path in below if "/" in path[len(above) :]}
                below = {path: data for path, data in below.items() if "/" not in path[len(above) :]}
            entries: list[dict[str, object]] = [
                {"type": "directory", "path": above + name, "oid": "0" * 40, "size": 0} for name in sorted(folders)
            ]
            entries += [
                {
                    "type": "file",
                    "path": path,
                    "size": len(data),
                    "oid": hashlib.sha1(data).hexdigest(),
                    "lfs": {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130},
                }
                for path, data in below.items()
            ]
            self.send_json(entries)

        def _info(self, repo: str, revision: str) -> None:
            commit = self._allowed(repo, revision)
            if commit is not None:
                siblings = [{"rfilename": path} for path in hub.repos[repo]]
                self.send_json(
                    {"id": repo, "sha": commit, "siblings": siblings, "private": repo in hub.private, "tags": []}
                )

        def _bytes(self, path: str) -> None:
            owner, name, file = path.removeprefix("/cdn/").split("/", 2)
            data = hub.repos[f"{owner}/{name}"][file]
            asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            start = int(asked[1]) if asked else 0
            body = data[start : int(asked[2]) + 1 if asked and asked[2] else None]
            fault = hub.faults.pop(0) if hub.faults and self.command == "GET" else ""
            if fault.isdigit():
                self._reply(int(fault), {"Retry-After": "0"} if fault == "429" else {})
                return
            if fault == "damage":
                body = bytes(len(body))
            headers = {"Content-Length": str(len(body)), "Accept-Ranges": "bytes"}
            if asked:
                headers["Content-Range"] = f"bytes {start}-{start + len(body) - 1}/{len(data)}"
            if fault == "drop":
                self.send_response(206 if asked else 200)
                for key, value in headers.items():
                    self.send_header(key, value)
                self.end_headers()
                self.wfile.write(body[: len(body) // 2])
                self.wfile.flush()
                self.close_connection = True
                return
            self._reply(206 if asked else 200, headers, body)

    Handler.hub = hub
    return Handler
