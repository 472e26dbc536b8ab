"""Data sets on the hub by their addresses: a branch is looked up once, and is a commit from then on."""

from __future__ import annotations

import re
from urllib.parse import unquote

from mteb_vehicle_search.errors import SourceError

_DATASET = re.compile(r"(hf://datasets/([^/@]+/[^/@]+))(?:@(refs/[^/]+/[^/]+|[^/]+))?(/.+)?")
_OTHERS = ("hf://buckets/",)  # They have no commits.


def is_pinned(address: str) -> bool:
    """Tell whether an address names a full commit, so that whatever lies there stays what it is."""
    found = _DATASET.fullmatch(address)
    return bool(found and found[3] and re.fullmatch("[0-9a-f]{40}", found[3]))


def pinned(address: str) -> str:
    """Return the address of a data set with the full commit that its branch (or tag) is at; any other as it is.

    Raises:
        SourceError: It is an address of the hub, but of no data set.
        Exception: What the hub's client raises.
    """
    if not address.startswith("hf://") or address.startswith(_OTHERS) or is_pinned(address):
        return address
    if (found := _DATASET.fullmatch(address)) is None:
        raise SourceError(
            f"{address} is no address of a data set on the hub",
            "It is hf://datasets/OWNER/NAME, with @REVISION and then /FOLDER if need be.",
        )
    from huggingface_hub import HfApi  # Imports an HTTP stack.

    start, name, revision, folder = found.groups()
    told = HfApi().dataset_info(name, revision=unquote(revision) if revision else None)
    return f"{start}@{told.sha}{folder or ''}"
