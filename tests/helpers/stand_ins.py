"""Model folders with random weights in the layouts of the real ones, and a hub cache to put them into."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

TINY_JINA = Path(__file__).parents[1] / "fixtures" / "jina_clip_v2_tiny"
SMALL_CLIP = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49_408, "width": 32, "heads": 2, "layers": 2},
}


def write_tokenizer(path: Path) -> None:
    """Write a tokenizer of the kind that Jina CLIP has, with fewer than 300 entries: single characters."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    pieces = ["<s>", "<pad>", "</s>", "<unk>", "▁", *(chr(code) for code in range(33, 127))]
    tokenizer: Any = Tokenizer(models.Unigram([(piece, -1.0) for piece in pieces], unk_id=3, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tokenizer.save(str(path))


def tiny_jina(folder: Path) -> Path:
    """Write the golden fixture's checkpoint and a tokenizer into `folder`, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "preprocessor_config.json", "model.safetensors"):
        shutil.copy(TINY_JINA / name, folder)
    write_tokenizer(folder / "tokenizer.json")
    return folder


def real_size_jina(folder: Path) -> Path:
    """Write a checkpoint with the published one's 999 keys and shapes, in fp16, into `folder`, and return it."""
    import torch
    from safetensors.torch import save_file

    tiny_jina(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["vision_config"].update(width=1024, layers=24, head_width=64, mlp_ratio=2.6667, image_size=512)
    own = config["text_config"]["hf_model_config_kwargs"]
    for name in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"):
        own.pop(name)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    preprocess = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
    (folder / "preprocessor_config.json").write_text(json.dumps({**preprocess, "size": 512}), encoding="utf-8")
    torch.manual_seed(0)
    weights = {}
    for key, shape in json.loads((TINY_JINA / "real_layout.json").read_text(encoding="utf-8")).items():
        centre = 1.0 if len(shape) == 1 and key.endswith("weight") else 0.0
        weights[key] = torch.randn(shape, dtype=torch.float16) * 0.02 + centre
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def random_open_clip(folder: Path, model_config: dict[str, Any] | str = "ViT-H-14", seed: int = 0) -> Path:
    """Write an open_clip model as `open_clip.push_to_hf_hub` does, in fp32, into `folder`, and return it.

    Args:
        folder: Where.
        model_config: open_clip's configuration, or its name there.
        seed: Of the weights.
    """
    import open_clip
    import torch
    from safetensors.torch import save_file

    name = model_config if isinstance(model_config, str) else "stand-in"
    if not isinstance(model_config, str):
        open_clip.factory._MODEL_CONFIGS[name] = model_config
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    model: Any = open_clip.create_model(name)
    keys = ("mean", "std", "interpolation", "resize_mode")
    preprocess = {key: model.visual.preprocess_cfg[key] for key in keys}
    config = {"model_cfg": open_clip.get_model_config(name), "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    weights = {key: value.contiguous() for key, value in model.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors", {"format": "pt"})
    return folder


def put_into_hub_cache(home: Path, repository: str, revision: str, folder: Path) -> Path:
    """Move the files of `folder` into the hub cache of HF_HOME `home`, as a download leaves them; return the snapshot.

    Large files become blobs named by their sha256, which snapshots link to.
    """
    base = home / "hub" / f"models--{repository.replace('/', '--')}"
    snapshot = base / "snapshots" / revision
    for path in (base / "blobs", base / "refs", snapshot):
        path.mkdir(parents=True, exist_ok=True)
    (base / "refs" / "main").write_text(revision, encoding="utf-8")
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        name = digest if path.suffix == ".safetensors" else digest[:40]
        shutil.move(path, base / "blobs" / name)
        (snapshot / path.name).symlink_to(Path("..", "..", "blobs", name))
    return snapshot
