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
from mteb_vehicle_search.models import jina_layout as layout
from mteb_vehicle_search.models.checkpoint import Checkpoint, parameters_on_meta
from mteb_vehicle_search.models.jina_towers import ROPE_THETA, adapter_of, build_text, build_vision, load_towers

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
    others = Path(jina_clip.__file__).with_name("trainer_checkpoint.py").read_text()
    sources = sources.replace(others, "")  # Whose affair it is, in a process of its own.
    assert not re.search(r"trust_remote_code(?!=False)|import pickle|torch\.load\(", sources)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_weights_are_in_the_precision_and_position_tables_in_fp32(dtype):
    vision, text, scale = load_towers(WEIGHTS, config_of(FIXTURE), dtype, published=False)
    for tower in (vision, text):
        assert {value.dtype for value in tower.parameters()} == {dtype}
        assert not any(part.training for part in tower.modules())
    tables = {name: value for tower in (vision, text) for name, value in tower.named_buffers()}
    assert tables
    assert {value.dtype for value in tables.values() if value.is_floating_point()} == {torch.float32}
    dim = 2 * len(text.rotary_emb.inv_freq)
    torch.testing.assert_close(
        text.rotary_emb.inv_freq, 20_000.0 ** -(torch.arange(0, dim, 2) / dim), rtol=1e-6, atol=0
    )
    # The stored number is a logarithm.
    assert scale == pytest.approx(load_file(WEIGHTS)["logit_scale"].float().exp().item())


def text_config(**changed):
    settings = {
        "lora_adaptations": ["query", "passage", "matching"],
        "lora_rank": 4,
        "lora_alpha": 6,
    }
    return {"default_lora_task": "passage", "hf_model_config_kwargs": {**settings, **changed}}


@pytest.mark.parametrize(("task", "index"), [(None, 1), ("query", 0), ("passage", 1), ("matching", 2)])
def test_an_adapter_is_the_asked_for_one_at_alpha_over_rank(task, index):
    assert adapter_of(text_config(), task) == (index, 3, 4, 1.5)
    assert adapter_of(text_config(lora_rank="2", lora_alpha="1"), task) == (index, 3, 2, 0.5)
    if task is None:
        assert adapter_of(text_config()) == adapter_of(text_config(), None)


@pytest.mark.parametrize("task", ["other", None])
def test_an_adapter_that_is_not_there_is_refused_with_those_that_are(task):
    config = {**text_config(), "default_lora_task": "other"}
    with pytest.raises(ModelLoadError, match="no adapter 'other'; the checkpoint has query, passage, matching"):
        adapter_of(config, task)
    assert adapter_of(config, "query").index == 0


