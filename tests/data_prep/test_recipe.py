"""Recipes: what they hold and do not hold, that strangers' ones are checked, and what a rebuilt set has otherwise."""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json

import pytest
from range_server import RangeServer
from small_set import jpeg, provenance, small_set

from data_prep.recipes import RecipeImage, reading, writing
from data_prep.recipes.card import recipe_card
from data_prep.recipes.differences import differences, tell_differences
from data_prep.recipes.reading import load_recipe
from data_prep.recipes.writing import write_recipe
from data_prep.sources.registry import SOURCES
from mteb_vehicle_search import settings
from mteb_vehicle_search.errors import BuildError, EvalSetError, SourceError
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.eval_set.schema import CorpusImage, ImagePolicy, Qrel, Query
from mteb_vehicle_search.terminal import Reporter

PRESET = {
    "name": "cars",
    "title": "Car Search",
    "task_name": "",
    "description": "Cars among cars.",
    "captioned": {"source": "flickr30k", "captions": 2},
    "distractors": {"source": "imagenet", "classes": "cars.tsv", "splits": ["train", "val"]},
    "classifier": {"library": "transformers", "model": "somewhere/here/classifier", "revision": ""},
    "selection": {"classes": "cars.tsv", "threshold": 0.6, "share": None},
    "images": ImagePolicy().as_json(),
    "duplicates": {"policy": "remove", "max_distance": 2},
    "expected": {"captioned": 2, "distractors": None, "queries": None, "selection_sha256": None},
}
ABOUT = {
    "name": "cars",
    "title": "Car Search",
    "preset": PRESET,
    "sources": {name: SOURCES[name].for_manifest() for name in ("flickr30k", "imagenet")},
}
SECOND = "flickr30k/0001"


def cars(folder, **changed) -> EvalSet:
    """Two captioned images with two captions each, and three distractors."""
    return small_set(folder, captioned=2, distractors=3, **{**ABOUT, **changed})


def images(captioned=2, distractors=3, **sha256_of):
    """The images of `cars`, some of them from other files."""
    rows = [(f"flickr30k/{n:04d}", n, True) for n in range(captioned)]
    rows += [(f"imagenet/train/n{n:04d}", n + 500, False) for n in range(distractors)]
    for corpus_id, number, wanted in rows:
        row = provenance(number, wanted) | sha256_of.get(corpus_id.rpartition("/")[2], {})
        yield CorpusImage(corpus_id, jpeg(number), row)


@pytest.fixture(scope="module")
def eval_set(tmp_path_factory):
    return cars(tmp_path_factory.mktemp("cars") / "set")


@pytest.fixture(scope="module")
def text(eval_set):
    """The recipe of `eval_set`, as text."""
    path = eval_set.folder.parent / "recipe.json"
    write_recipe(eval_set, path)
    return path.read_text(encoding="utf-8")


@pytest.fixture
def recipe(text, tmp_path):
    path = tmp_path / "recipe.json"
    path.write_text(text, encoding="utf-8", newline="\n")
    return load_recipe(str(path))


def test_a_recipe_names_every_image_caption_and_judgement(eval_set, text, recipe):
    facts = {"width": 40, "height": 32}
    assert recipe.captioned == {
        f"flickr30k/{n:04d}": RecipeImage(sha256=f"{n:064x}", **facts, score=0.9) for n in range(2)
    }
    assert recipe.distractors == {
        f"imagenet/train/n{n:04d}": RecipeImage(sha256=f"{n + 500:064x}", **facts) for n in range(3)
    }
    assert recipe.scores() == {"flickr30k/0000": 0.9, "flickr30k/0001": 0.9}
    assert recipe.queries == {q.id: hashlib.sha256(q.text.encode()).hexdigest() for q in eval_set.queries()}
    assert recipe.qrels == set(eval_set.qrels())
    said = (recipe.name, recipe.title, recipe.task_name, recipe.policy)
    assert said == ("cars", "Car Search", "Cars", ImagePolicy())
    digests = (recipe.content_id, recipe.sources_id, recipe.images_id)
    assert digests == (eval_set.content_id, eval_set.sources_id, eval_set.images_id)
    assert recipe.sources == eval_set.manifest["sources"]
    rows = text.splitlines()
    assert f'["flickr30k/0001","{1:064x}",40,32,0.9]' in rows
    assert f'["imagenet/train/n0000","{500:064x}",40,32],' in rows
    assert '[817,"n04285008","sports car"]' in rows
    assert '["0001_caption_01","flickr30k/0001",1]' in rows


