"""`vehicle-search report`: write the page."""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from mteb_vehicle_search.analysis.columns import Row, cells_of, row_columns
from mteb_vehicle_search.analysis.leaderboard import Leaderboard, build_leaderboard
from mteb_vehicle_search.analysis.runs import RUNS_HELP
from mteb_vehicle_search.analysis.strata import strengths
from mteb_vehicle_search.citations import bibtex
from mteb_vehicle_search.errors import ResultsError, VehicleSearchError
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.files import new_folder
from mteb_vehicle_search.report.page_data import gather, models_of, script_data
from mteb_vehicle_search.report.thumbnails import COLUMNS, PER_SHEET, Thumbnails, write_thumbnails
from mteb_vehicle_search.settings import eval_set_folder, mini_folder

MARKER = "vehicle-search-report.json"
# Of the whole site. What is left of it after text and scripts goes to the pictures.
SITE_BYTES = 58_000_000
STATIC = Path(__file__).parent / "static"
RUN_HINT = "Run a model first: mteb run -t VehicleImageSearchMini -m vehicle-search/tiny-clip"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "results",
        nargs="*",
        type=Path,
        metavar="RESULTS",
        help="result files or folders, as for 'leaderboard' (default: ./results, and all run records)",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FOLDER",
        help="evaluation set of the runs (default: the built one if it has runs, else the embedded Mini)",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("report"), metavar="FOLDER", help="where to write (default: report)"
    )
    parser.add_argument("--runs", type=Path, metavar="FOLDER", help=RUNS_HELP)


def main(args: argparse.Namespace) -> int:
    """Write the page and say where it is."""
    board = build_leaderboard(args.results or None, runs=args.runs)
    for one in board.skipped:
        sys.stderr.write(f"skipped {one.path}: {one.reason}\n")
    eval_set = choose_eval_set(board, args.data)
    for other in _others(board, eval_set):
        sys.stderr.write(f"not on the page: {other}, another evaluation set than {eval_set.folder}\n")
    size = build_report(board, eval_set, args.out)
    if size > SITE_BYTES:
        sys.stderr.write(f"The pictures are as small as they get; the site is larger than {SITE_BYTES / 1e6:.0f} MB.\n")
    print(f"Wrote {args.out / 'index.html'} ({size / 1e6:.1f} MB).")  # noqa: T201
    return 0


def choose_eval_set(board: Leaderboard, data: Path | None = None) -> EvalSet:
    """Return the evaluation set in `data`, or the first of the usual ones that has runs.

    Raises:
        ResultsError: There is no run on it; says what there is.
        DataNotFoundError, EvalSetError: `data` is not an evaluation set.
    """
    with_runs = {content_id for (_, content_id), of_set in board.entries.items() if any(one.ranks for one in of_set)}
    if data is not None:
        if (eval_set := EvalSet.open(data)).content_id in with_runs:
            return eval_set
        asked = f"{data} (content id {eval_set.content_id[:12]})"
    else:
        for folder in (eval_set_folder(), mini_folder()):
            with suppress(VehicleSearchError):
                if (eval_set := EvalSet.open(folder)).content_id in with_runs:
                    return eval_set
        asked = f"{eval_set_folder()} or the embedded Mini"
    found = "; ".join(map(_what, board.document["tables"]))
    if not with_runs:
        raise ResultsError(f"There is no run record of {asked}{': only ' if found else ''}{found}.", RUN_HINT)
    raise ResultsError(
        f"There is no run record of {asked}. There are {found}.",
        "Name the evaluation set that the runs were made on: --data FOLDER",
    )


def _others(board: Leaderboard, eval_set: EvalSet) -> list[str]:
    return [_what(table) for table in board.document["tables"] if table["content_id"] != eval_set.content_id]


def _what(table: dict[str, Any]) -> str:
    models = ", ".join(row["model"] for row in table["rows"])
    records = "" if any(row["has_run_record"] for row in table["rows"]) else ", no run record"
    return f"{models} on {table['task']} (content id {table['content_id'][:12]}{records})"


