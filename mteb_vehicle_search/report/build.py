"""`vehicle-search report`: write the page."""

from __future__ import annotations

import argparse
import io
import json
import shutil
from pathlib import Path
from typing import Any

from mteb_vehicle_search.errors import EvalSetError, ResultsError
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.places import evaluation_data, mini_folder
from mteb_vehicle_search.report.data import ReportData, gather

MARKER = "vehicle-search-report.json"
THUMBNAIL_BYTES = 50_000_000
# Shorter side in pixels and WebP quality, best first; the first that fits the budget is taken.
SIZES = ((160, 70), (128, 55), (96, 45), (80, 35), (64, 30))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--data", type=Path, help="evaluation set (default: the built one, else the embedded Mini)")
    parser.add_argument("--out", type=Path, default=Path("report"), help="folder to write (default: report)")
    parser.add_argument("--runs", type=Path, help="folder of run records (default: under VEHICLE_SEARCH_HOME)")


def main(args: argparse.Namespace) -> int:
    """Write the page and say where it is."""
    data = args.data or evaluation_data()
    if not args.data and not (data / "manifest.json").is_file():
        data = mini_folder()
    size = build_report(EvalSet.open(data), args.out, args.runs)
    print(f"Wrote {args.out / 'index.html'} ({size / 1e6:.1f} MB).")  # noqa: T201
    return 0


def build_report(evaluation: EvalSet, out: Path, runs: Path | None = None) -> int:
    """Write the site into `out` (replacing an earlier one) and return its size in bytes.

    Raises:
        ResultsError: There are no run records, or `out` holds something else.
    """
    from jinja2 import Environment, PackageLoader

    if out.exists() and any(out.iterdir()) and not (out / MARKER).is_file():
        raise ResultsError(f"{out} holds other files; they are left alone.", "Choose another folder with --out.")
    data = gather(evaluation, runs)
    partial = out.with_name(f".{out.name}.partial")
    if partial.exists():
        shutil.rmtree(partial)
    shutil.copytree(Path(__file__).parent / "static", partial / "assets")
    (partial / "data").mkdir()
    _script(partial / "data" / "core.js", "core", data.core)
    _script(partial / "data" / "suspects.js", "suspects", data.suspects)
    for n, block in enumerate(data.blocks):
        _script(partial / "data" / f"block-{n}.js", f"block{n}", block)
    _thumbnails(evaluation, data, partial / "thumbs")
    page = Environment(loader=PackageLoader("mteb_vehicle_search.report"), autoescape=True)
    html = page.get_template("index.html.j2").render(
        rows=data.leaderboard, evaluation=evaluation, growth=data.growth, strengths=data.strengths
    )
    (partial / "index.html").write_text(html, encoding="utf-8", newline="\n")
    (partial / MARKER).write_text(json.dumps({"content_id": evaluation.content_id}) + "\n", encoding="utf-8")
    if out.exists():
        shutil.rmtree(out)
    partial.rename(out)
    return sum(path.stat().st_size for path in out.rglob("*") if path.is_file())


def embed(value: Any) -> str:
    """Return JSON that is safe inside a script, whatever the captions hold."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for bad in "<>&\u2028\u2029":
        text = text.replace(bad, f"\\u{ord(bad):04x}")
    return text


def _script(path: Path, name: str, value: Any) -> None:
    text = f"(window.VS=window.VS||{{}}).{name}={embed(value)};\n"
    path.write_text(text, encoding="utf-8", newline="\n", errors="replace")


def _thumbnails(evaluation: EvalSet, data: ReportData, folder: Path) -> None:
    """Write one small WebP per shown image, as large as the budget lets them be."""
    sample = data.shown[:: max(1, len(data.shown) // 64)]
    side, quality = SIZES[-1]
    for side, quality in SIZES:
        mean = sum(len(_small(evaluation, image, side, quality)) for image in sample) / len(sample)
        if mean * len(data.shown) <= THUMBNAIL_BYTES:
            break
    for n, image in enumerate(data.shown):
        path = folder / str(n // 1000) / f"{n}.webp"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_small(evaluation, image, side, quality))


def _small(evaluation: EvalSet, image: str, side: int, quality: int) -> bytes:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(evaluation.jpeg(image))) as opened:
            picture = opened.convert("RGB")
    except OSError as error:
        raise EvalSetError(f"Image {image!r} cannot be decoded: {error}.") from error
    ratio = min(1.0, side / min(picture.size))
    picture = picture.resize((max(1, round(picture.width * ratio)), max(1, round(picture.height * ratio))))
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=quality, method=2)
    return buffer.getvalue()
