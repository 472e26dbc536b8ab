"""The SigLIPs' captions: held to the authors' rule, to open_clip's, and against what mteb's wrapper makes of them."""

import importlib
import json
import random
import shutil
import string
import sys
from types import ModuleType, SimpleNamespace

import model_folders
import pytest
import torch
from PIL import Image
from real import real_captions, real_folder
from tokenizers import Tokenizer

from mteb_vehicle_search.errors import ModelLoadError
from mteb_vehicle_search.models.transformers_dual import TransformersEncoder
from mteb_vehicle_search.models.transformers_text import ascii_lower, lower_without_punctuation

WORDS = ["a", "The", "car", "CAR", "van's", "man", "wearing", "é", "Ä", "ß", "İstanbul", "Straße", "車", "🚗", "don't"]
WORDS += [
    "red-and-white",
    "__init__",
    "(left)",
    "&amp;",
    "<eos",
    "10%",
    "N.Y.",
    "...",
    "x" * 30,
    "\u00a0",
    "Ωμέγα",
    "ﬁne",
]
PAD, END, BEGINNING = 0, 1, 2


def random_captions(count=10_000, seed=0):
    """Return captions of words, letters, punctuation and spaces, from none to too long, the same each time."""
    drawn = random.Random(seed)
    letters = string.ascii_letters + string.punctuation + string.digits + "  \t\n"
    captions = []
    for _ in range(count):
        words = [
            drawn.choice(WORDS) if drawn.random() < 0.7 else "".join(drawn.choices(letters, k=drawn.randint(1, 8)))
            for _ in range(drawn.choice([0, 1, 3, 6, 9, 12, 20]))
        ]
        captions.append(drawn.choice([" ", " ", "  ", "\n"]).join(words))
    return captions


@pytest.fixture(scope="module")
def siglip2(tmp_path_factory):
    return model_folders.write_siglip2(tmp_path_factory.mktemp("siglip2") / "model")


@pytest.fixture(scope="module")
def siglip(tmp_path_factory):
    return model_folders.write_siglip(tmp_path_factory.mktemp("siglip") / "model")


def encoder(folder, **given):
    return TransformersEncoder("org/model", None, "cpu", folder=folder, **given)


def loader(kind, items):
    return torch.utils.data.DataLoader([{kind: i} for i in items], collate_fn=lambda rows: {kind: [rows[0][kind]]})


def by_the_authors_rule(folder, captions):
    """Write `lower(...)|tok(length=64, model="gemma", bos="no", eos="sticky")` down anew.

    TensorFlow's `strings.lower` lowers bytes, of which only A to Z are letters; "sticky" keeps the end when it cuts.
    """
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    rows = []
    for caption in captions:
        tokens = [*tokenizer.encode(caption.encode().lower().decode(), add_special_tokens=False).ids, END]
        if len(tokens) >= 64:
            tokens = [*tokens[:63], tokens[-1]]
        rows.append(tokens + [PAD] * (64 - len(tokens)))
    return torch.tensor(rows)


@pytest.fixture(params=["random", pytest.param("real", marks=[pytest.mark.real])])
def captions(request):
    """Give 10,000 random captions, or those of the real photographs."""
    if request.param == "random":
        return random_captions()
    if real_folder() is None:
        pytest.skip("no folder of real photographs (VEHICLE_SEARCH_REAL)")
    return [caption for five in real_captions() for caption in five]


def test_captions_are_prepared_as_the_authors_demo_prepares_them(siglip2, captions):
    model = encoder(siglip2)
    tokens, mask = model.tokenise(captions)
    wanted = by_the_authors_rule(siglip2, captions)
    assert torch.equal(tokens, wanted)
    assert torch.equal(mask, torch.ones_like(wanted))
    assert not (tokens == BEGINNING).any()
    assert ((tokens == END).sum(dim=1) == 1).all()
    assert (
        (model.describe()["text_rule"])
        == "lower case (ASCII), Gemma's tokens without a beginning and with an end, 64 tokens, padded on the right"
    )


