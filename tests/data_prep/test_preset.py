"""Presets: the shipped ones say what is published; a wrong one is refused with the key's name."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, fields
from pathlib import Path

import pytest

from data_prep.class_set import ClassSet
from data_prep.preset import (
    PRESETS,
    Captioned,
    Classifier,
    Distractors,
    Duplicates,
    Expected,
    Miner,
    Preset,
    Selection,
    load_preset,
)
from mteb_vehicle_search.errors import BuildError
from mteb_vehicle_search.eval_set.schema import ImagePolicy

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
        (MINIMAL.replace('"x"', '"../x"'), "name must be 1 to 60 of"),
        (MINIMAL + "[duplicates]\nmax_distance = 40\n", r"max_distance must be -1 \(none are\) to 16"),
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


IMAGENET = MINIMAL.replace('[distractors]\nsource = "drawn"', '[distractors]\nsource = "imagenet"\nclasses = "orig49"')
PINNED = CLASSIFIED.format("a" * 40, "threshold = 0.6")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (PINNED + "\n[images]\nresample = 'magic'\n", "images.resample must be one of"),
        (PINNED.replace("threshold = 0.6", "threshold = 7"), "selection.threshold must be in"),
    ],
)
def test_a_classifier_does_not_make_up_for_another_mistake(tmp_path, text, message):
    with pytest.raises(BuildError, match=message):
        load_preset(write(tmp_path, text))


def test_defaults(tmp_path):
    found = load_preset(write(tmp_path, MINIMAL))
    assert asdict(found) == {
        "name": "x",
        "title": "X",
        "captioned": {
            "source": "drawn",
            "captions": 5,
            "location": "",
            "table": "",
            "file_column": "",
            "caption_column": "",
            "fewest_captions": 1,
        },
        "distractors": {
            "source": "drawn",
            "classes": None,
            "splits": ("train", "val"),
            "location": "",
            "method": "class",
            "miners": (),
            "near": 40,
            "size": None,
            "rate": None,
            "seed": "1",
        },
        "miners": {},
        "description": "",
        "task_name": "",
        "classifier": None,
        "selection": None,
        "images": {
            "shortest_side_px": 160,
            "resample": "bicubic",
            "jpeg_quality": 75,
            "exif": "distractors",
            "colour_profile": "drop",
        },
        "duplicates": {"policy": "report", "max_distance": 4},
        "expected": {"captioned": None, "distractors": None, "queries": None, "selection_sha256": None},
        "folder": tmp_path,
    }
    assert Classifier("timm", "m").revision == ""
    assert (Selection("c").threshold, Selection("c").share) == (None, None)


def test_every_key_arrives(tmp_path):
    text = f"""
