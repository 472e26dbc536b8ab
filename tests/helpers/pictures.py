"""Photo-like pictures as files of every format."""

from __future__ import annotations

import io
import struct
import zlib

from PIL import Image

from data_prep.sources.drawn.pictures import draw_photo_like


def saved(image: Image.Image, format: str = "JPEG", **options) -> bytes:
    """The image as a file."""
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def photo(seed: int = 1, width: int = 500, height: int = 375) -> Image.Image:
    """A picture with the detail of a photo."""
    return draw_photo_like(seed, width, height)


def huge_png(width: int, height: int) -> bytes:
    """A PNG whose header promises more than it holds, as a decompression bomb does."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )
