"""What the way over Ray costs: two nodes of one processor against the local engine with two lanes on the same two.

    python benchmarks/ray_overhead.py [--data FOLDER] [--images 20000] [--rounds 3] [--out FILE]

tiny-clip encodes a drawn set on the processor. Rounds are interleaved, each in a process of its own: all workers make
their model and encode some images first, then all chunks are encoded and their vectors checked, which is timed. Memory
is the peak of the driver. Needs two processors and the extra `ray`; the exit status is 1 if the bound is broken.
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
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
LEAST = 0.85
WORKERS = 2
BATCH = 64


def encode(data: Path, engine_name: str) -> dict[str, float]:
    """Encode a set with an engine; return images/s and the peak memory of this process in MiB."""
    import mteb

    import mteb_vehicle_search
    from mteb_vehicle_search.engine import Listener, engine_of
    from mteb_vehicle_search.eval_set import EvalSet
    from mteb_vehicle_search.search.at_work import ModelAtWork
    from mteb_vehicle_search.search.corpus import CorpusImages
    from mteb_vehicle_search.search.pieces import cut

    mteb_vehicle_search.register()
    eval_set = EvalSet.open(data)
    images = CorpusImages(eval_set, eval_set.corpus_ids())
    model = mteb.get_model("vehicle-search/tiny-clip", device="cpu")
    where = {"task_metadata": mteb.get_task("VehicleImageSearchMini").metadata, "hf_split": "", "hf_subset": ""}
    chunks = [range(at, min(at + 4096, len(images))) for at in range(0, len(images), 4096)]

    class Staff(Listener):
        most = 0

        def workers(self, workers: int, nodes: int) -> None:
            self.most = max(self.most, workers)

    with engine_of(engine_name) as engine:
        work = ModelAtWork(model, eval_set, images, engine, {"batch_size": BATCH, **where}, None)
        pieces = [rows for _, rows in (enumerate(chunks) if work.is_here else cut(chunks, BATCH))]
        staff, wanted = Staff(), 1 if work.is_here else WORKERS
        # A worker that is not made when the units are done is not waited for.
        while staff.most < wanted:
            _encode(work, pieces, staff)
        begin = time.perf_counter()
        _encode(work, pieces, staff)
        seconds = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return {"images_per_s": len(images) / seconds, "peak_mib": peak}


def _encode(work: Any, units: list[range], listener: Any) -> None:
    with closing(work.results(units, listener)) as results:
        for number, vectors in results:
            work.images(vectors(), units[number])


def measured(data: Path, engine_name: str, address: str) -> dict[str, float]:
    """Encode in a process of its own."""
    variables = {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT), "VEHICLE_SEARCH_DEVICE": "cpu"}
    environ = {**os.environ, **variables, "RAY_ADDRESS": address}
    words = [sys.executable, __file__, "--data", str(data), "--be", engine_name]
    done = subprocess.run(words, env=environ, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    found = json.loads(done.stdout.splitlines()[-1])
    print(f"  {engine_name}: {found['images_per_s']:,.0f} images/s, {found['peak_mib']:,.0f} MiB", flush=True)
    return found


def main() -> int:
    """Draw, start a cluster, encode in turn, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the drawn set, made if missing (default: a temporary one)")
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--be", choices=("local", "ray"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.be:
        print(json.dumps(encode(args.data, args.be)))
        return 0
    from full_scale import draw_set
    from ray.cluster_utils import Cluster

    with tempfile.TemporaryDirectory() as name:
        data = (args.data or Path(name) / "data").absolute()
        if not (data / "manifest.json").is_file():
            draw_set(data, 400, args.images)
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        try:
            for _ in range(WORKERS):
                cluster.add_node(num_cpus=1)
            rounds = [
                {engine: measured(data, engine, cluster.address) for engine in ("local", "ray")}
                for _ in range(args.rounds)
            ]
        finally:
            cluster.shutdown()
    rates = {engine: median(one[engine]["images_per_s"] for one in rounds) for engine in ("local", "ray")}
    peaks = {engine: median(one[engine]["peak_mib"] for one in rounds) for engine in ("local", "ray")}
    ratio = rates["ray"] / rates["local"]
    print(f"median of {args.rounds}: local {rates['local']:,.0f}, ray {rates['ray']:,.0f} images/s: {ratio:.2f}")
    print(f"peak of the driver: local {peaks['local']:,.0f}, ray {peaks['ray']:,.0f} MiB")
    print(f"wanted: >= {LEAST} of the local rate: {'met' if ratio >= LEAST else 'MISSED'}")
    if args.out:
        report = {"rounds": rounds, "ratio": ratio}
        args.out.write_text(json.dumps(report, indent=2, allow_nan=False) + "\n", encoding="utf-8", newline="\n")
    return int(ratio < LEAST)


if __name__ == "__main__":
    sys.exit(main())
