"""OpenClipEncoder against open_clip itself: its transform, its tokens and its vectors, for small random models."""

import copy
import json

import model_folders
import numpy as np
import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors.torch import load_file, save_file
from stand_ins import SMALL_CLIP, random_open_clip, write_tokenizer

from mteb_vehicle_search.errors import ModelLoadError
from mteb_vehicle_search.models import open_clip as module
from mteb_vehicle_search.models.open_clip import CONFIG, WEIGHTS, OpenClipEncoder
from mteb_vehicle_search.models.preprocess import ShortestSideCrop, Squash

TEXTS = ["a car", "a red car by the sea", "a car " * 60]
TIMM = {
    **SMALL_CLIP,
    "custom_text": True,
    "vision_cfg": {
        "timm_model_name": "test_vit",
        "timm_model_pretrained": False,
        "timm_pool": "",
        "timm_proj": "linear",
        "image_size": 160,
    },
}
RESNET = {**SMALL_CLIP, "vision_cfg": {"layers": [1, 1, 1, 1], "width": 8, "head_width": 32, "image_size": 32}}
KINDS = {
    "plain": SMALL_CLIP,
    "quick": {**SMALL_CLIP, "quick_gelu": True},
    "custom text": {**SMALL_CLIP, "custom_text": True},
    "short": {**SMALL_CLIP, "text_cfg": {**SMALL_CLIP["text_cfg"], "context_length": 32}},
    "resnet": RESNET,
}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return random_open_clip(tmp_path_factory.mktemp("clip"), SMALL_CLIP)


@pytest.fixture
def folder(small, tmp_path):
    """Give a folder of a small model, whose configuration a test may change."""
    for name in (CONFIG, WEIGHTS):
        (tmp_path / name).write_bytes((small / name).read_bytes())
    return tmp_path


def reconfigured(folder, **changed):
    """Change `preprocess_cfg`; None drops a key."""
    config = json.loads((folder / CONFIG).read_text())
    found = {**config["preprocess_cfg"], **changed}
    config["preprocess_cfg"] = {key: value for key, value in found.items() if value is not None}
    (folder / CONFIG).write_text(json.dumps(config))
    return folder


def noise(width, height):
    return Image.fromarray(np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8))


def encoder(folder, **given):
    return OpenClipEncoder("org/clip", None, "cpu", folder=folder, **given)


@pytest.mark.parametrize(
    ("changed", "wanted"),
    [
        ({}, {}),
        # What a configuration leaves out is as open_clip has it.
        ({"mean": None}, {}),
        ({"std": None}, {}),
        ({"interpolation": None}, {}),
        ({"resize_mode": None}, {}),
        ({"mean": None, "std": None, "interpolation": None, "resize_mode": None}, {}),
        ({"mean": [0.5, 0.4, 0.3]}, {"mean": (0.5, 0.4, 0.3)}),
        ({"std": [0.5, 0.4, 0.3]}, {"std": (0.5, 0.4, 0.3)}),
        ({"interpolation": "bilinear"}, {"interpolation": "bilinear"}),
        ({"resize_mode": "squash"}, {"resize_mode": "squash"}),
        (
            {"resize_mode": "squash", "interpolation": "bilinear"},
            {"resize_mode": "squash", "interpolation": "bilinear"},
        ),
        ({"size": 48}, {"size": 48}),
        ({"size": [48, 48]}, {"size": 48}),
        ({"size": [3, 48, 48]}, {"size": 48}),
    ],
    ids=str,
)
def test_images_are_prepared_as_open_clip_prepares_them(folder, changed, wanted):
    model = encoder(reconfigured(folder, **changed))
    transform = image_transform_v2(PreprocessCfg(**{"size": 32, **wanted}), is_train=False)
    for shape in ((50, 71), (71, 50), (20, 90)):
        image = noise(*shape)
        mean, std = (torch.tensor(value).view(3, 1, 1) for value in (model.mean, model.std))
        found = (model.crop(image).float() / 255 - mean) / std
        torch.testing.assert_close(found, transform(image), atol=1e-5, rtol=0)


def test_that_is_what_open_clip_itself_makes_of_the_folder(folder):
    reconfigured(folder, mean=[0.5, 0.4, 0.3], std=[0.2, 0.3, 0.4], interpolation="bilinear", resize_mode="squash")
    model = encoder(folder)
    cfg = open_clip.create_model_and_transforms(f"local-dir:{folder}")[0].visual.preprocess_cfg
    assert (model.mean, model.std) == (tuple(cfg["mean"]), tuple(cfg["std"]))
    assert model.crop == Squash(32, "exact", "bilinear")
    assert cfg["interpolation"] == "bilinear"
    assert cfg["resize_mode"] == "squash"


