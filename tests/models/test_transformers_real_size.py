"""The models of transformers that are offered by name, at real size with random weights, from a snapshot of the hub."""

import gc
import json
import shutil

import model_folders
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from stand_ins import put_into_hub_cache

from mteb_vehicle_search.models import model_metas
from mteb_vehicle_search.models.checkpoint import parameters_on_meta

pytestmark = pytest.mark.slow
METAS = {meta.name: meta for meta in model_metas()}
CAPTIONS = ["A red car by the SEA.", "two dogs, running on a beach! " * 20]

BASE = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
SO400M = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16}
GIANT = {"hidden_size": 1536, "intermediate_size": 6144, "num_hidden_layers": 40, "num_attention_heads": 16}
WORLDWIDE = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
HUGE = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 16}
GEMMA, T5, QUICK = {"vocab_size": 256_000}, {"vocab_size": 32_000}, {"hidden_act": "quick_gelu"}
# Text tower, vision tower, writer of the small folder whose tokenizer is taken.
SIZES = {
    "google/siglip2-base-patch16-224": ({**BASE, **GEMMA}, {**BASE, "image_size": 224, "patch_size": 16}, "siglip2"),
    "google/siglip2-so400m-patch16-384": (
        {**SO400M, **GEMMA},
        {**SO400M, "image_size": 384, "patch_size": 16},
        "siglip2",
    ),
    "google/siglip2-giant-opt-patch16-384": (
        {**SO400M, **GEMMA, "projection_size": 1536},
        {**GIANT, "image_size": 384, "patch_size": 16},
        "siglip2",
    ),
    "google/siglip-so400m-patch14-384": (
        {**SO400M, **T5},
        {**SO400M, "image_size": 384, "patch_size": 14},
        "siglip",
    ),
    "facebook/metaclip-2-worldwide-huge-quickgelu": (
        {**WORLDWIDE, **QUICK, "vocab_size": 901_629, "bos_token_id": 0, "eos_token_id": 2, "projection_dim": 1024},
        {**HUGE, **QUICK, "image_size": 224, "patch_size": 14, "projection_dim": 1024},
        "metaclip2",
    ),
}


def write(name, folder):
    """Write a checkpoint of a model's real size into `folder`, and return it and the number of its parameters."""
    from transformers import MetaClip2Config, MetaClip2Model, SiglipConfig, SiglipModel

    text, vision, layout = SIZES[name]
    getattr(model_folders, f"write_{layout}")(folder)
    if layout == "metaclip2":
        kind, config = MetaClip2Model, MetaClip2Config(text_config=text, vision_config=vision, projection_dim=1024)
        stated = {**config.to_dict(), "text_config": {**config.to_dict()["text_config"], "projection_dim": 512}}
        preprocessing = model_folders.clip_preprocessing(224)
    else:
        text = {"max_position_embeddings": 64, "projection_size": text["hidden_size"], **text}
        kind, config = SiglipModel, SiglipConfig(text_config=text, vision_config=vision)
        stated = config.to_dict()
        size, resample = vision["image_size"], 2 if layout == "siglip2" else 3
        preprocessing = model_folders.siglip_preprocessing(size, resample)
    model_folders.write_json(folder / "config.json", json.loads(json.dumps(stated, default=str)))
    model_folders.write_json(folder / "preprocessor_config.json", preprocessing)
    with parameters_on_meta():
        shapes = {key: value.shape for key, value in kind(config).named_parameters()}
    torch.manual_seed(0)
    weights = {}
    for key, shape in shapes.items():
        centre = 1.0 if key.endswith("weight") and len(shape) == 1 else 0.0
        weights[key] = torch.empty(shape).normal_(centre, 0.02)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder, sum(shape.numel() for shape in shapes.values())


def images():
    generator = np.random.default_rng(0)
    return [
        Image.fromarray(generator.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in ((160, 213), (500, 375))
    ]


def loader(kind, items):
    return torch.utils.data.DataLoader([{kind: i} for i in items], collate_fn=lambda rows: {kind: [rows[0][kind]]})


def apart(found, wanted):
    return (found - torch.nn.functional.normalize(wanted.float(), dim=-1)).abs().max().item()


@pytest.mark.parametrize("name", SIZES)
@torch.inference_mode()
def test_vectors_are_the_librarys(name, tmp_path, monkeypatch):
    from transformers import AutoImageProcessor, AutoModel

    meta = METAS[name]
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    folder, parameters = write(name, tmp_path / "made")
    assert meta.n_parameters in (None, parameters)
    print(f"\n{name}: {parameters:,} parameters")
    snapshot = put_into_hub_cache(tmp_path, name, meta.revision, folder)
    model = meta.load_model(device="cpu")
    found = model.encode(loader("image", images())), model.encode(loader("text", CAPTIONS))
    tokens, mask = model.tokenise(CAPTIONS)
    assert found[0].shape == found[1].shape == (2, meta.embed_dim)
    assert model.describe()["context_tokens"] == meta.max_tokens
    del model
    gc.collect()
    own = AutoModel.from_pretrained(snapshot, dtype=torch.float32).eval()
    pixels = AutoImageProcessor.from_pretrained(snapshot, backend="pil")(images(), return_tensors="pt")["pixel_values"]
    assert apart(found[0], own.get_image_features(pixel_values=pixels).pooler_output) <= 2e-6
    masked = {"attention_mask": mask} if "metaclip" in name else {}
    assert apart(found[1], own.get_text_features(input_ids=tokens, **masked).pooler_output) <= 2e-6
    del own
    shutil.rmtree(tmp_path)
