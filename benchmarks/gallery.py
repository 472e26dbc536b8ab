"""The screenshots of the README, of the page of the runs and judgments that lie in `results`: drawn scenes, light,
1280 px.

    python benchmarks/gallery.py [--out FOLDER]

The exit code says whether the page opened without a complaint and all of them together keep within 600 KB.
"""

from __future__ import annotations

import argparse
import io
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from mteb_vehicle_search import settings
from mteb_vehicle_search.analysis.judgments_at_hand import Source
from mteb_vehicle_search.analysis.leaderboard import build_leaderboard
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.report.build import build_report

RESULTS = Path(__file__).parents[1] / "results"
WIDTH, HEIGHT = 1280, 900
MOST_BYTES = 600_000
# What is shown: the name of the file, the section, and the address that leads there.
SHOTS = (
    ("leaderboard", "board", ""),
    ("a-against-b", "versus", ""),
    ("failures", "failures", "#only=wrong&judged=right&text=bus"),
)


def shoot(page: Page, site: Path, section: str, address: str) -> bytes:
    """Return a section of the page, from its heading on, as a PNG of few colours."""
    page.goto("about:blank")
    page.goto((site / "index.html").as_uri() + address)
    page.wait_for_selector("#detail .answers")
    page.wait_for_load_state("networkidle")
    # It stays above what is shown, so it need not be over it.
    page.add_style_tag(content=".bar { position: static !important; }")
    box = page.locator(f"#{section}").bounding_box()
    if box is None:
        raise SystemExit(f"The page has no section {section}.")
    scrolled = page.evaluate("scrollY")
    clip = {"x": 0, "y": box["y"] + scrolled + 20, "width": WIDTH, "height": min(HEIGHT, box["height"])}
    shot = page.screenshot(full_page=True, clip=clip)  # pyright: ignore[reportArgumentType]
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(shot)) as image:
        image.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
            buffer, "PNG", optimize=True
        )
    return buffer.getvalue()


def main() -> int:
    """Build the page, take the screenshots, and say how large they are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS / "gallery", help="(default: results/gallery)")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    complaints: list[str] = []
    total = 0
    with tempfile.TemporaryDirectory() as name, sync_playwright() as play:
        site = Path(name) / "site"
        board = build_leaderboard([RESULTS], judgments=Source(RESULTS / "judgments"))
        build_report(board, EvalSet.open(settings.mini_folder()), site)
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, reduced_motion="reduce")
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        for file, section, address in SHOTS:
            shot = shoot(page, site, section, address)
            (args.out / f"{file}.png").write_bytes(shot)
            total += len(shot)
        browser.close()
    print(f"{len(SHOTS)} screenshots in {args.out}: {total / 1000:.0f} KB (at most {MOST_BYTES / 1000:.0f})")
    print(*complaints, sep="\n", end="")
    return int(bool(complaints) or total > MOST_BYTES)


if __name__ == "__main__":
    sys.exit(main())
