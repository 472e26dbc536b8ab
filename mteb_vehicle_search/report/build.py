"""`vehicle-search report`: write the page."""

from __future__ import annotations

import argparse
import json
import math
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from mteb_vehicle_search.analysis import caveats, judgments_at_hand
from mteb_vehicle_search.analysis.columns import INTERVAL_PLACE, Cell, Row, cells_of
from mteb_vehicle_search.analysis.formats import RANK_NOTE, random_row, reported_row
from mteb_vehicle_search.analysis.judged_ranks import judged_pairs
from mteb_vehicle_search.analysis.leaderboard import Leaderboard, build_leaderboard, left_out
from mteb_vehicle_search.analysis.limits import FEWEST_IMAGES
from mteb_vehicle_search.analysis.reported import is_of
from mteb_vehicle_search.analysis.selection import RUNS_HELP
from mteb_vehicle_search.analysis.sets import ID_DIGITS, SetKey, other_pixels
from mteb_vehicle_search.analysis.strata import strengths
from mteb_vehicle_search.citations import bibtex
from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.eval_set.known import chosen_folder, sets_here
from mteb_vehicle_search.files import new_folder
from mteb_vehicle_search.report import judged as judging
from mteb_vehicle_search.report.page_data import arm_counts, gather, models_of, pool_lines
from mteb_vehicle_search.report.pairs import pairs_of
from mteb_vehicle_search.report.scripts import script_data
from mteb_vehicle_search.report.thumbnails import COLUMNS, PER_SHEET, Thumbnails, write_thumbnails

MARKER = "vehicle-search-report.json"
# Of the whole site. What is left of it after text and scripts goes to the images.
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
    judgments_at_hand.add_arguments(parser)


def main(args: argparse.Namespace) -> int:
    """Write the page and say where it is."""
    judgments = judgments_at_hand.source_of(args)
    board = build_leaderboard(args.results or None, runs=args.runs, judgments=judgments)
    sys.stderr.writelines(f"{line}\n" for line in left_out(board))
    eval_set = choose_eval_set(board, args.data)
    for other in _others(board, eval_set):
        sys.stderr.write(f"not on the page: {other}, another evaluation set than {eval_set.folder}\n")
    size = build_report(board, eval_set, args.out)
    if size > SITE_BYTES:
        sys.stderr.write(f"The images are as small as they get; the site is larger than {SITE_BYTES / 1e6:.0f} MB.\n")
    print(f"Wrote {args.out / 'index.html'} ({size / 1e6:.1f} MB).")  # noqa: T201
    return 0


def choose_eval_set(board: Leaderboard, data: Path | None = None) -> EvalSet:
    """Return the evaluation set in `data`, or the first of the usual ones that has runs.

    Raises:
        ResultsError: There is no run on it; says what there is.
        DataNotFoundError, EvalSetError: `data` is not an evaluation set.
    """
    if data is not None:
        if set_of(board, eval_set := EvalSet.open(data)):
            return eval_set
        asked = f"{data} (content id {eval_set.content_id[:ID_DIGITS]}{_pixels(board, eval_set)})"
    else:
        here = next((eval_set for eval_set in sets_here() if set_of(board, eval_set)), None)
        if here is not None:
            return here
        asked = f"{chosen_folder()}, another set beside it, or the embedded Mini"
    found = "; ".join(_what(board, table) for table in board.document["tables"])
    if not any(entry.ranks and entry.ranks.is_whole for of_set in board.entries.values() for entry in of_set):
        raise ResultsError(f"There is no run record of {asked}{': only ' if found else ''}{found}.", RUN_HINT)
    raise ResultsError(
        f"There is no run record of {asked}. There are {found}.",
        "Name the evaluation set that the runs were made on: --data FOLDER",
    )


def set_of(board: Leaderboard, eval_set: EvalSet) -> SetKey | None:
    """Return which of the leaderboard's sets this is, if it has ranks of runs that searched just its images.

    Runs that do not tell which images they searched are taken where there are no others.
    """
    with_ranks = [
        key for key, entries in board.entries.items() if any(entry.ranks and entry.ranks.is_whole for entry in entries)
    ]
    of_content = [key for key in with_ranks if key.content_id == eval_set.content_id]
    # Telling the images takes a look at every image.
    wanted = ("", eval_set.images_id) if any(key.images_id for key in of_content) else ("",)
    return max((key for key in of_content if key.images_id in wanted), default=None)


def _pixels(board: Leaderboard, eval_set: EvalSet) -> str:
    """Say how the images of a set differ from those of the runs with its content id; "" if there are no such runs."""
    about = {"images_id": eval_set.images_id, "sources_id": eval_set.sources_id}
    for table in board.document["tables"]:
        if table["content_id"] == eval_set.content_id and table["images_id"] not in (None, eval_set.images_id):
            return f"; the runs with it searched {other_pixels(table, about)}"
    return ""


def _table_of(board: Leaderboard, key: SetKey) -> dict[str, Any]:
    return next(table for table in board.document["tables"] if SetKey.of_table(table) == key)


def _others(board: Leaderboard, eval_set: EvalSet) -> list[str]:
    shown = set_of(board, eval_set)
    return [_what(board, table) for table in board.document["tables"] if SetKey.of_table(table) != shown]


