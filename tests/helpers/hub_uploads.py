"""The half of the hub that takes uploads: repositories are created, files sent as LFS objects or within the commit."""

from __future__ import annotations

import base64
import json
import re
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hub_server import HubServer

_PREUPLOAD = re.compile(r"/api/datasets/([^/]+/[^/]+)/preupload/main")
_BATCH = re.compile(r"/datasets/([^/]+/[^/]+)\.git/info/lfs/objects/batch")
_COMMIT = re.compile(r"/api/datasets/([^/]+/[^/]+)/commit/main")
HEAD = "e" * 40


class Uploads(BaseHTTPRequestHandler):
    """Answers to POST and PUT; a subclass sets `hub` and gives `send_json` and `reply`."""

    hub: HubServer

    def send_json(self, value: object, status: int = 200) -> None:
        raise NotImplementedError

    def do_PUT(self) -> None:
        self.hub.log.append(("PUT", self.path, ""))
        self.hub.objects[self.path.rpartition("/")[2]] = self._body()
        self.send_json({})

    def do_POST(self) -> None:
        self.hub.log.append(("POST", self.path, ""))
        body = self._body()
        if self.headers.get("Authorization") != "Bearer good":
            self.send_json({"error": "Invalid username or password."}, 401)
        elif self.path == "/api/repos/create":
            self._create(json.loads(body))
        elif self.path == "/api/validate-yaml":
            self.send_json({"errors": [], "warnings": []})
        elif _PREUPLOAD.fullmatch(self.path):
            files = [
                {"path": f["path"], "uploadMode": _mode(f["path"]), "shouldIgnore": False}
                for f in json.loads(body)["files"]
            ]
            self.send_json({"files": files})
        elif _BATCH.fullmatch(self.path):
            objects = [
                {**found, "actions": {"upload": {"href": f"{self.hub.url}/lfs/{found['oid']}"}}}
                for found in json.loads(body)["objects"]
            ]
            self.send_json({"transfer": "basic", "objects": objects})
        elif match := _COMMIT.fullmatch(self.path):
            self._commit(match[1], [json.loads(line) for line in body.splitlines()])
        else:
            self.send_json({}, 404)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        found = b""
        while size := int(self.rfile.readline(), 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found

    def _create(self, asked: dict[str, Any]) -> None:
        repo = f"{asked.get('organization') or 'me'}/{asked['name']}"
        if repo in self.hub.repos:
            self.send_json({"error": "You already created this repo", "url": f"{self.hub.url}/datasets/{repo}"}, 409)
            return
        self.hub.repos[repo] = {".gitattributes": b""}
        self.hub.branches[repo, "main"] = HEAD
        if asked.get("private") or asked.get("visibility") == "private":
            self.hub.private.add(repo)
        self.send_json({"url": f"{self.hub.url}/datasets/{repo}", "name": repo})

    def _commit(self, repo: str, lines: list[dict[str, Any]]) -> None:
        files = self.hub.repos[repo]
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        url = f"{self.hub.url}/datasets/{repo}/commit/{HEAD}"
        self.send_json({"success": True, "commitUrl": url, "commitOid": HEAD, "hookOutput": ""})


def _mode(path: str) -> str:
    return "lfs" if path.endswith(".parquet") else "regular"
