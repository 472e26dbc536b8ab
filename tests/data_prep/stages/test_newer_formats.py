"""AVIF and HEIF: decoded where something here can, and else refused with what mends it."""

from __future__ import annotations

import io
import sys
import types

import pytest
from encoded_images import photo, saved
from PIL import Image, features

from data_prep.stages import decoding

HEIC = b"\x00\x00\x00\x18ftypheic" + bytes(64)


def refused(data: bytes) -> str:
    with pytest.raises(decoding.ImageRejected) as caught:
        decoding.decode(data)
    return caught.value.reason


@pytest.fixture(autouse=True)
def _anew():
    decoding._opens_heif.cache_clear()
    yield
    decoding._opens_heif.cache_clear()


@pytest.mark.skipif(not features.check("avif"), reason="Pillow without AVIF")
def test_avif_is_decoded():
    data = saved(photo(width=64, height=48), "AVIF")
    image, warning = decoding.decode(data)
    assert image.tobytes() == Image.open(io.BytesIO(data)).convert("RGB").tobytes()
    assert warning == ""
    assert refused(data[: len(data) // 2]) == "damaged: AVIF without an image"


def test_avif_is_refused_where_pillow_lacks_it(monkeypatch):
    monkeypatch.setattr(decoding, "FORMATS", ("JPEG", "PNG"))
    for brand in (b"avif", b"avis"):
        assert refused(HEIC.replace(b"heic", brand)) == (
            "an AVIF image, which this Pillow cannot read: install a newer one, or save it as JPEG"
        )


def test_heif_is_refused_without_its_package(monkeypatch):
    monkeypatch.setattr(decoding, "find_spec", lambda name: None)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    for brand in (b"heic", b"mif1"):
        assert refused(HEIC.replace(b"heic", brand)) == (
            "a HEIF image, which Pillow cannot read by itself: install pillow-heif, or save it as JPEG"
        )
    assert refused(b"\x00\x00\x00\x18ftypisom" + bytes(64)).startswith("not an image: begins with ")


def test_heif_is_decoded_by_its_package(monkeypatch):
    drawn = Image.new("RGB", (8, 6), (1, 2, 3))

    def opened(file, name):
        return drawn

    # As the package does it; what it decodes is its own affair.
    plugin = types.ModuleType("pillow_heif")
    setattr(plugin, "register_heif_opener", lambda: Image.register_open("HEIF", opened, lambda head: b"heic" in head))  # noqa: B010 - no attribute of modules
    monkeypatch.setitem(sys.modules, "pillow_heif", plugin)
    monkeypatch.setattr(decoding, "find_spec", lambda name: plugin)
    monkeypatch.setitem(Image.OPEN, "HEIF", (opened, None))
    monkeypatch.setattr(Image, "ID", [*Image.ID])
    assert decoding.decode(HEIC).image.getpixel((0, 0)) == (1, 2, 3)
    assert refused(HEIC.replace(b"heic", b"isom")).startswith("not an image")
