"""A captioned source: plain colours, each with five captions that name it."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator
from typing import Any

from PIL import Image

from data_prep.sources import Source, SourceImage
from data_prep.storage import PassedOver

COLOURS = ("red", "green", "blue")


class Colours:
    """The colours that lie at `where`: anywhere."""

    notes = ()

    def __init__(self, where: str) -> None:
        self.where = where

    def describe(self) -> dict[str, Any]:
        """Say where they are."""
        return {"form": "colours", "location": self.where}

    def count(self) -> int:
        """Return how many there are."""
        return len(COLOURS)

    def check(self) -> list[str]:
        """Nothing is missing."""
        return []

    def travels_bytes(self, only: Collection[str] | float = 1.0) -> int:
        """Nothing travels."""
        return 0

    def images(self, passed: PassedOver | None = None, only: Collection[str] | None = None) -> Iterator[SourceImage]:
        """Yield the colours."""
        for name in COLOURS:
            if only is not None and f"colours/{name}" not in only:
                continue
            buffer = io.BytesIO()
            Image.new("RGB", (200, 200), name).save(buffer, "PNG")
            captions = tuple(f"{name} number {n}" for n in range(5))
            yield SourceImage(f"colours/{name}", buffer.getvalue(), "colours", "", captions=captions)


SOURCE = Source(
    name="colours",
    card="**Colours**, plain ones.",
    captioned=lambda place: Colours(place.src),
    help="where the colours are",
    terms="Colours: look, but do not touch.",
    cite=("Newton: Opticks. 1704.",),
    bibtex="@book{newton1704opticks,\n  author = {Newton, Isaac},\n  title = {Opticks},\n  year = {1704}\n}\n",
)
