"""Run records of simulated models with known truth, in the format of real ones.

Every query has a chance p that a random distractor outranks its relevant image; it depends on the image (shared by its
captions), the caption and the model. Distractors above are binomial (N, p), captioned rivals binomial with a chance
three times as high. Seeded: the same arguments give the same records.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
from scipy.special import expit, logit

from mteb_vehicle_search.run_record import RunRecord, write_run_record

IMAGES, CAPTIONS, DISTRACTORS = 2_145, 5, 66_009
CONTENT_ID = "5" * 64
TASK = "VehicleImageSearch"


class SimulatedModel(NamedTuple):
    """Name and mean log odds that a random distractor outranks the relevant image."""

    name: str
    log_odds: float
    revision: str = "0" * 40
    training_datasets: list[str] | None = None


MODELS = (
    SimulatedModel("simulated/good", -9.6, training_datasets=["Flickr30kT2IRetrieval"]),
    SimulatedModel("simulated/twin-of-good", -9.6, training_datasets=["OtherData"]),
    SimulatedModel("simulated/poor", -8.4),
)


class Truth(NamedTuple):
    """What was simulated; q queries in sorted order."""

    p: np.ndarray
    captioned_above: np.ndarray
    distractors_above: np.ndarray
    ranks: np.ndarray


def chances(model: SimulatedModel, images: int, captions: int, seed: int) -> np.ndarray:
    """Return the chance of each query, float64 [images * captions]; images and captions are as hard for all models."""
    shared, own = np.random.default_rng(seed), np.random.default_rng([seed, *model.name.encode()])
    queries = images * captions
    hard = np.repeat(shared.normal(0, 2.0, images), captions) + shared.normal(0, 1.2, queries)
    return expit(model.log_odds + hard + np.repeat(own.normal(0, 0.5, images), captions) + own.normal(0, 0.7, queries))


def simulate(model: SimulatedModel, images=IMAGES, captions=CAPTIONS, distractors=DISTRACTORS, seed=7) -> Truth:
    """Return ranks drawn from known chances."""
    p = chances(model, images, captions, seed)
    own = np.random.default_rng([seed, 1, *model.name.encode()])
    rivals = own.binomial(images - 1, expit(logit(p) + np.log(3)))
    above = own.binomial(distractors, p)
    return Truth(p, rivals, above, 1 + rivals + above)


def write_run(
    model: SimulatedModel,
    *,
    images: int = IMAGES,
    captions: int = CAPTIONS,
    distractors: int = DISTRACTORS,
    seed: int = 7,
    content_id: str = CONTENT_ID,
    task: str = TASK,
    truth: Truth | None = None,
) -> tuple[RunRecord, Truth]:
    """Write a run record under the runs folder and return it with the truth behind it."""
    truth = truth or simulate(model, images, captions, distractors, seed)
    own = np.random.default_rng([seed, 2, *model.name.encode()])
    image_ids = [f"flickr30k/{10_000_000 + i}" for i in range(images)]
    relevant = np.repeat(np.arange(images), captions)
    query_ids = [f"{10_000_000 + i}_caption_{j:02d}" for i in range(images) for j in range(captions)]
    top_ids, top_scores = [], []
    for query, rank in enumerate(truth.ranks.tolist()):
        rivals, above = int(truth.captioned_above[query]), int(truth.distractors_above[query])
        kinds = own.permutation([True] * min(rivals, 10) + [False] * min(above, 10))[: min(rank - 1, 10)].tolist()
        pick = iter(own.choice(images - 1, 10, replace=False).tolist())
        others = own.choice(distractors, 10, replace=False).tolist() if distractors >= 10 else list(range(distractors))
        other = iter(others)
        names = []
        for kind in kinds:
            if kind:
                at = next(pick)
                names.append(image_ids[at + (at >= relevant[query])])
            else:
                names.append(f"imagenet/train/n{next(other):08d}")
        if rank <= 10:
            names.insert(rank - 1, image_ids[relevant[query]])
        names += [f"imagenet/train/n{at:08d}" for at in other][: 10 - len(names)]
        top_ids.append(names[:10])
        top_scores.append(np.sort(own.random(len(names[:10])))[::-1].astype(np.float32).tolist())
    table = pa.table(
        {
            "query_id": pa.array(query_ids),
            "relevant_id": pa.array([image_ids[i] for i in relevant]),
            "rank": pa.array(truth.ranks, pa.int32()),
            "score": pa.array(np.linspace(0.4, 0.2, len(query_ids)), pa.float32()),
            "tied": pa.array(np.zeros(len(query_ids)), pa.int32()),
            "above_flickr30k": pa.array(truth.captioned_above, pa.int32()),
            "above_imagenet": pa.array(truth.distractors_above, pa.int32()),
            "top_ids": pa.array(top_ids, pa.list_(pa.string())),
            "top_scores": pa.array(top_scores, pa.list_(pa.float32())),
        }
    )
    ranks = truth.ranks
    info = {
        "task_name": task,
        "content_id": content_id,
        "model_name": model.name,
        "model_revision": model.revision,
        "n_parameters": 1_000_000,
        "embed_dim": 64,
        "training_datasets": model.training_datasets,
        "started": "2026-11-01T10:00:00+00:00",
        "finished": "2026-11-01T10:05:00+00:00",
        "versions": {"mteb": "2.26.24", "torch": "2.14.1"},
        "device": "cpu",
        "precision": "float32",
        "batch_size": 32,
        "num_workers": 2,
        "images_per_s": 321.5,
        "texts_per_s": 1000.0,
        "timings": {"encode_queries_s": 1.0, "encode_corpus_s": 2.0, "search_s": 3.0},
        "corpus_size": images + distractors,
        "query_count": len(query_ids),
        "sources": {
            "flickr30k": {"images": images, "captioned": images},
            "imagenet": {"images": distractors, "captioned": 0},
        },
        "encoder": {},
        "scores": {
            "ndcg_at_10": float(np.where(ranks <= 10, 1 / np.log2(1.0 + ranks), 0).mean()),
            "median_rank": float(np.median(ranks)),
        },
        "resumed_images": 0,
    }
    return write_run_record(
        table, {**info, "content_id": content_id, "model_name": model.name, "model_revision": model.revision}
    ), truth