@pytest.mark.parametrize(("resize_mode", "kind"), [("shortest", ShortestSideCrop), ("squash", Squash)])
def test_the_way_to_resize_follows_the_variable_too(folder, monkeypatch, resize_mode, kind):
    reconfigured(folder, resize_mode=resize_mode)
    assert encoder(folder).crop == kind(32, "exact", "bicubic")
    monkeypatch.setenv("VEHICLE_SEARCH_PREPROCESS", "fast")
    assert encoder(folder).crop == kind(32, "fast", "bicubic")


@pytest.mark.parametrize(
    "changed",
    [{"resize_mode": "longest"}, {"interpolation": "nearest"}, {"interpolation": "random"}, {"resize_mode": ""}],
    ids=str,
)
def test_a_way_to_resize_that_we_have_not_is_refused(folder, changed):
    with pytest.raises(ModelLoadError, match="which is not offered") as caught:
        encoder(reconfigured(folder, **changed))
    (value,) = changed.values()
    assert repr(value) in str(caught.value)
    assert str(folder / CONFIG) in str(caught.value)


def test_a_configuration_without_a_preprocessing_has_open_clips(folder):
    config = json.loads((folder / CONFIG).read_text())
    del config["preprocess_cfg"]
    (folder / CONFIG).write_text(json.dumps(config))
    model = encoder(folder)
    wanted = PreprocessCfg(size=32)
    assert (model.mean, model.std, model.crop) == (wanted.mean, wanted.std, ShortestSideCrop(32))


