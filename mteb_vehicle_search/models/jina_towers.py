"""Jina CLIP v2's two towers, built from timm's and transformers' classes and filled from its safetensors file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from mteb_vehicle_search.errors import ModelLoadError
from mteb_vehicle_search.models import jina_layout as layout
from mteb_vehicle_search.models.checkpoint import Checkpoint, fill, layout_of, parameters_on_meta

ROPE_THETA = 20_000.0
# The published config.json holds none of these: they are those of jina-embeddings-v3, which the model builds on.
TEXT_DEFAULTS = {
    "vocab_size": 250_002,
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
}


def load_towers(
    path: Path, config: dict[str, Any], dtype: torch.dtype, *, published: bool, task: str | None = None
) -> tuple[Any, Any, float]:
    """Return the vision tower, the text tower (adapter merged) and the logit scale (not its logarithm).

    Position tables, which no checkpoint stores, stay in fp32 whatever the precision.

    Args:
        path, config: The `model.safetensors`, and the content of `config.json`.
        dtype: Of the weights.
        published: Whether the parameter counts must be those of the published checkpoint.
        task: The adapter to merge; default: the configuration's.

    Raises:
        ModelLoadError: The checkpoint is damaged or is not what the configuration says.
    """
    with parameters_on_meta():
        vision, text = build_vision(config["vision_config"]), build_text(config["text_config"])
    adapter = adapter_of(config["text_config"], task)
    checkpoint = Checkpoint(path, local=not published)
    counts = layout.count_parameters(checkpoint.shapes)
    if published and counts != layout.PUBLISHED_PARAMETERS:
        raise ModelLoadError(
            f"{path} has {sum(counts.values()):,} parameters ({counts}), not the published "
            f"{sum(layout.PUBLISHED_PARAMETERS.values()):,}.",
            "Use the pinned revision of the model.",
        )
    shapes = layout_of(vision), layout_of(text)
    checkpoint.require(layout.expected_layout(*shapes, adapter), "Jina CLIP v2")
    fill(vision, layout.read_parameters(checkpoint, shapes[0], layout.vision_source, adapter, dtype))
    fill(text, layout.read_parameters(checkpoint, shapes[1], layout.text_source, adapter, dtype))
    return vision, text, float(checkpoint.tensor(layout.SCALE).float().exp())


def adapter_of(text: dict[str, Any], task: str | None = None) -> layout.Adapter:
    """Return the adapter that a text configuration applies by default, or that of `task`."""
    settings = text["hf_model_config_kwargs"]
    names, rank = settings["lora_adaptations"], int(settings["lora_rank"])
    chosen = task or text["default_lora_task"]
    if chosen not in names:
        raise ModelLoadError(f"There is no adapter {chosen!r}; the checkpoint has {', '.join(names)}.")
    return layout.Adapter(names.index(chosen), len(names), rank, float(settings["lora_alpha"]) / rank)


def build_vision(vision: dict[str, Any]) -> Any:
    """Return timm's EVA02 of the configured size, which is `eva02_large_patch14_clip_336` for the real one."""
    from timm.models.eva import Eva

    return Eva(
        img_size=vision["image_size"],
        patch_size=vision["patch_size"],
        embed_dim=vision["width"],
        depth=vision["layers"],
        num_heads=vision["width"] // vision["head_width"],
        mlp_ratio=vision["mlp_ratio"],
        num_classes=0,
        global_pool="token",
        qkv_fused=False,
        swiglu_mlp=True,
        scale_mlp=True,
        scale_attn_inner=True,
        use_rot_pos_emb=True,
        ref_feat_shape=(vision["pt_hw_seq_len"],) * 2,
    )


def build_text(text: dict[str, Any]) -> Any:
    """Return transformers' own text tower of the configured size.

    Raises:
        ModelLoadError: Its rotary base is not 20,000, which no similarity would show.
    """
    from transformers import JinaEmbeddingsV3Config, JinaEmbeddingsV3Model

    settings = text["hf_model_config_kwargs"]
    sizes = {name: settings.get(name, default) for name, default in TEXT_DEFAULTS.items()}
    rope = {"rope_type": "default", "rope_theta": ROPE_THETA}
    tower = JinaEmbeddingsV3Model(JinaEmbeddingsV3Config(**sizes, rope_parameters=rope), add_pooling_layer=False)
    found = tower.rotary_emb.inv_freq
    wanted = ROPE_THETA ** -(torch.arange(0, 2 * len(found), 2, dtype=torch.float64) / (2 * len(found)))
    if found.is_meta or not torch.allclose(found.double(), wanted, rtol=1e-6, atol=0):
        raise ModelLoadError(
            f"The text tower's rotary base is not {ROPE_THETA:,.0f}: its vectors would be slightly and silently wrong.",
            "Install the versions in constraints.txt.",
        )
    return tower
