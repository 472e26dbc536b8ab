"""Jina CLIP v2 against vectors of its reference implementation, and the errors of a damaged checkpoint."""

import json
import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from stand_ins import put_into_hub_cache, tiny_jina

from mteb_vehicle_search.errors import ModelLoadError
from mteb_vehicle_search.models import jina_clip, jina_clip_v2, jina_layout, jina_towers
from mteb_vehicle_search.models.checkpoint import Checkpoint, layout_of, parameters_on_meta
from mteb_vehicle_search.models.jina_clip import JinaClipEncoder
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


def test_the_real_layout_is_covered_key_by_key():
    real = {key: tuple(shape) for key, shape in json.loads((FIXTURE / "real_layout.json").read_text()).items()}
    vision = {"width": 1024, "layers": 24, "head_width": 64, "mlp_ratio": 2.6667, "image_size": 512, "patch_size": 14}
    with parameters_on_meta():
        towers = (
            jina_towers.build_vision({**vision, "pt_hw_seq_len": 16}),
            jina_towers.build_text({"hf_model_config_kwargs": {}}),
        )
    adapter = jina_layout.Adapter(0, 1, 4, 1.0)
    assert len(real) == 999
    assert jina_layout.expected_layout(*(layout_of(tower) for tower in towers), adapter) == real
    counts = jina_layout.count_parameters(real)
    assert counts == jina_layout.PUBLISHED_PARAMETERS
    assert sum(counts.values()) == 865_278_477


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


def test_the_encoder_truncates_and_refuses_unknown_tasks(copy):
    encoder = JinaClipEncoder("jinaai/jina-clip-v2", folder=copy, device="cpu", embed_dim=16)
    found = encoder.towers.text(INPUTS["input_ids"], INPUTS["attention_mask"])
    torch.testing.assert_close(found, EXPECTED["text_embeds"][:, :16], atol=5e-5, rtol=0)
    assert encoder.towers.image(INPUTS["pixel_values"]).shape == (4, 16)
    query = JinaClipEncoder("jinaai/jina-clip-v2", folder=copy, device="cpu", task="retrieval.query")
    assert query.instruction == "Represent the query for retrieving evidence documents: "
    assert query.fingerprint() != encoder.fingerprint()
    with pytest.raises(ModelLoadError, match=r"no task 'other'"):
        JinaClipEncoder("jinaai/jina-clip-v2", folder=copy, device="cpu", task="other")
    with pytest.raises(ModelLoadError, match="no dimension 17"):
        JinaClipEncoder("jinaai/jina-clip-v2", folder=copy, device="cpu", embed_dim=17)


@pytest.fixture
def through_mteb(tmp_path, monkeypatch):
    """Give a function that loads the tiny checkpoint as mteb loads the real one: by name, from the hub's cache."""
    import mteb

    meta = jina_clip_v2()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(jina_clip, "DIGESTS", {})
    counts = jina_layout.count_parameters(Checkpoint(WEIGHTS).shapes)
    monkeypatch.setattr(jina_layout, "PUBLISHED_PARAMETERS", counts)
    put_into_hub_cache(tmp_path, meta.name, meta.revision, tiny_jina(tmp_path / "made"))
    return lambda **given: mteb.get_model(meta.name, device="cpu", **given)


def encode(model, *texts):
    return model.encode(torch.utils.data.DataLoader([{"text": text} for text in texts]))


def test_mteb_gives_the_first_columns(through_mteb):
    whole = through_mteb()
    cut = through_mteb(embed_dim=32)
    assert cut.mteb_model_meta.embed_dim == 32
    assert torch.equal(cut.crop(Image.new("RGB", (60, 80))), whole.crop(Image.new("RGB", (60, 80))))
    found = encode(cut, "a red car", "a van")
    raw = whole.towers.text(*whole.tokenise(["a red car", "a van"]))
    torch.testing.assert_close(found, unit(raw[:, :32]), atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="33 is not in the model's supported"):
        through_mteb(embed_dim=33)


def test_mteb_can_ask_for_the_instruction(through_mteb):
    plain, query = through_mteb(), through_mteb(task="retrieval.query")
    prefix = "Represent the query for retrieving evidence documents: "
    assert torch.equal(encode(query, "a red car"), encode(plain, f"{prefix}a red car"))
    assert not torch.allclose(encode(query, "a red car"), encode(plain, "a red car"), atol=1e-3)
    assert query.mteb_model_meta.experiment_kwargs == {"task": "retrieval.query"}


def test_the_log_says_once_that_mteb_is_replaced(through_mteb, caplog):
    with caplog.at_level("INFO", logger="mteb"):
        model = through_mteb()
        encode(model, "a red car")
        encode(model, "a van")
    assert caplog.text.count("in place of mteb's wrapper") == 1
    assert "VEHICLE_SEARCH_STOCK_JINA=1" in caplog.text


def test_texts_end_at_512_tokens_and_addresses_are_texts(copy):
    model = JinaClipEncoder("jinaai/jina-clip-v2", folder=copy, device="cpu")
    tokens, mask = model.tokenise(["car " * 1000, "http://example.com/a.jpg"])
    assert tokens.shape == mask.shape == (2, 512)
    assert tokens[0, 0] == 0
    assert tokens[0, -1] == 2
    assert tokens[1, mask[1] == 0].unique().tolist() == [1]
    assert encode(model, "http://example.com/a.jpg", "http://example.com/b.jpg").shape == (2, 64)
