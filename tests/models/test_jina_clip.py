"""Jina CLIP v2 against vectors of its reference implementation, and the errors of a damaged checkpoint."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from stand_ins import put_into_hub_cache, tiny_jina

from mteb_vehicle_search.errors import ModelLoadError
from mteb_vehicle_search.models import jina_clip, jina_clip_v2, jina_layout
from mteb_vehicle_search.models.checkpoint import Checkpoint
from mteb_vehicle_search.models.jina_clip import JinaClipEncoder

FIXTURE = Path(__file__).parent.parent / "fixtures" / "jina_clip_v2_tiny"
WEIGHTS = FIXTURE / "model.safetensors"
TOLERANCE = 1e-5
INPUTS = load_file(FIXTURE / "inputs.safetensors")
EXPECTED = load_file(FIXTURE / "expected.safetensors")


def unit(vectors):
    return torch.nn.functional.normalize(vectors.float(), dim=-1)


@pytest.fixture
def copy(tmp_path):
    return tiny_jina(tmp_path / "model")


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
