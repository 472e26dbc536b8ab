"""Pushing: verified first, the recipe unless images are asked for, and images only where their terms let them go."""

from __future__ import annotations

import argparse
import gzip
import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hub_server import HubServer
from small_set import small_set

from data_prep import hub as hub_models
from data_prep import push as pushing
from data_prep.push import Sharing, push, terms_warning
from data_prep.recipes.reading import load_recipe
from data_prep.sources.registry import SOURCES
from mteb_vehicle_search.errors import BuildError, SourceError
from mteb_vehicle_search.eval_set import EvalSet

PRESET = {
    "name": "cars",
    "title": "Cars",
    "description": "Cars among cars.",
    "captioned": {"source": "flickr30k", "captions": 2},
    "distractors": {"source": "imagenet", "classes": "orig49"},
}


class Sent(NamedTuple):
    """What would be sent to the hub: the files with their bytes, and how."""

    folder: Path
    files: dict[str, bytes]
    repository: str
    options: dict[str, Any]


@pytest.fixture
def uploads(monkeypatch):
    sent = []

    def upload(folder, repository, **options):
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        sent.append(Sent(folder, files, repository, options))
        return f"https://huggingface.co/datasets/{repository}"

    monkeypatch.setattr(hub_models, "upload_folder", upload)
    monkeypatch.setenv("HF_TOKEN", "a token")
    return sent


def of_sources(folder, *names: str, **more) -> EvalSet:
    sources = {name: SOURCES[name].for_manifest() for name in names}
    about = {"name": "cars", "title": "Cars", "preset": PRESET, "sources": sources, **more}
    return small_set(folder, captioned=2, distractors=2, **about)


def test_a_login_is_asked_for_before_anything_else(tmp_path, uploads, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "")
    monkeypatch.setattr(pushing, "verify", lambda folder: pytest.fail("read the set before the login was known"))
    with pytest.raises(SourceError) as caught:
        push(tmp_path / "set", "me/cars")
    assert str(caught.value) == (
        "me/cars cannot be written: there is no login to the hub on this computer\n"
        "Run: hf auth login (with a token that may write)"
    )
    assert uploads == []


def test_an_amended_set_goes_with_its_images_and_has_no_recipe(tmp_path, uploads, monkeypatch):
    origin = {"content_id": "5" * 64, "name": "cars", "judgments": "6" * 64, "judges": ["ada"], "added": 1}
    eval_set = of_sources(tmp_path / "set", "drawn", amended_from=origin)
    assert push(eval_set.folder, "me/cars", Sharing(images=True)) == "https://huggingface.co/datasets/me/cars"
    ((_, files, _, _),) = uploads
    assert json.loads(files["manifest.json"])["amended_from"] == origin
    monkeypatch.setattr(pushing, "verify", lambda folder: pytest.fail("read the set, which has no recipe"))
    with pytest.raises(BuildError, match="has no recipe: people's judgments amended it"):
        push(eval_set.folder, "me/cars")


@pytest.mark.parametrize("public", [False, True])
def test_a_recipe_is_sent_unless_images_are_asked_for(tmp_path, uploads, public):
    eval_set = of_sources(tmp_path / "set", "flickr30k", "imagenet")
    assert push(tmp_path / "set", "me/cars", Sharing(public=public)) == "https://huggingface.co/datasets/me/cars"
    ((folder, files, repository, options),) = uploads
    assert set(files) == {"recipe.json.gz", "README.md"}
    assert repository == "me/cars"
    assert options == {"private": not public, "instead_of": ("corpus/", "queries/")}
    assert folder.name == "recipe of cars"
    assert not folder.exists()
    (tmp_path / "recipe.json.gz").write_bytes(files["recipe.json.gz"])
    assert load_recipe(str(tmp_path / "recipe.json.gz")).content_id == eval_set.content_id


def test_it_is_private_unless_the_user_says_so():
    assert Sharing() == Sharing(images=False, public=False, gated=False)


