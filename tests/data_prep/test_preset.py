"""Presets: the shipped ones say what is published; a wrong one is refused with the key's name."""

from __future__ import annotations

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
        ["max_distance = 0", "max_distance = 16"],
        ["max_distance = -1", "max_distance = 17"],
        "duplicates.max_distance must be 0 to 16",
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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (base.replace(old, new, 1), message if number >= len(right) else "")
        for base, old, right, wrong, message in LIMITS
        for number, new in enumerate([*right, *wrong])
    ],
)
def test_both_sides_of_every_limit(tmp_path, text, message):
    path = write(tmp_path, text)
    if not message:
        load_preset(path)
        return
    with pytest.raises(BuildError) as error:
        load_preset(path)
    # The sentence is known in full where it is short.
    assert str(error.value).startswith(f"{path}: {message}")


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
    assert {path.stem for path in PRESETS.glob("*.toml")} == set(SHIPPED)


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


OWN = """
name = "x"
title = "X"
[captioned]
source = "folder"
location = "pictures"
[distractors]
source = "folder"
location = "others"
"""
TARS = OWN.replace('source = "folder"\nlocation = "pictures"', 'source = "webdataset"\nlocation = "tars"')
NONE = OWN.replace('source = "folder"\nlocation = "others"', 'source = "none"')


def test_own_pictures_have_keys_of_their_own(tmp_path):
    keys = 'table = "t.csv"\nfile_column = "f"\ncaption_column = "c"\ncaptions = 12\nfewest_captions = 3\n[distractors]'
    found = load_preset(write(tmp_path, OWN.replace("[distractors]", keys)))
    assert found.captioned == Captioned("folder", 12, "pictures", "t.csv", "f", "c", 3)
    assert found.distractors == Distractors("folder", location="others")
    assert [source.name for source in found.sources()] == ["folder"]
    assert found.wanted_classes() == set()
    assert [source.name for source in load_preset(write(tmp_path, NONE)).sources()] == ["folder"]
    assert [source.name for source in load_preset(write(tmp_path, TARS)).sources()] == ["webdataset", "folder"]


def test_where_own_pictures_lie_stays_on_this_machine(tmp_path):
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
        (OWN.replace('"pictures"', '"p"\ncaptions = 0'), "captioned.captions must be at least 1"),
        (OWN.replace('"pictures"', '"p"\nfewest_captions = 0'), "captioned.fewest_captions must be at least 1"),
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
def test_keys_of_own_pictures_are_checked(tmp_path, text, message):
    with pytest.raises(BuildError) as error:
        load_preset(write(tmp_path, text))
    assert message in str(error.value)
