"""The defaults of a build, its work folder, and the sources that options and preset mean."""

from __future__ import annotations

import os
from dataclasses import MISSING, fields, replace
from pathlib import Path

import pytest
from small_sources import write_flickr30k, write_imagenet

from data_prep.job import BuildOptions
from data_prep.preset import load_preset
from data_prep.sources.drawn.source import CaptionedScenes, DistractorScenes
from data_prep.sources.flickr30k.source import FilesFlickr30k, HubFlickr30k
from data_prep.sources.imagenet.files import FilesImagenet
from data_prep.sources.imagenet.source import HubImagenet
from mteb_vehicle_search import settings
from mteb_vehicle_search.errors import BuildError, SourceError


def test_defaults():
    found = {item.name: item.default for item in fields(BuildOptions) if item.default is not MISSING}
    assert found == {
        "captions": "",
        "selection": None,
        "recipe": None,
        "device": "auto",
        "batch_size": 32,
        "rebuild": (),
        "allow_rejects": False,
        "allow_incomplete": False,
        "engine": None,
    }


def test_one_worker_for_each_core_that_may_be_used(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 3, 5}, raising=False)
    monkeypatch.setattr(settings, "CONTROL_GROUP", tmp_path)
    assert BuildOptions(load_preset("mini"), tmp_path).workers == 3
    (tmp_path / "cpu.max").write_text("200000 100000")
    assert BuildOptions(load_preset("mini"), tmp_path).workers == 2


def test_a_link_is_where_it_points_to(tmp_path):
    """The work folder lies beside the result, and not beside the link, which may be on another disk."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "set")
    options = BuildOptions(load_preset("mini"), tmp_path / "link")
    assert (options.out, options.work) == (tmp_path / "disk" / "set", tmp_path / "disk" / "set.build")


def test_the_work_folder_lies_beside_the_result():
    assert BuildOptions(load_preset("mini"), Path("/a/b.c")).work == Path("/a/b.c.build")


def test_the_preset_says_whether_images_are_drawn(tmp_path):
    """Where Flickr30k and ImageNet lie does not matter then."""
    nowhere = {"flickr30k": str(tmp_path / "no"), "imagenet": str(tmp_path / "no")}
    drawn = BuildOptions(load_preset("mini"), tmp_path / "out", nowhere)
    assert isinstance(drawn.open_captioned(), CaptionedScenes)
    assert isinstance(drawn.open_distractors(), DistractorScenes)
    photos = replace(drawn, preset=load_preset("original"))
    with pytest.raises(SourceError, match=r"there is no folder .*no"):
        photos.open_captioned()
    with pytest.raises(SourceError, match=r"there is no folder .*no"):
        photos.open_distractors()


def test_each_source_is_opened_where_it_is(tmp_path):
    write_flickr30k(tmp_path / "f", 1)
    write_imagenet(tmp_path / "i", 1, 1)
    forms = {"flickr30k": str(tmp_path / "f"), "imagenet": str(tmp_path / "i")}
    options = BuildOptions(load_preset("original"), tmp_path / "out", forms)
    captioned, distractors = options.open_captioned(), options.open_distractors()
    assert isinstance(captioned, FilesFlickr30k)
    assert isinstance(distractors, FilesImagenet)
    assert captioned.image_files.where == str(tmp_path / "f" / "flickr30k-images")
    assert distractors.tree.where == str(tmp_path / "i")


def test_the_captions_that_are_named_are_those_of_flickr30k(tmp_path):
    write_flickr30k(tmp_path / "f", 1)
    (tmp_path / "f" / "flickr_annotations_30k.csv").rename(tmp_path / "named.csv")
    options = BuildOptions(
        load_preset("original"), tmp_path / "out", {"flickr30k": str(tmp_path / "f")}, str(tmp_path / "named.csv")
    )
    captioned = options.open_captioned()
    assert isinstance(captioned, FilesFlickr30k)
    assert captioned.captions.where == str(tmp_path / "named.csv")


OWN = """
name = "own"
title = "Own"
[captioned]
source = "folder"
location = "{}"
table = "{}"
[distractors]
source = "folder"
location = "{}"
"""


@pytest.mark.parametrize(
    ("location", "table", "src", "captions"),
    [
        ("photos", "captions.csv", "{preset}/photos", "{preset}/captions.csv"),
        (".", "inside.csv", "{preset}", "inside.csv"),
        ("../photos", "", "{preset}/../photos", ""),
        ("/srv/photos", "/srv/captions.csv", "/srv/photos", "/srv/captions.csv"),
        ("s3://bucket/photos", "https://host/c.csv", "s3://bucket/photos", "https://host/c.csv"),
    ],
)
def test_ones_own_images_lie_where_the_preset_says_seen_from_its_folder(tmp_path, location, table, src, captions):
    (tmp_path / "preset").mkdir()
    (tmp_path / "preset" / "captions.csv").touch()
    path = tmp_path / "preset" / "own.toml"
    path.write_text(OWN.format(location, table, "others"), encoding="utf-8")
    options = BuildOptions(load_preset(str(path)), tmp_path / "out")
    place = options.captioned_place()
    preset = str(tmp_path / "preset")
    assert Path(place.src) == Path(src.format(preset=preset)) or place.src == src
    assert place.captions == captions.format(preset=preset)
    moved = replace(options, sources={"captioned": "/elsewhere"}, captions="/else.csv")
    assert (moved.captioned_place().src, moved.captioned_place().captions) == ("/elsewhere", "/else.csv")


@pytest.mark.parametrize("role", ["captioned", "distractors"])
def test_where_ones_own_images_lie_must_be_said_somewhere(tmp_path, role):
    (tmp_path / "photos").mkdir()
    path = tmp_path / "own.toml"
    text = OWN.format(*(("", "", "photos") if role == "captioned" else ("photos", "", "")))
    path.write_text(text.replace('location = ""\n', ""), encoding="utf-8")
    options = BuildOptions(load_preset(str(path)), tmp_path / "out")
    find = options.open_captioned if role == "captioned" else options.open_distractors
    with pytest.raises(BuildError) as caught:
        find()
    assert str(caught.value) == (
        f"The preset own does not say where its {role}{' images' * (role == 'captioned')} lie.\n"
        f"Say it with --{role}, or as {role}.location in the preset: a folder, an archive or an address."
    )
    given = replace(options, sources={role: str(tmp_path / "photos")})
    assert given._src(role, "folder", "") == str(tmp_path / "photos")


def test_without_a_folder_the_hub_is_meant_and_shards_lie_in_the_work_folder(tmp_path):
    options = BuildOptions(load_preset("original"), tmp_path / "out")
    assert isinstance(options.open_captioned(), HubFlickr30k)
    distractors = options.open_distractors()
    assert isinstance(distractors, HubImagenet)
    assert distractors._folder == tmp_path / "out.build" / "download"
