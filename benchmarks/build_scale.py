"""A whole build from drawn twins of realistic size: seconds by stage, images per second, memory and disk at the peak.

Run: python benchmarks/build_scale.py [--captioned 3000] [--distractors 20000]
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "helpers")]

CLASSES = (407, 436, 468, 511, 555, 609, 627, 654, 656, 661)
OTHERS = (0, 7, 88, 207, 281)  # Every third image of a shard is not wanted.
PRESET = """
name = "scale"
title = "Scale"
[captioned]
source = "flickr30k"
[classifier]
library = "transformers"
model = "classifier"
[selection]
classes = "shown.tsv"
share = 0.5
[distractors]
source = "imagenet"
classes = "wanted.tsv"
[duplicates]
policy = "report"
max_distance = 0
"""


@lru_cache(maxsize=1)
def scenes():
    """Forty photo-like images; the images are cut from them with another shift and colour each."""
    import numpy as np

    from data_prep.sources.drawn.images import draw_photo_like

    return [np.asarray(draw_photo_like(seed)) for seed in range(40)]


def photo(number: int) -> bytes:
    """A JPEG of 500 x 375 px, about 110 KB, that differs from every other."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(number)
    pixels = np.roll(scenes()[number % 40], rng.integers(0, 375, 2), (0, 1))[:, :, rng.permutation(3)]
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "JPEG", quality=90)
    return file.getvalue()


class Watch(threading.Thread):
    """Samples this process's memory and the size of a folder until it is stopped.

    Attributes:
        stage: What is under way now; the caller keeps it up to date.
        memory: Stage -> most bytes of memory of its own, and of files mapped into it (code and data that the system
            may drop at any time).
        peak_disk: Most bytes in the folder.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self.folder, self.peak_disk = folder, 0
        self.stage = "classify"
        self.memory: dict[str, tuple[int, int]] = {}
        self.stopped = threading.Event()

    def run(self) -> None:
        import psutil

        process = psutil.Process()
        while not self.stopped.wait(0.25):
            found = process.memory_info()
            own, mapped = self.memory.get(self.stage, (0, 0))
            shared = getattr(found, "shared", 0)
            self.memory[self.stage] = max(own, found.rss - shared), max(mapped, shared)
            self.peak_disk = max(self.peak_disk, folder_bytes(self.folder))


def folder_bytes(folder: Path) -> int:
    """Bytes of all files in a folder that may be changing."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(root) / name).stat().st_size
            except FileNotFoundError:
                continue
    return total


def write_sources(folder: Path, captioned: int, distractors: int) -> None:
    """Write the zip, the shards, the classifier and the preset."""
    import format_twins
    import small_sources

    from data_prep.sources.imagenet.classes import wnids

    total = captioned + distractors * 3 // 2
    with ProcessPoolExecutor() as pool:
        files = list(pool.map(photo, range(total), chunksize=64))
    rows = []
    for number, data in enumerate(files[:captioned]):
        texts = tuple(f"Picture {number}, caption {way}." for way in range(5))
        rows.append(format_twins.Captioned(f"{10_000_000 + number}.jpg", data, texts, "train"))
    format_twins.write_flickr30k(folder / "flickr30k", "zip", tuple(rows))
    classed = []
    for number, data in enumerate(files[captioned:]):
        index = OTHERS[number // 3 % 5] if number % 3 == 2 else CLASSES[number % 10]
        split = "val" if number % 27 == 0 else "train"
        stem = f"ILSVRC2012_val_{number:08d}" if split == "val" else f"{wnids()[index]}_{number}"
        classed.append(format_twins.Classed(stem, data, split, index))
    format_twins.write_imagenet(folder / "imagenet", "shards", tuple(classed))
    small_sources.train_classifier(folder / "classifier")
    small_sources.write_preset(folder)
    (folder / "carts.tsv").rename(folder / "shown.tsv")
    lines = [f"{index}\t{wnids()[index]}\tname\troot" for index in CLASSES]
    (folder / "wanted.tsv").write_text("\n".join(["index\twnid\tname\troots", *lines]) + "\n", encoding="utf-8")
    (folder / "scale.toml").write_text(PRESET, encoding="utf-8")


def main() -> int:
    """Write the sources, build, and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--captioned", type=int, default=3_000)
    parser.add_argument("--distractors", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()

    from data_prep.build import BuildOptions, build
    from data_prep.markers import Stages
    from data_prep.preset import load_preset
    from mteb_vehicle_search.terminal import Reporter

    folder = Path(tempfile.mkdtemp(prefix="build-scale-"))
    try:
        # In a process of its own, so that its memory is not counted.
        writing = multiprocessing.get_context("spawn").Process(
            target=write_sources, args=(folder, options.captioned, options.distractors)
        )
        writing.start()
        writing.join()
        if writing.exitcode:
            raise SystemExit("The sources could not be written.")
        out = folder / "out" / "scale"
        chosen = BuildOptions(
            load_preset(str(folder / "scale.toml")),
            out,
            {name: str(folder / name) for name in ("flickr30k", "imagenet")},
            workers=options.workers,
            device="cpu",
        )
        seconds: dict[str, float] = {}
        last = [time.perf_counter()]
        finish, watch = Stages.finish, Watch(out.parent)

        def timed(self, stage, *arguments, **named):
            marker = finish(self, stage, *arguments, **named)
            now = time.perf_counter()
            name = stage.partition("/")[0]
            seconds[name] = seconds.get(name, 0) + now - last[0]
            last[0] = now
            following = {"captioned": "distractors", "distractors": "distractors", "duplicates": "export"}
            watch.stage = following.get(name, "classify" if "/" in stage else "captioned")
            return marker

        Stages.finish = timed  # pyright: ignore[reportAttributeAccessIssue]
        watch.start()
        start = last[0] = time.perf_counter()
        eval_set = build(chosen, Reporter(quiet=True))
        whole = time.perf_counter() - start
        watch.stopped.set()
        watch.join()
        start = time.perf_counter()
        build(chosen, Reporter(quiet=True))
        again = time.perf_counter() - start
        counts = eval_set.manifest["notes"]["counts"]
        reduced = counts["captioned"] + counts["distractors"]
        figures = {
            "images_read": options.captioned + options.distractors * 3 // 2,
            "captioned": counts["captioned"],
            "distractors": counts["distractors"],
            "seconds": round(whole, 1),
            "seconds_by_stage": {name: round(value, 1) for name, value in seconds.items()},
            "second_run_s": round(again, 1),
            "images_classified_per_s": round(options.captioned / seconds["classify"], 1),
            "images_reduced_per_s": round(reduced / (seconds["captioned"] + seconds["distractors"]), 1),
            "peak_memory_mib": round(max(own + mapped for own, mapped in watch.memory.values()) / 2**20),
            "memory_by_stage_mib": {
                stage: {"own": round(own / 2**20), "mapped_files": round(mapped / 2**20)}
                for stage, (own, mapped) in watch.memory.items()
            },
            "peak_disk_mib": round(watch.peak_disk / 2**20),
            "evaluation_set_mib": round(folder_bytes(out) / 2**20),
            "sources_mib": round(folder_bytes(folder) / 2**20 - folder_bytes(out.parent) / 2**20),
            "workers": options.workers,
        }
        print(json.dumps(figures, indent=1))
    finally:
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
