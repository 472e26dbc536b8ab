"""Exact search against stock mteb's search: time and peak memory, each side in a process of its own.

    python benchmarks/search.py [--queries 10725] [--images 68154] [--dimension 1024] [--out search.json]

`limit` is the blocked matrix product with a running top-100 and nothing else; `stock` is mteb's own search wrapper and
scoring with its default cut-offs (up to 1,000); `ours` is ExactSearch's ranking and mteb's scoring at our cut-offs.
The vectors are random, one relevant image lies near each query.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

CHUNK, BLOCK = 4096, 1024


def data(queries: int, images: int, dimension: int):
    """Return unit vectors of queries and images, and the relevant row of each query."""
    import numpy as np

    rng = np.random.default_rng(0)
    corpus = rng.standard_normal((images, dimension), dtype=np.float32)
    corpus /= np.linalg.norm(corpus, axis=1, keepdims=True)
    relevant = rng.integers(0, max(1, images // 32), queries)
    asked = corpus[relevant] + 0.25 * rng.standard_normal((queries, dimension), dtype=np.float32)
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    return asked, corpus, relevant


def limit(asked, corpus, relevant) -> dict[str, float]:
    """Time the matrix product with a running top-100."""
    import torch

    start = time.perf_counter()
    queries = torch.from_numpy(asked)
    best = torch.full((len(asked), 100), -torch.inf)
    for first in range(0, len(corpus), CHUNK):
        images = torch.from_numpy(corpus[first : first + CHUNK])
        for at in range(0, len(asked), BLOCK):
            value = torch.topk(queries[at : at + BLOCK] @ images.T, 100, dim=1).values
            best[at : at + BLOCK] = torch.topk(torch.cat([best[at : at + BLOCK], value], dim=1), 100, dim=1).values
    return {"search_s": time.perf_counter() - start}


def ours(asked, corpus, relevant) -> dict[str, float]:
    """Time our ranking, the run for mteb, and mteb's scoring."""
    import torch
    from mteb._evaluators.retrieval_metrics import calculate_retrieval_scores

    from mteb_vehicle_search.search.ranking import ordered_run, rank_exactly

    def chunks():
        for first in range(0, len(corpus), CHUNK):
            rows = range(first, min(first + CHUNK, len(corpus)))
            yield rows, corpus[rows.start : rows.stop]

    start = time.perf_counter()
    pairs = [(query, int(row)) for query, row in enumerate(relevant)]
    captioned = len(corpus) // 32
    sources = ["flickr30k"] * captioned + ["imagenet"] * (len(corpus) - captioned)
    ranking = rank_exactly(torch.from_numpy(asked), chunks, pairs, sources)
    searched = time.perf_counter()
    run = ordered_run(ranking, pairs)
    ids = [str(row) for row in range(len(corpus))]
    results = {
        str(query): {ids[row]: score for row, score in zip(rows, scores)}
        for query, (rows, scores) in enumerate(zip(run.rows.tolist(), run.scores.tolist()))
    }
    qrels = {str(query): {str(row): 1} for query, row in pairs}
    calculate_retrieval_scores(results, qrels, [1, 3, 5, 10, 20, 100], False)
    return {"search_s": searched - start, "total_s": time.perf_counter() - start}


def stock(asked, corpus, relevant) -> dict[str, float]:
    """Time mteb's own chunked search and scoring, with vectors that are already there."""
    import torch
    from datasets import Dataset
    from mteb._evaluators.retrieval_metrics import calculate_retrieval_scores
    from mteb.models import search_wrappers
    from mteb.similarity_functions import cos_sim

    class Loader:
        def __init__(self, part):
            self.ids = part["id"]

    search_wrappers.create_dataloader = lambda part, **kwargs: Loader(part)
    vectors = torch.from_numpy(corpus)

    def encode(loader, **kwargs):
        first = int(loader.ids[0])
        return vectors[first : first + len(loader.ids)]

    start = time.perf_counter()
    heaps = search_wrappers.chunked_full_corpus_search(
        task_corpus=Dataset.from_dict({"id": [str(row) for row in range(len(corpus))]}),
        corpus_chunk_size=50_000,
        query_idx_to_id={query: str(query) for query in range(len(asked))},
        query_embeddings=torch.from_numpy(asked),
        task_metadata=None,
        hf_subset="default",
        hf_split="test",
        top_k=1000,
        encode_kwargs={"show_progress_bar": False},
        encode_fn=encode,
        similarity_fn=cos_sim,
        search_k_offset=1,
    )
    results = {query: {image: score for score, image in heap} for query, heap in heaps.items()}
    searched = time.perf_counter()
    qrels = {str(query): {str(row): 1} for query, row in enumerate(relevant)}
    calculate_retrieval_scores(results, qrels, [1, 3, 5, 10, 20, 100, 1000], False)
    return {"search_s": searched - start, "total_s": time.perf_counter() - start}


def main() -> int:
    """Run all sides in turn and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--queries", type=int, default=10_725)
    parser.add_argument("--images", type=int, default=68_154)
    parser.add_argument("--dimension", type=int, default=1024)
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--side", choices=("limit", "ours", "stock"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    shape = (args.queries, args.images, args.dimension)
    if args.side:
        found = {"limit": limit, "ours": ours, "stock": stock}[args.side](*data(*shape))
        found["peak_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(json.dumps(found))
        return 0
    sides = {}
    for side in ("limit", "ours", "stock"):
        sizes = ["--queries", str(shape[0]), "--images", str(shape[1]), "--dimension", str(shape[2])]
        command = [sys.executable, __file__, "--side", side, *sizes]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        sides[side] = json.loads(done.stdout.splitlines()[-1])
        print(side, {name: round(value, 2) for name, value in sides[side].items()}, flush=True)
    ratios = {
        "search, ours / limit (<= 1.25)": sides["ours"]["search_s"] / sides["limit"]["search_s"],
        "search + scoring, ours / stock (<= 0.33)": sides["ours"]["total_s"] / sides["stock"]["total_s"],
        "peak memory, ours in GiB (<= 2)": sides["ours"]["peak_gib"],
        "peak memory, stock in GiB": sides["stock"]["peak_gib"],
    }
    for name, value in ratios.items():
        print(f"{name}: {value:.2f}")
    if args.out:
        report = {"shape": shape, "sides": sides, "ratios": ratios}
        args.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
