"""Models from the hub at pinned revisions, and evaluation sets to it; only `hub` beside it talks to the hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from data_prep.hub import HubDataset
from mteb_vehicle_search.errors import SourceError


def download_model(repository: str, revision: str, names: Sequence[str]) -> Path:
    """Return the folder, in the hub's cache, that holds the files `names` of a model.

    Args:
        repository: `owner/name`.
        revision: Full commit hash.
        names: Files; no others are downloaded.

    Raises:
        SourceError: The hub refuses or cannot be reached.
    """
    from huggingface_hub import hf_hub_download  # Imports an HTTP stack.

    # The same patience and the same explanations as for data sets.
    hub = HubDataset(repository, revision, model=True)
    folder = Path()
    for name in names:

        def fetch(name: str = name) -> Path:
            return Path(hf_hub_download(repository, name, revision=revision))

        folder = hub._patiently(fetch, f"{repository}/{name}").parent
    return folder


def upload_folder(folder: Path, repository: str, private: bool) -> str:
    """Upload an evaluation set as a dataset repository, created if need be; return its address.

    Raises:
        SourceError: The repository exists and is public, though a private one was asked for; or the hub refuses.
    """
    from huggingface_hub import HfApi  # Imports an HTTP stack.

    api, hub = HfApi(), HubDataset(repository, "main")

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
