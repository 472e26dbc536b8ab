"""JinaClipEncoder: Jina CLIP v2 from library classes and its safetensors file, without remote code."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mteb_vehicle_search.errors import ModelLoadError
from mteb_vehicle_search.models import jina_layout as layout
from mteb_vehicle_search.models.encoder import ImageTextEncoder, Towers
from mteb_vehicle_search.models.preprocess import ShortestSideCrop
from mteb_vehicle_search.models.snapshot import snapshot

if TYPE_CHECKING:
    import torch

FILES = ["config.json", "preprocessor_config.json", "model.safetensors", "tokenizer.json"]
REVISION = "e10d47f5691d0454a0fb5d13f46f2199b74cb436"
ROPE_THETA = 20_000.0
MAX_TOKENS = 512
# The published config.json holds none of these: they are those of jina-embeddings-v3, which the model builds on.
TEXT_DEFAULTS = {
    "vocab_size": 250_002,
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
}


class JinaClipEncoder(ImageTextEncoder):
    """Jina CLIP v2.

    Args:
        model_name: Repository on the hub.
        revision: Full commit hash of the snapshot.
        device: See `ImageTextEncoder`.
        folder: A local model folder, instead of the hub.
        task: None (as the published scores were made), or "retrieval.query" to put the model's instruction before
            each text.
        embed_dim: Keep only the first so many columns (matryoshka), before normalising.

    Raises:
        ModelLoadError: The task is unknown, or the dimension is not one that the model was trained for.
    """

    fixed_length = False

    def __init__(
        self,
        model_name: str,
        revision: str | None = None,
        device: str | int | None = None,
        *,
        folder: str | Path | None = None,
        task: str | None = None,
        embed_dim: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(model_name, revision, device)
        self._local = folder is not None
        self.folder = Path(folder) if folder else snapshot(model_name, revision, FILES[:2])
        self.config = _read_json(self.folder / FILES[0])
        preprocess = _read_json(self.folder / FILES[1])
        try:
            vision, text = self.config["vision_config"], self.config["text_config"]
            instructions = text["hf_model_config_kwargs"].get("task_instructions", {})
            size, mean, std = int(preprocess["size"]), tuple(preprocess["mean"]), tuple(preprocess["std"])
            same = size == int(vision["image_size"]) and preprocess["resize_mode"] == "shortest"
        except (KeyError, TypeError, ValueError) as error:
            raise ModelLoadError(f"{self.folder}: config.json is not that of Jina CLIP v2: {error!r}.") from error
        if not same or preprocess.get("interpolation") != "bicubic":
            raise ModelLoadError(f"{self.folder / FILES[1]} asks for another preprocessing than Jina CLIP v2's.")
        if task is not None and task not in instructions:
            raise ModelLoadError(f"{model_name} has no task {task!r}.", f"Choose from {', '.join(instructions)}.")
        if embed_dim is not None and embed_dim not in self.config["matryoshka_dimensions"]:
            raise ModelLoadError(f"{model_name} has no dimension {embed_dim}; {self.config['matryoshka_dimensions']}.")
        self.instruction = instructions[task] if task else ""
        self.embed_dim = embed_dim or self.config.get("truncate_dim")
        self.mean, self.std = mean, std
        self.crop = ShortestSideCrop(size, self.mode)
        self._tokenizer: Any = None

    def load(self) -> Towers:
        """Load both towers strictly, tensor by tensor, in the encoder's precision."""
        if not self._local:
            self.folder = snapshot(self.model_name, self.revision, FILES)
        vision, text, _ = load_towers(self.folder, self.config, self.dtype, published=not self._local)
        import torch

        keep = self.embed_dim

        def encode_image(pixels: torch.Tensor) -> torch.Tensor:
            return vision(pixels)[:, :keep]

        def encode_text(tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            hidden = text(input_ids=tokens, attention_mask=mask).last_hidden_state
            weights = mask.unsqueeze(-1).to(hidden.dtype)
            return ((hidden * weights).sum(dim=1) / weights.sum(dim=1))[:, :keep]

        return Towers(torch.nn.ModuleList([vision, text]), encode_image, encode_text, cast=False)

    def tokenise(self, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return tokens padded to the longest text (at most 512) and their mask."""
        import torch

        if self._tokenizer is None:
            from tokenizers import Tokenizer

            if not self._local:
                self.folder = snapshot(self.model_name, self.revision, FILES)
            path = self.folder / FILES[3]
            try:
                self._tokenizer = Tokenizer.from_file(str(path))
            except Exception as error:  # tokenizers raises bare Exception
                raise ModelLoadError(f"{path} is missing or damaged: {error}.") from error
            self._tokenizer.enable_truncation(MAX_TOKENS)
            self._tokenizer.enable_padding(pad_id=1, pad_token="<pad>")  # noqa: S106
        encoded = self._tokenizer.encode_batch([self.instruction + text for text in texts])
        tokens = torch.tensor([item.ids for item in encoded])
        return tokens, torch.tensor([item.attention_mask for item in encoded])

    def weights_id(self) -> str:
        """Return what identifies the vectors beyond the revision: options, and a local folder's digest."""
        digest = ""
        if self._local:
            with (self.folder / FILES[2]).open("rb") as file:
                digest = _digest(file)
        return f"{digest} {self.instruction!r} {self.embed_dim}"


def load_towers(
    folder: Path, config: dict[str, Any], dtype: Any, *, published: bool, task: str | None = None
) -> tuple[Any, Any, float]:
    """Return the vision tower, the text tower (adapter merged) and the logit scale (not its logarithm).

    Args:
        folder: Holds `model.safetensors`.
        config: The content of `config.json`.
        dtype: The torch dtype of the weights.
        published: Whether the parameter counts must be those of the published checkpoint.
        task: The adapter to merge; default: the configuration's.

    Raises:
        ModelLoadError: The checkpoint is damaged or is not what the configuration says.
    """
    import torch
    from safetensors import safe_open

    path = folder / FILES[2]
    with torch.device("meta"):
        vision, text = build_vision(config["vision_config"]), build_text(config["text_config"])
    adapter = adapter_of(config["text_config"], task)
    shapes = {
        tower: {name: tuple(value.shape) for name, value in module.state_dict().items()}
        for tower, module in (("vision", vision), ("text", text))
    }
    counts = layout.check_layout(layout.shapes_in(path), shapes, adapter, str(path))
    if published and counts != layout.PUBLISHED_PARAMETERS:
        raise ModelLoadError(
            f"{path} has {sum(counts.values()):,} parameters ({counts}), not the published "
            f"{sum(layout.PUBLISHED_PARAMETERS.values()):,}.",
            "Use the pinned revision of the model.",
        )
    with safe_open(path, framework="pt") as file:
        for module, part, source_of in (
            (vision, "vision", layout.vision_source),
            (text, "text", layout.text_source),
        ):
            for name, value in layout.read_parameters(file, shapes[part], source_of, adapter, dtype):
                owner, _, leaf = name.rpartition(".")
                holder = module.get_submodule(owner)
                if leaf in holder._parameters:
                    setattr(holder, leaf, torch.nn.Parameter(value, requires_grad=False))
                else:
                    holder.register_buffer(leaf, value)
        scale = float(file.get_tensor(layout.SCALE).float().exp())
    _restore_tables(vision, text, config["vision_config"])
    return vision.eval(), text.eval(), scale


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
    config = JinaEmbeddingsV3Config(**sizes, rope_parameters=rope)
    return JinaEmbeddingsV3Model(config, add_pooling_layer=False)


def _restore_tables(vision: Any, text: Any, config: dict[str, Any]) -> None:
    """Compute the rotary and position tables, which no checkpoint stores; they stay in fp32 whatever the precision."""
    import torch
    from timm.layers.pos_embed_sincos import create_rope_embed

    vision.rope = create_rope_embed(
        rope_type="cat",
        dim=config["width"],
        num_heads=config["width"] // config["head_width"],
        feat_shape=vision.patch_embed.grid_size,
        temperature=10_000.0,
        in_pixels=False,
        ref_feat_shape=(config["pt_hw_seq_len"],) * 2,
    )
    text.rotary_emb = type(text.rotary_emb)(text.config)
    positions = text.config.max_position_embeddings
    for name, value in (
        ("position_ids", torch.arange(positions).unsqueeze(0)),
        ("token_type_ids", torch.zeros((1, positions), dtype=torch.long)),
    ):
        if name in text.embeddings._buffers:
            text.embeddings.register_buffer(name, value, persistent=False)
    found = text.rotary_emb.inv_freq
    wanted = ROPE_THETA ** -(torch.arange(0, 2 * len(found), 2, dtype=torch.float64) / (2 * len(found)))
    if not torch.allclose(found.double(), wanted, rtol=1e-6, atol=0):
        raise ModelLoadError(
            f"The text tower's rotary base is not {ROPE_THETA:,.0f}: its vectors would be slightly and silently wrong.",
            "Install the versions in constraints.txt.",
        )
    left = [n for m in (vision, text) for n, t in [*m.named_parameters(), *m.named_buffers()] if t.is_meta]
    if left:
        raise ModelLoadError(f"Nothing was loaded into {', '.join(left[:5])}.", "Install constraints.txt's versions.")


def _digest(file: Any) -> str:
    digest = hashlib.sha256()
    while block := file.read(1 << 22):
        digest.update(block)
    return digest.hexdigest()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelLoadError(f"{path} is missing or damaged: {error}.") from error
