"""Model folders of every layout that can be located, with small random weights, as the hub's own hold them.

Each `write_*` makes `folder`, writes into it and returns it; another `seed` gives other weights in the same layout.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stand_ins import SMALL_CLIP, random_open_clip

OPENAI_MEAN, OPENAI_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
CLIP_TEXT = ["<|startoftext|>", "<|endoftext|>"]
# What Gemma's vocabulary begins with, and the bytes that its pieces fall back to.
GEMMA_SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
# What decides vectors beside weights and configuration, written down anew.
TOKENIZER_FILES = [
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "vocab.txt", "merges.txt", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model"),
]
PREPROCESSING_FILES = ["preprocessor_config.json", "processor_config.json"]
SENTENCE_FILES = [
    *("config.json", "config_sentence_transformers.json", "sentence_bert_config.json", "router_config.json"),
    *("chat_template.json", "chat_template.jinja"),
]
TOWER = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


def write_open_clip(folder: Path, *, seed: int = 0) -> Path:
    """open_clip: `open_clip_config.json` and `open_clip_model.safetensors`, with open_clip's own vocabulary."""
    return random_open_clip(folder, SMALL_CLIP, seed)


def write_clip(folder: Path, *, seed: int = 0) -> Path:
    """transformers' CLIP, as OpenAI's repositories hold it: shortest side and crop, byte pairs, 77 tokens."""
    from transformers import CLIPConfig, CLIPModel

    size = {"vocab_size": 514, "bos_token_id": 512, "eos_token_id": 513, "pad_token_id": 513}
    config = CLIPConfig(
        text_config={**TOWER, **size, "max_position_embeddings": 77, "projection_dim": 24},
        vision_config={**TOWER, "image_size": 32, "patch_size": 8, "projection_dim": 24},
        projection_dim=24,
    )
    save_model(CLIPModel, config, folder, seed)
    write_json(folder / "preprocessor_config.json", clip_preprocessing(32))
    write_clip_tokenizer(folder)
    return folder


def write_metaclip2(folder: Path, *, seed: int = 0) -> Path:
    """MetaCLIP 2's H/14 in small: QuickGELU, a worldwide vocabulary, a text width that its own part misstates."""
    from transformers import MetaClip2Config, MetaClip2Model

    tokens = {"vocab_size": 400, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
    config = MetaClip2Config(
        text_config={**TOWER, **tokens, "max_position_embeddings": 77, "hidden_act": "quick_gelu"},
        vision_config={**TOWER, "image_size": 28, "patch_size": 14, "hidden_act": "quick_gelu", "projection_dim": 24},
        projection_dim=24,
    )
    save_model(MetaClip2Model, config, folder, seed)
    stated = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    stated["text_config"]["projection_dim"] = 512
    write_json(folder / "config.json", stated)
    write_json(folder / "preprocessor_config.json", clip_preprocessing(28))
    write_xlm_tokenizer(folder)
    return folder


def write_siglip(folder: Path, *, seed: int = 0) -> Path:
    """SigLIP 1: squashed images, SentencePiece's unigrams in `tokenizer.json`, 64 tokens padded with the end."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    vocabulary = siglip_model(folder, seed, words=[chr(code) for code in range(33, 127)], eos="</s>")
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((piece, -2.0) for piece in vocabulary[3:])]
    tokenizer: Any = Tokenizer(models.Unigram(pieces, unk_id=2, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.add_special_tokens(["<pad>", "</s>", "<unk>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    own = {"eos_token": "</s>", "pad_token": "</s>", "unk_token": "<unk>", "do_lower_case": True}
    write_json(
        folder / "tokenizer_config.json",
        {**own, "model_max_length": 64, "tokenizer_class": "SiglipTokenizer", "model_input_names": ["input_ids"]},
    )
    return folder


def write_siglip2(folder: Path, *, seed: int = 0, side: str | None = "right", lower: bool = False) -> Path:
    """SigLIP 2 at a fixed resolution, as on the hub: `model_type` siglip and Gemma's tokenizer, which keeps capitals.

    Args:
        folder: Where.
        seed: Of the weights.
        side: Of the padding, as `tokenizer_config.json` and `tokenizer.json` say it; None: neither says it.
        lower: Whether the tokenizer's own rule lowers the letters, as later transformers write it.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    siglip_model(folder, seed, words=gemma_words(), eos="<eos>", resample=2)
    vocabulary = {piece: number for number, piece in enumerate(gemma_pieces())}
    merges = [("c", "a"), ("ca", "r"), ("▁", "car"), ("t", "h"), ("th", "e"), ("▁", "the"), ("A", "▁")]
    model = models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)  # noqa: S106
    tokenizer: Any = Tokenizer(model)
    spaces = normalizers.Replace(" ", "▁")
    tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), spaces]) if lower else spaces
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    tokenizer.add_special_tokens(GEMMA_SPECIAL)
    if side:
        tokenizer.enable_truncation(64)
        tokenizer.enable_padding(direction=side, pad_id=0, pad_token="<pad>", length=64)  # noqa: S106
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}
    own = {"add_bos_token": False, "add_eos_token": True, "model_input_names": ["input_ids"], "max_length": 64}
    write_json(
        folder / "tokenizer_config.json",
        {
            **special,
            **own,
            **({"padding_side": side} if side else {}),
            "processor_class": "SiglipProcessor",
            "tokenizer_class": "GemmaTokenizer",
        },
    )
    return folder