def test_the_card_of_a_recipe_says_how_to_rebuild_and_tells_no_caption(tmp_path, uploads):
    eval_set = of_sources(tmp_path / "set", "flickr30k", "imagenet")
    push(tmp_path / "set", "me/cars")
    card = uploads[0].files["README.md"].decode("utf-8")
    assert [query.text for query in eval_set.queries() if query.text in card] == []
    assert card.startswith("---\nviewer: false\n")
    assert "\n\n# Cars: recipe\n\nCars among cars.\n\n" in card
    assert "names 4 images, 4 queries and 4 judgements" in card
    command = "vehicle-search-data build --recipe hf://datasets/me/cars/recipe.json.gz --flickr30k SRC --imagenet SRC"
    assert f"\n{command}\nmteb run -t Cars -m MODEL\n" in card
    assert f"`{eval_set.content_id}`" in card
    for name in ("flickr30k", "imagenet"):
        source = SOURCES[name]
        assert f"- {source.card}\n" in card
        assert all(f"\n- {line}" in card for line in source.cite)
        assert source.bibtex.strip() in card


def test_the_card_asks_for_images_of_ones_own_by_their_role(tmp_path, uploads):
    preset = {**PRESET, "captioned": {"source": "folder"}, "distractors": {"source": "none"}}
    of_sources(tmp_path / "set", "drawn", preset=preset)
    push(tmp_path / "set", "me/cars")
    card = uploads[0].files["README.md"].decode("utf-8")
    assert "build --recipe hf://datasets/me/cars/recipe.json.gz --captioned SRC\n" in card


def test_the_card_of_a_set_that_needs_nothing_asks_for_nothing(tmp_path, uploads):
    preset = {**PRESET, "description": "", "captioned": {"source": "drawn"}, "distractors": {"source": "drawn"}}
    of_sources(tmp_path / "set", "drawn", preset=preset)
    push(tmp_path / "set", "me/cars")
    card = uploads[0].files["README.md"].decode("utf-8")
    assert "build --recipe hf://datasets/me/cars/recipe.json.gz\n" in card
    assert "SRC" not in card
    assert "Citing" not in card
    assert f"## Sources\n\n- {SOURCES['drawn'].card}\n" in card


def test_a_source_that_is_not_known_here_keeps_its_terms(tmp_path, uploads):
    of_sources(tmp_path / "set", sources={"photos": {"terms": "Look only.", "cite": [], "bibtex": ""}})
    push(tmp_path / "set", "me/cars")
    assert "\n- **photos**. Terms: Look only.\n" in uploads[0].files["README.md"].decode("utf-8")


@pytest.mark.parametrize(("gated", "options"), [(False, {"private": True}), (True, {"private": False})])
def test_images_are_sent_privately_or_behind_a_gate(tmp_path, uploads, gated, options):
    of_sources(tmp_path / "set", "flickr30k")
    push(tmp_path / "set", "me/cars", Sharing(images=True, gated=gated))
    ((folder, files, repository, given),) = uploads
    assert (folder, repository) == (tmp_path / "set", "me/cars")
    assert given == {**options, "gated": gated}
    assert {"manifest.json", "corpus/test-00000-of-00001.parquet"} < set(files)


@pytest.mark.parametrize("names", [("flickr30k",), ("drawn", "imagenet"), ()])
def test_images_under_terms_are_never_public(tmp_path, uploads, names):
    eval_set = of_sources(tmp_path / "set", *names)
    with pytest.raises(BuildError) as caught:
        push(tmp_path / "set", "me/cars", Sharing(images=True, public=True))
    listed = "".join(f"\n  - {text}" for text in pushing.terms(eval_set))
    assert listed
    assert str(caught.value) == (
        f"The images of {tmp_path / 'set'} come under terms, so they are not published:{listed}\n"
        "Leave --images away to publish the recipe; or leave --public away (a private repository), or say --gated "
        "(one whose files you give to those who accepted the terms)."
    )
    assert uploads == []


def test_images_under_no_terms_may_be_public(tmp_path, uploads):
    of_sources(tmp_path / "set", "drawn")
    push(tmp_path / "set", "me/cars", Sharing(images=True, public=True))
    assert uploads[0].options == {"private": False, "gated": False}


