"""Addresses as people may see them: without logins, signatures and other secrets."""

from __future__ import annotations

import re

WEB = ("http", "https")
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://[^\s'\"<>]+", re.IGNORECASE)
# Parameters of signed addresses, where a message holds them without their host.
_SIGNED = re.compile(r"\?[^\s'\"<>]*=[^\s'\"<>]*")
_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)  # Two characters at least, unlike a drive of Windows.


def is_url(text: str) -> bool:
    """Tell whether a text is an address such as https://..., not a path."""
    return _URL.match(text) is not None


def scheme_of(url: str) -> str:
    """Return what an address begins with, in small letters."""
    return url.partition("://")[0].lower()


def shown(url: str) -> str:
    """Return an address without login and, of web servers, without whatever stands behind a question mark."""
    scheme = scheme_of(url)
    rest = url.partition("://")[2]
    if scheme in WEB:
        rest = rest.partition("#")[0].partition("?")[0]
    place, slash, path = rest.partition("/")
    return f"{scheme}://{place.rpartition('@')[2]}{slash}{path}".rstrip("/")


def without_secrets(text: str) -> str:
    """Return a message whose addresses are as `shown` returns them."""
    return _SIGNED.sub("", _ADDRESS.sub(lambda match: shown(match[0]), text))