def test_its_preset_needs_no_classifier_and_no_file(eval_set, recipe):
    preset = recipe.preset
    assert (preset.classifier, preset.selection) == (None, None)
    assert (preset.selection_classes(), preset.wanted_classes()) == (None, {817})
    (only,) = preset.distractor_classes().classes
    assert (preset.distractor_classes().name, *only[:3]) == ("cars", 817, "n04285008", "sports car")
    given = {"classifier": None, "selection": None, "duplicates": {"policy": "report", "max_distance": 2}}
    assert json.loads(json.dumps(preset.as_json())) == PRESET | given


def test_where_images_of_ones_own_lie_is_not_asked_of_a_recipe(text, tmp_path):
    content = json.loads(text)
    content["preset"] |= {"captioned": {"source": "folder", "captions": 2}, "distractors": {"source": "folder"}}
    (tmp_path / "recipe.json").write_text(json.dumps(content), encoding="utf-8")
    preset = load_recipe(str(tmp_path / "recipe.json")).preset
    assert (preset.captioned.location, preset.distractors.location) == ("", "")
    assert preset.distractor_classes() is None


def test_miners_that_clustered_captioned_images_are_not_asked_of_a_recipe(text, tmp_path):
    content = json.loads(text)
    views = {"miners": {"texts": {"library": "sentence-transformers", "model": "gone"}}}
    content["preset"] |= {"selection": {"method": "clusters", "clusters": 9, "images": 99}, **views}
    (tmp_path / "recipe.json").write_text(json.dumps(content), encoding="utf-8")
    preset = load_recipe(str(tmp_path / "recipe.json")).preset
    assert (preset.selection, preset.miners) == (None, {})


def test_no_caption_and_no_image_is_in_a_recipe_or_its_card(tmp_path):
    mini = EvalSet.open(settings.mini_folder())
    write_recipe(mini, tmp_path / "recipe.json")
    held = (tmp_path / "recipe.json").read_text(encoding="ascii")
    card = recipe_card(mini, "me/mini")
    texts = {query.text for query in mini.queries()}
    assert len(texts) > 900
    assert [text for text in texts if text in held or text in card] == []
    assert [word for word in ("JFIF", "/9j/", "\\u00ff\\u00d8") if word in held] == []  # A JPEG, by base64 or escapes.
    assert len(held) < 175 * len(mini.corpus_ids())


@pytest.mark.parametrize("name", ["a.json", "a.json.gz", "deep/er/a.JSON.GZ"])
def test_the_same_set_gives_the_same_file(eval_set, text, tmp_path, name):
    path = tmp_path / name
    write_recipe(eval_set, path)
    first = path.read_bytes()
    path.unlink()
    write_recipe(EvalSet.open(eval_set.folder), path)
    assert path.read_bytes() == first
    packed = name.lower().endswith(".gz")
    assert not packed or first[3:8] == bytes(5)  # No name and no time (RFC 1952, 2.3).
    assert (gzip.decompress(first) if packed else first).decode("ascii") == text
    assert differences(load_recipe(str(path)), eval_set) == []
    assert [left.name for left in path.parent.iterdir()] == [path.name]


def test_a_set_that_says_nothing_of_its_making_has_no_recipe(tmp_path):
    other = small_set(tmp_path / "set", captioned=1, distractors=1)
    with pytest.raises(BuildError) as caught:
        write_recipe(other, tmp_path / "recipe.json")
    assert str(caught.value) == (
        f"{tmp_path / 'set'} has no recipe: its manifest does not say what it was made of.\n"
        "Only a set that 'vehicle-search-data build' made can be rebuilt from a recipe."
    )


