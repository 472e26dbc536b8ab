"""From the sources' files, whatever form they come in, to the same evaluation set and to a score."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import format_twins
import pytest

from data_prep import cli
from mteb_vehicle_search.eval_set import EvalSet


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a preset and its classifier."""
    folder = tmp_path_factory.mktemp("home")
    format_twins.write_classifier(folder / "classifier")
    format_twins.write_preset(folder, "classifier")
    return folder


def arguments(home: Path, data: Path, flickr30k: str, imagenet: str) -> list[str]:
    """Write the sources in the given forms; return what builds a set from them at `data / "out"`."""
    flickr30k_folder = format_twins.write_flickr30k(data / "flickr30k", flickr30k)
    imagenet_folder = format_twins.write_imagenet(data / "imagenet", imagenet)
    sources = ["--flickr30k", str(flickr30k_folder), "--imagenet", str(imagenet_folder)]
    if flickr30k in format_twins.FLICKR_COPIES:
        sources += ["--captions", str(flickr30k_folder / "captions" / format_twins.CSV_NAME)]
    return ["build", "--preset", str(home / "twins.toml"), *sources, "--out", str(data / "out"), "--device", "cpu"]


def run(*command: object, **environment: str) -> str:
    """Run one of the installed commands; return what it printed."""
    path = Path(sys.executable).parent / str(command[0])
    done = subprocess.run(
        [path, *map(str, command[1:])],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "COLUMNS": "80", **environment},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def digest(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def reference(home, tmp_path_factory):
    """Built by the installed command."""
    data = tmp_path_factory.mktemp("reference")
    shown = run("vehicle-search-data", *arguments(home, data, "zip", "shards"))
    assert "Verified; at" in shown
    assert f"VEHICLE_SEARCH_DATA={data / 'out'} mteb run -t Twins -m MODEL" in shown
    return EvalSet.open(data / "out")


def test_reference_holds_every_wanted_twin_and_the_selected_half(reference):
    wanted = sum(1 for f in format_twins.classed_files() if f.class_index in format_twins.VEHICLES)
    counts = reference.manifest["notes"]["counts"]
    assert counts["distractors"] == wanted
    assert counts["captioned"] == len(format_twins.captioned_files()) // 2
    assert counts["rejected"] == 0
    scores = [row["vehicle_score"] for row in reference.provenance().to_pylist() if row["captioned"]]
    assert all(0 < score < 1 for score in scores)


PAIRS = [
    ("folder", "folders"),
    ("parquet", "tar"),
    ("parquet_without_splits", "cache"),
    ("zip", "tar_val_folders"),
    ("folder", "tar_val_flat"),
    ("zip", "tar_devkit_packed"),
    ("zip", "kaggle"),
    ("folder", "folders_val_flat"),
    ("uiuc_tar", "kaggle_zip"),
    ("uiuc_tar_gz", "webdataset"),
    ("uiuc_folder", "folders"),
    ("kaggle", "kaggle"),
    ("kaggle_captions", "folders"),
]


@pytest.mark.parametrize(("flickr30k", "imagenet"), PAIRS)
def test_forms_give_one_content_id_and_the_same_bytes(home, reference, tmp_path, flickr30k, imagenet):
    assert cli.main([*arguments(home, tmp_path, flickr30k, imagenet), "--quiet"]) == 0
    other = EvalSet.open(tmp_path / "out")
    assert other.content_id == reference.content_id
    assert list(other.images()) == list(reference.images())
    # What was passed over is of the form, such as other classes among the rows of a shard.
    mine, its = (dict(each.manifest["notes"]) for each in (other, reference))
    passed = [notes.pop("passed_over") for notes in (mine, its)]
    assert passed[0]["captioned"]["not selected"] == passed[1]["captioned"]["not selected"] == 20
    if flickr30k != "parquet_without_splits":  # Which cannot tell the splits.
        without_notes = [{**each.manifest, "notes": notes} for each, notes in ((other, mine), (reference, its))]
        assert without_notes[0] == without_notes[1]
        files = [digest(each.folder) for each in (other, reference)]
        assert all(found.pop("manifest.json") for found in files)
        assert files[0] == files[1]


TARS = ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar")


@pytest.fixture(scope="module")
def tars(tmp_path_factory):
    """The twins' tars."""
    return format_twins.write_imagenet(tmp_path_factory.mktemp("tars"), "tar")


@pytest.mark.parametrize("place", range(12))
@pytest.mark.parametrize("damage", ["zeroed", "garbled", "cut", "empty"])
@pytest.mark.parametrize("name", TARS)
def test_a_damaged_tar_never_builds_in_silence(home, tars, tmp_path, capsys, name, damage, place):
    """Where a member begins and in its middle, the inner tars and their members among them."""
    shutil.copytree(tars, tmp_path / "imagenet")
    spoil(tmp_path / "imagenet" / name, damage, place)
    format_twins.write_flickr30k(tmp_path / "flickr30k", "folder", format_twins.captioned_files(2))
    (tmp_path / "list.txt").write_text("".join(f"{file.filename}\n" for file in format_twins.captioned_files(2)))
    options = ["build", "--preset", str(home / "twins.toml"), "--selection", str(tmp_path / "list.txt"), "--quiet"]
    options += ["--flickr30k", str(tmp_path / "flickr30k"), "--imagenet", str(tmp_path / "imagenet")]
    status = cli.main([*options, "--out", str(tmp_path / "out"), "--allow-rejects"])
    told = capsys.readouterr()
    if status:
        assert "error: " in told.err
        return
    # Nothing was lost but what stands in the table of rejects, and images of classes that nobody wants.
    built = EvalSet.open(tmp_path / "out")
    rejected = {row["id"] for row in built.rejected().to_pylist()}
    assert {image for image in built.corpus_ids() if image.startswith("imagenet")} | rejected == {
        f"imagenet/{file.split}/{file.stem}"
        for file in format_twins.classed_files()
        if file.class_index in format_twins.VEHICLES
    }
    for identifier in rejected:
        assert identifier in told.out


def spoil(path: Path, damage: str, place: int) -> None:
    """Damage a tar at one of twelve places: a header for even ones, the middle of what follows it for odd ones."""
    with tarfile.open(path) as tar:
        found = tar.getmembers()
    member = found[len(found) * (place // 2 + 1) // 7]
    at = member.offset if place % 2 == 0 else member.offset_data + member.size // 2 // 512 * 512
    content = bytearray(path.read_bytes())
    if damage == "cut":
        del content[at:]
    elif damage == "zeroed":
        content[at : at + 2048] = bytes(2048)
    elif damage == "garbled":
        content[at : at + 2048] = bytes(byte ^ 0x55 for byte in content[at : at + 2048])
    else:
        # A member without bytes, as where a disk was full.
        info = tarfile.TarInfo(member.name)
        following = found[found.index(member) + 1].offset if member is not found[-1] else tar.offset
        content[member.offset : following] = info.tobuf()
    path.write_bytes(content)


def test_all_forms_are_covered():
    forms = [("zip", "shards"), *PAIRS]
    assert {form for form, _ in forms} == {*format_twins.FLICKR_FORMS, *format_twins.FLICKR_COPIES}
    assert {form for _, form in forms} == set(format_twins.IMAGENET_FORMS)


def test_a_second_build_gives_the_same_bytes(home, reference, tmp_path):
    """In another folder and process, from a copy of the same files, with another number of workers."""
    source = reference.folder.parent
    for name in ("flickr30k", "imagenet"):
        shutil.copytree(source / name, tmp_path / name)
    again = ["build", "--preset", home / "twins.toml", "--device", "cpu", "--workers", "1", "--quiet"]
    again += ["--flickr30k", tmp_path / "flickr30k", "--imagenet", tmp_path / "imagenet", "--out", tmp_path / "out"]
    assert cli.main(list(map(str, again))) == 0
    assert digest(tmp_path / "out") == digest(reference.folder)


def test_mteb_evaluates_a_model_on_the_result(reference, tmp_path):
    """The commands as a user types them."""
    assert "No violation." in run("vehicle-search-data", "verify", reference.folder, "--quiet")
    command = ("mteb", "run", "-t", "Twins", "-m", "vehicle-search/tiny-clip", "--output-folder", tmp_path)
    run(*command, VEHICLE_SEARCH_DATA=str(reference.folder))
    results = next(tmp_path.rglob("Twins.json"))
    content = json.loads(results.read_text(encoding="utf-8"))
    assert content["dataset_revision"] == reference.content_id
    # Drawn scenes of the kind that the model was trained on: it must do better than chance (10 of 80 images).
    assert 0.2 < content["scores"]["test"][0]["recall_at_10"] <= 1
