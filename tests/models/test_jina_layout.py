"""Jina CLIP v2's layout: each name, each shape, and every row of every merged weight against a plain product."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mteb_vehicle_search.models import jina_layout, jina_towers
from mteb_vehicle_search.models.checkpoint import layout_of, parameters_on_meta
from mteb_vehicle_search.models.jina_layout import (
    Adapter,
    Source,
    count_parameters,
    expected_layout,
    expected_shapes,
    read_parameters,
    text_source,
    vision_source,
)

REAL_LAYOUT = Path(__file__).parent.parent / "fixtures" / "jina_clip_v2_tiny" / "real_layout.json"
TEXT = "text_model.transformer.roberta."
VISION = {"width": 1024, "layers": 24, "head_width": 64, "mlp_ratio": 2.6667, "image_size": 512, "patch_size": 14}


@pytest.mark.parametrize(
    ("ours", "stored"),
    [
        ("cls_token", "cls_token"),
        ("patch_embed.proj.weight", "patch_embed.proj.weight"),
        ("norm.weight", "norm.weight"),
        ("blocks.0.norm1.weight", "blocks.0.norm1.weight"),
        ("blocks.3.attn.q_proj.weight", "blocks.3.attn.q_proj.weight"),
        ("blocks.3.attn.k_proj.weight", "blocks.3.attn.k_proj.weight"),
        ("blocks.3.attn.q_proj.bias", "blocks.3.attn.q_bias"),
        ("blocks.3.attn.v_proj.bias", "blocks.3.attn.v_bias"),
        ("blocks.3.attn.norm.bias", "blocks.3.attn.inner_attn_ln.bias"),
        ("blocks.3.attn.proj.bias", "blocks.3.attn.proj.bias"),
        ("blocks.3.mlp.fc1_g.weight", "blocks.3.mlp.w1.weight"),
        ("blocks.3.mlp.fc1_x.bias", "blocks.3.mlp.w2.bias"),
        ("blocks.3.mlp.norm.weight", "blocks.3.mlp.ffn_ln.weight"),
        ("blocks.3.mlp.fc2.weight", "blocks.3.mlp.w3.weight"),
    ],
)
def test_vision_names_are_those_of_the_fixtures_table(ours, stored):
    assert vision_source(ours) == Source((f"vision_model.{stored}",), None, False)


@pytest.mark.parametrize(
    ("ours", "stored", "part", "adapted", "embedding"),
    [
        ("embeddings.word_embeddings.weight", "embeddings.word_embeddings", None, True, True),
        ("embeddings.token_type_embeddings.weight", "embeddings.token_type_embeddings", None, True, True),
        ("embeddings.LayerNorm.weight", "emb_ln.weight", None, False, False),
        ("layers.2.self_attn.q_proj.weight", "encoder.layers.2.mixer.Wqkv", 0, True, False),
        ("layers.2.self_attn.k_proj.weight", "encoder.layers.2.mixer.Wqkv", 1, True, False),
        ("layers.2.self_attn.v_proj.weight", "encoder.layers.2.mixer.Wqkv", 2, True, False),
        ("layers.2.self_attn.v_proj.bias", "encoder.layers.2.mixer.Wqkv.bias", 2, False, False),
        ("layers.2.self_attn.o_proj.weight", "encoder.layers.2.mixer.out_proj", None, True, False),
        ("layers.2.self_attn.o_proj.bias", "encoder.layers.2.mixer.out_proj.bias", None, False, False),
        ("layers.2.post_attention_layernorm.weight", "encoder.layers.2.norm1.weight", None, False, False),
        ("layers.2.post_mlp_layernorm.bias", "encoder.layers.2.norm2.bias", None, False, False),
        ("layers.2.mlp.fc1.weight", "encoder.layers.2.mlp.fc1", None, True, False),
        ("layers.2.mlp.fc2.weight", "encoder.layers.2.mlp.fc2", None, True, False),
        ("layers.2.mlp.fc2.bias", "encoder.layers.2.mlp.fc2.bias", None, False, False),
    ],
)
def test_text_names_are_those_of_the_fixtures_table(ours, stored, part, adapted, embedding):
    kinds = ("original", "0.lora_A", "0.lora_B")
    keys = tuple(f"{TEXT}{stored}.parametrizations.weight.{kind}" for kind in kinds) if adapted else (TEXT + stored,)
    assert text_source(ours) == Source(keys, part, embedding)


@pytest.mark.parametrize(
    ("source", "shape", "wanted"),
    [
        (Source(("a",)), (6,), {"a": (6,)}),
        (Source(("a",), 1), (6,), {"a": (18,)}),
        (Source(("a",), 0), (6, 4), {"a": (18, 4)}),
        # Five adapters of rank 2: B [rows, rank] after A [rank, columns], or the other way round.
        (Source(("a", "A", "B")), (6, 4), {"a": (6, 4), "A": (5, 2, 4), "B": (5, 6, 2)}),
        (Source(("a", "A", "B"), 2), (6, 4), {"a": (18, 4), "A": (5, 2, 4), "B": (5, 18, 2)}),
        (Source(("a", "A", "B"), None, True), (6, 4), {"a": (6, 4), "A": (5, 6, 2), "B": (5, 2, 4)}),
    ],
)
def test_shapes_of_what_a_parameter_is_made_of(source, shape, wanted):
    assert expected_shapes(source, shape, Adapter(0, 5, 2, 1.0)) == wanted


def test_both_towers_and_the_scale_make_the_layout():
    vision, text = {"norm.weight": (4,)}, {"embeddings.LayerNorm.bias": (6,), "layers.0.self_attn.q_proj.bias": (2,)}
    assert expected_layout(vision, text, Adapter(0, 1, 2, 1.0)) == {
        "logit_scale": (),
        "vision_model.norm.weight": (4,),
        f"{TEXT}emb_ln.bias": (6,),
        f"{TEXT}encoder.layers.0.mixer.Wqkv.bias": (6,),
    }


def test_parameters_are_counted_by_their_part():
    shapes = {
        "vision_model.a": (2, 3),
        "vision_model.b": (4,),
        f"{TEXT}a": (5, 2),
        f"{TEXT}b.parametrizations.weight.original": (7,),
        f"{TEXT}b.parametrizations.weight.0.lora_A": (1, 2, 3),
        f"{TEXT}b.parametrizations.weight.0.lora_B": (1, 3, 2),
        "logit_scale": (),
    }
    assert count_parameters(shapes) == {"vision": 10, "text": 17, "lora": 12, "logit_scale": 1}
    assert count_parameters({}) == {"vision": 0, "text": 0, "lora": 0, "logit_scale": 0}


class Stored:
    """A checkpoint of random tensors, which spoils what it gave out when the next parameter is read."""

    def __init__(self, shapes, dtype=torch.float16, seed=0):
        generator = torch.Generator().manual_seed(seed)
        self.tensors = {key: torch.randn(shape, generator=generator).to(dtype) for key, shape in shapes.items()}
        self.given = []

    def tensor(self, key):
        self.given.append(self.tensors[key].clone())
        return self.given[-1]

    def spoil(self):
        for value in self.given:
            value.fill_(float("nan"))
        self.given.clear()


def read(checkpoint, shapes, source_of, adapter, dtype):
    """Read a tower; memory that nobody wrote to is NaN, as is what had to be copied and was not."""
    empty = torch.empty
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "empty", lambda *args, **given: empty(*args, **given).fill_(float("nan")))
        found = {}
        for name, value in read_parameters(checkpoint, shapes, source_of, adapter, dtype):
            found[name] = value
            checkpoint.spoil()
    return found


def merged(checkpoint, source, shape, adapter):
    """Return a parameter in float64, in one product over the whole weight."""
    stored, *factors = (checkpoint.tensors[key].double() for key in source.keys)
    if factors:
        a, b = (factor[adapter.index] for factor in factors)
        stored = stored + adapter.scale * (a @ b if source.embedding else b @ a)
    return stored if source.part is None else stored.chunk(3)[source.part]


ROUNDING = {torch.float32: 2.0**-20, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}


def hold_against_product(shapes, sources, adapter, dtype, stored_dtype=torch.float16):
    kept = {key: of for name, s in shapes.items() for key, of in expected_shapes(sources[name], s, adapter).items()}
    checkpoint = Stored(kept, stored_dtype)
    found = read(checkpoint, shapes, sources.__getitem__, adapter, dtype)
    assert list(found) == list(shapes)
    for name, shape in shapes.items():
        wanted = merged(checkpoint, sources[name], shape, adapter)
        assert found[name].dtype == dtype
        assert found[name].shape == shape == wanted.shape
        # NaN compares as false.
        close = (found[name].double() - wanted).abs() <= ROUNDING[dtype] * wanted.abs().clamp(min=1)
        assert close.all(), f"{name}: wrong rows {(~close.reshape(shape[0], -1).all(1)).nonzero().flatten().tolist()}"


SOURCES = {
    "whole": Source(("whole", "whole.A", "whole.B")),
    "q": Source(("qkv", "qkv.A", "qkv.B"), 0),
    "k": Source(("qkv", "qkv.A", "qkv.B"), 1),
    "v": Source(("qkv", "qkv.A", "qkv.B"), 2),
    "words": Source(("words", "words.A", "words.B"), None, True),
    "plain": Source(("plain",)),
    "k bias": Source(("bias",), 1),
}
SHAPES = {"whole": (11, 5), "q": (7, 5), "k": (7, 5), "v": (7, 5), "words": (13, 5), "plain": (4, 3), "k bias": (6,)}


@pytest.mark.parametrize("dtype", list(ROUNDING), ids=str)
@pytest.mark.parametrize("elements", [5, 9, 10, 14, 15, 35, 50, 54, 55, 56, 1000])
def test_every_row_of_every_block_is_merged(monkeypatch, elements, dtype):
    monkeypatch.setattr(jina_layout, "MERGED_ELEMENTS", elements)
    hold_against_product(SHAPES, SOURCES, Adapter(1, 3, 2, 1.5), dtype)


@pytest.mark.parametrize("index", range(3))
def test_the_asked_for_adapter_is_merged(index):
    hold_against_product(SHAPES, SOURCES, Adapter(index, 3, 2, 0.25), torch.float32)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(
    st.sampled_from(sorted(SOURCES)),
    st.integers(1, 20),
    st.integers(1, 8),
    st.integers(1, 4),
    st.integers(8, 64),
    st.sampled_from([torch.float16, torch.bfloat16, torch.float32]),
)
@example("whole", 8, 8, 1, 64, torch.float16)
@example("words", 9, 8, 1, 64, torch.float32)
def test_any_shape_in_blocks_of_any_size_is_merged(kind, rows, columns, rank, elements, stored):
    shape = (rows,) if kind == "k bias" else (rows, columns)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jina_layout, "MERGED_ELEMENTS", elements)
        hold_against_product({kind: shape}, SOURCES, Adapter(0, 2, rank, 2.0), torch.float32, stored)


def test_merging_is_in_fp32_and_rounded_once():
    # Seven twentieths of a rounding step, ten times: in half precision, each of them would be lost.
    source, adapter = Source(("w", "A", "B")), Adapter(0, 1, 10, 1.0)
    checkpoint = Stored({"w": (1, 1), "A": (1, 10, 1), "B": (1, 1, 10)}, torch.float16)
    checkpoint.tensors = {
        "w": torch.ones(1, 1, dtype=torch.float16),
        "A": torch.full((1, 10, 1), 0.35 * 2.0**-10, dtype=torch.float16),
        "B": torch.ones(1, 1, 10, dtype=torch.float16),
    }
    ((_, found),) = read_parameters(checkpoint, {"w": (1, 1)}, lambda name: source, adapter, torch.float16)
    assert found.item() == pytest.approx(1 + 3.5 * 2.0**-10, abs=0.51 * 2.0**-10)
    ((_, found),) = read_parameters(checkpoint, {"w": (1, 1)}, lambda name: source, adapter, torch.float32)
    assert found.item() == pytest.approx(1 + 3.5 * 2.0**-10, rel=1e-6)


def test_parameters_are_read_one_at_a_time():
    checkpoint = Stored({"plain": (4, 3), "bias": (18,)})
    found = read_parameters(
        checkpoint, {"plain": (4, 3), "k bias": (6,)}, SOURCES.__getitem__, Adapter(0, 1, 1, 1.0), torch.float32
    )
    next(found)
    assert len(checkpoint.given) == 1


@pytest.mark.parametrize("kind", ["whole", "words", "v"])
def test_more_than_one_block_of_the_real_size_is_merged(kind):
    # A block is 4,194,304 elements: 4,096 rows of 1,024.
    rows = 4096 + 5
    hold_against_product({kind: (rows, 1024)}, SOURCES, Adapter(0, 1, 4, 1.0), torch.float32)
    assert rows * 1024 > jina_layout.MERGED_ELEMENTS > 1024


def test_the_real_layout_is_covered_key_by_key():
    real = {key: tuple(shape) for key, shape in json.loads(REAL_LAYOUT.read_text()).items()}
    with parameters_on_meta():
        towers = (
            jina_towers.build_vision({**VISION, "pt_hw_seq_len": 16}),
            jina_towers.build_text({"hf_model_config_kwargs": {}}),
        )
    assert len(real) == 999
    assert expected_layout(*(layout_of(tower) for tower in towers), Adapter(0, 1, 4, 1.0)) == real
    counts = count_parameters(real)
    assert counts == jina_layout.PUBLISHED_PARAMETERS
    assert sum(counts.values()) == 865_278_477