def test_open_clips_canonicalisation_is_an_option(siglip2, captions):
    from open_clip.tokenizer import HFTokenizer

    own = HFTokenizer(str(siglip2), context_length=64, clean="canonicalize")
    model = encoder(siglip2, canonicalise="open_clip")
    tokens, _ = model.tokenise(captions)
    assert torch.equal(tokens, own(captions))
    assert not torch.equal(tokens, by_the_authors_rule(siglip2, captions))
    assert model.describe()["text_rule"].startswith("open_clip's canonicalisation (lower case, no punctuation)")
    assert model.fingerprint() != encoder(siglip2).fingerprint()


def test_what_mteb_makes_of_the_same_captions_keeps_their_capitals(siglip2):
    from mteb.models.model_implementations.siglip_models import SiglipModelWrapper

    stock = SiglipModelWrapper(str(siglip2), revision=None, device="cpu")

    def stock_tokens(captions):
        return stock.processor(text=captions, return_tensors="pt", padding="max_length", truncation=True)["input_ids"]

    captions = ["A Car by THE sea.", "a car by the sea."]
    capital, small = stock_tokens(captions)
    assert not torch.equal(capital, small)
    ours, _ = encoder(siglip2).tokenise(captions)
    assert torch.equal(ours[0], ours[1])
    # Nothing else is different: lowered by hand, the stock wrapper's tokens and vectors are ours.
    assert torch.equal(ours[0], small)
    found = encoder(siglip2).encode(loader("text", captions))
    vectors = torch.nn.functional.normalize(
        stock.get_text_embeddings(loader("text", captions), show_progress_bar=False)
    )
    torch.testing.assert_close(found[0], found[1], atol=1e-6, rtol=0)
    torch.testing.assert_close(found[1], vectors[1], atol=1e-6, rtol=0)
    assert (vectors[0] - vectors[1]).abs().max() > 1e-3
    images = [Image.effect_mandelbrot((60, 40), (-3, -2.5, 2, 2.5), 50).convert("RGB")]
    wanted = torch.nn.functional.normalize(stock.get_image_embeddings(loader("image", images)))
    # The stock processor resizes tensors, ours is Pillow's.
    torch.testing.assert_close(encoder(siglip2).encode(loader("image", images)), wanted, atol=1e-2, rtol=0)


def test_a_tokenizer_that_lowers_by_itself_gives_the_same(siglip2, tmp_path):
    later = model_folders.write_siglip2(tmp_path / "later", lower=True)
    captions = [caption for caption in random_captions(500) if caption.isascii()]
    assert torch.equal(encoder(later).tokenise(captions)[0], encoder(siglip2).tokenise(captions)[0])


def test_captions_may_be_left_as_they_are(siglip2):
    # For who trained on with captions as they are.
    tokens, _ = encoder(siglip2, canonicalise="none").tokenise(["A Car", "a car"])
    assert not torch.equal(tokens[0], tokens[1])
    assert torch.equal(tokens[1], encoder(siglip2).tokenise(["A Car"])[0][0])


@pytest.mark.parametrize(("side", "padded"), [("right", "right"), ("left", "left"), (None, "right")])
def test_the_padding_stands_where_the_checkpoint_says(tmp_path, side, padded):
    folder = model_folders.write_siglip2(tmp_path / "model", side=side)
    tokens, mask = encoder(folder).tokenise(["a car", "z" * 80, ""])
    ends = (tokens == END).nonzero()[:, 1].tolist()
    assert tokens.shape == mask.shape == (3, 64)
    if padded == "right":
        assert ends[1:] == [63, 0]
        assert tokens[0, ends[0] + 1 :].eq(PAD).all()
    else:
        assert ends == [63, 63, 63]
        assert tokens[2, :63].eq(PAD).all()
    assert encoder(folder).describe()["text_rule"].endswith(f"padded on the {padded}")


