"""Plain CLIP without open_clip: the same layout and the same bits, and nothing that takes seconds to import."""

import copy
import subprocess
import sys
from pathlib import Path

import open_clip
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mteb_vehicle_search.models import TINY_CLIP_FOLDER, plain_clip
from mteb_vehicle_search.models.plain_clip import PlainClip, is_plain, simple_tokenizer

ROOT = Path(__file__).parents[2]
SMALL = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 20, "vocab_size": 300, "width": 32, "heads": 2, "layers": 2},
}


def changed(**parts):
    config = copy.deepcopy(SMALL)
    for name, value in parts.items():
        config[name] = {**config[name], **value} if isinstance(value, dict) else value
    return config


@pytest.fixture
def alone(monkeypatch):
    """As if nobody had imported open_clip."""
    monkeypatch.delitem(sys.modules, "open_clip")


CONFIGS = {
    "small": SMALL,
    "quick": changed(quick_gelu=True),
    "plain by name": changed(quick_gelu=False),
    "ratios": changed(vision_cfg={"mlp_ratio": 2.5}, text_cfg={"mlp_ratio": 3}),
    "silent": {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "patch_size": 16},
        "text_cfg": {"layers": 1},
    },
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", CONFIGS)
@torch.inference_mode()
def test_layout_and_vectors_are_open_clips_to_the_bit(name, dtype):
    torch.manual_seed(1)
    wanted = open_clip.model.CLIP(**copy.deepcopy(CONFIGS[name])).eval()
    found = PlainClip(**CONFIGS[name]).eval()
    weights = wanted.state_dict()
    for tensor in weights.values():
        if tensor.ndim == 1:  # biases of zero and scales of one would hide what is added or left out
            tensor += torch.randn_like(tensor) * 0.1
    assert sorted(found.state_dict()) == sorted(weights)
    found.load_state_dict(weights, strict=True)
    found, wanted = found.to(dtype), wanted.to(dtype)
    pixels = torch.randn((3, 3, 32, 32)).to(dtype)
    tokens = torch.randint(1, 299, (5, wanted.context_length))
    tokens[:, 7], tokens[0, 3] = 299, 299
    assert torch.equal(found.encode_image(pixels), wanted.encode_image(pixels))
    assert torch.equal(found.encode_text(tokens), wanted.encode_text(tokens))


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_plain(name):
    assert is_plain(CONFIGS[name])


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    "config",
    [
        changed(custom_text=True),
        changed(init_logit_bias=-10),
        changed(vision_cfg={"timm_model_name": "vit"}),
        changed(vision_cfg={"pool_type": "avg"}),
        changed(vision_cfg={"layers": [3, 4, 6, 3]}),
        changed(vision_cfg={"image_size": [32, 32]}),
        changed(vision_cfg={"ls_init_value": 0.1}),
        changed(text_cfg={"hf_tokenizer_name": "org/other"}),
        changed(text_cfg={"no_causal_mask": True}),
        changed(text_cfg={"heads": True}),
        # Of the kind of a size, and none that is known.
        changed(text_cfg={"eos_id": 2}),
        changed(vision_cfg={"attentional_pool": 1}),
    ],
    ids=str,
)
def test_anything_more_is_left_to_open_clip(config):
    assert not is_plain(config)


def test_whoever_has_open_clip_gets_its_class():
    assert "open_clip" in sys.modules
    assert not is_plain(SMALL)


OWN = str(TINY_CLIP_FOLDER / "bpe_vocabulary.txt.gz")
MADE = {
    (): (simple_tokenizer(context_length=77), open_clip.SimpleTokenizer(context_length=77)),
    (OWN,): (simple_tokenizer(OWN, context_length=32), open_clip.SimpleTokenizer(OWN, context_length=32)),
}


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.text(max_size=200), st.sampled_from(sorted(MADE)))
@example("A man's RED car &amp; two   dogs — 12 o'clock", ())
def test_tokens_are_open_clips(text, vocabulary):
    found, wanted = MADE[vocabulary]
    assert torch.equal(found([text]), wanted([text]))


def test_without_its_file_the_tokenizer_is_open_clips_own_affair(monkeypatch):
    for gone in (lambda name: None, lambda name: type("Spec", (), {"submodule_search_locations": ["/nowhere"]})):
        monkeypatch.setattr(plain_clip, "find_spec", gone)
        with pytest.raises(ImportError, match="tokenizer"):
            simple_tokenizer(context_length=77)


def test_the_embedded_model_works_without_what_takes_seconds():
    code = """
import sys, torch
from mteb_vehicle_search.models.open_clip import OpenClipEncoder
from mteb_vehicle_search.models import TINY_CLIP_FOLDER
model = OpenClipEncoder("a", None, "cpu", folder=TINY_CLIP_FOLDER, bpe_file="bpe_vocabulary.txt.gz")
with torch.inference_mode():
    tokens, mask = model.tokenise(["a red car", "two lorries by the sea"])
    pixels = torch.randn((2, 3, 96, 96), generator=torch.Generator().manual_seed(0))
    found = model.towers.image(pixels), model.towers.text(tokens, mask)
heavy = {"open_clip", "timm", "torchvision", "torch._dynamo"} & set(sys.modules)
import open_clip
again = OpenClipEncoder("a", None, "cpu", folder=TINY_CLIP_FOLDER, bpe_file="bpe_vocabulary.txt.gz")
with torch.inference_mode():
    wanted = again.towers.image(pixels), again.towers.text(tokens, mask)
same = torch.equal(again.tokenise(["a red car", "two lorries by the sea"])[0], tokens)
kinds = type(model.towers.module.model).__module__, type(again.towers.module.model).__module__
print(heavy, same, *(torch.equal(*both) for both in zip(found, wanted)), *kinds)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    own = "mteb_vehicle_search.models.plain_clip"
    assert done.stdout.split() == ["set()", "True", "True", "True", own, "open_clip.model"]