@pytest.mark.parametrize(
    ("sharing", "message"),
    [
        (Sharing(gated=True), "--gated is for images; a recipe holds nothing that needs a gate."),
        (Sharing(images=True, gated=True, public=True), "--gated and --public exclude each other."),
    ],
)
def test_wishes_that_exclude_each_other_are_refused(tmp_path, uploads, sharing, message):
    of_sources(tmp_path / "set", "drawn")
    with pytest.raises(BuildError) as caught:
        push(tmp_path / "set", "me/cars", sharing)
    assert caught.value.message == message
    assert uploads == []


def test_a_set_without_a_recipe_is_refused(tmp_path, uploads):
    of_sources(tmp_path / "set", preset={})
    with pytest.raises(BuildError, match="has no recipe: its manifest does not say what it was made of"):
        push(tmp_path / "set", "me/cars")
    assert uploads == []


@pytest.mark.parametrize("images", [False, True])
def test_a_damaged_set_is_not_sent(tmp_path, uploads, images):
    folder = tmp_path / "set"
    of_sources(folder, "drawn")
    (folder / "README.md").write_text("other words", encoding="utf-8")
    with pytest.raises(BuildError) as caught:
        push(folder, "me/cars", Sharing(images=images))
    assert caught.value.message == f"{folder} does not verify, so it is not pushed."
    assert caught.value.hint == f"See 'vehicle-search-data verify {folder}'."
    assert uploads == []


FLICKR, IMAGENET = "Flickr30k: non-commercial research and education only", "copies must not be published"
ADVICE = {
    Sharing(): "The recipe holds none of them, nor a caption. Who rebuilds the set needs copies of their own.",
    Sharing(
        public=True
    ): "The recipe holds none of them, nor a caption. Who rebuilds the set needs copies of their own.",
    Sharing(images=True): "The repository will be private. Share it only with people who accepted the same terms.",
    Sharing(images=True, gated=True): "The repository will be gated. Admit only people who accepted the same terms.",
}


@pytest.mark.parametrize(
    ("sources", "said", "unsaid"),
    [
        (("flickr30k",), [FLICKR], [IMAGENET]),
        (("drawn", "imagenet"), [IMAGENET], [FLICKR]),
        (("flickr30k", "imagenet"), [FLICKR, IMAGENET], []),
        ((), ["the set does not say"], [FLICKR, IMAGENET]),
    ],
)
@pytest.mark.parametrize("sharing", ADVICE)
def test_the_terms_of_the_sources_are_said(tmp_path, sources, said, unsaid, sharing):
    warning = terms_warning(of_sources(tmp_path / "set", *sources), sharing)
    assert all(text in warning for text in said)
    assert not any(text in warning for text in unsaid)
    first, *terms, last = warning.splitlines()
    assert first == "The images come under terms that go with them:"
    assert len(terms) == len(said)
    assert all(line.startswith("  - ") for line in terms)
    assert last == ADVICE[sharing]


@pytest.mark.parametrize("sharing", ADVICE)
def test_drawn_images_come_under_no_terms(tmp_path, sharing):
    assert terms_warning(of_sources(tmp_path / "set", "drawn"), sharing) == ""


def command(*words) -> int:
    parser = argparse.ArgumentParser()
    pushing.add_arguments(parser)
    return pushing.main(parser.parse_args(list(map(str, words))))


@pytest.mark.parametrize(
    ("flags", "sharing", "what"),
    [
        ([], Sharing(), "the recipe"),
        (["--public"], Sharing(public=True), "the recipe"),
        (["--images"], Sharing(images=True), "the whole set"),
        (["--images", "--gated"], Sharing(images=True, gated=True), "the whole set"),
    ],
)
def test_the_command_warns_first_and_says_what_it_sent(tmp_path, monkeypatch, capsys, flags, sharing, what):
    of_sources(tmp_path / "set", "flickr30k")
    given = []
    monkeypatch.setattr(pushing, "push", lambda *asked: given.append(asked) or "https://hub/me/cars")
    assert command(tmp_path / "set", "me/cars", *flags) == 0
    assert given == [(tmp_path / "set", "me/cars", sharing)]
    shown = capsys.readouterr()
    assert shown.out == f"Pushed {what} to https://hub/me/cars\n"
    assert shown.err.endswith(f"{ADVICE[sharing]}\n")


