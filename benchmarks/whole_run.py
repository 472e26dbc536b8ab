"""A whole evaluation from the command to the end: ours beside a plain script, CLIP_benchmark and stock mteb.

    python benchmarks/whole_run.py [--data FOLDER] [--images 20000] [--rounds 3] [--out whole_run.json]

The same model (tiny-clip, on the processor) on VehicleImageSearchMini and on a drawn set. The plain script is what
somebody would write: open_clip's model and transform, one matrix product, numpy; it stores nothing, and its ranks
are not exact where scores tie. Stock mteb runs its own open_clip wrapper on the set as one of its retrieval tasks,
without our start-up hook. CLIP_benchmark (pip install --no-deps clip-benchmark) is measured where it is installed.
Rounds are interleaved, the medians compared. Memory is the peak of the largest process. The exit status is 1 if a
bound is broken.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

BATCH = 64
MOST_MEMORY = 1.1
TINY_CLIP = ROOT / "mteb_vehicle_search" / "models" / "tiny_clip"


def tables(data: Path) -> tuple[list[bytes], list[str], list[str], list[str], dict[str, str]]:
    """Return images, their ids, captions, their ids, and the image of each caption."""
    import pyarrow.parquet as pq

    def column(kind: str, name: str) -> list[Any]:
        files = sorted((data / kind).glob("*.parquet"))
        return [value for file in files for value in pq.read_table(file, columns=[name])[name].to_pylist()]

    images = [image["bytes"] for image in column("corpus", "image")]
    wanted = dict(zip(column("qrels", "query-id"), column("qrels", "corpus-id")))
    return images, column("corpus", "id"), column("queries", "text"), column("queries", "id"), wanted


def open_clips_model() -> tuple[Any, Any, Any]:
    """Return open_clip's model, transform and tokenizer of the embedded checkpoint."""
    import open_clip

    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{TINY_CLIP}")
    vocabulary = str(TINY_CLIP / "bpe_vocabulary.txt.gz")
    return model.eval(), transform, open_clip.SimpleTokenizer(vocabulary, context_length=32)


def plain(data: Path) -> None:
    """Be the plain script."""
    import io

    import numpy as np
    import torch
    from PIL import Image

    images, ids, texts, text_ids, wanted = tables(data)
    model, transform, tokenizer = open_clips_model()

    def unit(parts: list[Any]) -> Any:
        return torch.nn.functional.normalize(torch.cat(parts), dim=1).numpy()

    def pixels(at: int) -> Any:
        return torch.stack([transform(Image.open(io.BytesIO(one)).convert("RGB")) for one in images[at : at + BATCH]])

    with torch.inference_mode():
        of_images = unit([model.encode_image(pixels(at)) for at in range(0, len(images), BATCH)])
        of_texts = unit([model.encode_text(tokenizer(texts[at : at + BATCH])) for at in range(0, len(texts), BATCH)])
    scores = of_texts @ of_images.T
    row_of = {name: row for row, name in enumerate(ids)}
    own = scores[np.arange(len(texts)), [row_of[wanted[name]] for name in text_ids]]
    ranks = (scores >= own[:, None]).sum(axis=1)
    found = {"ndcg_at_10": np.where(ranks <= 10, 1 / np.log2(ranks + 1), 0).mean(), "median_rank": np.median(ranks)}
    print({name: float(value) for name, value in found.items()}, float((ranks <= 1).mean()))


def clip_benchmark(data: Path) -> None:
    """Be CLIP_benchmark's retrieval, over a dataset of the set's images and captions."""
    import io

    import torch
    from clip_benchmark.metrics import zeroshot_retrieval
    from PIL import Image

    images, ids, texts, text_ids, wanted = tables(data)
    model, transform, tokenizer = open_clips_model()
    captions: dict[str, list[str]] = {}
    for name, text in zip(text_ids, texts):
        captions.setdefault(wanted[name], []).append(text)

    class SetImages(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(images)

        def __getitem__(self, row: int) -> Any:
            return transform(Image.open(io.BytesIO(images[row])).convert("RGB")), captions.get(ids[row], [])

    def collated(rows: list[Any]) -> Any:
        return torch.stack([pixels for pixels, _ in rows]), [texts for _, texts in rows]

    loader = torch.utils.data.DataLoader(SetImages(), batch_size=BATCH, num_workers=os.cpu_count(), collate_fn=collated)
    print(zeroshot_retrieval.evaluate(model, loader, tokenizer, "cpu", amp=False, recall_k_list=[1, 10]))


def stock_mteb(data: Path) -> None:
    """Be mteb with a retrieval task as its own are."""
    import datasets
    import mteb
    from encode_cpu import rival
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.task_metadata import TaskMetadata

    from mteb_vehicle_search.models import tiny_clip

    class Stock(AbsTaskRetrieval):
        metadata = TaskMetadata(
            name="StockImageSearch", description="The same set.", type="Any2AnyRetrieval", category="t2i",
            modalities=["text", "image"], eval_splits=["test"], eval_langs=["eng-Latn"], main_score="ndcg_at_10",
            dataset={"path": "stock", "revision": "1"},
        )  # fmt: skip

        def load_data(self, **given: Any) -> None:
            images, ids, texts, text_ids, wanted = tables(data)
            features = datasets.Features({"id": datasets.Value("string"), "image": datasets.Image()})
            corpus = {"id": ids, "image": [{"bytes": one, "path": None} for one in images]}
            split: Any = {
                "corpus": datasets.Dataset.from_dict(corpus, features=features),
                "queries": datasets.Dataset.from_dict({"id": text_ids, "text": texts}),
                "relevant_docs": {query: {image: 1} for query, image in wanted.items()},
                "top_ranked": None,
            }
            self.dataset, self.data_loaded = {"default": {"test": split}}, True  # type: ignore[assignment]

    found = mteb.evaluate(
        rival(tiny_clip()), Stock(), cache=None, encode_kwargs={"batch_size": BATCH}, num_proc=os.cpu_count()
    )
    print(found.task_results[0].get_score())


PEERS = {"plain script": plain, "CLIP_benchmark": clip_benchmark, "stock mteb": stock_mteb}


class Cost(NamedTuple):
    """Of one process and those that it waited for."""

    wall_s: float
    processor_s: float
    peak_mib: float


def cost(command: list[str], variables: dict[str, str], log: Path) -> Cost:
    """Run a command; return what it cost."""
    with log.open("wb") as said:
        begin = time.perf_counter()
        child = subprocess.Popen(command, env={**os.environ, **variables}, stdout=said, stderr=said)
        _, status, used = os.wait4(child.pid, 0)
        wall = time.perf_counter() - begin
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        ended = f"{' '.join(command)} ended with {child.returncode}"
        raise SystemExit(f"{ended}: {log.read_text('utf-8', 'replace')[-3000:]}")
    return Cost(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10))


