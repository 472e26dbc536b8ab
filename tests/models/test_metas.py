"""The models that the plugin offers, and what a user without the hub is told."""

import hashlib
import inspect
import math
import os
import re
import subprocess
import sys

import open_clip
import pytest
from open_clip.model import CLIP, CustomTextCLIP

from mteb_vehicle_search.errors import ModelLoadError
from mteb_vehicle_search.models import (
    TINY_CLIP_FOLDER,
    TINY_CLIP_REVISION,
    metaclip_1,
    metaclip_1_2,
    model_metas,
    pe_core_bigg,
    pe_core_l,
)
from mteb_vehicle_search.models.checkpoint import Checkpoint, parameters_on_meta

METAS = {meta.name: meta for meta in model_metas()}
MISSION = ["timm/vit_huge_patch14_clip_224.metaclip_altogether", "jinaai/jina-clip-v2"]
FROM_THE_HUB = [name for name in METAS if name != "vehicle-search/tiny-clip"]
OPEN_CLIP = {
    "ViT-H-14-quickgelu": metaclip_1,
    "ViT-H-14": metaclip_1_2,
    "PE-Core-L-14-336": pe_core_l,
    "PE-Core-bigG-14-448": pe_core_bigg,
}


def test_the_mission_models_are_offered():
    assert set(MISSION) < set(METAS)
    metaclip, jina = (METAS[name] for name in MISSION)
    assert metaclip.revision.startswith("79ca86b5")
    assert metaclip.revision.endswith("aa11f75")
    assert metaclip.n_parameters == 986_109_441
    assert jina.n_parameters == 865_278_477
    assert metaclip.license == jina.license == "cc-by-nc-4.0"
    for meta in (METAS[name] for name in FROM_THE_HUB):
        assert re.fullmatch("[0-9a-f]{40}", meta.revision)
        assert meta.training_datasets is None


def test_mteb_knows_none_of_our_open_clip_models_itself():
    from mteb.models.model_implementations import MODEL_REGISTRY

    for meta in model_metas():
        if meta.name != "jinaai/jina-clip-v2":
            assert MODEL_REGISTRY[meta.name].loader.__module__ == "mteb_vehicle_search.models"


def test_adding_an_open_clip_model_takes_twelve_lines():
    for entry in OPEN_CLIP.values():
        assert len(inspect.getsource(entry).rstrip().splitlines()) <= 12


@pytest.mark.parametrize("name", OPEN_CLIP)
def test_an_open_clip_models_metadata_is_that_of_open_clips_own_table(name):
    meta, config = OPEN_CLIP[name](), open_clip.get_model_config(name)
    (tag,) = [
        tag for tag in open_clip.pretrained._PRETRAINED[name].values() if tag.get("hf_hub", "").rstrip("/") == meta.name
    ]
    assert meta.loader_kwargs == {"quick_gelu": config.get("quick_gelu", False)}
    assert tag.get("quick_gelu", False) == config.get("quick_gelu", False)
    assert (meta.embed_dim, meta.max_tokens) == (config["embed_dim"], config["text_cfg"]["context_length"])
    kind = CustomTextCLIP if config.pop("custom_text", False) else CLIP
    with parameters_on_meta():
        sizes = {key: value.numel() for key, value in kind(**config).named_parameters()}
    assert meta.n_parameters == sum(sizes.values())
    assert meta.n_embedding_parameters == next(size for key, size in sizes.items() if "token_embedding" in key)


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
    return [name, METAS[name].license, f"hf download {name} --revision {METAS[name].revision}", files, *places]


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
        for name in MISSION
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
