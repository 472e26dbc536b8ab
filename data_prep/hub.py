"""Files from the hub at pinned revisions, and folders sent to it.

The only module that talks to it.
"""

from __future__ import annotations

import http.client
import math
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from queue import Empty, Queue
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from mteb_vehicle_search.errors import SourceError
from mteb_vehicle_search.files import file_sha256
from mteb_vehicle_search.remote.patience import asked_wait, brief, patiently
from mteb_vehicle_search.terminal import NO_ROOM

if TYPE_CHECKING:
    from data_prep.storage.remote import RemoteTree

T = TypeVar("T")
_FULL_HASH = re.compile(r"[0-9a-f]{40}")


class HubFile(NamedTuple):
    """A file in a repository: path, bytes, and its sha256 (empty if the hub keeps none, as for small files)."""

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class HubRepository:
    """A repository at a pinned revision.

    Args:
        repo: `owner/name`.
        revision: A full commit hash, or a branch.
        gated: Whether its terms must be accepted first.
        kind: "dataset" or "model".
        sleep: Waits between attempts; replaced in tests.
    """

    repo: str
    revision: str
    gated: bool = False
    kind: str = "dataset"
    sleep: Callable[[float], None] = field(default=time.sleep, compare=False, repr=False)

    def commit(self) -> str:
        """The full commit hash of the revision.

        Raises:
            SourceError: If the hub cannot be reached.
        """
        return self.revision if _FULL_HASH.fullmatch(self.revision) else _resolve(self)

    def files(self, folder: str | None = None) -> list[HubFile]:
        """The files under `folder` with sizes and hashes, sorted by path."""
        from huggingface_hub import HfApi  # Imports an HTTP stack.
        from huggingface_hub.hf_api import RepoFile

        def tree() -> list[HubFile]:
            entries = HfApi().list_repo_tree(
                self.repo, folder, recursive=True, revision=self.commit(), repo_type=self.kind
            )
            return sorted(
                HubFile(e.path, e.size, e.lfs.sha256 if e.lfs else "") for e in entries if isinstance(e, RepoFile)
            )

        return self._patiently(tree, f"the list of files of {self.repo}")

    def check_access(self) -> None:
        """Make sure that its files would be given to this user.

        Raises:
            SourceError: They are not: terms must be accepted first, a login is missing, or the hub cannot be reached.
        """
        from huggingface_hub import HfApi  # Imports an HTTP stack.

        self._patiently(partial(HfApi().auth_check, self.repo, repo_type=self.kind), f"access to {self.repo}")

    def cached(self, path: str) -> Path | None:
        """The file in the user's hub cache, if it is there."""
        from huggingface_hub import try_to_load_from_cache  # Imports an HTTP stack.

        if not _FULL_HASH.fullmatch(self.revision):
            return None
        found = try_to_load_from_cache(self.repo, path, revision=self.revision, repo_type=self.kind)
        return Path(found) if isinstance(found, str) else None

    def download(self, file: HubFile, folder: Path | None = None) -> Path:
        """The file on disk, downloaded if need be; goes on where a lost connection stopped it.

        Args:
            file: From `files`, or made by hand with size -1 and no hash if these are unknown.
            folder: Where to put it; None for the hub's own cache.

        Raises:
            SourceError: If the hub refuses, or the file has another size or hash than it should.
        """
        from huggingface_hub import hf_hub_download  # Imports an HTTP stack.

        what, problem = f"{self.repo}/{file.path}", ""
        options: dict[str, Any] = {"revision": self.commit(), "repo_type": self.kind, "library_name": None}
        fetch = partial(hf_hub_download, self.repo, file.path, local_dir=folder, **options)
        for _ in range(2):  # Once more: a damaged file left by an earlier run is mended so.
            path = Path(self._patiently(fetch, what))
            problem = _difference(path, file)
            if not problem:
                return path
            path.resolve().unlink(missing_ok=True)
            path.unlink(missing_ok=True)
        raise SourceError(f"{what} is damaged: {problem}", "Run the command again to download it anew.")

    def tree(self) -> RemoteTree:
        """Its files where they lie, to be read in place.

        Raises:
            SourceError: If the hub cannot be reached, or does not give it.
        """
        from data_prep.storage.remote import open_remote  # Imports an HTTP stack.

        require_network()
        return open_remote(f"hf://{'datasets/' if self.kind == 'dataset' else ''}{self.repo}@{self.commit()}")[0]

    def _patiently(self, action: Callable[[], T], what: str) -> T:
        """Run `action`; retry what may pass, with growing waits; explain what will not."""
        require_network()
        return patiently(action, what, partial(self._judge, what), self.sleep)

    def _judge(self, what: str, error: Exception) -> float | None:
        """Raise what will not pass; return the seconds that the hub asks to wait, or None."""
        from huggingface_hub import errors  # Imports an HTTP stack.

        if isinstance(error, errors.OfflineModeIsEnabled):
            raise SourceError(
                f"{what} is needed from the hub, but the environment says HF_HUB_OFFLINE",
                "Unset HF_HUB_OFFLINE, or name a local copy.",
            ) from error
        if isinstance(error, errors.HfHubHTTPError):
            status = error.response.status_code if error.response is not None else 0
            if isinstance(error, errors.GatedRepoError) or status in (401, 403):
                raise self._refused(what, status) from error
            if error.response is None or not (status == 429 or status >= 500):
                raise SourceError(f"the hub does not give {what}: HTTP {status}", f"See {self.page}") from error
            return asked_wait(error.response.headers)
        if isinstance(error, errors.LocalTokenNotFoundError):
            raise self._refused(what, 401) from error
        if not isinstance(error, (errors.HTTPError, OSError)):  # pyright: ignore[reportPrivateImportUsage]
            raise error
        if isinstance(error.__cause__, errors.GatedRepoError):  # Of a LocalEntryNotFoundError.
            raise self._refused(what, 403) from error
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise SourceError(
                f"the disk is full: {what} does not fit", "Make room and run the command again; it goes on."
            ) from error
        return None

    @property
    def page(self) -> str:
        """Where a person reads about the repository."""
        return f"https://huggingface.co/{'datasets/' if self.kind == 'dataset' else ''}{self.repo}"

    def _refused(self, what: str, status: int) -> SourceError:
        if self.gated:
            return SourceError(
                f"the hub refuses {what} (HTTP {status}): this dataset is given only to people who accepted its terms",
                f"1. Log in at {self.page} and accept the terms.\n2. Run: hf auth login",
            )
        return SourceError(
            f"the hub refuses {what} (HTTP {status}): it does not exist or needs a login",
            f"Look at {self.page}, then run: hf auth login",
        )


