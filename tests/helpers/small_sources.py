"""A few drawn images as Flickr30k (folder and CSV) and ImageNet (ImageFolder), and a tiny classifier of them.

Classes stand for three kinds of vehicle and one thing that is none. The classifier is a ViT of a few thousand
parameters in transformers' format, trained here for seconds.
"""

from __future__ import annotations

import csv
import io
import json
import random
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, ImageDraw

from mteb_vehicle_search.terminal import Reporter

WNIDS = {0: "n01440764", 1: "n01443537", 2: "n01484850", 3: "n01491361"}  # ImageNet's first four.
NAMES = {0: "red cart", 1: "green cart", 2: "blue cart", 3: "grey wall"}
COLOURS = {0: (210, 40, 40), 1: (40, 170, 60), 2: (50, 70, 210), 3: (128, 128, 128)}
VEHICLES = (0, 1, 2)


def noisy_image(kind: int, seed: int, size: tuple[int, int] = (240, 200)) -> Image.Image:
    """A noisy image whose middle has the colour of its class."""
    rng = random.Random(f"{kind}/{seed}")
    image = Image.new("RGB", size, tuple(rng.randrange(200, 256) for _ in range(3)))
    pen = ImageDraw.Draw(image)
    for _ in range(40):
        x, y, r = rng.randrange(size[0]), rng.randrange(size[1]), rng.randrange(4, 22)
        pen.ellipse([x - r, y - r, x + r, y + r], fill=tuple(rng.randrange(150, 256) for _ in range(3)))
    pen.rectangle([size[0] * 0.2, size[1] * 0.25, size[0] * 0.8, size[1] * 0.8], fill=COLOURS[kind])
    for _ in range(6):
        x, y = rng.randrange(size[0]), rng.randrange(size[1])
        pen.line([x, y, x + rng.randrange(-60, 60), y + 40], fill=(20, 20, 20), width=3)
    return image


def jpeg(image: Image.Image, **options) -> bytes:
    """The image as JPEG bytes."""
    file = io.BytesIO()
    image.save(file, "JPEG", **options)
    return file.getvalue()


def write_flickr30k(folder: Path, count: int = 40) -> Path:
    """Write `count` captioned images, every fourth of which shows no vehicle; return the folder."""
    images = folder / "flickr30k-images"
    images.mkdir(parents=True)
    with (folder / "flickr_annotations_30k.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["raw", "sentids", "split", "filename", "img_id"])
        for number in range(count):
            kind, name = number % 4, f"{1000 + number}.jpg"
            (images / name).write_bytes(jpeg(noisy_image(kind, number)))
            captions = [f"A {NAMES[kind]} in scene {number}, told {way}." for way in "abcd"] + [f"A {NAMES[kind]}."]
            split = ("train", "train", "val", "test")[number // 4 % 4]
            table.writerow([json.dumps(captions), "[]", split, name, number])
    return folder


def write_imagenet(folder: Path, train: int = 15, val: int = 3) -> Path:
    """Write an ImageFolder tree; return it."""
    for kind, wnid in WNIDS.items():
        for split, count, first in (("train", train, 10_000), ("val", val, 20_000)):
            target = folder / split / wnid
            target.mkdir(parents=True)
            for number in range(count):
                name = f"{wnid}_{number}" if split == "train" else f"ILSVRC2012_val_{kind * 100 + number:08d}"
                (target / f"{name}.JPEG").write_bytes(jpeg(noisy_image(kind, first + number, (300, 220))))
    return folder


def train_classifier(folder: Path, steps: int = 40) -> Path:
    """Train a tiny ViT on the four classes; write it in transformers' format; return the folder.

    With no steps its weights are random.
    """
    import numpy as np
    import torch
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=32,
        patch_size=8,
        id2label=dict(NAMES),
        label2id={name: index for index, name in NAMES.items()},
    )
    model = ViTForImageClassification(config)
    half = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    processor = ViTImageProcessorPil(size={"height": 32, "width": 32}, resample=2, **half)
    kinds = [number % 4 for number in range(96 if steps else 1)]
    images = [noisy_image(kind, 50_000 + number) for number, kind in enumerate(kinds)]
    pixels = torch.from_numpy(np.stack(processor(images, return_tensors="np")["pixel_values"]))
    labels = torch.tensor(kinds)
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(steps):
        optimiser.zero_grad()
        model(pixel_values=pixels, labels=labels).loss.backward()
        optimiser.step()
    model.eval()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def write_preset(folder: Path, classifier: str = "classifier", changes: dict[str, str] | None = None) -> Path:
    """Write a preset, its class set, and return the preset's path; `changes` replaces pieces of its text."""
    rows = [f"{index}\t{WNIDS[index]}\t{NAMES[index]}\tcart" for index in VEHICLES]
    (folder / "carts.tsv").unlink(missing_ok=True)
    (folder / "carts.tsv").write_text("\n".join(["index\twnid\tname\troots", *rows]) + "\n", encoding="utf-8")
    text = f"""
name = "carts"
title = "Cart Search"
[captioned]
source = "flickr30k"
[classifier]
library = "transformers"
model = "{classifier}"
[selection]
classes = "carts.tsv"
threshold = 0.6
[distractors]
source = "imagenet"
classes = "carts.tsv"
[images]
shortest_side_px = 64
[duplicates]
policy = "remove"
max_distance = 2
[expected]
captioned = 30
"""
    for old, new in (changes or {}).items():
        text = text.replace(old, new)
    path = folder / "carts.toml"
    path.unlink(missing_ok=True)  # It may be a hard link.
    path.write_text(text, encoding="utf-8")
    return path


def without_warnings(text: str) -> str:
    """Return what was shown but for warnings, as that small data have fewer images than the real."""
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith("warning: "))


class Recorder(Reporter):
    """A quiet reporter that remembers what was tracked."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.tracked: list[tuple[str, int | None]] = []
        self.units: dict[str, str] = {}
        self.bars: dict[str, RecordedBar] = {}
        self.moves: list[tuple[int, str]] = []  # Where a bar was, and what stood beside it.

    def track(self, items, what, total=None, unit="image", size_of=None):
        """Remember, and go on."""
        self.tracked.append((what, total))
        self.units[what] = unit
        return super().track(items, what, total, unit, size_of)

    @contextmanager
    def bar(self, what, total=None, unit="image"):
        """Remember, and go on."""
        self.tracked.append((what, total))
        self.units[what] = unit
        self.bars[what] = RecordedBar(self.moves)
        yield self.bars[what]


class RecordedBar:
    """A bar that writes its moves down."""

    def __init__(self, moves: list[tuple[int, str]]) -> None:
        self.moves, self.n, self.note = moves, 0, ""

    def update(self, count):
        """Move on."""
        self.n += count
        self.moves.append((self.n, self.note))

    def set_postfix_str(self, note, refresh=True):
        """Write something beside it."""
        self.note = note
        self.moves.append((self.n, self.note))
