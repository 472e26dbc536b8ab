"""Any dual encoder of transformers: held against the library's own forward pass, tokenizer and image processor."""

import json
import re
import shutil

import model_folders
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file
from stand_ins import put_into_hub_cache
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

from mteb_vehicle_search import settings as settings_of_ours
from mteb_vehicle_search.errors import EncodeError, ModelLoadError
from mteb_vehicle_search.models.preprocess import LargerResizeCrop, Squash
from mteb_vehicle_search.models.transformers_dual import TransformersEncoder
from mteb_vehicle_search.models.transformers_images import read_preprocessing

CAPTIONS = ["A red car by the sea", "Two dogs, running!", "", "x" * 100, "The van's DOOR is open. " * 20, "é ß ç 車"]
DUAL = ["clip", "metaclip2", "siglip2", "altclip", "chinese_clip"]
# Written once; a test that changes one copies it.
_made = {}


def write_altclip(folder, positions=90):
    from transformers import AltCLIPConfig, AltCLIPModel

    tower = model_folders.TOWER
    text = {"vocab_size": 400, "max_position_embeddings": positions, "project_dim": 24, "pad_token_id": 1}
    vision = {"image_size": 32, "patch_size": 8}
    config = AltCLIPConfig(text_config={**tower, **text}, vision_config={**tower, **vision}, projection_dim=24)
    model_folders.save_model(AltCLIPModel, config, folder, 0)
    # As older files are written.
    named = {"feature_extractor_type": "CLIPFeatureExtractor", "size": 32, "crop_size": 32}
    stated = {**model_folders.clip_preprocessing(32), **named}
    del stated["image_processor_type"]
    model_folders.write_json(folder / "preprocessor_config.json", stated)
    model_folders.write_xlm_tokenizer(folder)
    return folder


def write_chinese_clip(folder):
    from transformers import ChineseCLIPConfig, ChineseCLIPModel

    tower = model_folders.TOWER
    vision = {"image_size": 32, "patch_size": 8}
    text = {"vocab_size": 100, "max_position_embeddings": 512}
    config = ChineseCLIPConfig(text_config={**tower, **text}, vision_config={**tower, **vision}, projection_dim=24)
    model_folders.save_model(ChineseCLIPModel, config, folder, 0)
    size = {"size": {"height": 32, "width": 32}, "image_processor_type": "ChineseCLIPImageProcessor"}
    model_folders.write_json(folder / "preprocessor_config.json", {**model_folders.clip_preprocessing(32), **size})
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(chr(code) for code in range(33, 127))]
    pieces += [f"##{chr(code)}" for code in range(97, 98)]
    (folder / "vocab.txt").write_text("\n".join(pieces[:100]), encoding="utf-8")
    own = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 512}
    model_folders.write_json(folder / "tokenizer_config.json", own)
    return folder


