"""The models that the plugin offers, and what a user without the hub is told."""

import hashlib
import inspect
import json
import math
import os
import re
import subprocess
import sys

import open_clip
import pytest
from mteb.models.model_meta import ScoringFunction
from open_clip.model import CLIP, CustomTextCLIP

from mteb_vehicle_search.errors import ModelLoadError
from mteb_vehicle_search.models import (
    TINY_CLIP_FOLDER,
    TINY_CLIP_REVISION,
    metaclip_1,
    metaclip_1_2,
    model_metas,
    open_clip_meta,
    pe_core_bigg,
    pe_core_l,
)
from mteb_vehicle_search.models.checkpoint import Checkpoint, parameters_on_meta

METAS = {meta.name: meta for meta in model_metas()}
MISSION = ["timm/vit_huge_patch14_clip_224.metaclip_altogether", "jinaai/jina-clip-v2"]
SIGLIPS = [name for name in METAS if name.startswith("google/")]
TRANSFORMERS = [*SIGLIPS, "facebook/metaclip-2-worldwide-huge-quickgelu"]
REPLACED = {"jinaai/jina-clip-v2", *SIGLIPS}
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


def test_mteb_knows_none_of_our_other_models_itself():
    from mteb.models.model_implementations import MODEL_REGISTRY

    for meta in model_metas():
        if meta.name not in REPLACED:
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
    # Which files the others have, the hub would say; pickles are none of them.
    files = "model.safetensors tokenizer.json" if "jina" in name else "--include '*.safetensors' --include '*.json'"
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
        shown, error = run.communicate(timeout=600)
        assert run.returncode == 1
        assert [part for part in needed(name) if part not in error] == []
        assert error.count("is not in the hub cache") == 1
        assert "Traceback" not in error + shown


def test_a_short_revision_is_refused():
    with pytest.raises(ModelLoadError, match="not a full commit hash"):
        METAS[FROM_THE_HUB[0]].loader(FROM_THE_HUB[0], "79ca86b5")


CITED = {
    "xu2024metaclip": "Demystifying {CLIP} Data",
    "xu2024altogether": "Altogether: Image Captioning via Re-aligning Alt-text",
    "koukounas2024jinaclipv2": "jina-clip-v2: Multilingual Multimodal Embeddings for Text and Images",
    "tschannen2025siglip2": "{SigLIP} 2: Multilingual Vision-Language Encoders with Improved Semantic Understanding,",
    "zhai2023sigmoid": "Sigmoid Loss for Language Image Pre-Training",
    "chuang2025metaclip2": "{Meta CLIP} 2: A Worldwide Scaling Recipe",
    "bolya2025perception": "Perception Encoder: The best visual embeddings are not at the output of the network",
}
META_CLIP_CODE = "https://github.com/facebookresearch/MetaCLIP"
BIG_VISION = "https://github.com/google-research/big_vision"
PERCEPTION_CODE = "https://github.com/facebookresearch/perception_models"


