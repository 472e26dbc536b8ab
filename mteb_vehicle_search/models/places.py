"""Where a model lies: which names say so, and what is found there. Nothing of it is loaded."""

from __future__ import annotations

import os
import re
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from mteb_vehicle_search.errors import ModelLoadError, UsageError
from mteb_vehicle_search.files import safe_name
from mteb_vehicle_search.models.layouts import (
    CONFIGS,
    OPEN_CLIP,
    OPEN_CLIP_CONFIG,
    SENTENCE,
    TRANSFORMERS,
    Layout,
    layout_of_files,
)
from mteb_vehicle_search.models.listing import PICKLES, checkpoint_refused
from mteb_vehicle_search.models.snapshot import Commit, ModelFiles, commit_of, listed, listed_at, require_pin

HUB = "hf-hub:"
# mteb wants an organisation before the name, and names its folder of results by both.
LOCAL = "local"
ENCODERS = {OPEN_CLIP: "OpenClipEncoder", TRANSFORMERS: "TransformersEncoder", SENTENCE: "SentenceEncoder"}
_REPOSITORY = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")
_PATH_LIKE = re.compile(r"(/|\\|~|\.{1,2}([/\\]|$)|[A-Za-z]:[/\\])")


def is_located(name: object) -> bool:
    """Tell whether a model's name says where it lies: `hf-hub:OWNER/NAME`, or a path.

    A path begins like one (`./`, `../`, `/`, `~`, a drive), or is a folder with the configuration of an image-text
    model, or a checkpoint file.
    """
    if not isinstance(name, str):
        return False
    if begins_like_a_place(name):
        return True
    path = Path(name)
    try:
        if path.is_file():
            return path.suffix in (*PICKLES, ".safetensors")
        if not any((path / config).is_file() for config in CONFIGS):
            return False
    except (OSError, ValueError):  # too long for a path, or with a NUL
        return False
    # A folder may well have the name of a text model that mteb gets from the hub, and means it.
    try:
        layout_of_files(listed(path))
    except ModelLoadError:
        return (path / OPEN_CLIP_CONFIG).is_file()
    return True


def begins_like_a_place(name: str) -> bool:
    """Tell whether a model's name can be nothing but a place, whatever there is."""
    return name.startswith(HUB) or bool(_PATH_LIKE.match(name))


class Found(NamedTuple):
    """A model that was found.

    Attributes:
        name: As mteb and results name it.
        revision: The commit; of a folder the digest of the files that decide the vectors, if nobody says otherwise.
        files: Where it lies.
        layout: How.
        digest: Of a folder's files, which shows whether they changed since; "" on the hub.
    """

    name: str
    revision: str
    files: ModelFiles
    layout: Layout
    digest: str


def find(name: str, revision: str | None = None) -> Found:
    """Return the model that lies where this name says.

    Args:
        name: A path, or `hf-hub:OWNER/NAME[@REVISION]`.
        revision: What its revision must be; on the hub a branch, tag or commit.

    Raises:
        UsageError: The name cannot be meant: there is no such folder, or it names no repository.
        ModelLoadError: What lies there cannot be loaded, or is not of this revision.
    """
    if name.startswith(HUB):
        return at_commit(*on_the_hub(name, revision))
    folder = _existing(name)
    found = _in_folder(folder, folder.name or "root")
    if revision not in (None, found.revision):
        raise ModelLoadError(
            f"{name} is at revision {found.revision}, not {revision}: its weights or its configuration are others."
        )
    return found


def opened(
    kind: str,
    name: str,
    revision: str | None,
    folder: str | Path | None,
    *,
    licence: str = "",
    more: tuple[str, ...] = (),
) -> Found:
    """Return the model that an encoder is asked to load.

    Args:
        kind: Of the layout that the encoder reads.
        name: On the hub; where no folder is given, it may say where the model lies. A name that does not begin like a
            place means one only without a revision: a pinned model is the hub's, whatever folders there are.
        revision: Full commit hash; or what the place must be at.
        folder: A local model folder, instead of the hub.
        licence: Of the model, told when it cannot be downloaded.
        more: Names of further files that decide its vectors.

    Raises:
        UsageError: The name cannot be meant.
        ModelLoadError: There is no such model, or it is of another kind.
    """
    if folder is not None:
        found = _in_folder(Path(folder), name, more)._replace(**({"revision": revision} if revision else {}))
    elif begins_like_a_place(name) or (revision is None and is_located(name)):
        found = find(name, revision)
    else:
        found = at_commit(name, commit_of(name, require_pin(name, revision), licence), licence, more)
    if found.layout.kind != kind:
        raise ModelLoadError(
            f"{folder or name} is a model of {found.layout.kind}, not of {kind}.",
            f"{ENCODERS[found.layout.kind]} loads it.",
        )
    return found


def on_the_hub(name: str, revision: str | None) -> tuple[str, Commit]:
    """Return the repository that `hf-hub:OWNER/NAME[@REVISION]` names, and the commit that it is at.

    Raises:
        UsageError: It names no repository, or two revisions.
        ModelLoadError: There is none, or neither the hub nor its cache tells.
    """
    repository, _, stated = name.removeprefix(HUB).partition("@")
    if not _REPOSITORY.fullmatch(repository) or (name.endswith("@") and not stated):
        raise UsageError(f"{name!r} names no repository.", f"Write {HUB}OWNER/NAME or {HUB}OWNER/NAME@REVISION.")
    if stated and revision not in (None, stated):
        raise UsageError(f"{name} says another revision than {revision!r}.")
    return repository, commit_of(repository, stated or revision)


def at_commit(repository: str, commit: Commit, licence: str = "", more: tuple[str, ...] = ()) -> Found:
    """Return the model of a repository at a commit; raise ModelLoadError if it cannot be loaded."""
    layout = layout_of_files(listed_at(repository, commit, f"{HUB}{repository}", licence))
    files = ModelFiles(repository, commit.revision, (*layout.weights, *layout.others, *more), licence=licence)
    return Found(repository, commit.revision, files, layout, "")


def _in_folder(folder: Path, name: str, more: tuple[str, ...] = ()) -> Found:
    layout = layout_of_files(listed(folder))
    files = ModelFiles(name, None, (*layout.weights, *layout.others, *more), folder)
    name = name if "/" in name else f"{LOCAL}/{safe_name(name)}"
    digest = files.digest()
    return Found(name, digest, files, layout, digest)


def _existing(name: str) -> Path:
    """Return the folder of that path, absolute, links not followed: what it is called is the model's name."""
    try:
        path = Path(os.path.abspath(Path(name).expanduser()))  # noqa: PTH100 -- resolve() would follow links
        if path.is_dir():
            return path
        there = path.exists()
    except (OSError, RuntimeError, ValueError) as error:
        raise UsageError(f"{name} is no path: {error}.") from error
    if there and path.suffix in PICKLES:
        raise checkpoint_refused(name)
    if there:
        raise UsageError(f"{name} is a file.", "Name the folder that holds the model.")
    near = _nearby(path)
    raise UsageError(f"There is no folder {name}" + (f"; did you mean {near}?" if near else "."))


def _nearby(path: Path) -> str:
    try:
        beside = [each.name for each in path.parent.iterdir() if each.is_dir()]
    except OSError:
        return ""
    return " or ".join(str(path.parent / each) for each in get_close_matches(path.name, beside, 2))
