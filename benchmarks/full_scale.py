"""The main job at full size: `mteb run -t VehicleImageSearch -m vehicle-search/tiny-clip`, whole, timed by phase.

    python benchmarks/full_scale.py [--data FOLDER] [--images 68154] [--captioned 2145] [--out full_scale.json]

Draws an evaluation set of the published size first (kept in `--data` for the next time). `forward` is the model alone
over batches that are ready, `preprocess` the decoding and resizing alone with all workers; encoding can be no faster
than the slower of the two. Where both run on the same cores, as without a GPU, it can be no faster than their sum:
both limits are printed. Memory is the peak of the process that runs the command.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil

from data_prep.sources.drawn.images import draw
from data_prep.sources.drawn.phrases import captions
from data_prep.sources.drawn.scene import Scene, random_scene
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.eval_set.schema import CorpusImage, ImagePolicy, Qrel, Query
from mteb_vehicle_search.eval_set.writer import About, write_eval_set

SAMPLE = 4096  # Images that the two limits are measured on.
QUALITY = 70


def draw_jpeg(scene: Scene) -> bytes:
    """Return a scene as the evaluation set stores it."""
    file = io.BytesIO()
    draw(scene).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def draw_set(folder: Path, captioned: int, images: int) -> EvalSet:
    """Write an evaluation set of different drawn scenes, the first `captioned` of them with five captions each."""
    rng = random.Random("full-scale")
    scenes: dict[Scene, None] = {}
    while len(scenes) < images:
        scenes[random_scene(rng)] = None
    named = [(f"flickr30k/{n:06d}" if n < captioned else f"imagenet/train/{n:06d}", s) for n, s in enumerate(scenes)]
    texts = {name: captions(scene, name) for name, scene in named[:captioned]}

    def corpus() -> Iterator[CorpusImage]:
        with ProcessPoolExecutor() as pool:
            jpegs = pool.map(draw_jpeg, (scene for _, scene in named), chunksize=64)
            for done, ((name, _), jpeg) in enumerate(zip(named, jpegs), start=1):
                if done % 10_000 == 0:
                    print(f"  {done} scenes drawn", flush=True)
                provenance = {
                    "source": name.partition("/")[0], "split": "", "captioned": name in texts, "class_index": -1,
                    "wnid": "", "class_name": "", "vehicle_score": None, "width": 192, "height": 160,
                    "sha256": "0" * 64, "perceptual_hash": "0" * 16,
                }  # fmt: skip
                yield CorpusImage(name, jpeg, provenance)

    def query_id(name: str, number: int) -> str:
        return f"{name.rpartition('/')[2]}_caption_{number:02d}"

    return write_eval_set(
        folder,
        About("full-scale", "Drawn scenes, full size", policy=ImagePolicy(jpeg_quality=QUALITY)),
        images=corpus(),
        queries=[Query(query_id(name, n), text) for name, five in texts.items() for n, text in enumerate(five)],
        qrels=[Qrel(query_id(name, n), name) for name, five in texts.items() for n in range(len(five))],
    )


def limits(eval_set: EvalSet) -> dict[str, float]:
    """Return images/s of the forward passes alone and of the preprocessing alone, each with the whole machine."""
    import torch

    from mteb_vehicle_search.models import tiny_clip

    model: Any = tiny_clip().load_model(device="cpu")
    count = min(SAMPLE, eval_set.manifest["counts"]["corpus"])
    jpegs = [eval_set.jpeg_at(index) for index in range(count)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(model.crop.decode, jpegs[:64]))
        start = time.perf_counter()
        pixels = list(pool.map(model.crop.decode, jpegs))
        preprocess = count / (time.perf_counter() - start)
    batches = (torch.stack(pixels).float() / 255 - 0.5).split(64)
    with torch.inference_mode():
        model.towers.image(batches[0])
        start = time.perf_counter()
        for batch in batches:
            model.towers.image(batch)
        forward = count / (time.perf_counter() - start)
    return {"forward_per_s": forward, "preprocess_per_s": preprocess}


def run(data: Path, work: Path) -> dict[str, Any]:
    """Run the command; return its wall time, its peak memory, and the run record's timings."""
    results = work / "results"
    variables = {"VEHICLE_SEARCH_DATA": str(data), "VEHICLE_SEARCH_HOME": str(work / "home"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "mteb", "run", "-t", "VehicleImageSearch", "-m", "vehicle-search/tiny-clip"]
    started = time.perf_counter()
    child = psutil.Popen(
        [*command, "--output-folder", str(results)],
        env={**os.environ, **variables, "MTEB_CACHE": str(work / "mteb")},
        stdout=subprocess.DEVNULL,
        stderr=(work / "stderr").open("w"),
    )
    peak = 0
    while child.poll() is None:
        try:
            peak = max(peak, child.memory_info().rss)
        except psutil.NoSuchProcess:
            break
        time.sleep(0.1)
    wall = time.perf_counter() - started
    if child.returncode:
        raise SystemExit((work / "stderr").read_text())
    (record,) = (work / "home" / "runs").glob("*/*/run.json")
    info = json.loads(record.read_text(encoding="utf-8"))
    phases = dict(info["timings"])
    phases["start, scoring, writing_s"] = wall - sum(phases.values())
    return {"wall_s": wall, "phases": phases, "images_per_s": info["images_per_s"], "peak_gib": peak / 2**30}


def main() -> int:
    """Draw, run, measure the limits, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the drawn set, made if missing (default: a temporary one)")
    parser.add_argument("--images", type=int, default=68_154)
    parser.add_argument("--captioned", type=int, default=2_145)
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        data = (args.data or work / "data").absolute()
        exists = (data / "manifest.json").is_file()
        eval_set = EvalSet.open(data) if exists else draw_set(data, args.captioned, args.images)
        counts = eval_set.manifest["counts"]
        found = run(data, work)
        found |= limits(eval_set)
    slower = min(found["forward_per_s"], found["preprocess_per_s"])
    both = 1 / (1 / found["forward_per_s"] + 1 / found["preprocess_per_s"])
    found["share_of_the_slower"] = found["images_per_s"] / slower
    found["share_of_both_on_the_same_cores"] = found["images_per_s"] / both
    print(f"{counts['corpus']} images, {counts['queries']} queries, {os.cpu_count()} processors")
    for phase, seconds in found["phases"].items():
        print(f"  {phase.removesuffix('_s'):<28} {seconds:8.1f} s")
    print(f"  {'whole':<28} {found['wall_s']:8.1f} s")
    print(
        f"images/s: forward alone {found['forward_per_s']:.0f}, preprocessing alone {found['preprocess_per_s']:.0f}, "
        f"ours {found['images_per_s']:.0f}\n"
        f"share of the slower of the two (>= 0.9 where they run side by side): {found['share_of_the_slower']:.2f}\n"
        f"share of both one after the other (the limit where they share cores): "
        f"{found['share_of_both_on_the_same_cores']:.2f}\n"
        f"peak memory of the main process (<= 3 GiB): {found['peak_gib']:.2f} GiB"
    )
    if args.out:
        report = {"benchmark": "full_scale", "counts": counts, **found}
        args.out.write_text(json.dumps(report, indent=2, allow_nan=False) + "\n", encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