REACH_S = 5.0
# Address -> what is wrong, and until when (`time.monotonic`) that counts. One that answered is not asked again: a
# connection lost later is waited for.
_heard: dict[str, tuple[str, float]] = {}


def require_network() -> None:
    """Make sure, once in a process, that the hub answers at all: its own client tries for minutes.

    Raises:
        SourceError: It does not, in five seconds.
    """
    from huggingface_hub import constants  # Imports an HTTP stack.

    if not constants.HF_HUB_OFFLINE:  # The client itself says that.
        require_answer(constants.ENDPOINT)


def require_answer(address: str) -> None:
    """Make sure that a server answers, whatever it says, in five seconds.

    Raises:
        SourceError: It does not.
    """
    problem, until = _heard.get(address, ("", 0.0))
    if time.monotonic() >= until:
        problem = _ask(address)
        _heard[address] = problem, time.monotonic() + 30.0 if problem else math.inf
    if problem:
        raise SourceError(
            f"{address} cannot be reached: {problem}", "Check the connection (and HTTPS_PROXY), or name local copies."
        )


def _ask(address: str) -> str:
    """Return why a server does not answer; "" if it does."""
    asked = urllib.request.Request(address, method="HEAD")  # noqa: S310 - the hub's own address, or one of ours
    outcome: Queue[str] = Queue()

    def ask() -> None:
        try:
            with urllib.request.urlopen(asked, timeout=REACH_S):  # noqa: S310
                outcome.put("")
        except urllib.error.HTTPError:
            outcome.put("")
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            outcome.put(brief(reason if isinstance(reason, Exception) else error))

    # In a thread, since looking up a name may take longer than any limit that one can give.
    threading.Thread(target=ask, name="reach the hub", daemon=True).start()
    try:
        return outcome.get(timeout=REACH_S + 1)
    except Empty:
        return f"no answer in {REACH_S:.0f} s"