def _what(board: Leaderboard, table: dict[str, Any]) -> str:
    models = ", ".join(row["name"] for row in table["rows"])
    alike = [one for one in board.document["tables"] if one["content_id"] == table["content_id"] and one is not table]
    images = (table["images_id"] or "unknown")[:ID_DIGITS]
    pixels = f", images id {images}: {other_pixels(alike[0], table)}" if alike else ""
    records = "" if any(row["has_run_record"] for row in table["rows"]) else ", no run record"
    return f"{models} on {table['title']} (content id {table['content_id'][:ID_DIGITS]}{pixels}{records})"


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
    key = set_of(board, eval_set)
    if key is None:
        raise ResultsError(f"There is no run record of {eval_set.folder}.", RUN_HINT)
    table, models = _table_of(board, key), models_of(board.entries[key])
    runs = [model.ranks for model in models if model.ranks]
    rows = gather(eval_set, runs)
    captions = [rows.texts[at] for at in runs[0].first.tolist()]
    parts, pairs = strengths(captions, runs), pairs_of(captions, runs)
    judgments = board.at_hand.judgments.get(key.content_id)
    judged = None if judgments is None else judging.by_row(rows, judged_pairs(judgments))
    shutil.copytree(STATIC, folder / "assets")
    (folder / "data").mkdir()
    files = script_data(eval_set, rows, models, parts, pairs, judged)
    core = files.pop("core")
    for name, value in files.items():
        (folder / "data" / f"{name}.js").write_bytes(script(name, value))
    room = SITE_BYTES - _size(folder) - len(script("core", core))
    thumbnails = write_thumbnails(eval_set, rows.shown, folder / "thumbs", room)
    (folder / "data" / "core.js").write_bytes(script("core", {**core, "thumbs": thumbnail_index(thumbnails)}))
    of_set, elsewhere = [], []
    for row in board.document["reported"]:
        (of_set if is_of(row, table) else elsewhere).append(reported_row(row))
    html = render(
        table=table,
        models=models,
        reported=of_set,
        elsewhere=elsewhere,
        eval_set=eval_set,
        strengths=parts,
        fewest_images=FEWEST_IMAGES,
        others=_others(board, eval_set),
        skipped=[(one.path.name, one.reason) for one in board.skipped],
        images=len(rows.shown),
        judged="" if judged is None else judging.summary(rows, judged),
        thumbnails=thumbnails,
    )
    (folder / "index.html").write_text(html, encoding="utf-8", newline="\n")
    (folder / MARKER).write_text(json.dumps({"content_id": eval_set.content_id}) + "\n", encoding="utf-8")


def thumbnail_index(thumbnails: Thumbnails) -> dict[str, Any]:
    """Return what cuts an image out of its sheet; a size is width * 256 + height."""
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
    page.filters |= {"breakable": breakable, "with_code": with_code}
    sources = content["eval_set"].manifest.get("sources", {})
    rows: list[Row] = content["table"]["rows"] + content["reported"]
    highest = max(row[key] or 0 for row in rows for key in ("ndcg_at_10", "ndcg_at_10_ci_high"))
    return page.get_template("index.html.j2").render(
        runs=[model for model in content["models"] if model.ranks],
        axis_end=max(1, math.ceil(10 * highest)) / 10,
        rank_cell=cells_of("who")[0],
        score_cells=_score_cells(content["table"]),
        pool_cells=_optional_cells(content["table"], "pool"),
        pool_lines=pool_lines(content["models"]),
        arms=arm_counts(content["models"]),
        random_row=random_row(content["table"]),
        rank_note=RANK_NOTE,
        grades=judging.words(),
        caveats=caveats.of_table(content["table"]),
        run_cells=cells_of("run"),
        bibtex=bibtex(content["table"], (one["bibtex"] for one in sources.values())),
        **content,
    )


def _score_cells(table: dict[str, Any]) -> list[Cell]:
    """Return the cells of the leaderboard; the corrected score stands beside that by the labels, with its interval."""
    cells, judged = cells_of("scores", one_relevant=table["one_relevant"]), _optional_cells(table, "judgments")
    by_labels = sum(cell.place <= INTERVAL_PLACE for cell in cells)
    return [*cells[:by_labels], *judged[:2], *cells[by_labels:], *judged[2:]]


def _optional_cells(table: dict[str, Any], needs: str) -> list[Cell]:
    return [cell for cell in cells_of("scores", rows=table["rows"]) if cell.optional == needs]


def breakable(name: str) -> Any:
    """Return the HTML of a run's name, which may go on in the next line after the model and between options."""
    from markupsafe import Markup, escape

    return Markup("<wbr>").join(escape(part) for part in re.split(r"(?<=[/,=])|(?=\[)", name))


def with_code(line: str) -> Any:
    """Return the HTML of a line in which `...` is what can be typed."""
    from markupsafe import Markup, escape

    parts = [escape(part) for part in line.split("`")]
    parts[1::2] = [Markup("<code>{}</code>").format(part) for part in parts[1::2]]
    return Markup().join(parts)


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
