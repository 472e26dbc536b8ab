"""The first images of a model, before the others: is it of use, is it what it was, is it searched as it means."""

from __future__ import annotations

import logging
from contextlib import closing

import numpy as np
from datasets import Dataset

from mteb_vehicle_search.errors import EncodeError
from mteb_vehicle_search.search.at_work import ModelAtWork
from mteb_vehicle_search.search.described import Told
from mteb_vehicle_search.search.encoding import Queries
from mteb_vehicle_search.search.vectors import EmbeddingStore, checked_of, require_same_order

logger = logging.getLogger(__name__)

TOLERANCE = 1e-5
# The same between kinds of devices, which may compute in bf16 and in fp32.
OTHER_DEVICE_TOLERANCE = 0.05
# Queries and images on which a model's own similarity is compared with the one that is searched by.
SAMPLE = 32


def first_vectors(work: ModelAtWork, rows: range) -> np.ndarray:
    """Return the vectors of a few images, float32 [rows, dimension].

    Raises:
        EncodeError: They are of no use, the model compares them in another way than the search does, or it is another
            model where it works than here.
    """
    vectors = work.result(rows)()
    _require_similarity(work, vectors, rows)
    found = work.images(vectors, rows)
    if not work.is_here and not work.told.fingerprint:
        _require_same_model(work, rows, found)
    return found


def is_known(work: ModelAtWork) -> bool:
    """Tell whether a model needs no look before the work: it is ours, with no similarity of its own."""
    return work.reads_images and work.own_similarity is None


def are_of(work: ModelAtWork, store: EmbeddingStore, stored: set[int]) -> bool:
    """Tell whether stored vectors are what this model gives: their first batch is encoded again and compared.

    Others are deleted. Where all is there, it is not needed for an encoder that identifies its weights, as the store's
    identity then does.
    """
    if work.told.fingerprint and len(stored) == len(store.ranges()):
        return True
    first = min(stored)
    probe = first_vectors(work, store.ranges()[first][: work.batch_size])
    if _agree(store.read(first)[: len(probe)], probe, TOLERANCE):
        logger.info("Continuing an interrupted run: %d chunks of images are already encoded.", len(stored))
        return True
    logger.warning("Stored vectors in %s are not what this model gives; encoding all again.", store.folder)
    store.clear()
    return False


def _require_same_model(work: ModelAtWork, rows: range, found: np.ndarray) -> None:
    """Refuse a model that elsewhere gives other vectors: the object here may have changed since it was loaded."""
    with closing(work.make_worker().work(iter([rows]), lambda count: None)) as results:
        own = work.images(next(results)(), rows)
    alike = Told.of(work.model).kind == work.told.kind
    if not _agree(found, own, TOLERANCE if alike else OTHER_DEVICE_TOLERANCE):
        raise EncodeError(
            f"{work.model.mteb_model_meta.name} gives other vectors where it is made anew than here.",
            "Save it and evaluate what was saved, or take the engine 'local'.",
        )


def _require_similarity(work: ModelAtWork, images: object, rows: range) -> None:
    """Refuse a model whose own `similarity` orders its first images otherwise than the search does."""
    own, work.own_similarity = work.own_similarity, None
    if own is None:
        return
    name, some = work.model.mteb_model_meta.name, work.eval_set.queries()[:SAMPLE]
    queries = Dataset.from_dict({"id": [query.id for query in some], "text": [query.text for query in some]})
    asked = work.result(Queries(queries)).vectors()
    vectors = checked_of(work.model, asked, queries["id"], "query", normalise=False)
    ids, dimension = work.ids[rows.start : rows.stop], vectors.shape[1]
    found = checked_of(work.model, images, ids, "image", dimension, normalise=False)[:SAMPLE]
    require_same_order(own, vectors, found, name, cosine=work.normalise)


def _agree(found: np.ndarray, wanted: np.ndarray, tolerance: float) -> bool:
    """Tell whether vectors differ by no more than this share of the largest value."""
    return found.shape == wanted.shape and bool(np.abs(found - wanted).max() <= tolerance * np.abs(wanted).max())
