"""Tiny random miners in the layouts in which real ones lie, and a preset that uses them."""

from __future__ import annotations

from pathlib import Path

TIMM = "vit_tiny_patch16_224"
TIMM_ARGS = {"embed_dim": 16, "depth": 1, "num_heads": 2, "img_size": 32, "patch_size": 8}
WORDS = ["a", "in", "red", "green", "blue", "grey", "cart", "wall", "scene", "told"]


def write_timm(folder: Path, seed: int = 0) -> Path:
    """Write a ViT of a few thousand parameters as timm writes it for the hub; return the folder."""
    import timm
    import torch
    from timm.models import save_for_hf

    torch.manual_seed(seed)
    model = timm.create_model(TIMM, pretrained=False, num_classes=5, **TIMM_ARGS)
    save_for_hf(model, str(folder), model_args=TIMM_ARGS, safe_serialization=True)
    return folder


def write_sentence(folder: Path, seed: int = 0) -> Path:
    """Write a text model of sentence-transformers: a tiny BERT, the mean of its tokens; return the folder."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    torch.manual_seed(seed)
    bert = folder.with_name(folder.name + "-bert")
    bert.mkdir(parents=True)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *"abcdefghijklmnopqrstuvwxyz0123456789,."]
    names = list(dict.fromkeys(vocabulary))
    tokenizer = BertTokenizerFast(vocab={name: number for number, name in enumerate(names)})
    tokenizer.save_pretrained(bert)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=len(names), max_position_embeddings=64, **sizes)).save_pretrained(bert)
    model = Transformer(str(bert), max_seq_length=48)
    SentenceTransformer(modules=[model, Pooling(16)]).save(str(folder), safe_serialization=True)
    return folder
