"""The files of a folder or a repository by name, and how a person makes a model of those that are never loaded."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePath, PurePosixPath
from typing import Any

from mteb_vehicle_search.errors import ModelLoadError

PICKLES = (".pt", ".pth", ".ckpt", ".bin")
WINDOWS = os.name == "nt"
# By the library that wrote a pickle: how it writes the same model without one.
SAVING = {
    "transformers": "transformers.AutoModel.from_pretrained(sys.argv[1]).save_pretrained(sys.argv[1])",
    "sentence_transformers": "sentence_transformers.SentenceTransformer(sys.argv[1]).save_pretrained(sys.argv[1])",
}


@dataclass(frozen=True)
class Listing:
    """The files of a folder or repository.

    Attributes:
        where: For messages.
        names: Of the files, with `/` before those in folders.
        read: Gives the content of one.
        download: The command that fetches a repository; "" for a folder.
        partial: Whether these are only the files of a repository that the hub's cache holds.
    """

    where: str
    names: frozenset[str]
    read: Callable[[str], bytes]
    download: str = ""
    partial: bool = False

    def inside(self, folder: str) -> list[str]:
        """Return the files of a folder ("" for the whole), without those in folders of its own, sorted."""
        return sorted(name for name in self.names if name.rpartition("/")[0] == folder)

    def pickles(self, folder: str = "") -> list[str]:
        """Return the checkpoints in a folder that are pickles, sorted."""
        return [name for name in self.inside(folder) if PurePosixPath(name).suffix in PICKLES]

    def json(self, name: str) -> Any:
        """Return the content of a JSON file.

        Raises:
            ModelLoadError: It is none.
        """
        try:
            return json.loads(self.read(name))
        except (OSError, ValueError) as error:
            raise ModelLoadError(f"{self.where}: {name} is damaged: {error}.") from error

    def object(self, name: str) -> dict[str, Any]:
        """Return the content of a JSON file that holds an object.

        Raises:
            ModelLoadError: It does not.
        """
        found = self.json(name)
        if not isinstance(found, dict):
            raise ModelLoadError(f"{self.where}: {name} is damaged: it is no JSON object.")
        return found

    def no_weights(self, library: str, folder: str = "") -> ModelLoadError:
        """Return the error for a model without weights that are loaded, with what mends it.

        Args:
            library: What wrote it: "open_clip", "transformers" or "sentence_transformers".
            folder: Where its weights should be.
        """
        if pickles := self.pickles(folder):
            return ModelLoadError(
                f"{self.where} holds its weights as a pickle ({pickles[0]}), which is never loaded; "
                f"{self.to_convert(pickles[0], library)}"
            )
        if self.partial:
            return ModelLoadError(
                f"The weights of {self.where} are not in the hub's cache, and the hub cannot be asked.",
                f"On a machine with a connection: {self.download}; then point HF_HOME at the copied cache.",
            )
        return ModelLoadError(f"{self.where} holds no weights; of weights, only safetensors are loaded.")

    def to_convert(self, name: str, library: str = "", arch: str = "") -> str:
        """Return how a checkpoint here that is a pickle becomes a model folder: a line for a shell."""
        # The commands are for folders: a repository is fetched into one first.
        folder = self.where.rpartition("/")[2] if self.download else self.where
        first = f"{self.download} --local-dir {quoted(folder)} && " if self.download else ""
        if code := SAVING.get(library):
            return f'convert it first: {first}python -c "import sys, {library}; {code}" {quoted(folder)}'
        return f"convert it first: {first}{conversion(f'{folder}/{name}', arch or folder)}"


def conversion(path: str, arch: str = "NAME") -> str:
    """Return the command that converts an open_clip checkpoint."""
    return f"vehicle-search convert {quoted(path)} --arch {quoted(arch)} {quoted(PurePath(path).stem)}"


def checkpoint_refused(path: str) -> ModelLoadError:
    """Return the error for a trainer's checkpoint in the place of a model folder."""
    said = f"{path} is a checkpoint, which is a pickle and never loaded; convert it first: "
    return ModelLoadError(said + conversion(path))


def quoted(text: str) -> str:
    """Return a word as a shell of this system takes it."""
    return subprocess.list2cmdline([text]) if WINDOWS else shlex.quote(text)
