"""Damaged, foreign and pickled checkpoints of both kinds: each is refused with an error that says what is wrong."""

import json
import pickle
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from stand_ins import SMALL_CLIP, put_into_hub_cache, random_open_clip, tiny_jina, write_tokenizer

import mteb_vehicle_search.models
from mteb_vehicle_search.errors import ModelLoadError
from mteb_vehicle_search.models import jina_clip, jina_layout, jina_towers, snapshot
from mteb_vehicle_search.models.checkpoint import Checkpoint
from mteb_vehicle_search.models.jina_clip import JinaClipEncoder
from mteb_vehicle_search.models.open_clip import OpenClipEncoder

REVISION = "0123456789abcdef0123456789abcdef01234567"
SOURCES = {path.name: path.read_text() for path in Path(mteb_vehicle_search.models.__file__).parent.glob("*.py")}


class Kind:
    """One of the two loaders, with a small model in the exact layout of the real one."""

    def __init__(self, name, folder, encoder, weights, key):
        self.name, self.folder, self.encoder, self.key = f"org/{name}", folder, encoder, key
        self.weights = folder / weights

    def local(self, **given):
        return self.encoder(self.name, None, "cpu", folder=self.folder, **given)

    def change(self, change):
        weights = load_file(self.weights)
        change(weights)
        save_file(weights, self.weights)


@pytest.fixture(params=["clip", "jina"])
def kind(request, tmp_path, monkeypatch):
    folder = tmp_path / "model"
    if request.param == "clip":
        random_open_clip(folder, SMALL_CLIP)
        return Kind("clip", folder, OpenClipEncoder, "open_clip_model.safetensors", "ln_final.bias")
    tiny_jina(folder)
    counts = jina_layout.count_parameters(Checkpoint(folder / "model.safetensors").shapes)
    monkeypatch.setattr(jina_towers.layout, "PUBLISHED_PARAMETERS", counts)
    key = "text_model.transformer.roberta.emb_ln.bias"
    return Kind("jina", folder, JinaClipEncoder, "model.safetensors", key)