WRITERS = {"altclip": write_altclip, "chinese_clip": write_chinese_clip}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Give a function that returns the folder of a kind, written once; nobody changes it."""

    def folder(kind):
        if kind not in _made:
            write = WRITERS.get(kind) or getattr(model_folders, f"write_{kind}")
            _made[kind] = write(tmp_path_factory.mktemp("models") / kind)
        return _made[kind]

    yield folder
    _made.clear()


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """Compute in the thread of the test, where coverage sees it."""
    monkeypatch.setattr(settings_of_ours, "usable_cores", lambda: 1)


@pytest.fixture
def copy(folders, tmp_path):
    """Give a function that returns a folder of a kind to change."""
    return lambda kind: shutil.copytree(folders(kind), tmp_path / f"copy of {kind}")


def encoder(folder, **given):
    return TransformersEncoder("org/model", None, "cpu", folder=folder, **given)


def changed_json(folder, name, change):
    content = json.loads((folder / name).read_text(encoding="utf-8"))
    change(content)
    (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder


def blocks(width, height):
    generator = np.random.default_rng(width * 1000 + height)
    coarse = generator.integers(0, 256, (max(1, height // 4), max(1, width // 4), 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.NEAREST)


def loader(kind, items):
    return torch.utils.data.DataLoader([{kind: i} for i in items], collate_fn=lambda rows: {kind: [rows[0][kind]]})


def apart(found, wanted):
    return (found - torch.nn.functional.normalize(wanted.float(), dim=-1)).abs().max().item()


@pytest.mark.parametrize("kind", DUAL)
@torch.inference_mode()
def test_vectors_are_those_of_the_librarys_own_forward_pass(folders, kind):
    folder = folders(kind)
    model, own = encoder(folder), AutoModel.from_pretrained(folder).eval()
    images = [blocks(61, 40), blocks(33, 90), blocks(32, 32)]
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    pixels = processor(images, return_tensors="pt")["pixel_values"]
    assert (
        apart(model.encode(loader("image", images)), own.get_image_features(pixel_values=pixels).pooler_output) < 1e-6
    )
    length = model.rule.length
    if kind == "siglip2":
        ids = AutoTokenizer.from_pretrained(folder)(
            [text.lower() for text in CAPTIONS],
            padding="max_length",
            max_length=64,
            truncation=True,
            return_tensors="pt",
        )
        assert set(ids) == {"input_ids"}
    else:
        ids = AutoTokenizer.from_pretrained(folder)(
            CAPTIONS, padding=True, max_length=length, truncation=True, return_tensors="pt"
        )
    assert apart(model.encode(loader("text", CAPTIONS)), own.get_text_features(**ids).pooler_output) < 1e-6
    assert length == {"siglip2": 64, "chinese_clip": 52}.get(kind, 77)


@pytest.mark.parametrize("kind", DUAL)
def test_how_many_texts_lost_their_end_is_told(folders, kind):
    model = encoder(folders(kind))
    assert "texts_cut" not in model.describe()
    tokens, mask = model.tokenise(CAPTIONS)
    assert tokens.shape == mask.shape == (len(CAPTIONS), model.rule.length)
    told = model.describe()
    cut = sum(
        len(ids) > model.rule.length for ids in AutoTokenizer.from_pretrained(folders(kind))(CAPTIONS)["input_ids"]
    )
    assert (told["texts"], told["texts_cut"], told["context_tokens"]) == (len(CAPTIONS), cut, model.rule.length)
    assert 0 < cut < len(CAPTIONS)
    model.tokenise(["a car"])
    assert (model.describe()["texts"], model.describe()["texts_cut"]) == (1, 0)


@pytest.mark.parametrize("kind", ["clip", "metaclip2", "chinese_clip"])
def test_a_text_that_just_fits_is_not_cut(folders, kind):
    model, tokenizer = encoder(folders(kind)), AutoTokenizer.from_pretrained(folders(kind))
    texts = [letter * count for letter in ("x", "x ") for count in range(100)]
    lengths = [len(ids) for ids in tokenizer(texts)["input_ids"]]
    model.tokenise([texts[lengths.index(model.rule.length + more)] for more in (-1, 0, 1)])
    assert (model.describe()["texts"], model.describe()["texts_cut"]) == (3, 1)


def test_no_text_is_longer_than_the_positions_behind_that_of_the_padding(tmp_path):
    model = encoder(write_altclip(tmp_path / "model", positions=60))
    # Padding is number 1, and the first token of a text stands at position 2.
    assert model.rule.length == 58
    assert model.encode(loader("text", ["x" * 100])).shape == (1, 24)


PREPROCESSINGS = {
    "clip": model_folders.clip_preprocessing(224),
    "clip of a number": {
        **{key: value for key, value in model_folders.clip_preprocessing(224).items() if key != "image_processor_type"},
        **{"feature_extractor_type": "CLIPFeatureExtractor", "size": 224, "crop_size": 224},
    },
    "clip, cropped to less": {**model_folders.clip_preprocessing(96), "size": {"shortest_edge": 110}},
    "clip, odd": {**model_folders.clip_preprocessing(95), "resample": 2},
    "clip, squashed": {**model_folders.clip_preprocessing(224), "size": {"height": 224, "width": 224}},
    "siglip": model_folders.siglip_preprocessing(224),
    "siglip 2": model_folders.siglip_preprocessing(224, 2),
    "chinese": {**model_folders.clip_preprocessing(64), "image_processor_type": "ChineseCLIPImageProcessor"},
    "blip": {**model_folders.siglip_preprocessing(64), "image_processor_type": "BlipImageProcessor"},
    "vit": {**model_folders.siglip_preprocessing(64, 2), "image_processor_type": "ViTImageProcessor", "size": 64},
    "vit, of old": {
        **{key: value for key, value in model_folders.siglip_preprocessing(64, 2).items() if "_type" not in key},
        **{"feature_extractor_type": "ViTFeatureExtractor", "size": 64},
    },
    # The library takes it for the shorter side, whatever SigLIP's own files say.
    "siglip of a number": {
        **model_folders.siglip_preprocessing(64),
        "size": 64,
        "do_center_crop": True,
        "crop_size": 60,
    },
    "not normalised": {**model_folders.siglip_preprocessing(64), "do_normalize": False},
}


@pytest.fixture(scope="module")
def processors(tmp_path_factory):
    """Give, by name, what we make of a preprocessing and the library's own processor of it."""
    found = {}
    for name, stated in PREPROCESSINGS.items():
        folder = tmp_path_factory.mktemp("preprocessing")
        model_folders.write_json(folder / "preprocessor_config.json", stated)
        own = AutoImageProcessor.from_pretrained(folder, backend="pil")
        found[name] = (read_preprocessing(folder, "exact"), own)
    return found


