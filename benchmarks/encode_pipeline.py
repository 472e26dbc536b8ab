"""Whether a device is kept busy: decoding, chunk borders and storing around a stand-in of a fixed speed.

    python benchmarks/encode_pipeline.py [--data FOLDER] [--images 20000] [--rates 300 1000] [--out FILE]

The stand-in's forward pass takes so long as its batch takes at that speed, without the interpreter lock, and computes
nothing; images are read, decoded and resized to 224 px for it as for any other device. Busy is the time that the
batches take by themselves; what a thread is late, waiting for a processor or for the interpreter, counts as lost. Lost
at a border is what passes between the last batch of a chunk and the fourth of the next, beyond what passes between
as many batches elsewhere. Beside ours: the same chunk by chunk, as each `encode` by itself, and an encoder as mteb
knows them, over the loader that mteb makes. The exit status is 1 if a bound is broken.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from mteb_vehicle_search.models.batches import Towers  # noqa: E402
from mteb_vehicle_search.models.encoder import ImageTextEncoder  # noqa: E402
from mteb_vehicle_search.models.preprocess import ShortestSideCrop  # noqa: E402

LEAST_BUSY = 0.99
MOST_LOST_S = 0.02
# Batches after a border that it may still slow down.
AFTER = 4
SIZE_PX, DIMENSION = 224, 1024


class StandIn(ImageTextEncoder):
    """A device of so many images per second; `batches` holds (begin, end, images) of each forward pass."""

    mean = std = (0.5, 0.5, 0.5)

    def __init__(self, rate: float) -> None:
        super().__init__("stand-in/device", str(rate), "cpu")
        self.rate, self.batches = rate, []
        self.crop = ShortestSideCrop(SIZE_PX, self.mode)
        self.mteb_model_meta: Any = SimpleNamespace(
            name=self.model_name, revision=self.revision, n_parameters=0, training_datasets=None,
            similarity_fn_name="cosine", experiment_kwargs=None,
        )  # fmt: skip

    @property
    def _decodes_ahead(self) -> bool:
        return True

    def _lanes(self) -> Any:
        # One device, whatever number of threads decodes.
        return super()._lanes()[:1]

    def _in_memory(self, forward: Any, batch: torch.Tensor, lane: Any) -> torch.Tensor:
        return self.work(len(batch))

    def load(self) -> Towers:
        """Return towers that are never called."""
        return Towers(torch.nn.Identity(), torch.nn.Identity(), torch.nn.Identity())

    def tokenise(self, texts: list[str]) -> Any:
        """Never called."""
        raise NotImplementedError

    def work(self, images: int) -> torch.Tensor:
        """Take the time of a batch; return vectors of no meaning."""
        begin = time.perf_counter()
        time.sleep(images / self.rate)
        self.batches.append((begin, time.perf_counter(), images))
        return VECTORS[:images]


VECTORS = torch.randn((4096, DIMENSION), generator=torch.Generator().manual_seed(0))


class AsMteb:
    """The same device behind an encoder as mteb knows them: batches of images from its loader."""

    def __init__(self, device: StandIn) -> None:
        self.device_of, self.mteb_model_meta = device, device.mteb_model_meta

    def encode(self, inputs: Any, **given: Any) -> torch.Tensor:
        """Preprocess and compute batch by batch."""
        found = []
        for batch in inputs:
            pixels = torch.stack([self.device_of.crop(image.convert("RGB")) for image in batch["image"]])
            found.append(self.device_of.work(len(pixels)))
        return torch.cat(found)


class Measured(NamedTuple):
    """How busy a device was, and what a chunk's border cost."""

    images: int
    seconds: float
    busy: float
    lost_s: float | None


def measured(batches: list[tuple[float, float, int]], rate: float, chunk_rows: int) -> Measured:
    """Return it for the batches of one run."""
    images = sum(count for *_, count in batches)
    span = batches[-1][1] - batches[0][0]
    # What passes from the end of the work of one batch to the begin of the next.
    gaps = [after[0] - (before[0] + before[2] / rate) for before, after in pairwise(batches)]
    done, borders = 0, []
    for index, (*_, count) in enumerate(batches[:-1]):
        done += count
        if done % chunk_rows == 0:
            borders.append(index)
    near = {index + step for index in borders for step in range(AFTER)}
    usual = median(gap for index, gap in enumerate(gaps) if index not in near) if len(gaps) > len(near) else 0.0
    lost = [sum(gaps[at : at + AFTER]) - usual * len(gaps[at : at + AFTER]) for at in borders]
    return Measured(images, span, images / rate / span, sum(lost) / len(lost) if lost else None)