@pytest.mark.parametrize(
    ("name", "revision", "released", "licence", "max_tokens", "code", "cited"),
    [
        (
            "timm/vit_huge_patch14_clip_224.metaclip_2pt5b",
            "76809c3262ef519f838f564e6f1b34ad22c49914",
            *("2023-09-28", "cc-by-nc-4.0", 77, META_CLIP_CODE, "xu2024metaclip"),
        ),
        (
            "timm/vit_huge_patch14_clip_224.metaclip_altogether",
            "79ca86b54e97d41bd9f555bbb272bb1dcaa11f75",
            *("2024-12-10", "cc-by-nc-4.0", 77, META_CLIP_CODE, "xu2024altogether"),
        ),
        (
            "jinaai/jina-clip-v2",
            "e10d47f5691d0454a0fb5d13f46f2199b74cb436",
            *("2024-10-09", "cc-by-nc-4.0", 512, None, "koukounas2024jinaclipv2"),
        ),
        (
            "timm/PE-Core-L-14-336",
            "8eff41b3f687e50a323662c2dda5eb3588c6dd35",
            *("2025-04-17", "apache-2.0", 32, PERCEPTION_CODE, "bolya2025perception"),
        ),
        (
            "timm/PE-Core-bigG-14-448",
            "17aa0c25addfa14198fa2ff73d845a22d433432e",
            *("2025-04-17", "apache-2.0", 72, PERCEPTION_CODE, "bolya2025perception"),
        ),
        (
            "google/siglip2-base-patch16-224",
            "75de2d55ec2d0b4efc50b3e9ad70dba96a7b2fa2",
            *("2025-02-17", "apache-2.0", 64, BIG_VISION, "tschannen2025siglip2"),
        ),
        (
            "google/siglip2-so400m-patch16-384",
            "dd658faac399427308559e2c3ac1e99cbe43845d",
            *("2025-02-17", "apache-2.0", 64, BIG_VISION, "tschannen2025siglip2"),
        ),
        (
            "google/siglip2-giant-opt-patch16-384",
            "a713301b217d38485fb2204c808367d10bc3cc40",
            *("2025-02-17", "apache-2.0", 64, BIG_VISION, "tschannen2025siglip2"),
        ),
        (
            "google/siglip-so400m-patch14-384",
            "9fdffc58afc957d1a03a25b10dba0329ab15c2a3",
            *("2024-01-08", "apache-2.0", 64, BIG_VISION, "zhai2023sigmoid"),
        ),
        (
            "facebook/metaclip-2-worldwide-huge-quickgelu",
            "2431b607fc8e05dd43b73797ba1a7a042514bcf4",
            *("None", "cc-by-nc-4.0", 77, META_CLIP_CODE, "chuang2025metaclip2"),
        ),
    ],
)
def test_what_the_hub_says_of_each_model_is_in_its_metadata(name, revision, released, licence, max_tokens, code, cited):
    meta = METAS[name]
    assert (meta.revision, str(meta.release_date), meta.license) == (revision, released, licence)
    assert (meta.max_tokens, meta.public_training_code, meta.reference) == (
        max_tokens,
        code,
        f"https://huggingface.co/{name}",
    )
    assert f"{{{cited}," in meta.citation
    assert f"title = {{{CITED[cited]}" in meta.citation
    assert meta.citation.count("{") == meta.citation.count("}")
    by_transformers = "jina" in name or name in TRANSFORMERS
    assert meta.framework == ["PyTorch", *(["Transformers"] if by_transformers else []), "safetensors"]
    assert meta.training_datasets is None
    assert meta.public_training_data is None


@pytest.mark.parametrize("name", METAS)
def test_every_model_searches_images_by_english_texts_by_the_cosine(name):
    meta = METAS[name]
    assert meta.languages == ["eng-Latn"]
    assert set(meta.modalities) == {"image", "text"}
    assert meta.similarity_fn_name == ScoringFunction.COSINE
    assert meta.open_weights is True
    assert meta.use_instructions is False
    assert meta.model_type == ["dense"]


@pytest.mark.parametrize("name", FROM_THE_HUB)
def test_the_memory_of_a_model_is_that_of_its_file(name):
    meta = METAS[name]
    if meta.n_parameters is None:
        assert (name, meta.memory_usage_mb) == (TRANSFORMERS[-1], None)
        return
    # Jina's is in fp16, the others' in fp32.
    size_mib = meta.n_parameters * (2 if "jina" in name else 4) / 2**20
    assert meta.memory_usage_mb == pytest.approx(size_mib, abs=0.51)
    assert meta.memory_usage_mb == round(meta.memory_usage_mb)


def test_models_are_offered_in_the_order_of_the_documentation():
    assert [meta.name for meta in model_metas()] == [
        "vehicle-search/tiny-clip",
        "timm/vit_huge_patch14_clip_224.metaclip_2pt5b",
        "timm/vit_huge_patch14_clip_224.metaclip_altogether",
        "jinaai/jina-clip-v2",
        "timm/PE-Core-L-14-336",
        "timm/PE-Core-bigG-14-448",
        "google/siglip2-base-patch16-224",
        "google/siglip2-so400m-patch16-384",
        "google/siglip2-giant-opt-patch16-384",
        "google/siglip-so400m-patch14-384",
        "facebook/metaclip-2-worldwide-huge-quickgelu",
    ]


def test_metaclip_2_is_held_to_the_activation_that_it_was_trained_with():
    assert METAS["facebook/metaclip-2-worldwide-huge-quickgelu"].loader_kwargs == {"hidden_act": "quick_gelu"}