def test_a_damaged_set_has_no_recipe(tmp_path):
    damaged = cars(tmp_path / "set")
    damaged.manifest["content_id"] = "0" * 64
    with pytest.raises(EvalSetError, match="is not what its manifest says"):
        write_recipe(damaged, tmp_path / "recipe.json")
    assert not (tmp_path / "recipe.json").exists()


def test_a_set_that_does_not_tell_its_digests_has_a_recipe(tmp_path):
    older = cars(tmp_path / "set")
    for key in ("images_id", "sources_id", "sources"):
        del older.manifest[key]
    write_recipe(older, tmp_path / "recipe.json")
    found = load_recipe(str(tmp_path / "recipe.json"))
    assert (found.images_id, found.sources_id, found.sources) == ("", older.sources_id, {})
    assert differences(found, EvalSet.open(tmp_path / "set")) == []


def test_scores_are_those_that_were_stored(tmp_path):
    scores = {"0000": {"vehicle_score": 1 / 3}, "0001": {"vehicle_score": None}}
    scored = cars(tmp_path / "set", images=images(**scores))
    write_recipe(scored, tmp_path / "recipe.json")
    found = load_recipe(str(tmp_path / "recipe.json")).scores()
    assert found == {"flickr30k/0000": 0.33333334, SECOND: None}


# --- What strangers wrote.


def refused(tmp_path, content, kind=BuildError, name="recipe.json") -> str:
    """The error of a recipe, without where it lies."""
    path = tmp_path / name
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    path.write_bytes(data)
    with pytest.raises(kind) as caught:
        load_recipe(str(path))
    return str(caught.value).replace(str(path), "IT")


def without(name):
    return lambda content: content.pop(name)


def put(value, *path):
    """A change that puts a value at a path of keys."""

    def change(content):
        for key in path[:-1]:
            content = content[key]
        content[path[-1]] = value

    return change


def drop(*path):
    """A change that takes a key or a row away."""

    def change(content):
        for key in path[:-1]:
            content = content[key]
        del content[path[-1]]

    return change


UNSOUND = {
    "unknown key 'images'": put([], "images"),
    "'qrels' is missing": without("qrels"),
    "'content_id' is 'abc', not 64 lower-case hexadecimal digits": put("abc", "content_id"),
    "'name' is '../cars', not a name without path separators": put("../cars", "name"),
    "'captioned' is not a list of rows": put({}, "captioned"),
    "'captioned' is empty": put([], "captioned"),
    "'queries' is empty": put([], "queries"),
    "row 2 of 'captioned' is ['a'], not [id, sha256, width, height, score]": put(["a"], "captioned", 1),
    "row 1 of 'distractors' has the sha256 'ABC'": put("ABC", "distractors", 0, 1),
    "row 1 of 'distractors' has the width 0": put(0, "distractors", 0, 2),
    "row 1 of 'distractors' has the height True": put(True, "distractors", 0, 3),
    "row 1 of 'captioned' has the score '0.9'": put("0.9", "captioned", 0, 4),
    "row 3 of 'queries' has the id 'a\\nb'": put("a\nb", "queries", 2, 0),
    "row 1 of 'qrels' has the score 0": put(0, "qrels", 0, 2),
    "row 1 of 'classes' has the index 1000": put(1000, "classes", 0, 0),
    "class 816 of ImageNet-1k is n04277352, not n04285008 as in 'classes'": put(816, "classes", 0, 0),
    "row 2 of 'captioned' stands twice or not in order: 'flickr30k/0000'": put("flickr30k/0000", "captioned", 1, 0),
    "row 2 of 'qrels' stands twice or not in order: '0000_caption_00', 'flickr30k/0000'": put(
        "0000_caption_00", "qrels", 1, 0
    ),
    "'flickr30k/0001' stands in 'captioned' and in 'distractors'": put(SECOND, "distractors", 0, 0),
    "'qrels' has '0001_caption_01' -> 'imagenet/train/n0000', which is no query or no captioned image of it": put(
        "imagenet/train/n0000", "qrels", 3, 1
    ),
    "'qrels' has '9' -> 'flickr30k/0001', which is no query or no captioned image of it": put("9", "qrels", 3, 0),
    "the query '0001_caption_01' has no answer in 'qrels'": drop("qrels", 3),
    "'preset' is [], not a preset": put([], "preset"),
    "'policy' is {'shortest_side_px': 0}, not an image policy": put({"shortest_side_px": 0}, "policy"),
    "'name' is 'carts', but 'cars' in 'preset'": put("carts", "name"),
    "'title' is 'Carts', but 'Car Search' in 'preset'": put("Carts", "title"),
    "'task_name' is 'Carts', but 'Cars' in 'preset'": put("Carts", "task_name"),
    "'policy' is {'jpeg_quality': 74, 'resample': 'bicubic', 'shortest_side_px': 160}, but {": put(
        74, "policy", "jpeg_quality"
    ),
}


