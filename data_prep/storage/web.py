"""Files of web servers: every answer is checked before its bytes travel, since of wrong ones there may be 150 GB."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import fsspec
from aiohttp import ClientPayloadError, ClientResponse
from fsspec.asyn import sync
from yarl import URL

from data_prep.storage import Entry
from mteb_vehicle_search.remote.systems import web_client

_ANSWERED = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")
_NOT_THERE = 416  # Range Not Satisfiable (RFC 9110, 15.5.17): even the first byte, of an empty file.


class NotByRanges(Exception):
    """A server answers otherwise than with the part that was asked for; says how."""


class Changed(Exception):
    """A file is another one than before."""


class WebPage(Exception):
    """A page for people came instead of a file."""


class Web:
    """Web servers, through fsspec's session (netrc and proxies as the environment says); see `remote.Store`."""

    checked = True  # Each answer tells which file it is of.

    def __init__(self) -> None:
        self._system: Any = fsspec.filesystem("http", use_listings_cache=False, client_kwargs=web_client())

    def look(self, address: str, name: str) -> Entry:
        """Return what there is, by asking for its first byte: HEAD may be refused where GET is signed."""
        return cast(Entry, sync(self._system.loop, self._look, address, name))

    def fetch(self, address: str, entry: Entry, start: int, end: int) -> bytes:
        """Return a stretch of a file that was looked at.

        Raises:
            NotByRanges: The server answers otherwise.
            Changed: It is another file now.
            OSError: Other bytes came than were asked for.
        """
        return cast(bytes, sync(self._system.loop, self._fetch, address, entry, start, end))

    @asynccontextmanager
    async def _answer(self, address: str, start: int, end: int) -> AsyncIterator[ClientResponse]:
        session = await self._system.set_session()
        # What is written in an address is kept as it is: a signature may be of its letters.
        url = URL(address, encoded=address.isascii() and " " not in address)
        headers = {"Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
        # The connection of an answer that is not read to its end is closed with it.
        async with session.get(url, headers=headers) as answer:
            if answer.status != _NOT_THERE:
                answer.raise_for_status()
            yield answer

    async def _look(self, address: str, name: str) -> Entry:
        async with self._answer(address, 0, 1) as answer:
            if answer.content_type in ("text/html", "application/xhtml+xml") and not name.endswith((".html", ".htm")):
                raise WebPage
            if answer.content_length == 1:
                await answer.read()  # So that the connection stays open.
            return Entry(name, _size(answer), _stamp(answer.headers))

    async def _fetch(self, address: str, entry: Entry, start: int, end: int) -> bytes:
        async with self._answer(address, start, end) as answer:
            _check(answer, entry, start, end)
            data = bytearray()
            with suppress(ClientPayloadError):  # The connection ended: what came is counted below.
                async for chunk in answer.content.iter_any():
                    data += chunk
                    if len(data) > end - start:
                        raise OSError(f"more bytes came than the {end - start:,} that were asked for")
            if len(data) < end - start:
                raise OSError(f"{len(data):,} bytes came instead of {end - start:,}")
            return bytes(data)


def _check(answer: ClientResponse, entry: Entry, start: int, end: int) -> None:
    """Raise what `Web.fetch` says if an answer is not the one that was asked for."""
    size, stamp = _size(answer), _stamp(answer.headers)
    if (stamp and entry.stamp and stamp != entry.stamp) or (size >= 0 and size != entry.size_bytes):
        raise Changed
    if packing := _packing(answer):
        raise NotByRanges(f"packs what it sends ({packing})")
    whole = answer.status == 200 and (start, end) == (0, entry.size_bytes)
    if answer.status != 206 and not whole:
        raise NotByRanges("answers with the whole file")
    part = _ANSWERED.fullmatch(answer.headers.get("Content-Range", ""))
    if not whole and (part is None or part.group(1, 2) != (str(start), str(end - 1))):
        raise OSError(f"bytes {start} to {end - 1} were asked for; other ones came")
    length = answer.content_length
    if length is not None and length != end - start:
        raise OSError(f"{length:,} bytes come instead of {end - start:,}")


def _size(answer: ClientResponse) -> int:
    """The size of the whole file; -1 if the answer does not tell it."""
    part = _ANSWERED.fullmatch(answer.headers.get("Content-Range", ""))
    if answer.status in (206, _NOT_THERE):
        return int(part[3]) if part and part[3] != "*" else -1
    return -1 if _packing(answer) or answer.content_length is None else answer.content_length


def _packing(answer: ClientResponse) -> str:
    packing = answer.headers.get("Content-Encoding", "")
    return "" if packing == "identity" else packing


def _stamp(headers: Mapping[str, str]) -> str:
    return headers.get("ETag") or headers.get("Last-Modified") or ""
