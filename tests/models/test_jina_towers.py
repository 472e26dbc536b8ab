"""Jina CLIP v2's towers against vectors of its reference implementation, and the errors of a damaged checkpoint."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from stand_ins import tiny_jina

from mteb_vehicle_search.errors import ModelLoadError
from mteb_vehicle_search.models import jina_clip
from mteb_vehicle_search.models.jina_towers import load_towers

FIXTURE = Path(__file__).parent.parent / "fixtures" / "jina_clip_v2_tiny"
WEIGHTS = FIXTURE / "model.safetensors"
TOLERANCE = 1e-5
INPUTS = load_file(FIXTURE / "inputs.safetensors")
EXPECTED = load_file(FIXTURE / "expected.safetensors")


def unit(vectors):
    return torch.nn.functional.normalize(vectors.float(), dim=-1)


def config_of(folder):
    return json.loads((folder / "config.json").read_text())


@torch.inference_mode()
def text_vectors(text, mask=None, pool=None):
    mask = INPUTS["attention_mask"] if mask is None else mask
    hidden = text(input_ids=INPUTS["input_ids"], attention_mask=mask).last_hidden_state
    if pool:
        return pool(hidden)
    weights = mask.unsqueeze(-1).float()
    return (hidden * weights).sum(1) / weights.sum(1)


@torch.inference_mode()
def image_vectors(vision):
    return vision(INPUTS["pixel_values"])


def error_of(found, name):
    return (unit(found) - EXPECTED[f"{name}_normalized"]).abs().max().item()


@pytest.fixture
def towers():
    return load_towers(WEIGHTS, config_of(FIXTURE), torch.float32, published=False)


def test_all_vectors_are_those_of_the_reference(towers):
    vision, text, scale = towers
    images, texts = image_vectors(vision), text_vectors(text)
    assert error_of(images, "image_embeds") <= TOLERANCE
    assert error_of(texts, "text_embeds") <= TOLERANCE
    assert (images - EXPECTED["image_embeds"]).abs().max() <= 5e-5
    assert (texts - EXPECTED["text_embeds"]).abs().max() <= 5e-5
    logits = unit(images) @ unit(texts).T * scale
    torch.testing.assert_close(logits, EXPECTED["logits_per_image"], atol=1e-3, rtol=1e-5)
    torch.testing.assert_close(logits.T, EXPECTED["logits_per_text"], atol=1e-3, rtol=1e-5)


def test_every_adapter_of_five_is_the_references():
    folder = FIXTURE / "five_tasks"
    config = config_of(folder)
    expected = load_file(folder / "expected.safetensors")
    names = config["text_config"]["hf_model_config_kwargs"]["lora_adaptations"]
    assert len(names) == 5
    for index, name in enumerate(names):
        _, text, _ = load_towers(folder / "model.safetensors", config, torch.float32, published=False, task=name)
        wanted = unit(expected["text_embeds_by_task"][index])
        assert (unit(text_vectors(text)) - wanted).abs().max() <= TOLERANCE, name
    _, text, _ = load_towers(folder / "model.safetensors", config, torch.float32, published=False)
    assert (unit(text_vectors(text)) - unit(expected["text_embeds"])).abs().max() <= TOLERANCE


def _no_vision_rope(vision, text):
    vision.rope = None


def _swapped_gates(vision, text):
    for block in vision.blocks:
        block.mlp.fc1_g, block.mlp.fc1_x = block.mlp.fc1_x, block.mlp.fc1_g


def _no_sub_ln(vision, text):
    for block in vision.blocks:
        block.attn.norm = torch.nn.Identity()


def _vision_eps(vision, text):
    for module in vision.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = 1e-5


def _no_q_bias(vision, text):
    for block in vision.blocks:
        block.attn.q_proj.bias.zero_()


def _no_position(vision, text):
    vision.pos_embed.zero_()


def _text_eps(vision, text):
    for module in text.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = 1e-12


def _tanh_gelu(vision, text):
    for layer in text.layers:
        layer.mlp.activation_fn = torch.nn.GELU(approximate="tanh")


def _theta(vision, text):
    dim = 2 * len(text.rotary_emb.inv_freq)
    text.rotary_emb.inv_freq = 10_000.0 ** -(torch.arange(0, dim, 2) / dim)


def _swapped_norms(vision, text):
    for layer in text.layers:
        layer.post_attention_layernorm, layer.post_mlp_layernorm = (
            layer.post_mlp_layernorm,
            layer.post_attention_layernorm,
        )


def _kqv(vision, text):
    for layer in text.layers:
        layer.self_attn.q_proj, layer.self_attn.k_proj = layer.self_attn.k_proj, layer.self_attn.q_proj
        layer.self_attn.k_proj, layer.self_attn.v_proj = layer.self_attn.v_proj, layer.self_attn.k_proj


@pytest.mark.parametrize(
    "spoil",
    [_no_vision_rope, _swapped_gates, _no_sub_ln, _vision_eps, _no_q_bias, _no_position],
    ids=lambda f: f.__name__,
)
def test_wrong_image_towers_are_told_apart(towers, spoil):
    vision, text, _ = towers
    with torch.inference_mode():
        spoil(vision, text)
    assert error_of(image_vectors(vision), "image_embeds") > TOLERANCE


@pytest.mark.parametrize("spoil", [_text_eps, _tanh_gelu, _theta, _swapped_norms, _kqv], ids=lambda f: f.__name__)
def test_wrong_text_towers_are_told_apart(towers, spoil):
    vision, text, _ = towers
    with torch.inference_mode():
        spoil(vision, text)
    assert error_of(text_vectors(text), "text_embeds") > TOLERANCE


def test_wrong_poolings_are_told_apart(towers):
    text = towers[1]
    ones = torch.ones_like(INPUTS["attention_mask"])
    for found in (
        text_vectors(text, pool=lambda h: h[:, 0]),
        text_vectors(text, pool=lambda h: h.mean(1)),
        text_vectors(text, mask=ones),
    ):
        assert error_of(found, "text_embeds") > TOLERANCE


@pytest.mark.parametrize("alpha", [0, 1, 16])
def test_a_wrong_adapter_scale_is_told_apart(alpha):
    config = config_of(FIXTURE)
    config["text_config"]["hf_model_config_kwargs"]["lora_alpha"] = alpha
    _, text, _ = load_towers(WEIGHTS, config, torch.float32, published=False)
    found = text_vectors(text)
    assert error_of(found, "text_embeds") > TOLERANCE
    if alpha == 0:
        assert error_of(found, "text_embeds") == pytest.approx(
            (unit(EXPECTED["wrong_nolora_text"]) - EXPECTED["text_embeds_normalized"]).abs().max().item(), abs=1e-5
        )


def test_another_rotary_base_is_refused(monkeypatch):
    from transformers.models.jina_embeddings_v3 import modeling_jina_embeddings_v3 as modeling

    def other(config, **kwargs):
        return 10_000.0 ** -(torch.arange(0, 16, 2) / 16), 1.0

    monkeypatch.setattr(
        modeling.JinaEmbeddingsV3RotaryEmbedding, "compute_default_rope_parameters", staticmethod(other)
    )
    with pytest.raises(ModelLoadError, match="rotary base"):
        load_towers(WEIGHTS, config_of(FIXTURE), torch.float32, published=False)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_close(dtype):
    vision, text, _ = load_towers(WEIGHTS, config_of(FIXTURE), dtype, published=False)
    with torch.inference_mode():
        images = unit(vision(INPUTS["pixel_values"].to(dtype)))
    texts = unit(text_vectors(text))
    for found, name in ((images, "image_embeds_normalized"), (texts, "text_embeds_normalized")):
        assert (found * EXPECTED[name]).sum(-1).min() >= 0.9999


@pytest.fixture
def copy(tmp_path):
    return tiny_jina(tmp_path / "model")


def _resave(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


KEY = "text_model.transformer.roberta.emb_ln.bias"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop(KEY), f"{KEY} is missing"),
        (lambda w: w.update(extra=torch.zeros(1)), "extra is unknown"),
        (lambda w: w.update({KEY: torch.zeros(3)}), rf"{KEY} has shape \[3\], not \[64\]"),
    ],
)
def test_a_checkpoint_of_another_layout_is_refused(copy, change, message):
    _resave(copy, change)
    with pytest.raises(ModelLoadError, match=message):
        load_towers(copy / "model.safetensors", config_of(copy), torch.float32, published=False)


def test_a_truncated_checkpoint_is_refused(copy):
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelLoadError, match="truncated"):
        load_towers(copy / "model.safetensors", config_of(copy), torch.float32, published=False)


def test_another_size_than_the_published_one_is_refused(copy):
    with pytest.raises(ModelLoadError, match="865,278,477"):
        load_towers(copy / "model.safetensors", config_of(copy), torch.float32, published=True)


def test_loading_needs_neither_pickle_nor_remote_code(monkeypatch):
    import pickle

    def forbidden(*args, **kwargs):
        raise AssertionError("pickle")

    for owner, name in ((pickle, "load"), (pickle, "loads"), (torch, "load")):
        monkeypatch.setattr(owner, name, forbidden)
    load_towers(WEIGHTS, config_of(FIXTURE), torch.float32, published=False)
    sources = "".join(p.read_text() for p in Path(jina_clip.__file__).parent.glob("*.py"))
    assert not re.search(r"trust_remote_code|import pickle|torch\.load\(", sources)
