"""A model by where it lies: what is found in a folder or on the hub, under which name and revision."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import time
from pathlib import Path, PureWindowsPath
from types import SimpleNamespace
from typing import Any

import model_folders
import mteb
import pytest
import torch
from hub_server import HubServer
from safetensors.torch import load_file, save_file
from small_set import small_set
from stand_ins import SMALL_CLIP, put_into_hub_cache, random_open_clip, write_tokenizer

from mteb_vehicle_search import models
from mteb_vehicle_search.errors import ModelLoadError, UsageError
from mteb_vehicle_search.models import digests, layouts, listing, snapshot
from mteb_vehicle_search.models.located import located_meta
from mteb_vehicle_search.models.open_clip import CONFIG, WEIGHTS, OpenClipEncoder
from mteb_vehicle_search.models.places import find, is_located
from mteb_vehicle_search.models.sentence import SentenceEncoder
from mteb_vehicle_search.models.transformers_dual import TransformersEncoder

COMMIT = "0123456789abcdef0123456789abcdef01234567"
QUICK = {**SMALL_CLIP, "quick_gelu": True}
# Each encoder with what writes a model for it.
ENCODERS = {
    "open_clip": (OpenClipEncoder, model_folders.write_open_clip),
    "transformers": (TransformersEncoder, model_folders.write_clip),
    "sentence": (SentenceEncoder, model_folders.write_sentence_clip),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_open_clip(tmp_path_factory.mktemp("made") / "model", SMALL_CLIP)


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "my-clip"))


def write(folder: Path, files: dict[str, Any]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        (folder / name).write_bytes(data)
    return folder


def tensors(path: Path, **values: list[float]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: torch.tensor(value) for key, value in values.items()}, path)


def transformers_folder(folder: Path, model_type: str = "clip", **config: Any) -> Path:
    write(folder, {"config.json": {"model_type": model_type, **config}, "preprocessor_config.json": {"size": 32}})
    tensors(folder / "model.safetensors", a=[1.0, 2.0], b=[3.0])
    return folder


def sentence_folder(folder: Path, module: str = "sentence_transformers.models.CLIPModel", **files: Any) -> Path:
    modules = [
        {"idx": 0, "name": "0", "path": "0_Model", "type": module},
        {"idx": 1, "name": "1", "path": "1_Dense", "type": "sentence_transformers.models.Dense"},
    ]
    write(folder, {"modules.json": modules, "0_Model/config.json": {"model_type": "clip"}, **files})
    tensors(folder / "0_Model" / "model.safetensors", a=[1.0])
    tensors(folder / "1_Dense" / "model.safetensors", b=[1.0, 2.0])
    return folder


def refused(call: Any, *given: Any, error: type[Exception] = ModelLoadError) -> str:
    with pytest.raises(error) as caught:
        call(*given)
    return str(caught.value)


# Which names say where a model lies.


@pytest.mark.parametrize(
    "name",
    [
        "hf-hub:org/name",
        "./x",
        "../x",
        ".",
        "..",
        "/x/y",
        "~/x",
        "~",
        "C:\\models\\x",
        "C:/models/x",
        ".\\x",
        "hf-hub:",
    ],
)
def test_a_name_that_begins_like_a_place_is_one(name: str) -> None:
    assert is_located(name)


@pytest.mark.parametrize(
    "name",
    ["openai/clip-vit-base-patch32", "x", "", "...", ".hidden/x", "hub:org/name", "c:x", "a\0b", "x" * 5000, None, 3],
)
def test_any_other_name_is_none(name: object) -> None:
    assert not is_located(name)


def test_a_folder_with_a_model_needs_no_dots(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    (folder.parent / "empty").mkdir()
    assert is_located("my-clip")
    assert not is_located("empty")
    assert not is_located("my-clip-2")
    assert located_meta("my-clip").name == "local/my-clip"


def test_a_folder_that_is_no_image_text_model_may_be_a_name_of_mteb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    transformers_folder(tmp_path / "org" / "bert", "bert")
    sentence_folder(tmp_path / "org" / "mini", "sentence_transformers.models.Transformer")
    assert not is_located("org/bert")
    assert not is_located("org/mini")
    transformers_folder(tmp_path / "org" / "clip")
    assert is_located("org/clip")


@pytest.mark.parametrize("name", ["epoch_3.pt", "model.pth", "open_clip_pytorch_model.bin", "x.ckpt", "m.safetensors"])
def test_a_checkpoint_file_is_a_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert not is_located(name)
    (tmp_path / name).write_bytes(b"")
    assert is_located(name)
    (tmp_path / "notes.txt").write_bytes(b"")
    assert not is_located("notes.txt")


# What is found in a folder.


def test_an_open_clip_folder_is_described_without_its_path(folder: Path) -> None:
    meta = located_meta(str(folder))
    weights = load_file(folder / WEIGHTS)
    assert meta.name == "local/my-clip"
    assert meta.n_parameters == sum(value.numel() for value in weights.values())
    assert (meta.embed_dim, meta.max_tokens, meta.memory_usage_mb) == (32, 77, 7)
    assert set(meta.modalities) == {"image", "text"}
    assert meta.revision is not None
    assert len(meta.revision) == 40
    assert int(meta.revision, 16)
    assert str(folder) not in json.dumps(meta.to_dict(), default=str)
    # So that a stored result is held against the mode that is asked for.
    assert meta.loader.__module__.startswith("mteb_vehicle_search.")  # type: ignore[union-attr]
    assert meta == located_meta(str(folder))
    assert pickle.loads(pickle.dumps(meta)).revision == meta.revision  # noqa: S301


def test_it_is_loaded_with_the_activation_that_it_states(tmp_path: Path) -> None:
    import open_clip

    folder = random_open_clip(tmp_path / "quick", QUICK)
    own = open_clip.create_model(f"local-dir:{folder}").eval()
    pixels = torch.randn((2, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    for model in (located_meta(str(folder)).load_model(device="cpu"), OpenClipEncoder(str(folder), device="cpu")):
        assert isinstance(model, OpenClipEncoder)
        with torch.inference_mode():
            assert torch.equal(model.towers.image(pixels), own.encode_image(pixels))
        assert model.mteb_model_meta.name == "local/quick"
        assert model.mteb_model_meta.revision == model.revision == located_meta(str(folder)).revision


def test_the_name_is_the_folders_however_it_is_typed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(folder.parent))
    monkeypatch.setenv("USERPROFILE", str(folder.parent))
    (folder.parent / "latest").symlink_to(folder)
    for name in (".", "../my-clip", "~/my-clip", f"{folder}/", str(folder / "x" / "..")):
        assert located_meta(name).name == "local/my-clip", name
    assert located_meta("../latest").name == "local/latest"
    assert located_meta("../latest").revision == located_meta(".").revision


@pytest.mark.parametrize(("name", "beginning"), [("my clip", "local/my_clip__"), ("Modell é/..", "local/")])
def test_a_name_that_some_system_refuses_is_made_safe(folder: Path, name: str, beginning: str) -> None:
    other = folder.parent / name.partition("/")[0]
    folder.rename(other)
    found = located_meta(str(other)).name
    assert found is not None
    assert found.startswith(beginning)
    assert found.isascii()
    assert found.count("/") == 1
    assert " " not in found


def test_other_weights_or_another_configuration_are_another_revision(folder: Path) -> None:
    first = located_meta(str(folder)).revision
    (folder / "README.md").write_text("notes", encoding="utf-8")
    (folder / "training_args.json").write_text("{}", encoding="utf-8")
    assert located_meta(str(folder)).revision == first
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    (folder / CONFIG).write_text(json.dumps({**config, "preprocess_cfg": {}}), encoding="utf-8")
    second = located_meta(str(folder)).revision
    random_open_clip(folder, SMALL_CLIP, seed=1)
    third = located_meta(str(folder)).revision
    assert len({first, second, third}) == 3


def test_the_tokenizer_that_an_open_clip_configuration_names_is_part_of_the_revision(folder: Path) -> None:
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    text = config["model_cfg"]["text_cfg"]
    write(folder, {CONFIG: {"model_cfg": {**config["model_cfg"], "text_cfg": {**text, "hf_tokenizer_name": "org/x"}}}})
    for name in model_folders.TOKENIZER_FILES:
        before = located_meta(str(folder)).revision
        (folder / name).write_bytes(name.encode())
        assert located_meta(str(folder)).revision != before, name


def test_the_revision_is_the_digest_of_the_files_and_nothing_else(folder: Path) -> None:
    elsewhere = Path(shutil.copytree(folder, folder.parent / "b" / "other-name"))
    assert located_meta(str(elsewhere)).revision == located_meta(str(folder)).revision
    # Of results that are stored: it must never change.
    write(folder.parent / "fixed", {"a.bin": b"1", "b.bin": b"2"})
    assert digests.joint_digest(folder.parent / "fixed", ("b.bin", "a.bin")) == (
        digests.joint_digest(folder.parent / "fixed", ("a.bin", "b.bin"))
    )
    assert digests.joint_digest(folder.parent / "fixed", ("a.bin", "b.bin")) == (
        "b88148268e97fc73308ae4193fdd5379377f4f11"
    )


def test_a_revision_that_is_asked_for_must_be_the_one_that_is_there(folder: Path) -> None:
    meta = located_meta(str(folder))
    assert located_meta(str(folder), meta.revision) == meta
    assert "is at revision" in refused(located_meta, str(folder), "0" * 40)


def test_weights_that_changed_between_look_up_and_loading_are_refused(folder: Path) -> None:
    meta = located_meta(str(folder))
    random_open_clip(folder, SMALL_CLIP, seed=1)
    with pytest.raises(ModelLoadError, match="changed since it was looked up"):
        meta.load_model(device="cpu")


@pytest.mark.parametrize("kind", ENCODERS)
def test_weights_that_changed_between_construction_and_the_first_batch_are_refused(tmp_path: Path, kind: str) -> None:
    _, write = ENCODERS[kind]
    folder = write(tmp_path / "model")
    model: Any = located_meta(str(folder)).load_model(device="cpu")
    write(folder, seed=1)
    with pytest.raises(ModelLoadError, match="changed since it was looked up"):
        _ = model.sentence_transformer if kind == "sentence" else model.towers


@pytest.mark.parametrize("name", ["open_clip_pytorch_model.safetensors", "model.safetensors", "anything.safetensors"])
def test_weights_under_other_names_are_read(folder: Path, name: str) -> None:
    wanted = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).rename(folder / name)
    model = OpenClipEncoder(str(folder), device="cpu")
    assert torch.equal(model.towers.module.model.ln_final.bias, wanted["ln_final.bias"])


def test_open_clips_own_weights_come_before_timms_in_the_same_folder(folder: Path) -> None:
    write(folder, {"config.json": {"architecture": "vit", "pretrained_cfg": {}}})
    tensors(folder / "model.safetensors", a=[1.0])
    found = find(str(folder))
    assert (found.layout.kind, found.layout.weights) == (layouts.OPEN_CLIP, (WEIGHTS,))


def shards(folder: Path) -> dict[str, torch.Tensor]:
    """Cut the weights into three files and an index."""
    weights = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    keys, places = sorted(weights), {}
    for number in range(3):
        part = {key: weights[key] for key in keys[number::3]}
        name = f"model-0000{number + 1}-of-00003.safetensors"
        save_file(part, folder / name)
        places.update(dict.fromkeys(part, name))
    write(folder, {"model.safetensors.index.json": {"metadata": {}, "weight_map": places}})
    return weights


def test_sharded_weights_are_one_model(folder: Path) -> None:
    before = located_meta(str(folder))
    wanted = shards(folder)
    meta = located_meta(str(folder))
    assert meta.n_parameters == before.n_parameters
    assert meta.revision != before.revision
    model = meta.load_model(device="cpu")
    state = model.towers.module.model.state_dict()  # type: ignore[attr-defined]
    assert all(torch.equal(state[key], value) for key, value in wanted.items())
    # Each of the files counts.
    revisions = {meta.revision}
    for number in (1, 2, 3):
        path = folder / f"model-0000{number}-of-00003.safetensors"
        save_file({key: value + 1 for key, value in load_file(path).items()}, path)
        revisions.add(located_meta(str(folder)).revision)
    assert len(revisions) == 4


def test_a_missing_shard_is_named(folder: Path) -> None:
    shards(folder)
    (folder / "model-00002-of-00003.safetensors").unlink()
    assert "model-00002-of-00003.safetensors is missing" in refused(located_meta, str(folder))
    (folder / "model.safetensors.index.json").write_text("{}", encoding="utf-8")
    assert "has no weight_map" in refused(located_meta, str(folder))


def test_weights_without_a_name_must_be_one_file(folder: Path) -> None:
    for name in ("a", "b"):
        shutil.copy(folder / WEIGHTS, folder / f"{name}.safetensors")
    (folder / WEIGHTS).unlink()
    said = refused(located_meta, str(folder))
    assert "holds weights of no name to choose by: a.safetensors, b.safetensors" in said
    assert f"Name the right one {WEIGHTS}." in said
    # transformers itself looks for one name.
    other = transformers_folder(folder.parent / "clip")
    (other / "model.safetensors").rename(other / "foo.safetensors")
    assert "Name the right one model.safetensors" in refused(located_meta, str(other))


def test_a_transformers_folder_is_told_by_its_model_type(tmp_path: Path) -> None:
    folder = transformers_folder(tmp_path / "siglip", "siglip")
    first = located_meta(str(folder))
    assert (first.name, first.n_parameters) == ("local/siglip", 3)
    assert first.framework == ["PyTorch", "Transformers", "safetensors"]
    assert find(str(folder)).layout.kind == layouts.TRANSFORMERS
    # Each of the files that decide the vectors counts.
    for name in model_folders.TOKENIZER_FILES + model_folders.PREPROCESSING_FILES:
        before = located_meta(str(folder)).revision
        (folder / name).write_bytes(name.encode())
        assert located_meta(str(folder)).revision != before, name


@pytest.mark.parametrize(
    "model_type",
    ["clip", "siglip", "siglip2", "metaclip_2", "altclip", "chinese_clip", "align", "vision-text-dual-encoder"],
)
def test_dual_encoders_of_transformers_are_known(model_type: str) -> None:
    assert layouts.gives_both_features(model_type)


@pytest.mark.parametrize("model_type", ["bert", "vit", "clip_vision_model", "clap", "jina_clip", ""])
def test_other_models_of_transformers_are_not(model_type: str) -> None:
    assert not layouts.gives_both_features(model_type)


def test_a_sentence_transformers_folder_counts_the_files_of_its_modules(tmp_path: Path) -> None:
    folder = sentence_folder(tmp_path / "st-clip")
    (folder / "elsewhere").mkdir()
    tensors(folder / "elsewhere" / "model.safetensors", c=[1.0])
    found = find(str(folder))
    assert found.layout.kind == layouts.SENTENCE
    assert found.layout.weights == ("0_Model/model.safetensors", "1_Dense/model.safetensors")
    assert found.layout.others == ("0_Model/config.json", "modules.json")
    meta = located_meta(str(folder))
    assert (meta.name, meta.n_parameters) == ("local/st-clip", 3)
    tensors(folder / "1_Dense" / "model.safetensors", b=[1.0, 3.0])
    assert located_meta(str(folder)).revision != meta.revision


def test_a_module_behind_a_link_counts_too(tmp_path: Path) -> None:
    folder = sentence_folder(tmp_path / "st-clip")
    (folder / "1_Dense").rename(tmp_path / "elsewhere")
    (folder / "1_Dense").symlink_to(tmp_path / "elsewhere")
    first = find(str(folder))
    assert "1_Dense/model.safetensors" in first.layout.weights
    tensors(tmp_path / "elsewhere" / "model.safetensors", b=[5.0])
    assert find(str(folder)).revision != first.revision


@pytest.mark.parametrize("name", ["sentence_roberta_config.json", "lstm_config.json", "tokenizer.model"])
def test_a_configuration_of_any_module_decides(tmp_path: Path, name: str) -> None:
    folder = sentence_folder(tmp_path / "st-clip")
    before = find(str(folder)).revision
    write(folder, {"1_Dense/training_args.json": {}, "README.md": b"x"})
    assert find(str(folder)).revision == before
    write(folder, {f"1_Dense/{name}": {}})
    assert find(str(folder)).revision != before


def test_a_sentence_transformers_folder_counts_what_its_modules_are_told(tmp_path: Path) -> None:
    folder = sentence_folder(tmp_path / "st-clip")
    every = [*model_folders.TOKENIZER_FILES, *model_folders.PREPROCESSING_FILES, *model_folders.SENTENCE_FILES]
    for name in every:
        for place in (folder / "0_Model" / name, folder / "1_Dense" / name):
            before = located_meta(str(folder)).revision
            place.write_bytes(b'{"of": "this module"}')
            assert located_meta(str(folder)).revision != before, name


def test_modules_come_before_the_configuration_of_the_first_of_them(tmp_path: Path) -> None:
    # As newer versions save it: the first module lies beside the list of all.
    folder = sentence_folder(transformers_folder(tmp_path / "flat"))
    assert find(str(folder)).layout.kind == layouts.SENTENCE


@pytest.mark.parametrize("kind", ["open_clip", "clip", "sentence_clip"])
def test_a_folder_of_each_layout_is_loaded_by_its_own_wrapper(tmp_path: Path, kind: str) -> None:
    folder = getattr(model_folders, f"write_{kind}")(tmp_path / "model")
    model: Any = located_meta(str(folder)).load_model(device="cpu")
    wanted = {"open_clip": OpenClipEncoder, "clip": TransformersEncoder, "sentence_clip": SentenceEncoder}[kind]
    assert type(model) is wanted
    assert model.encode(torch.utils.data.DataLoader([{"text": "a car"}])).shape[0] == 1


@pytest.mark.parametrize(
    ("files", "images"),
    [
        ({}, False),
        ({"0_Model/sentence_bert_config.json": {"modality_config": {"text": {}, "image": {}}}}, True),
        ({"0_Model/sentence_bert_config.json": {"modality_config": {"text": {}}}}, False),
        ({"0_Model/sentence_bert_config.json": {"max_seq_length": 77}}, False),
        ({"0_Model/config.json": {"model_type": "clip", "vision_config": {}}}, True),
    ],
    ids=str,
)
def test_a_text_model_of_sentence_transformers_is_refused(tmp_path: Path, files: Any, images: bool) -> None:
    folder = sentence_folder(tmp_path / "st", "sentence_transformers.base.modules.transformer.Transformer", **files)
    if images:
        assert find(str(folder)).layout.kind == layouts.SENTENCE
    else:
        assert "embeds no images" in refused(find, str(folder))


@pytest.mark.parametrize("kind", ["MultiVectorEncoder", "SparseEncoder", "CrossEncoder"])
def test_what_gives_no_single_dense_vector_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    folder = sentence_folder(tmp_path / "st", **{"config_sentence_transformers.json": {"model_type": kind}})
    said = refused(find, str(folder))
    assert f"is a {kind} of sentence-transformers, which gives {layouts.REFUSED_KINDS[kind]}; image search" in said


class Standing:
    def __init__(self, *given: Any, **kwargs: Any) -> None:
        self.given, self.kwargs = given, kwargs
        self.found = find(str(kwargs["folder"]))


@pytest.mark.parametrize("make", [transformers_folder, sentence_folder])
def test_the_wrappers_get_name_revision_and_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Any) -> None:
    monkeypatch.setattr(models, "encoder_of", lambda kind: Standing)
    folder = make(tmp_path / "model")
    meta = located_meta(str(folder))
    model: Any = meta.load_model(device="cpu", precision="fp32")
    assert model.given == ("local/model", meta.revision, "cpu")
    assert model.kwargs == {"folder": folder, "precision": "fp32"}


# What is refused, in a sentence.


def test_a_checkpoint_is_refused_with_the_command_that_converts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "epoch_3.pt").write_bytes(b"")
    wanted = "vehicle-search convert epoch_3.pt --arch NAME epoch_3"
    assert refused(located_meta, "epoch_3.pt") == (
        f"epoch_3.pt is a checkpoint, which is a pickle and never loaded; convert it first: {wanted}"
    )
    said = refused(located_meta, str(tmp_path))
    assert "holds no model but checkpoints; convert it first: vehicle-search convert" in said
    assert "\n" not in said


def test_commands_are_for_the_shell_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    assert listing.conversion("runs/epoch 3.pt") == "vehicle-search convert 'runs/epoch 3.pt' --arch NAME 'epoch 3'"
    monkeypatch.setattr(listing, "WINDOWS", True)
    monkeypatch.setattr(listing, "PurePath", PureWindowsPath)
    wanted = 'vehicle-search convert "C:\\my runs\\epoch 3.pt" --arch NAME "epoch 3"'
    assert listing.conversion("C:\\my runs\\epoch 3.pt") == wanted


def test_pickled_weights_are_refused_with_the_way_to_convert_them(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "open_clip_pytorch_model.bin")
    said = refused(located_meta, str(folder))
    assert f"vehicle-search convert {folder}/open_clip_pytorch_model.bin --arch {folder} " in said
    assert "\n" not in said
    other = transformers_folder(folder.parent / "clip")
    (other / "model.safetensors").rename(other / "pytorch_model.bin")
    said = refused(located_meta, str(other))
    assert "save_pretrained" in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "holds no model: there is no open_clip_config.json, modules.json or config.json"),
        ({"config.json": {"model_type": "bert"}}, "its model_type is 'bert', which gives no features of images"),
        ({"config.json": {"model_type": "x", "auto_map": {}}}, "it needs its own code, which is never run"),
        ({"config.json": {"model_type": "flava"}}, "a model of type flava cannot be run here: it gives a vector for"),
        ({"config.json": {"pretrained_cfg": {}}}, "it holds an image tower of timm's"),
        ({"config.json": b"[1]"}, "config.json is damaged: it is no JSON object"),
        ({"config.json": b"{"}, "config.json is damaged: "),
        ({"config.json": {"model_type": "clip"}}, "holds no weights; of weights, only safetensors are loaded"),
        ({CONFIG: {"model_cfg": []}}, "holds no weights; of weights, only safetensors are loaded"),
        ({"modules.json": {}}, "modules.json is damaged: it is no list of modules"),
        ({"modules.json": []}, "embeds no images"),
    ],
    ids=str,
)
def test_what_is_no_model_is_refused_in_a_sentence(tmp_path: Path, files: Any, said: str) -> None:
    (tmp_path / "model").mkdir()
    found = refused(located_meta, str(write(tmp_path / "model", files)))
    assert said in found
    assert found.startswith(str(tmp_path / "model"))


def test_a_folder_that_is_not_there_gets_the_nearest(folder: Path) -> None:
    (folder.parent / "my-clop.log").touch()  # A file is no model.
    said = refused(located_meta, str(folder.parent / "my-clop"), error=UsageError)
    assert said == f"There is no folder {folder.parent / 'my-clop'}; did you mean {folder}?"
    assert refused(located_meta, "/nowhere/at/all", error=UsageError) == "There is no folder /nowhere/at/all."
    assert "is a file" in refused(located_meta, str(folder / WEIGHTS), error=UsageError)


def test_another_kind_in_the_place_of_an_open_clip_model_is_refused(tmp_path: Path) -> None:
    folder = transformers_folder(tmp_path / "clip")
    with pytest.raises(ModelLoadError, match=r"is a model of transformers, not of open_clip"):
        OpenClipEncoder(str(folder))


# In a notebook.


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("VEHICLE_SEARCH_DATA", str(small_set(tmp_path / "set").folder))
    return mteb.get_task("VehicleImageSearch")


@pytest.mark.parametrize("kind", ENCODERS)
def test_an_encoder_of_a_path_is_evaluated_as_it_stands(
    kind: str, task: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder, write = ENCODERS[kind]
    folder = write(tmp_path / "my-clip")
    cache = mteb.ResultCache(tmp_path / "results")
    result = mteb.evaluate(encoder(str(folder)), task, cache=cache, show_progress_bar=False)
    revision = located_meta(str(folder)).revision
    assert (result.model_name, result.model_revision) == ("local/my-clip", revision)
    assert len(list((tmp_path / "results").rglob(f"local__my-clip/{revision}/VehicleImageSearch.json"))) == 1
    # The same by mteb's own look-up, which finds the result.
    again = mteb.evaluate(mteb.get_model_meta(str(folder)), task, cache=cache, show_progress_bar=False)
    assert again.task_results[0].get_score() == result.task_results[0].get_score()
    assert "measured on" in capsys.readouterr().out


def test_an_encoder_that_nobody_looked_up_says_what_it_is(folder: Path) -> None:
    model = OpenClipEncoder("mine", device="cpu", folder=folder)
    assert set(model.mteb_model_meta.modalities) == {"image", "text"}
    assert (model.mteb_model_meta.name, model.mteb_model_meta.revision) == (
        "local/mine",
        located_meta(str(folder)).revision,
    )
    assert model.mteb_model_meta is model.mteb_model_meta
    model = OpenClipEncoder("org/mine", "r2", "cpu", folder=folder)
    assert (model.mteb_model_meta.name, model.mteb_model_meta.revision) == ("org/mine", "r2")


# Digests are remembered.


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Give the names of the files that are hashed, however small a file is remembered."""
    found: list[str] = []
    digest = digests.file_sha256
    monkeypatch.setattr(digests, "file_sha256", lambda path: found.append(path.name) or digest(path))
    monkeypatch.setattr(digests, "REMEMBERED_BYTES", 1000)
    return found