@pytest.mark.parametrize("name", PREPROCESSINGS)
@settings(derandomize=True, deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(width=st.integers(20, 700), height=st.integers(20, 700))
@example(width=1, height=1)
@example(width=37, height=900)
@example(width=900, height=37)
@example(width=225, height=224)
@example(width=224, height=227)
def test_images_are_prepared_bit_by_bit_as_by_the_librarys_processor(processors, name, width, height):
    (crop, mean, std), own = processors[name]
    image = blocks(width, height)
    wanted = torch.from_numpy(own(image, do_rescale=False, do_normalize=False)["pixel_values"][0])
    assert torch.equal(crop(image), wanted)
    shift, scale = (torch.tensor(value).view(3, 1, 1) for value in (mean, std))
    whole = torch.from_numpy(own(image)["pixel_values"][0])
    torch.testing.assert_close((crop(image).float() / 255 - shift) / scale, whole, atol=1e-5, rtol=0)


def test_the_ways_to_resize_are_those_that_are_stated(processors):
    crops = {name: ours.crop for name, (ours, _) in processors.items()}
    assert crops["clip"] == crops["clip of a number"] == LargerResizeCrop(224, "exact", "bicubic", 224)
    assert crops["clip, cropped to less"] == LargerResizeCrop(96, "exact", "bicubic", 110)
    assert crops["clip, odd"] == LargerResizeCrop(95, "exact", "bilinear", 95)
    assert crops["clip, squashed"] == crops["siglip"] == Squash(224, "exact", "bicubic")
    assert crops["siglip 2"] == Squash(224, "exact", "bilinear")


def test_later_versions_keep_it_in_the_processors_file(tmp_path):
    stated = {"image_processor": model_folders.siglip_preprocessing(64), "processor_class": "SiglipProcessor"}
    model_folders.write_json(tmp_path / "processor_config.json", stated)
    assert read_preprocessing(tmp_path, "fast").crop == Squash(64, "fast", "bicubic")


@pytest.mark.parametrize("width", [40, 41, 42, 43, 90])
def test_the_fast_way_cuts_where_the_exact_way_does(width):
    # Nothing is resized, so that a cut one pixel off shows.
    image = Image.fromarray(np.random.default_rng(width).integers(0, 256, (40, width, 3), dtype=np.uint8))
    exact, fast = (LargerResizeCrop(33, mode, "bicubic", 40)(image) for mode in ("exact", "fast"))
    assert torch.equal(exact, fast)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"image_processor_type": "EfficientNetImageProcessor"}, "the class EfficientNetImageProcessor is not one of"),
        ({"image_processor_type": None}, "it lacks 'feature_extractor_type'"),
        ({"do_pad": True}, "do_pad is set"),
        ({"do_resize": False}, "do_resize is not set"),
        ({"do_rescale": False}, "do_rescale is not set"),
        ({"rescale_factor": 1 / 127.5}, r"rescale_factor is 0\.0078\d+, not 1/255"),
        ({"resample": 1}, "resample is 1, neither 2"),
        ({"resample": None}, "it lacks 'resample'"),
        ({"image_mean": [0.5]}, "are not those of three channels"),
        ({"image_std": [0.5, 0.5, 0]}, "are not those of three channels"),
        ({"size": {"longest_edge": 224}}, "neither shortest_edge nor height and width"),
        ({"size": {"shortest_edge": 32, "longest_edge": 64}}, "neither shortest_edge nor height and width"),
        ({"size": {"height": 32, "width": 48}}, "32 x 48 is no square"),
        ({"size": {"height": 40, "width": 40}}, "crop_size 32 is not the size 40"),
        ({"size": {"shortest_edge": 30}}, "crop_size 32 is more than the shortest edge of 30"),
        ({"do_center_crop": False}, "images of other shapes than a square stay what they are"),
    ],
    ids=str,
)
def test_a_preprocessing_that_is_not_offered_is_refused_with_the_reason(copy, changed, reason):
    def change(content):
        content.update(changed)
        for key in [key for key, value in changed.items() if value is None]:
            del content[key]

    folder = copy("clip")
    changed_json(folder, "preprocessor_config.json", change)
    with pytest.raises(ModelLoadError, match=f"asks for no preprocessing that is offered: .*{reason}") as caught:
        encoder(folder)
    assert str(folder / "preprocessor_config.json") in str(caught.value)