@pytest.mark.parametrize("name", KINDS)
@torch.inference_mode()
def test_tokens_and_vectors_are_open_clips(tmp_path, name):
    folder = random_open_clip(tmp_path, KINDS[name])
    own = open_clip.create_model(f"local-dir:{folder}").eval()
    model = encoder(folder, quick_gelu=name == "quick")
    tokens, mask = model.tokenise(TEXTS)
    assert torch.equal(tokens, open_clip.get_tokenizer(f"local-dir:{folder}")(TEXTS))
    assert tokens.shape == mask.shape == (3, own.context_length)
    assert (mask.dtype, mask.unique().tolist()) == (torch.int64, [1])
    pixels = torch.randn((2, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    assert torch.equal(model.towers.image(pixels), own.encode_image(pixels))
    assert torch.equal(model.towers.text(tokens, mask), own.encode_text(tokens))
    # All tokens count: open_clip looks for the end itself.
    assert model.fixed_length is True


@torch.inference_mode()
def test_a_vision_tower_of_timms_is_built_without_fetching_weights(tmp_path):
    folder = random_open_clip(tmp_path, copy.deepcopy(TIMM))
    config = json.loads((folder / CONFIG).read_text())
    # As published configurations say.
    config["model_cfg"]["vision_cfg"]["timm_model_pretrained"] = True
    (folder / CONFIG).write_text(json.dumps(config))
    model = encoder(folder)
    before = copy.deepcopy(model.model_config)
    pixels = torch.randn((2, 3, 160, 160), generator=torch.Generator().manual_seed(0))
    own = open_clip.create_model(f"local-dir:{folder}", pretrained_image=False).eval()
    assert torch.equal(model.towers.image(pixels), own.encode_image(pixels))
    # It may be built again.
    assert model.model_config == before


def test_the_configuration_stays_as_it_was_read(folder):
    config = json.loads((folder / CONFIG).read_text())
    config["model_cfg"]["custom_text"] = False
    (folder / CONFIG).write_text(json.dumps(config))
    model = encoder(folder)
    _ = model.towers
    assert model.model_config == config["model_cfg"]


def test_a_tower_that_computes_with_its_parameters_while_it_is_built_is_built_with_them(folder, monkeypatch):
    built = []

    class Computing(open_clip.model.CLIP):
        def __init__(self, **config):
            super().__init__(**config)
            built.append(self.positional_embedding.is_meta)
            if built[-1]:
                raise RuntimeError("no numbers on meta")

    monkeypatch.setattr(open_clip.model, "CLIP", Computing)
    model = encoder(folder)
    weights = load_file(folder / WEIGHTS)
    assert torch.equal(model.towers.module.model.positional_embedding, weights["positional_embedding"])
    assert built == [True, False]


@pytest.mark.parametrize("error", [ValueError("odd"), RuntimeError("odd")], ids=repr)
def test_a_model_that_open_clip_cannot_build_is_an_error_with_its_reason(folder, monkeypatch, error):
    def none(**config):
        raise error

    monkeypatch.setattr(open_clip.model, "CLIP", none)
    with pytest.raises(ModelLoadError, match=r"org/clip: open_clip builds no model from its configuration: .*odd"):
        _ = encoder(folder).towers


def test_an_unknown_field_of_the_configuration_is_an_error(folder):
    config = json.loads((folder / CONFIG).read_text())
    config["model_cfg"]["colour"] = "red"
    (folder / CONFIG).write_text(json.dumps(config))
    with pytest.raises(ModelLoadError, match="colour"):
        _ = encoder(folder).towers


@pytest.mark.parametrize("stored", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_weights_are_loaded_in_the_precision_whatever_was_stored(folder, monkeypatch, precision, stored):
    monkeypatch.setenv("VEHICLE_SEARCH_PRECISION", precision)
    weights = {name: value.to(stored) for name, value in load_file(folder / WEIGHTS).items()}
    save_file(weights, folder / WEIGHTS)
    model = encoder(folder)
    wanted = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    assert model.dtype == wanted
    # As `load` gives them, and again as they are placed.
    for loaded in (model.load().module, model.towers.module):
        assert {value.dtype for value in loaded.parameters()} == {wanted}
        for name, value in weights.items():
            assert torch.equal(loaded.model.state_dict()[name], value.to(wanted)), name


def test_counters_stay_whole_numbers(tmp_path, monkeypatch):
    monkeypatch.setenv("VEHICLE_SEARCH_PRECISION", "bf16")
    model = encoder(random_open_clip(tmp_path, RESNET)).towers.module.model
    assert model.visual.bn1.num_batches_tracked.dtype == torch.int64
    assert model.visual.bn1.running_var.dtype == torch.bfloat16


def test_weights_do_not_hang_on_the_file(folder):
    # The file is mapped: it may be replaced by a download while the model is in use.
    model = encoder(folder)
    wanted = {name: value.clone() for name, value in model.towers.module.model.state_dict().items()}
    with (folder / WEIGHTS).open("r+b") as file:
        file.seek(-4096, 2)
        file.write(b"\0" * 4096)
    assert all(torch.equal(value, wanted[name]) for name, value in model.towers.module.model.state_dict().items())


def test_the_weights_are_loaded_with_the_first_batch(folder):
    weights = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(b"none")
    model = encoder(folder)
    with pytest.raises(ModelLoadError, match="not a safetensors file"):
        _ = model.towers
    (folder / WEIGHTS).unlink()
    with pytest.raises(ModelLoadError, match="is missing"):
        _ = model.towers
    (folder / WEIGHTS).write_bytes(weights)
    assert encoder(folder).towers.image(torch.zeros((1, 3, 32, 32))).shape == (1, 32)


@pytest.mark.parametrize(
    ("bpe_file", "tokenizer", "wanted"),
    [
        (None, None, [CONFIG]),
        ("words.gz", None, [CONFIG, "words.gz"]),
        (None, "org/other", [CONFIG, "tokenizer.json", "tokenizer.model"]),
        ("words.gz", "org/other", [CONFIG, "tokenizer.json", "tokenizer.model", "words.gz"]),
    ],
)
def test_a_model_consists_of_every_file_that_decides_its_vectors(folder, bpe_file, tokenizer, wanted):
    for name in ("tokenizer.json", "tokenizer.model", "words.gz", "notes.json"):
        (folder / name).write_bytes(b"{}")
    config = json.loads((folder / CONFIG).read_text())
    if tokenizer:
        config["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = tokenizer
    (folder / CONFIG).write_text(json.dumps(config))
    assert encoder(folder, bpe_file=bpe_file).found.files.names == (WEIGHTS, *wanted)


@pytest.mark.parametrize("context", [None, 32])
def test_a_vocabulary_of_its_own_is_used_at_the_models_context_length(folder, context):
    from mteb_vehicle_search.models import TINY_CLIP_FOLDER

    name = "bpe_vocabulary.txt.gz"
    (folder / name).write_bytes((TINY_CLIP_FOLDER / name).read_bytes())
    config = json.loads((folder / CONFIG).read_text())
    config["model_cfg"]["text_cfg"].pop("context_length")
    if context:
        config["model_cfg"]["text_cfg"]["context_length"] = context
    (folder / CONFIG).write_text(json.dumps(config))
    model = encoder(folder, bpe_file=name)
    own = open_clip.SimpleTokenizer(str(TINY_CLIP_FOLDER / name), context_length=context or 77)
    tokens, mask = model.tokenise(TEXTS)
    assert tokens.shape == mask.shape == (3, context or 77)
    assert torch.equal(tokens, own(TEXTS))
    assert not torch.equal(tokens, open_clip.SimpleTokenizer(context_length=context or 77)(TEXTS))


def test_the_tokenizer_is_made_once(folder, monkeypatch):
    made, get = [], open_clip.get_tokenizer
    monkeypatch.setattr(open_clip, "get_tokenizer", lambda name: made.append(name) or get(name))
    model = encoder(folder)
    assert torch.equal(model.tokenise(TEXTS)[0], model.tokenise(TEXTS)[0])
    assert made == [f"local-dir:{folder}"]


def test_another_activation_in_the_configuration_gives_another_fingerprint(folder):
    # Under a revision that its user has chosen.
    def told():
        return OpenClipEncoder("me/mine", "r1", "cpu", folder=folder, quick_gelu=None).fingerprint()

    before = told()
    config = json.loads((folder / CONFIG).read_text())
    config["model_cfg"]["quick_gelu"] = True
    (folder / CONFIG).write_text(json.dumps(config))
    assert told() != before


@pytest.mark.parametrize("revision", [None, "stated"])
def test_other_weights_of_a_folder_give_another_fingerprint(folder, revision):
    before = OpenClipEncoder("org/clip", revision, "cpu", folder=folder).fingerprint()
    assert OpenClipEncoder("org/clip", revision, "cpu", folder=folder).fingerprint() == before
    weights = load_file(folder / WEIGHTS)
    weights["logit_scale"] += 1
    save_file(weights, folder / WEIGHTS)
    assert OpenClipEncoder("org/clip", revision, "cpu", folder=folder).fingerprint() != before


@pytest.mark.parametrize("changed", [{"mean": [0, 0, 0]}, {"std": [1, 1, 1]}, {"resize_mode": "squash"}, {"size": 48}])
def test_another_preprocessing_gives_another_fingerprint(folder, changed):
    before = encoder(folder).fingerprint()
    assert encoder(reconfigured(folder, **changed)).fingerprint() != before


def config_with(**changed):
    return {"model_cfg": {"vision_cfg": {"image_size": 32}, "text_cfg": {"width": 4}, **changed}}


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ([], "TypeError"),
        ({}, "KeyError"),
        ({"model_cfg": {}}, "vision_cfg"),
        ({"model_cfg": {"vision_cfg": {"image_size": 32}}}, "text_cfg"),
        (config_with(vision_cfg={}), "image_size"),
        (config_with(vision_cfg={"image_size": 0}), "no image size or text configuration"),
        (config_with(text_cfg={}), "no image size or text configuration"),
        (config_with(text_cfg={"hf_model_name": "roberta"}), "which nothing pins"),
        (config_with(text_cfg={"tokenizer_kwargs": {"trust_remote_code": False}}), "remote code, which is never run"),
        ({**config_with(), "preprocess_cfg": {"trust_remote_code": True}}, "remote code, which is never run"),
    ],
    ids=str,
)
def test_what_is_no_configuration_of_open_clips_is_refused_with_the_reason(tmp_path, config, reason):
    path = tmp_path / CONFIG
    path.write_text(json.dumps(config))
    with pytest.raises(ModelLoadError, match="is not an open_clip configuration") as caught:
        module.read_config(path)
    assert str(path) in str(caught.value)
    assert reason in str(caught.value)


def test_a_configuration_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(ModelLoadError, match="FileNotFoundError"):
        module.read_config(tmp_path / CONFIG)
    (tmp_path / CONFIG).write_bytes(b"\xff{")
    with pytest.raises(ModelLoadError, match="UnicodeDecodeError"):
        module.read_config(tmp_path / CONFIG)
    (tmp_path / CONFIG).write_text(json.dumps(config_with()))
    assert module.read_config(tmp_path / CONFIG) == config_with()


@pytest.mark.parametrize("config", [{}, {"quick_gelu": False}, {"quick_gelu": None}])
def test_nothing_said_about_the_activation_is_plain_gelu(folder, config):
    made = json.loads((folder / CONFIG).read_text())
    made["model_cfg"].update(config)
    (folder / CONFIG).write_text(json.dumps(made))
    encoder(folder)
    with pytest.raises(ModelLoadError, match=r"was trained with QuickGELU, but .* says quick_gelu=False"):
        encoder(folder, quick_gelu=True)


def test_a_configuration_must_say_the_activation_that_is_asked_for(folder):
    made = json.loads((folder / CONFIG).read_text())
    made["model_cfg"]["quick_gelu"] = True
    (folder / CONFIG).write_text(json.dumps(made))
    assert encoder(folder).model_config["quick_gelu"] is True
    with pytest.raises(ModelLoadError, match=r"was trained with plain GELU, but .* says quick_gelu=True") as caught:
        encoder(folder, quick_gelu=False)
    assert caught.value.hint == "Make the configuration fit the weights."


def test_a_tokenizer_of_transformers_is_read_from_the_folder(folder, tmp_path):
    from transformers import PreTrainedTokenizerFast

    config = json.loads((folder / CONFIG).read_text())
    config["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = "org/other"
    (folder / CONFIG).write_text(json.dumps(config))
    write_tokenizer(tmp_path / "made.json")
    made = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "made.json"), pad_token="<pad>")  # noqa: S106
    made.save_pretrained(folder)
    tokens, mask = encoder(folder).tokenise(TEXTS)
    assert tokens.shape == mask.shape == (3, 77)
    assert tokens[0, : len(made(TEXTS[0]).input_ids)].tolist() == made(TEXTS[0]).input_ids


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights.pop("ln_final.bias"), "ln_final.bias is missing"),
        (lambda weights: weights.update(extra=torch.zeros(1)), "extra is unknown"),
        (
            lambda weights: weights.update({"ln_final.bias": torch.zeros(3)}),
            r"ln_final.bias has shape \[3\], not \[32\]",
        ),
    ],
)
def test_weights_of_another_layout_are_refused(folder, change, message):
    weights = load_file(folder / WEIGHTS)
    change(weights)
    save_file(weights, folder / WEIGHTS)
    with pytest.raises(ModelLoadError, match=f"laid out like org/clip's configuration: {message}"):
        _ = encoder(folder).towers


