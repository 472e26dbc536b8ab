"""The encoder of Jina CLIP v2: its files, options, preprocessing and tokens, and its vectors through mteb."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from stand_ins import put_into_hub_cache, tiny_jina

from mteb_vehicle_search.errors import ModelLoadError
from mteb_vehicle_search.files import file_sha256
from mteb_vehicle_search.models import jina_clip, jina_clip_v2, jina_layout
from mteb_vehicle_search.models.checkpoint import Checkpoint
from mteb_vehicle_search.models.jina_clip import JinaClipEncoder
from mteb_vehicle_search.models.preprocess import ShortestSideCrop

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


def reconfigured(folder, name, change):
    content = json.loads((folder / name).read_text())
    change(content)
    (folder / name).write_text(json.dumps(content))
    return folder


def jina(folder, **given):
    return JinaClipEncoder("jinaai/jina-clip-v2", None, "cpu", folder=folder, **given)


@pytest.mark.parametrize("revision", [jina_clip.REVISION, "0" * 40])
@pytest.mark.parametrize("name", jina_clip.FILES)
def test_each_known_digest_is_required_at_its_revision_only(tmp_path, monkeypatch, revision, name):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    counts = jina_layout.count_parameters(Checkpoint(WEIGHTS).shapes)
    monkeypatch.setattr(jina_layout, "PUBLISHED_PARAMETERS", counts)
    folder = tiny_jina(tmp_path / "model")
    right = {key: file_sha256(folder / key) for key in jina_clip.DIGESTS}
    put_into_hub_cache(tmp_path, "jinaai/jina-clip-v2", revision, folder)
    # All but one are those of the small stand-in.
    digests = {**right, **({name: jina_clip.DIGESTS[name]} if name in jina_clip.DIGESTS else {})}
    monkeypatch.setattr(jina_clip, "DIGESTS", digests)

    def use():
        model = JinaClipEncoder("jinaai/jina-clip-v2", revision, "cpu")
        return model.towers, model.tokenise(["a car"])

    if revision != jina_clip.REVISION or name == jina_clip.PREPROCESS:
        use()
    else:
        with pytest.raises(ModelLoadError, match=rf"{re.escape(name)} is damaged .*, not {digests[name]}"):
            use()


def test_the_pinned_digests_are_those_of_the_fixtures_facts():
    # The small preprocessing file is checked by what it says.
    assert set(jina_clip.DIGESTS) == {"config.json", "model.safetensors", "tokenizer.json"}
    facts = (FIXTURE / "README.md").read_text()
    for digest in jina_clip.DIGESTS.values():
        assert re.search(f"`{digest}`", facts)
    assert jina_clip_v2().revision == jina_clip.REVISION


@pytest.mark.parametrize(
    ("name", "change", "key"),
    [
        ("config.json", lambda c: c.pop("text_config"), "text_config"),
        ("config.json", lambda c: c["text_config"].pop("hf_model_config_kwargs"), "hf_model_config_kwargs"),
        ("config.json", lambda c: c.pop("matryoshka_dimensions"), "matryoshka_dimensions"),
        ("config.json", lambda c: c.pop("vision_config"), "vision_config"),
        ("config.json", lambda c: c["vision_config"].pop("image_size"), "image_size"),
        ("config.json", lambda c: c["vision_config"].update(image_size="large"), "large"),
        ("config.json", lambda c: c.update(text_config=None), "TypeError"),
        ("preprocessor_config.json", lambda c: c.pop("size"), "size"),
        ("preprocessor_config.json", lambda c: c.update(size="large"), "large"),
        ("preprocessor_config.json", lambda c: c.update(size=None), "TypeError"),
        ("preprocessor_config.json", lambda c: c.pop("mean"), "mean"),
        ("preprocessor_config.json", lambda c: c.pop("std"), "std"),
        ("preprocessor_config.json", lambda c: c.pop("resize_mode"), "resize_mode"),
        ("preprocessor_config.json", lambda c: c.pop("interpolation"), "interpolation"),
    ],
)
def test_a_configuration_that_lacks_something_is_refused_and_names_it(copy, name, change, key):
    with pytest.raises(ModelLoadError, match="is not Jina CLIP v2's") as caught:
        jina(reconfigured(copy, name, change))
    assert key in str(caught.value)
    assert str(copy) in str(caught.value)


@pytest.mark.parametrize(
    "changed",
    [{"size": 224}, {"resize_mode": "squash"}, {"resize_mode": "longest"}, {"interpolation": "bilinear"}],
    ids=str,
)
def test_another_preprocessing_than_the_models_is_refused(copy, changed):
    reconfigured(copy, "preprocessor_config.json", lambda content: content.update(changed))
    with pytest.raises(ModelLoadError, match=r"asks for .*, not for Jina CLIP v2's \(56, 'shortest', 'bicubic'\)"):
        jina(copy)


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
@pytest.mark.parametrize("data", [b"", b"{", b"\xff"])
def test_a_file_that_is_no_json_is_refused(copy, name, data):
    (copy / name).write_bytes(data)
    with pytest.raises(ModelLoadError, match=rf"{re.escape(name)} is missing or damaged"):
        jina(copy)


@pytest.mark.parametrize(("mean", "std"), [(None, None), ([0.5, 0.4, 0.3], [0.2, 0.3, 0.25])])
def test_images_are_prepared_as_open_clip_prepares_them(copy, mean, std):
    from open_clip.transform import PreprocessCfg, image_transform_v2

    cfg = {"mean": tuple(mean), "std": tuple(std)} if mean else {}
    reconfigured(copy, "preprocessor_config.json", lambda c: c.update({key: list(v) for key, v in cfg.items()}))
    model = jina(copy)
    # bicubic, the shortest side, the centre: as the published preprocessing file says.
    transform = image_transform_v2(PreprocessCfg(size=56, **cfg), is_train=False)
    shift, scale = (torch.tensor(value).view(3, 1, 1) for value in (model.mean, model.std))
    for width, height in ((90, 70), (61, 97)):
        pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
        image = Image.fromarray(pixels)
        found = (model.crop(image).float() / 255 - shift) / scale
        torch.testing.assert_close(found, transform(image), atol=1e-5, rtol=0)


def test_nothing_said_means_exact_no_instruction_and_all_columns(copy, monkeypatch):
    model = jina(copy)
    assert model.crop == ShortestSideCrop(56, "exact", "bicubic")
    assert (model.instruction, model.embed_dim) == ("", None)
    assert model.fixed_length is False
    assert model.towers.cast is False
    assert model.towers.image(INPUTS["pixel_values"]).shape == (4, 64)
    monkeypatch.setenv("VEHICLE_SEARCH_PREPROCESS", "fast")
    assert jina(copy).crop == ShortestSideCrop(56, "fast", "bicubic")


def test_the_configuration_may_cut_the_columns_and_the_caller_cut_them_otherwise(copy):
    reconfigured(copy, "config.json", lambda content: content.update(truncate_dim=32))
    assert jina(copy).towers.text(INPUTS["input_ids"], INPUTS["attention_mask"]).shape == (5, 32)
    assert jina(copy, embed_dim=8).towers.image(INPUTS["pixel_values"]).shape == (4, 8)
    reconfigured(copy, "config.json", lambda content: content.pop("truncate_dim"))
    assert jina(copy).embed_dim is None


@pytest.mark.parametrize("columns", [8, 16, 32, 64])
def test_both_towers_are_cut_to_the_first_columns_before_normalising(copy, columns):
    towers = jina(copy, embed_dim=columns).towers
    for found, name in (
        (towers.image(INPUTS["pixel_values"]), "image_embeds"),
        (towers.text(INPUTS["input_ids"], INPUTS["attention_mask"]), "text_embeds"),
    ):
        torch.testing.assert_close(found, EXPECTED[name][:, :columns], atol=5e-5, rtol=0)


@pytest.mark.parametrize("embed_dim", [0, 7, 17, 65, 1024])
def test_a_dimension_that_was_not_trained_is_refused_with_those_that_were(copy, embed_dim):
    with pytest.raises(ModelLoadError, match=f"no dimension {embed_dim}") as caught:
        jina(copy, embed_dim=embed_dim)
    assert caught.value.hint == "Choose from [8, 16, 32, 64]."


def test_a_model_without_instructions_has_no_tasks(copy):
    settings = ("text_config", "hf_model_config_kwargs")
    reconfigured(copy, "config.json", lambda content: content[settings[0]][settings[1]].pop("task_instructions"))
    assert jina(copy).instruction == ""
    for task in ("retrieval.query", ""):
        with pytest.raises(ModelLoadError, match=f"no task '{task}'"):
            jina(copy, task=task)


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_placing_the_towers_keeps_the_tables_in_fp32(copy, monkeypatch, precision, dtype):
    monkeypatch.setenv("VEHICLE_SEARCH_PRECISION", precision)
    module = jina(copy).towers.module
    assert {value.dtype for value in module.parameters()} == {dtype}
    assert {value.dtype for value in module.buffers() if value.is_floating_point()} == {torch.float32}


def test_a_folder_may_hold_another_size_and_a_snapshot_may_not(copy, tmp_path, monkeypatch):
    assert jina(copy).towers
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    put_into_hub_cache(tmp_path, "jinaai/jina-clip-v2", "0" * 40, copy)
    with pytest.raises(ModelLoadError, match="not the published 865,278,477"):
        _ = JinaClipEncoder("jinaai/jina-clip-v2", "0" * 40, "cpu").towers


def test_tokens_are_those_of_the_tokenizer_padded_with_pads_and_masked(copy):
    from tokenizers import Tokenizer

    own = Tokenizer.from_file(str(copy / "tokenizer.json"))
    texts = ["car", "a red car by the sea", "", "x" * 509, "x" * 510, "x" * 700]
    tokens, mask = jina(copy).tokenise(texts)
    assert tokens.dtype == mask.dtype == torch.int64
    for text, row, seen in zip(texts, tokens, mask, strict=True):
        wanted = own.encode(text).ids
        # What is too long loses its end, but keeps the closing token.
        wanted = wanted if len(wanted) <= 512 else [*wanted[:511], wanted[-1]]
        assert row[: len(wanted)].tolist() == wanted
        assert set(row[len(wanted) :].tolist()) <= {1}
        assert seen.tolist() == [1] * len(wanted) + [0] * (512 - len(wanted))
    assert jina(copy).tokenise(["car"])[0].shape == (1, len(own.encode("car").ids))


def test_the_instruction_comes_before_each_text(copy):
    query = jina(copy, task="retrieval.query")
    wanted = jina(copy).tokenise([query.instruction + "a car", query.instruction + "a van"])
    found = query.tokenise(["a car", "a van"])
    assert all(torch.equal(*both) for both in zip(found, wanted, strict=True))


def test_the_mean_is_over_the_tokens_that_are_not_masked():
    hidden = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [100.0, 100.0]], [[5.0, 7.0], [100.0, 100.0], [100.0, 100.0]]])

    class Text(torch.nn.Module):
        def forward(self, input_ids, attention_mask):
            return SimpleNamespace(last_hidden_state=hidden.to(input_ids.dtype))

    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    module = jina_clip.JinaClip(torch.nn.Identity(), Text(), None)
    for dtype in (torch.float32, torch.bfloat16):
        found = module.encode_text(torch.zeros((2, 3), dtype=dtype), mask)
        assert found.dtype == dtype
        assert found.tolist() == [[2.0, 4.0], [5.0, 7.0]]


@pytest.mark.parametrize("given", [{"task": "retrieval.query"}, {"embed_dim": 32}, {"embed_dim": 64}], ids=str)
def test_options_and_other_weights_change_what_identifies_the_vectors(copy, given):
    before, fingerprint = jina(copy).weights_id(), jina(copy).fingerprint()
    assert jina(copy).weights_id() == before
    assert jina(copy, **given).weights_id() != before
    assert jina(copy, **given).fingerprint() != fingerprint
    weights = load_file(copy / "model.safetensors")
    weights["logit_scale"] += 1
    save_file(weights, copy / "model.safetensors")
    assert jina(copy).weights_id() != before
    assert jina(copy).fingerprint() != fingerprint


def test_the_tokenizer_is_read_once(copy):
    model = jina(copy)
    wanted = model.tokenise(["a car"])[0]
    (copy / "tokenizer.json").unlink()
    assert torch.equal(model.tokenise(["a car"])[0], wanted)


def test_name_revision_and_device_are_the_callers(copy):
    model = JinaClipEncoder("org/name", "0123", "meta", folder=copy)
    assert (model.model_name, model.revision, str(model.device)) == ("org/name", "0123", "meta")
    assert JinaClipEncoder("org/name", folder=copy).revision is None


def test_captions_that_are_too_long_are_counted(copy):
    # "▁" and the letters, the beginning and the end.
    model = jina(copy)
    assert "texts_cut" not in model.describe()
    model.tokenise(["car", "x" * 509, "x" * 510, "x" * 2000, ""])
    assert [model.describe()[key] for key in ("texts", "texts_cut", "context_tokens")] == [5, 2, 512]
