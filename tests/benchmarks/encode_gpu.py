"""Images per second on a CUDA device with random ViT-H-14 weights: end to end, forward alone, and the GEMM peak.

    python tests/benchmarks/encode_gpu.py [--images 8192] [--batch-size 256] [--out results.json]

Needs a CUDA device and says so without one. The images are those of VehicleImageSearchMini (160 px JPEGs), repeated.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
CORPUS_IMAGES = 68_154
GFLOP_PER_IMAGE = 334.6


class Repeated:
    """A dataset of `count` images made of the few in `images`."""

    def __init__(self, images: Any, count: int) -> None:
        self.images, self.count = images, count
        self.ids = [images.ids[i % len(images.ids)] for i in range(count)]

    def __len__(self) -> int:
        return self.count

    def jpeg(self, index: int) -> bytes:
        return self.images.jpeg(index % len(self.images.ids))


class Inputs:
    """What the encoder needs of a DataLoader."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset


def timed(work: Any) -> float:
    import torch

    torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=8192)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    options = parser.parse_args()
    import torch

    if not torch.cuda.is_available():
        sys.stderr.write("encode_gpu measures a CUDA device, and there is none here: nothing was measured.\n")
        return 1
    import open_clip
    from safetensors.torch import save_file

    from mteb_vehicle_search.corpus import CorpusImages
    from mteb_vehicle_search.eval_set import EvalSet
    from mteb_vehicle_search.models.open_clip import OpenClipEncoder
    from mteb_vehicle_search.places import mini_folder

    evaluation = EvalSet.open(mini_folder())
    images = CorpusImages(evaluation, evaluation.corpus_ids())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = {"model_cfg": open_clip.get_model_config("ViT-H-14"), "preprocess_cfg": {}}
        (folder / "open_clip_config.json").write_text(json.dumps(config))
        save_file(open_clip.create_model("ViT-H-14").state_dict(), folder / "open_clip_model.safetensors")
        model = OpenClipEncoder("random/vit-h-14", None, "cuda:0", folder=folder)
        size = options.batch_size
        model.encode(Inputs(Repeated(images, 2 * size)), batch_size=size)
        whole = timed(lambda: model.encode(Inputs(Repeated(images, options.images)), batch_size=size))
    pixels = torch.randn((size, 3, 224, 224), device="cuda:0", dtype=model.dtype)
    square = torch.randn((8192, 8192), device="cuda:0", dtype=model.dtype)
    with torch.inference_mode():
        forward = timed(lambda: [model.towers.image(pixels) for _ in range(10)]) / 10
        gemm = timed(lambda: [square @ square for _ in range(20)]) / 20
    rate, forward_rate = options.images / whole, size / forward
    peak = 2 * 8192**3 / gemm / 1e12
    found = {
        "device": torch.cuda.get_device_name(0),
        "precision": model.precision,
        "end_to_end_per_s": rate,
        "forward_per_s": forward_rate,
        "share_of_forward": rate / forward_rate,
        "forward_share_of_gemm_peak": forward_rate * GFLOP_PER_IMAGE / 1e3 / peak,
        "corpus_s": CORPUS_IMAGES / rate,
    }
    for key, value in found.items():
        print(f"{key:<28} {value if isinstance(value, str) else f'{value:,.2f}'}")
    if options.out:
        options.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
