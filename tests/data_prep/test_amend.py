"""A set is amended by what people judged right: more relevant ones of the same images, a content id of its own."""

import json

import pytest
import small_pool
import small_set
from small_judgments import judgment

from data_prep.amend import amend, right_pairs
from data_prep.cli import main
from mteb_vehicle_search.errors import BuildError, UsageError
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.eval_set.schema import Qrel
from mteb_vehicle_search.eval_set.verify import verify
from mteb_vehicle_search.judgments import JudgeFile, read_judgments

QUERY, OTHER = "0000_caption_00", "0001_caption_01"
RIGHT, WRONG = "imagenet/train/n0003", "imagenet/train/n0004"


@pytest.fixture
def old(tmp_path):
    """The set that is amended."""
    return small_set.small_set(tmp_path / "old")


@pytest.fixture
def folder(tmp_path, old):
    """Judgments: two judges agree on one pair, and not on another; one could not tell."""
    folder = tmp_path / "judgments" / old.content_id
    said = [
        ("ada", QUERY, RIGHT, 3),
        ("bob", QUERY, RIGHT, 3),
        ("ada", QUERY, WRONG, 3),
        ("bob", QUERY, WRONG, 2),
        ("ada", OTHER, RIGHT, 3),
        ("ada", OTHER, WRONG, 3),
        ("bob", OTHER, WRONG, 3),
        ("cyd", OTHER, WRONG, 0),
        ("ada", QUERY, "flickr30k/0000", 3),
    ]
    for judge, query, image, grade in said:
        JudgeFile(folder, judge).append(judgment(query, image, grade, judge=judge, content_id=old.content_id))
    return folder


@pytest.mark.parametrize(
    ("agree", "expected"),
    [("most", [(QUERY, RIGHT), (OTHER, RIGHT), (OTHER, WRONG)]), ("all", [(QUERY, RIGHT), (OTHER, RIGHT)])],
)
def test_what_most_or_all_judges_say_is_right_is_added(old, folder, agree, expected):
    assert right_pairs(old, read_judgments(folder), agree) == [Qrel(*pair) for pair in sorted(expected)]


def test_the_new_set_has_more_relevant_ones_of_the_same_images(old, folder, tmp_path, capsys):
    out = tmp_path / "new"
    assert main(["amend", str(old.folder), str(folder.parent), str(out), "--quiet"]) == 0
    new = EvalSet.open(out)
    assert set(new.qrels()) - set(old.qrels()) == {Qrel(QUERY, RIGHT), Qrel(OTHER, RIGHT), Qrel(OTHER, WRONG)}
    assert set(old.qrels()) < set(new.qrels())
    assert new.queries() == old.queries()
    assert new.images_id == old.images_id
    assert new.provenance().equals(old.provenance())
    assert new.rejected().equals(old.rejected())
    assert new.content_id != old.content_id
    assert verify(out, progress=False).violations == []
    told = capsys.readouterr().out
    assert "3 relevant images were added, to 2 captions.\n" in told
    assert f"Content id {new.content_id}, amended from {old.content_id}.\n" in told


def test_its_manifest_and_card_name_where_it_comes_from(old, folder, tmp_path):
    new, added = amend(old, read_judgments(folder), tmp_path / "new", "my-set")
    origin = new.manifest["amended_from"]
    assert (origin["content_id"], origin["name"]) == (old.content_id, "vehicle-image-search")
    assert (origin["judges"], origin["agree"], origin["added"]) == (["ada", "bob", "cyd"], "most", len(added))
    assert len(origin["judgments"]) == 64
    assert (new.name, new.task_name, new.title) == ("my-set", "MySet", "Vehicle Image Search (amended)")
    card = (new.folder / "README.md").read_text()
    assert card.count("# Vehicle Image Search") == 1
    assert f"Its content id was\n`{old.content_id}`" in card
    assert "3 more relevant images, which most of their judges\nsaid to be right (ada, bob, cyd)" in card


def test_other_judgments_have_another_digest(old, folder, tmp_path):
    one, _ = amend(old, read_judgments(folder), tmp_path / "one", "my-set")
    JudgeFile(folder, "ada").append(judgment(QUERY, "imagenet/train/n0009", 1, content_id=old.content_id))
    other, _ = amend(old, read_judgments(folder), tmp_path / "other", "my-set")
    assert one.content_id == other.content_id
    assert one.manifest["amended_from"]["judgments"] != other.manifest["amended_from"]["judgments"]


