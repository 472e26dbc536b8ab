"""A set of any size and runs on it that follow from drawn scores, so that a test can tell everything from those."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from PIL import Image

from mteb_vehicle_search.analysis.ranks import RunRanks, load_ranks
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.eval_set.schema import CorpusImage, Qrel, Query
from mteb_vehicle_search.eval_set.writer import About, write_eval_set
from mteb_vehicle_search.run_record import write_run_record

WORDS = ("bus", "car", "tractor", "boat", "nothing", "old", "red", "bicycle", "very", "slow")


class World(NamedTuple):
    """An evaluation set and what it was made of; images are numbers in the order of `images`."""

    eval_set: EvalSet
    images: list[str]
    captions: dict[str, str]
    relevant: dict[str, list[int]]
    facts: list[dict[str, Any]]

    @property
    def rows(self) -> list[tuple[str, int]]:
        """(query id, relevant image), sorted."""
        return sorted((query, image) for query, images in self.relevant.items() for image in images)


def write_world(
    folder: Path, queries: int, captioned: int = 8, distractors: int = 12, two_relevant: Sequence[int] = (), seed=0
) -> World:
    """Write a set whose captions are drawn from WORDS; the queries numbered in `two_relevant` have two images."""
    generator = np.random.default_rng(seed)
    buffer = io.BytesIO()
    pixels = Image.new("RGB", (24, 16), (90, 120, 30))
    pixels.paste((250, 20, 200), (0, 0, 12, 16))
    pixels.save(buffer, "JPEG")
    images = [f"flickr30k/{n:03}" for n in range(captioned)] + [f"imagenet/train/n{n:03}" for n in range(distractors)]
    facts = [
        {
            "source": image.partition("/")[0],
            "split": "",
            "captioned": number < captioned,
            "class_index": -1,
            "wnid": "",
            "class_name": ("", "moped", "trailer truck, tractor trailer", "")[number % 4],
            "vehicle_score": None,
            "width": 24,
            "height": 16,
            "sha256": "",
            "perceptual_hash": f"{int(generator.integers(1 << 63)):016x}" if number % 5 else "",
        }
        for number, image in enumerate(images)
    ]
    captions, relevant = {}, {}
    for number in range(queries):
        query = f"q{number:04}"
        captions[query] = " ".join(generator.choice(WORDS, int(generator.integers(1, 20))))
        relevant[query] = [number % captioned, *([(number + 3) % captioned] if number in two_relevant else [])]
    eval_set = write_eval_set(
        folder,
        About("scored", "Scored"),
        images=[CorpusImage(image, buffer.getvalue(), fact) for image, fact in zip(images, facts)],
        queries=[Query(query, text) for query, text in captions.items()],
        qrels=[Qrel(query, images[image]) for query, found in relevant.items() for image in found],
    )
    return World(eval_set, images, captions, relevant, facts)


def draw_scores(world: World, seed: int) -> dict[str, np.ndarray]:
    """Draw for each query the scores of all images, all different; relevant ones are somewhat better."""
    generator = np.random.default_rng(seed)
    scores = {}
    for query, right in world.relevant.items():
        scores[query] = generator.uniform(-1, 1, len(world.images))
        scores[query][right] += 0.9
    return scores


def best(scores: np.ndarray, top: int) -> list[int]:
    """Return the images with the highest scores, best first."""
    return sorted(range(len(scores)), key=lambda image: -scores[image])[:top]


def write_scored_run(
    world: World,
    model: str,
    scores: dict[str, np.ndarray],
    *,
    top: int = 10,
    sources: dict[str, dict[str, int]] | None = None,
    **columns: Any,
) -> RunRanks:
    """Write the record of a run with these scores that keeps the `top` best images, and return its ranks.

    `sources` and `columns` replace what the record says.
    """
    above = [
        [image for image in range(len(world.images)) if scores[query][image] > scores[query][right]]
        for query, right in world.rows
    ]
    tops = [best(scores[query], top) for query, _ in world.rows]
    names = ("flickr30k", "imagenet")
    counts = {
        f"above_{name}": pa.array([sum(world.facts[n]["source"] == name for n in of_row) for of_row in above])
        for name in names
    }
    table = {
        "query_id": [query for query, _ in world.rows],
        "relevant_id": [world.images[right] for _, right in world.rows],
        "rank": [1 + len(of_row) for of_row in above],
        "score": [float(scores[query][right]) for query, right in world.rows],
        **counts,
        "top_ids": [[world.images[n] for n in of_row] for of_row in tops],
        "top_scores": [[float(scores[query][n]) for n in of_row] for (query, _), of_row in zip(world.rows, tops)],
        **columns,
    }
    captioned = sum(fact["captioned"] for fact in world.facts)
    distractors = len(world.images) - captioned
    info = {
        "task_name": "VehicleImageSearch",
        "content_id": world.eval_set.content_id,
        "model_name": model,
        "model_revision": "0" * 40,
        "corpus_size": len(world.images),
        "query_count": len(world.captions),
        "sources": sources
        or {
            "flickr30k": {"images": captioned, "captioned": captioned},
            "imagenet": {"images": distractors, "captioned": 0},
        },
    }
    return load_ranks(
        write_run_record(
            pa.table(table),
            {**info, "content_id": world.eval_set.content_id, "model_name": model, "model_revision": "0" * 40},
        )
    )
