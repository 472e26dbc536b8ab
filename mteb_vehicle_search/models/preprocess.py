"""From JPEG bytes to the uint8 square that a model sees; `exact` as its library does, or `fast` on tensors."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from mteb_vehicle_search import settings
from mteb_vehicle_search.errors import EncodeError

MODES = ("exact", "fast")


def chosen_mode(wanted: str | None = None) -> str:
    """Return `wanted`, else `VEHICLE_SEARCH_PREPROCESS`: "exact" (default) or "fast".

    Raises:
        EncodeError: It is something else.
    """
    mode = wanted or settings.text("VEHICLE_SEARCH_PREPROCESS") or "exact"
    if mode not in MODES:
        where = "preprocess" if wanted else "VEHICLE_SEARCH_PREPROCESS"
        raise EncodeError(f"{where}={mode!r} is unknown.", f"Choose from {', '.join(MODES)}.")
    return mode


@dataclass(frozen=True)
class ShortestSideCrop:
    """Resize the shorter side to `size_px` (antialiased), then crop the centre square.

    Attributes:
        size_px: Side of the square, in pixels.
        mode: "exact": Pillow's resize, bit-identical with torchvision's on PIL images; "fast": the resize on uint8
            tensors, at most 2/255 apart and 0.006/255 in the mean (measured on photographs' sizes and noise).
        interpolation: "bicubic" or "bilinear".
    """

    size_px: int
    mode: str = "exact"
    interpolation: str = "bicubic"

    def decode(self, jpeg: bytes) -> torch.Tensor:
        """Return uint8 [3, size, size], channels last in memory.

        Raises:
            OSError, SyntaxError, ValueError: `jpeg` does not decode.
        """
        if self.mode == "fast":
            import simplejpeg

            # To Pillow's pixels in a third of its time; what is neither coloured nor grey, Pillow turns into RGB.
            if simplejpeg.decode_jpeg_header(jpeg)[2] in ("YCbCr", "Gray"):
                return self._fast(simplejpeg.decode_jpeg(jpeg, "RGB"))

        with Image.open(io.BytesIO(jpeg)) as image:
            return self(image.convert("RGB"))

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """Return uint8 [3, size, size] of an RGB image, channels last in memory."""
        if self.mode == "fast":
            return self._fast(np.array(image))
        width, height = self.resized(*image.size)
        if image.size != (width, height):
            image = image.resize((width, height), Image.Resampling[self.interpolation.upper()])
        left, top = self._corner(width, height)
        square = image.crop((left, top, left + self.size_px, top + self.size_px))
        return torch.from_numpy(np.array(square)).permute(2, 0, 1)

    def _fast(self, pixels: np.ndarray) -> torch.Tensor:
        from torchvision.transforms.v2 import functional as vision

        width, height = self.resized(pixels.shape[1], pixels.shape[0])
        left, top = self._corner(width, height)
        way = vision.InterpolationMode(self.interpolation)
        small = vision.resize_image(torch.from_numpy(pixels).permute(2, 0, 1), [height, width], way, antialias=True)
        return small[:, top : top + self.size_px, left : left + self.size_px]

    def _corner(self, width: int, height: int) -> tuple[int, int]:
        return round((width - self.size_px) / 2), round((height - self.size_px) / 2)

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """Return width and height after the resize; the longer side is cut to whole pixels, as torchvision does."""
        if width <= height:
            return self.size_px, int(self.size_px * height / width)
        return int(self.size_px * width / height), self.size_px


@dataclass(frozen=True)
class Squash(ShortestSideCrop):
    """Resize both sides to `size_px`, whatever the shape; "fast" is up to 8/255 apart on strips (37 x 900 measured)."""

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """Return the side twice."""
        return self.size_px, self.size_px


@dataclass(frozen=True)
class LargerResizeCrop(ShortestSideCrop):
    """Resize the shorter side to `resize_px`, then crop the centre; halves of a pixel are rounded down.

    That is where transformers cuts; torchvision and open_clip round them to the even number.
    """

    resize_px: int = 0

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """Return width and height after the resize."""
        return ShortestSideCrop(self.resize_px).resized(width, height)

    def _corner(self, width: int, height: int) -> tuple[int, int]:
        return (width - self.size_px) // 2, (height - self.size_px) // 2