def ours(eval_set: Any, rate: float, batch_size: int, *, chunk_by_chunk: bool) -> Measured:
    """Encode the corpus as a run does, store included."""
    from mteb_vehicle_search.search.corpus import CorpusImages
    from mteb_vehicle_search.search.exact_search import ExactSearch
    from mteb_vehicle_search.search.vectors import CHUNK_ROWS

    model = StandIn(rate)
    if chunk_by_chunk:
        encode = model.encode
        model.encode = lambda *args, **given: encode(*args, **given)  # type: ignore[method-assign]
    _ = model.replicas
    with ExactSearch(model, eval_set) as search:
        where: Any = {"task_metadata": None, "hf_split": "test", "hf_subset": "default"}
        options = {"batch_size": batch_size, "show_progress_bar": False}
        search.index(CorpusImages(eval_set, eval_set.corpus_ids()), **where, encode_kwargs=options)
        search.store.delete()  # type: ignore[union-attr]
    return measured(model.batches, rate, CHUNK_ROWS)


def decoding_per_s(eval_set: Any, images: int) -> float:
    """Return how many images per second all processors decode and resize, with nothing else to do."""
    from concurrent.futures import ThreadPoolExecutor

    from mteb_vehicle_search.settings import usable_cores

    crop = StandIn(1.0).crop
    torch.set_num_threads(1)
    with ThreadPoolExecutor(usable_cores(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        begin = time.perf_counter()
        for _ in pool.map(lambda row: crop.decode(eval_set.jpeg_at(row)), range(images)):
            pass
        return images / (time.perf_counter() - begin)


def mtebs(eval_set: Any, rate: float, batch_size: int, images: int) -> Measured:
    """Encode some images through mteb's own loader, with a worker for each processor."""
    from mteb import get_task
    from mteb._create_dataloaders import create_dataloader
    from mteb.types import PromptType

    from mteb_vehicle_search.search.corpus import CorpusImages
    from mteb_vehicle_search.settings import usable_cores

    device = StandIn(rate)
    corpus = CorpusImages(eval_set, eval_set.corpus_ids()).chunk(range(images)).true_dataset()
    loader = create_dataloader(
        corpus,
        task_metadata=get_task("VehicleImageSearchMini").metadata,
        prompt_type=PromptType.document,
        batch_size=batch_size,
        num_proc=usable_cores(),
    )
    AsMteb(device).encode(loader)
    return measured(device.batches, rate, images)


def main() -> int:
    """Draw, run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the drawn set, made if missing (default: a temporary one)")
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--rates", type=float, nargs="+", default=[300.0, 1000.0], help="images/s of the device")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        os.environ["VEHICLE_SEARCH_HOME"] = str(Path(name) / "home")
        from full_scale import draw_set

        import mteb_vehicle_search
        from mteb_vehicle_search.eval_set import EvalSet

        mteb_vehicle_search.register()
        data = (args.data or Path(name) / "data").absolute()
        exists = (data / "manifest.json").is_file()
        eval_set = EvalSet.open(data) if exists else draw_set(data, 20, args.images)
        count = eval_set.manifest["counts"]["corpus"]
        decoding = decoding_per_s(eval_set, min(2000, count))
        found: dict[str, dict[str, Measured]] = {}
        for rate in args.rates:
            found[f"{rate:.0f}"] = {
                "ours": ours(eval_set, rate, args.batch_size, chunk_by_chunk=False),
                "chunk by chunk": ours(eval_set, rate, args.batch_size, chunk_by_chunk=True),
                "mteb's loader": mtebs(eval_set, rate, args.batch_size, min(4096, count)),
            }
    print(
        f"{count} images, batches of {args.batch_size}; {os.cpu_count()} processors, which decode {decoding:.0f} "
        "images/s and nothing else"
    )
    print(f"{'device':>10}  {'way':<16}{'images':>8}{'images/s':>10}{'busy':>8}{'lost a chunk':>15}")
    broken = False
    for rate, ways in found.items():
        for way, one in ways.items():
            lost = "" if one.lost_s is None else f"{one.lost_s * 1000:.1f} ms"
            print(f"{rate:>8}/s  {way:<16}{one.images:>8}{one.images / one.seconds:>10.1f}{one.busy:>8.4f}{lost:>15}")
        mine = ways["ours"]
        if decoding < 1.1 * float(rate):
            print(f"{rate:>8}/s  is more than is decoded here: nothing keeps such a device busy")
        broken |= mine.busy < LEAST_BUSY or (mine.lost_s or 0) > MOST_LOST_S
    print(f"ours: busy wanted {LEAST_BUSY}, lost at most {MOST_LOST_S * 1000:.0f} ms: {'MISSED' if broken else 'met'}")
    if args.out:
        report: dict[str, Any] = {"decoding_per_s": decoding}
        report |= {rate: {way: one._asdict() for way, one in ways.items()} for rate, ways in found.items()}
        args.out.write_text(json.dumps(report, indent=2, allow_nan=False) + "\n", encoding="utf-8", newline="\n")
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
