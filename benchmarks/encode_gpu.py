"""Images per second on a CUDA device: MetaCLIP 1.2's ViT-H-14 and Jina CLIP v2's towers, with random weights.

    python benchmarks/encode_gpu.py [--images 8192] [--batch-size 256] [--models metaclip jina] [--out FILE]
    python benchmarks/encode_gpu.py --smoke

For each model: end to end (JPEG bytes to vectors), the forward pass alone, its share of the device's measured GEMM
peak, mteb's own wrapper, and the time that VehicleImageSearch's 68,154 images and 10,725 captions take. The images are
those of VehicleImageSearchMini (160 px JPEGs), repeated. Without a CUDA device it says so and measures nothing;
`--smoke` runs the same code with tiny models on the processor, to see that it runs: its figures mean nothing.

mteb's open_clip wrapper is the installed one, pointed at the same folder. Its Jina wrapper runs remote code that
transformers 5 cannot, so its loop is run again here: images decoded and prepared one by one, the same towers, each
batch's vectors fetched at once.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "helpers")]
CORPUS_IMAGES, CAPTIONS = 68_154, 10_725
LEAST = {"share_of_forward": 0.85, "share_of_gemm_peak": 0.5, "times_mteb": 3.0}
# Seconds for the whole evaluation's vectors, on an H200.
MOST_S = {"metaclip": 75.0, "jina": 180.0}


class Repeated:
    """A dataset of `count` images made of the few in `images`, for our encoders and for mteb's."""

    def __init__(self, images: Any, count: int) -> None:
        self.images, self.count = images, count
        self.ids = [images.ids[i % len(images.ids)] for i in range(count)]
        self.features = {"image": None}

    def __len__(self) -> int:
        return self.count

    def jpeg(self, index: int) -> bytes:
        return self.images.jpeg(index % len(self.images.ids))

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.images[index % len(self.images.ids)]


