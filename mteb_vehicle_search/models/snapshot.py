"""Pinned model files from the hub, with one clear message when they cannot be had."""

from __future__ import annotations

import re
from pathlib import Path

from mteb_vehicle_search.errors import ModelLoadError


def snapshot(repository: str, revision: str | None, files: list[str]) -> Path:
    """Return the local folder that holds `files` of `repository` at exactly `revision`.

    Raises:
        ModelLoadError: The revision is not a full commit hash, or the files are neither cached nor to be had.
    """
    if not revision or not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise ModelLoadError(f"{repository}: revision {revision!r} is not a full commit hash; a pin must be one.")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(repository, revision=revision, allow_patterns=files))
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise ModelLoadError(
            f"{repository} at {revision[:12]} is not in the hub cache and cannot be downloaded: "
            f"{str(error).splitlines()[0]}",
            f"Read the licence at https://huggingface.co/{repository}, log in with 'hf auth login' if it asks "
            f"for that, then pre-download on a machine with a connection:\n  hf download {repository} "
            f"--revision {revision} {' '.join(files)}\nand carry the cache over with HF_HOME.",
        ) from error
    if missing := [name for name in files if not (folder / name).is_file()]:
        raise ModelLoadError(f"{repository} at {revision[:12]} has no {', '.join(missing)}.")
    return folder
