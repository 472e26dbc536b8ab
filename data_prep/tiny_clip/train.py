"""Trains the embedded model `vehicle-search/tiny-clip` on drawn scenes: `python -m data_prep.tiny_clip.train`.

The model is an ordinary open_clip CLIP, small enough to ship: a vision transformer of width 128 over 96 x 96 pixels and
a text transformer of width 128 with a vocabulary of its own. Its scenes come from other seeds than those of
VehicleImageSearchMini, and none of Mini's scenes is among them. Every batch holds scenes together with a near twin, so
that the contrastive loss has to look at every attribute, and two captions of each. While it trains, one linear layer
per attribute reads the attributes off the embeddings of images and texts alike, which shortens the training to
minutes; these layers are thrown away.

The same arguments give the same weights on the same machine and library versions; another processor may round
differently, so the shipped weights are data, and a test only asks that they load and search as well as stated.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_bytes
from torch.nn.functional import cross_entropy, normalize

from data_prep.sources.drawn.images import draw
from data_prep.sources.drawn.mini import mini_scenes
from data_prep.sources.drawn.phrases import captions
from data_prep.sources.drawn.scene import CHOICES
from data_prep.tiny_clip.scenes import (
    IMAGE_PX,
    OPENAI_MEAN,
    OPENAI_STD,
    augment,
    pool_images,
    pool_scenes,
    stored,
    two_captions,
)
from data_prep.tiny_clip.vocabulary import (
    CONTEXT_LENGTH,
    TOKENIZER_CONFIG,
    VOCABULARY_FILE,
    tokenize,
    tokenizer_files,
    train_vocabulary,
    vocabulary_size,
)
from mteb_vehicle_search.files import write_whole

EMBED_DIM = 128
MERGES = 400


@dataclass(frozen=True)
class Training:
    """What a training run depends on."""

    seed: str = "tiny-clip-2"
    pairs: int = 4000  # Scenes in the pool; each comes with a near twin.
    steps: int = 800
    batch_pairs: int = 64
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.05
    warm_up: int = 40
    threads: int = 2


def train(training: Training, report: Callable[[str], object] = lambda line: None) -> tuple[Any, bytes]:
    """Return the trained open_clip model, fp32 in evaluation mode, and its vocabulary file.

    `report` is called with a line of text now and then.
    """
    torch.set_num_threads(training.threads)
    torch.manual_seed(random.Random(f"{training.seed}/weights").getrandbits(63))
    scenes = pool_scenes(training.seed, training.pairs)
    texts = [captions(scene, f"{training.seed}/{n}") for n, scene in enumerate(scenes)]
    vocabulary = train_vocabulary([text for five in texts for text in five], MERGES)
    tokens = torch.stack([tokenize(vocabulary, list(five)) for five in texts])
    report(f"drawing {len(scenes)} scenes")
    images = pool_images(scenes, training.threads)
    model = create_model(vocabulary_size(vocabulary))
    model.train()
    heads = torch.nn.ModuleDict({name: torch.nn.Linear(EMBED_DIM, len(choices)) for name, choices in CHOICES.items()})
    attributes = {
        name: torch.tensor([choices.index(getattr(scene, name)) for scene in scenes])
        for name, choices in CHOICES.items()
    }
    groups = _parameter_groups([*model.parameters(), *heads.parameters()], training.weight_decay)
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), eps=1e-6)
    generator = torch.Generator().manual_seed(random.Random(f"{training.seed}/batches").getrandbits(63))
    order = torch.empty(0, dtype=torch.long)
    started = time.monotonic()
    for step in range(training.steps):
        if len(order) < training.batch_pairs:
            order = torch.randperm(len(scenes) // 2, generator=generator)
        chosen, order = order[: training.batch_pairs], order[training.batch_pairs :]
        batch = torch.cat([2 * chosen, 2 * chosen + 1])
        for group in optimizer.param_groups:
            group["lr"] = training.learning_rate * _schedule(step, training)
        answers = {name: values[batch] for name, values in attributes.items()}
        pixels, texts_read = augment(images[batch], generator), two_captions(tokens[batch], generator)
        loss, contrast = _loss(model, heads, pixels, texts_read, answers)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        if step % 20 == 0 or step == training.steps - 1:
            took = time.monotonic() - started
            report(f"step {step:4d}  loss {loss.item():.3f}  contrastive {contrast.item():.3f}  {took:.0f} s")
    return model.eval(), vocabulary


def model_config(vocabulary_tokens: int) -> dict[str, Any]:
    """Return the content of `open_clip_config.json`."""
    return {
        "model_cfg": {
            "embed_dim": EMBED_DIM,
            "vision_cfg": {"image_size": IMAGE_PX, "layers": 4, "width": 128, "head_width": 32, "patch_size": 16},
            "text_cfg": {
                "context_length": CONTEXT_LENGTH,
                "vocab_size": vocabulary_tokens,
                "width": 128,
                "heads": 4,
                "layers": 2,
                **TOKENIZER_CONFIG,
            },
        },
        "preprocess_cfg": {
            "mean": list(OPENAI_MEAN),
            "std": list(OPENAI_STD),
            "interpolation": "bicubic",
            "resize_mode": "shortest",
        },
    }


def create_model(vocabulary_tokens: int) -> Any:
    """Return an untrained open_clip model of the shipped shape."""
    import open_clip

    return open_clip.CLIP(**model_config(vocabulary_tokens)["model_cfg"])


def _parameter_groups(parameters: list[Any], weight_decay: float) -> list[dict[str, Any]]:
    matrices = [p for p in parameters if p.ndim >= 2]
    others = [p for p in parameters if p.ndim < 2]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def _schedule(step: int, training: Training) -> float:
    """Return the share of the learning rate: a linear warm-up, then a cosine down to 1 %."""
    if step < training.warm_up:
        return (step + 1) / training.warm_up
    done = (step - training.warm_up) / max(1, training.steps - training.warm_up)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done))


def _loss(
    model: Any, heads: Any, pixels: torch.Tensor, texts: list[torch.Tensor], answers: dict[str, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss to minimise and, of it, the contrastive part."""
    seen = model.encode_image(pixels)
    read = model.encode_text(torch.cat(texts))
    same = torch.arange(len(seen))
    contrast = told = shown = seen.new_zeros(())
    for part in read.split(len(seen)):
        logits = model.logit_scale.exp() * normalize(seen, dim=-1) @ normalize(part, dim=-1).T
        contrast = contrast + (cross_entropy(logits, same) + cross_entropy(logits.T, same)) / (2 * len(texts))
    for name, head in heads.items():
        shown = shown + cross_entropy(head(seen), answers[name]) / len(heads)
        for part in read.split(len(seen)):
            told = told + cross_entropy(head(part), answers[name]) / (len(heads) * len(texts))
    return contrast + shown + 0.5 * told, contrast


