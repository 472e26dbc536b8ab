"""How a transformers checkpoint wants its images, from its `preprocessor_config.json`, as a crop of ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from mteb_vehicle_search.errors import ModelLoadError
from mteb_vehicle_search.models.preprocess import LargerResizeCrop, ShortestSideCrop, Squash

# Later versions of the library put it into one file with the rest of the processor.
CONFIGS = ("preprocessor_config.json", "processor_config.json")
INTERPOLATIONS = {2: "bilinear", 3: "bicubic"}
# What each class of the library takes a size of one number for; older files name the class otherwise.
KINDS = {
    "CLIPImageProcessor": "shortest",
    "CLIPFeatureExtractor": "shortest",
    "ChineseCLIPImageProcessor": "shortest",
    "ChineseCLIPFeatureExtractor": "shortest",
    "SiglipImageProcessor": "shortest",
    "BlipImageProcessor": "both",
    "ViTImageProcessor": "both",
    "ViTFeatureExtractor": "both",
}
# Which crop where a file does not say whether.
CROPPING = {kind for kind in KINDS if "CLIP" in kind}
KNOWN_STEPS = {"do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb"}
RESCALE = 1 / 255


class Preprocessing(NamedTuple):
    """From an image to what the tower takes: the square, and mean and deviation of its channels."""

    crop: ShortestSideCrop
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def read_preprocessing(folder: Path, mode: str) -> Preprocessing:
    """Return what the checkpoint in `folder` asks for, bit by bit as the library's processor on Pillow's images.

    Raises:
        ModelLoadError: It asks for something that is not offered, or does not say what it asks for.
    """
    path = next((folder / name for name in CONFIGS if (folder / name).is_file()), folder / CONFIGS[0])
    if not path.is_file():
        raise ModelLoadError(f"{path} is missing: nothing says how images are prepared.")
    try:
        stated = json.loads(path.read_text(encoding="utf-8"))
        return _preprocessing(stated.get("image_processor", stated), mode)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        what = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise ModelLoadError(f"{path} asks for no preprocessing that is offered: {what}.") from error


def _preprocessing(stated: dict[str, Any], mode: str) -> Preprocessing:
    kind = str(stated.get("image_processor_type") or stated["feature_extractor_type"]).removesuffix("Fast")
    if kind not in KINDS:
        raise ValueError(f"the class {kind} is not one of {', '.join(sorted(KINDS))}")
    if extra := sorted(key for key, on in stated.items() if key.startswith("do_") and on and key not in KNOWN_STEPS):
        raise ValueError(f"{', '.join(extra)} is set")
    if off := [key for key in ("do_resize", "do_rescale") if not stated.get(key, True)]:
        raise ValueError(f"{', '.join(off)} is not set")
    if abs(stated.get("rescale_factor", RESCALE) - RESCALE) > 1e-9:
        raise ValueError(f"rescale_factor is {stated['rescale_factor']}, not 1/255")
    if stated["resample"] not in INTERPOLATIONS:
        raise ValueError(f"resample is {stated['resample']}, neither 2 (bilinear) nor 3 (bicubic)")
    if not stated.get("do_normalize", True):
        return Preprocessing(_crop(stated, kind, mode), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    mean, std = (tuple(float(value) for value in stated[key]) for key in ("image_mean", "image_std"))
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise ValueError(f"image_mean {list(mean)} and image_std {list(std)} are not those of three channels")
    return Preprocessing(_crop(stated, kind, mode), mean, std)


def _crop(stated: dict[str, Any], kind: str, mode: str) -> ShortestSideCrop:
    size, interpolation = stated["size"], INTERPOLATIONS[stated["resample"]]
    if isinstance(size, int):
        size = {"shortest_edge": size} if KINDS[kind] == "shortest" else {"height": size, "width": size}
    cropped = stated.get("do_center_crop", kind in CROPPING)
    side = _side(stated["crop_size"]) if cropped else None
    if size.keys() == {"height", "width"}:
        whole = _side(size)
        if side not in (None, whole):
            raise ValueError(f"crop_size {side} is not the size {whole} that both sides get")
        return Squash(whole, mode, interpolation)
    if size.keys() != {"shortest_edge"}:
        raise ValueError(f"size is {size}, neither shortest_edge nor height and width")
    shortest = int(size["shortest_edge"])
    if side is None:
        raise ValueError("images of other shapes than a square stay what they are (do_center_crop is not set)")
    if side > shortest:
        raise ValueError(f"crop_size {side} is more than the shortest edge of {shortest}")
    return LargerResizeCrop(side, mode, interpolation, shortest)


def _side(size: int | dict[str, int]) -> int:
    """Return the side of a square, which is stated as a number or as height and width."""
    if isinstance(size, int):
        return size
    if size["height"] != size["width"]:
        raise ValueError(f"{size['height']} x {size['width']} is no square")
    return int(size["height"])