def build_report(board: Leaderboard, eval_set: EvalSet, out: Path) -> int:
    """Write the site into `out` (replacing an earlier one) and return its size in bytes.

    Raises:
        ResultsError: `out` holds something else, or a run record is damaged.
        EvalSetError: An image cannot be decoded.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())) and not (out / MARKER).is_file():
        raise ResultsError(f"{out} holds other files; they are left alone.", "Choose another folder with --out.")
    try:
        with new_folder(out.absolute()) as partial:
            _write_site(partial, board, eval_set)
    except OSError as error:
        raise ResultsError(f"{out} cannot be written: {error}.") from error
    return _size(out)


def _write_site(folder: Path, board: Leaderboard, eval_set: EvalSet) -> None:
    table = next(table for table in board.document["tables"] if table["content_id"] == eval_set.content_id)
    models = models_of(board.entries[table["task"], table["content_id"]])
    runs = [model.ranks for model in models if model.ranks]
    rows = gather(eval_set, runs)
    parts = strengths([rows.texts[at] for at in runs[0].first.tolist()], runs)
    shutil.copytree(STATIC, folder / "assets")
    (folder / "data").mkdir()
    files = script_data(eval_set, rows, models, parts)
    core = files.pop("core")
    for name, value in files.items():
        (folder / "data" / f"{name}.js").write_bytes(script(name, value))
    room = SITE_BYTES - _size(folder) - len(script("core", core))
    thumbnails = write_thumbnails(eval_set, rows.shown, folder / "thumbs", room)
    (folder / "data" / "core.js").write_bytes(script("core", {**core, "thumbs": thumbnail_index(thumbnails)}))
    reported = [{**dict.fromkeys(row_columns()), **row} for row in board.document["reported"]]
    html = render(
        table=table,
        models=models,
        reported=[row for row in reported if row["task"] == table["task"]],
        elsewhere=[row for row in reported if row["task"] != table["task"]],
        eval_set=eval_set,
        strengths=parts,
        others=_others(board, eval_set),
        skipped=[(one.path.name, one.reason) for one in board.skipped],
        images=len(rows.shown),
        thumbnails=thumbnails,
    )
    (folder / "index.html").write_text(html, encoding="utf-8", newline="\n")
    (folder / MARKER).write_text(json.dumps({"content_id": eval_set.content_id}) + "\n", encoding="utf-8")


def thumbnail_index(thumbnails: Thumbnails) -> dict[str, Any]:
    """Return what cuts a picture out of its sheet; a size is width * 256 + height."""
    return {
        "tile": thumbnails.tile_px,
        "columns": COLUMNS,
        "perSheet": PER_SHEET,
        "sizes": [width * 256 + height for width, height in thumbnails.sizes],
    }


def render(**content: Any) -> str:
    """Return the HTML of the page; all content is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    page = Environment(
        loader=PackageLoader("mteb_vehicle_search.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    sources = content["eval_set"].manifest.get("sources", {})
    rows: list[Row] = content["table"]["rows"] + content["reported"]
    highest = max(row[key] or 0 for row in rows for key in ("ndcg_at_10", "ndcg_at_10_ci_high"))
    return page.get_template("index.html.j2").render(
        runs=[model for model in content["models"] if model.ranks],
        axis_end=max(1, math.ceil(10 * highest)) / 10,
        score_cells=cells_of("scores"),
        run_cells=cells_of("run"),
        bibtex=bibtex(content["table"], (one["bibtex"] for one in sources.values())),
        **content,
    )


def embed(value: Any) -> str:
    """Return JSON that is safe inside a script, whatever the captions hold."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for bad in "<>&\u2028\u2029":
        text = text.replace(bad, f"\\u{ord(bad):04x}")
    return text


def script(name: str, value: Any) -> bytes:
    """Return a script that puts a value into `window.VS`; `file://` pages may load scripts but not JSON."""
    # Half of a surrogate pair in a caption has no UTF-8; it becomes a question mark.
    return f"(window.VS=window.VS||{{}}).{name}={embed(value)};\n".encode(errors="replace")


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
