"""The thousand classes, and what the names of images say about them."""

from __future__ import annotations

import importlib.util
import re
from types import SimpleNamespace

import pytest

from data_prep.sources.imagenet.classes import WNID, class_indexes, classed_image, image_id, wnids
from mteb_vehicle_search.errors import SourceError

WAGON = "n02814533"  # "beach wagon", class 436.


@pytest.fixture
def forgotten():
    """The list is read anew, and once more afterwards."""
    wnids.cache_clear()
    yield
    wnids.cache_clear()


def test_classes_are_numbered_in_the_order_of_their_wordnet_ids():
    assert len(wnids()) == len(class_indexes()) == 1000
    assert list(wnids()) == sorted(wnids())
    assert all(re.fullmatch(r"n\d{8}", wnid) for wnid in wnids())
    # Known ends, and classes that everybody knows: tench, golden retriever, beach wagon, toilet tissue.
    known = {0: "n01440764", 207: "n02099601", 436: WAGON, 999: "n15075141"}
    assert {index: wnids()[index] for index in known} == known
    assert all(class_indexes()[wnid] == index for index, wnid in enumerate(wnids()))


@pytest.mark.parametrize(
    ("text", "ok"),
    [("n01440764", True), ("n0144076", False), ("n014407641", False), ("m01440764", False), ("an01440764", False)],
)
def test_wordnet_ids_are_an_n_and_eight_digits(text, ok):
    assert bool(WNID.fullmatch(text)) is ok


@pytest.mark.parametrize("found", [None, SimpleNamespace(origin=None)])
def test_without_timm_there_is_no_list(monkeypatch, forgotten, found):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found)
    with pytest.raises(SourceError) as caught:
        wnids()
    assert str(caught.value) == "timm is not installed: it holds the list of the ImageNet classes\npip install timm"


@pytest.mark.parametrize("count", [999, 1001])
def test_a_list_of_another_length(tmp_path, monkeypatch, forgotten, count):
    listed = tmp_path / "data" / "_info" / "imagenet_synsets.txt"
    listed.parent.mkdir(parents=True)
    listed.write_text("\n".join(f"n{n:08d}" for n in range(count)), encoding="utf-8")
    asked = []
    found = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: (asked.append(name), found)[1])
    with pytest.raises(SourceError) as caught:
        wnids()
    assert str(caught.value) == f"{listed} holds {count} classes instead of 1000\nInstall timm again."
    assert asked == ["timm"]


@pytest.mark.parametrize(
    ("name", "split", "stem"),
    [
        (f"{WAGON}_53652.JPEG", "train", f"{WAGON}_53652"),
        (f"{WAGON}_53652_{WAGON}.JPEG", "train", f"{WAGON}_53652"),
        (f"train/{WAGON}/{WAGON}_1.JPEG", "train", f"{WAGON}_1"),
        (f"C:\\train\\{WAGON}_1.JPEG", "train", f"{WAGON}_1"),
        (f"{WAGON}_1.jpg", "train", f"{WAGON}_1"),
        ("ILSVRC2012_val_00000293.JPEG", "val", "ILSVRC2012_val_00000293"),
        (f"ILSVRC2012_val_00000293_{WAGON}.JPEG", "val", "ILSVRC2012_val_00000293"),
    ],
)
def test_the_hubs_suffix_and_folders_are_no_part_of_the_id(name, split, stem):
    assert image_id(name, split, WAGON) == f"imagenet/{split}/{stem}"


@pytest.mark.parametrize(
    "name",
    [
        "x.JPEG",
        "",
        WAGON,
        f"{WAGON}.JPEG",
        f"{WAGON}_1",
        f"{WAGON}_.JPEG",
        f"{WAGON}_1_2.JPEG",
        f"{WAGON}_1_{WAGON}_{WAGON}.JPEG",
        f"x{WAGON}_1.JPEG",
        "ILSVRC2012_val_293.JPEG",
        "ILSVRC2012_val_000000293.JPEG",
        "ILSVRC2012_test_00000293.JPEG",
    ],
)
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match=re.escape(f"{name!r} is not the name of an ImageNet image")):
        image_id(name, "train", WAGON)


@pytest.mark.parametrize(
    "name", ["n01440764_1.JPEG", f"{WAGON}_1_n01440764.JPEG", "ILSVRC2012_val_00000293_n01440764.JPEG"]
)
def test_a_name_of_another_class_is_refused(name):
    with pytest.raises(ValueError) as caught:
        image_id(name, "train", WAGON)
    assert str(caught.value) == f"the name {name!r} says class n01440764, the label says {WAGON}"


def test_an_image_of_a_class():
    image = classed_image(f"train/{WAGON}_1_{WAGON}.JPEG", b"bytes", "train", 436)
    assert (image.id, image.data, image.problem) == (f"imagenet/train/{WAGON}_1", b"bytes", "")
    assert (image.source, image.split, image.class_index, image.wnid) == ("imagenet", "train", 436, WAGON)
    assert image.captions == ()


def test_an_odd_name_makes_a_reject_with_an_id_of_its_own():
    image = classed_image("a/b/holiday.JPEG", b"bytes", "val", 436)
    assert (image.id, image.data) == (f"imagenet/val/{WAGON}/holiday.JPEG", b"")
    assert image.problem == "'a/b/holiday.JPEG' is not the name of an ImageNet image"
    assert (image.split, image.class_index, image.wnid) == ("val", 436, WAGON)
    plain = classed_image("holiday.JPEG", b"bytes", "val", 436, "cannot be read")
    assert plain.id == f"imagenet/val/{WAGON}/holiday.JPEG"
    assert plain.problem == "'holiday.JPEG' is not the name of an ImageNet image"


def test_an_image_that_cannot_be_read_keeps_its_id_and_the_reason():
    image = classed_image(f"{WAGON}_1.JPEG", b"half", "train", 436, "cannot be read")
    assert (image.id, image.data, image.problem) == (f"imagenet/train/{WAGON}_1", b"", "cannot be read")
