"""The file systems of fsspec that read addresses."""

from __future__ import annotations

from typing import Any

import fsspec
from aiohttp import ClientTimeout

from mteb_vehicle_search.addresses import WEB, scheme_of, shown
from mteb_vehicle_search.errors import SourceError
from mteb_vehicle_search.remote.patience import brief

CONNECT_S, SILENCE_S = 20, 60
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}


def file_system(url: str) -> tuple[Any, str]:
    """Return the file system that reads an address, and what it calls the address.

    Raises:
        SourceError: None reads such addresses here, or takes this one.
    """
    scheme = scheme_of(url)
    options = {"client_kwargs": web_client()} if scheme in WEB else {}
    try:
        return fsspec.url_to_fs(scheme + url[len(scheme) :], use_listings_cache=False, **options)
    except (ImportError, ValueError) as error:
        extra = _EXTRAS.get(scheme)
        hint = f"pip install 'mteb-vehicle-search[{extra}]'" if extra else "Known are https://, s3://, gs:// and hf://."
        raise SourceError(f"{shown(url)} cannot be read here: {brief(error)}", hint) from error


def web_client() -> dict[str, Any]:
    """Return how web servers are asked: proxies and netrc as the environment says, and no limit while bytes come."""
    return {"trust_env": True, "timeout": ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=SILENCE_S)}
