"""The judging page: milliseconds from a key to the next image, in headless chromium, and from an answer to the disk.

    python benchmarks/judging_page.py [--items N] [--think MS] [--data FOLDER]

A judge takes `--think` milliseconds for each of the items, drawn from Mini or another set. "Next"
ends when the next image is laid out and a frame with it is due; "saved" when the server has said that the answer is on
the disk. The exit code says whether the median of "next" is at most 50 ms.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from mteb_vehicle_search import settings
from mteb_vehicle_search.eval_set import EvalSet

sys.path[:0] = [str(Path(__file__).parents[1] / "tests" / "helpers")]
from judging_pages import PageProcess, new_session  # noqa: E402  # pyright: ignore[reportMissingImports]

LIMIT_MS = 50
# Presses a key; returns the milliseconds until the next image can be seen, and until the answer is saved.
TIME = """(key) => new Promise((done) => {
    const stage = document.getElementById("stage"), saved = document.getElementById("saved");
    const before = stage.querySelector("img"), start = performance.now();
    let next = null;
    const look = () => requestAnimationFrame(() => {
        const image = stage.querySelector("img"), now = performance.now() - start;
        if (next === null && image !== before && image.shown && image.clientWidth) next = now;
        if (next !== null && saved.dataset.state === "saved") done([next, now]); else look();
    });
    document.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
    look();
})"""


def judge(page: Page, items: int, think_ms: int) -> list[list[float]]:
    """Judge all items but the last; returns milliseconds to the next image and to the disk."""
    times = []
    for number in range(items - 1):
        page.wait_for_timeout(think_ms)
        times.append(page.evaluate(TIME, str(number % 4)))
    return times


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=200, help="decisions (default: 200)")
    parser.add_argument("--think", type=int, default=300, help="milliseconds that a decision takes (default: 300)")
    parser.add_argument("--data", type=Path, help="evaluation set (default: Mini)")
    args = parser.parse_args()
    eval_set = EvalSet.open(args.data or settings.mini_folder())
    with tempfile.TemporaryDirectory() as name, sync_playwright() as play:
        session = new_session(eval_set, Path(name), units=-(-args.items // 5))
        served = PageProcess(eval_set, Path(name))
        try:
            browser = play.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
            )
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.goto(served.url)
            page.wait_for_selector("#stage img")
            page.click("#guide button")
            times = judge(page, min(args.items, len(session.items)), args.think)
        finally:
            served.kill()
    for what, values in zip(("next", "saved"), zip(*times)):
        often = statistics.quantiles(values, n=20)[-1]
        print(
            f"{what}: median {statistics.median(values):.0f} ms, 95 % within {often:.0f} ms, most {max(values):.0f} ms"
        )
    return int(statistics.median(next_ms for next_ms, _ in times) > LIMIT_MS)


if __name__ == "__main__":
    sys.exit(main())
