"""`vehicle-search report`: write the page."""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any

from mteb_vehicle_search.analysis.columns import ROW
from mteb_vehicle_search.analysis.leaderboard import Leaderboard, build_leaderboard
from mteb_vehicle_search.analysis.ranks import RunRanks
from mteb_vehicle_search.analysis.runs import RUNS_HELP
from mteb_vehicle_search.analysis.strata import strengths
from mteb_vehicle_search.errors import ResultsError, VehicleSearchError
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.files import new_folder
from mteb_vehicle_search.report.page_data import gather, growth_of, script_data
from mteb_vehicle_search.report.thumbnails import COLUMNS, PER_SHEET, Thumbnails, write_thumbnails
from mteb_vehicle_search.settings import evaluation_data, mini_folder

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
    evaluation = choose_evaluation(board, args.data)
    for table in _others(board, evaluation):
        sys.stderr.write(f"not on the page: {_what(table)}, another evaluation set than {evaluation.folder}\n")
    size = build_report(board, evaluation, args.out)
    if size > SITE_BYTES:
        sys.stderr.write(f"The pictures are as small as they get; the site is larger than {SITE_BYTES / 1e6:.0f} MB.\n")
    print(f"Wrote {args.out / 'index.html'} ({size / 1e6:.1f} MB).")  # noqa: T201
    return 0


def choose_evaluation(board: Leaderboard, data: Path | None = None) -> EvalSet:
    """Return the evaluation set in `data`, or the first of the usual ones that has runs.

    Raises:
        ResultsError: There is no run on it; says what there is.
        DataNotFoundError, EvalSetError: `data` is not an evaluation set.
    """
    with_runs = {content_id for _, content_id in board.ranks}
    if data is not None:
        evaluation = EvalSet.open(data)
        if evaluation.content_id in with_runs:
            return evaluation
        asked = f"{data} (content id {evaluation.content_id[:12]})"
    else:
        for folder in (evaluation_data(), mini_folder()):
            try:
                evaluation = EvalSet.open(folder)
            except VehicleSearchError:
                continue
            if evaluation.content_id in with_runs:
                return evaluation
        asked = f"{evaluation_data()} or the embedded Mini"
    found = [_what(table) for table in board.document["tables"]]
    if not with_runs:
        raise ResultsError(
            f"There is no run record of {asked}{': only ' if found else ''}{'; '.join(found)}.", RUN_HINT
        )
    raise ResultsError(
        f"There is no run record of {asked}. There are {'; '.join(found)}.",
        "Name the evaluation set that the runs were made on: --data FOLDER",
    )


def _others(board: Leaderboard, evaluation: EvalSet) -> list[dict[str, Any]]:
    return [table for table in board.document["tables"] if table["content_id"] != evaluation.content_id]


def _what(table: dict[str, Any]) -> str:
    models = ", ".join(row["model"] for row in table["rows"])
    records = "" if any(row["has_run_record"] for row in table["rows"]) else ", no run record"
    return f"{models} on {table['task']} (content id {table['content_id'][:12]}{records})"


def build_report(board: Leaderboard, evaluation: EvalSet, out: Path) -> int:
    """Write the site into `out` (replacing an earlier one) and return its size in bytes.

    Raises:
        ResultsError: `out` holds something else, or a run record is damaged.
        EvalSetError: An image cannot be decoded.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())) and not (out / MARKER).is_file():
        raise ResultsError(f"{out} holds other files; they are left alone.", "Choose another folder with --out.")
    table = next(table for table in board.document["tables"] if table["content_id"] == evaluation.content_id)
    ranks = board.ranks[table["task"], table["content_id"]]
    try:
        with new_folder(out.absolute()) as partial:
            _write_site(partial, board, evaluation, table, ranks)
    except OSError as error:
        raise ResultsError(f"{out} cannot be written: {error}.") from error
    return _size(out)


def _write_site(
    folder: Path,
    board: Leaderboard,
    evaluation: EvalSet,
    table: dict[str, Any],
    ranks: dict[tuple[str, str], RunRanks],
) -> None:
    shown = [row for row in table["rows"] if (row["model"], row["revision"]) in ranks]
    runs = [ranks[row["model"], row["revision"]] for row in shown]
    names = [_name(row, table["rows"]) for row in shown]
    rows = gather(evaluation, runs)
    growths = [growth_of(run, name) for run, name in zip(runs, names)]
    parts = strengths([rows.texts[at] for at in runs[0].first.tolist()], runs)
    shutil.copytree(STATIC, folder / "assets")
    (folder / "data").mkdir()
    files = script_data(evaluation, rows, names, growths, parts)
    for name, value in files.items():
        write_script(folder / "data" / f"{name}.js", name, value)
    thumbnails = write_thumbnails(evaluation, rows.shown, folder / "thumbs", SITE_BYTES - _size(folder))
    files["core"]["thumbs"] = thumbnail_index(thumbnails)
    write_script(folder / "data" / "core.js", "core", files["core"])
    reported = [{**dict.fromkeys(ROW), **row} for row in board.document["reported"]]
    html = render(
        table=table,
        rows=[(row, _name(row, table["rows"]), shown.index(row) if row in shown else None) for row in table["rows"]],
        reported=[row for row in reported if row["task"] == table["task"]],
        elsewhere=[row for row in reported if row["task"] != table["task"]],
        evaluation=evaluation,
        names=names,
        runs=[run.record.info for run in runs],
        growths=growths,
        strengths=parts,
        others=[_what(other) for other in _others(board, evaluation)],
        skipped=[(one.path.name, one.reason) for one in board.skipped],
        images=len(rows.shown),
        thumbnails=thumbnails,
    )
    (folder / "index.html").write_text(html, encoding="utf-8", newline="\n")
    (folder / MARKER).write_text(json.dumps({"content_id": evaluation.content_id}) + "\n", encoding="utf-8")


def _name(row: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """Return the model's name, with its revision if several of them are shown."""
    several = sum(other["model"] == row["model"] for other in rows) > 1
    return f"{row['model']}@{row['revision'][:12]}" if several else row["model"]


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

    from mteb_vehicle_search.analysis.formats import RUN, SCORES
    from mteb_vehicle_search.citations import bibtex

    page = Environment(
        loader=PackageLoader("mteb_vehicle_search.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shown = content["table"]["rows"] + content["reported"]
    highest = max(row[key] or 0 for row in shown for key in ("ndcg_at_10", "ndcg_at_10_ci_high"))
    return page.get_template("index.html.j2").render(
        axis_end=max(1, math.ceil(10 * highest)) / 10,
        score_columns=SCORES,
        run_columns=RUN,
        bibtex=bibtex(content["table"]),
        **content,
    )


def embed(value: Any) -> str:
    """Return JSON that is safe inside a script, whatever the captions hold."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for bad in "<>&\u2028\u2029":
        text = text.replace(bad, f"\\u{ord(bad):04x}")
    return text


def write_script(path: Path, name: str, value: Any) -> None:
    """Write a script that puts a value into `window.VS`; `file://` pages may load scripts but not JSON."""
    text = f"(window.VS=window.VS||{{}}).{name}={embed(value)};\n"
    # Half of a surrogate pair in a caption has no UTF-8; it becomes a question mark.
    path.write_text(text, encoding="utf-8", newline="\n", errors="replace")


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
