"""Standard output and error that take any text and never raise: no result is lost because it cannot be shown."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

# What stands for a character of ours that an encoding lacks (ASCII, code pages of Windows consoles).
PLAIN = {
    **{"·": "-", "–": "-", "—": "-", "−": "-", "×": "x", "…": "...", "→": "->", "±": "+-", "≤": "<=", "≥": ">="},
    **{"’": "'", "\xa0": " "},
}


def plain(text: str, encoding: str) -> str:
    """Return the text with those characters replaced that the encoding lacks: by ASCII alike, else by their escapes."""

    def shown(character: str) -> str:
        try:
            character.encode(encoding)
        except UnicodeEncodeError:
            return PLAIN.get(character) or character.encode("ascii", "backslashreplace").decode("ascii")
        return character

    return "".join(map(shown, text))


class Stream:
    """A text stream around another that shows what it can; after the first failure it shows nothing more.

    Attributes:
        error: Why not all was shown; None if it was.
    """

    def __init__(self, stream: TextIO | Stream | None) -> None:
        # None is what Python has for a descriptor that was closed when it started.
        self._stream: Any = stream.unwrapped if isinstance(stream, Stream) else stream
        self.error: Exception | None = None

    @property
    def unwrapped(self) -> Any:
        """The stream below."""
        return self._stream

    def __getattr__(self, name: str) -> Any:
        return getattr(io.StringIO() if self._stream is None else self._stream, name)

    def write(self, text: str) -> int:
        """Write the text, as far as the stream below can."""
        self._attempt(self._write, text)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write all of them."""
        self.write("".join(lines))

    def flush(self) -> None:
        """Write what is held; where there is nothing to write to, nothing is."""
        if self._stream is not None:
            self._attempt(self._stream.flush)

    def _write(self, text: str) -> None:
        if self._stream is None:
            raise OSError(errno.EBADF, "it is closed")
        try:
            self._stream.write(text)
        except UnicodeEncodeError:
            self._stream.write(plain(text, self._stream.encoding))

    def _attempt(self, act: Callable[..., object], *arguments: str) -> None:
        if self.error is not None:
            return
        try:
            act(*arguments)
        except (OSError, ValueError) as error:  # ValueError: the program itself has closed it
            self.error = error
            self._drop()

    def _drop(self) -> None:
        """Forget what could not be written: Python would try again at its end, complain, and exit with 120."""
        with suppress(OSError, ValueError, AttributeError):  # without a descriptor nothing is held
            descriptor = self._stream.fileno()
            kept, nowhere = os.dup(descriptor), os.open(os.devnull, os.O_WRONLY)
            try:
                os.dup2(nowhere, descriptor)
                self._stream.flush()
            finally:
                os.dup2(kept, descriptor)
                os.close(kept)
                os.close(nowhere)


@contextmanager
def shown() -> Iterator[Stream]:
    """Put such streams in the place of standard output, which is given, and of standard error until the end."""
    before = sys.stdout, sys.stderr
    out, err = map(Stream, before)
    sys.stdout, sys.stderr = out, err  # type: ignore[assignment]
    try:
        yield out
    finally:
        out.flush()
        err.flush()
        sys.stdout, sys.stderr = before
