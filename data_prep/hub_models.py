"""Models from the hub at pinned revisions, and evaluation sets to it; only `hub` beside it talks to the hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from data_prep.hub import HubFile, HubRepository
from mteb_vehicle_search.errors import SourceError


def download_model(repository: str, revision: str, names: Sequence[str]) -> Path:
    """Return the folder, in the hub's cache, that holds the files `names` of a model.

    Args:
        repository: `owner/name`.
        revision: Full commit hash.
        names: Files; no others are downloaded.

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


def upload_folder(folder: Path, repository: str, private: bool) -> str:
    """Upload an evaluation set as a dataset repository, created if need be; return its address.

    Raises:
        SourceError: The repository exists and is public, though a private one was asked for; or the hub refuses.
    """
    from huggingface_hub import HfApi  # Imports an HTTP stack.

    api, hub = HfApi(), HubRepository(repository, "main")

    def send() -> str:
        api.create_repo(repository, repo_type="dataset", private=private, exist_ok=True)
        if private and not api.repo_info(repository, repo_type="dataset").private:
            raise SourceError(
                f"{repository} exists on the hub and is public.",
                "Choose another name, make it private there, or say --public if you are allowed to publish.",
            )
        api.upload_folder(
            folder_path=folder,
            repo_id=repository,
            repo_type="dataset",
            commit_message=f"Upload {folder.name}",
            delete_patterns=["*.parquet"],
        )
        return f"https://huggingface.co/datasets/{repository}"

    return hub._patiently(send, repository)
