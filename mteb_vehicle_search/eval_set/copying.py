"""Copies an evaluation set from an address, file by file: each is checked, and the whole takes its place at the end."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fsspec.callbacks import TqdmCallback

from mteb_vehicle_search import settings
from mteb_vehicle_search.addresses import WEB, scheme_of
from mteb_vehicle_search.errors import DataNotFoundError, EvalSetError, VehicleSearchError
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.eval_set.copies import Origin, note_copy, note_last, noted, origin_of
from mteb_vehicle_search.eval_set.verify import check_files
from mteb_vehicle_search.files import file_sha256, locked, sync_file
from mteb_vehicle_search.remote import commits
from mteb_vehicle_search.remote.failures import Absent, Passing, again_and_again, once
from mteb_vehicle_search.remote.systems import file_system
from mteb_vehicle_search.terminal import NO_ROOM, in_bytes, progress_bar, say

MANIFEST = "manifest.json"
# Whoever keeps a set on the hub edits its card there; nothing is computed of it.
CARD = "README.md"
ATTEMPTS = 2  # Of a file that arrives as another than it should be.
GO_ON = "Run the same command again: what is complete is kept."
# In this process: the home and the address -> what was copied. A branch stays where it was for all of a run.
_copied: dict[tuple[Path, str], Origin] = {}


def copy(address: str) -> Path:
    """Copy what lies at an address to this machine, if it is not there, and return the folder; once in a process.

    The network is not asked for a whole copy from a full commit. Where it cannot be told what lies at an address, its
    last copy is taken, and that is said.

    Raises:
        VehicleSearchError: There is nothing, it is refused, it is no evaluation set, or there is no room for it.
    """
    key = settings.home(), address
    if key not in _copied:
        origin = look(address, noted(address))
        copied(origin)
        note_last(address, origin)
        _copied[key] = origin
    return _copied[key].folder


def look(address: str, last: Origin | None) -> Origin:
    """Return what lies at an address now; `last`, with a note, where that cannot be told.

    Raises:
        VehicleSearchError: It cannot be told, and there is no last one.
    """
    # Whoever has a copy does not wait for minutes.
    ask = once if last else again_and_again
    try:
        scheme = scheme_of(address)
        pinned = ask(lambda: commits.pinned(address), address, scheme)
        if last and commits.is_pinned(pinned) and pinned == last.address:
            return last
        return Origin(pinned, hashlib.sha256(_Remote(pinned).manifest(ask)).hexdigest())
    except Absent as error:
        if last is None:
            hint = f"Check the address, and whether it needs a login; a set has a {MANIFEST}."
            raise DataNotFoundError(f"There is no evaluation set at {address}.", hint) from error
        why = "there is nothing"
    except (VehicleSearchError, Passing) as error:
        if last is None:
            raise
        why = str(error).splitlines()[0]
    say(f"{address} cannot be looked at ({why}); its last copy is taken: {last.folder}")
    return last


def copied(origin: Origin) -> Path:
    """Return the folder of the copy, whole and checked; what lacks is fetched. Others who want it too wait.

    Raises:
        VehicleSearchError: It cannot be fetched, it is no evaluation set, or the disk has no room.
    """
    folder = origin.folder
    try:
        if _lacking(origin, folder):
            doing = f"{origin.address} is being copied to {folder}"
            waiting = {"hint": "It is waited for.", "on_wait": say}
            with locked(folder.with_name(f".{folder.name}.lock"), doing, error=EvalSetError, **waiting):
                _complete(origin, folder)
        if origin_of(folder) is None:
            note_copy(origin)
    except OSError as error:
        if isinstance(error, VehicleSearchError):
            raise
        full = f"The disk is full: {folder}" if error.errno in NO_ROOM else f"{folder} cannot be written: {error}"
        raise EvalSetError(f"{full}.", f"Make room, or set VEHICLE_SEARCH_HOME to another folder. {GO_ON}") from error
    return folder


def _complete(origin: Origin, folder: Path) -> None:
    """Fetch what lacks; a new copy takes its place when it is whole."""
    filled = folder if folder.is_dir() else folder.with_name(f".{folder.name}.partial")
    filled.mkdir(parents=True, exist_ok=True)
    remote = _Remote(origin.address)
    if not _has_manifest(origin, filled):
        remote.fetch_manifest(filled / MANIFEST, origin.manifest)
    try:
        with _as_of(origin.address):
            files = EvalSet.open(filled).manifest["files"]
    except EvalSetError:
        if filled is not folder:
            # Such as a web page for people, which would be another each time.
            shutil.rmtree(filled)
        raise
    lacking = _lacking(origin, filled)
    total = sum(files[name]["bytes"] for name in lacking)
    if total > shutil.disk_usage(filled).free:
        raise EvalSetError(
            f"{origin.address} takes {in_bytes(total)}, for which there is no room in {folder.parent}.",
            settings.SET_HOME,
        )
    if lacking:
        say(f"Copying {origin.address} to {folder}")
        with progress_bar("copy the evaluation set", total, unit="B") as bar:
            for name in lacking:
                remote.fetch(name, filled / name, files[name], bar)
    with _as_of(origin.address):
        EvalSet.open(filled).require_content()
    if filled is not folder:
        filled.rename(folder)


def _lacking(origin: Origin, folder: Path) -> list[str]:
    """Return the files of a copy that are missing or damaged; of one without its manifest only that."""
    if not _has_manifest(origin, folder):
        return [MANIFEST]
    with _as_of(origin.address):
        eval_set = EvalSet.open(folder)
    wrong = [one.where for one in check_files(eval_set) if one.where in eval_set.manifest["files"]]
    return [name for name in wrong if name != CARD or not (folder / CARD).is_file()]


def _has_manifest(origin: Origin, folder: Path) -> bool:
    path = folder / MANIFEST
    return path.is_file() and file_sha256(path) == origin.manifest


@contextmanager
def _as_of(address: str) -> Iterator[None]:
    """Name the address in an error on what came from there."""
    try:
        yield
    except EvalSetError as error:
        hint = "See whether it is the folder of a set; what made it can check it: vehicle-search-data verify FOLDER"
        raise EvalSetError(f"{address} is no sound evaluation set: {error.message}", hint) from error


@contextmanager
def _fetching(target: Path) -> Iterator[Path]:
    """Give a path to write to, which takes its place if nothing is wrong with it."""
    path = target.with_name(f"{target.name}.fetched")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield path
        sync_file(path)
        path.replace(target)
    finally:
        with suppress(OSError):
            path.unlink()


class _Remote:
    """The folder at an address."""

    def __init__(self, address: str) -> None:
        self._address, self._scheme = address, scheme_of(address)
        self._system, self._root = file_system(address)

    def manifest(self, ask: Callable[..., bytes] = again_and_again) -> bytes:
        """Return the manifest's bytes; raises what `ask` raises, and EvalSetError where there is none."""
        return ask(lambda: self._system.cat_file(f"{self._root}/{MANIFEST}"), self._what(MANIFEST), self._scheme)

    def fetch_manifest(self, target: Path, sha256: str) -> None:
        """Fetch the manifest.

        Raises:
            EvalSetError: It is another.
            SourceError: It is not to be had.
        """
        content = self.manifest()
        if (found := hashlib.sha256(content).hexdigest()) != sha256:
            raise EvalSetError(
                f"{self._what(MANIFEST)} has sha256 {found}; the evaluation began with {sha256}.",
                "What lies there was changed: start the evaluation again.",
            )
        with _fetching(target) as part:
            part.write_bytes(content)

    def fetch(self, name: str, target: Path, expected: dict[str, Any], bar: Any) -> None:
        """Fetch a file, and tell the bar of its bytes.

        Raises:
            EvalSetError: It is missing, or another than it should be.
            SourceError: It is not to be had.
        """
        path = f"{self._root}/{quote(name) if self._scheme in WEB else name}"
        before = bar.n
        with _fetching(target) as part:
            for _ in range(ATTEMPTS):
                try:
                    again_and_again(
                        lambda: self._system.get_file(path, str(part), callback=_Told(bar, before)),
                        self._what(name),
                        self._scheme,
                    )
                except Absent:
                    raise EvalSetError(f"{self._what(name)} is missing, which its {MANIFEST} names.") from None
                bar.update(before + expected["bytes"] - bar.n)
                if name == CARD or (found := file_sha256(part)) == expected["sha256"]:
                    return
            raise EvalSetError(
                f"{self._what(name)} has sha256 {found}; its {MANIFEST} says {expected['sha256']}.",
                f"It is damaged, or was changed: upload the set again. {GO_ON}",
            )

    def _what(self, name: str) -> str:
        return f"{self._address}/{name}"


class _Told(TqdmCallback):
    """Tells one bar of the bytes of many files; the hub's client fetches at full speed only for this kind."""

    def __init__(self, bar: Any, before: int) -> None:
        super().__init__()
        self.tqdm, self._before = bar, before

    def call(self, *args: Any, **kwargs: Any) -> None:
        self.tqdm.update(self._before + self.value - self.tqdm.n)

    def close(self) -> None:
        """The bar goes on with the next file."""
