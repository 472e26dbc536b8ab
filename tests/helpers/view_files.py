"""Views of made-up images, as the stage `embed` leaves them on the disk."""

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.stages.views import ROW_GROUP, Views


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
        columns = {
            name: pa.FixedSizeListArray.from_arrays(pa.array(of[rows].ravel()), of.shape[1])
            for name, of in vectors.items()
        }
        facts = {"id": [ids[row] for row in rows], "perceptual_hash": [f"{hashes[row]:016x}" for row in rows]}
        files.append(folder / f"part-{number:05d}.parquet")
        pq.write_table(pa.table({**facts, **columns}), files[-1], row_group_size=ROW_GROUP, compression="none")
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
    return Views(tuple(files), digest)