def test_name_revision_and_device_are_the_callers(folder):
    model = OpenClipEncoder("org/name", "0123", "meta", folder=folder)
    assert (model.model_name, model.revision, str(model.device)) == ("org/name", "0123", "meta")
    model = OpenClipEncoder("org/name", folder=folder)
    assert model.revision == model.found.digest == model.weights_id()


def told(model):
    return [model.describe().get(key) for key in ("texts", "texts_cut", "context_tokens")]


@pytest.mark.parametrize("context", [77, 32])
def test_captions_that_the_context_cuts_are_counted(folder, context):
    config = json.loads((folder / CONFIG).read_text())
    config["model_cfg"]["text_cfg"]["context_length"] = context
    (folder / CONFIG).write_text(json.dumps(config))
    model = encoder(folder)
    assert told(model) == [None, None, None]
    # With beginning and end, two less fit.
    texts = ["a car", "a " * (context - 2), "a " * (context - 1), "", "car " * 300]
    model.tokenise(texts)
    assert told(model) == [5, 2, context]
    model.tokenise(["a car"])
    assert told(model) == [1, 0, context]


def test_a_caption_that_is_cut_behind_an_exclamation_mark_is_counted(folder):
    # Its number is that of the padding.
    model = encoder(folder)
    tokens, _ = model.tokenise(["a " * 74 + "!("])
    assert tokens[0, -2] == 0
    assert told(model) == [1, 1, 77]


def with_tokenizer_of_transformers(folder, write, **text):
    write(folder)
    config = json.loads((folder / CONFIG).read_text())
    config["model_cfg"]["text_cfg"] |= {"hf_tokenizer_name": "org/other", "context_length": 64, **text}
    (folder / CONFIG).write_text(json.dumps(config))
    return encoder(folder)


def test_captions_that_a_tokenizer_of_transformers_cuts_are_counted(folder):
    model = with_tokenizer_of_transformers(
        folder, model_folders.write_siglip2, tokenizer_kwargs={"clean": "canonicalize"}
    )
    # A letter is a token, and the end is one; punctuation is gone before.
    model.tokenise(["A car.", "z" * 63, "Z" * 64, "!" * 90 + "z", "z" * 300])
    assert told(model) == [5, 2, 64]


def test_captions_that_a_class_token_at_the_end_cuts_are_counted(folder):
    model = with_tokenizer_of_transformers(folder, model_folders.write_xlm_tokenizer, tokenizer_mode="clips")
    # A word has a token before its letters; beginning, end and the class token are three more.
    model.tokenise(["z" * 60, "z" * 61, "a car"])
    assert told(model) == [3, 1, 64]
