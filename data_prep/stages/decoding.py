"""Encoded images of any kind decoded safely and fully: RGB, upright, bounded in size, damage noticed."""

from __future__ import annotations

import io
import re
import threading
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
import simplejpeg
from PIL import Image, ImageCms, UnidentifiedImageError, features

from data_prep.storage import MAX_FILE_BYTES

MAX_PIXELS = 89_478_485  # Where Pillow itself starts to speak of a decompression bomb: 256 MiB of RGB.
# AVIF where Pillow was built with it; HEIF, as phones write, is the affair of another package: see `_formats`.
_AVIF = ("AVIF",) if "avif" in features.modules and features.check("avif") else ()
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", *_AVIF)

# What libjpeg-turbo says when it invents pixels; its other warnings leave the image whole.
_LOST = re.compile(r"premature end|bad huffman code|bad arithmetic code|instead of RST", re.IGNORECASE)
_KEPT_BYTES = 4 << 20  # Of each thread's buffer: images of up to 1.4 megapixels.
_kept = threading.local()
# Tables of rejects hold the reasons, under the digests of sets, so that their words stay.
_TRUNCATED = "truncated: the file ends before the image does"
_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageRejected(Exception):
    """An image that cannot be used; `reason` says why, for the table of rejects."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class Decoded(NamedTuple):
    """A whole image as RGB, and what the decoder complained of without losing pixels (usually "")."""

    image: Image.Image
    warning: str


def decode(
    data: bytes, *, apply_exif: bool = True, colour_profile: str = "drop", max_pixels: int = MAX_PIXELS
) -> Decoded:
    """Decode the whole image.

    JPEGs are decoded by libjpeg-turbo through simplejpeg, to the same pixels as Pillow's, since Pillow keeps silent
    about data that end early or are garbled, and fills the image up with grey.

    Args:
        data: An encoded file; its name and extension do not matter.
        apply_exif: Turn the image as its EXIF orientation says. Unreadable EXIF counts as upright.
        colour_profile: "drop" takes the stored numbers as they are; "srgb" turns what has a colour profile into sRGB.
            A profile that cannot be used is dropped, with a warning.
        max_pixels: An image with more is refused before it is decoded.

    Raises:
        ImageRejected: If the file is empty, no image, truncated, damaged or too large.
    """
    if not data:
        raise ImageRejected("empty file")
    if len(data) > MAX_FILE_BYTES:
        raise ImageRejected(f"too many bytes: the limit is {MAX_FILE_BYTES:,}")
    try:
        image, warning = _load(data, max_pixels)
    except ImageRejected:
        raise
    except UnidentifiedImageError:
        raise ImageRejected(_unidentified(data)) from None
    except Image.DecompressionBombError:
        raise ImageRejected(f"too many pixels: the limit is {max_pixels:,}") from None
    except Exception as error:  # Pillow's decoders raise many types on damaged files; each is a reject with a reason.
        if "truncated" in str(error).lower():
            raise ImageRejected(_TRUNCATED) from error
        raise ImageRejected(f"damaged: {str(error) or type(error).__name__}") from error
    turn = _UPRIGHT.get(_orientation(image)) if apply_exif else None
    try:
        if colour_profile == "srgb" and (profile := image.info.get("icc_profile")):
            image, problem = _to_srgb(image, profile)
            warning = warning or problem
        image = _to_rgb(image)
    except (ValueError, OSError) as error:
        raise ImageRejected(f"mode {image.mode} cannot be turned into RGB: {error}") from error
    return Decoded(image.transpose(turn) if turn is not None else image, warning)


# What names the contents of ISO media files (ISO/IEC 23008-12, 10.2; AVIF 1.1, 6).
_BRANDS = {b"avif": "AVIF", b"avis": "AVIF"}
_BRANDS |= dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "HEIF")
_UNREADABLE = {
    "AVIF": "an AVIF image, which this Pillow cannot read: install a newer one, or save it as JPEG",
    "HEIF": "a HEIF image, which Pillow cannot read by itself: install pillow-heif, or save it as JPEG",
}


def _kind(data: bytes) -> str:
    return _BRANDS.get(data[8:12], "") if data[4:8] == b"ftyp" else ""


def _unidentified(data: bytes) -> str:
    """Why Pillow sees no image in a file."""
    kind = _kind(data)
    if not kind:
        return f"not an image: begins with {data[:8]!r}"
    return f"damaged: {kind} without an image" if kind in _formats(data) else _UNREADABLE[kind]


def _formats(data: bytes) -> tuple[str, ...]:
    """The formats that a file may have; its own package is asked only for what looks like HEIF."""
    return (*FORMATS, "HEIF") if _kind(data) == "HEIF" and _opens_heif() else FORMATS


@lru_cache(maxsize=1)
def _opens_heif() -> bool:
    if find_spec("pillow_heif") is not None:
        import_module("pillow_heif").register_heif_opener()
    return "HEIF" in Image.OPEN


def _load(data: bytes, max_pixels: int) -> tuple[Image.Image, str]:
    image = Image.open(io.BytesIO(data), formats=_formats(data))
    width, height = image.size
    if width * height > max_pixels:
        raise ImageRejected(f"too many pixels: {width} x {height} = {width * height:,}, the limit is {max_pixels:,}")
    warning = ""
    if image.format in ("JPEG", "MPO"):
        decoded, warning = _turbo(data)
        if _LOST.search(warning):
            raise ImageRejected(_TRUNCATED if warning == "Premature end of JPEG file" else f"damaged: {warning}")
        if decoded is not None:
            decoded.info = image.info  # Holds the orientation and the colour profile.
            return decoded, warning
    image.load()
    return image, warning


def _turbo(data: bytes) -> tuple[Image.Image | None, str]:
    """A colour JPEG's pixels (None: Pillow must decode it), and what the decoder complained of."""
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data, strict=False)
        height, width = int(height), int(width)
        target, channels = {"CMYK": ("CMYK", 4), "YCCK": ("CMYK", 4), "Gray": ("GRAY", 1)}.get(colours, ("RGB", 3))
        buffer = _buffer(height * width * channels)
        pixels = simplejpeg.decode_jpeg(data, colorspace=target, strict=True, buffer=buffer)
    except ValueError as error:
        return None, str(error)
    if colours != "YCbCr":
        return None, ""
    image = Image.new("RGB", (width, height), None)
    image.frombytes(pixels.data.cast("B"))  # Copies, so that the buffer is free again.
    return image, ""