def settle(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the files have lain there for an hour; their time of change cannot be set."""
    monkeypatch.setattr(digests, "SETTLED_S", -1.0)


def test_a_second_start_hashes_no_gigabytes(folder: Path, hashed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    settle(folder, monkeypatch)
    first = located_meta(str(folder)).revision
    assert sorted(hashed) == [CONFIG, WEIGHTS]
    hashed.clear()
    assert located_meta(str(folder)).revision == first
    # The configuration is small.
    assert hashed == [CONFIG]
    model = OpenClipEncoder(str(folder), device="cpu")
    assert model.fingerprint()
    _ = model.towers
    assert WEIGHTS not in hashed


@pytest.mark.parametrize("kind", ["transformers", "sentence"])
def test_weights_are_hashed_once_and_those_of_earlier_checkpoints_never(
    kind: str, hashed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(tmp_path, monkeypatch)
    encoder, write = ENCODERS[kind]
    folder = write(tmp_path / "model")
    tensors(folder / "checkpoint-1" / "model.safetensors", a=[1.0] * 1000)
    model: Any = mteb.get_model(str(folder), device="cpu")
    assert model.fingerprint() == encoder(str(folder), device="cpu").fingerprint()
    _ = model.sentence_transformer if kind == "sentence" else model.towers
    assert [name for name in hashed if name.endswith(".safetensors")] == ["model.safetensors"]


def test_a_change_of_content_shows_though_size_and_time_are_the_same(
    folder: Path, hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(folder, monkeypatch)
    first = located_meta(str(folder)).revision
    path = folder / WEIGHTS
    before = path.stat()
    time.sleep(0.02)
    with path.open("r+b") as file:
        file.seek(-4, 2)
        file.write(b"\0\0\0\1")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert located_meta(str(folder)).revision != first


def test_a_file_that_has_only_just_been_written_is_not_remembered(folder: Path, hashed: list[str]) -> None:
    (folder / WEIGHTS).touch()
    located_meta(str(folder))
    located_meta(str(folder))
    assert hashed.count(WEIGHTS) == 2


def test_damaged_notes_and_a_home_that_cannot_be_written_cost_only_time(
    folder: Path, hashed: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settle(folder, monkeypatch)
    first = located_meta(str(folder)).revision
    notes = list((digests.settings.home() / "digests").iterdir())
    assert len(notes) == 1
    for content in (b"", b"[]", b'{"sha256": 3}', notes[0].read_bytes()[:40]):
        notes[0].write_bytes(content)
        assert located_meta(str(folder)).revision == first
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("VEHICLE_SEARCH_HOME", str(tmp_path / "file" / "home"))
    assert located_meta(str(folder)).revision == first


# On the hub.


@pytest.fixture
def cached(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put the folder into a hub cache, as a download leaves it."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return put_into_hub_cache(tmp_path, "org/clip", COMMIT, folder)


@pytest.mark.parametrize("name", ["hf-hub:org/clip", "hf-hub:org/clip@main", f"hf-hub:org/clip@{COMMIT}"])
def test_offline_a_repository_is_what_the_cache_holds(cached: Path, name: str) -> None:
    meta = located_meta(name)
    assert (meta.name, meta.revision) == ("org/clip", COMMIT)
    assert meta.reference == "https://huggingface.co/org/clip"
    model = meta.load_model(device="cpu")
    assert model.towers.image(torch.zeros((1, 3, 32, 32))).shape == (1, 32)  # type: ignore[attr-defined]
    # The commit says it all.
    assert model.weights_id() == ""  # type: ignore[attr-defined]
    assert OpenClipEncoder(name, device="cpu").mteb_model_meta.revision == COMMIT


def test_a_pinned_name_is_the_hubs_whatever_folder_there_is(
    cached: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    transformers_folder(tmp_path / "org" / "clip")
    model = OpenClipEncoder("org/clip", COMMIT, "cpu")
    assert (model.model_name, model.revision, model.found.files.local) == ("org/clip", COMMIT, False)
    # Without a revision, it is the folder that is meant.
    said = refused(OpenClipEncoder, "org/clip")
    assert said == "org/clip is a model of transformers, not of open_clip.\nTransformersEncoder loads it."


def test_what_the_cache_lacks_is_not_what_the_repository_lacks(cached: Path) -> None:
    (cached / WEIGHTS).unlink()
    said = refused(located_meta, "hf-hub:org/clip")
    assert "The weights of hf-hub:org/clip are not in the hub's cache, and the hub cannot be asked." in said
    assert f"hf download org/clip --revision {COMMIT}" in said
    assert "only safetensors" not in said


def test_a_pickle_on_the_hub_is_fetched_before_it_is_converted(cached: Path) -> None:
    (cached / WEIGHTS).rename(cached / "open_clip_pytorch_model.bin")
    said = refused(located_meta, "hf-hub:org/clip")
    assert said.endswith(
        f"convert it first: hf download org/clip --revision {COMMIT} --local-dir clip && "
        "vehicle-search convert clip/open_clip_pytorch_model.bin --arch clip open_clip_pytorch_model"
    )


def test_the_hub_is_asked_once_for_a_model(cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def model_info(self: Any, repository: str, revision: str | None = None) -> Any:
        asked.append(revision)
        # The branch moves on.
        sha = COMMIT if len(asked) == 1 else "f" * 40
        return SimpleNamespace(sha=sha, siblings=[SimpleNamespace(rfilename=name) for name in (CONFIG, WEIGHTS)])

    monkeypatch.setattr(snapshot, "_told", {})
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", model_info)
    for _ in range(2):
        assert mteb.get_model_meta("hf-hub:org/clip").revision == COMMIT
    model: Any = mteb.get_model("hf-hub:org/clip", device="cpu")
    _ = model.towers
    assert (asked, model.revision) == ([None], COMMIT)


def test_the_revision_may_be_mtebs_argument(cached: Path) -> None:
    assert mteb.get_model_meta("hf-hub:org/clip", COMMIT).revision == COMMIT
    assert "says another revision" in refused(located_meta, "hf-hub:org/clip@main", COMMIT, error=UsageError)
    assert "is not in the hub cache" in refused(located_meta, "hf-hub:org/clip", "f" * 40)


@pytest.mark.parametrize("name", ["hf-hub:", "hf-hub:x", "hf-hub:a/b/c", "hf-hub:a/b@", "hf-hub:../x", "hf-hub:a /b"])
def test_what_names_no_repository_is_refused(name: str) -> None:
    assert "names no repository.\nWrite hf-hub:OWNER/NAME" in refused(located_meta, name, error=UsageError)


def test_a_repository_that_is_not_there_says_what_to_do() -> None:
    said = refused(located_meta, "hf-hub:org/none")
    assert "org/none at main is not in the hub cache, and the hub cannot be asked" in said
    assert "hf download org/none" in said


def test_an_entry_of_ours_at_its_commit_is_that_entry(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    ours = models.jina_clip_v2()
    put_into_hub_cache(tmp_path, str(ours.name), str(ours.revision), folder)
    assert located_meta(f"hf-hub:{ours.name}") == ours
    # Another commit is another model.
    (tmp_path / "hub" / f"models--{str(ours.name).replace('/', '--')}" / "refs" / "main").write_text(COMMIT)
    base = tmp_path / "hub" / f"models--{str(ours.name).replace('/', '--')}" / "snapshots"
    (base / str(ours.revision)).rename(base / COMMIT)
    assert located_meta(f"hf-hub:{ours.name}").revision == COMMIT


@pytest.fixture
def server(folder: Path) -> Any:
    running = HubServer()
    write_tokenizer(folder / "unwanted.json")
    running.repos["org/clip"] = {path.name: path.read_bytes() for path in folder.iterdir()}
    running.repos["org/clip"]["open_clip_pytorch_model.bin"] = b"never wanted"
    running.branches["org/clip", "main"] = COMMIT
    running.branches["org/clip", "v2"] = "f" * 40
    yield running
    running.close()


def test_online_a_branch_is_the_commit_that_it_is_now(server: HubServer, tmp_path: Path) -> None:
    code = """if True:
        import mteb, torch
        for name, commit in (("hf-hub:org/clip", %r), ("hf-hub:org/clip@v2", "f" * 40)):
            meta = mteb.get_model_meta(name)
            assert (meta.name, meta.revision) == ("org/clip", commit), meta.revision
        model = mteb.get_model("hf-hub:org/clip", device="cpu")
        assert model.towers.image(torch.zeros((1, 3, 32, 32))).shape == (1, 32)
        for name, said in (
            ("hf-hub:org/clip@v9", "org/clip has no revision 'v9' on the hub"),
            ("hf-hub:org/none", "The hub has no model org/none, or it is a private one"),
        ):
            try:
                mteb.get_model_meta(name)
            except Exception as error:
                assert type(error).__name__ == "ModelLoadError" and said in str(error), error
            else:
                raise AssertionError(name)
    """
    done = server.run(code % COMMIT, tmp_path / "home")
    assert done.returncode == 0, done.stderr
    fetched = {path.rpartition("/")[2] for path in server.downloads()}
    asked = {path.rpartition("/")[2] for method, path, _ in server.log if "/resolve/" in path}
    assert WEIGHTS in fetched | asked
    assert not (fetched | asked) & {"open_clip_pytorch_model.bin", "unwanted.json"}
