"""sentence-transformers folders: the library's own vectors, with our checks around them."""

import json
import shutil

import huggingface_hub
import model_folders
import numpy as np
import pytest
import torch
from mteb.types import PromptType
from PIL import Image
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from stand_ins import put_into_hub_cache

from mteb_vehicle_search.errors import EncodeError, ModelLoadError
from mteb_vehicle_search.models.sentence import SentenceEncoder, _told_of_texts
from mteb_vehicle_search.models.transformers_dual import TransformersEncoder

CAPTIONS = ["A red car by the sea", "", "two dogs " * 60, "http://example.invalid/car.jpg", "é 車"]
CLIP = "0_CLIPModel"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Write CLIP as older versions of the library hold it; nobody changes it."""
    return model_folders.write_sentence_clip(tmp_path_factory.mktemp("sentence") / "model")


@pytest.fixture
def copy(made, tmp_path):
    return shutil.copytree(made, tmp_path / "copy")


def encoder(folder, **given):
    return SentenceEncoder("org/model", None, "cpu", folder=folder, **given)


def images():
    generator = np.random.default_rng(0)
    sizes = [(61, 40), (33, 90), (32, 32)]
    return [Image.fromarray(generator.integers(0, 256, (h, w, 3), dtype=np.uint8)) for w, h in sizes]


def loader(kind, items, size=2):
    return torch.utils.data.DataLoader(
        [{kind: one} for one in items], batch_size=size, collate_fn=lambda rows: {kind: [row[kind] for row in rows]}
    )


def changed(folder, name, change):
    content = json.loads((folder / name).read_text(encoding="utf-8"))
    content = change(content) or content
    (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder


@pytest.fixture(scope="module", params=["of old", "multimodal", "with a projection"])
def folder(request, made, tmp_path_factory):
    """Give a folder of each kind: CLIPModel, a multimodal Transformer, and one with a dense layer behind."""
    if request.param == "of old":
        return made
    from sentence_transformers.base.modules import Dense, Normalize, Transformer

    base = tmp_path_factory.mktemp("later")
    clip = model_folders.write_clip(base / "clip")
    behind = [Dense(24, 8, activation_function=None), Normalize()] if "projection" in request.param else []
    model = SentenceTransformer(modules=[Transformer(str(clip)), *behind], device="cpu")
    model.save_pretrained(str(base / "model"), create_model_card=False)
    return base / "model"


def test_vectors_are_the_librarys_own(folder):
    own = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    model = encoder(folder)
    wanted = own.encode(images(), convert_to_tensor=True, normalize_embeddings=True)
    found = model.encode(loader("image", images()), prompt_type=PromptType.document)
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=0)
    wanted = own.encode([{"text": text} for text in CAPTIONS], convert_to_tensor=True, normalize_embeddings=True)
    found = model.encode(loader("text", CAPTIONS), prompt_type=PromptType.query, task_metadata=None, hf_split="test")
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=0)
    assert (found.dtype, str(found.device)) == (torch.float32, "cpu")


def test_they_are_those_of_the_clip_within(made):
    within = TransformersEncoder("org/model", None, "cpu", folder=made / CLIP)
    texts = [text for text in CAPTIONS if "example" not in text]
    wanted = within.encode(loader("text", texts))
    torch.testing.assert_close(encoder(made).encode(loader("text", texts)), wanted, atol=1e-6, rtol=0)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "CMYK"])
def test_an_image_of_other_channels_is_what_it_is_in_colours(copy, mode):
    # As of a processor that leaves it to the caller.
    changed(copy / CLIP, "preprocessor_config.json", lambda c: c.update(do_convert_rgb=False))
    given = images()[0].convert(mode)
    found, wanted = (encoder(copy).encode(loader("image", [one])) for one in (given, given.convert("RGB")))
    assert torch.equal(found, wanted)


def test_vectors_of_a_lower_precision_are_of_unit_length_in_fp32(made):
    found = encoder(made, precision="bf16").encode(loader("text", CAPTIONS))
    torch.testing.assert_close(found.norm(dim=1), torch.ones(len(CAPTIONS)), atol=1e-6, rtol=0)


def test_a_text_is_never_taken_for_the_place_of_an_image(made, tmp_path):
    images()[0].save(tmp_path / "car.png")
    named = [str(tmp_path / "car.png"), "https://example.invalid/car.png"]
    both = encoder(made).encode(loader("text", [*named, "a car"], size=3))
    assert both.shape == (3, 24)
    assert (both[0] - both[1]).abs().max() > 1e-6


def test_queries_and_documents_are_embedded_by_the_librarys_own_methods(made, monkeypatch):
    model, asked = encoder(made), []
    for name in ("encode_query", "encode_document"):
        monkeypatch.setattr(
            model.sentence_transformer,
            name,
            lambda items, name=name, **given: asked.append((name, given["batch_size"])) or torch.ones(len(items), 4),
        )
    model.encode(loader("text", ["a"]), prompt_type=PromptType.query, batch_size=7)
    model.encode(loader("text", ["a"]), prompt_type=PromptType.document)
    assert asked == [("encode_query", 7), ("encode_document", 32)]


def test_captions_that_are_cut_are_counted_with_the_prompt_of_queries(made, monkeypatch):
    model = encoder(made)
    assert "texts_cut" not in model.describe()
    library = model.sentence_transformer
    long = "a " * 100
    model.encode(loader("text", [*CAPTIONS, long]), prompt_type=PromptType.query)
    limit = library.max_seq_length
    told = {"context_tokens": limit, "texts": 6, "texts_cut": 2}
    assert {key: model.describe()[key] for key in told} == told
    model.encode(loader("image", images()))
    assert model.describe()["texts_cut"] == 2, "images are no texts"
    own = library.preprocess([{"text": long}])["attention_mask"].sum().item()
    assert own == limit < len(library.tokenizer(long, verbose=False)["input_ids"])
    monkeypatch.setitem(library.prompts, "query", long)
    model.encode(loader("text", ["a", "b"]), prompt_type=PromptType.query)
    assert model.describe()["texts_cut"] == 2
    model.encode(loader("text", ["a", "b"]), prompt_type=PromptType.document)
    assert model.describe()["texts_cut"] == 0


@pytest.mark.parametrize("limit", [None, 10**30])
def test_what_is_cut_is_not_told_where_it_is_not_known(made, limit):
    model = encoder(made)
    model.sentence_transformer.max_seq_length = limit
    assert _told_of_texts(model.sentence_transformer, ["a"]) == {}


@pytest.mark.parametrize("found", [torch.ones(2, 3, 4), [torch.ones(3, 4)] * 2, torch.ones(1, 4)])
def test_what_is_no_vector_for_each_input_is_refused(made, monkeypatch, found):
    model = encoder(made)
    monkeypatch.setattr(model.sentence_transformer, "encode_document", lambda items, **given: found)
    with pytest.raises(EncodeError, match=r"org/model gives .* for 2 inputs; our search takes one vector for each"):
        model.encode(loader("text", ["a", "b"]))


def test_inputs_of_neither_kind_and_none_at_all_are_refused(made):
    with pytest.raises(EncodeError, match=r"neither 'image' nor 'text', only \['audio'\]"):
        encoder(made).encode(loader("audio", ["a"]))
    with pytest.raises(EncodeError, match="nothing to encode"):
        encoder(made).encode([])


# What is refused before anything is encoded


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("MultiVectorEncoder", "which gives a vector for each token"),
        ("ColBERT", "is a ColBERT of sentence-transformers, which gives a vector for each token"),
        ("SparseEncoder", "which gives a sparse vector of words"),
        ("CrossEncoder", "which gives no vectors"),
        ("Other", "is a Other of sentence-transformers; image search takes one vector"),
    ],
)
def test_models_of_other_outcomes_are_refused_by_name_before_they_are_loaded(copy, kind, reason):
    changed(copy, "config_sentence_transformers.json", lambda c: c.update(model_type=kind))
    (copy / CLIP / "model.safetensors").write_bytes(b"never read")
    with pytest.raises(ModelLoadError, match=reason):
        encoder(copy)


@pytest.mark.parametrize(
    ("type_", "reason"),
    [
        ("pylate.models.Dense", "gives a vector for each token"),
        ("sentence_transformers.multi_vector_encoder.modules.MultiVectorMask", "gives a vector for each token"),
        ("custom_st.Transformer", "custom_st.Transformer in modules.json is not the library's; code that comes with"),
        ("sentence_transformers.base.modules.router.Router", "a Router .* is not offered.\nmteb_.*from_functions"),
        ("sentence_transformers.models.Asym", "a Asym of sentence-transformers"),
    ],
)
def test_modules_of_another_kind_are_refused(copy, type_, reason):
    module = {"idx": 1, "name": "1", "path": "1_Own", "type": type_}
    changed(copy, "modules.json", lambda c: [*c, module])
    with pytest.raises(ModelLoadError, match=reason):
        encoder(copy)


def test_a_model_of_texts_only_is_refused_before_anything_is_encoded(tmp_path):
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling
    from transformers import BertConfig, BertModel

    folder = tmp_path / "bert"
    model_folders.save_model(BertModel, BertConfig(**model_folders.TOWER, vocab_size=104), folder, 0)
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(chr(code) for code in range(97, 123))]
    (folder / "vocab.txt").write_text("\n".join(pieces), encoding="utf-8")
    model_folders.write_json(folder / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer"})
    model = SentenceTransformer(modules=[Transformer(str(folder)), Pooling(32)], device="cpu")
    model.save_pretrained(str(tmp_path / "model"), create_model_card=False)
    with pytest.raises(ModelLoadError, match="embeds no images: it is a text model"):
        encoder(tmp_path / "model")
    # What its configuration promises, the library must see as well.
    changed(tmp_path / "model", "config.json", lambda c: c.update(vision_config={}))
    changed(tmp_path / "model", "sentence_bert_config.json", lambda c: c.pop("modality_config", None) and None)
    with pytest.raises(
        ModelLoadError, match="org/model embeds text, and no images; image search takes a model of both"
    ):
        encoder(tmp_path / "model").encode(loader("text", ["a"]))


@pytest.mark.parametrize("content", ["", "{", "[1]", "{}", "[]", '[{"type": "sentence_transformers.x"}]'])
def test_a_file_of_modules_that_is_none_is_refused(copy, content):
    (copy / "modules.json").write_text(content, encoding="utf-8")
    with pytest.raises(ModelLoadError, match=r"modules\.json|embeds no images"):
        encoder(copy)


@pytest.mark.parametrize("place", ["../elsewhere", "..", "/etc", "a/b", "a\\b", "."])
def test_modules_that_lie_elsewhere_are_refused(copy, place):
    changed(copy, "modules.json", lambda c: c[0].update(path=place))
    with pytest.raises(ModelLoadError, match="which does not lie beside it"):
        encoder(copy)


def test_a_module_that_is_missing_is_refused(copy):
    changed(copy, "modules.json", lambda c: c[0].update(path="9_Missing"))
    with pytest.raises(ModelLoadError, match="holds no weights"):
        encoder(copy)


def test_pickled_weights_are_refused(copy):
    (copy / CLIP / "model.safetensors").rename(copy / CLIP / "pytorch_model.bin")
    with pytest.raises(ModelLoadError, match=r"as a pickle \(0_CLIPModel/pytorch_model\.bin\), which is never loaded"):
        encoder(copy)


def test_a_later_module_has_no_pickle_and_no_weights_that_the_library_does_not_see(copy):
    dense = {"idx": 1, "name": "1", "path": "1_Dense", "type": "sentence_transformers.models.Dense"}
    changed(copy, "modules.json", lambda c: [*c, dense])
    (copy / "1_Dense").mkdir()
    (copy / "1_Dense" / "pytorch_model.bin").write_bytes(b"never read")
    with pytest.raises(ModelLoadError, match=r"1_Dense/pytorch_model\.bin\), which is never loaded"):
        encoder(copy)
    # The library reads one name only, and else the pickle.
    shutil.copy(copy / CLIP / "model.safetensors", copy / "1_Dense" / "other.safetensors")
    with pytest.raises(ModelLoadError, match=r"1_Dense/other\.safetensors\.\nName the right one model\.safetensors"):
        encoder(copy)


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("config.json", {"transformers_weights": "b.safetensors"}, "names weights of its own"),
        ("config.json", {"quantization_config": {}}, "quantised weights are not offered"),
        ("adapter_config.json", {}, "holds an adapter"),
    ],
)
def test_what_transformers_would_load_beside_the_weights_is_refused(copy, name, change, reason):
    path = copy / CLIP / name
    path.write_text(json.dumps({**(json.loads(path.read_text()) if path.exists() else {}), **change}))
    with pytest.raises(ModelLoadError, match=reason):
        encoder(copy)


def test_another_similarity_than_the_cosine_is_refused(copy):
    changed(copy, "config_sentence_transformers.json", lambda c: c.update(similarity_fn_name="cosine"))
    assert encoder(copy)
    changed(copy, "config_sentence_transformers.json", lambda c: c.update(similarity_fn_name="dot"))
    with pytest.raises(ModelLoadError, match="compares vectors by 'dot'; here they are compared by cosine"):
        encoder(copy)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda w: w.pop("text_projection.weight"), "text_projection.weight is missing"),
        (lambda w: w.update(extra=torch.zeros(1)), "extra is unknown"),
    ],
)
def test_a_checkpoint_that_lacks_weights_is_refused(copy, change, reason):
    # The library itself fills them with random numbers.
    weights = load_file(copy / CLIP / "model.safetensors")
    change(weights)
    save_file(weights, copy / CLIP / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelLoadError, match=reason):
        encoder(copy).encode(loader("text", ["a"]))


def test_buffers_of_older_versions_are_passed_over(copy, made):
    weights = load_file(copy / CLIP / "model.safetensors")
    weights["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    save_file(weights, copy / CLIP / "model.safetensors", {"format": "pt"})
    found, wanted = (encoder(one).encode(loader("text", CAPTIONS)) for one in (copy, made))
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=0)


@pytest.mark.parametrize("content", [b"", b"\x00" * 64])
def test_weights_that_are_cut_off_are_refused(copy, content):
    (copy / CLIP / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelLoadError):
        encoder(copy).encode(loader("text", ["a"]))


# What it says of itself


def test_it_says_how_it_works(made, monkeypatch):
    model = encoder(made)
    assert model.describe() == {"device": "cpu", "precision": "fp32", "library": "sentence-transformers"}
    assert encoder(made, precision="bf16").sentence_transformer.dtype == torch.bfloat16
    monkeypatch.setenv("VEHICLE_SEARCH_PRECISION", "bf16")
    assert encoder(made).describe()["precision"] == "bf16"
    with pytest.raises(TypeError):
        encoder(made, preprocess="fast")


def test_other_weights_and_another_precision_give_another_fingerprint(copy, made):
    before = encoder(made).fingerprint()
    assert before == encoder(copy).fingerprint()
    assert before != encoder(copy, precision="bf16").fingerprint()
    weights = load_file(copy / CLIP / "model.safetensors")
    weights["logit_scale"] += 1
    save_file(weights, copy / CLIP / "model.safetensors", {"format": "pt"})
    assert before != encoder(copy).fingerprint()


def test_a_snapshot_of_the_hub_is_loaded(copy, made, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    snapshot = put_into_hub_cache(tmp_path, "org/model", "0" * 40, _flat(copy))
    assert (snapshot / "modules.json").is_symlink()
    asked, download = [], huggingface_hub.snapshot_download
    monkeypatch.setattr(
        huggingface_hub,
        "snapshot_download",
        lambda *args, **given: asked.extend(given.get("allow_patterns", ())) or download(*args, **given),
    )
    model = SentenceEncoder("org/model", "0" * 40, "cpu")
    wanted = encoder(made).encode(loader("text", CAPTIONS))
    torch.testing.assert_close(model.encode(loader("text", CAPTIONS)), wanted, atol=1e-6, rtol=0)
    # What is no part of the model stays on the hub.
    assert set(asked) == set(model.found.files.names)
    assert {"model.safetensors", "tokenizer_config.json"} < set(asked)
    assert not {"training_args.json", "other.model"} & set(asked)
    with pytest.raises(ModelLoadError, match="not in the hub cache"):
        SentenceEncoder("org/other", "0" * 40, "cpu")


def _flat(folder):
    """Put the first module beside `modules.json`, as newer versions save it."""
    for path in (folder / CLIP).iterdir():
        path.rename(folder / path.name)
    (folder / CLIP).rmdir()
    for name in ("training_args.json", "other.model"):
        (folder / name).write_text("{}", encoding="utf-8")
    return changed(folder, "modules.json", lambda c: c[0].update(path=""))
