"""Near duplicates of 2,145 captioned images among 68,154: seconds, against the demanded 5.

Run: python benchmarks/near_duplicates.py
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time

from data_prep.stages.duplicates import hash_bits, near_pairs

LIMIT_S = 5.0


def main() -> int:
    """Time the search on random hashes with planted twins; exit 1 if it is too slow or misses one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--captioned", type=int, default=2_145)
    parser.add_argument("--images", type=int, default=68_154)
    options = parser.parse_args()
    rng = random.Random(0)
    hashes = [rng.getrandbits(64) for _ in range(options.images)]
    planted = set()
    for number in range(100):
        twin = rng.randrange(options.captioned, options.images)
        hashes[twin] = hashes[number] ^ sum(1 << bit for bit in rng.sample(range(64), 4))
        planted.add((f"{number:06d}", f"{twin:06d}"))
    ids = [f"{number:06d}" for number in range(options.images)]
    start = time.perf_counter()
    pairs = near_pairs(range(options.captioned), ids, hash_bits([f"{h:016x}" for h in hashes]), 4)
    seconds = time.perf_counter() - start
    missed = planted - {(pair.captioned, pair.other) for pair in pairs}
    comparisons = options.captioned * options.images
    figures = {
        "captioned": options.captioned,
        "images": options.images,
        "seconds": round(seconds, 3),
        "limit_s": LIMIT_S,
        "million_comparisons_per_s": round(comparisons / seconds / 1e6, 1),
        "missed": len(missed),
    }
    print(json.dumps(figures))
    return 0 if seconds <= LIMIT_S and not missed else 1


if __name__ == "__main__":
    sys.exit(main())