def test_a_model_of_another_size_than_its_preprocessing_is_refused(copy):
    folder = copy("siglip2")
    changed_json(folder, "preprocessor_config.json", lambda c: c.update(size={"height": 40, "width": 40}))
    with pytest.raises(ModelLoadError, match="sees images of 32 px, but its preprocessing gives 40"):
        encoder(folder)


# What is refused


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda c: c.pop("model_type"), "a config.json without a model_type"),
        (lambda c: c.update(model_type="own_clip"), "no model type 'own_clip'; it needs a later version"),
        (
            lambda c: c.update(model_type="own_clip", auto_map={"AutoModel": "modeling.Own"}),
            "needs its own code, which is never run",
        ),
        (lambda c: c.update(model_type="siglip2"), r"images of any shape \(NaFlex\)"),
        (lambda c: c.update(model_type="flava"), "a vector for each part"),
        (lambda c: c.update(model_type="bert"), "is no dual encoder of transformers: its model_type is 'bert'"),
        (lambda c: c.update(transformers_weights="b.safetensors"), "names weights of its own"),
        (lambda c: c.update(quantization_config={"quant_method": "bitsandbytes"}), "quantised weights"),
    ],
)
def test_a_configuration_of_another_kind_is_refused_before_anything_is_loaded(copy, change, reason):
    folder = changed_json(copy("clip"), "config.json", change)
    (folder / "model.safetensors").write_bytes(b"never read")
    with pytest.raises(ModelLoadError, match=reason):
        encoder(folder)


@pytest.mark.parametrize("name", ["preprocessor_config.json", "tokenizer_config.json"])
def test_a_folder_that_lacks_a_file_is_refused_and_names_it(copy, name):
    folder = copy("clip")
    (folder / name).unlink()
    with pytest.raises(ModelLoadError, match=re.escape(f"/{name} is missing")) as caught:
        encoder(folder)
    assert "safetensors" not in str(caught.value)


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "tokenizer_config.json", "tokenizer.json"])
@pytest.mark.parametrize("kind", ["siglip2", "metaclip2"])
def test_a_file_that_is_damaged_is_refused(copy, kind, name):
    folder = copy(kind)
    (folder / name).write_bytes(b"{")
    with pytest.raises(ModelLoadError):
        encoder(folder)


def test_an_adapter_is_refused(copy):
    folder = copy("clip")
    (folder / "adapter_config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ModelLoadError, match="holds an adapter, not a whole model"):
        encoder(folder)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda w: w.pop("text_projection.weight"), "text_projection.weight is missing"),
        (lambda w: w.update(extra=torch.zeros(1)), "extra is unknown"),
        (lambda w: w.update({"logit_scale": torch.zeros(3)}), r"logit_scale has shape \[3\], not \[\]"),
        (lambda w: w.update({"text_projection.weight": torch.zeros(32, 12)}), r"shape \[32, 12\], not \[24, 32\]"),
    ],
)
def test_weights_of_another_layout_are_refused(copy, change, reason):
    folder = copy("clip")
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelLoadError, match=reason):
        _ = encoder(folder).towers


@pytest.mark.parametrize("content", [b"", b"\x00" * 64])
def test_weights_that_are_cut_off_are_refused(copy, content):
    folder = copy("clip")
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelLoadError, match="missing, truncated or not a safetensors file"):
        _ = encoder(folder).towers


def test_pickled_weights_are_not_loaded(copy):
    folder = copy("clip")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelLoadError, match=r"as a pickle \(pytorch_model\.bin\), which is never loaded"):
        encoder(folder)
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(ModelLoadError, match="of weights, only safetensors are loaded"):
        encoder(folder)


@pytest.mark.parametrize("part", ["text_config", "vision_config"])
def test_an_activation_that_the_checkpoint_was_not_trained_with_is_refused(folders, copy, part):
    assert encoder(folders("metaclip2"), hidden_act="quick_gelu")
    folder = changed_json(copy("metaclip2"), "config.json", lambda c: c[part].update(hidden_act="gelu"))
    assert encoder(folder)
    with pytest.raises(ModelLoadError, match=f"trained with quick_gelu, but .* says gelu in {part}") as caught:
        encoder(folder, hidden_act="quick_gelu")
    assert caught.value.hint == "Make the configuration fit the weights."


# Layouts


