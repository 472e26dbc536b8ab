"""Where the page of a judge is: a port of this machine and a token, the same again after a stop.

So a page that was open when the program was stopped or killed goes on with its unsaved answers once it is started
again. What is remembered lies beside the judge's file, readable by its owner only, until the judge is finished.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.files import locked, safe_name
from mteb_vehicle_search.judging.guard import ADDRESS


class Address(NamedTuple):
    """Where a page is served: a socket that listens, its port, the token, and the file that remembers them."""

    socket: socket.socket
    port: int
    token: str
    remembered: Path

    @property
    def url(self) -> str:
        """What is opened in a browser."""
        return f"http://{ADDRESS}:{self.port}/?token={self.token}"

    def forget(self) -> None:
        """Let the next page have another token."""
        self.remembered.unlink(missing_ok=True)


@contextmanager
def address_of(folder: Path, judge: str, port: int = 0) -> Iterator[Address]:
    """Give the address of a judge's page, which no other process serves until the end of the block.

    Args:
        folder: Of the judgments.
        judge: Whose page it is.
        port: The port; 0: the one that this judge had before, else any.

    Raises:
        ResultsError: Another process serves this judge's page, or the port is taken.
    """
    own = folder / f".page-{safe_name(judge)}"
    doing = f"Another process shows {judge} the page"
    with locked(own, doing, error=ResultsError, hint="Judge there, end it, or give --judge another name."):
        file = own / "address.json"
        earlier, token = _remembered(file)
        listening = _listen(port, earlier)
        with listening:
            used = listening.getsockname()[1]
            if used != earlier or not token:
                token = secrets.token_urlsafe(24)
            address = Address(listening, used, token, file)
            _remember(address)
            yield address


def _listen(port: int, earlier: int) -> socket.socket:
    if not port and earlier:
        try:
            return socket.create_server((ADDRESS, earlier))
        except OSError:
            # Somebody else has it by now.
            earlier = 0
    try:
        return socket.create_server((ADDRESS, port))
    except OSError as error:
        raise ResultsError(f"Port {port} of {ADDRESS} cannot be used: {error.strerror}.", "Choose another.") from error


def _remembered(file: Path) -> tuple[int, str]:
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        return int(said["port"]), str(said["token"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0, ""


def _remember(address: Address) -> None:
    content = json.dumps({"port": address.port, "token": address.token})
    address.forget()
    try:
        with os.fdopen(os.open(address.remembered, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(content)
    except OSError:
        # Such as on a full disk: then an open page does not find the next one.
        address.forget()
