"""A checkpoint of open_clip's trainer, read by a process of its own: `conversion.py` starts it and passes on its word.

The file is a pickle. Only tensors and plain values are taken from it (`weights_only`), and only its state dict is kept.
"""

from __future__ import annotations

import json
import pickle
import shutil
import sys
import zipfile
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from mteb_vehicle_search.errors import ModelLoadError
from mteb_vehicle_search.models.checkpoint import complaints_about, layout_of
from mteb_vehicle_search.models.conversion import PREPROCESSING
from mteb_vehicle_search.models.layouts import TOKENIZER_FILES
from mteb_vehicle_search.models.open_clip import CONFIG, WEIGHTS, build, read_config

SAVE_STATE = "Save the state dict alone: torch.save({'state_dict': model.state_dict()}, PATH)"
# Put before names by training on several devices, and by torch.compile.
PREFIXES = ("module.", "_orig_mod.")


def main(words: list[str]) -> int:
    """Convert; the last line of standard output says how it went, as JSON."""
    checkpoint, arch, out, stated = words
    try:
        said = convert(Path(checkpoint), arch, Path(out), json.loads(stated))
    except ModelLoadError as error:
        said = {"error": error.message, "hint": error.hint}
    sys.stdout.write(f"\n{json.dumps(said)}\n")
    return 1 if "error" in said else 0


def convert(checkpoint: Path, arch: str, out: Path, stated: dict[str, Any]) -> dict[str, Any]:
    """Write configuration, weights and, where the architecture is a folder, its tokenizer into the folder `out`.

    Raises:
        ModelLoadError: There is no such architecture, or the checkpoint is no state dict of it.
    """
    config = configuration(arch, **stated)
    (out / CONFIG).write_text(f"{json.dumps(config, indent=2)}\n", encoding="utf-8", newline="\n")
    model = build(read_config(out / CONFIG)["model_cfg"], arch)
    loaded = read(checkpoint)
    state = fitting(state_dict_of(loaded, checkpoint), model)
    if complaints := complaints_about({key: tuple(value.shape) for key, value in state.items()}, layout_of(model)):
        raise ModelLoadError(f"{checkpoint} is no checkpoint of {arch}: {complaints}")
    if bad := next((key for key, value in state.items() if not torch.isfinite(value).all()), None):
        raise ModelLoadError(f"{checkpoint}: {bad} holds NaN or infinite weights.", "Take an earlier checkpoint.")
    # Each a copy of its own: parts of one memory are not stored.
    save_file({key: value.clone(memory_format=torch.contiguous_format) for key, value in state.items()}, out / WEIGHTS)
    needed = config["model_cfg"]["text_cfg"].get("hf_tokenizer_name", "")
    for name in TOKENIZER_FILES if needed else ():
        if (Path(arch) / name).is_file():
            shutil.copyfile(Path(arch) / name, out / name)
    return {
        "parameters": sum(value.numel() for value in state.values() if value.is_floating_point()),
        "epoch": loaded.get("epoch") if isinstance(loaded.get("epoch"), int) else None,
        "taken": _described(config),
        "tokenizer": "" if not needed or (out / "tokenizer.json").is_file() else needed,
    }


def configuration(
    arch: str, *, quick_gelu: bool = False, pretrained: str | None = None, **preprocess: Any
) -> dict[str, Any]:
    """Return the content of `open_clip_config.json`, as open_clip's trainer had it.

    Args:
        arch: An architecture's name, or a folder that has such a file.
        quick_gelu: Whether it was forced; else the architecture says it. The trainer takes no word of the tag's on it.
        pretrained: The tag of the weights with which training began; their preprocessing was training's.
        **preprocess: What training was told to do otherwise: mean, std, interpolation, resize_mode.

    Raises:
        ModelLoadError: There is no such architecture, or no such tag of it.
    """
    from open_clip.transform import PreprocessCfg

    path = Path(arch) / CONFIG
    model, own = _of_folder(path) if path.is_file() else (_of_name(arch), {})
    usual = {key: getattr(PreprocessCfg(), key) for key in PREPROCESSING}
    return {
        "model_cfg": {**model, **({"quick_gelu": True} if quick_gelu else {})},
        "preprocess_cfg": {**usual, **own, **(_of_tag(arch, pretrained) if pretrained else {}), **preprocess},
    }


