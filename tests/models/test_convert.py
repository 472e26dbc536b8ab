"""`vehicle-search convert`: a trainer's checkpoint becomes a folder that open_clip and we read alike."""

from __future__ import annotations

import json
import os
import shutil
import signal
import warnings
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg
from safetensors.torch import load_file
from stand_ins import SMALL_CLIP, random_open_clip, write_tokenizer

from mteb_vehicle_search import cli
from mteb_vehicle_search.errors import ModelLoadError
from mteb_vehicle_search.models import conversion, trainer_checkpoint
from mteb_vehicle_search.models.open_clip import CONFIG, WEIGHTS, OpenClipEncoder
from mteb_vehicle_search.models.places import find

NAME = "small-test-clip"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_open_clip(tmp_path_factory.mktemp("made") / "model", SMALL_CLIP)


@pytest.fixture
def weights(made: Path) -> dict[str, torch.Tensor]:
    return load_file(made / WEIGHTS)


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let open_clip know the small architecture, in this process."""
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, NAME, SMALL_CLIP)


def saved(folder: Path, state: Any, name: str = "epoch_3.pt", **more: Any) -> Path:
    """Write a checkpoint as open_clip's trainer does, on several devices."""
    checkpoint = {
        "epoch": 3,
        "name": "2026_11_27-model_small",
        "state_dict": {f"module.{key}": value for key, value in state.items()},
        "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 1e-3, "params": [0]}]},
        **more,
    }
    torch.save(checkpoint, folder / name)
    return folder / name


def here(checkpoint: Path, out: Path, arch: str = NAME, **stated: Any) -> dict[str, Any]:
    """Do in this process what the command lets another do."""
    out.mkdir(exist_ok=True)
    return trainer_checkpoint.convert(checkpoint, arch, out, stated)


def refused(checkpoint: Path, out: Path, arch: str = NAME, **stated: Any) -> str:
    with pytest.raises(ModelLoadError) as caught:
        here(checkpoint, out, arch, **stated)
    assert not (out / WEIGHTS).exists()
    return str(caught.value)


def test_a_prefix_that_some_names_have_is_theirs() -> None:
    state = {"module.a": torch.zeros(1), "b": torch.zeros(1)}
    assert trainer_checkpoint.state_dict_of(state, Path("x.pt")) == state


