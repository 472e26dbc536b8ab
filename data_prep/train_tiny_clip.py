"""Trains the embedded model `vehicle-search/tiny-clip` on drawn scenes: `python -m data_prep.train_tiny_clip`.

The model is an ordinary open_clip CLIP, small enough to ship: a vision transformer of width 128 over 96 x 96 pixels and
a text transformer of width 128 with a vocabulary of its own. Its scenes come from other seeds than those of
VehicleImageSearchMini; there are few enough scenes that some come up under both, and the score without those is
reported too. Every batch holds scenes together with a near twin, so that the contrastive loss has to look at every
attribute, and two captions of each. While it trains, one linear layer per attribute reads the attributes off the
embeddings of images and texts alike, which shortens the training to minutes; these layers are thrown away.

The same arguments give the same weights on the same machine and library versions; another processor may round
differently, so the shipped weights are data, and a test only asks that they load and search as well as stated.
"""

from __future__ import annotations

import argparse
import collections
import gzip
import io
import itertools
import json
import math
import multiprocessing
import random
import sys
import time
from collections.abc import Collection
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from data_prep.sources.drawn import CHOICES, Scene, captions, draw, mini_scenes, near_twin, random_scene

if TYPE_CHECKING:
    import torch

IMAGE_PX = 96
EMBED_DIM = 128
CONTEXT_LENGTH = 32
MERGES = 400
VOCABULARY_FILE = "bpe_vocabulary.txt.gz"
OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
MARGIN_PX = 3  # Training images are shifted by at most this much.


@dataclass(frozen=True)
class Training:
    """What a training run depends on."""

    seed: str = "tiny-clip-1"
    pairs: int = 4000  # Scenes in the pool; each comes with a near twin.
    steps: int = 800
    batch_pairs: int = 64
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.05
    warm_up: int = 40
    threads: int = 2


def train(training: Training, report: Any = None) -> tuple[Any, bytes]:
    """Return the trained open_clip model, fp32 in evaluation mode, and its vocabulary file.

    Args:
        training: What to train.
        report: Called with a line of text now and then.
    """
    import torch

    say = report or (lambda line: None)
    torch.set_num_threads(training.threads)
    torch.manual_seed(random.Random(f"{training.seed}/weights").getrandbits(63))
    scenes = pool_scenes(training)
    texts = [captions(scene, f"{training.seed}/{n}") for n, scene in enumerate(scenes)]
    vocabulary = train_vocabulary([text for five in texts for text in five], MERGES)
    tokens = torch.stack([tokenize(vocabulary, list(five)) for five in texts])
    say(f"drawing {len(scenes)} scenes")
    images = pool_images(scenes, training)
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
        pixels, texts_read = _augment(images[batch], generator), _two_captions(tokens[batch], generator)
        loss, contrast = _loss(model, heads, pixels, texts_read, answers)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        if step % 20 == 0 or step == training.steps - 1:
            took = time.monotonic() - started
            say(f"step {step:4d}  loss {loss.item():.3f}  contrastive {contrast.item():.3f}  {took:.0f} s")
    return model.eval(), vocabulary


def pool_scenes(training: Training) -> list[Scene]:
    """Return the training scenes: at even places random ones, after each of them a near twin of it."""
    rng = random.Random(f"{training.seed}/scenes")
    scenes = []
    for _ in range(training.pairs):
        scene = random_scene(rng)
        scenes += [scene, near_twin(scene, rng)]
    return scenes


def pool_images(scenes: list[Scene], training: Training) -> torch.Tensor:
    """Return the scenes as uint8 [n, 3, 96, 96], as the model will see those of an evaluation set."""
    import torch

    chunks = [scenes[i : i + 250] for i in range(0, len(scenes), 250)]
    # Not forked: torch has threads by now.
    with ProcessPoolExecutor(training.threads, mp_context=multiprocessing.get_context("spawn")) as workers:
        raw = b"".join(workers.map(_draw_chunk, chunks))
    pixels = torch.frombuffer(bytearray(raw), dtype=torch.uint8).reshape(len(scenes), IMAGE_PX, IMAGE_PX, 3)
    return pixels.permute(0, 3, 1, 2).contiguous()