@pytest.mark.parametrize("problem", UNSOUND)
def test_what_is_wrong_with_a_recipe_is_named(text, tmp_path, problem):
    content = json.loads(text)
    UNSOUND[problem](content)
    assert f"IT is not a sound recipe: {problem}" in refused(tmp_path, content)


PRESETS = {
    "IT: unknown key 'colour' in [preset.captioned].": put("red", "preset", "captioned", "colour"),
    "IT: unknown key 'colour' in [preset].": put("red", "preset", "colour"),
    "IT: unknown key 'folder' in [preset].": put("/etc", "preset", "folder"),
    "IT: preset.captioned.source is missing.": drop("preset", "captioned", "source"),
    "IT: preset.images must be a table, [preset.images].": put(3, "preset", "images"),
    "IT: preset.title must be of type str, not 3.": put(3, "preset", "title"),
    "IT: captioned.source must be 'flickr30k' or ": put("flickr8k", "preset", "captioned", "source"),
}


@pytest.mark.parametrize("problem", PRESETS)
def test_its_preset_is_checked_as_every_preset(text, tmp_path, problem):
    content = json.loads(text)
    PRESETS[problem](content)
    assert problem in refused(tmp_path, content)


def test_a_changed_digest_is_noticed(text, tmp_path):
    content = json.loads(text)
    content["distractors"][0][1] = "f" * 64
    assert f"IT is not a sound recipe: 'sources_id' is {content['sources_id']}, but its images give " in refused(
        tmp_path, content
    )


@pytest.mark.parametrize("version", [2, "1", 1.0, True, None])
def test_another_version_is_refused_whatever_else_it_holds(tmp_path, version):
    assert refused(tmp_path, {"recipe_version": version, "new": 1}) == (
        f"IT is a recipe of version {version!r}; this package reads 1.\n"
        "Install the matching version of mteb-vehicle-search."
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "Expecting value: line 1 column 1 (char 0)"),
        (b"[1]", "it has no 'recipe_version'"),
        (b"7", "it has no 'recipe_version'"),
        (b'{"name": 1}', "it has no 'recipe_version'"),
        (b'{"recipe_version": NaN}', "NaN is no JSON"),
        (b'{"recipe_version": 1, "a": 1, "b": 2, "a": 3}', "the key 'a' stands twice"),
        (b"\xff{}", "'utf-8' codec can't decode"),
        (b"[" * 100_000, "maximum recursion depth"),
    ],
)
def test_what_is_no_recipe_is_told_so(tmp_path, content, reason):
    said = refused(tmp_path, content)
    assert said.startswith(f"IT is not a recipe: {reason}")
    assert said.endswith("'vehicle-search-data recipe' writes one.")


def test_a_score_that_is_no_number_is_refused(text, tmp_path):
    assert "row 1 of 'captioned' has the score inf" in refused(tmp_path, text.replace("0.9]", "1e999]", 1).encode())


def test_a_damaged_packed_recipe_is_told_so(text, tmp_path):
    packed = gzip.compress(text.encode())
    for content in (packed[:-20], packed[:200] + b"???" + packed[203:], b"\x1f\x8bnonsense"):
        said = refused(tmp_path, content, name="recipe.json.gz")
        assert said.startswith("IT cannot be unpacked: ")