@pytest.mark.parametrize("says", ["tokenizer.json", "tokenizer_config.json"])
def test_it_is_enough_if_one_file_says_where_the_padding_stands(tmp_path, says):
    folder = model_folders.write_siglip2(tmp_path / "model", side="left")
    silent = {"tokenizer.json": "tokenizer_config.json", "tokenizer_config.json": "tokenizer.json"}[says]
    changed(folder, silent, lambda c: c.pop("padding_side" if "config" in silent else "padding"))
    assert encoder(folder).tokenise(["a car"])[0][0, -1] == END


def changed(folder, name, change):
    content = json.loads((folder / name).read_text(encoding="utf-8"))
    change(content)
    (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        (
            "tokenizer_config.json",
            lambda c: c.update(padding_side="left"),
            "pads on the left, tokenizer.json beside it",
        ),
        ("tokenizer_config.json", lambda c: c.update(padding_side="middle"), "pads on the middle"),
        ("tokenizer.json", lambda c: c.pop("model"), "tokenizer.json is missing or damaged"),
    ],
)
def test_a_checkpoint_that_contradicts_itself_is_refused(siglip2, tmp_path, name, change, reason):
    folder = changed(shutil.copytree(siglip2, tmp_path / "copy"), name, change)
    with pytest.raises(ModelLoadError, match=reason):
        encoder(folder)


def test_a_tokenizer_of_another_kind_is_refused(siglip2, tmp_path):
    folder = shutil.copytree(siglip2, tmp_path / "copy")
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    text = json.dumps(tokenizer).replace("<eos>", "[END]")
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    with pytest.raises(ModelLoadError, match="neither SigLIP's nor SigLIP 2's tokenizer: it ends no text"):
        encoder(folder)


@pytest.mark.parametrize("name", ["big_vision", "", "AUTHORS"])
def test_an_unknown_canonicalisation_is_refused_with_the_choice(siglip2, name):
    if not name:
        assert encoder(siglip2, canonicalise="").rule.described == encoder(siglip2).rule.described
        return
    with pytest.raises(ModelLoadError, match=f"canonicalise='{name}' is unknown") as caught:
        encoder(siglip2, canonicalise=name)
    assert caught.value.hint == "Choose from authors, open_clip, none."


def test_other_models_have_no_canonicalisation(tmp_path):
    with pytest.raises(ModelLoadError, match=r"canonicalise='open_clip' is for SigLIP; .* holds clip"):
        encoder(model_folders.write_clip(tmp_path / "clip"), canonicalise="open_clip")


def test_only_ascii_letters_are_lowered():
    assert ascii_lower("The ÄRZTE in İSTANBUL, Ω!") == "the Ärzte in İstanbul, Ω!"


# SigLIP 1


@pytest.fixture
def librarys_canonicalisation(monkeypatch):
    """Give transformers' own, whose module needs sentencepiece only to be imported."""
    name = "transformers.models.siglip.tokenization_siglip"
    before = set(sys.modules)
    monkeypatch.setitem(sys.modules, "sentencepiece", sys.modules.get("sentencepiece") or ModuleType("sentencepiece"))
    kind = importlib.import_module(name).SiglipTokenizer
    for module in set(sys.modules) - before - {"sentencepiece"}:
        if "sentencepiece" in module or module == name:
            monkeypatch.delitem(sys.modules, module)
    itself = SimpleNamespace(do_lower_case=True, remove_punctuation=lambda text: kind.remove_punctuation(None, text))
    return lambda text: kind.canonicalize_text(itself, text)


def test_siglip_1s_captions_are_canonicalised_as_the_librarys_tokenizer_does(librarys_canonicalisation, captions):
    assert [lower_without_punctuation(text) for text in captions] == [librarys_canonicalisation(t) for t in captions]


