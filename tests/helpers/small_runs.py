"""A small evaluation set with hostile captions, and runs of three models on it whose every rank is known."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL import Image

from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.eval_set.schema import CorpusImage, Qrel, Query
from mteb_vehicle_search.eval_set.writer import About, write_eval_set
from mteb_vehicle_search.run_record import RunRecord, write_run_record

HOSTILE = {
    0: "</script><img src=x onerror=window.hacked=1> & <b>bold</b>",
    1: "\"Quotes\" 'and' `ticks` \U0001f697\U0001f3fd\u2028 {{ 7 * 7 }} ${7*7}",
    2: "\u202e\u05de\u05db\u05d5\u05e0\u05d9\u05ea \u05d0\u05d3\u05d5\u05de\u05d4 \u0633\u064a\u0627\u0631\u0629",
    3: "car" * 60,
}
CAPTIONED, EACH, DISTRACTORS = 10, 3, 50
QUERIES = CAPTIONED * EACH
CLASSES = ("moped", "trailer truck, tractor trailer", "")
RANKS = {
    "org/a": [1, 2, 15, 4, 1, 11],
    "org/b": [3, 1, 40, 4, 12, 20],
    "deep.org/c-with-a-rather-long-name-that-has-to-wrap-somewhere": [9, 40, 25, 1, 30, 50],
}
# Best first, as on the page.
MODELS = list(RANKS)


def caption(query: int) -> str:
    """Return the caption of a query; 12 and 15 have the same, of different images."""
    if query in HOSTILE:
        return HOSTILE[query]
    if query in (12, 15):
        return "A yellow tractor in a field"
    return f"A {'red bus' if query % 2 else 'Blue car'} waits at stop number {query}"


def image_id(number: int) -> str:
    """Return the id of an image; the captioned ones come first."""
    return f"flickr30k/{number:03}" if number < CAPTIONED else f"imagenet/train/n{number:03}"


def colour(number: int) -> tuple[int, int, int]:
    """Return the colour that fills an image."""
    return (number * 4, 255 - number * 4, 120)


def write_set(folder: Path, title: str = "Small <set>", **about: Any) -> EvalSet:
    """Write the evaluation set."""
    images = []
    for number in range(CAPTIONED + DISTRACTORS):
        buffer = io.BytesIO()
        # Sides differ, so that no image fills its tile.
        image = Image.new("RGB", (160 + number, 160), colour(number))
        image.paste((0, 0, 0), (0, 0, 24, 160))
        image.save(buffer, "JPEG")
        captioned = number < CAPTIONED
        facts = {
            "source": image_id(number).partition("/")[0],
            "split": "",
            "captioned": captioned,
            "class_index": -1,
            "wnid": "",
            "class_name": "" if captioned else CLASSES[number % 3],
            "vehicle_score": None,
            "width": 160 + number,
            "height": 160,
            "sha256": "",
            # Image 10 is a near duplicate of image 1; the hashes of all others are far apart.
            "perceptual_hash": f"{1 << 63 | 1 if number == 10 else 1 << 63 if number == 1 else 0x0F0F << number:016x}",
        }
        images.append(CorpusImage(image_id(number), buffer.getvalue(), facts))
    return write_eval_set(
        folder,
        About("small", title, **about),
        images=images,
        queries=[Query(f"q{n:02}", caption(n)) for n in range(QUERIES)],
        qrels=[Qrel(f"q{n:02}", image_id(n // EACH)) for n in range(QUERIES)],
    )


def rank(model: str, query: int) -> int:
    """Return the rank of the relevant image."""
    return RANKS[model][query % 6]


def ranking(model: str, query: int) -> list[int]:
    """Return all images, best first: the same wrong ones for all models, distractors and captioned in turn."""
    right = query // EACH
    others = list(range(CAPTIONED, CAPTIONED + DISTRACTORS))
    others = others[query % 5 :] + others[: query % 5]
    for place, rival in enumerate(n for n in range(CAPTIONED) if n != right):
        others.insert(3 * place + 2, rival)
    others.insert(rank(model, query) - 1, right)
    return others


def loss(model: str, query: int) -> float:
    """Return by how much the best wrong image outscores the relevant one."""
    place = rank(model, query)
    return (place - 1 if place > 1 else -1) * step(query)


def step(query: int) -> float:
    """Return how far the scores of neighbours lie apart."""
    return 0.002 * (1 + query % 7)


def write_run(
    eval_set: EvalSet, model: str, content_id: str | None = None, about: dict[str, Any] | None = None, **columns: Any
) -> RunRecord:
    """Write the run record of a model; `columns` replace those of the table (None: drop it), `about` the `run.json`."""
    rows = [ranking(model, query) for query in range(QUERIES)]
    above = [row[: rank(model, query) - 1] for query, row in enumerate(rows)]
    table = {
        "query_id": [f"q{n:02}" for n in range(QUERIES)],
        "relevant_id": [image_id(n // EACH) for n in range(QUERIES)],
        "rank": pa.array([rank(model, n) for n in range(QUERIES)], pa.int32()),
        "score": [0.9 - (rank(model, n) - 1) * step(n) for n in range(QUERIES)],
        "above_flickr30k": pa.array([sum(n < CAPTIONED for n in row) for row in above], pa.int32()),
        "above_imagenet": pa.array([sum(n >= CAPTIONED for n in row) for row in above], pa.int32()),
        "top_ids": [[image_id(n) for n in row[:10]] for row in rows],
        "top_scores": [[0.9 - place * step(n) for place in range(10)] for n in range(QUERIES)],
        **columns,
    }
    table = {name: column for name, column in table.items() if column is not None}
    content_id = content_id or eval_set.content_id
    info = {
        "task_name": "VehicleImageSearch",
        "content_id": content_id,
        "model_name": model,
        "model_revision": "0" * 40,
        "versions": {"mteb": "2.26.24", "torch": "2.14.1"},
        "device": "cpu",
        "precision": "fp32",
        "finished": "2026-11-01T10:05:00+00:00",
        "corpus_size": CAPTIONED + DISTRACTORS,
        "query_count": QUERIES,
        "sources": {
            "flickr30k": {"images": CAPTIONED, "captioned": CAPTIONED},
            "imagenet": {"images": DISTRACTORS, "captioned": 0},
        },
    }
    return write_run_record(pa.table(table), {**info, **(about or {})})


MINERS = {"a": {"model": "x/miner", "family": "org"}, "b": {"model": "y/miner", "family": "none"}}


def write_pooled_run(eval_set: EvalSet, model: str) -> RunRecord:
    """Write the run record of a model on the same set as if it had been drawn from a pool of 320 images.

    Of the distractors 10 were mined by a, 10 by a and b; 30 of 300 far ones were sampled, in three replicates.
    """
    groups = {"pool:mined:a": 10, "pool:mined:a+b": 10, **{f"pool:random:{n:02}": 10 for n in range(3)}}
    arm = {name: name.split(":")[1] for name in groups}
    above = [ranking(model, query)[: rank(model, query) - 1] for query in range(QUERIES)]
    columns = {}
    for number, name in enumerate(groups):
        start = CAPTIONED + 10 * number
        columns[f"above_{name}"] = pa.array([sum(start <= n < start + 10 for n in row) for row in above], pa.int32())
    sources = {
        name: {
            "images": count,
            "captioned": 0,
            "source": "pool",
            "arm": arm[name],
            "mined_by": name.split(":")[2].split("+") if arm[name] == "mined" else [],
            "inclusion_probability": 1.0 if arm[name] == "mined" else 0.1,
        }
        for name, count in groups.items()
    }
    captioned = {"images": CAPTIONED, "captioned": CAPTIONED, "source": "flickr30k", "arm": "captioned"}
    sources["flickr30k"] = {**captioned, "mined_by": [], "inclusion_probability": 1.0}
    pool = {"images": 320, "near": 20, "far": 300, "seed": "1", "near_each": 2, "miners": MINERS}
    return write_run(eval_set, model, about={"sources": sources, "pool": pool}, above_imagenet=None, **columns)