@lru_cache(maxsize=8)
def _resolve(dataset: HubRepository) -> str:
    from huggingface_hub import HfApi  # Imports an HTTP stack.

    look_up = partial(HfApi().repo_info, dataset.repo, revision=dataset.revision, repo_type=dataset.kind)
    return str(dataset._patiently(look_up, f"the revision {dataset.revision} of {dataset.repo}").sha)


def _difference(path: Path, file: HubFile) -> str:
    size = path.stat().st_size
    if file.size_bytes >= 0 and size != file.size_bytes:
        return f"{size:,} bytes instead of {file.size_bytes:,}"
    if file.sha256 and (found := file_sha256(path)) != file.sha256:
        return f"sha256 {found} instead of {file.sha256}"
    return ""


def download_model(repository: str, revision: str, names: Sequence[str]) -> Path:
    """Return the folder, in the hub's cache, that holds the files `names` of a model; no others are downloaded.

    Raises:
        SourceError: The hub refuses or cannot be reached, or a file is missing or damaged.
    """
    model = HubRepository(repository, revision, kind="model")
    paths = [model.cached(name) for name in names]
    if None in paths:
        paths = [model.download(file) for file in _files(model, names)]
    return Path(str(paths[0])).parent


def model_gb(repository: str, revision: str, names: Sequence[str]) -> float:
    """Return how many gigabytes (1e9 bytes) `download_model` would download.

    Raises:
        SourceError: The hub refuses or cannot be reached, or a file is missing.
    """
    model = HubRepository(repository, revision, kind="model")
    missing = [name for name in names if model.cached(name) is None]
    return sum(file.size_bytes for file in _files(model, missing)) / 1e9 if missing else 0.0


def _files(model: HubRepository, names: Sequence[str]) -> list[HubFile]:
    files = {file.path: file for file in model.files()}
    if absent := [name for name in names if name not in files]:
        raise SourceError(f"{model.repo} at {model.revision} has no {absent[0]}", f"See {model.page}")
    return [files[name] for name in names]


def upload_folder(
    folder: Path, repository: str, private: bool, *, gated: bool = False, instead_of: Sequence[str] = ()
) -> str:
    """Upload a folder as a dataset repository, created if need be; return its address.

    Args:
        folder: An evaluation set, or what is given instead of one.
        repository: `owner/name`.
        private: Whether nobody else may see it.
        gated: Everybody sees it, but files are given only to those whom its owner admits; set before files are sent.
        instead_of: Beginnings of paths: a repository that has such files is left as it is.

    Raises:
        SourceError: The repository exists and is public, though a private one was asked for; it holds files that it
            should not; or the hub refuses.
    """
    from huggingface_hub import HfApi  # Imports an HTTP stack.

    api, hub = HfApi(), HubRepository(repository, "main")

    def send() -> str:
        api.create_repo(repository, repo_type="dataset", private=private, exist_ok=True)
        if private and not api.repo_info(repository, repo_type="dataset").private:
            raise SourceError(
                f"{repository} exists on the hub and is public.",
                "Choose another name, make it private there, or say --public (--gated for images) if you may publish.",
            )
        if instead_of:
            there = api.list_repo_files(repository, repo_type="dataset")
            if held := [name for name in there if name.startswith(tuple(instead_of))]:
                raise SourceError(
                    f"{repository} exists on the hub and holds {held[0]}, which this would take the place of.",
                    "Choose another name, or update the whole set there: --images",
                )
        if gated:
            api.update_repo_settings(repository, gated="manual", private=False, repo_type="dataset")
        api.upload_folder(
            folder_path=folder,
            repo_id=repository,
            repo_type="dataset",
            commit_message=f"Upload {folder.name}",
            delete_patterns=["*.parquet", "recipe.json*"],
        )
        return hub.page

    return hub._patiently(send, repository)


def require_login(repository: str) -> None:
    """Make sure that this computer has a login to the hub.

    Raises:
        SourceError: It has none.
    """
    from huggingface_hub import get_token  # Imports an HTTP stack.

    if get_token() is None:
        raise SourceError(
            f"{repository} cannot be written: there is no login to the hub on this computer",
            "Run: hf auth login (with a token that may write)",
        )