def test_siglip_1s_captions_end_and_are_padded_with_the_end(siglip, librarys_canonicalisation):
    captions = random_captions(500)
    tokenizer = Tokenizer.from_file(str(siglip / "tokenizer.json"))
    model = encoder(siglip)
    tokens, mask = model.tokenise(captions)
    cut = 0
    for caption, row in zip(captions, tokens.tolist(), strict=True):
        ids = tokenizer.encode(librarys_canonicalisation(caption), add_special_tokens=False).ids
        assert row == [*ids[:63], *[1] * (64 - len(ids[:63]))]
        cut += len(ids) > 63
    assert torch.equal(mask, torch.ones_like(tokens))
    assert [model.describe()[key] for key in ("texts", "texts_cut", "context_tokens")] == [500, cut, 64]
    assert 0 < cut < 500


@torch.inference_mode()
def test_siglip_1s_vectors_are_the_librarys(siglip):
    from transformers import AutoModel

    tokens, _ = encoder(siglip).tokenise(["A red car!", "two Dogs"])
    wanted = AutoModel.from_pretrained(siglip).eval().get_text_features(input_ids=tokens).pooler_output
    found = encoder(siglip).encode(loader("text", ["A red car!", "two Dogs"]))
    torch.testing.assert_close(found, torch.nn.functional.normalize(wanted), atol=1e-6, rtol=0)


def test_a_vocabulary_that_was_not_converted_needs_sentencepiece(siglip, tmp_path, monkeypatch):
    folder = shutil.copytree(siglip, tmp_path / "copy")
    (folder / "tokenizer.json").rename(folder / "spiece.model")
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(ModelLoadError, match=r"has no tokenizer\.json, and reading spiece\.model needs") as caught:
        encoder(folder)
    assert caught.value.hint == "pip install sentencepiece"


def test_it_gives_the_same_rule_by_the_package(siglip, tmp_path, monkeypatch):
    class Processor:
        def __init__(self, model_file):
            self.eos_id = lambda: 1

        def encode(self, texts):
            return [[*map(ord, text)] for text in texts]

    folder = shutil.copytree(siglip, tmp_path / "copy")
    (folder / "tokenizer.json").rename(folder / "spiece.model")
    monkeypatch.setitem(sys.modules, "sentencepiece", SimpleNamespace(SentencePieceProcessor=Processor))
    model = encoder(folder)
    assert model.tokenise(["A Car!"])[0].tolist() == [[*map(ord, "a car"), *[1] * 59]]
    assert model.describe()["text_rule"] == encoder(siglip).describe()["text_rule"]


def test_it_is_said_that_mtebs_wrapper_is_replaced(siglip2, caplog):
    caplog.set_level("INFO", "mteb.vehicle_search")
    _ = encoder(siglip2, switch="VEHICLE_SEARCH_STOCK_SIGLIP").towers
    (line,) = [record.message for record in caplog.records if record.name == "mteb.vehicle_search"]
    assert "VEHICLE_SEARCH_STOCK_SIGLIP=1 keeps that" in line
    assert "lower case (ASCII)" in line
    caplog.clear()
    _ = encoder(siglip2).towers
    assert not [record for record in caplog.records if record.name == "mteb.vehicle_search"]


@torch.inference_mode()
def test_a_text_tower_that_is_narrower_than_the_vectors_is_projected(tmp_path):
    # As the giant's.
    from transformers import AutoModel, SiglipConfig, SiglipModel

    folder = model_folders.write_siglip2(tmp_path / "model")
    config = SiglipConfig.from_pretrained(folder)
    config.vision_config.hidden_size = config.text_config.projection_size = 48
    model_folders.save_model(SiglipModel, config, folder, 1)
    tokens, _ = encoder(folder).tokenise(["a car"])
    wanted = AutoModel.from_pretrained(folder).eval().get_text_features(input_ids=tokens).pooler_output
    found = encoder(folder).encode(loader("text", ["a car"]))
    assert found.shape == (1, 48)
    torch.testing.assert_close(found, torch.nn.functional.normalize(wanted), atol=1e-6, rtol=0)
