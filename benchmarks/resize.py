"""How close `prepare_all` comes to decode + resize + encode alone, across all cores.

    python benchmarks/resize.py [--quick] [--out results.json]

The limit is Pillow's three steps and nothing else, in a process pool or in threads, whichever is faster; ours also
checks, hashes and keeps order. Many short rounds in turn, the best of each: on a busy machine a long round measures the
neighbours. The processor time per image, ours and in bare threads, does not depend on them.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

LEAST_RATIO = 0.95


def bare(data: bytes) -> int:
    """Decode, resize, encode; the size alone is returned, so that a process pool need not send images back."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    ratio = min(1, 160 / min(image.size))
    out = io.BytesIO()
    image.resize((round(image.width * ratio), round(image.height * ratio))).save(out, "JPEG")
    return len(out.getvalue())


def photos(count: int) -> list[bytes]:
    from data_prep.sources.drawn.images import draw_photo_like

    files = []
    for seed in range(count):
        out = io.BytesIO()
        draw_photo_like(seed).save(out, "JPEG", quality=90)
        files.append(out.getvalue())
    return files


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer images and rounds")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    options = parser.parse_args()

    from data_prep.sources import SourceImage
    from data_prep.stages.reduce import Prepared, prepare, prepare_all
    from mteb_vehicle_search.settings import usable_cores

    drawn, times, rounds = (10, 6, 6) if options.quick else (40, 3, 30)
    files = photos(drawn) * times
    images = [SourceImage(str(i), data, "imagenet", "train") for i, data in enumerate(files)]
    cores = usable_cores()
    prepare(files[0])  # Imports what is imported late.
    best = {"ours": float("inf"), "processes": float("inf"), "threads": float("inf")}
    with ProcessPoolExecutor(cores) as processes, ThreadPoolExecutor(cores) as threads:
        list(processes.map(bare, files[: 8 * cores]))

        def run_ours() -> list[int]:
            return [len(done.jpeg) for _, done in prepare_all(iter(images)) if isinstance(done, Prepared)]

        runs = {
            "ours": run_ours,
            "processes": lambda: list(processes.map(bare, files, chunksize=8)),
            "threads": lambda: list(threads.map(bare, files)),
        }
        sizes = {}
        cpu = dict.fromkeys(runs, float("inf"))
        for _ in range(rounds):
            for name, run in runs.items():
                start, busy = time.perf_counter(), time.process_time()
                sizes[name] = run()
                best[name] = min(best[name], time.perf_counter() - start)
                cpu[name] = min(cpu[name], time.process_time() - busy)
    rates = {name: len(files) / seconds for name, seconds in best.items()}
    limit = max(rates["processes"], rates["threads"])
    ratio = rates["ours"] / limit
    same = sizes["ours"] == sizes["processes"] == sizes["threads"]
    print(f"ours   {rates['ours']:8,.0f} images/s on {cores} cores")
    print(f"limit  {limit:8,.0f} images/s (processes {rates['processes']:,.0f}, threads {rates['threads']:,.0f})")
    cpu_ms = {name: cpu[name] / len(files) * 1000 for name in ("ours", "threads")}
    print(f"processor time {cpu_ms['ours']:.2f} ms an image, bare {cpu_ms['threads']:.2f} ms")
    print(f"ratio {ratio:.3f} (at least {LEAST_RATIO}); same bytes: {same}")
    if options.out:
        report = {
            "cores": cores,
            "images": len(files),
            "images_per_s": rates,
            "limit": limit,
            "cpu_ms_per_image": cpu_ms,
            "ratio": ratio,
            "same": same,
            "passed": same and ratio >= LEAST_RATIO,
        }
        options.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8", newline="\n")
    return 0 if same and ratio >= LEAST_RATIO else 1


if __name__ == "__main__":
    raise SystemExit(main())
