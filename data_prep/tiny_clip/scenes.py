"""The images that the embedded model is trained on."""

from __future__ import annotations

import io
import multiprocessing
import random
from concurrent.futures import ProcessPoolExecutor

import torch
from PIL import Image
from torch.nn.functional import pad

from data_prep.sources.drawn.images import draw
from data_prep.sources.drawn.mini import mini_scenes
from data_prep.sources.drawn.scene import Scene, near_twin, random_scene

IMAGE_PX = 96
JPEG_QUALITY = 70  # As in the preset `mini`.
MARGIN_PX = 3  # Training images are shifted by at most this much.
OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)


def pool_scenes(seed: str, pairs: int) -> list[Scene]:
    """Return the training scenes: at even places random ones, after each of them a near twin of it; none of Mini's."""
    rng = random.Random(f"{seed}/scenes")
    held_out = {named.scene for named in mini_scenes()}
    scenes: list[Scene] = []
    while len(scenes) < 2 * pairs:
        pair = [scene := random_scene(rng), near_twin(scene, rng)]
        if held_out.isdisjoint(pair):
            scenes += pair
    return scenes


def pool_images(scenes: list[Scene], workers: int) -> torch.Tensor:
    """Return the scenes as uint8 [n, 3, 96, 96], as the model will see those of an evaluation set."""
    chunks = [scenes[i : i + 250] for i in range(0, len(scenes), 250)]
    # Not forked: torch has threads by now.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        raw = b"".join(pool.map(_draw_chunk, chunks))
    pixels = torch.frombuffer(bytearray(raw), dtype=torch.uint8).reshape(len(scenes), IMAGE_PX, IMAGE_PX, 3)
    return pixels.permute(0, 3, 1, 2).contiguous()


def _draw_chunk(scenes: list[Scene]) -> bytes:
    return b"".join(as_seen(draw(scene)).tobytes() for scene in scenes)


def stored(image: Image.Image) -> Image.Image:
    """Return the image after an evaluation set's JPEG."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=JPEG_QUALITY)
    return Image.open(file).convert("RGB")


def as_seen(image: Image.Image) -> Image.Image:
    """Return the image as an evaluation set stores it, resized and cropped to the model's size.

    Within a pixel of open_clip's own crop, which is less than the shifts in training.
    """
    image = stored(image)
    width, height = image.size
    scale = IMAGE_PX / min(width, height)
    small = image.resize((round(width * scale), round(height * scale)), Image.Resampling.BICUBIC)
    left, top = (small.width - IMAGE_PX) // 2, (small.height - IMAGE_PX) // 2
    return small.crop((left, top, left + IMAGE_PX, top + IMAGE_PX))


def normalise(pixels: torch.Tensor) -> torch.Tensor:
    """Return uint8 images as the model takes them, float32."""
    mean = torch.tensor(OPENAI_MEAN).view(1, 3, 1, 1)
    std = torch.tensor(OPENAI_STD).view(1, 3, 1, 1)
    return (pixels.float() / 255 - mean) / std


def augment(pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return uint8 images [n, 3, 96, 96] as the model takes them, shifted together and each brightened by itself."""
    x, y = (int(n) for n in torch.randint(0, 2 * MARGIN_PX + 1, (2,), generator=generator))
    wide = pad(normalise(pixels), (MARGIN_PX,) * 4, mode="replicate")
    gain = 0.9 + 0.2 * torch.rand((len(pixels), 1, 1, 1), generator=generator)
    return wide[:, :, y : y + IMAGE_PX, x : x + IMAGE_PX] * gain


def two_captions(tokens: torch.Tensor, generator: torch.Generator) -> list[torch.Tensor]:
    """Return two different captions of every scene; tokens are [n, 5, context length]."""
    order = torch.rand(tokens.shape[:2], generator=generator).argsort(dim=1)
    rows = torch.arange(len(tokens))
    return [tokens[rows, order[:, 0]], tokens[rows, order[:, 1]]]
