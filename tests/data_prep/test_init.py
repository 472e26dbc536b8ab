"""`vehicle-search-data init`: what it says of a folder, and presets that build."""

from __future__ import annotations

import csv
import json
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from real import needs_real, real_captions, real_folder, real_photographs
from small_sources import jpeg, noisy_image

from data_prep import cli
from data_prep.build import build
from data_prep.init import text
from data_prep.job import BuildOptions
from data_prep.preset import load_preset
from mteb_vehicle_search.errors import BuildError
from mteb_vehicle_search.eval_set.verify import verify
from mteb_vehicle_search.terminal import Reporter


def write_images(root: Path, names=("1.jpg", "2.jpg", "sub/3.jpg", "4.png")) -> Path:
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(noisy_image(number % 4, number)))
    return root


def table(path: Path, rows) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("file", "caption"), *rows])
    return path


ROWS = [("1.jpg", "A red cart"), ("1.jpg", "A cart"), ("2.jpg", "A green cart"), ("3.jpg", "A blue cart")]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    root = write_images(tmp_path / "My Photos")
    table(root / "captions.csv", ROWS)
    return root


def run(*arguments):
    return cli.main(["init", *map(str, arguments)])


def built(preset: str, out: Path, **options):
    eval_set = build(BuildOptions(load_preset(preset), out, workers=1, **options), Reporter(quiet=True))
    assert verify(out, progress=False).violations == []
    return eval_set


def test_what_is_found_is_said_and_builds(folder, tmp_path, capsys):
    assert run("My Photos") == 0
    said = capsys.readouterr().out
    lines = [line.strip().rsplit("  ", 1) for line in said.splitlines()]
    found = {line[0].strip(): line[1].strip() for line in lines if len(line) == 2}
    assert found[".jpg"] == "3"
    assert found[".png"] == "1"
    assert found["form"] == "CSV"
    assert found["file names in"] == "file"
    assert found["captions in"] == "caption"
    assert found["images with captions"] == "3"
    assert found["captions of an image"] == "1 to 2"
    assert found["images without"] == "1"
    assert found["names of no image"] == "0"
    assert found["rows not used"] == "0"
    assert said.endswith("Wrote my-photos.toml. Read it, and build the set:\n  " + COMMAND + "\n")
    content = tomllib.loads(Path("my-photos.toml").read_text(encoding="utf-8"))
    assert content["name"] == "my-photos"
    assert content["title"] == "Image search in My Photos"
    assert content["task_name"] == "MyPhotos"
    assert content["captioned"] == {
        "source": "folder",
        "location": "My Photos",
        "table": "My Photos/captions.csv",
        "file_column": "file",
        "caption_column": "caption",
        "captions": 2,
        "fewest_captions": 1,
    }
    assert content["distractors"] == {"source": "folder", "location": "My Photos"}
    assert content["images"]["exif"] == "all"
    eval_set = built("my-photos.toml", tmp_path / "out")
    counts = eval_set.manifest["notes"]["counts"]
    assert (counts["captioned"], counts["distractors"], counts["queries"]) == (3, 1, 4)
    assert {query.id for query in eval_set.queries()} == {
        *("1.jpg_caption_00", "1.jpg_caption_01", "2.jpg_caption_00", "sub/3.jpg_caption_00"),
    }
    assert "My Photos/captions" not in json.dumps(eval_set.manifest["preset"])


COMMAND = "vehicle-search-data build --preset my-photos.toml"


def test_of_more_captions_than_a_build_takes_the_first_five_are_kept(folder, tmp_path):
    table(folder / "captions.csv", [("1.jpg", f"A cart, seen {number} times") for number in range(12)])
    assert run(folder) == 0
    assert load_preset("my-photos.toml").captioned.captions == 5


def test_the_preset_may_lie_elsewhere(folder, tmp_path):
    (tmp_path / "presets").mkdir()
    assert run(folder, "--out", "presets/p.toml", "--name", "x", "--title", 'A "title"') == 0
    found = load_preset("presets/p.toml")
    assert (found.name, found.title) == ("x", 'A "title"')
    assert found.captioned.location == str(folder)
    assert found.captioned.table == str(folder / "captions.csv")
    assert run(folder, "--out", folder / "p.toml") == 0
    found = load_preset(str(folder / "p.toml"))
    assert (found.captioned.location, found.captioned.table) == (".", "captions.csv")
    assert found.name == "my-photos"


def test_all_images_with_captions_make_a_set_without_distractors(folder, tmp_path):
    (folder / "4.png").unlink()
    assert run(folder) == 0
    assert load_preset("my-photos.toml").distractors.source == "none"
    assert built("my-photos.toml", tmp_path / "out").manifest["notes"]["counts"]["distractors"] == 0