@pytest.mark.parametrize("packed", [False, True])
def test_no_more_is_read_than_a_recipe_may_have(tmp_path, monkeypatch, packed):
    monkeypatch.setattr(reading, "MAX_BYTES", 10_000)
    content = b" " * 10_001
    said = refused(tmp_path, gzip.compress(content) if packed else content)
    assert said == "IT is not a recipe: it has more than 10,000 bytes."


def test_what_unpacks_to_more_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "MAX_BYTES", 10_000)
    asked, read = [], gzip.GzipFile.read

    def counted(file: gzip.GzipFile, size: int = -1) -> bytes:
        asked.append(size)
        return read(file, size)

    monkeypatch.setattr(gzip.GzipFile, "read", counted)
    refused(tmp_path, gzip.compress(b" " * 1_000_000))
    assert asked == [10_001]


def test_a_recipe_that_is_not_there(tmp_path):
    with pytest.raises(BuildError) as caught:
        load_recipe(str(tmp_path))
    assert str(caught.value) == (
        f"There is no recipe {tmp_path}.\nGive a file or an address that ends in .json or .json.gz."
    )


# --- At an address.


@pytest.fixture(scope="module")
def server():
    server = RangeServer()
    yield server
    server.close()


@pytest.mark.parametrize("name", ["cars.json", "cars.json.gz"])
def test_a_recipe_is_read_from_an_address(server, text, name):
    content = gzip.compress(text.encode()) if name.endswith(".gz") else text.encode()
    server.serve(f"/of/{name}", content)
    found = load_recipe(f"{server.url}/of/{name}")
    assert found.where == f"{server.url}/of/{name}"
    assert len(found.captioned) == 2


def test_an_address_with_nothing_behind_it(server):
    with pytest.raises(SourceError, match=rf"^there is no {server.url}/none\.json$"):
        load_recipe(f"{server.url}/none.json")


def test_an_address_of_a_folder_is_no_recipe(server):
    with pytest.raises(BuildError) as caught:
        load_recipe(f"{server.url}/of")
    assert caught.value.message == f"{server.url}/of is a folder, not a recipe."


# --- What a rebuilt set has otherwise.


def texts(changed=(), left_out=(), more=()):
    """Queries and judgements of `cars`, changed."""
    ids = [f"{n:04d}_caption_{c:02d}" for n in range(2) for c in range(2)]
    queries = [Query(i, f"{'another' if i in changed else 'caption'} {i}") for i in [*ids, *more] if i not in left_out]
    return {"queries": queries, "qrels": [Qrel(q.id, f"flickr30k/{q.id[:4]}") for q in queries]}


OTHER_SIZE = {"sha256": "e" * 64, "width": 30}
REBUILT = {
    "1 image missing: imagenet/train/n0002": {"images": lambda: images(distractors=2)},
    "3 images missing: imagenet/train/n0000, imagenet/train/n0001, imagenet/train/n0002": {
        "images": lambda: images(distractors=0)
    },
    "4 images not in the recipe: imagenet/train/n0003, imagenet/train/n0004, imagenet/train/n0005, ...": {
        "images": lambda: images(distractors=7)
    },
    "1 image made from a file of other bytes, but the same size in pixels: flickr30k/0001": {
        "images": lambda: images(**{"0001": {"sha256": "f" * 64}})
    },
    "2 images made from a file of another size in pixels: flickr30k/0001, imagenet/train/n0000": {
        "images": lambda: images(**{"0001": OTHER_SIZE, "n0000": OTHER_SIZE})
    },
    "1 image with captions here and none in the recipe, or the other way round: imagenet/train/n0000": {
        "images": lambda: images(n0000={"captioned": True})
    },
    "1 caption with another text: 0001_caption_00": texts(changed=["0001_caption_00"]),
    "images were reduced as {'shortest_side_px': 99, 'resample': 'bicubic', 'jpeg_quality': 75}, in the recipe as "
    "{'shortest_side_px': 160, 'resample': 'bicubic', 'jpeg_quality': 75}": {"policy": ImagePolicy(99)},
}


