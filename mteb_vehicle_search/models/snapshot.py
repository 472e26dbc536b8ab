"""The files of a model: in a local folder, or a pinned snapshot of the hub, checked before they are used."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from mteb_vehicle_search.errors import ModelLoadError, UsageError, first_line
from mteb_vehicle_search.files import file_sha256
from mteb_vehicle_search.models.digests import joint_digest
from mteb_vehicle_search.models.listing import Listing

# What is loaded of a repository whose files nobody knows; many hold the same weights in other formats beside.
WHATEVER_IT_HOLDS = [word for kind in ("safetensors", "json", "txt", "model") for word in ("--include", f"*.{kind}")]


class Commit(NamedTuple):
    """A commit of a repository: its full hash, and the names of its files, or of those that the cache holds."""

    revision: str
    names: frozenset[str]
    partial: bool = False


# What the hub said. A branch stays where it was when this process first asked, so that all of a run is of one commit.
_told: dict[tuple[str, str | None], Commit] = {}


def commit_of(repository: str, revision: str | None = None, licence: str = "") -> Commit:
    """Return the commit that a branch, a tag or a hash of a model repository is; offline, what the cache holds.

    Args:
        repository: Name on the hub.
        revision: None: the main branch.
        licence: Of the model, for whoever has to fetch it by hand.

    Raises:
        UsageError: That is no name of a repository.
        ModelLoadError: There is none, or neither the hub nor its cache tells.
    """
    from huggingface_hub import HfApi

    # Its HTTPError is that of the client that it uses, which differs between its versions.
    from huggingface_hub.errors import (
        HFValidationError,
        HTTPError,  # type: ignore[attr-defined]
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if known := _told.get((repository, revision)):
        return known
    try:
        found = HfApi().model_info(repository, revision=revision)
    except HFValidationError as error:
        raise UsageError(f"{repository!r} names no repository: {first_line(error)}") from error
    except RevisionNotFoundError as error:
        raise ModelLoadError(f"{repository} has no revision {revision!r} on the hub.") from error
    except RepositoryNotFoundError as error:
        raise ModelLoadError(
            f"The hub has no model {repository}, or it is a private one.", "Log in with 'hf auth login' if it is."
        ) from error
    except (HTTPError, OSError) as error:
        return _in_cache(repository, revision, licence, error)
    commit = Commit(str(found.sha), frozenset(one.rfilename for one in found.siblings or ()))
    _told[repository, revision] = _told[repository, commit.revision] = commit
    return commit


def _in_cache(repository: str, revision: str | None, licence: str, asked: Exception) -> Commit:
    """Return what the hub's cache holds of a commit, which may be less than all of it."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = snapshot_download(repository, revision=revision, local_files_only=True)
    except (LocalEntryNotFoundError, OSError) as error:
        # Later versions tell so of a snapshot of which they know that files are missing.
        if not (folder := getattr(error, "snapshot_path", None)):
            raise ModelLoadError(
                f"{repository} at {(revision or 'main')[:12]} is not in the hub cache, and the hub cannot be asked: "
                f"{first_line(asked)}",
                _by_hand(repository, revision, WHATEVER_IT_HOLDS, licence),
            ) from asked
    names = (path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())
    return Commit(Path(folder).name, frozenset(names), partial=True)


def require_pin(repository: str, revision: str | None) -> str:
    """Return the revision, which is a full commit hash.

    Raises:
        ModelLoadError: It is none.
    """
    if not revision or not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise ModelLoadError(f"{repository}: revision {revision!r} is not a full commit hash; a pin must be one.")
    return revision


def listed(folder: Path) -> Listing:
    """Return the files of a folder, and of the folders in it.

    Raises:
        ModelLoadError: It cannot be read.
    """
    try:
        entries = list(folder.iterdir())
        below = [each for entry in entries if entry.is_dir() for each in _inside(entry)]
        names = frozenset(each.relative_to(folder).as_posix() for each in (*entries, *below) if each.is_file())
    except OSError as error:
        raise ModelLoadError(f"{folder} cannot be read: {error}.") from error
    return Listing(str(folder), names, lambda name: (folder / name).read_bytes())