name = "x"
title = "X"
description = "D"
task_name = "T"
[captioned]
source = "flickr30k"
captions = 3
[distractors]
source = "imagenet"
classes = "orig49"
splits = ["val"]
[classifier]
library = "timm"
model = "m"
revision = "{"a" * 40}"
[selection]
classes = "wordnet"
share = 0.5
[images]
shortest_side_px = 99
resample = "lanczos"
jpeg_quality = 80
[duplicates]
policy = "remove"
max_distance = 1
[expected]
captioned = 1
distractors = 2
queries = 3
selection_sha256 = "s"
"""
    found = load_preset(write(tmp_path, text))
    assert found == Preset(
        "x",
        "X",
        Captioned("flickr30k", 3),
        Distractors("imagenet", "orig49", ("val",)),
        "D",
        "T",
        Classifier("timm", "m", "a" * 40),
        Selection("wordnet", None, 0.5),
        ImagePolicy(99, "lanczos", 80),
        Duplicates("remove", 1),
        Expected(1, 2, 3, "s"),
        tmp_path,
    )
    assert found.selection_classes().name == "wordnet"
    assert found.distractor_classes().name == "orig49"
    plain = load_preset(write(tmp_path, MINIMAL))
    assert plain.selection_classes() is None
    assert plain.distractor_classes() is None


NAMES = ['"a"', '"a-1-z"', '"a9-"', f'"{"a" * 60}"', '"9a-"\ntask_name = "T"']
NO_NAMES = ['""', '"-a"', '"A"', '"a_b"', '"a b"', '"a/b"', r'"a\n"', '".."', f'"{"a" * 61}"']
# A preset's text, what to change in it, and the values on this and the other side of each limit.
LIMITS = [
    (MINIMAL, '"x"', NAMES, NO_NAMES, "name must be 1 to 60 of a-z, 0-9 and '-'"),
    (MINIMAL, '"x"', ['"con-search"', '"com"'], ['"con"', '"nul"', '"com1"'], "name must not be one that Windows"),
    (MINIMAL, '"X"', ['"Voitures — été"'], ['""', '" "', r'"a\nb"', r'"a\u001b[1m"'], "title must be a line of text"),
    (
        MINIMAL,
        '"x"',
        [],
        ['"2024-dogs"'],
        "state a task_name; the one made of the name, '2024Dogs', must begin with A-Z",
    ),
    (MINIMAL, '"x"', [], ['"0"'], "state a task_name; the one made of the name, '0', must begin with A-Z"),
    (
        MINIMAL,
        '"x"',
        [f'"2024-dogs"\ntask_name = "{name}"' for name in ("D", "Dogs2024", "D" * 60)],
        [f'"dogs"\ntask_name = "{name}"' for name in ("dogs", "2Dogs", "Dog-Search", "../D", "D" * 61, "Dé", r"D\n")],
        "task_name must begin with A-Z",
    ),
    (MINIMAL, '[captioned]\nsource = "drawn"', ['[captioned]\nsource = "flickr30k"'], [], ""),
    (MINIMAL, '[captioned]\nsource = "drawn"', [], ['[captioned]\nsource = "coco"'], "captioned.source must be"),
    (MINIMAL, "[distractors]", [f"captions = {n}\n[distractors]" for n in (1, 5)], [], ""),
    (
        MINIMAL,
        "[distractors]",
        [],
        [f"captions = {n}\n[distractors]" for n in (0, 6, -1)],
        "captioned.captions must be 1 to 5",
    ),
    (IMAGENET, '"imagenet"', ['"imagenet"', '"drawn"'], ['"flickr30k"'], "distractors.source must be"),
    (IMAGENET, 'classes = "orig49"', [], ['classes = ""', ""], "distractors.classes is missing"),
    (
        IMAGENET,
        'classes = "orig49"',
        [f'classes = "orig49"\nsplits = {splits}' for splits in (["train"], ["val"], ["val", "train"])],
        [f'classes = "orig49"\nsplits = {splits}' for splits in ([], ["test"], ["train", "test"])],
        "distractors.splits may hold 'train' and 'val'",
    ),
    (
        MINIMAL + "[images]\nshortest_side_px = 1\n",
        "shortest_side_px = 1",
        ["shortest_side_px = 16", "shortest_side_px = 4000"],
        ["shortest_side_px = 15", "shortest_side_px = 0"],
        "images.shortest_side_px must be at least 16",
    ),
    (
        MINIMAL + '[images]\nresample = "?"\n',
        '"?"\n',
        [f'"{name}"\n' for name in ("box", "bilinear", "bicubic", "lanczos")],
        [f'"{name}"\n' for name in ("nearest", "hamming", "BICUBIC")],
        "images.resample must be one of box, bilinear, bicubic, lanczos",
    ),
    (
        MINIMAL + "[images]\njpeg_quality = 1\n",
        "jpeg_quality = 1",
        ["jpeg_quality = 1", "jpeg_quality = 95"],
        ["jpeg_quality = 0", "jpeg_quality = 96", "jpeg_quality = 100"],
        "images.jpeg_quality must be 1 to 95",
    ),
    (
        MINIMAL + '[images]\nexif = "x"\n',
        'exif = "x"',
        [f'exif = "{name}"' for name in ("distractors", "all", "none")],
        ['exif = "x"', 'exif = "captioned"'],
        "images.exif must be 'distractors' or 'all' or 'none'",
    ),
    (
        MINIMAL + '[images]\ncolour_profile = "x"\n',
        'colour_profile = "x"',
        [f'colour_profile = "{name}"' for name in ("drop", "srgb")],
        ['colour_profile = "x"', 'colour_profile = "sRGB"'],
        "images.colour_profile must be 'drop' or 'srgb'",
    ),
    (
        MINIMAL + '[duplicates]\npolicy = "x"\n',
        'policy = "x"',
        ['policy = "report"', 'policy = "remove"'],
        ['policy = "drop"', 'policy = ""'],
        "duplicates.policy must be 'report' or 'remove'",
    ),
    (
        MINIMAL + "[duplicates]\nmax_distance = 1\n",
        "max_distance = 1",
        ["max_distance = -1", "max_distance = 16"],
        ["max_distance = -2", "max_distance = 17"],
        "duplicates.max_distance must be -1 (none are) to 16",
    ),
    (PINNED, "threshold = 0.6", ["threshold = 0", "threshold = 0.999"], [], ""),
    (PINNED, "threshold = 0.6", [], ["threshold = -0.001", "threshold = 1"], "selection.threshold must be in [0, 1)"),
    (PINNED, "threshold = 0.6", ["share = 0.001", "share = 1"], [], ""),
    (PINNED, "threshold = 0.6", [], ["share = 0", "share = 1.001"], "selection.share must be in (0, 1]"),
    (
        PINNED,
        "threshold = 0.6",
        [],
        ["", "threshold = 0\nshare = 0.5", "threshold = 0.5\nshare = 1"],
        "selection must give either threshold or share",
    ),
    (PINNED, "'timm'", ["'timm'", "'transformers'"], ["'keras'", "'open_clip'"], "classifier.library must be"),
    (
        PINNED,
        "'m'",
        ["'m'", "'a/b'", "'a.b-c_1/d.e'"],
        ["'a/b/c'", "'/a'", "'a b'"],
        "classifier.model must be a folder beside the preset, or a name on the hub such as owner/name; ",
    ),
    (
        PINNED,
        "a" * 40,
        ["0123456789abcdef" * 2 + "01234567"],
        ["", "main", "a" * 39, "a" * 41, "A" * 40, "g" * 40],
        "classifier.revision must be a full commit hash (40 hexadecimal digits)",
    ),
    (
        PINNED,
        "[selection]\nclasses='orig49'\nthreshold = 0.6",
        [],
        [""],
        "a classifier needs [selection]",
    ),
]


def require_said(path, message):
    """Make sure that a preset is refused with a sentence that begins so; or loaded, if there is none."""
    if not message:
        load_preset(path)
        return
    with pytest.raises(BuildError) as error:
        load_preset(path)
    # The sentence is known in full where it is short.
    assert str(error.value).startswith(f"{path}: {message}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (base.replace(old, new, 1), message if number >= len(right) else "")
        for base, old, right, wrong, message in LIMITS
        for number, new in enumerate([*right, *wrong])
    ],
)
def test_both_sides_of_every_limit(tmp_path, text, message):
    require_said(write(tmp_path, text), message)


def test_a_local_classifier_needs_no_revision_and_may_have_any_name(tmp_path):
    text = CLASSIFIED.format("", "share = 0.5").replace("'m'", "'my models/a b'")
    with pytest.raises(BuildError, match="'my models/a b' is neither"):
        load_preset(write(tmp_path, text))
    (tmp_path / "my models" / "a b").mkdir(parents=True)
    assert load_preset(write(tmp_path, text)).classifier.model == "my models/a b"


def test_class_sets_are_looked_at_when_a_preset_is_loaded(tmp_path):
    for text in (PINNED.replace("orig49", "none"), IMAGENET.replace("orig49", "none")):
        with pytest.raises(BuildError, match="There is no class set"):
            load_preset(write(tmp_path, text))


def test_a_preset_knows_its_folder_and_does_not_tell_it(tmp_path, monkeypatch):
    path = write(tmp_path, MINIMAL)
    monkeypatch.chdir(tmp_path)
    found = load_preset("p.toml")
    assert found.folder == tmp_path
    assert found == load_preset(path)
    told = {key: value for key, value in asdict(found).items() if key not in ("folder", "miners")}
    tables = {
        "captioned": {"source": "drawn", "captions": 5},
        "distractors": {"source": "drawn", "classes": None, "splits": ("train", "val")},
    }
    assert found.as_json() == {**told, **tables, "images": found.images.as_json()}
    assert {item.name for item in fields(Preset)} - set(found.as_json()) == {"folder", "miners"}
    assert load_preset("mini").folder == PRESETS
    with pytest.raises(BuildError, match="unknown key 'folder' in the top level"):
        load_preset(write(tmp_path, 'folder = "/"\n' + MINIMAL))


def test_a_shipped_name_is_not_a_file_in_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mini.toml").write_text(MINIMAL, encoding="utf-8")
    assert load_preset("mini").name == "vehicle-image-search-mini"
    assert load_preset("mini.toml").name == "x"


@pytest.mark.parametrize("content", [b"name = ", b"name = '\xff'"])
def test_what_is_no_toml_is_named(tmp_path, content):
    (tmp_path / "p.toml").write_bytes(content)
    with pytest.raises(BuildError, match=rf"^{re.escape(str(tmp_path / 'p.toml'))} is not TOML: .+\.$"):
        load_preset(str(tmp_path / "p.toml"))


# What each shipped preset says, in full: another value is another evaluation set.
VIT = {
    "library": "transformers",
    "model": "google/vit-base-patch16-224",
    "revision": "3f49326eb077187dfe1c2a2bb15fbd74e6ab91e3",
}
SHIPPED = {
    "original": {
        "name": "vehicle-image-search",
        "captioned": {"source": "flickr30k", "captions": 5},
        "classifier": VIT,
        "selection": {"classes": "orig49", "threshold": 0.6, "share": None},
        "distractors": {"source": "imagenet", "classes": "orig49", "splits": ("train", "val")},
        "images": {"shortest_side_px": 160, "resample": "bicubic", "jpeg_quality": 75},
        "duplicates": {"policy": "report", "max_distance": 4},
        "expected": {
            "captioned": 2145,
            "distractors": 66009,
            "queries": 10725,
            "selection_sha256": "cd515d065116ca644643d447d6ebda4aa883d2fa3d33f05245475a5eed771a09",
        },
    },
    "wordnet": {
        "name": "vehicle-image-search-wordnet",
        "captioned": {"source": "flickr30k", "captions": 5},
        "classifier": VIT,
        "selection": {"classes": "wordnet", "threshold": 0.6, "share": None},
        "distractors": {"source": "imagenet", "classes": "wordnet", "splits": ("train", "val")},
        "images": {"shortest_side_px": 160, "resample": "bicubic", "jpeg_quality": 75},
        "duplicates": {"policy": "remove", "max_distance": 4},
        "expected": {"captioned": None, "distractors": None, "queries": None, "selection_sha256": None},
    },
    "mini": {
        "name": "vehicle-image-search-mini",
        "captioned": {"source": "drawn", "captions": 5},
        "classifier": None,
        "selection": None,
        "distractors": {"source": "drawn", "classes": None, "splits": ("train", "val")},
        "images": {"shortest_side_px": 160, "resample": "bicubic", "jpeg_quality": 70},
        "duplicates": {"policy": "report", "max_distance": 0},
        "expected": {"captioned": 200, "distractors": 1800, "queries": 1000, "selection_sha256": None},
    },
}


TASKS = {
    "original": "VehicleImageSearch",
    "wordnet": "VehicleImageSearchWordnet",
    "mini": "VehicleImageSearchMini",
}


def test_what_the_shipped_presets_say():
    for name, wanted in SHIPPED.items():
        found = load_preset(name).as_json()
        assert found.pop("title").startswith("Vehicle Image Search")
        assert found.pop("task_name") == ""
        assert load_preset(name).task == TASKS[name]
        assert found.pop("description").startswith("Text-to-image search")
        assert found == wanted
    samples = {"million", "clusters", "mini-million"}
    assert {path.stem for path in PRESETS.glob("*.toml")} == {*SHIPPED, *samples}


def test_missing_preset_names_the_shipped_ones():
    with pytest.raises(BuildError, match="clusters, million, mini, mini-million, original, wordnet"):
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


OWN = """
name = "x"
title = "X"
[captioned]
source = "folder"
location = "photos"
[distractors]
source = "folder"
location = "others"
"""
TARS = OWN.replace('source = "folder"\nlocation = "photos"', 'source = "webdataset"\nlocation = "tars"')
NONE = OWN.replace('source = "folder"\nlocation = "others"', 'source = "none"')


def test_own_images_have_keys_of_their_own(tmp_path):
    keys = 'table = "t.csv"\nfile_column = "f"\ncaption_column = "c"\ncaptions = 12\nfewest_captions = 3\n[distractors]'
    found = load_preset(write(tmp_path, OWN.replace("[distractors]", keys)))
    assert found.captioned == Captioned("folder", 12, "photos", "t.csv", "f", "c", 3)
    assert found.distractors == Distractors("folder", location="others")
    assert [source.name for source in found.sources()] == ["folder"]
    assert found.wanted_classes() == set()
    assert [source.name for source in load_preset(write(tmp_path, NONE)).sources()] == ["folder"]
    assert [source.name for source in load_preset(write(tmp_path, TARS)).sources()] == ["webdataset", "folder"]


def test_where_own_images_lie_stays_on_this_machine(tmp_path):
    keys = 'table = "t.csv"\nfile_column = "f"\nfewest_captions = 3\n[distractors]'
    told = load_preset(write(tmp_path, OWN.replace("[distractors]", keys))).as_json()
    assert told["captioned"] == {"source": "folder", "captions": 5, "file_column": "f", "fewest_captions": 3}
    assert told["distractors"] == {"source": "folder", "classes": None, "splits": ("train", "val")}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (MINIMAL + 'location = "x"\n', "distractors.location has no meaning for 'drawn'"),
        (NONE + 'location = "x"\n', "distractors.location has no meaning for 'none'"),
        (NONE + 'classes = "orig49"\n', "distractors.classes has no meaning for 'none', which has none"),
        (OWN + 'classes = "orig49"\n', "distractors.classes has no meaning for 'folder', which has none"),
        (OWN + 'splits = ["val"]\n', "distractors.splits has no meaning for 'folder'"),
        (OWN.replace('"photos"', '"p"\ncaptions = 0'), "captioned.captions must be at least 1"),
        (OWN.replace('"photos"', '"p"\nfewest_captions = 0'), "captioned.fewest_captions must be at least 1"),
        (TARS.replace('"tars"', '"t"\ntable = "t.csv"'), "captioned.table has a meaning for 'folder' alone"),
        (TARS.replace('"tars"', '"t"\nfile_column = "f"'), "captioned.file_column has a meaning for 'folder' alone"),
        (
            MINIMAL.replace("[distractors]", 'caption_column = "c"\n[distractors]'),
            "captioned.caption_column has a meaning for 'folder' or 'webdataset' alone",
        ),
        (
            MINIMAL.replace("[distractors]", "fewest_captions = 2\n[distractors]"),
            "captioned.fewest_captions has a meaning for 'folder' or 'webdataset' alone",
        ),
        (
            MINIMAL.replace("[distractors]", 'location = "c"\n[distractors]'),
            "captioned.location has no meaning for 'drawn'",
        ),
    ],
)
def test_keys_of_own_images_are_checked(tmp_path, text, message):
    with pytest.raises(BuildError) as error:
        load_preset(write(tmp_path, text))
    assert message in str(error.value)


MINERS = f"""
[miners.dinov2]
library = "timm"
model = "vit_small"
revision = "{"a" * 40}"
family = "dinov2"
side_px = 224
[miners.minilm]
library = "sentence-transformers"
model = "owner/minilm"
revision = "{"b" * 40}"
[miners.layout]
library = "pixels"
model = "layout"
same_above = 0.99
"""
POOL = IMAGENET.replace('classes = "orig49"', 'method = "stratified"\nsize = 100\nnear = 7\nseed = "s"') + MINERS
CLUSTERS = MINIMAL + '[selection]\nmethod = "clusters"\nclusters = 2\nimages = 10\n' + MINERS
LISTED = MINIMAL + '[selection]\nmethod = "list"\nlist = "names.txt"\n'


def test_miners_and_methods_arrive(tmp_path):
    found = load_preset(write(tmp_path, POOL))
    dinov2 = Miner("timm", "vit_small", "a" * 40, "dinov2", 224)
    minilm = Miner("sentence-transformers", "owner/minilm", "b" * 40)
    layout = Miner("pixels", "layout", same_above=0.99)
    assert found.miners == {"dinov2": dinov2, "minilm": minilm, "layout": layout}
    assert found.distractors == Distractors("imagenet", None, ("train", "val"), "", "stratified", (), 7, 100, None, "s")
    assert [miner.same_cosine for miner in found.miners.values()] == [0.95, 0.0, 0.99]
    assert [miner.sees_images for miner in found.miners.values()] == [True, False, True]
    assert (found.pool_miners(), found.cluster_miners()) == (found.miners, {})
    assert found.wanted_classes() == set(range(1000))
    assert found.distractor_classes().classes[817].name == "sports car, sport car"
    some = load_preset(write(tmp_path, POOL.replace("near = 7", 'miners = ["layout", "dinov2", "minilm"]')))
    assert list(some.pool_miners()) == ["layout", "dinov2", "minilm"]
    clustered = load_preset(write(tmp_path, CLUSTERS))
    assert clustered.selection == Selection(method="clusters", clusters=2, images=10)
    assert (clustered.cluster_miners(), clustered.pool_miners()) == (clustered.miners, {})
    assert clustered.selection_classes() is None
    listed = load_preset(write(tmp_path, LISTED))
    assert listed.selection == Selection(method="list", list="names.txt")
    assert (listed.selection_classes(), listed.pool_miners(), listed.cluster_miners()) == (None, {}, {})


def test_a_pool_without_classes_is_seen_by_miners_of_images_alone(tmp_path):
    text = POOL.replace('"imagenet"', '"drawn"').replace("images = 10", 'images = 10\nviews = ["minilm"]')
    text += '[selection]\nmethod = "clusters"\nclusters = 2\nimages = 10\nviews = ["minilm"]\n'
    found = load_preset(write(tmp_path, text))
    assert list(found.pool_miners()) == ["dinov2", "layout"]
    assert list(found.cluster_miners()) == ["minilm"]
    assert found.wanted_classes() == set()


def test_a_preset_tells_of_miners_and_methods_where_it_has_them(tmp_path):
    told = load_preset(write(tmp_path, POOL)).as_json()
    assert told["distractors"] == {
        "source": "imagenet",
        "classes": None,
        "splits": ("train", "val"),
        "method": "stratified",
        "near": 7,
        "size": 100,
        "seed": "s",
    }
    assert list(told["miners"]) == ["dinov2", "layout", "minilm"]
    assert told["miners"]["layout"] == {"library": "pixels", "model": "layout", "same_above": 0.99}
    assert told["miners"]["dinov2"] == {
        "library": "timm",
        "model": "vit_small",
        "revision": "a" * 40,
        "family": "dinov2",
        "side_px": 224,
    }
    clustered = load_preset(write(tmp_path, CLUSTERS)).as_json()
    assert clustered["selection"] == {"method": "clusters", "clusters": 2, "images": 10}
    assert load_preset(write(tmp_path, LISTED)).as_json()["selection"] == {"method": "list"}
    assert load_preset(write(tmp_path, PINNED)).as_json()["selection"] == {
        "classes": "orig49",
        "threshold": 0.6,
        "share": None,
    }


# sha256 of what the shipped presets say, as JSON: of sets that were built before there were miners.
TOLD = {
    "original": "230ef3d9fbfe0b2291b50ee1a4755c1ed54b975bdd2df4f4f3406afc23a07e4d",
    "wordnet": "29e4ee27babba0c4235682aba35f3aeb10423415379a82a5911f99839da2edf5",
    "mini": "da8f3da44072d067a752ce52a2ebb0417057e28dd8c7deed64d07269a0db7fc2",
}


@pytest.mark.parametrize("name", TOLD)
def test_what_shipped_presets_tell_has_the_bytes_it_always_had(name):
    told = json.dumps(load_preset(name).as_json())
    assert hashlib.sha256(told.encode()).hexdigest() == TOLD[name]


CLASSED = (
    POOL
    + f'[classifier]\nlibrary = "timm"\nmodel = "m"\nrevision = "{"c" * 40}"\n[miners.logits]\nlibrary = "classifier"\n'
)
MINED = POOL.replace("stratified", "mined").replace("size = 100\n", "")
UNCLASSED = POOL.replace('"imagenet"', '"drawn"')
BLIND = "compares captions with names of classes, and 'drawn' has none"
UNKNOWN = "which [miners] does not hold: there is 'dinov2', 'minilm', 'layout'"
# A preset's text, what to change in it, what it is changed to, and what is said; nothing: it is right.
MINING = [
    (MINED, "", "", ""),
    (CLASSED, "", "", ""),
    (POOL, "dinov2]", "d2]", ""),
    (POOL, "miners.dinov2]", "miners.id]", "miners.id: the name must be 1 to 20 of a-z, 0-9 and '-', and not 'id'"),
    (POOL, "miners.dinov2]", f"miners.{'d' * 21}]", f"miners.{'d' * 21}: the name must be 1 to 20 of"),
    (POOL, "miners.dinov2]", "miners.D]", "miners.D: the name must be 1 to 20 of"),
    (
        POOL,
        '"timm"',
        '"faiss"',
        "miners.dinov2.library must be 'timm' or 'classifier' or 'pixels' or 'sentence-transformers'",
    ),
    (POOL, f'revision = "{"a" * 40}"\n', "", "miners.dinov2.revision must be a full commit hash (40 hexadecimal"),
    (POOL, 'model = "vit_small"\n', "", "miners.dinov2.model must be a folder beside the preset, or a name on the hub"),
    (POOL, 'model = "layout"', 'model = "depth"', "miners.layout.model must be 'layout' or 'colours'"),
    (POOL, "same_above = 0.99", f'revision = "{"a" * 40}"', "miners.layout.revision has no meaning for 'pixels'"),
    (POOL, "same_above = 0.99", "side_px = 64", "miners.layout.side_px has a meaning for 'timm' alone"),
    (POOL, "side_px = 224", "side_px = 15", "miners.dinov2.side_px must be 16 to 2048, or 0 for the model's"),
    (POOL, "same_above = 0.99", "same_above = 1.01", "miners.layout.same_above must be in [0, 1]"),
    (POOL, "same_above = 0.99", "same_above = 0", ""),
    (POOL + '[miners.logits]\nlibrary = "classifier"\n', "", "", "miners.logits needs a [classifier]"),
    (
        CLASSED,
        'library = "classifier"',
        'library = "classifier"\nmodel = "m"',
        "miners.logits.model has no meaning for 'classifier': it is the preset's",
    ),
    (
        POOL,
        "near = 7",
        'miners = ["dinov2", "layout"]',
        "miners.minilm is used by nothing: name it in distractors.miners or selection.views",
    ),
    (MINIMAL + MINERS, "", "", "miners.dinov2 is used by nothing"),
    (POOL, "near = 7", 'miners = ["d"]', f"distractors.miners names the miner 'd', {UNKNOWN}"),
    (POOL, "near = 7", 'miners = ["layout", "layout"]', "distractors.miners names a miner twice"),
    (POOL, MINERS, "", "distractors.method 'stratified' needs a miner: [miners.NAME]"),
    (UNCLASSED, "near = 7", 'miners = ["layout", "minilm"]', f"distractors.miners: 'minilm' {BLIND}"),
    (
        UNCLASSED.replace(MINERS, MINERS[MINERS.index("[miners.minilm]") : MINERS.index("[miners.layout]")]),
        "",
        "",
        f"distractors.method 'stratified' needs a miner of images: 'minilm' {BLIND}",
    ),
    (POOL, '"imagenet"', '"none"', "distractors.method 'stratified' has no meaning for 'none'"),
    (POOL, '"stratified"', '"random"', "distractors.method must be 'class' or 'mined' or 'stratified'"),
    (POOL, "near = 7", "near = 0", "distractors.near must be at least 1"),
    (POOL, "size = 100", "", "distractors must give either size or rate"),
    (POOL, "size = 100", "size = 100\nrate = 0.5", "distractors must give either size or rate"),
    (POOL, "size = 100", "size = 0", "distractors.size must be at least 1"),
    (POOL, "size = 100", "rate = 0", "distractors.rate must be in (0, 1]"),
    (POOL, "size = 100", "rate = 1.1", "distractors.rate must be in (0, 1]"),
    (POOL, "size = 100", "rate = 1", ""),
    (POOL, 'seed = "s"', 'seed = ""', "distractors.seed must not be empty"),
    (
        MINED,
        "near = 7",
        "rate = 0.1",
        "distractors.rate has no meaning for the method 'mined': its random arm is as large as the mined",
    ),
    (MINIMAL + "near = 3\n", "", "", "distractors.near has no meaning for the method 'class'"),
    (MINIMAL + "size = 3\n", "", "", "distractors.size has no meaning for the method 'class'"),
    (POOL, '"stratified"\nsize = 100\nnear = 7\nseed = "s"', '"class"', "distractors.classes is missing"),
    (CLUSTERS, "clusters = 2\n", "", "selection.clusters is missing: how many there are"),
    (CLUSTERS, "clusters = 2\n", "clusters = 1\n", "selection.clusters must be at least 2"),
    (CLUSTERS, "images = 10\n", "", "selection.images is missing: how many images are kept at most"),
    (CLUSTERS, "images = 10\n", "images = 4\n", "selection.images must be at least selection.smallest"),
    (CLUSTERS, "images = 10\n", "images = 10\nsmallest = 0\n", "selection.smallest must be at least 1"),
    (CLUSTERS, "images = 10\n", "images = 10\nseed = -1\n", "selection.seed must be 0 to 4294967295"),
    (CLUSTERS, "images = 10\n", 'images = 10\nviews = ["d"]\n', f"selection.views names the miner 'd', {UNKNOWN}"),
    (CLUSTERS, MINERS, "", "selection.method 'clusters' needs a miner: [miners.NAME]"),
    (
        CLUSTERS,
        "images = 10\n",
        "images = 10\nshare = 0.5\n",
        "selection.share has no meaning for the method 'clusters'",
    ),
    (CLUSTERS, '"clusters"', '"topics"', "selection.method must be 'threshold' or 'list' or 'clusters'"),
    (LISTED, 'list = "names.txt"', "", "selection.list is missing: the file of image names"),
    (LISTED, '"names.txt"', '"names.txt"\nimages = 3', "selection.images has no meaning for the method 'list'"),
    (
        PINNED,
        "threshold = 0.6",
        'threshold = 0.6\nlist = "n"',
        "selection.list has no meaning for the method 'threshold'",
    ),
    (PINNED, "classes='orig49'\n", "", "selection.classes is missing"),
    (
        LISTED + f'[classifier]\nlibrary = "timm"\nmodel = "m"\nrevision = "{"c" * 40}"\n',
        "",
        "",
        "a classifier needs [selection] by its probabilities, or a miner of the library 'classifier'",
    ),
]


@pytest.mark.parametrize(("text", "old", "new", "message"), MINING, ids=range(len(MINING)))
def test_miners_and_methods_are_checked(tmp_path, text, old, new, message):
    require_said(write(tmp_path, text.replace(old, new, 1)), message)


def test_miners_must_be_tables(tmp_path):
    with pytest.raises(BuildError, match=r"p\.toml: miners must hold tables, \[miners\.NAME\]\.$"):
        load_preset(write(tmp_path, MINIMAL.replace("[captioned]", "miners = {a = 3}\n[captioned]")))
    with pytest.raises(BuildError, match=r"unknown key 'modle' in \[miners\.dinov2\]"):
        load_preset(write(tmp_path, POOL.replace("model =", "modle =", 1)))