@pytest.mark.parametrize("said", REBUILT)
def test_each_difference_is_told(recipe, tmp_path, said):
    given = {key: value() if callable(value) else value for key, value in REBUILT[said].items()}
    assert differences(recipe, cars(tmp_path / "rebuilt", **given)) == [said]


def test_captions_that_are_missing_and_additional_ones_are_told_with_their_judgements(recipe, tmp_path):
    given = texts(left_out=["0000_caption_01"], more=["0001_caption_02"])
    assert differences(recipe, cars(tmp_path / "rebuilt", **given)) == [
        "1 caption missing: 0000_caption_01",
        "1 caption not in the recipe: 0001_caption_02",
        "1 judgement missing: 0000_caption_01 -> flickr30k/0000",
        "1 judgement not in the recipe: 0001_caption_02 -> flickr30k/0001",
    ]


def test_a_judgement_of_another_weight_is_told(recipe, tmp_path):
    given = texts()
    given["qrels"][0] = given["qrels"][0]._replace(score=2)
    assert differences(recipe, cars(tmp_path / "rebuilt", **given)) == [
        "1 judgement missing: 0000_caption_00 -> flickr30k/0000",
        "1 judgement not in the recipe: 0000_caption_00 -> flickr30k/0000",
    ]


def test_other_jpegs_of_the_same_files_are_told(recipe, tmp_path):
    given = (image._replace(jpeg=jpeg(7)) for image in images())
    (said,) = differences(recipe, cars(tmp_path / "rebuilt", images=given))
    assert said == "the same files became other JPEGs than the recipe's: by another version of Pillow or of its JPEG"


def test_the_same_content_id_is_said_and_nothing_else(recipe, eval_set, capsys):
    reporter = Reporter()
    assert tell_differences(recipe, eval_set, reporter) == 0
    assert reporter.messages == []
    assert capsys.readouterr().out == f"The content id is that of the recipe {recipe.where}\n"


def test_other_files_are_used_and_told(recipe, tmp_path, capsys):
    rebuilt, reporter = cars(tmp_path / "rebuilt", images=images(**{"0001": OTHER_SIZE})), Reporter(quiet=True)
    assert tell_differences(recipe, rebuilt, reporter) == 0
    assert capsys.readouterr().out == f"The content id is that of the recipe {recipe.where}\n"
    assert reporter.messages == [
        "warning: Scores compare with those of the recipe's set, but not everything is the same:\n"
        "  1 image made from a file of another size in pixels: flickr30k/0001",
    ]


def test_another_content_id_is_a_warning_and_fails(recipe, eval_set, tmp_path, capsys):
    rebuilt, reporter = cars(tmp_path / "rebuilt", images=images(distractors=2)), Reporter(quiet=True)
    assert tell_differences(recipe, rebuilt, reporter) == 1
    assert reporter.messages == [
        f"warning: The content id is not that of the recipe {recipe.where}, which is {eval_set.content_id}; this set "
        f"has its own, {rebuilt.content_id}, and its scores do not compare. What differs:\n"
        "  1 image missing: imagenet/train/n0002"
    ]
    assert capsys.readouterr().out == ""


# --- The command.


def arguments(command, *words) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(list(map(str, words)))


def test_the_command_says_what_it_wrote(eval_set, tmp_path, capsys):
    out = tmp_path / "cars.json.gz"
    assert writing.main(arguments(writing, eval_set.folder, out)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"Recipe of Car Search with content id {eval_set.content_id}"
    assert lines[1].startswith(f"{out}: ")
    assert lines[2] == "Rebuild it elsewhere: vehicle-search-data build --recipe cars.json.gz"
    assert load_recipe(str(out)).content_id == eval_set.content_id


def test_a_recipe_has_the_name_of_one(eval_set, tmp_path):
    with pytest.raises(BuildError) as caught:
        writing.main(arguments(writing, eval_set.folder, tmp_path / "cars"))
    assert str(caught.value) == (
        f"{tmp_path / 'cars'} is no name of a recipe.\nLet it end in .json, or in .json.gz to have it packed."
    )
