"""Mining: the nearest images of a pool that lies on the disk, against the product and the choosing alone.

    python benchmarks/mine.py [--captioned 2145] [--images 1331167] [--dimension 384] [--rounds 3] [--out mine.json]

`limit` is the blocked product of vectors that are in memory with a running top 40, and nothing else. `ours` reads the
pool from the stage's own files, looks for near duplicates too, and decides what rounding might. Rounds are interleaved,
each side in a process of its own; the files (2 GB) are written first, to a temporary folder unless --data says where.
The exit status is 1 if a bound is broken.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

NEAR, BLOCK, SHARD = 40, 8_192, 65_536
TIME, MEMORY_GIB = 1.25, 2.0


def unit(rng, count: int, dimension: int):
    """Return random unit vectors, float32."""
    import numpy as np

    drawn = rng.standard_normal((count, dimension), dtype=np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def write(folder: Path, images: int, dimension: int) -> None:
    """Write the pool as the stage `embed` does, unless it is there."""
    import numpy as np

    from data_prep.stages.views import SUFFIX, Rows, write_views

    folder.mkdir(parents=True, exist_ok=True)
    for number, begin in enumerate(range(0, images, SHARD)):
        path = folder / f"shard-{number:05d}{SUFFIX}"
        if path.is_file():
            continue
        vectors = unit(np.random.default_rng(number), min(SHARD, images - begin), dimension)
        ids = [f"pool/{begin + row:08d}" for row in range(len(vectors))]
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            write_views(file, [Rows(ids, ["0" * 16] * len(ids), {"miner": vectors})])
        partial.replace(path)


def limit(captioned, images: int, dimension: int) -> None:
    """Multiply and keep the best; the vectors are the same ones again and again, as what they are costs nothing."""
    import numpy as np
    import torch

    queries = torch.from_numpy(captioned)
    block = torch.from_numpy(unit(np.random.default_rng(1), BLOCK, dimension))
    best = torch.full((len(captioned), NEAR), -torch.inf)
    for begin in range(0, images, BLOCK):
        scores = queries @ block[: images - begin].T
        value = torch.topk(scores, min(NEAR, scores.shape[1]), dim=1).values
        best = torch.topk(torch.cat([best, value], dim=1), NEAR, dim=1).values


def ours(captioned, images: int, folder: Path) -> None:
    """Mine the pool."""
    import numpy as np

    from data_prep.stages.mine import Seen
    from data_prep.stages.nearest import nearest
    from data_prep.stages.views import SUFFIX, Views

    pool = Seen(Views(tuple(sorted(folder.glob(f"*{SUFFIX}"))), ""), "miner")
    order, none = np.random.default_rng(2).permutation(images), np.zeros(images, dtype=bool)
    nearest(captioned, pool, order, none, k=NEAR, same_above=0.95)


def side(name: str, args: argparse.Namespace) -> dict[str, float]:
    """Return what one side took."""
    import numpy as np
    import torch  # noqa: F401 - its import is not timed

    captioned = unit(np.random.default_rng(99_999), args.captioned, args.dimension)
    start = time.perf_counter()
    if name == "limit":
        limit(captioned, args.images, args.dimension)
    else:
        ours(captioned, args.images, args.data)
    return {"s": time.perf_counter() - start, "gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}


def main() -> int:
    """Run the rounds, print the ratio and the memory; return 1 if a bound is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captioned", type=int, default=2_145)
    parser.add_argument("--images", type=int, default=1_331_167)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", type=Path, help="folder of the pool, made if missing (default: a temporary one)")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--side", choices=("limit", "ours"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        print(json.dumps(side(args.side, args)))
        return 0
    with tempfile.TemporaryDirectory(prefix="mine-") as temporary:
        folder = (args.data or Path(temporary)).absolute()
        write(folder, args.images, args.dimension)
        found: dict[str, list[dict[str, float]]] = {"limit": [], "ours": []}
        sizes = [f"--{key}={getattr(args, key)}" for key in ("captioned", "images", "dimension")]
        for _ in range(args.rounds):
            for name, rounds in found.items():
                command = [sys.executable, __file__, "--side", name, f"--data={folder}", *sizes]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                rounds.append(json.loads(done.stdout.splitlines()[-1]))
                print(f"  {name}: {rounds[-1]['s']:.1f} s, {rounds[-1]['gib']:.2f} GiB", flush=True)
    seconds = {name: median(one["s"] for one in rounds) for name, rounds in found.items()}
    ratio, memory = seconds["ours"] / seconds["limit"], max(one["gib"] for one in found["ours"])
    met = ratio <= TIME and memory <= MEMORY_GIB
    print(f"median of {args.rounds}: ours {seconds['ours']:.1f} s, limit {seconds['limit']:.1f} s: {ratio:.2f}")
    print(f"peak memory, ours: {memory:.2f} GiB")
    print(f"wanted: <= {TIME} of the limit, <= {MEMORY_GIB} GiB: {'met' if met else 'MISSED'}")
    if args.out:
        args.out.write_text(json.dumps({"ratio": ratio, "sides": found}, indent=2) + "\n", encoding="utf-8")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
