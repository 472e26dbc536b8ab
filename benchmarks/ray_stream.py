"""A corpus that outgrows the driver: vectors made and searched on the actors of a Ray cluster, rankings put together.

    python benchmarks/ray_stream.py [--images 1000000 4000000] [--queries 1000] [--out FILE]

Two nodes of one processor draw vectors of 256 dimensions and search them; the driver gets partial rankings, which it
puts together and stores. Each size has a driver of its own, whose peak memory is compared, and the time for each image.
On the first 100,000 images the ranks must be those of the local search of the same vectors. Needs the extra `ray`; the
exit status is 1 if a bound is broken.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import torch  # noqa: E402

from mteb_vehicle_search.search.parts import Chunk, PartialRanking, Search, rank_part, relevant_scores  # noqa: E402
from mteb_vehicle_search.search.sought import Rank, Sought  # noqa: E402

DIMENSION, CHUNK, PREFIX, TOP = 256, 4096, 100_000, 100
MOST_MEMORY, MOST_TIME = 1.1, 1.1


def vectors_of(rows: range) -> np.ndarray:
    """Return the vectors of a chunk, the same wherever they are drawn."""
    drawn = np.random.default_rng(rows.start).standard_normal((len(rows), DIMENSION), dtype=np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def chunks_of(images: int) -> list[range]:
    """Return the chunks of a corpus."""
    return [range(at, min(at + CHUNK, images)) for at in range(0, images, CHUNK)]


def part(chunks: Any) -> Iterator[Chunk]:
    """Return chunks with their vectors."""
    return (Chunk(rows, vectors_of(rows), ["drawn"] * len(rows)) for rows in chunks)


def search_of(queries: int, images: int) -> tuple[Search, np.ndarray]:
    """Return a search of this many queries, whose relevant images lie in the prefix, and those images' scores."""
    wanted = torch.from_numpy(np.random.default_rng(7).standard_normal((queries, DIMENSION), dtype=np.float32))
    wanted = torch.nn.functional.normalize(wanted, dim=1)
    pairs = [(query, query * (PREFIX // queries)) for query in range(queries)]
    search = Search(wanted, pairs, ["drawn"], images, TOP)
    return search, relevant_scores(search, part(chunks_of(PREFIX)))


class Drawing:
    """A worker that draws its vectors and searches them."""

    def identity(self) -> dict[str, str]:
        return {"torch": torch.__version__, "numpy": np.__version__}

    def work(self, units: Iterator[Rank], on_progress: Callable[[int], None]) -> Generator[PartialRanking]:
        for unit in units:
            sought = unit.sought.get()
            yield rank_part(sought.on(torch.device("cpu")), sought.scores, part(unit.chunks), on_progress)


def drive(images: int, queries: int, engine_name: str) -> dict[str, Any]:
    """Search a corpus; return the ranks, the seconds, and the peak memory of this process in MiB."""
    from mteb_vehicle_search.engine import engine_of
    from mteb_vehicle_search.search.checkpoint import Checkpoint, PartialStore
    from mteb_vehicle_search.search.ranking import ranking_of
    from mteb_vehicle_search.search.streamed import Together, units_of

    search, scores = search_of(queries, images)
    units = units_of(chunks_of(images))
    with tempfile.TemporaryDirectory() as folder, engine_of(engine_name) as engine:
        store = PartialStore(Path(folder) / "found.safetensors", {"images": images})
        shared = engine.share(Sought.of(search, scores))
        with closing(engine.map(Drawing, [Rank(units[0][:1], shared)] * 4)) as first:
            list(first)
        begin = time.perf_counter()
        with (
            Together(store, units, Checkpoint(frozenset(), scores, rank_part(search, scores, ()))) as together,
            closing(engine.map(Drawing, (Rank(unit, shared) for unit in units))) as results,
        ):
            for number, found in results:
                together.take(number, found)
        seconds = time.perf_counter() - begin
        ranking = ranking_of(search, scores, together.found, ["drawn"] * queries)
        stored = store.path.stat().st_size
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    tops = [ranking.top.tolist(), ranking.top_scores.astype(float).tolist()] if images == PREFIX else []
    return {
        **{"images": images, "seconds": seconds, "peak_mib": peak, "stored_mib": stored / 2**20},
        **{"ranks": ranking.ranks.tolist(), "top": tops},
    }


def measured(images: int, queries: int, engine_name: str, address: str) -> dict[str, Any]:
    """Search in a process of its own."""
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "benchmarks")])}
    environ["RAY_ADDRESS"] = address
    words = [sys.executable, "-c", "import sys, ray_stream; sys.exit(ray_stream.main())"]
    words += ["--images", str(images), "--queries", str(queries), "--be", engine_name]
    done = subprocess.run(words, env=environ, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    found = json.loads(done.stdout.splitlines()[-1])
    print(
        f"  {images:>10,} images, {engine_name}: {found['seconds']:.1f} s, {found['peak_mib']:,.0f} MiB, "
        f"{found['stored_mib']:.1f} MiB stored",
        flush=True,
    )
    return found


def main() -> int:
    """Start a cluster, search each size, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[1_000_000, 4_000_000])
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--be", choices=("local", "ray"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.be:
        print(json.dumps(drive(args.images[0], args.queries, args.be)))
        return 0
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1)
        here, there = (measured(PREFIX, args.queries, engine, cluster.address) for engine in ("local", "ray"))
        sizes = [measured(images, args.queries, "ray", cluster.address) for images in args.images]
    finally:
        cluster.shutdown()
    equal = here["ranks"] == there["ranks"] and here["top"] == there["top"]
    first, last = sizes[0], sizes[-1]
    memory = last["peak_mib"] / first["peak_mib"]
    pace = (last["seconds"] / last["images"]) / (first["seconds"] / first["images"])
    print(f"ranks and best images of the first {PREFIX:,}: {'those of the local search' if equal else 'OTHERS'}")
    print(f"{last['images']:,} against {first['images']:,} images: memory x {memory:.2f}, time an image x {pace:.2f}")
    broken = not equal or memory > MOST_MEMORY or pace > MOST_TIME
    bounds = f"the same ranks, memory <= {MOST_MEMORY}, time an image <= {MOST_TIME}"
    print(f"wanted: {bounds}: {'MISSED' if broken else 'met'}")
    if args.out:
        figures = [{key: value for key, value in one.items() if key not in ("ranks", "top")} for one in sizes]
        report = {"equal": equal, "memory": memory, "time": pace, "sizes": figures}
        args.out.write_text(json.dumps(report, indent=2, allow_nan=False) + "\n", encoding="utf-8", newline="\n")
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