class Task(NamedTuple):
    """What is encoded.

    Attributes:
        images: The few images.
        texts: The captions, repeated.
        count: Images to encode.
        batch_size: Images per forward pass.
        gemm: Side of the square matrices whose product gives the peak.
    """

    images: Any
    texts: list[str]
    count: int
    batch_size: int
    gemm: int

    def loader(self, count: int) -> Any:
        from torch.utils.data import DataLoader

        def columns(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
            return {"image": [row["image"] for row in rows]}

        images: Any = Repeated(self.images, count)
        return DataLoader(images, batch_size=self.batch_size, collate_fn=columns)

    def text_loader(self) -> Any:
        from torch.utils.data import DataLoader

        texts: Any = [{"text": text} for text in self.texts]
        return DataLoader(texts, batch_size=self.batch_size)


def seconds(work: Callable[[], Any]) -> float:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(model: Any, mtebs: Callable[[Any], Any], task: Task) -> dict[str, float]:
    """Return the figures of one encoder; `mtebs` encodes a loader as mteb's wrapper does."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    size = task.batch_size
    model.encode(task.loader(2 * size), batch_size=size)
    end_to_end = task.count / seconds(lambda: model.encode(task.loader(task.count), batch_size=size))
    model.encode(task.text_loader(), batch_size=size)
    captions_s = seconds(lambda: model.encode(task.text_loader(), batch_size=size)) * CAPTIONS / len(task.texts)
    with torch.inference_mode():
        side = model.crop.size_px
        pixels = torch.randn((size, 3, side, side), device=model.device, dtype=model.dtype)
        with FlopCounterMode(display=False) as counter:
            model.towers.image(pixels[:1])
        rounds = 4 + task.count // (4 * size)
        seconds(lambda: model.towers.image(pixels))
        forward = size * rounds / seconds(lambda: [model.towers.image(pixels) for _ in range(rounds)])
        square = torch.randn((task.gemm, task.gemm), device=model.device, dtype=model.dtype)
        seconds(lambda: square @ square)
        peak = 2 * task.gemm**3 * 20 / seconds(lambda: [square @ square for _ in range(20)])
    few = max(size, task.count // 8)
    mtebs(task.loader(size))
    rival = few / seconds(lambda: mtebs(task.loader(few)))
    return {
        "end_to_end_per_s": end_to_end,
        "forward_per_s": forward,
        "share_of_forward": end_to_end / forward,
        "gflop_per_image": counter.get_total_flops() / 1e9,
        "gemm_peak_tflop_per_s": peak / 1e12,
        "share_of_gemm_peak": forward * counter.get_total_flops() / peak,
        "mteb_per_s": rival,
        "times_mteb": end_to_end / rival,
        "captions_s": captions_s,
        "whole_evaluation_s": CORPUS_IMAGES / end_to_end + captions_s,
    }


def metaclip(folder: Path, device: str, smoke: bool) -> tuple[Any, Callable[[Any], Any]]:
    """Return our encoder of a random ViT-H-14, and mteb's own wrapper of the same folder."""
    import open_clip
    from mteb.models.model_implementations.openclip_models import openclip_loader
    from stand_ins import SMALL_CLIP, random_open_clip

    from mteb_vehicle_search.models.open_clip import OpenClipEncoder

    random_open_clip(folder, SMALL_CLIP if smoke else "ViT-H-14")
    model = OpenClipEncoder("random/vit-h-14", None, device, folder=folder)
    own = open_clip.create_model_and_transforms, open_clip.get_tokenizer
    open_clip.create_model_and_transforms = lambda name, **given: own[0](f"local-dir:{folder}", **given)
    open_clip.get_tokenizer = lambda name: own[1](f"local-dir:{folder}")
    try:
        rival: Any = openclip_loader("random/vit-h-14", revision="", device=device)
    finally:
        open_clip.create_model_and_transforms, open_clip.get_tokenizer = own
    return model, lambda loader: rival.get_image_embeddings(loader, show_progress_bar=False)


def jina(folder: Path, device: str, smoke: bool) -> tuple[Any, Callable[[Any], Any]]:
    """Return our encoder of random Jina towers, and the loop of mteb's wrapper over them."""
    import torch
    from open_clip.transform import PreprocessCfg, image_transform_v2
    from stand_ins import real_size_jina, tiny_jina

    from mteb_vehicle_search.models.jina_clip import JinaClipEncoder

    (tiny_jina if smoke else real_size_jina)(folder)
    model = JinaClipEncoder("random/jina-clip-v2", None, device, folder=folder)
    transform: Any = image_transform_v2(PreprocessCfg(size=model.crop.size_px), is_train=False)

    def mtebs(loader: Any) -> Any:
        with torch.no_grad():
            vectors = []
            for batch in loader:
                pixels = torch.stack([transform(image) for image in batch["image"]])
                found = model.towers.image(pixels.to(model.device, model.dtype))
                vectors.append(torch.nn.functional.normalize(found, dim=-1).cpu().float())
            return torch.cat(vectors)

    return model, mtebs


MODELS = {"metaclip": metaclip, "jina": jina}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=8192)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--smoke", action="store_true", help="tiny models on the processor; the figures mean nothing")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    options = parser.parse_args()
    import torch

    if not options.smoke and not torch.cuda.is_available():
        sys.stderr.write("encode_gpu measures a CUDA device, and there is none here: nothing was measured.\n")
        return 0
    from mteb_vehicle_search.eval_set import EvalSet
    from mteb_vehicle_search.search.corpus import CorpusImages
    from mteb_vehicle_search.settings import mini_folder

    eval_set = EvalSet.open(mini_folder())
    images = CorpusImages(eval_set, eval_set.corpus_ids())
    texts = [query.text for query in eval_set.queries()]
    if options.smoke:
        device, task = "cpu", Task(images, texts[:64], 64, 16, 256)
    else:
        device, task = "cuda:0", Task(images, (texts * 11)[:CAPTIONS], options.images, options.batch_size, 8192)
    results: dict[str, Any] = {
        "device": "smoke run on the processor" if options.smoke else torch.cuda.get_device_name(0),
        "processors": os.cpu_count(),
        "images": task.count,
        "batch_size": task.batch_size,
    }
    for name in options.models:
        with tempfile.TemporaryDirectory() as folder:
            model, mtebs = MODELS[name](Path(folder), device, options.smoke)
            found = measure(model, mtebs, task)
        results[name] = {"precision": model.precision, "preprocess": model.mode, **found}
        print(f"{name}: {model.precision}, {model.mode}, on {results['device']}")
        for key, value in found.items():
            print(f"  {key:<24} {value:>12,.2f}{'' if options.smoke else verdict(name, key, value)}")
        del model, mtebs
        gc.collect()
        torch.cuda.empty_cache()
    if options.out:
        options.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 0


def verdict(name: str, key: str, value: float) -> str:
    if key in LEAST:
        return f"  wanted at least {LEAST[key]}  {'met' if value >= LEAST[key] else 'MISSED'}"
    if key == "whole_evaluation_s":
        return f"  wanted at most {MOST_S[name]:.0f} on an H200  {'met' if value <= MOST_S[name] else 'MISSED'}"
    return ""


if __name__ == "__main__":
    sys.exit(main())