def _inside(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except PermissionError:  # of somebody else, beside the model
        return []


def listed_at(repository: str, commit: Commit, where: str, licence: str = "") -> Listing:
    """Return the files of a repository at a commit; each is fetched when it is read.

    Args:
        repository: Name on the hub.
        commit: Which.
        where: What the repository is called in messages.
        licence: Of the model, for whoever has to fetch it by hand.
    """

    def read(name: str) -> bytes:
        return (ModelFiles(repository, commit.revision, [name], licence=licence).folder(name) / name).read_bytes()

    download = f"hf download {repository} --revision {commit.revision}"
    return Listing(where, commit.names, read, download, commit.partial)


class ModelFiles:
    """The files of one model, fetched when they are asked for.

    Args:
        repository, revision: Name on the hub, and full commit hash.
        names: All files that the model consists of.
        folder: A local model folder, instead of the hub.
        digests: Known sha256 by file name, of this very revision.
        licence: Of the model, for whoever has to fetch it by hand; "" if it is not known.

    Attributes:
        local: Whether they lie in a folder of the user's.
        names: As given.
    """

    def __init__(
        self,
        repository: str,
        revision: str | None,
        names: Sequence[str],
        folder: str | Path | None = None,
        digests: Mapping[str, str] | None = None,
        licence: str = "",
    ) -> None:
        self.local, self.names = folder is not None, tuple(names)
        self._repository, self._revision = repository, revision
        self._folder = Path(folder) if folder else None
        self._digests = digests or {}
        self._licence = licence
        self._checked: set[str] = set()

    def folder(self, *names: str) -> Path:
        """Return the folder with these files in it.

        Raises:
            ModelLoadError: One is not to be had, or is not the one that belongs to the pinned revision.
        """
        folder = self._folder or self._snapshot(names)
        for name in names:
            path = folder / name
            if not path.is_file():
                only = "; of weights, only safetensors are loaded" if name.endswith(".safetensors") else ""
                raise ModelLoadError(f"{self._repository}: {path} is missing{only}.")
            if self.local or name in self._checked:
                continue
            wanted = self._digests.get(name) or _digest_in_cache(path)
            if wanted and (found := file_sha256(path)) != wanted:
                raise ModelLoadError(
                    f"{path} is damaged or was tampered with: its sha256 is {found}, not {wanted}.",
                    f"Delete {path.resolve()} and download the pinned revision again.",
                )
            self._checked.add(name)
        return folder

    def digest(self) -> str:
        """Return the digest of a local folder's model; "" for the hub's, whose revision says it all.

        Raises:
            ModelLoadError: A file cannot be read.
        """
        if self._folder is None:
            return ""
        try:
            return joint_digest(self._folder, self.names)
        except OSError as error:
            raise ModelLoadError(f"{self._folder} cannot be read: {error}.") from error

    def _snapshot(self, names: Sequence[str]) -> Path:
        repository, revision = self._repository, require_pin(self._repository, self._revision)
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

        try:
            folder = Path(snapshot_download(repository, revision=revision, allow_patterns=[*names]))
            if missing := [name for name in names if not (folder / name).is_file()]:
                raise FileNotFoundError(f"{folder} has no {', '.join(missing)}")
        except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
            raise ModelLoadError(
                f"{repository} at {revision[:12]} is not in the hub cache and cannot be downloaded: "
                f"{first_line(error)}",
                _by_hand(repository, revision, self.names, self._licence),
            ) from error
        return folder


def _by_hand(repository: str, revision: str | None, names: Sequence[str], licence: str) -> str:
    """Return how to get files that cannot be downloaded here."""
    licence = f" ({licence})" if licence else ""
    at = f" --revision {revision}" if revision else ""
    return (
        f"Its licence{licence} is at https://huggingface.co/{repository}. Log in with "
        "'hf auth login' if that page asks for it. To pre-download, on a machine with a connection:\n"
        f"  hf download {repository}{at} {shlex.join(names)}\n"
        "and point HF_HOME at the copied cache (HF_HUB_OFFLINE=1 then needs no connection)."
    )


def _digest_in_cache(path: Path) -> str | None:
    """Return the sha256 that the hub gave for a large file: the hub's cache links to a blob of that name."""
    name = path.resolve().name
    return name if path.is_symlink() and re.fullmatch("[0-9a-f]{64}", name) else None


WEIGHTS = {".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".onnx", ".msgpack", ".h5"}


def cached_revisions() -> dict[str, frozenset[str]]:
    """Return the revisions of each model repository whose weights, or some of them, are in the hub's cache.

    What has been looked at only, and has left a configuration there, does not count.
    """
    from huggingface_hub import constants, scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        found = scan_cache_dir(constants.HF_HUB_CACHE).repos
    except (CacheNotFound, OSError, ValueError):
        return {}
    revisions: dict[str, frozenset[str]] = {}
    for repository in found:
        with_weights = [
            one.commit_hash
            for one in repository.revisions
            if any(Path(file.file_name).suffix in WEIGHTS for file in one.files)
        ]
        if repository.repo_type == "model" and with_weights:
            revisions[repository.repo_id] = frozenset(with_weights)
    return revisions
