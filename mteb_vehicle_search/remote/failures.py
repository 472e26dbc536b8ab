"""What the failures of many clients mean: nothing is there, it is refused, or it may pass."""

from __future__ import annotations

import re
from collections.abc import Callable
from threading import Event
from typing import Any, TypeVar

from aiohttp import ClientConnectorCertificateError, ClientError, InvalidURL

from mteb_vehicle_search.errors import SourceError
from mteb_vehicle_search.remote.patience import asked_wait, brief, patiently
from mteb_vehicle_search.terminal import NO_ROOM

T = TypeVar("T")

# What came over a network and failed on its way; clients of clouds have exceptions of their own.
_CLIENTS = ("aiohttp", "aiobotocore", "botocore", "gcsfs", "google", "httpcore", "httpcore2", "httpx", "httpx2")
_CLIENTS += ("huggingface_hub", "requests", "urllib3")
# Exceptions of botocore, google.auth and huggingface_hub about logins that are missing or have expired.
_NO_LOGIN = re.compile("Credential|Token|ProfileNotFound|RefreshError")
LOGIN = "Log in as its client wants it (netrc, the settings of the cloud, hf auth login)."
_LOGINS = {
    "http": "Give a login in ~/.netrc; a signed address may have expired: get a new one.",
    "s3": "Log in as AWS wants it (aws configure, AWS_PROFILE); FSSPEC_S3_ANON=true reads public buckets without.",
    "gs": "Log in as Google wants it: gcloud auth application-default login.",
    "hf": "Accept its terms on its page, if it has any, then run: hf auth login",
}
_SAME = {"https": "http", "s3a": "s3", "gcs": "gs"}


class Absent(Exception):
    """There is nothing at an address."""


class Refused(SourceError):
    """What is there is not given to this user."""


class Passing(Exception):
    """A failure that may pass, told without secrets.

    Args:
        message: What failed.
        wait_s: How long to wait as the server asks; None if it does not.
    """

    def __init__(self, message: str, wait_s: float | None = None) -> None:
        super().__init__(message)
        self.wait_s = wait_s


def once(action: Callable[[], T], what: str, scheme: str) -> T:
    """Return what an action of a client returns; what it raises is told by `meaning`.

    Raises:
        SourceError: It will not pass.
        Absent, Passing: As they say.
    """
    try:
        return action()
    except Exception as error:
        told = meaning(error, what, scheme)
        if told is error:
            raise
        # Without its cause, whose message may hold a signed address.
        raise told from None


def again_and_again(action: Callable[[], T], what: str, scheme: str, stop: Event | None = None) -> T:
    """Return what an action of a client returns in the end; what may pass is tried again.

    Raises:
        SourceError: It will not pass, or has not.
        Absent: There is nothing.
    """
    return patiently(lambda: once(action, what, scheme), what, _judge, stop=stop)


def _judge(error: Exception) -> float | None:
    if isinstance(error, Passing):
        return error.wait_s
    raise error


def meaning(error: Exception, what: str, scheme: str) -> Exception:
    """Return the exception to raise instead: of this module, a SourceError, or the same if it is not of a client.

    Args:
        error: As a client raised it; its message may hold signed addresses.
        what: Was asked for, for messages.
        scheme: Of its address.
    """
    # Some say of every failure that there is no such file; the cause knows. Botocore's says no more.
    cause = error.__cause__
    if isinstance(error, FileNotFoundError) and isinstance(cause, Exception) and _status(cause):
        error = cause
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        return error
    status, named = _status(error), type(error).__name__
    if isinstance(error, FileNotFoundError) or status in (404, 410):
        return Absent(what)
    if isinstance(error, PermissionError) or status in (401, 403) or _NO_LOGIN.search(named):
        how = f"HTTP {status}" if status else brief(error)
        return Refused(f"access to {what} is refused ({how})", _LOGINS.get(_SAME.get(scheme, scheme), LOGIN))
    if named == "OfflineModeIsEnabled":
        return SourceError(
            f"{what} is needed from the hub, but the environment says HF_HUB_OFFLINE",
            "Unset HF_HUB_OFFLINE, or name a local copy.",
        )
    if isinstance(error, (InvalidURL, ClientConnectorCertificateError)):
        return SourceError(f"{what} cannot be reached: {brief(error)}", "Check the address.")
    if 400 <= status < 500 and status not in (408, 425, 429):
        return SourceError(f"{what} cannot be read: HTTP {status}", "Check the address.")
    if status or isinstance(error, (OSError, ClientError)) or type(error).__module__.split(".")[0] in _CLIENTS:
        response: Any = getattr(error, "response", None)
        headers = getattr(error, "headers", None) or getattr(response, "headers", None)
        return Passing(f"HTTP {status}" if status else brief(error), asked_wait(headers))
    return error


def _status(error: Exception) -> int:
    """The HTTP status that an exception tells; 0 if it tells none."""
    for holder, name in ((error, "status"), (getattr(error, "response", None), "status_code"), (error, "code")):
        status = str(getattr(holder, name, ""))
        if re.fullmatch("[1-5][0-9]{2}", status):
            return int(status)
    return 0
