"""The files of a model: in a local folder, or a pinned snapshot of the hub, checked before they are used."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from mteb_vehicle_search.errors import ModelLoadError
from mteb_vehicle_search.files import file_sha256


class ModelFiles:
    """The files of one model, fetched when they are asked for; `local`: from a folder of the user's, not the hub.

    Args:
        repository, revision: Name on the hub, and full commit hash.
        names: All files that the model needs.
        folder: A local model folder, instead of the hub.
        digests: Known sha256 by file name, of this very revision.
        licence: Of the model, for whoever has to fetch it by hand; "" if it is not known.
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
        self.local = folder is not None
        self._repository, self._revision, self._names = repository, revision, names
        self._folder = Path(folder) if folder else None
        self._digests = digests or {}
        self._licence = f" ({licence})" if licence else ""
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
                raise ModelLoadError(f"{self._repository}: {path} is missing; of weights, only safetensors are loaded.")
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

    def weights_id(self, name: str) -> str:
        """Return the digest of a local folder's file; "" for the hub's, whose revision says it all."""
        return file_sha256(self.folder(name) / name) if self.local else ""

    def _snapshot(self, names: Sequence[str]) -> Path:
        repository, revision = self._repository, self._revision
        if not revision or not re.fullmatch(r"[0-9a-f]{40}", revision):
            raise ModelLoadError(f"{repository}: revision {revision!r} is not a full commit hash; a pin must be one.")
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

        try:
            folder = Path(snapshot_download(repository, revision=revision, allow_patterns=list(names)))
            if missing := [name for name in names if not (folder / name).is_file()]:
                raise FileNotFoundError(f"{folder} has no {', '.join(missing)}")
        except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
            raise ModelLoadError(
                f"{repository} at {revision[:12]} is not in the hub cache and cannot be downloaded: "
                f"{str(error).splitlines()[0]}",
                f"Its licence{self._licence} is at https://huggingface.co/{repository}. Log in with "
                "'hf auth login' if that page asks for it. To pre-download, on a machine with a connection:\n"
                f"  hf download {repository} --revision {revision} {' '.join(self._names)}\n"
                "and point HF_HOME at the copied cache (HF_HUB_OFFLINE=1 then needs no connection).",
            ) from error
        return folder


def _digest_in_cache(path: Path) -> str | None:
    """Return the sha256 that the hub gave for a large file: the hub's cache links to a blob of that name."""
    name = path.resolve().name
    return name if path.is_symlink() and re.fullmatch("[0-9a-f]{64}", name) else None