def test_what_does_not_fit_is_said_with_the_flags_that_go_on(folder, tmp_path, capsys):
    path = table(folder / "captions.csv", [*ROWS, ("gone.jpg", "A"), ("2.jpg", ""), ("../1.jpg", "B")])
    assert run("My Photos") == 0
    said = capsys.readouterr().out
    assert "names of no image     1; the first: My Photos/captions.csv, line 6: there is no file gone.jpg" in said
    assert "rows not used         2; the first: My Photos/captions.csv, line 7: the caption is empty" in said
    assert said.endswith(f"{COMMAND} --allow-incomplete --allow-rejects\n")
    with pytest.raises(BuildError, match=r"names images that .* does not hold: .*gone\.jpg"):
        built("my-photos.toml", tmp_path / "out")
    eval_set = built("my-photos.toml", tmp_path / "out", allow_incomplete=True, allow_rejects=True)
    assert {row["id"]: row["reason"] for row in eval_set.rejected().to_pylist()} == {
        "folder/captions.csv, bad row 1": f"{path}, line 7: the caption is empty",
        "folder/captions.csv, bad row 2": f"{path}, line 8: ../1.jpg leads out of the folder of the images; names "
        "are relative to it",
        "folder/gone.jpg": f"{path}, line 6: there is no file gone.jpg",
    }


def test_the_table_with_captions_of_most_images_is_taken(folder, capsys):
    table(folder / "few.csv", ROWS[:2])
    (folder / "package.json").write_text('{"name": "x"}', encoding="utf-8")
    assert run("My Photos") == 0
    said = capsys.readouterr().out
    assert load_preset("my-photos.toml").captioned.table == "My Photos/captions.csv"
    assert "not used: few.csv       captions of 1 images" in said
    assert "package.json is no table of captions" in said
    assert run(folder, "--table", "few.csv", "--force") == 0
    assert load_preset("my-photos.toml").captioned.table == "My Photos/few.csv"


def test_tables_that_are_equally_good_are_asked_for(folder, capsys):
    table(folder / "other.csv", ROWS)
    assert run(folder) == 1
    said = capsys.readouterr().err
    assert "captions.csv and " in said
    assert "have captions of equally many images\nSay which one is meant: --table FILE" in said
    assert not Path("my-photos.toml").exists()


def test_columns_can_be_said(folder):
    (folder / "captions.csv").write_text("a,b,c,d\n1.jpg,2.jpg,A cart,A car\n", encoding="utf-8")
    assert run(folder) == 1
    assert run(folder, "--file-column", "b", "--caption-column", "d") == 0
    found = load_preset("my-photos.toml").captioned
    assert (found.file_column, found.caption_column) == ("b", "d")


def test_several_caption_columns_are_found_again(folder, tmp_path):
    (folder / "captions.csv").write_text("file,caption_1,caption_2\n1.jpg,A cart,A car\n", encoding="utf-8")
    assert run(folder) == 0
    assert load_preset("my-photos.toml").captioned.caption_column == ""
    assert built("my-photos.toml", tmp_path / "out").manifest["notes"]["counts"]["queries"] == 2


def test_texts_beside_images_are_found(folder, tmp_path):
    (folder / "captions.csv").unlink()
    for name, caption in (("1.txt", "A cart\nA red cart"), ("sub/3.txt", "A blue cart")):
        (folder / name).write_text(caption, encoding="utf-8")
    assert run(folder) == 0
    assert load_preset("my-photos.toml").captioned.table == "beside"
    assert built("my-photos.toml", tmp_path / "out").manifest["notes"]["counts"]["queries"] == 3


@pytest.mark.parametrize("form", ["zip", "tar.gz", "inside"])
def test_archives_build_the_same_set_as_their_folder(folder, tmp_path, form):
    assert run(folder, "--out", "folder.toml") == 0
    wanted = built("folder.toml", tmp_path / "out").content_id
    src = Path("archive." + form)
    if form == "tar.gz":
        with tarfile.open(src, "w:gz") as archive:
            archive.add(folder, ".")
    else:
        src = Path("archive") / "p.zip" if form == "inside" else src
        src.parent.mkdir(exist_ok=True)
        with zipfile.ZipFile(src, "w") as archive:
            for path in sorted(folder.rglob("*")):
                if path.is_file() and not (form == "inside" and path.suffix == ".csv"):
                    archive.write(path, path.relative_to(folder).as_posix())
    if form == "inside":
        table(src.with_name("captions.csv"), ROWS)
        src = src.parent
    assert run(src, "--out", "archive.toml") == 0
    assert built("archive.toml", tmp_path / "other").content_id == wanted


