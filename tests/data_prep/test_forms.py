"""Whatever form the sources come in, the evaluation set is the same."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import format_twins
import pytest

from data_prep.build import BuildOptions, build
from data_prep.preset import load_preset
from data_prep.progress import Reporter
from mteb_vehicle_search.eval_set import EvalSet


def build_from(folder: Path, flickr30k: str, imagenet: str) -> EvalSet:
    """Build from twins in the given forms, with the classes that twins exist of; every captioned image is selected."""
    preset = format_twins.write_preset(folder)
    listed = folder / "list.txt"
    names = [row.filename for row in format_twins.captioned_files()]
    listed.write_text("\n".join(names) + "\n", encoding="utf-8")
    options = BuildOptions(
        load_preset(str(preset)),
        folder / "out",
        str(format_twins.write_flickr30k(folder / "flickr30k", flickr30k)),
        str(format_twins.write_imagenet(folder / "imagenet", imagenet)),
        selection=str(listed),
        workers=2,
        allow_rejects=True,
    )
    return build(options, Reporter(quiet=True))


def corpus_digest(evaluation: EvalSet) -> str:
    digest = hashlib.sha256()
    for identifier, jpeg in evaluation.images():
        digest.update(identifier.encode() + jpeg)
    return digest.hexdigest()


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return build_from(tmp_path_factory.mktemp("reference"), "zip", "shards")


def test_reference_holds_every_wanted_twin(reference):
    wanted = sum(1 for f in format_twins.classed_files() if f.class_index in format_twins.VEHICLES)
    counts = reference.manifest["notes"]["counts"]
    assert counts["distractors"] == wanted
    assert counts["captioned"] == len(format_twins.captioned_files())
    texts = {query.text for query in reference.queries()}
    assert '  A man says "stop" ,  twice .\t' in texts


PAIRS = [("folder", "folders"), ("parquet", "tar"), ("zip", "tar_val_folders"), ("zip", "tar_devkit_packed")]


@pytest.mark.parametrize(("flickr30k", "imagenet"), PAIRS)
def test_forms_give_one_content_id_and_the_same_images(reference, tmp_path, flickr30k, imagenet):
    other = build_from(tmp_path, flickr30k, imagenet)
    assert other.content_id == reference.content_id
    assert corpus_digest(other) == corpus_digest(reference)
    assert other.provenance().equals(reference.provenance())


def test_all_forms_are_covered():
    forms = [("zip", "shards"), *PAIRS]
    assert {form for form, _ in forms} == set(format_twins.FLICKR_FORMS)
    assert {form for _, form in forms} == set(format_twins.IMAGENET_FORMS)


def test_stock_mteb_evaluates_a_model_on_the_result(reference, tmp_path, monkeypatch):
    """From the sources' files to a score, as a user goes the way."""
    monkeypatch.setenv("VEHICLE_SEARCH_DATA", str(reference.folder))
    command = "import sys, mteb_vehicle_search as v; v.register(); from mteb.cli.build_cli import main; main()"
    arguments = ["run", "-t", "VehicleImageSearch", "-m", "vehicle-search/tiny-clip", "--output-folder", tmp_path]
    done = subprocess.run(
        [sys.executable, "-c", command, *map(str, arguments)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    results = next(tmp_path.rglob("VehicleImageSearch.json"))
    content = json.loads(results.read_text(encoding="utf-8"))
    assert content["dataset_revision"] == reference.content_id
    # Drawn scenes of the kind that the model was trained on: it must do better than chance (10 of 100 images).
    assert 0.2 < content["scores"]["test"][0]["recall_at_10"] <= 1