def one_round(data: Path, task: str, ways: list[str], work: Path) -> dict[str, Cost]:
    """Run each way once, from nothing."""
    found = {}
    for way in ways:
        with tempfile.TemporaryDirectory(dir=work) as name:
            home = Path(name)
            common = {"HF_HUB_OFFLINE": "1", "MTEB_CACHE": str(home / "mteb"), "PYTHONPATH": str(ROOT)}
            if way == "ours":
                command = [sys.executable, "-m", "mteb", "run", "-t", task, "-m", "vehicle-search/tiny-clip"]
                command += ["--batch-size", str(BATCH), "--output-folder", str(home / "results")]
                common |= {"VEHICLE_SEARCH_HOME": str(home / "home")}
                common |= {"VEHICLE_SEARCH_DATA": str(data)} if task == "FullScale" else {}
            else:
                command = [sys.executable, __file__, "--data", str(data), "--be", way]
                common |= {"VEHICLE_SEARCH_NO_HOOK": "1"}
            if extra := os.environ.get("PYTHONPATH"):
                common["PYTHONPATH"] += os.pathsep + extra
            found[way] = cost(command, common, home / "log")
        print(f"  {task}, {way}: {found[way].wall_s:.1f} s", flush=True)
    return found


def main() -> int:
    """Draw, run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the drawn set, made if missing (default: a temporary one)")
    parser.add_argument("--images", type=int, default=20_000, help="0: the embedded set only")
    parser.add_argument("--captioned", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--be", choices=PEERS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.be:
        PEERS[args.be](args.data)
        return 0
    ways = ["ours", *(way for way in PEERS if way != "CLIP_benchmark" or find_spec("clip_benchmark"))]
    if "CLIP_benchmark" not in ways:
        print("CLIP_benchmark is not installed and is left out.")
    report: dict[str, Any] = {}
    broken = False
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        sets = {"VehicleImageSearchMini": ROOT / "mteb_vehicle_search" / "mini"}
        if args.images:
            from full_scale import draw_set

            data = (args.data or work / "data").absolute()
            if not (data / "manifest.json").is_file():
                draw_set(data, args.captioned, args.images)
            sets["FullScale"] = data
        for task, data in sets.items():
            rounds = [one_round(data, task, ways, work) for _ in range(args.rounds)]
            costs = {way: Cost(*(median(figures) for figures in zip(*(one[way] for one in rounds)))) for way in ways}
            mine = costs["ours"]
            print(f"{task}, median of {args.rounds}, {os.cpu_count()} processors")
            print(f"  {'':<16}{'wall':>9}{'processor':>12}{'peak':>11}   ours / it: wall, processor, peak")
            for way, one in costs.items():
                ratios = [ours / its for ours, its in zip(mine, one)]
                print(
                    f"  {way:<16}{one.wall_s:>7.1f} s{one.processor_s:>10.1f} s{one.peak_mib:>7.0f} MiB"
                    + ("" if way == "ours" else "   " + ", ".join(f"{ratio:.2f}" for ratio in ratios))
                )
                broken |= way != "ours" and max(ratios[:2]) > 1
                broken |= way == "plain script" and ratios[2] > MOST_MEMORY
            report[task] = {way: one._asdict() for way, one in costs.items()}
    met = "MISSED" if broken else "met"
    print(f"wanted: wall and processor <= 1 of each, peak <= {MOST_MEMORY} of the script: {met}")
    if args.out:
        args.out.write_text(json.dumps(report, indent=2, allow_nan=False) + "\n", encoding="utf-8", newline="\n")
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