def test_the_card_of_a_built_set_is_kept_with_the_new_task(tmp_path, folder, old):
    built = small_set.small_set(tmp_path / "built", card="## Evaluating\n\nmteb run -t VehicleImageSearch -m MODEL\n")
    new, _ = amend(built, read_judgments(folder), tmp_path / "new", "vehicle-image-search-amended")
    card = (new.folder / "README.md").read_text()
    assert "mteb run -t VehicleImageSearchAmended -m MODEL" in card
    assert card.count("\n## Evaluating\n") == 1


def test_it_has_no_recipe_and_its_origin_gives_the_same_set_again(old, folder, tmp_path, capsys):
    new = amend(old, read_judgments(folder), tmp_path / "new", "cars-amended").eval_set
    assert main(["recipe", str(new.folder), str(tmp_path / "new.json")]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "has no recipe: people's judgments amended it, and a recipe does not hold them. Share the recipe of" in said
    assert f"the set with content id {old.content_id[:12]} and its judgments" in said
    assert not (tmp_path / "new.json").exists()
    # As somebody would have it who rebuilt the set, and got the judgments in another order.
    rebuilt = small_set.small_set(tmp_path / "rebuilt")
    lines = [line for path in sorted(folder.glob("*.jsonl")) for line in path.read_bytes().splitlines(keepends=True)]
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "all.jsonl").write_bytes(b"".join(lines[::-1]))
    again = amend(rebuilt, read_judgments(tmp_path / "theirs"), tmp_path / "again", "cars-amended").eval_set
    assert again.content_id == new.content_id
    assert again.manifest["amended_from"] == new.manifest["amended_from"]


def test_a_sample_of_a_pool_keeps_its_pool(tmp_path):
    old = small_pool.pool_set(tmp_path / "old")
    query, image = old.queries()[0].id, old.corpus_ids()[-1]
    JudgeFile(tmp_path / "said", "ada").append(judgment(query, image, 3, content_id=old.content_id))
    new, _ = amend(old, read_judgments(tmp_path / "said"), tmp_path / "new", "my-set")
    assert new.pool == old.pool
    assert new.groups == old.groups
    assert Qrel(query, image) in new.qrels()


def test_nothing_to_add_is_an_error(old, tmp_path, capsys):
    assert main(["amend", str(old.folder), str(tmp_path / "none"), str(tmp_path / "new")]) == 1
    assert "Judge some: vehicle-search judge" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_folder_with_other_things_is_left_alone(old, folder, tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "thesis.txt").write_text("mine")
    with pytest.raises(BuildError, match=r"holds other things.*thesis.txt"):
        amend(old, read_judgments(folder), tmp_path / "new", "my-set")


def test_a_set_is_not_replaced_by_its_own_amendment(old, folder):
    with pytest.raises(UsageError, match="it is left alone"):
        amend(old, read_judgments(folder), old.folder, "my-set")


def test_a_damaged_set_is_not_amended(old, folder, tmp_path):
    path = old.files("provenance")[0]
    path.write_bytes(path.read_bytes() + b"!")
    with pytest.raises(BuildError, match="is damaged: provenance/"):
        amend(old, read_judgments(folder), tmp_path / "new", "my-set")


def test_what_is_not_of_the_set_is_named_and_not_added(old, folder, tmp_path, capsys):
    JudgeFile(folder, "ada").append(judgment("nobody", RIGHT, 3, content_id=old.content_id))
    assert main(["amend", str(old.folder), str(folder), str(tmp_path / "new"), "--quiet", "--agree", "all"]) == 0
    told = capsys.readouterr()
    assert "there is no caption 'nobody' in the evaluation set" in told.err
    assert "2 relevant images were added" in told.out


@pytest.mark.parametrize(
    "changed",
    [{"content_id": "x"}, {"judges": "ada"}, {"judges": ["a\nb"]}, {"judgments": None}, {"added": -1}],
    ids=["content id", "judges", "a line break", "digest", "count"],
)
def test_a_manifest_that_says_something_else_of_its_origin_is_refused(old, folder, tmp_path, changed):
    new, _ = amend(old, read_judgments(folder), tmp_path / "new", "my-set")
    manifest = json.loads((new.folder / "manifest.json").read_text())
    manifest["amended_from"].update(changed)
    (new.folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(Exception, match="'amended_from' is "):
        EvalSet.open(new.folder)