def save(folder: Path, model: Any, vocabulary: bytes) -> int:
    """Write the model folder that open_clip's `local-dir:` reads, in fp16; return its size in bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.detach().half().contiguous() for name, value in model.state_dict().items()}
    files = {
        "open_clip_model.safetensors": to_bytes(weights),
        "open_clip_config.json": f"{json.dumps(model_config(vocabulary_size(vocabulary)), indent=2)}\n".encode(),
        VOCABULARY_FILE: vocabulary,
        **tokenizer_files(vocabulary),
    }
    for name, data in files.items():
        write_whole(folder / name, data)
    return sum(len(data) for data in files.values())


def mini_ndcg_at_10(model: Any, vocabulary: bytes, preprocess: Any = None) -> float:
    """Return NDCG@10 on VehicleImageSearchMini's scenes, ties against the model.

    Args:
        model: An open_clip model in evaluation mode.
        vocabulary: The content of its vocabulary file.
        preprocess: Turns an RGB image into the model's input; open_clip's own for `model_config` by default.
    """
    from open_clip.transform import image_transform

    preprocess = preprocess or image_transform(
        IMAGE_PX, is_train=False, mean=OPENAI_MEAN, std=OPENAI_STD, interpolation="bicubic", resize_mode="shortest"
    )
    scenes = sorted(mini_scenes(), key=lambda named: named.stem)
    asked = [(n, text) for n, named in enumerate(scenes) for text in named.captions]
    with torch.inference_mode():
        parts = []
        for start in range(0, len(scenes), 250):
            pixels = [preprocess(stored(draw(named.scene))) for named in scenes[start : start + 250]]
            parts.append(model.encode_image(torch.stack(pixels), normalize=True))
        read = model.encode_text(tokenize(vocabulary, [text for _, text in asked]), normalize=True)
        scores = read @ torch.cat(parts).T
        own = scores[torch.arange(len(asked)), torch.tensor([number for number, _ in asked])]
        ranks = (scores >= own[:, None]).sum(dim=1)
    gains = torch.where(ranks <= 10, 1 / torch.log2(ranks + 1.0), 0.0)
    return float(gains.mean())


def random_ndcg_at_10(images: int) -> float:
    """Return the expected NDCG@10 of a random order with one relevant image among `images`."""
    return sum(1 / math.log2(rank + 1) for rank in range(1, 11)) / images


def main(arguments: list[str] | None = None) -> int:
    """Train, save and report; the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m data_prep.tiny_clip.train", description="Train the embedded model on drawn scenes."
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write the model to")
    parser.add_argument("--steps", type=int, default=Training.steps, help="optimiser steps (default: %(default)s)")
    parser.add_argument("--pairs", type=int, default=Training.pairs, help="scenes to draw, each with a near twin")
    parser.add_argument("--seed", default=Training.seed, help="where scenes and weights come from")
    options = parser.parse_args(arguments)
    say = partial(print, file=sys.stderr, flush=True)
    started = time.monotonic()
    model, vocabulary = train(Training(seed=options.seed, steps=options.steps, pairs=options.pairs), say)
    size = save(options.out, model, vocabulary)
    say(f"{size / 1e6:.2f} MB in {options.out}, {time.monotonic() - started:.0f} s")
    say(f"NDCG@10 on Mini {mini_ndcg_at_10(model, vocabulary):.3f}, by chance {random_ndcg_at_10(2000):.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
