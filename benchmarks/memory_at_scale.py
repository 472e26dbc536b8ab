"""Peak memory of searching a million images from a store on disk.

python benchmarks/memory_at_scale.py [--images 1000000] [--dimension 512] [--queries 1000] [--out memory.json]
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from pathlib import Path


def main() -> int:
    """Write random vectors into a store, search it, print peak memory."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--folder", type=Path, help="where the store goes (default: the temporary folder)")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    args = parser.parse_args()
    import numpy as np
    import torch

    from mteb_vehicle_search.search.ranking import rank_exactly
    from mteb_vehicle_search.search.vectors import EmbeddingStore

    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        store = EmbeddingStore(Path(folder) / "store", args.images, {"benchmark": "memory_at_scale"})
        for number, rows in enumerate(store.ranges()):
            vectors = rng.standard_normal((len(rows), args.dimension), dtype=np.float32)
            store.write(number, vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
        relevant = sorted(rng.integers(0, args.images, args.queries).tolist())
        asked = np.stack([store.read(row // 4096)[row % 4096].copy() for row in relevant])
        asked += 0.1 * rng.standard_normal(asked.shape, dtype=np.float32)
        asked /= np.linalg.norm(asked, axis=1, keepdims=True)
        sources = ["imagenet"] * args.images
        start = time.perf_counter()
        ranking = rank_exactly(torch.from_numpy(asked), store.chunks, list(enumerate(relevant)), sources)
        seconds = time.perf_counter() - start
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    figures = {
        "search_s": seconds,
        "peak_gib": peak_gib,
        "limit_gib": 2.0,
        "median_rank": float(np.median(ranking.ranks)),
    }
    print(f"{args.images:,} images x {args.dimension}, {args.queries:,} queries: search {seconds:.1f} s")
    print(f"peak memory {peak_gib:.2f} GiB (<= 2)")
    if args.out:
        args.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 0 if peak_gib <= 2 else 1


if __name__ == "__main__":
    sys.exit(main())