def test_tars_of_samples_are_found(folder, tmp_path, capsys):
    root = tmp_path / "shards"
    root.mkdir()
    for stem in ("00000", "00001"):
        with tarfile.open(root / f"{stem}.tar", "w") as archive:
            for number, name in enumerate(("1.jpg", "2.jpg", "sub/3.jpg")):
                archive.add(folder / name, f"{stem}{number}.jpg")
                if number:
                    (tmp_path / "x.txt").write_text(f"A cart {stem} {number}", encoding="utf-8")
                    archive.add(tmp_path / "x.txt", f"{stem}{number}.txt")
    assert run(root) == 0
    assert "(the first 3 samples)" in capsys.readouterr().out
    found = load_preset("shards.toml")
    assert (found.captioned.source, found.distractors.source) == ("webdataset", "webdataset")
    counts = built("shards.toml", tmp_path / "out").manifest["notes"]["counts"]
    assert (counts["captioned"], counts["distractors"]) == (4, 2)


WRONG = {
    "nothing there": (["gone"], "there is no folder"),
    "no images": (["empty"], "holds no images; found: nothing\nImages end in .jpg"),
    "no captions": (["bare"], "holds images, but no captions of them\nExpected a table of file names and captions"),
    "other names": (["My Photos", "--table", "alien.csv"], "has captions of no image in My Photos: "),
    "a name": (["My Photos", "--name", "A b"], "'A b' cannot be the name of a set.\nGive --name 1 to 60"),
    "a title": (["My Photos", "--title", " "], "The title must be a line of text."),
    "an ending": (["My Photos", "--out", "x.txt"], "x.txt does not end in .toml"),
    "a folder": (["My Photos", "--out", "gone/x.toml"], "There is no folder "),
    "exists": (["My Photos", "--out", "there.toml"], "there.toml exists.\nGive --out another file, or overwrite"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_and_nothing_written(folder, tmp_path, capsys, case):
    arguments, message = WRONG[case]
    Path("empty").mkdir()
    write_images(tmp_path / "bare")
    table(tmp_path / "alien.csv", [("x.jpg", "A")])
    Path("there.toml").write_text("mine", encoding="utf-8")
    assert run(*arguments) == 1
    assert message in capsys.readouterr().err
    assert [path.name for path in sorted(tmp_path.glob("*.toml"))] == ["there.toml"]
    assert Path("there.toml").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    ("named", "name", "task"),
    [
        ("Été 2024.d", "ete-2024-d", "Ete2024D"),
        ("2024", "2024", "Own2024"),
        ("写真", "own-images", "OwnImages"),
        ("con", "own-images", "OwnImages"),
        ("x" * 80, "x" * 60, "X" + "x" * 59),
        ('a"b', "a-b", "AB"),
    ],
)
def test_names_are_made_of_the_folders(tmp_path, monkeypatch, named, name, task):
    monkeypatch.chdir(tmp_path)
    table(write_images(tmp_path / named) / "t.csv", ROWS)
    assert run(named) == 0
    found = load_preset(f"{name}.toml")
    assert (found.name, found.task, found.captioned.location) == (name, task, named)
    assert found.title == f"Image search in {named}"


@given(st.text())
@example("a\x7fb")
def test_any_text_is_toml(value):
    try:
        assert tomllib.loads(f"x = {text(value)}") == {"x": value}
    except BuildError:
        assert any("\ud800" <= character <= "\udfff" for character in value)


def test_what_is_no_text_is_not_written():
    with pytest.raises(BuildError, match=r"cannot be written: it is not UTF-8"):
        text("\udcff")


def test_secrets_of_an_address_are_not_written_down(folder, tmp_path, monkeypatch, capsys):
    from data_prep import init

    survey = init.look(init.Place("My Photos"))
    monkeypatch.setattr(init, "look", lambda place: survey)
    url = "https://me:secret@host/a/p.zip?X-Signature=secret"
    assert run(url) == 0
    written = Path("p.toml").read_text(encoding="utf-8")
    assert "secret" not in written
    assert load_preset("p.toml").captioned.location == "https://host/a/p.zip"
    assert capsys.readouterr().out.rstrip().endswith(f"build --preset p.toml --captioned '{url}' --distractors '{url}'")
    assert run("s3://bucket/pics", "--out", "q.toml") == 0
    assert load_preset("q.toml").captioned.location == "s3://bucket/pics"
    assert capsys.readouterr().out.rstrip().endswith("build --preset q.toml")


@needs_real
def test_real_photographs_with_a_table_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photographs = real_photographs("captioned")[:40]
    root = tmp_path / "photographs"
    root.mkdir()
    for path in photographs:
        (root / path.name).symlink_to(path)
    with (real_folder() / "captioned" / "flickr_annotations_30k.csv").open(encoding="utf-8", newline="") as lines:
        names = [row["filename"] for row in csv.DictReader(lines)]
    captions = dict(zip(names, real_captions()))
    rows = [(path.name, text) for path in photographs[:30] for text in captions[path.name]]
    table(root / "captions.csv", rows)
    assert run("photographs") == 0
    counts = built("photographs.toml", tmp_path / "out").manifest["notes"]["counts"]
    assert (counts["captioned"], counts["distractors"], counts["queries"]) == (30, 10, len(set(rows)))
