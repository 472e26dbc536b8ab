"""A set rebuilt from its recipe: from other layouts of the same files, and from copies that are not the same."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import format_twins
import pytest
from range_server import RangeServer

from data_prep import cli
from mteb_vehicle_search import settings
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.eval_set.schema import images_id


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A folder with a set of half of the captioned twins, in `set`, and its recipe."""
    folder = tmp_path_factory.mktemp("first")
    format_twins.write_flickr30k(folder / "flickr30k", "zip")
    format_twins.write_imagenet(folder / "imagenet", "shards")
    names = [row.filename for row in format_twins.captioned_files()][::2]
    (folder / "kept.txt").write_text("\n".join(names), encoding="utf-8")
    preset = ["--preset", format_twins.write_preset(folder), "--selection", folder / "kept.txt"]
    assert build(folder, folder / "set", *preset) == 0
    assert run("recipe", folder / "set", folder / "recipe.json.gz") == 0
    for name in ("twins.toml", "twins.tsv", "kept.txt"):  # Nothing beside the recipe is needed.
        (folder / name).unlink()
    return folder


def run(*words) -> int:
    return cli.main(list(map(str, words)))


def build(copies, out, *more) -> int:
    sources = ["--flickr30k", copies / "flickr30k", "--imagenet", copies / "imagenet"]
    return run("build", *more, *sources, "--out", out, "--device", "cpu", "--quiet", "--allow-incomplete")


@pytest.fixture
def copies(tmp_path):
    """The same files as other people hold them."""
    format_twins.write_flickr30k(tmp_path / "flickr30k", "folder")
    format_twins.write_imagenet(tmp_path / "imagenet", "folders")
    return tmp_path


def test_another_layout_of_the_same_files_gives_the_same_content_id(first, copies, capsys):
    recipe = first / "recipe.json.gz"
    assert build(copies, copies / "again", "--recipe", recipe) == 0
    shown = capsys.readouterr()
    assert f"The content id is that of the recipe {recipe}\n" in shown.out
    assert "other files" not in shown.err
    before, after = EvalSet.open(first / "set"), EvalSet.open(copies / "again")
    for name in ("content_id", "sources_id", "images_id"):
        assert getattr(after, name) == getattr(before, name)
    assert after.provenance() == before.provenance()
    assert after.title == "Twins"
    assert run("recipe", copies / "again", copies / "again.json") == 0
    assert run("recipe", first / "set", copies / "first.json") == 0
    tables = [_tables(copies / name) for name in ("again.json", "first.json")]
    assert tables[0] == tables[1]


def _tables(path: Path) -> dict:
    return {key: value for key, value in json.loads(path.read_text(encoding="ascii")).items() if key != "preset"}


def test_a_recipe_from_an_address_chooses_the_distractors_too(first, copies, capsys):
    server = RangeServer()
    content = (first / "recipe.json.gz").read_bytes()
    server.serve("/recipe.json.gz", content)
    extra = next((copies / "imagenet" / "train").glob("*/*.JPEG"))
    extra.with_name(extra.name.replace(".JPEG", "9.JPEG")).write_bytes(extra.read_bytes())
    address = f"{server.url}/recipe.json.gz"
    assert build(copies, copies / "again", "--recipe", address) == 0
    server.close()
    assert f"The content id is that of the recipe {address}\n" in capsys.readouterr().out
    passed = EvalSet.open(copies / "again").manifest["notes"]["passed_over"]["distractors"]
    assert passed["not in the recipe"] == 1


def test_what_other_copies_lack_or_have_otherwise_is_told(first, tmp_path, capsys):
    before = EvalSet.open(first / "set")
    kept = format_twins.captioned_files()[::2]
    other = kept[3]._replace(data=kept[3].data + b"\0")
    reworded = kept[4]._replace(captions=("Another caption .", *kept[4].captions[1:]))
    copies = [*kept[:3], other, reworded, *kept[6:]]
    format_twins.write_flickr30k(tmp_path / "flickr30k", "folder", tuple(copies))
    format_twins.write_imagenet(tmp_path / "imagenet", "folders")
    distractor = next(one for one in before.corpus_ids() if one.startswith("imagenet/train/")).rpartition("/")[2]
    next((tmp_path / "imagenet").rglob(f"{distractor}.JPEG")).unlink()
    lacking, changed, rephrased = (row.filename.removesuffix(".jpg") for row in (kept[5], kept[3], kept[4]))
    assert build(tmp_path, tmp_path / "again", "--recipe", first / "recipe.json.gz") == 1
    said = capsys.readouterr().err
    after = EvalSet.open(tmp_path / "again")
    assert f"The content id is not that of the recipe {first / 'recipe.json.gz'}, which is {before.content_id}" in said
    assert after.content_id in said
    assert f"\n  2 images missing: flickr30k/{lacking}, imagenet/train/{distractor}\n" in said
    assert f"\n  1 image made from a file of other bytes, but the same size in pixels: flickr30k/{changed}\n" in said
    assert f"\n  5 captions missing: {lacking}_caption_00, " in said
    assert f"\n  1 caption with another text: {rephrased}_caption_00\n" in said
    assert len(after.corpus_ids()) == len(before.corpus_ids()) - 2


def test_another_recipe_in_the_same_place_reads_the_shards_again(first, copies):
    whole = json.loads(gzip.decompress((first / "recipe.json.gz").read_bytes()))
    smaller = {**whole, "distractors": whole["distractors"][:-1]}
    smaller["sources_id"] = images_id(sorted((row[0], row[1]) for row in smaller["captioned"] + smaller["distractors"]))
    (copies / "smaller.json").write_text(json.dumps(smaller), encoding="utf-8")
    assert build(copies, copies / "again", "--recipe", copies / "smaller.json") == 1, "it has another content id"
    assert build(copies, copies / "again", "--recipe", first / "recipe.json.gz") == 0


def test_mini_is_rebuilt_from_its_recipe_alone(tmp_path, capsys):
    assert run("recipe", settings.mini_folder(), tmp_path / "mini.json") == 0
    assert run("build", "--recipe", tmp_path / "mini.json", "--out", tmp_path / "mini", "--quiet") == 0
    assert EvalSet.open(tmp_path / "mini").content_id == EvalSet.open(settings.mini_folder()).content_id
    assert "The content id is that of the recipe" in capsys.readouterr().out


def test_the_plan_names_the_recipe(first, copies, capsys):
    recipe = first / "recipe.json.gz"
    assert build(copies, copies / "again", "--recipe", recipe, "--dry-run") == 0
    assert f"as the recipe {recipe} says" in capsys.readouterr().out
    assert not (copies / "again.build").exists()


def test_a_recipe_and_another_choice_exclude_each_other(first, copies, capsys):
    recipe = ["--recipe", first / "recipe.json.gz"]
    assert build(copies, copies / "again", *recipe, "--selection", "published") == 1
    assert "--selection has no meaning beside --recipe" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        build(copies, copies / "again", *recipe, "--preset", "mini")
    assert caught.value.code == 2
