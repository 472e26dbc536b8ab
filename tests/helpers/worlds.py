"""Tiny worlds whose every vector is chosen, and the encoder that returns these vectors.

Which tiny world do I take?

- `small_set.small_set`: the usual one. 36 plain images, 12 queries; for tests to which the vectors are of no account.
- `one_relevant` here: the figures matter, and each query has one relevant image: several captions for an image, four
  sources in turns, vectors of unequal length, images that tie. With `whole=True` products are exact, and ties abound.
- `several_relevant` here: the same with one to four relevant images for a query, which never tie with one another.
- `stand_ins`: the *model* matters: folders with random weights in the layouts of real checkpoints.
- `analysis/simulated_runs.py`: run records without any search, of models with a known truth.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from mteb.models import ModelMeta
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ScoringFunction
from small_set import jpeg, provenance

from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.eval_set.schema import CorpusImage, Qrel, Query
from mteb_vehicle_search.eval_set.writer import About, write_eval_set

CAPTIONED_SOURCES, DISTRACTOR_SOURCES = ("coco", "flickr30k"), ("imagenet", "openimages")
DIMENSION = 6


@dataclass(frozen=True)
class World:
    """What there is to search and to ask.

    Attributes:
        images: Image id -> its vector; sorted by id.
        sources: Image id -> its source.
        queries: Query id -> its vector; sorted by id.
        relevant: Query id -> its relevant images.
    """

    images: dict[str, np.ndarray]
    sources: dict[str, str]
    queries: dict[str, np.ndarray]
    relevant: dict[str, list[str]]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """(query id, relevant image id), sorted."""
        return sorted((query, image) for query, images in self.relevant.items() for image in images)

    def write(self, folder: Path) -> EvalSet:
        """Write the evaluation set, with plain images."""
        images = []
        for number, (image, source) in enumerate(self.sources.items()):
            row = provenance(number, source in CAPTIONED_SOURCES)
            images.append(CorpusImage(image, jpeg(number, (8, 8)), {**row, "source": source}))
        return write_eval_set(
            folder,
            About("vehicle-image-search", "Vehicle Image Search"),
            images=images,
            queries=[Query(query, f"caption {query}") for query in self.queries],
            qrels=[Qrel(*pair) for pair in self.pairs],
        )

    def asked_by(self, seed: int, noise: float) -> World:
        """Return the same world as a worse model has it: every query's vector is off by some noise."""
        rng = np.random.default_rng(seed)
        shift = {image: rng.normal(size=DIMENSION) for image in self.images}
        queries = {
            query: (vector + noise * np.linalg.norm(vector) * shift[self.relevant[query][0]]).astype(np.float32)
            for query, vector in self.queries.items()
        }
        return replace(self, queries=queries)

    def encoder(self, name: str = "world/model", similarity: str = "cosine", **meta: Any) -> VectorEncoder:
        """Return an encoder that knows the vectors by id."""
        return VectorEncoder(self, name=name, similarity_fn_name=ScoringFunction(similarity), **meta)


class VectorEncoder(AbsEncoder):
    """Returns a world's vectors."""

    def __init__(self, world: World, **meta: Any) -> None:
        given = {"revision": "r1", "modalities": ["text", "image"], **meta}
        self.mteb_model_meta = ModelMeta.create_empty(given)
        self._vectors = {**world.images, **world.queries}

    def encode(self, inputs, *, prompt_type=None, **kwargs):
        """Return float32 [n, DIMENSION]."""
        return np.stack([self._vectors[id] for batch in inputs for id in batch["id"]])


def one_relevant(
    seed: int = 0,
    captioned: int = 24,
    distractors: int = 110,
    noise: float = 0.5,
    *,
    whole: bool = False,
    ties: bool = True,
) -> World:
    """Return a world in which each query has one relevant image, and each captioned image one to five captions.

    What makes an image hard to find is mostly common to its captions, so that they are far from independent.
    """
    rng = np.random.default_rng(seed)
    images, sources = _images(rng, captioned, distractors, whole=whole, ties=ties)
    of_captions = [image for image, source in sources.items() if source in CAPTIONED_SOURCES]
    queries, relevant = {}, {}
    for number, image in enumerate(of_captions):
        common = rng.normal(size=DIMENSION) * rng.choice([0.1, 1.0, 6.0])
        for caption in range(1 + number % 5):
            query = f"{image}_caption_{caption:02d}"
            direction = images[image] / np.linalg.norm(images[image]) + noise * (
                common + rng.normal(size=DIMENSION) / 3
            )
            queries[query] = _vector(direction * rng.uniform(0.5, 4), whole)
            relevant[query] = [image]
    return World(images, sources, dict(sorted(queries.items())), relevant)


def several_relevant(seed: int = 1, captioned: int = 44, distractors: int = 90, groups: int = 9) -> World:
    """Return a world in which a query has one to four relevant images; queries of one group share theirs."""
    rng = np.random.default_rng(seed)
    images, sources = _images(rng, captioned, distractors, whole=False, ties=True)
    # A copy never is relevant, so that two relevant images do not tie.
    directions = [vector / np.linalg.norm(vector) for vector in images.values()]
    originals = [
        image
        for at, (image, source) in enumerate(sources.items())
        if source in CAPTIONED_SOURCES and not any(np.allclose(directions[at], other) for other in directions[:at])
    ]
    queries, relevant = {}, {}
    for group in range(groups):
        members = originals[group::groups]
        common = rng.normal(size=DIMENSION) * rng.choice([0.1, 1.0, 3.0])
        for number in range(3 + group % 4):
            query = f"q{group}{number}"
            relevant[query] = sorted(rng.choice(members, min(1 + number % 4, len(members)), replace=False).tolist())
            direction = np.mean([images[image] for image in relevant[query]], axis=0)
            queries[query] = _vector(direction + common + rng.normal(size=DIMENSION) / 3, whole=False)
    return World(images, sources, queries, relevant)


def _images(
    rng: np.random.Generator, captioned: int, distractors: int, *, whole: bool, ties: bool
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return vectors and sources by id; with ties, every fifth image is a copy of an earlier captioned one."""
    kinds = rng.permutation([True] * captioned + [False] * distractors).tolist()
    images, sources = {}, {}
    for number, kind in enumerate(kinds):
        source = (CAPTIONED_SOURCES if kind else DISTRACTOR_SOURCES)[int(rng.integers(2))]
        vector = _vector(rng.normal(size=DIMENSION) * rng.uniform(0.5, 3), whole)
        earlier = [image for image, name in sources.items() if name in CAPTIONED_SOURCES]
        if ties and earlier and number % 5 == 0:
            # Twice as long is the same direction: a tie in cosine only.
            vector = images[earlier[int(rng.integers(len(earlier)))]] * np.float32(1 + number % 2)
        image = f"{number:04d}-{source}"
        images[image], sources[image] = vector, source
    return images, sources


def _vector(values: np.ndarray, whole: bool) -> np.ndarray:
    if not whole:
        return values.astype(np.float32)
    rounded = np.rint(values).astype(np.float32)
    return rounded if rounded.any() else np.eye(DIMENSION, dtype=np.float32)[0]
