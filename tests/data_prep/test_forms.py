"""From the sources' files, whatever form they come in, to the same evaluation set and to a score."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
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
]


@pytest.mark.parametrize(("flickr30k", "imagenet"), PAIRS)
def test_forms_give_one_content_id_and_the_same_bytes(home, reference, tmp_path, flickr30k, imagenet):
    assert cli.main([*arguments(home, tmp_path, flickr30k, imagenet), "--quiet"]) == 0
    other = EvalSet.open(tmp_path / "out")
    assert other.content_id == reference.content_id
    assert list(other.images()) == list(reference.images())
    if flickr30k != "parquet_without_splits":  # Which cannot tell the splits.
        assert digest(other.folder) == digest(reference.folder)


def test_all_forms_are_covered():
    forms = [("zip", "shards"), *PAIRS]
    assert {form for form, _ in forms} == set(format_twins.FLICKR_FORMS)
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
