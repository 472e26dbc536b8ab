"""The versions that a score was made with."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

PACKAGES = (
    "mteb-vehicle-search",
    "mteb",
    "torch",
    "torchvision",
    "transformers",
    "open_clip_torch",
    "timm",
    "tokenizers",
    "pillow",
    "simplejpeg",
)


def versions() -> dict[str, str]:
    """Return the installed versions of the packages that can change a score."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