def _draw_chunk(scenes: list[Scene]) -> bytes:
    return b"".join(as_seen(draw(scene)).tobytes() for scene in scenes)


def stored(picture: Image.Image) -> Image.Image:
    """Return the picture after an evaluation set's JPEG."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=75)
    return Image.open(file).convert("RGB")


def as_seen(picture: Image.Image) -> Image.Image:
    """Return the picture as an evaluation set stores it, resized and cropped to the model's size.

    Within a pixel of open_clip's own crop, which is less than the shifts in training.
    """
    picture = stored(picture)
    width, height = picture.size
    scale = IMAGE_PX / min(width, height)
    small = picture.resize((round(width * scale), round(height * scale)), Image.Resampling.BICUBIC)
    left, top = (small.width - IMAGE_PX) // 2, (small.height - IMAGE_PX) // 2
    return small.crop((left, top, left + IMAGE_PX, top + IMAGE_PX))


def train_vocabulary(texts: list[str], merges: int) -> bytes:
    """Return a byte-pair vocabulary in the gzip format that open_clip's `SimpleTokenizer` reads.

    Merges the commonest neighbouring pair of symbols again and again (Sennrich et al., "Neural machine translation of
    rare words with subword units", 2016); equally common pairs in alphabetical order.
    """
    import re

    counts = collections.Counter(word for text in texts for word in re.findall(r"[a-z]+", text.lower()))
    words = {word: (*word[:-1], word[-1] + "</w>") for word in sorted(counts)}
    learned: list[tuple[str, str]] = []
    while len(learned) < merges:
        pairs: collections.Counter[tuple[str, str]] = collections.Counter()
        for word, symbols in words.items():
            for pair in itertools.pairwise(symbols):
                pairs[pair] += counts[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        learned.append(best)
        words = {word: _merge(symbols, best) for word, symbols in words.items()}
    # The reader skips the first line and would take an empty last one for a merge.
    lines = "\n".join(["#version: drawn scenes", *(" ".join(pair) for pair in learned)])
    file = io.BytesIO()
    with gzip.GzipFile("", "wb", mtime=0, fileobj=file) as zipped:
        zipped.write(lines.encode())
    return file.getvalue()


def _merge(symbols: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    merged: list[str] = []
    place = 0
    while place < len(symbols):
        if symbols[place : place + 2] == pair:
            merged.append(pair[0] + pair[1])
            place += 2
        else:
            merged.append(symbols[place])
            place += 1
    return tuple(merged)


def vocabulary_size(vocabulary: bytes) -> int:
    """Return the number of tokens: 256 bytes, the same at a word's end, the merges, start and end of text."""
    return 512 + len(gzip.decompress(vocabulary).decode().split("\n")) - 1 + 2


def tokenize(vocabulary: bytes, texts: list[str]) -> torch.Tensor:
    """Return open_clip's tokens of the texts, int64 [n, context length]."""
    return _tokenizer(vocabulary)(texts)


_tokenizers: dict[bytes, Any] = {}


def _tokenizer(vocabulary: bytes) -> Any:
    if vocabulary not in _tokenizers:
        import tempfile

        from open_clip.tokenizer import SimpleTokenizer

        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / VOCABULARY_FILE
            file.write_bytes(vocabulary)
            _tokenizers[vocabulary] = SimpleTokenizer(str(file), context_length=CONTEXT_LENGTH)
    return _tokenizers[vocabulary]


def model_config(vocabulary_tokens: int) -> dict[str, Any]:
    """Return the content of `open_clip_config.json`."""
    return {
        "model_cfg": {
            "embed_dim": EMBED_DIM,
            "vision_cfg": {
                "image_size": IMAGE_PX,
                "layers": 4,
                "width": 128,
                "head_width": 32,
                "patch_size": 16,
            },
            "text_cfg": {
                "context_length": CONTEXT_LENGTH,
                "vocab_size": vocabulary_tokens,
                "width": 128,
                "heads": 4,
                "layers": 2,
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


def normalise(pixels: torch.Tensor) -> torch.Tensor:
    """Return uint8 images as the model takes them, float32."""
    import torch

    mean = torch.tensor(OPENAI_MEAN).view(1, 3, 1, 1)
    std = torch.tensor(OPENAI_STD).view(1, 3, 1, 1)
    return (pixels.float() / 255 - mean) / std


def _augment(pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    import torch
    from torch.nn.functional import pad

    x, y = (int(n) for n in torch.randint(0, 2 * MARGIN_PX + 1, (2,), generator=generator))
    wide = pad(normalise(pixels), (MARGIN_PX,) * 4, mode="replicate")
    gain = 0.9 + 0.2 * torch.rand((len(pixels), 1, 1, 1), generator=generator)
    return wide[:, :, y : y + IMAGE_PX, x : x + IMAGE_PX] * gain


def _two_captions(tokens: torch.Tensor, generator: torch.Generator) -> list[torch.Tensor]:
    """Return two different captions of every scene; tokens are [n, 5, context length]."""
    import torch

    order = torch.rand(tokens.shape[:2], generator=generator).argsort(dim=1)
    rows = torch.arange(len(tokens))
    return [tokens[rows, order[:, 0]], tokens[rows, order[:, 1]]]


def _loss(
    model: Any, heads: Any, pixels: torch.Tensor, texts: list[torch.Tensor], answers: dict[str, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss to minimise and, of it, the contrastive part."""
    import torch
    from torch.nn.functional import cross_entropy, normalize

    seen = model.encode_image(pixels)
    read = model.encode_text(torch.cat(texts))
    same = torch.arange(len(seen))
    contrast = seen.new_zeros(())
    told = seen.new_zeros(())
    shown = seen.new_zeros(())
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
    from safetensors.torch import save as to_bytes

    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.detach().half().contiguous() for name, value in model.state_dict().items()}
    config = json.dumps(model_config(vocabulary_size(vocabulary)), indent=2) + "\n"
    files = {
        "open_clip_model.safetensors": to_bytes(weights),
        "open_clip_config.json": config.encode(),
        VOCABULARY_FILE: vocabulary,
    }
    for name, data in files.items():
        temporary = folder / f".{name}.partial"
        temporary.write_bytes(data)
        temporary.replace(folder / name)
    return sum(len(data) for data in files.values())


def mini_ndcg_at_10(model: Any, vocabulary: bytes, preprocess: Any = None, without: Collection[Scene] = ()) -> float:
    """Return NDCG@10 on VehicleImageSearchMini's scenes, ties against the model.

    Args:
        model: An open_clip model in evaluation mode.
        vocabulary: The content of its vocabulary file.
        preprocess: Turns an RGB image into the model's input; open_clip's own for `model_config` by default.
        without: Scenes whose captions are not asked; they stay among the images.
    """
    import torch
    from open_clip.transform import image_transform

    preprocess = preprocess or image_transform(
        IMAGE_PX, is_train=False, mean=OPENAI_MEAN, std=OPENAI_STD, interpolation="bicubic", resize_mode="shortest"
    )
    scenes = sorted(mini_scenes(), key=lambda named: named.stem)
    asked = [(n, text) for n, named in enumerate(scenes) if named.scene not in without for text in named.captions]
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
        prog="python -m data_prep.train_tiny_clip", description="Train the embedded model on drawn scenes."
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write the model to")
    parser.add_argument("--steps", type=int, default=Training.steps, help="optimiser steps (default: %(default)s)")
    parser.add_argument("--pairs", type=int, default=Training.pairs, help="scenes to draw, each with a near twin")
    parser.add_argument("--seed", default=Training.seed, help="where scenes and weights come from")
    options = parser.parse_args(arguments)
    say = partial(print, file=sys.stderr, flush=True)
    started = time.monotonic()
    training = Training(seed=options.seed, steps=options.steps, pairs=options.pairs)
    model, vocabulary = train(training, say)
    size = save(options.out, model, vocabulary)
    say(f"{size / 1e6:.2f} MB in {options.out}, {time.monotonic() - started:.0f} s")
    known = {named.scene for named in mini_scenes() if named.captions} & set(pool_scenes(training))
    say(f"NDCG@10 on Mini {mini_ndcg_at_10(model, vocabulary):.3f}, by chance {random_ndcg_at_10(2000):.4f}")
    rest = mini_ndcg_at_10(model, vocabulary, without=known)
    say(f"without its {len(known)} captioned scenes met in training {rest:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