@pytest.mark.parametrize("name", SIGLIPS)
def test_the_metadata_of_the_siglips_is_what_mteb_found(name):
    from mteb.models.model_implementations import siglip_models

    (stock,) = [value for value in vars(siglip_models).values() if getattr(value, "name", None) == name]
    fields = ("revision", "n_parameters", "n_embedding_parameters", "embed_dim", "max_tokens", "license", "reference")
    assert {field: getattr(METAS[name], field) for field in fields} == {
        field: getattr(stock, field) for field in fields
    }
    # mteb says that none of the evaluation's data were trained on; WebLI is not published.
    assert METAS[name].training_datasets is None


def test_jinas_columns_may_be_cut_to_those_that_were_trained():
    meta = METAS["jinaai/jina-clip-v2"]
    assert meta.embed_dim == [1024, 768, 512, 256, 128, 64, 32]
    assert meta.n_embedding_parameters == 256_002_048


def test_what_is_said_of_the_embedded_model_is_what_ships_with_the_package():
    meta = METAS["vehicle-search/tiny-clip"]
    config = json.loads((TINY_CLIP_FOLDER / "open_clip_config.json").read_text())["model_cfg"]
    assert (meta.embed_dim, meta.max_tokens) == (config["embed_dim"], config["text_cfg"]["context_length"])
    # In fp32, which is twice its file.
    assert meta.memory_usage_mb == math.ceil(meta.n_parameters * 4 / 2**20)
    # Trained on what a script of ours draws: nothing in it is anybody's photograph.
    assert (meta.license, meta.reference, meta.training_datasets) == ("apache-2.0", None, set())
    assert (TINY_CLIP_FOLDER.parents[2] / meta.public_training_data).is_dir()
    assert (meta.framework, meta.citation, meta.public_training_code) == (["PyTorch"], None, None)
    assert str(meta.release_date) == "2026-11-25"
    model = meta.load_model(device="cpu")
    assert (model.found.files.local, model.bpe_file) == (True, "bpe_vocabulary.txt.gz")
    assert (model.model_name, model.revision) == (meta.name, TINY_CLIP_REVISION)


def test_an_own_models_metadata_is_what_is_said_and_else_unknown():
    meta = open_clip_meta("org/clip", "0" * 40, n_parameters=1_000_000, embed_dim=64)
    unknown = ("release_date", "license", "citation", "n_embedding_parameters", "training_datasets")
    unknown += ("public_training_code", "public_training_data")
    assert {name: getattr(meta, name) for name in unknown} == dict.fromkeys(unknown)
    assert (meta.name, meta.revision, meta.n_parameters, meta.embed_dim) == ("org/clip", "0" * 40, 1_000_000, 64)
    assert (meta.max_tokens, meta.memory_usage_mb, meta.loader_kwargs) == (77, 4, {"quick_gelu": False})
    meta = open_clip_meta(
        "org/clip", "0" * 40, n_parameters=1, embed_dim=64, quick_gelu=True, max_tokens=32, license="mit"
    )
    assert (meta.max_tokens, meta.license, meta.loader_kwargs) == (32, "mit", {"quick_gelu": True})
    assert meta.memory_usage_mb == 0


@pytest.mark.parametrize("name", METAS)
def test_a_loader_passes_everything_on(monkeypatch, name):
    from mteb_vehicle_search.models import jina_clip, open_clip, transformers_dual

    found = []
    kinds = {"OpenClipEncoder": open_clip, "JinaClipEncoder": jina_clip, "TransformersEncoder": transformers_dual}
    for kind, owner in kinds.items():
        monkeypatch.setattr(owner, kind, lambda *args, kind=kind, **given: found.append((kind, args, given)) or "made")
    loader = METAS[name].loader
    assert loader(name, "0123", "cuda:1", folder="somewhere", other=1) == "made"
    kind, args, given = found.pop()
    wanted = "JinaClipEncoder" if "jina" in name else "OpenClipEncoder"
    assert kind == ("TransformersEncoder" if name in TRANSFORMERS else wanted)
    assert args == (name, "0123", "cuda:1")
    own = {"bpe_file": "bpe_vocabulary.txt.gz"} if "tiny" in name else {}
    if name in TRANSFORMERS:
        own = {"switch": "VEHICLE_SEARCH_STOCK_SIGLIP" if name in SIGLIPS else ""}
    # What the caller says wins.
    assert given == {**own, "folder": "somewhere", "licence": METAS[name].license, "other": 1}
    loader("org/name")
    own |= {"folder": TINY_CLIP_FOLDER} if "tiny" in name else {}
    own |= {"switch": ""} if name in TRANSFORMERS else {}
    assert found == [(kind, ("org/name", None, None), {**own, "licence": ""})]