def test_the_command_writes_a_folder_that_open_clip_and_we_read_alike(
    tmp_path: Path, made: Path, weights: dict[str, torch.Tensor], capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint, out = saved(tmp_path, weights), tmp_path / "my model"
    (tmp_path / "arch").mkdir()
    shutil.copy(made / CONFIG, tmp_path / "arch")
    words = ["convert", str(checkpoint), "--arch", str(tmp_path / "arch"), str(out), "--mean", "0.5", "0.4", "1"]
    assert cli.main([*words, "--quick-gelu"]) == 0
    said = capsys.readouterr().out
    assert "Taken to be trained with quick_gelu=true, mean=[0.5, 0.4, 1.0], std=[0.26862954, " in said
    assert 'interpolation="bicubic", resize_mode="shortest". If not: --help names the options.\n' in said
    count = sum(value.numel() for value in weights.values())
    assert said.startswith(f"{out}: {count:,} parameters, epoch 3\n")
    assert f"-m '{out}'" in said
    assert sorted(path.name for path in out.iterdir()) == [CONFIG, WEIGHTS]
    found = load_file(out / WEIGHTS)
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[key], value) for key, value in weights.items())
    own = open_clip.create_model(f"local-dir:{out}").eval()
    assert own.visual.preprocess_cfg["mean"] == [0.5, 0.4, 1.0]
    model = OpenClipEncoder(str(out), device="cpu")
    pixels = torch.randn((2, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(model.towers.image(pixels), own.encode_image(pixels))
    assert model.mean == (0.5, 0.4, 1.0)
    # Once more, and nothing is written over.
    assert cli.main(["convert", str(checkpoint), "--arch", NAME, str(out)]) == 1
    assert f"error: {out} exists already; nothing is written over." in capsys.readouterr().err


def test_an_error_of_the_other_process_is_said_and_nothing_is_left(
    tmp_path: Path, weights: dict[str, torch.Tensor], capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = saved(tmp_path, weights)
    assert cli.main(["convert", str(checkpoint), "--arch", "ViT-B32", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: open_clip has no architecture 'ViT-B32'; did you mean ViT-B-32")
    assert [path.name for path in tmp_path.iterdir()] == [checkpoint.name]


@pytest.mark.parametrize(
    ("status", "said"), [(-9, "ended with signal 9. \nIt may have run out of memory."), (1, "ended with status 1. odd")]
)
def test_a_process_that_dies_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, said: str) -> None:
    code = f"import os, sys; os.kill(os.getpid(), {-status})" if status < 0 else "import sys; sys.exit('odd')"
    (tmp_path / "dying_reader.py").write_text(code, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(conversion, "READER", "dying_reader")
    (tmp_path / "x.pt").write_bytes(b"x")
    with pytest.raises(ModelLoadError) as caught:
        conversion.convert(tmp_path / "x.pt", NAME, tmp_path / "out")
    assert str(caught.value).replace(". \n", ".\n") == f"The process that reads {tmp_path / 'x.pt'} {said}".replace(
        ". \n", ".\n"
    )
    assert not (tmp_path / "out").exists()
    assert signal.SIGKILL == 9


def test_a_warning_in_another_encoding_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import sys; sys.stderr.buffer.write('\\u00fcbel'.encode('cp1252')); print('{\"parameters\": 3}')"
    (tmp_path / "warning_reader.py").write_text(code, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(conversion, "READER", "warning_reader")
    (tmp_path / "x.pt").write_bytes(b"x")
    assert conversion.convert(tmp_path / "x.pt", NAME, tmp_path / "out") == {"parameters": 3}


def test_a_checkpoint_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"There is no file .*none\.pt"):
        conversion.convert(tmp_path / "none.pt", NAME, tmp_path / "out")


def test_what_is_in_the_way_is_kept(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    checkpoint = saved(tmp_path, weights)
    for name in ("folder", "file", "link"):
        out = tmp_path / name
        {"folder": out.mkdir, "file": out.touch, "link": lambda out=out: out.symlink_to("nowhere")}[name]()
        with pytest.raises(ModelLoadError, match="exists already"):
            conversion.convert(checkpoint, NAME, out)


@pytest.mark.parametrize("prefix", ["", "module.", "module._orig_mod.", "_orig_mod."])
def test_what_training_put_before_the_names_goes(tmp_path: Path, weights: dict[str, torch.Tensor], prefix: str) -> None:
    state = {f"{prefix}{key}": value for key, value in weights.items()}
    for number, content in enumerate(({"state_dict": state}, state)):
        torch.save(content, tmp_path / "x.pt")
        said = here(tmp_path / "x.pt", tmp_path / f"out{number}")
        assert said["epoch"] is None
        assert load_file(tmp_path / f"out{number}" / WEIGHTS).keys() == weights.keys()


def test_all_that_is_said_of_the_training_is_handed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(conversion, "convert", lambda *given: asked.append(given) or {"parameters": 1, "taken": ""})
    said = "--mean 0 0.5 1 --std 1 2 3 --interpolation bilinear --resize-mode squash"
    assert cli.main(["convert", "x.pt", "out", "--arch", NAME, *said.split()]) == 0
    assert cli.main(["convert", "x.pt", "out", "--arch", NAME]) == 0
    preprocess = {"mean": [0, 0.5, 1], "std": [1, 2, 3], "interpolation": "bilinear", "resize_mode": "squash"}
    assert asked == [(Path("x.pt"), NAME, Path("out"), stated) for stated in (preprocess, {})]


def test_the_preprocessing_is_open_clips_unless_stated(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    checkpoint, usual = saved(tmp_path, weights), PreprocessCfg()
    here(checkpoint, tmp_path / "a")
    stated = json.loads((tmp_path / "a" / CONFIG).read_text(encoding="utf-8"))["preprocess_cfg"]
    assert stated == {
        "mean": list(usual.mean),
        "std": list(usual.std),
        "interpolation": usual.interpolation,
        "resize_mode": usual.resize_mode,
    }
    here(checkpoint, tmp_path / "b", std=[0.5] * 3, resize_mode="squash", interpolation="bilinear")
    model = OpenClipEncoder(str(tmp_path / "b"), device="cpu")
    assert (model.mean, model.std) == (tuple(usual.mean), (0.5, 0.5, 0.5))
    assert (type(model.crop).__name__, model.crop.interpolation) == ("Squash", "bilinear")
    assert find(str(tmp_path / "b")).revision != find(str(tmp_path / "a")).revision


def test_the_preprocessing_of_a_tag_was_trainings_and_its_activation_was_not(
    tmp_path: Path, weights: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = saved(tmp_path, weights)
    tag = {"url": "x", "mean": (0.5,) * 3, "std": (0.25,) * 3, "interpolation": None, "resize_mode": "squash"}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, NAME, {"webli": {**tag, "quick_gelu": True}})
    here(checkpoint, tmp_path / "a", pretrained="webli", std=[0.1, 0.2, 0.3])
    config = json.loads((tmp_path / "a" / CONFIG).read_text(encoding="utf-8"))
    of_images = {"mean": [0.5] * 3, "std": [0.1, 0.2, 0.3], "interpolation": "bicubic", "resize_mode": "squash"}
    assert config["preprocess_cfg"] == of_images
    assert config["model_cfg"] == open_clip.get_model_config(NAME)
    said = refused(checkpoint, tmp_path / "b", pretrained="laion9b")
    assert said.startswith(f"open_clip has no weights 'laion9b' of {NAME}; it has webli.\n")
    with pytest.raises(ModelLoadError, match=r"of ViT-X; it has none\."):
        trainer_checkpoint._of_tag("ViT-X", "a")


def test_quick_gelu_that_training_forced_is_what_the_model_computes_with(
    tmp_path: Path, weights: dict[str, torch.Tensor]
) -> None:
    checkpoint = saved(tmp_path, weights)
    pixels = torch.randn((2, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    found = []
    for forced in (False, True):
        here(checkpoint, tmp_path / str(forced), quick_gelu=forced)
        own = open_clip.create_model(NAME, force_quick_gelu=forced).eval()
        own.load_state_dict(weights)
        model = OpenClipEncoder(str(tmp_path / str(forced)), device="cpu")
        with torch.inference_mode():
            found.append(model.towers.image(pixels))
            assert torch.equal(found[-1], own.encode_image(pixels))
    assert not torch.equal(*found)


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16])
def test_weights_stay_as_they_are_stored(tmp_path: Path, weights: dict[str, torch.Tensor], stored: torch.dtype) -> None:
    here(saved(tmp_path, {key: value.to(stored) for key, value in weights.items()}), tmp_path / "out")
    assert {value.dtype for value in load_file(tmp_path / "out" / WEIGHTS).values()} == {stored}


def test_an_old_file_and_tensors_of_one_memory_are_read(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    shared = torch.zeros(64 * 2)
    state = {**weights, "visual.ln_pre.bias": shared[:64], "visual.ln_post.bias": shared[64:]}
    torch.save({"state_dict": state}, tmp_path / "x.pt", _use_new_zipfile_serialization=False)
    here(tmp_path / "x.pt", tmp_path / "out")
    assert torch.equal(load_file(tmp_path / "out" / WEIGHTS)["visual.ln_pre.bias"], torch.zeros(64))


def test_a_text_tower_of_its_own_takes_the_older_layout_and_numbers_of_one_their_shape(
    tmp_path: Path, weights: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "custom", {**SMALL_CLIP, "custom_text": True})
    here(saved(tmp_path, {**weights, "logit_scale": weights["logit_scale"].reshape(1)}), tmp_path / "out", "custom")
    found = load_file(tmp_path / "out" / WEIGHTS)
    assert torch.equal(found["text.positional_embedding"], weights["positional_embedding"])
    assert found["logit_scale"].shape == ()
    _ = OpenClipEncoder(str(tmp_path / "out"), device="cpu").towers


def test_the_tokenizer_of_an_architecture_comes_along_or_is_named(
    tmp_path: Path, made: Path, weights: dict[str, torch.Tensor], capsys: pytest.CaptureFixture[str]
) -> None:
    arch = Path(shutil.copytree(made, tmp_path / "arch"))
    config = json.loads((arch / CONFIG).read_text(encoding="utf-8"))
    config["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = "org/tokens"
    (arch / CONFIG).write_text(json.dumps(config), encoding="utf-8")
    checkpoint = saved(tmp_path, weights)
    assert here(checkpoint, tmp_path / "a", str(arch))["tokenizer"] == "org/tokens"
    write_tokenizer(arch / "tokenizer.json")
    (arch / "tokenizer_config.json").write_text("{}", encoding="utf-8")
    assert here(checkpoint, tmp_path / "b", str(arch))["tokenizer"] == ""
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "b" / name).read_bytes() == (arch / name).read_bytes()


# What is refused.


class Evil:
    def __reduce__(self) -> Any:
        return (os.mkdir, ("planted",))


def test_nothing_in_a_pickle_is_run(
    tmp_path: Path, weights: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for content in ({"state_dict": weights, "args": Evil()}, Evil()):
        torch.save(content, tmp_path / "x.pt")
        said = refused(tmp_path / "x.pt", tmp_path / "out")
        assert "holds more than tensors and plain values, or is damaged, and is not loaded" in said
        assert "mkdir" in said
        assert not (tmp_path / "planted").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "x.pt is damaged, or no checkpoint: "),
        (b"no pickle at all", "is not loaded"),
        (b"PK\x03\x04 no zip", "damaged"),
        ({"model": 1, "epoch": 2}, "holds no state dict, but model, epoch."),
        ({}, "holds no state dict, but nothing."),
        ({"state_dict": {"a": 1}}, "holds no state dict, but state_dict."),
        ([1], "holds a list, not a state dict"),
    ],
    ids=str,
)
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, content: Any, said: str) -> None:
    path = tmp_path / "x.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    assert said in refused(path, tmp_path / "out")


def test_a_truncated_checkpoint_is_refused(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    path = saved(tmp_path, weights)
    path.write_bytes(path.read_bytes()[:-5000])
    assert str(path) in refused(path, tmp_path / "out")


def test_a_compiled_program_is_refused(tmp_path: Path) -> None:
    class Doubling(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2

    warnings.simplefilter("ignore")
    torch.jit.trace(Doubling(), torch.zeros(1)).save(str(tmp_path / "x.pt"))
    assert "x.pt is a compiled program (TorchScript)" in refused(tmp_path / "x.pt", tmp_path / "out")


def test_a_checkpoint_of_another_architecture_is_refused_by_what_differs(
    tmp_path: Path, weights: dict[str, torch.Tensor]
) -> None:
    state = {**weights, "extra": torch.zeros(1), "ln_final.bias": torch.zeros(3)}
    del state["logit_scale"]
    said = refused(saved(tmp_path, state), tmp_path / "out")
    assert f"epoch_3.pt is no checkpoint of {NAME}: " in said
    for part in ("logit_scale is missing", "extra is unknown", "ln_final.bias has shape [3], not [32]"):
        assert part in said


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_training_that_diverged_is_told(tmp_path: Path, weights: dict[str, torch.Tensor], value: float) -> None:
    weights["ln_final.bias"][3] = value
    assert "ln_final.bias holds NaN or infinite weights" in refused(saved(tmp_path, weights), tmp_path / "out")


def test_an_architecture_that_is_damaged_or_needs_another_repository_is_refused(
    tmp_path: Path, weights: dict[str, torch.Tensor]
) -> None:
    checkpoint = saved(tmp_path, weights)
    assert "which nothing pins" in refused(checkpoint, tmp_path / "out", "roberta-ViT-B-32")
    (tmp_path / "arch").mkdir()
    (tmp_path / "arch" / CONFIG).write_text("{}", encoding="utf-8")
    assert "is not an open_clip configuration" in refused(checkpoint, tmp_path / "out", str(tmp_path / "arch"))
    assert "did you mean" not in refused(checkpoint, tmp_path / "out", "§§§§")
