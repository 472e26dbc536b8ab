"""The evaluation set that ships in the package is what its preset builds."""

from __future__ import annotations

import pytest

from data_prep.build import BuildOptions, build
from data_prep.preset import load_preset
from mteb_vehicle_search import settings
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.eval_set.verify import verify
from mteb_vehicle_search.terminal import Reporter


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    options = BuildOptions(load_preset("mini"), tmp_path_factory.mktemp("mini") / "mini")
    return build(options, Reporter(quiet=True))


def test_shipped_mini_is_sound_and_small():
    folder = settings.mini_folder()
    assert verify(folder, progress=False).violations == []
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= 8_000_000


def test_a_fresh_build_has_the_shipped_content_id(fresh):
    shipped = EvalSet.open(settings.mini_folder())
    assert fresh.content_id == shipped.content_id
    assert fresh.policy == shipped.policy
    assert fresh.manifest["preset"] == shipped.manifest["preset"]


def test_images_are_those_of_a_fresh_build(fresh):
    """Another JPEG encoder may give other bytes, but not other images."""
    import io

    import numpy as np
    from PIL import Image

    shipped = EvalSet.open(settings.mini_folder())
    for index in range(0, 2000, 97):
        pixels = [
            np.asarray(Image.open(io.BytesIO(eval_set.jpeg_at(index))), dtype=float) for eval_set in (fresh, shipped)
        ]
        assert np.abs(pixels[0] - pixels[1]).mean() < 2


def test_mini_has_the_counts_that_its_preset_names():
    counts = EvalSet.open(settings.mini_folder()).manifest["notes"]["counts"]
    expected = load_preset("mini").expected
    assert (counts["captioned"], counts["distractors"], counts["queries"]) == (
        expected.captioned,
        expected.distractors,
        expected.queries,
    )