def write_sentence_clip(folder: Path, *, seed: int = 0) -> Path:
    """sentence-transformers' CLIPModel: `modules.json`, and transformers' CLIP in a folder of its own."""
    write_clip(folder / "0_CLIPModel", seed=seed)
    module = {"idx": 0, "name": "0", "path": "0_CLIPModel", "type": "sentence_transformers.models.CLIPModel"}
    write_json(folder / "modules.json", [module])
    versions = {"sentence_transformers": "2.0.0", "transformers": "4.7.0", "pytorch": "1.9.0+cu102"}
    write_json(folder / "config_sentence_transformers.json", {"__version__": versions})
    return folder


def siglip_model(folder: Path, seed: int, *, words: list[str], eos: str, resample: int = 3) -> list[str]:
    """Write weights, configuration and preprocessing of a SigLIP, and return its vocabulary."""
    from transformers import SiglipConfig, SiglipModel

    vocabulary = gemma_pieces() if eos == "<eos>" else ["<pad>", "</s>", "<unk>", "▁", *words]
    size = {"vocab_size": len(vocabulary), "max_position_embeddings": 64, "projection_size": 32}
    config = SiglipConfig(
        text_config={**TOWER, **size, "bos_token_id": 2, "eos_token_id": 1, "pad_token_id": vocabulary.index(eos)},
        vision_config={**TOWER, "image_size": 32, "patch_size": 8},
    )
    save_model(SiglipModel, config, folder, seed)
    write_json(folder / "preprocessor_config.json", siglip_preprocessing(32, resample))
    return vocabulary


def gemma_words() -> list[str]:
    """Return the pieces of the small Gemma vocabulary beyond specials and bytes."""
    letters = [chr(code) for code in range(33, 127)]
    return ["▁", *letters, "ca", "car", "▁car", "th", "the", "▁the", "A▁", "é", "ß", "ç"]


def gemma_pieces() -> list[str]:
    """Return the small vocabulary with Gemma's order: specials, bytes, pieces."""
    return [*GEMMA_SPECIAL, *BYTES, *gemma_words()]


def clip_preprocessing(size: int) -> dict[str, Any]:
    """CLIP's `preprocessor_config.json` as newer repositories state it."""
    square = {"height": size, "width": size}
    return {
        **{"do_center_crop": True, "do_convert_rgb": True, "do_normalize": True, "do_rescale": True, "do_resize": True},
        "crop_size": square,
        "image_mean": OPENAI_MEAN,
        "image_processor_type": "CLIPImageProcessor",
        "image_std": OPENAI_STD,
        "resample": 3,
        "rescale_factor": 0.00392156862745098,
        "size": {"shortest_edge": size},
    }


def siglip_preprocessing(size: int, resample: int = 3) -> dict[str, Any]:
    """SigLIP's `preprocessor_config.json`: both sides to `size`; SigLIP 2's is bilinear (2)."""
    return {
        **{"do_normalize": True, "do_rescale": True, "do_resize": True},
        **{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]},
        "image_processor_type": "SiglipImageProcessor",
        "processor_class": "SiglipProcessor",
        "resample": resample,
        "rescale_factor": 0.00392156862745098,
        "size": {"height": size, "width": size},
    }


def write_clip_tokenizer(folder: Path) -> None:
    """Write CLIP's byte pairs without a merge: `vocab.json`, `merges.txt` and the files about them."""
    from open_clip.tokenizer import bytes_to_unicode

    letters = list(bytes_to_unicode().values())
    vocabulary = [*letters, *(f"{letter}</w>" for letter in letters), *CLIP_TEXT]
    write_json(folder / "vocab.json", {piece: number for number, piece in enumerate(vocabulary)})
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8", newline="\n")
    special = {"bos_token": CLIP_TEXT[0], "eos_token": CLIP_TEXT[1], "pad_token": CLIP_TEXT[1]}
    write_json(folder / "special_tokens_map.json", {**special, "unk_token": CLIP_TEXT[1]})
    write_json(
        folder / "tokenizer_config.json",
        {**special, "unk_token": CLIP_TEXT[1], "model_max_length": 77, "tokenizer_class": "CLIPTokenizer"},
    )


def write_xlm_tokenizer(folder: Path) -> None:
    """Write a tokenizer of XLM-V's kind: unigrams, its own length of 512, an end of text that is number 2."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    special = ["<s>", "<pad>", "</s>", "<unk>"]
    pieces = [(piece, 0.0) for piece in special] + [("▁", -2.0)] + [(chr(code), -2.5) for code in range(33, 383)]
    tokenizer: Any = Tokenizer(models.Unigram(pieces, unk_id=3, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tokenizer.add_special_tokens(special)
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>", "cls_token": "<s>"}
    write_json(
        folder / "tokenizer_config.json",
        {**names, "sep_token": "</s>", "model_max_length": 512, "tokenizer_class": "XLMRobertaTokenizer"},
    )


def save_model(kind: Any, config: Any, folder: Path, seed: int) -> None:
    """Save a model of `kind` with random weights as `config.json` and `model.safetensors`."""
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    kind(config).save_pretrained(folder)


def write_json(path: Path, content: Any) -> None:
    """Write JSON as the hub's files are written."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8", newline="\n")
