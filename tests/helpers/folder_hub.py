"""A stand-in for a repository on the hub, in this process: files in memory, a cache folder, and what was asked for."""

from __future__ import annotations

import hashlib
from pathlib import Path

from data_prep.hub import HubFile
from data_prep.storage.local import LocalTree


class FolderHub:
    """Behaves like `data_prep.hub.HubRepository`; downloads go to `cache`, or to the folder that is asked for.

    Attributes:
        asked: Every request, as (what, path).
        failures: Raised, one for each download, before anything is given.
    """

    def __init__(self, files: dict[str, bytes], cache: Path, repo: str = "owner/name", commit: str = "a" * 40) -> None:
        self.contents, self.cache, self.repo, self._commit = files, cache, repo, commit
        self.hashed = True
        self.asked: list[tuple[str, str]] = []
        self.failures: list[BaseException] = []

    @property
    def page(self) -> str:
        return f"https://hub/{self.repo}"

    @property
    def revision(self) -> str:
        return self._commit

    def commit(self) -> str:
        return self._commit

    def check_access(self) -> None:
        """Everybody may have everything."""

    def files(self, folder: str | None = None) -> list[HubFile]:
        self.asked.append(("files", folder or ""))
        return [
            HubFile(path, len(data), hashlib.sha256(data).hexdigest() if self.hashed else "")
            for path, data in sorted(self.contents.items())
            if not folder or path.startswith(f"{folder}/")
        ]

    def cached(self, path: str) -> Path | None:
        return self.cache / path if (self.cache / path).is_file() else None

    def download(self, file: HubFile, folder: Path | None = None) -> Path:
        self.asked.append(("download", file.path))
        if self.failures:
            raise self.failures.pop(0)
        path = (self.cache if folder is None else folder) / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.contents[file.path])
        return path

    def tree(self) -> LocalTree:
        """The files as they lie on the hub."""
        self.asked.append(("tree", ""))
        folder = self.cache.parent / f"{self.cache.name} as served"
        for path, data in self.contents.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
        return LocalTree(folder)

    def downloads(self) -> list[str]:
        """The paths that were downloaded, in order."""
        return [path for what, path in self.asked if what == "download"]
