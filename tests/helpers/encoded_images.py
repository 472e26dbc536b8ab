"""Photo-like images as files of every format."""

from __future__ import annotations

import io
import struct
import zlib

from PIL import Image

from data_prep.sources.drawn.images import draw_photo_like


def saved(image: Image.Image, format: str = "JPEG", **options) -> bytes:
    """The image as a file."""
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def photo(seed: int = 1, width: int = 500, height: int = 375) -> Image.Image:
    """An image with the detail of a photo."""
    return draw_photo_like(seed, width, height)


def huge_png(width: int, height: int) -> bytes:
    """A PNG whose header promises more than it holds, as a decompression bomb does."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


# The colours of the primaries of Adobe RGB (1998), adapted to D50, and its exponent (the standard's sections 4.3, 4.2).
ADOBE_RGB = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
ADOBE_EXPONENT = 563 / 256
D50 = (0.9642, 1.0, 0.8249)


def icc_profile(primaries: tuple = ADOBE_RGB, exponent: float = ADOBE_EXPONENT, space: bytes = b"RGB ") -> bytes:
    """A colour profile of primaries and an exponent, as ICC.1:2001-04 (version 2) lays one out."""

    def xyz(values: tuple) -> bytes:
        return b"XYZ " + bytes(4) + b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(exponent * 256))
    name = b"desc" + bytes(4) + struct.pack(">I", 5) + b"test\0" + bytes(8 + 3 + 67)
    tags = {b"desc": name, b"cprt": b"text" + bytes(4) + b"none\0", b"wtpt": xyz(D50)}
    if space == b"RGB ":
        tags |= {b"rXYZ": xyz(primaries[0]), b"gXYZ": xyz(primaries[1]), b"bXYZ": xyz(primaries[2])}
        tags |= {b"rTRC": curve, b"gTRC": curve, b"bTRC": curve}
    else:
        tags[b"kTRC"] = curve
    table, data, start = b"", b"", 128 + 4 + 12 * len(tags)
    for tag, value in tags.items():
        table += tag + struct.pack(">II", start + len(data), len(value))
        data += value + bytes(-len(value) % 4)
    head = bytearray(128)
    struct.pack_into(">I4sI4s4s4s", head, 0, start + len(data), b"none", 0x02200000, b"mntr", space, b"XYZ ")
    head[36:40] = b"acsp"
    struct.pack_into(">iii", head, 68, *(round(value * 65536) for value in D50))
    return bytes(head) + struct.pack(">I", len(tags)) + table + data
