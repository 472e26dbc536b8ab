"""Presets: the shipped ones say what is published; a wrong one is refused with the key's name."""

from __future__ import annotations

import re

import pytest

from data_prep.class_set import ClassSet
from data_prep.preset import load_preset
from mteb_vehicle_search.errors import BuildError

MINIMAL = """
name = "x"
title = "X"
[captioned]
source = "drawn"
[distractors]
source = "drawn"
"""


def write(tmp_path, text):
    path = tmp_path / "p.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_original_is_the_published_recipe():
    original = load_preset("original")
    classes = original.distractor_classes()
    assert original.selection.threshold == 0.6
    assert original.classifier.model == "google/vit-base-patch16-224"
    assert len(classes.classes) == 49
    assert original.selection_classes() == classes
    assert {517, 581, 595, 621, 730, 856} <= set(classes.indices)
    assert original.expected.captioned + original.expected.distractors == 68_154
    assert original.duplicates.policy == "report"


def test_wordnet_leaves_out_what_is_no_vehicle_there():
    classes = load_preset("wordnet").distractor_classes()
    assert len(classes.classes) == 49
    assert not {517, 581, 595, 621, 730, 856, 791} & set(classes.indices)
    assert all(re.fullmatch(r"n\d{8}", item.wnid) and item.roots != "-" for item in classes.classes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (MINIMAL + "capitons = 3\n", r"unknown key 'capitons' in \[distractors\]"),
        ("nmae = 'y'\n" + MINIMAL, "unknown key 'nmae' in the top level"),
        (MINIMAL.replace('title = "X"', ""), "title is missing"),
        (MINIMAL.replace('"X"', "3"), "title must be of type str, not 3"),
        (MINIMAL.replace('"x"', '"../x"'), "name must consist of"),
        (MINIMAL + "[duplicates]\nmax_distance = 40\n", "max_distance must be 0 to 16"),
        (MINIMAL + "[duplicates]\nmax_distance = true\n", "max_distance must be of type int"),
        (MINIMAL + "[images]\nresample = 'magic'\n", "images.resample must be one of"),
        (MINIMAL + "[selection]\nclasses = 'orig49'\nthreshold = 0.6\n", r"\[selection\] needs a \[classifier\]"),
        (
            MINIMAL.replace('[distractors]\nsource = "drawn"', '[distractors]\nsource = "imagenet"'),
            "classes is missing",
        ),
        (MINIMAL + "classes = 'nothing'\n", "There is no class set"),
        ("name = ", "is not TOML"),
    ],
)
def test_wrong_presets_are_refused(tmp_path, text, message):
    with pytest.raises(BuildError, match=message):
        load_preset(write(tmp_path, text))


CLASSIFIED = MINIMAL + "[classifier]\nlibrary='timm'\nmodel='m'\nrevision='{0}'\n[selection]\nclasses='orig49'\n{1}\n"


@pytest.mark.parametrize(
    ("revision", "rule", "message"),
    [
        ("main", "threshold = 0.6", "full commit hash"),
        ("a" * 40, "", "either threshold or share"),
        ("a" * 40, "threshold = 0.6\nshare = 0.1", "either threshold or share"),
        ("a" * 40, "threshold = 1.5", r"must be in \[0, 1\)"),
        ("a" * 40, "share = 0", r"must be in \(0, 1\]"),
    ],
)
def test_classifier_and_rule_are_checked(tmp_path, revision, rule, message):
    with pytest.raises(BuildError, match=message):
        load_preset(write(tmp_path, CLASSIFIED.format(revision, rule)))


def test_missing_preset_names_the_shipped_ones():
    with pytest.raises(BuildError, match="mini, original, wordnet"):
        load_preset("nothing")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["index\twnid"], "must begin with the columns"),
        (["index\twnid\tname\troots"], "names no class"),
        (["index\twnid\tname\troots", "1\tdog\td\tr"], "line 2"),
        (["index\twnid\tname\troots", "1\tn01443537\td\tr", "1\tn01443537\te\tr"], "stands twice"),
        (["index\twnid\tname\troots", "1\tn01440764\td\tr"], "class 1 of ImageNet-1k is n01443537, not n01440764"),
        (["index\twnid\tname\troots", "1000\tn01440764\td\tr"], "class 1000 of ImageNet-1k is none"),
    ],
)
def test_wrong_class_sets_are_refused(tmp_path, rows, message):
    (tmp_path / "c.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    with pytest.raises(BuildError, match=message):
        ClassSet.load("c.tsv", tmp_path)