@pytest.fixture
def cached(kind, tmp_path, monkeypatch):
    """Put the model into a hub cache; give its snapshot."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return put_into_hub_cache(tmp_path, kind.name, REVISION, kind.folder)


def test_a_snapshot_is_loaded(kind, cached):
    model = kind.encoder(kind.name, REVISION, "cpu")
    assert model.encode(texts(["a car", "a red car"])).shape == (2, model.towers.image(pixels(model)).shape[1])
    assert not re.search("[0-9a-f]{40}", model.weights_id())
    assert re.search("[0-9a-f]{40}", kind.encoder(kind.name, None, "cpu", folder=cached).weights_id())


def texts(items):
    return torch.utils.data.DataLoader([{"text": item} for item in items])


def pixels(model):
    return torch.zeros((1, 3, model.crop.size_px, model.crop.size_px))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights, key: weights.pop(key), "{key} is missing"),
        (lambda weights, key: weights.update(extra=torch.zeros(1)), "extra is unknown"),
        (lambda weights, key: weights.update({key: torch.zeros(3)}), r"{key} has shape \[3\], not"),
        (lambda weights, key: weights.clear(), r"is missing; .*; and \d+ more\."),
    ],
    ids=["missing key", "extra key", "wrong shape", "no keys"],
)
def test_another_layout_is_refused(kind, change, message):
    kind.change(lambda weights: change(weights, kind.key))
    with pytest.raises(ModelLoadError, match=message.format(key=re.escape(kind.key))) as caught:
        _ = kind.local().towers
    assert str(kind.weights) in str(caught.value)


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_a_truncated_file_is_refused(kind, kept):
    kind.weights.write_bytes(kind.weights.read_bytes()[:kept])
    with pytest.raises(ModelLoadError, match="missing, truncated or not a safetensors file"):
        _ = kind.local().towers


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data[:-1] + bytes([data[-1] ^ 1])])
def test_a_snapshot_truncated_or_tampered_with_is_refused(kind, cached, damage):
    blob = (cached / kind.weights.name).resolve()
    blob.write_bytes(damage(blob.read_bytes()))
    with pytest.raises(ModelLoadError, match=f"tampered with: its sha256 is .*, not {blob.name}"):
        _ = kind.encoder(kind.name, REVISION, "cpu").towers


def test_a_file_is_hashed_once(kind, cached, monkeypatch):
    hashed = []
    monkeypatch.setattr(snapshot, "file_sha256", lambda path: hashed.append(path.name) or path.resolve().name)
    model = kind.encoder(kind.name, REVISION, "cpu")
    for _ in range(2):
        model.encode(texts(["a car"]))
    model.fingerprint()
    assert hashed == [kind.weights.name]


def test_the_published_digest_is_required_at_the_published_revision(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    put_into_hub_cache(tmp_path, "jinaai/jina-clip-v2", jina_clip.REVISION, tiny_jina(tmp_path / "model"))
    with pytest.raises(ModelLoadError, match=f"not {jina_clip.DIGESTS['config.json']}"):
        JinaClipEncoder("jinaai/jina-clip-v2", jina_clip.REVISION, "cpu")


def test_a_wrong_revision_is_refused(kind, cached):
    other = REVISION[::-1]
    with pytest.raises(ModelLoadError, match=f"{kind.name} at {other[:12]} is not in the hub cache"):
        kind.encoder(kind.name, other, "cpu")
    for revision in ("main", REVISION[:12], None, REVISION.upper()):
        with pytest.raises(ModelLoadError, match="is not a full commit hash"):
            kind.encoder(kind.name, revision, "cpu")


def test_a_snapshot_without_weights_is_refused(kind, cached):
    (cached / kind.weights.name).unlink()
    with pytest.raises(ModelLoadError, match=rf"({kind.weights.name}|weights)[\s\S]*hf download {kind.name}"):
        _ = kind.encoder(kind.name, REVISION, "cpu").towers


def test_pickled_weights_are_never_read(kind):
    torch.save(load_file(kind.weights), kind.folder / "open_clip_pytorch_model.bin")
    kind.weights.unlink()
    with pytest.raises(ModelLoadError, match=r"is missing; of weights, only safetensors|a pickle .*never loaded"):
        _ = kind.local().towers


def test_neither_pickle_nor_remote_code(kind, cached, monkeypatch):
    def forbidden(*args, **kwargs):
        raise AssertionError("pickle")

    class Forbidden(pickle.Unpickler):
        load = forbidden

    model = kind.encoder(kind.name, REVISION, "cpu")
    for owner, name in ((pickle, "load"), (pickle, "loads"), (torch, "load"), (torch.serialization, "load")):
        monkeypatch.setattr(owner, name, forbidden)
    monkeypatch.setattr(pickle, "Unpickler", Forbidden)
    model.encode(texts(["a car"]))
    model.towers.image(pixels(model))


# Which words a module has that opens no model by them: those that say where one lies, or what is refused; and the one
# that reads a trainer's checkpoint, in a process of its own.
HARMLESS = {
    "located.py": {"hf-hub:"},
    "places.py": {"hf-hub:"},
    "open_clip.py": {"hf-hub:"},
    "layouts.py": {"pickle", "auto_map"},
    "listing.py": {".pt", ".pth", ".bin", "pickle", "AutoModel"},
    "conversion.py": {".pt", "pickle"},
    "trainer_checkpoint.py": {"pickle", "torch.load", "weights_only"},
    # Which tells the hub's cache by any, and that none of them is loaded.
    "snapshot.py": {".pt", ".pth", ".bin", "pickle"},
    "sentence.py": {"hf-hub:", "pickle"},
    "transformers_dual.py": {"AutoModel", "hf-hub:"},
    "transformers_text.py": {"AutoTokenizer"},
}


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_the_loaders_never_ask_for_remote_code_or_pickle(name):
    never = r"trust_remote_code(?!=False)|auto_map|AutoModel|AutoTokenizer|pickle|torch\.load|weights_only|hf-hub:"
    never += r"|\.bin\b|\.pth?\b"
    assert {*re.findall(never, SOURCES[name])} - HARMLESS.get(name, set()) == set()


@pytest.mark.parametrize("stated", [False, True])
def test_an_activation_mixed_up_is_refused(tmp_path, stated):
    folder = random_open_clip(tmp_path, SMALL_CLIP)
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["quick_gelu"] = stated
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    OpenClipEncoder("org/clip", None, "cpu", folder=folder, quick_gelu=stated)
    with pytest.raises(ModelLoadError, match=rf"trained with .*GELU.*says quick_gelu={stated}"):
        OpenClipEncoder("org/clip", None, "cpu", folder=folder, quick_gelu=not stated)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"model_cfg": {}}', '{"model_cfg": {"vision_cfg": {}, "text_cfg": {}}}']
)
def test_a_damaged_configuration_is_refused(kind, text):
    for name in ("open_clip_config.json", "config.json"):
        if (kind.folder / name).exists():
            (kind.folder / name).write_text(text)
    with pytest.raises(ModelLoadError, match=r"config.json"):
        kind.local()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"tokenizer_kwargs": {"trust_remote_code": True}}, "asks for remote code, which is never run"),
        ({"tokenizer_kwargs": {"trust_remote_code": None}}, "asks for remote code, which is never run"),
        ({"hf_model_name": "roberta-base"}, "comes from another repository"),
    ],
)
def test_a_configuration_that_wants_foreign_code_is_refused(tmp_path, changed, message):
    folder = random_open_clip(tmp_path, SMALL_CLIP)
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"].update(changed)
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(ModelLoadError, match=message):
        OpenClipEncoder("org/clip", None, "cpu", folder=folder)


def test_a_tokenizer_of_transformers_comes_with_the_snapshot(tmp_path, monkeypatch):
    from transformers import PreTrainedTokenizerFast

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    folder = random_open_clip(tmp_path / "model", SMALL_CLIP)
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = "org/other"
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(ModelLoadError, match=r"tokenizer.json is missing"):
        _ = OpenClipEncoder("org/clip", None, "cpu", folder=folder).towers
    write_tokenizer(tmp_path / "tokenizer.json")
    made = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"), pad_token="<pad>")  # noqa: S106
    made.save_pretrained(folder)
    put_into_hub_cache(tmp_path, "org/clip", REVISION, folder)
    model = OpenClipEncoder("org/clip", REVISION, "cpu")
    assert model.encode(texts(["a car", "a red car"])).shape == (2, 32)
    assert model.tokenise(["a car"])[0].shape == (1, 77)


def test_a_damaged_tokenizer_is_refused(tmp_path):
    folder = tiny_jina(tmp_path)
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(ModelLoadError, match=r"tokenizer.json is damaged"):
        JinaClipEncoder("org/jina", None, "cpu", folder=folder).tokenise(["a car"])
