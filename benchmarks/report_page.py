"""The page at full size: its bytes, and with 3, 6 and 20 models how fast it opens and filters, in headless chromium.

    python benchmarks/report_page.py [--data FOLDER] [--sites FOLDER]

10,725 captions of 2,145 drawn images among 66,009 distractors; the models are simulated, with distractors drawn at
random, so that the page shows far more different images than a real one. What is in the folders is used again. "Open"
ends when the first query stands there with everybody's top ten; "filter" when list and query are redrawn.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
from playwright.sync_api import Browser, Page, sync_playwright

from mteb_vehicle_search.analysis.leaderboard import build_leaderboard
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.report.build import build_report
from mteb_vehicle_search.run_record import RunRecord, write_run_record

sys.path[:0] = [str(Path(__file__).parents[1] / "tests" / "helpers"), str(Path(__file__).parent)]
from full_scale import draw_set  # noqa: E402
from simulated_runs import (  # noqa: E402  # pyright: ignore[reportMissingImports]
    CAPTIONS,
    DISTRACTORS,
    IMAGES,
    SimulatedModel,
    write_run,
)

SITES = (2, 3, 6, 20)


def simulated(count: int) -> list[SimulatedModel]:
    """Return so many models, from good to poor."""
    return [SimulatedModel(f"simulated/model-{n + 1:02}", -9.6 + 0.15 * n) for n in range(count)]


MODELS = simulated(max(SITES))
MOST_MB = {2: 60, 20: 70}
LIMITS = {"s to open": 2, "ms to filter": 100, "px high": 6000}
FILTERS = {
    "model": MODELS[2].name,
    "vs": MODELS[1].name,
    "only": "ab",
    "from": "2",
    "to": "50",
    "text": "red",
    "wrong": "distractor",
    "part": "bus",
    "sort": "rank",
}
# Sets a field, waits until the query is drawn again and laid out, and returns the milliseconds.
CHOOSE = "(count) => show(withModels(state, core.models.slice(0, count)))"
TIME_FILTER = """([name, value]) => new Promise((done) => {
    const field = document.querySelector(`#filters [name=${name}]`), detail = document.getElementById("detail");
    const start = performance.now();
    new MutationObserver((_, watch) => {
        watch.disconnect();
        document.body.offsetHeight;
        done(performance.now() - start);
    }).observe(detail, { childList: true });
    field.value = value;
    field.dispatchEvent(new Event("input", { bubbles: true }));
})"""


def record(model: SimulatedModel, eval_set: EvalSet) -> RunRecord:
    """Write the run record of a simulated model, with the ids of the evaluation set."""
    simulated, _ = write_run(model, content_id=eval_set.content_id)
    ids = eval_set.corpus_ids()
    captioned = [name for name in ids if name.startswith("flickr30k/")]
    distractors = [name for name in ids if not name.startswith("flickr30k/")]

    def image(name: str) -> str:
        kind, number = name.partition("/")[0], name.rpartition("/")[2].removeprefix("n")
        return captioned[int(number) - 10_000_000] if kind == "flickr30k" else distractors[int(number)]

    table = simulated.queries()
    relevant = [image(name) for name in table["relevant_id"].to_pylist()]
    columns = {
        "query_id": [f"{name.rpartition('/')[2]}_caption_{n % CAPTIONS:02d}" for n, name in enumerate(relevant)],
        "relevant_id": relevant,
        "top_ids": [[image(name) for name in top] for top in table["top_ids"].to_pylist()],
    }
    for name, column in columns.items():
        table = table.set_column(table.column_names.index(name), name, pa.array(column))
    return write_run_record(
        table,
        {
            **simulated.info,
            "content_id": eval_set.content_id,
            "model_name": model.name,
            "model_revision": model.revision,
            "n_parameters": 20_000_000 * (1 + MODELS.index(model) * 7 % 20) ** 2,
            "images_per_s": 900.0 / (1 + MODELS.index(model) * 7 % 20),
        },
    )


def build(sites: Path, data: Path, models: int) -> Path:
    """Return the page of the first models, built unless it is there."""
    site = sites / f"{models} models"
    if not site.exists():
        exists = (data / "manifest.json").is_file()
        eval_set = EvalSet.open(data) if exists else draw_set(data, IMAGES, IMAGES + DISTRACTORS)
        home = sites / f"home of {models}"
        os.environ["VEHICLE_SEARCH_HOME"] = str(home)
        for model in MODELS[:models]:
            record(model, eval_set)
        start = time.perf_counter()
        build_report(build_leaderboard([home]), eval_set, site)
        print(f"built the page of {models} models in {time.perf_counter() - start:.0f} s", flush=True)
    return site


def time_open(page: Page, site: Path) -> float:
    """Return the seconds from the address to the first query with its images."""
    start = time.perf_counter()
    page.goto((site / "index.html").as_uri(), wait_until="commit")
    page.wait_for_selector("#detail .answers")
    return time.perf_counter() - start


def megabytes(site: Path) -> float:
    """Return the size of a page with all its files."""
    return sum(path.stat().st_size for path in site.rglob("*") if path.is_file()) / 1e6


def time_filters(page: Page) -> float:
    """Return the milliseconds of the slowest filter; print all."""
    worst = []
    for field, value in FILTERS.items():
        times = []
        for _ in range(5):
            times.append(page.evaluate(TIME_FILTER, [field, value]))
            page.evaluate("document.getElementById('filters').reset()")
            page.wait_for_timeout(100)
        worst.append(max(times))
        print(f"  filter {field} = {value}: median {statistics.median(times):.0f} ms, most {max(times):.0f} ms")
    return max(worst)


def measure(browser: Browser, site: Path, models: int) -> dict[str, float]:
    """Return what `LIMITS` limits, of a page of so many models, as many chosen as can be."""
    opened = [time_open(browser.new_context().new_page(), site) for _ in range(5)]
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    time_open(page, site)
    page.evaluate(CHOOSE, min(models, 6))
    page.wait_for_function(
        "count => document.querySelectorAll('#detail .answers').length === count", arg=min(models, 6)
    )
    height = page.evaluate("document.documentElement.scrollHeight")
    found = {"s to open": max(opened), "ms to filter": time_filters(page), "px high": height}
    page.close()
    return found


def main() -> int:
    """Build, measure, print; the exit code says whether all limits are kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the drawn set, made if missing (default: a temporary one)")
    parser.add_argument("--sites", type=Path, help="folder of the pages, built if missing (default: a temporary one)")
    parser.add_argument("--models", type=int, nargs="+", choices=SITES, default=SITES, help="(default: all)")
    args = parser.parse_args()
    kept = []
    with tempfile.TemporaryDirectory() as name, sync_playwright() as play:
        data, sites = (args.data or Path(name) / "data").absolute(), (args.sites or Path(name) / "sites").absolute()
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"])
        for models in args.models:
            site = build(sites, data, models)
            size, most = megabytes(site), MOST_MB.get(models, max(MOST_MB.values()))
            print(f"{models} models: {size:.1f} MB (at most {most})")
            kept.append(size <= most)
            for what, value in ({} if models == 2 else measure(browser, site, models)).items():
                print(f"{models} models, {what}: {value:.4g} (at most {LIMITS[what]})")
                kept.append(value <= LIMITS[what])
        browser.close()
    return int(not all(kept))


if __name__ == "__main__":
    sys.exit(main())
