"""Images per second on a CPU: ours against mteb's own open_clip wrapper, and against the forward passes alone.

    python benchmarks/encode_cpu.py [--images 128] [--skip-b32] [--out results.json]

tiny-clip runs through `mteb.evaluate` on VehicleImageSearchMini, the rival being the installed mteb's open_clip wrapper
pointed at the same folder. ViT-B-32 has random weights and encodes `--images` images.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))


def rate_through_mteb(model: Any) -> float:
    import mteb

    import mteb_vehicle_search
    from mteb_vehicle_search.run_record import RunRecord

    mteb_vehicle_search.register()
    with tempfile.TemporaryDirectory() as home:
        os.environ["VEHICLE_SEARCH_HOME"] = home
        task: Any = mteb.get_task("VehicleImageSearchMini")
        mteb.evaluate(model, task, cache=None, encode_kwargs={"batch_size": 64}, show_progress_bar=False)
        return RunRecord.find()[0].info["images_per_s"]


def rival(meta: Any) -> Any:
    """Return mteb's wrapper around the tiny folder; its `hf-hub:` names are redirected, nothing else."""
    import open_clip
    from mteb.models.model_implementations.openclip_models import openclip_loader

    from mteb_vehicle_search.models import TINY_CLIP_FOLDER

    folder, create, tokenizer = (
        f"local-dir:{TINY_CLIP_FOLDER}",
        open_clip.create_model_and_transforms,
        open_clip.SimpleTokenizer,
    )
    open_clip.create_model_and_transforms = lambda name, **given: create(folder, **given)
    open_clip.get_tokenizer = lambda name: tokenizer(str(TINY_CLIP_FOLDER / "bpe_vocabulary.txt.gz"), context_length=32)
    model: Any = openclip_loader(meta.name, revision=meta.revision, device="cpu")
    open_clip.create_model_and_transforms = create
    model.mteb_model_meta = meta.model_copy(update={"name": "mteb/open-clip-wrapper"})
    return model


def b32(count: int, precision: str) -> dict[str, float]:
    """Return end-to-end and forward-only images/s of ViT-B-32."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    from mteb_vehicle_search.eval_set import EvalSet
    from mteb_vehicle_search.models.open_clip import OpenClipEncoder
    from mteb_vehicle_search.search.corpus import CorpusImages, image_loader
    from mteb_vehicle_search.settings import mini_folder

    os.environ["VEHICLE_SEARCH_PRECISION"] = precision
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = {"model_cfg": open_clip.get_model_config("ViT-B-32"), "preprocess_cfg": {}}
        (folder / "open_clip_config.json").write_text(json.dumps(config))
        save_file(open_clip.create_model("ViT-B-32").state_dict(), folder / "open_clip_model.safetensors")
        model = OpenClipEncoder("random/vit-b-32", None, "cpu", folder=folder)
        eval_set = EvalSet.open(mini_folder())
        images = CorpusImages(eval_set, eval_set.corpus_ids()).chunk(range(count))
        model.encode(image_loader(images.chunk(range(8)), 8, 0, lambda n: None), batch_size=8)
        start = time.perf_counter()
        model.encode(image_loader(images, 32, 0, lambda n: None), batch_size=32)
        whole = time.perf_counter() - start
        pixels = torch.randn((32, 3, 224, 224)).to(model.dtype)
        start = time.perf_counter()
        with torch.inference_mode():
            for _ in range(count // 32):
                model.towers.image(pixels)
        forward = time.perf_counter() - start
    return {"end_to_end_per_s": count / whole, "forward_per_s": count // 32 * 32 / forward}


def has_bf16() -> bool:
    """Return whether the processor multiplies bf16 natively."""
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.is_file() and any(flag in cpuinfo.read_text() for flag in ("avx512_bf16", "amx_bf16"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--skip-b32", action="store_true")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    options = parser.parse_args()
    from mteb_vehicle_search.models import tiny_clip

    meta = tiny_clip()
    results: dict[str, Any] = {"rival_per_s": rate_through_mteb(rival(meta))}
    for mode, least in (("exact", 1.3), ("fast", 2.0)):
        os.environ["VEHICLE_SEARCH_PREPROCESS"] = mode
        model: Any = meta.load_model(device="cpu")
        _ = model.replicas  # Loaded now, as the rival's are.
        rate = rate_through_mteb(model)
        ratio = rate / results["rival_per_s"]
        print(
            f"tiny-clip {mode:<5}  mteb's wrapper {results['rival_per_s']:6.0f}/s  ours {rate:6.0f}/s  "
            f"ratio {ratio:.2f}  wanted {least}  {'met' if ratio >= least else 'MISSED'}"
        )
        results[mode] = {"ours_per_s": rate, "ratio": ratio, "least": least}
    os.environ["VEHICLE_SEARCH_PREPROCESS"] = "exact"
    for precision in () if options.skip_b32 else ("fp32", "bf16"):
        found = b32(options.images, precision)
        share = found["end_to_end_per_s"] / found["forward_per_s"]
        verdict = "met" if share >= 0.9 else "MISSED"
        print(
            f"ViT-B-32 {precision}  forward alone {found['forward_per_s']:.1f}/s  "
            f"ours {found['end_to_end_per_s']:.1f}/s  share {share:.2f}  wanted 0.9  {verdict}"
        )
        results[f"b32 {precision}"] = {**found, "share": share}
    if not options.skip_b32:
        gain = results["b32 bf16"]["end_to_end_per_s"] / results["b32 fp32"]["end_to_end_per_s"]
        wanted = "1.5" if has_bf16() else "nothing: this processor has no bf16 instructions"
        print(f"ViT-B-32 bf16 weights against fp32: {gain:.2f}  wanted {wanted}")
        results["b32 bf16 gain"] = gain
    if options.out:
        options.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
