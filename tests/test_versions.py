"""Which versions a score is kept with."""

from __future__ import annotations

import importlib.metadata

import pytest

from mteb_vehicle_search import run_record as module
from mteb_vehicle_search.run_record import versions

# Everything between a file and a score: decoding, resizing, tokens, models, numbers and metrics.
PACKAGES = [
    *("mteb-vehicle-search", "mteb", "torch", "torchvision", "transformers", "open_clip_torch", "timm"),
    *("tokenizers", "pillow", "simplejpeg"),
]


def test_versions_are_those_that_are_installed():
    found = versions()
    assert list(found) == PACKAGES
    assert found == {name: importlib.metadata.version(name) for name in PACKAGES}


@pytest.mark.parametrize("missing", PACKAGES)
def test_what_is_not_installed_is_left_out_and_nothing_else(monkeypatch, missing):
    def version(name):
        if name == missing:
            raise importlib.metadata.PackageNotFoundError(name)
        return f"version of {name}"

    monkeypatch.setattr(module, "version", version)
    assert versions() == {name: f"version of {name}" for name in PACKAGES if name != missing}