def _described(config: dict[str, Any]) -> str:
    taken = {"quick_gelu": config["model_cfg"].get("quick_gelu", False), **config["preprocess_cfg"]}
    return ", ".join(f"{key}={json.dumps(taken[key])}" for key in ("quick_gelu", *PREPROCESSING))


def _of_tag(arch: str, tag: str) -> dict[str, Any]:
    import open_clip

    if found := open_clip.get_pretrained_cfg(arch, tag):
        return {key: found[key] for key in PREPROCESSING if found.get(key) is not None}
    known = open_clip.list_pretrained_tags_by_model(arch)
    raise ModelLoadError(
        f"open_clip has no weights {tag!r} of {arch}; it has {', '.join(known) or 'none'}.",
        "If training began with a file, leave --pretrained out, and state what training was told of images.",
    )


def _of_folder(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return dict(found["model_cfg"]), dict(found.get("preprocess_cfg", {}))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelLoadError(f"{path} is not an open_clip configuration: {error!r}.") from error


def _of_name(arch: str) -> dict[str, Any]:
    import open_clip

    model = open_clip.get_model_config(arch)
    if model is None:
        known = open_clip.list_models()
        near = get_close_matches(arch, known) or get_close_matches(arch.lower(), known, cutoff=0.4)
        raise ModelLoadError(
            f"open_clip has no architecture {arch!r}" + (f"; did you mean {' or '.join(near)}?" if near else "."),
            "It is what --model said in training; 'python -c \"import open_clip; print(open_clip.list_models())\"'.",
        )
    return model


def read(checkpoint: Path) -> dict[str, Any]:
    """Return what the file holds, tensors and plain values only.

    Raises:
        ModelLoadError: It is damaged, or holds anything else.
    """
    try:
        mapped = zipfile.is_zipfile(checkpoint)
        if mapped and any("/code/" in name for name in zipfile.ZipFile(checkpoint).namelist()):
            raise ModelLoadError(f"{checkpoint} is a compiled program (TorchScript), not a state dict.", SAVE_STATE)
        loaded = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise ModelLoadError(
            f"{checkpoint} holds more than tensors and plain values, or is damaged, and is not loaded: "
            f"{_reason(error)}",
            SAVE_STATE,
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ModelLoadError(f"{checkpoint} is damaged, or no checkpoint: {_reason(error)}") from error
    if not isinstance(loaded, dict):
        raise ModelLoadError(f"{checkpoint} holds a {type(loaded).__name__}, not a state dict.")
    return loaded


def _reason(error: Exception) -> str:
    """Return the line of torch's message that says what was found; it also advises to load such a file all the same."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "GLOBAL" in line or "Unsupported" in line]
    return (telling or lines or [type(error).__name__])[0]


def state_dict_of(loaded: dict[str, Any], checkpoint: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of the model by name, without what training put before the names.

    Raises:
        ModelLoadError: There are none.
    """
    state = loaded.get("state_dict", loaded)
    if not isinstance(state, dict) or not state or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ModelLoadError(
            f"{checkpoint} holds no state dict, but {', '.join(map(str, list(loaded)[:6])) or 'nothing'}."
        )
    for prefix in PREFIXES:
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def fitting(state: dict[str, torch.Tensor], model: Any) -> dict[str, torch.Tensor]:
    """Return the state as open_clip would give it to this model: its conversions of layouts that other code wrote."""
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict

    state = convert_state_dict(model, dict(state))
    if "positional_embedding" in state and not hasattr(model, "positional_embedding"):
        state = convert_to_custom_text_state_dict(state)
    wanted = layout_of(model)
    for key in ("logit_scale", "logit_bias"):
        if key in state and key in wanted and state[key].numel() == 1:
            state[key] = state[key].reshape(wanted[key])
    return state


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
