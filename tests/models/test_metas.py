"""The models that the plugin offers, and what a user without the hub is told."""

import hashlib
import math
import os
import re
import subprocess
import sys

import pytest

from mteb_vehicle_search.errors import ModelLoadError
from mteb_vehicle_search.models import TINY_CLIP_FOLDER, TINY_CLIP_REVISION, model_metas
from mteb_vehicle_search.models.checkpoint import Checkpoint

METAS = {meta.name: meta for meta in model_metas()}
FROM_THE_HUB = ["timm/vit_huge_patch14_clip_224.metaclip_altogether", "jinaai/jina-clip-v2"]


def test_the_mission_models_are_offered():
    assert list(METAS) == ["vehicle-search/tiny-clip", *FROM_THE_HUB]
    metaclip, jina = (METAS[name] for name in FROM_THE_HUB)
    assert metaclip.revision.startswith("79ca86b5")
    assert metaclip.revision.endswith("aa11f75")
    assert metaclip.n_parameters == 986_109_441
    assert jina.n_parameters == 865_278_477
    for meta in (metaclip, jina):
        assert re.fullmatch("[0-9a-f]{40}", meta.revision)
        assert meta.license == "cc-by-nc-4.0"


def test_the_embedded_models_metadata_is_that_of_its_weights():
    weights = TINY_CLIP_FOLDER / "open_clip_model.safetensors"
    meta = METAS["vehicle-search/tiny-clip"]
    assert hashlib.sha256(weights.read_bytes()).hexdigest()[:40] == TINY_CLIP_REVISION == meta.revision
    sizes = {key: math.prod(shape) for key, shape in Checkpoint(weights).shapes.items()}
    assert sum(sizes.values()) == meta.n_parameters
    assert sizes["token_embedding.weight"] == meta.n_embedding_parameters


def needed(name):
    """Return what the message to a user without the files must name."""
    files = {"timm": "open_clip_model.safetensors", "jina": "model.safetensors tokenizer.json"}[name[:4]]
    places = [f"https://huggingface.co/{name}", "hf auth login", "HF_HOME", "HF_HUB_OFFLINE"]
    return [name, "cc-by-nc-4.0", f"hf download {name} --revision {METAS[name].revision}", files, *places]


@pytest.mark.parametrize("name", FROM_THE_HUB)
def test_without_the_hub_one_message_names_all_that_is_needed(name):
    with pytest.raises(ModelLoadError) as caught:
        METAS[name].load_model(device="cpu")
    assert [part for part in needed(name) if part not in str(caught.value)] == []


def test_without_the_hub_mteb_run_ends_with_that_message(tmp_path):
    mteb = [sys.executable, "-m", "mteb", "run", "-t", "VehicleImageSearchMini", "--output-folder", str(tmp_path), "-m"]
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "COLUMNS": "400"}
    runs = {
        name: subprocess.Popen([*mteb, name], env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for name in FROM_THE_HUB
    }
    for name, run in runs.items():
        shown, error = run.communicate(timeout=120)
        assert run.returncode == 1
        assert [part for part in needed(name) if part not in error] == []
        assert error.count("is not in the hub cache") == 1
        assert "Traceback" not in error + shown


def test_a_short_revision_is_refused():
    with pytest.raises(ModelLoadError, match="not a full commit hash"):
        METAS[FROM_THE_HUB[0]].loader(FROM_THE_HUB[0], "79ca86b5")