@torch.inference_mode()
def test_a_checkpoint_in_several_files_is_one(folders, tmp_path):
    whole = encoder(folders("clip"))
    folder = shutil.copytree(folders("clip"), tmp_path / "sharded")
    (folder / "model.safetensors").unlink()
    AutoModel.from_pretrained(folders("clip")).save_pretrained(folder, max_shard_size="40KB")
    assert len(encoder(folder).found.layout.weights) > 2
    assert "model.safetensors.index.json" in encoder(folder).found.layout.others
    found, wanted = (one.encode(loader("image", [blocks(61, 40)])) for one in (encoder(folder), whole))
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["../model.safetensors", "model.bin", "model-00009-of-00009.safetensors", 1, None])
def test_an_index_that_points_elsewhere_is_refused(copy, name):
    folder = copy("clip")
    (folder / "model.safetensors").rename(folder.parent / "model.safetensors")
    model_folders.write_json(folder / "model.safetensors.index.json", {"weight_map": {"logit_scale": name}})
    with pytest.raises(ModelLoadError, match=r"names .*, which is no safetensors file beside it|is missing, which"):
        encoder(folder)


@torch.inference_mode()
def test_buffers_that_older_versions_stored_are_passed_over(copy, folders):
    folder = copy("clip")
    weights = load_file(folder / "model.safetensors")
    weights["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    texts = loader("text", CAPTIONS)
    assert torch.equal(encoder(folder).encode(texts), encoder(folders("clip")).encode(loader("text", CAPTIONS)))


def test_the_width_of_metaclip_2_is_that_of_its_weights(folders):
    folder = folders("metaclip2")
    assert json.loads((folder / "config.json").read_text())["text_config"]["projection_dim"] == 512
    assert encoder(folder).encode(loader("text", ["a car"])).shape == (1, 24)
    assert encoder(folder).encode(loader("image", [blocks(30, 40)])).shape == (1, 24)


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_weights_are_loaded_in_the_precision_and_do_not_learn(folders, precision, dtype):
    module = encoder(folders("clip"), precision=precision).towers.module
    assert {value.dtype for value in module.parameters()} == {dtype}
    assert not any(value.requires_grad for value in module.parameters())
    assert not module.training


def test_a_snapshot_of_the_hub_is_loaded_whole(copy, folders, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    put_into_hub_cache(tmp_path, "org/model", "0" * 40, copy("metaclip2"))
    model = TransformersEncoder("org/model", "0" * 40, "cpu")
    texts = loader("text", CAPTIONS)
    assert torch.equal(model.encode(texts), encoder(folders("metaclip2")).encode(loader("text", CAPTIONS)))
    assert model.fingerprint() != encoder(folders("metaclip2")).fingerprint()


def test_the_weights_are_loaded_with_the_first_batch(copy):
    folder = copy("metaclip2")
    model = encoder(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelLoadError, match=r"model\.safetensors is missing; of weights, only safetensors"):
        _ = model.towers


def test_other_weights_and_other_rules_give_another_fingerprint(copy, folders):
    folder = copy("siglip2")
    before = encoder(folder).fingerprint()
    assert before == encoder(folder).fingerprint() == encoder(folders("siglip2")).fingerprint()
    assert before != encoder(folder, canonicalise="open_clip").fingerprint()
    weights = load_file(folder / "model.safetensors")
    weights["logit_scale"] += 1
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert before != encoder(folder).fingerprint()


def test_a_model_that_gives_several_vectors_is_refused(folders, monkeypatch):
    model = encoder(folders("clip"))
    kind = type(model.towers.module.model)
    monkeypatch.setattr(kind, "get_text_features", lambda self, **given: torch.zeros(1, 3, 8))
    with pytest.raises(EncodeError, match=r"gives the shape \[1, 3, 8\] for a batch of texts"):
        model.encode(loader("text", ["a car"]))


def test_texts_of_other_lengths_beside_it_do_not_change_a_vector(folders):
    model = encoder(folders("altclip"))
    alone = model.encode(loader("text", ["A red car"]))
    beside = model.encode(loader("text", ["A red car", "x" * 60, "a"]))[:1]
    torch.testing.assert_close(alone, beside, atol=1e-6, rtol=0)


def test_padding_on_the_left_is_kept_whole(copy):
    folder = changed_json(copy("altclip"), "tokenizer_config.json", lambda c: c.update(padding_side="left"))
    model = encoder(folder)
    tokens, mask = model.tokenise(["a car", "a"])
    assert (tokens.shape, model.fixed_length) == ((2, 77), True)
    assert mask[1].tolist() == [0] * (77 - int(mask[1].sum())) + [1] * int(mask[1].sum())
