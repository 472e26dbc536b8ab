"""Time to open and to filter the page at full size: 10,725 queries, 3 models, no pictures.

Run: python tests/benchmarks/report_page.py
"""

import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from playwright.sync_api import sync_playwright

from mteb_vehicle_search.report.build import embed

QUERIES, MODELS, IMAGES = 10_725, 3, 45_000

rng = np.random.default_rng(0)
core = {
    "block": 256,
    "models": [f"simulated/{n}" for n in range(MODELS)],
    "ids": [f"{q // 5:010}_caption_{q % 5:02}" for q in range(QUERIES)],
    "texts": [f"A person number {q} rides a red bicycle along the road past a bus" for q in range(QUERIES)],
    "relevant": (np.arange(QUERIES) // 5).tolist(),
    "ranks": np.floor(1 + np.exp(rng.normal(2, 2, (MODELS, QUERIES)))).astype(int).tolist(),
    "wrong": rng.integers(0, IMAGES, (MODELS, QUERIES)).tolist(),
    "images": [f"imagenet/train/n{n:08}_{n}" for n in range(IMAGES)],
    "labels": [f"class {n % 49}" for n in range(IMAGES)],
}
with tempfile.TemporaryDirectory() as name, sync_playwright() as play:
    site, package = Path(name), Path(__file__).parents[2] / "mteb_vehicle_search" / "report"
    shutil.copytree(package / "static", site / "assets")
    (site / "data").mkdir()
    (site / "data" / "core.js").write_text(f"window.VS={{core:{embed(core)}}};", encoding="utf-8")
    from jinja2 import Environment, FileSystemLoader

    template = Environment(loader=FileSystemLoader(package / "templates"), autoescape=True).get_template(
        "index.html.j2"
    )
    fake = {"name": "benchmark", "content_id": "0"}
    (site / "index.html").write_text(template.render(rows=[], evaluation=fake, growth=[], strengths=[]), "utf-8")
    browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"])
    page = browser.new_page()
    start = time.perf_counter()
    page.goto((site / "index.html").as_uri(), wait_until="load")
    print(f"open: {time.perf_counter() - start:.2f} s")
    measure = """text => { const t = performance.now();
        const e = document.getElementById("text"); e.value = text;
        e.dispatchEvent(new Event("input", {bubbles: true}));
        document.body.offsetHeight; return performance.now() - t; }"""
    times = [page.evaluate(measure, text) for text in ("red", "12", "", "bus", "99", "zebra", "")]
    print(f"filter: median {statistics.median(times):.0f} ms, most {max(times):.0f} ms")
    browser.close()