def _buffer(size: int) -> bytearray:
    """Room for decoded bytes that the thread uses again: fresh pages would take a fifth of the time of decoding."""
    if size > _KEPT_BYTES:
        return bytearray(size)
    if not hasattr(_kept, "buffer"):
        _kept.buffer = bytearray(_KEPT_BYTES)
    return _kept.buffer


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # Broken EXIF raises anything from struct.error to SyntaxError; the pixels are still good.
        return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return _wide_to_grey(image).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        upper = image.convert("RGBA")
        white = Image.new("RGBA", upper.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, upper).convert("RGB")
    return image.convert("RGB")


_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def _to_srgb(image: Image.Image, profile: bytes) -> tuple[Image.Image, str]:
    """The image in sRGB, by relative colorimetric intent, and why its profile was not used (else "").

    Transparency is put on white first, and palettes become colours, since a profile is of colours.
    """
    try:
        embedded = ImageCms.getOpenProfile(io.BytesIO(profile))
        space = str(embedded.profile.xcolor_space).strip()  # pyright: ignore[reportAttributeAccessIssue]
        if space == "RGB":
            image = _to_rgb(image)
        if image.mode != {"RGB": "RGB", "CMYK": "CMYK", "GRAY": "L"}.get(space):
            return image, f"its colour profile is of {space}, not of {image.mode}, and is not used"
        intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
        turned = ImageCms.profileToProfile(image, embedded, _SRGB, renderingIntent=intent, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        return image, f"its colour profile cannot be used: {str(error) or type(error).__name__}"
    return turned or image, ""


def _wide_to_grey(image: Image.Image) -> Image.Image:
    """16 and 32 bit grey to 8 bit; Pillow's own `convert` clips at 255, which makes such images white."""
    values = np.nan_to_num(np.asarray(image, dtype=np.float64), nan=0.0)
    if image.mode == "F" and values.max(initial=0) <= 1:
        values = values * 255
    elif image.mode.startswith("I;16") or values.max(initial=0) > 255:
        values = values / 257
    return Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))
