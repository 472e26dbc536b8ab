"""Clusters of captioned images that look and read alike, the ones that hang together best first."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from data_prep.preset import Selection
from data_prep.stages.views import Views
from mteb_vehicle_search.errors import BuildError

STARTS = 4  # Of k-means; the best of them counts.
WORDS = 5  # Commonest words of a cluster's captions.
# Words that say nothing of what an image shows.
_STOP_WORDS = """
a about above across after against along an and are around as at away back be behind being beside between by down each
for from front has have he her his in inside into is it its near next of off on one onto or other others out outside
over past she some something that the their them there these they this three through to together top toward towards two
under up very while who with
image left photo picture right side
"""


class Cluster(NamedTuple):
    """Captioned images that look and read alike.

    Attributes:
        number: From 0 on, in the order of coherence.
        coherence: Mean cosine of its images to its centre.
        ids: Of its images, sorted.
    """

    number: int
    coherence: float
    ids: list[str]


def joined_views(views: Views, names: Iterable[str]) -> tuple[list[str], np.ndarray]:
    """Return ids, sorted, and the views of several miners side by side, each as long as the others, float32 [n, d].

    Rows have length one. Of an id that stands twice the first counts.
    """
    ids, parts = views.ids(), [np.concatenate([*views.chunks(name)]) for name in names]
    order = sorted({identifier: row for row, identifier in reversed([*enumerate(ids)])}.items())
    rows = [row for _, row in order]
    return [identifier for identifier, _ in order], np.concatenate(parts, axis=1)[rows] / np.float32(
        np.sqrt(len(parts))
    )


def find_clusters(ids: Sequence[str], vectors: np.ndarray, count: int, seed: int) -> list[Cluster]:
    """Return the clusters of unit vectors, the most coherent first: k-means, with centres at length one at the end.

    The same on every number of threads: it has one, as the sums of several meet in any order. The order of the images
    is that of their ids.

    Args:
        ids: Sorted, n.
        vectors: float32 [n, d], unit length.
        count: How many clusters.
        seed: Of the start.

    Raises:
        BuildError: There are fewer images than clusters.
    """
    from sklearn.cluster import KMeans  # Imports scipy, which takes seconds.
    from threadpoolctl import threadpool_limits

    if len(ids) < count:
        raise BuildError(
            f"There are {len(ids):,} captioned images, fewer than {count:,} clusters.",
            "Lower selection.clusters in the preset.",
        )
    with threadpool_limits(1):
        means = KMeans(count, n_init=STARTS, random_state=seed)  # type: ignore[arg-type]
        labels = means.fit_predict(vectors)
    found = []
    for label in range(count):
        rows = np.flatnonzero(labels == label).tolist()
        if rows:
            total = vectors[rows].sum(axis=0, dtype=np.float64)
            # The mean cosine to a centre at length one is the length of the mean.
            found.append((float(np.round(np.linalg.norm(total) / len(rows), 6)), [ids[row] for row in rows]))
    ordered = sorted(found, key=lambda one: (-one[0], one[1]))
    return [Cluster(number, *one) for number, one in enumerate(ordered)]


def choose_clusters(clusters: Iterable[Cluster], rule: Selection) -> list[Cluster]:
    """Return the clusters that are kept: whole ones in their order, each that still fits in `rule.images`.

    Raises:
        BuildError: None does.
    """
    kept: list[Cluster] = []
    left = rule.images or 0
    for cluster in clusters:
        if rule.smallest <= len(cluster.ids) <= left:
            kept.append(cluster)
            left -= len(cluster.ids)
    if not kept:
        raise BuildError(
            f"No cluster has {rule.smallest:,} to {rule.images:,} images.",
            "Change selection.clusters, selection.smallest or selection.images in the preset.",
        )
    return kept


def describe_clusters(clusters: Iterable[Cluster], captions: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """Return number, size, coherence, commonest words and ids of clusters, JSON; `captions` are by image."""
    return [
        {
            "number": cluster.number,
            "size": len(cluster.ids),
            "coherence": cluster.coherence,
            "words": common_words([captions.get(identifier, ()) for identifier in cluster.ids]),
            "ids": cluster.ids,
        }
        for cluster in clusters
    ]


def common_words(captions: Iterable[Sequence[str]]) -> list[str]:
    """Return the words that captions of most images have, without those that say nothing; equals by alphabet."""
    counts = Counter(word for several in captions for word in set(re.findall(r"[^\W\d_]+", " ".join(several).lower())))
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    stopped = {*_STOP_WORDS.split()}
    return [word for word, _ in ordered if word not in stopped and len(word) > 1][:WORDS]