def test_the_command_refuses_before_it_warns(tmp_path, uploads, capsys):
    of_sources(tmp_path / "set", "flickr30k")
    with pytest.raises(BuildError, match="so they are not published"):
        command(tmp_path / "set", "me/cars", "--images", "--public")
    assert capsys.readouterr().err == ""


# --- To a local hub, through its own client.

PUSHES = """
import json
from pathlib import Path
from data_prep.push import Sharing, push
from data_prep.recipes.reading import load_recipe
from mteb_vehicle_search.errors import VehicleSearchError
said = []
for repository, folder, sharing in json.loads({asked!r}):
    try:
        said.append(push(Path(folder), repository, Sharing(*sharing)))
    except VehicleSearchError as error:
        said.append(error.message)
said.append(load_recipe("hf://datasets/me/recipe/recipe.json.gz").content_id)
print(json.dumps(said))
"""
ACCEPTED = "good"  # The token that the local hub knows.
IMAGES, GATED, PUBLIC = (True, False, False), (True, False, True), (False, True, False)


@pytest.fixture(scope="module")
def pushed(tmp_path_factory):
    """A hub to which sets were pushed, and what was said of each."""
    above, hub = tmp_path_factory.mktemp("pushed"), HubServer()
    of_sources(above / "set", "flickr30k", "imagenet")
    asked = [
        ("me/recipe", above / "set", ()),
        ("me/public-recipe", above / "set", PUBLIC),
        ("me/images", above / "set", IMAGES),
        ("me/gated", above / "set", GATED),
        ("me/images", above / "set", ()),
        ("me/public-recipe", above / "set", IMAGES),
        ("me/recipe", above / "set", ()),
    ]
    done = hub.run(PUSHES.format(asked=json.dumps(asked, default=str)), above / "home", ACCEPTED)
    hub.close()
    assert done.returncode == 0, done.stderr
    return hub, json.loads(done.stdout.splitlines()[-1]), EvalSet.open(above / "set")


def test_on_the_hub_a_recipe_has_neither_images_nor_captions(pushed):
    hub, said, eval_set = pushed
    assert said[:2] == [f"https://huggingface.co/datasets/me/{name}" for name in ("recipe", "public-recipe")]
    assert said[6] == said[0]  # Once more.
    assert hub.private >= {"me/recipe"}
    assert "me/public-recipe" not in hub.private
    for name in ("me/recipe", "me/public-recipe"):
        files = hub.repos[name]
        assert set(files) == {".gitattributes", "recipe.json.gz", "README.md"}
        held = gzip.decompress(files["recipe.json.gz"]) + files["README.md"]
        assert [query.text for query in eval_set.queries() if query.text.encode() in held] == []
        assert b"JFIF" not in held


def test_on_the_hub_a_recipe_is_read_where_its_card_says(pushed):
    _, said, eval_set = pushed
    assert said[7] == eval_set.content_id


def test_on_the_hub_images_are_private_or_gated_before_they_are_sent(pushed):
    hub, said, eval_set = pushed
    assert said[2:4] == [f"https://huggingface.co/datasets/me/{name}" for name in ("images", "gated")]
    assert "me/images" in hub.private
    assert set(eval_set.manifest["files"]) < set(hub.repos["me/gated"]) == set(hub.repos["me/images"])
    sent = [(method, path) for method, path, _ in hub.log]
    gate = sent.index(("PUT", "/api/datasets/me/gated/settings"))
    assert json.loads(hub.objects["settings"]) == {"gated": "manual", "visibility": "public"}
    assert gate < sent.index(("POST", "/api/datasets/me/gated/commit/main"))
    assert gate < sent.index(("POST", "/api/datasets/me/gated/preupload/main"))
    assert [path for method, path in sent if path.endswith("/settings")] == ["/api/datasets/me/gated/settings"]


def test_on_the_hub_no_recipe_takes_the_place_of_images_and_no_images_go_to_a_public_place(pushed):
    hub, said, _ = pushed
    assert said[4] == (
        "me/images exists on the hub and holds corpus/test-00000-of-00001.parquet, which this would take the place of."
    )
    assert "manifest.json" in hub.repos["me/images"]
    assert "recipe.json.gz" not in hub.repos["me/images"]
    assert said[5] == "me/public-recipe exists on the hub and is public."
    assert "manifest.json" not in hub.repos["me/public-recipe"]