def test_what_the_published_configuration_leaves_out_is_as_in_jina_embeddings_v3():
    from transformers import JinaEmbeddingsV3Config

    wanted = JinaEmbeddingsV3Config()
    with parameters_on_meta():
        found = build_text({"hf_model_config_kwargs": {}}).config
    names = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    assert {name: getattr(found, name) for name in names} == {name: getattr(wanted, name) for name in names}
    assert wanted.rope_parameters["rope_theta"] == found.rope_parameters["rope_theta"] == ROPE_THETA


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("vocab_size", 40),
        ("hidden_size", 32),
        ("num_hidden_layers", 1),
        ("num_attention_heads", 8),
        ("intermediate_size", 48),
    ],
)
def test_every_size_of_the_text_tower_is_the_configurations(name, value):
    sizes = {"vocab_size": 50, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {"intermediate_size": 96, name: value}
    with parameters_on_meta():
        tower = build_text({"hf_model_config_kwargs": sizes})
    assert {key: getattr(tower.config, key) for key in sizes} == sizes
    assert tower.embeddings.word_embeddings.weight.shape == (sizes["vocab_size"], sizes["hidden_size"])
    assert len(tower.layers) == sizes["num_hidden_layers"]
    assert tower.layers[0].mlp.fc1.weight.shape == (sizes["intermediate_size"], sizes["hidden_size"])
    assert 2 * len(tower.rotary_emb.inv_freq) == sizes["hidden_size"] // sizes["num_attention_heads"]


@pytest.mark.parametrize("theta", [10_000.0, 19_990.0, 20_010.0, 20_000.1])
def test_a_rotary_base_that_is_nearly_right_is_refused(monkeypatch, theta):
    monkeypatch.setattr(rotary(), "compute_default_rope_parameters", staticmethod(table_of(theta)))
    with pytest.raises(ModelLoadError, match="rotary base is not 20,000") as caught:
        build_text(config_of(FIXTURE)["text_config"])
    assert "constraints.txt" in caught.value.hint


def test_a_rotary_table_without_memory_is_refused(monkeypatch):
    def on_meta(config, **kwargs):
        return torch.empty(8, device="meta"), 1.0

    monkeypatch.setattr(rotary(), "compute_default_rope_parameters", staticmethod(on_meta))
    with pytest.raises(ModelLoadError, match="rotary base"):
        build_text(config_of(FIXTURE)["text_config"])


def rotary():
    from transformers.models.jina_embeddings_v3 import modeling_jina_embeddings_v3 as modeling

    return modeling.JinaEmbeddingsV3RotaryEmbedding


def table_of(theta):
    return lambda config, **kwargs: (theta ** -(torch.arange(0, 16, 2, dtype=torch.float64) / 16), 1.0)


VISION = {
    "width": 64,
    "layers": 2,
    "head_width": 32,
    "mlp_ratio": 2.6667,
    "image_size": 56,
    "patch_size": 14,
    "pt_hw_seq_len": 16,
}


@pytest.mark.parametrize(
    ("changed", "wanted"),
    [
        ({}, {"width": 64, "layers": 2, "heads": 2, "hidden": 170, "grid": (4, 4), "patch": 14}),
        ({"width": 96}, {"width": 96, "layers": 2, "heads": 3, "hidden": 256, "grid": (4, 4), "patch": 14}),
        ({"layers": 1}, {"width": 64, "layers": 1, "heads": 2, "hidden": 170, "grid": (4, 4), "patch": 14}),
        ({"head_width": 16}, {"width": 64, "layers": 2, "heads": 4, "hidden": 170, "grid": (4, 4), "patch": 14}),
        ({"mlp_ratio": 2.0}, {"width": 64, "layers": 2, "heads": 2, "hidden": 128, "grid": (4, 4), "patch": 14}),
        ({"image_size": 70}, {"width": 64, "layers": 2, "heads": 2, "hidden": 170, "grid": (5, 5), "patch": 14}),
        ({"patch_size": 28}, {"width": 64, "layers": 2, "heads": 2, "hidden": 170, "grid": (2, 2), "patch": 28}),
    ],
    ids=str,
)
def test_every_size_of_the_vision_tower_is_the_configurations(changed, wanted):
    tower = build_vision({**VISION, **changed})
    found = {
        "width": tower.embed_dim,
        "layers": len(tower.blocks),
        "heads": tower.blocks[0].attn.num_heads,
        "hidden": tower.blocks[0].mlp.fc2.in_features,
        "grid": tower.patch_embed.grid_size,
        "patch": tower.patch_embed.patch_size[0],
    }
    assert found == wanted
    # The vector is the first token's, without a head.
    assert tower.forward_head(torch.ones((1, 3, tower.embed_dim))).shape == (1, tower.embed_dim)


@pytest.mark.parametrize("published", [False, True])
def test_the_number_of_parameters_is_held_only_against_the_published_one(copy, monkeypatch, published):
    counts = layout.count_parameters(Checkpoint(WEIGHTS).shapes)
    monkeypatch.setattr(layout, "PUBLISHED_PARAMETERS", counts)
    load_towers(WEIGHTS, config_of(FIXTURE), torch.float32, published=published)
    for part in counts:
        # The same sum is not enough.
        other = "text" if part != "text" else "vision"
        monkeypatch.setattr(
            layout, "PUBLISHED_PARAMETERS", {**counts, part: counts[part] + 1, other: counts[other] - 1}
        )
        if not published:
            load_towers(WEIGHTS, config_of(FIXTURE), torch.float32, published=False)
            break
        with pytest.raises(
            ModelLoadError, match=f"has {sum(counts.values()):,} parameters .*, not the published"
        ) as caught:
            load_towers(WEIGHTS, config_of(FIXTURE), torch.float32, published=True)
        assert str(WEIGHTS) in str(caught.value)
        assert "pinned revision" in caught.value.hint


def test_a_default_adapter_that_is_another_gives_other_vectors():
    folder = FIXTURE / "five_tasks"
    config = config_of(folder)
    expected = load_file(folder / "expected.safetensors")
    names = config["text_config"]["hf_model_config_kwargs"]["lora_adaptations"]
    config["text_config"]["default_lora_task"] = names[3]
    _, text, _ = load_towers(folder / "model.safetensors", config, torch.float32, published=False)
    assert (unit(text_vectors(text)) - unit(expected["text_embeds_by_task"][3])).abs().max() <= TOLERANCE
