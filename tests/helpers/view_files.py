"""Views of made-up images, as the stage `embed` leaves them on the disk."""

import hashlib

import numpy as np

from data_prep.stages.views import SUFFIX, Rows, Views
from data_prep.stages.views import write_views as write_views_file


def unit(vectors):
    """Return the vectors at length one, float32."""
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def write_views(folder, ids, vectors, hashes=None, shards=1):
    """Write views: `vectors` are unit vectors by miner, `hashes` integers (default: very different ones)."""
    if hashes is None:
        digests = [hashlib.sha256(identifier.encode()).hexdigest()[:16] for identifier in ids]
        hashes = [int(digest, 16) for digest in digests]
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number, rows in enumerate(np.array_split(np.arange(len(ids)), shards)):
        part = Rows(
            [ids[row] for row in rows],
            [f"{hashes[row]:016x}" for row in rows],
            {name: of[rows] for name, of in vectors.items()},
        )
        files.append(folder / f"part-{number:05d}{SUFFIX}")
        with files[-1].open("wb") as file:
            write_views_file(file, [part])
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
    return Views(tuple(files), digest)
