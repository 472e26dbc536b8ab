"""`vehicle-search query`: search a corpus for any text, or for an image, and look at what a model finds."""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import webbrowser
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mteb_vehicle_search import settings, terminal
from mteb_vehicle_search.errors import UsageError
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.eval_set.known import chosen_folder, set_named
from mteb_vehicle_search.eval_set.schema import first_name
from mteb_vehicle_search.plugin.asked import require_model
from mteb_vehicle_search.run_record import RunRecord

BEST = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("model", metavar="MODEL", help="a model that mteb knows")
    parser.add_argument("text", metavar="TEXT", nargs="?", help='what to search for, such as "red bus in the snow"')
    parser.add_argument("--image", type=Path, metavar="FILE", help="search for what looks like this image instead")
    parser.add_argument(
        "--data", metavar="SET", help="folder or task name of a set (default: the built one, else the embedded Mini)"
    )
    parser.add_argument(
        "-k", type=terminal.positive, default=BEST, metavar="N", help=f"images to show (default: {BEST})"
    )
    parser.add_argument("--out", type=Path, metavar="FILE.html", help="write the page here, and open no browser")
    parser.add_argument("--no-open", action="store_true", help="open no browser")
    parser.add_argument("--revision", metavar="REVISION", help="of the model")
    parser.add_argument("--batch-size", type=terminal.positive, default=32, metavar="N", help="(default: 32)")


def main(args: argparse.Namespace) -> int:
    """Search, write the page, and say where it is."""
    if (args.text is None) == (args.image is None):
        raise UsageError(
            "Say what to search for: a text, or --image FILE.", 'vehicle-search query MODEL "red bus in the snow"'
        )
    if args.image is not None and not args.image.is_file():
        raise UsageError(f"There is no file {args.image}.")
    settings.check()
    eval_set = choose_set(args.data)
    hits = _hits(args, eval_set)
    from mteb_vehicle_search.report.results_page import facts_of, write_results

    asked = args.text if args.image is None else args.image.name
    path = args.out or settings.home() / "queries" / f"{_file_name(f'{args.model} {asked}')}.html"
    write_results(path, eval_set, hits, asked=asked, model=args.model, image=args.image)
    facts = facts_of(eval_set, [hit.image for hit in hits])
    rows = [
        (place, f"{hit.score:.4f}", hit.image, fact["source"], first_name(fact["class_name"]))
        for place, (hit, fact) in enumerate(zip(hits, facts), start=1)
    ]
    terminal.print_rows(asked, ["rank", "score", "image", "source", "class"], rows)
    print(f"Wrote {path.absolute()}")  # noqa: T201
    if not (args.out or args.no_open):
        webbrowser.open(path.absolute().as_uri())
    return 0


def choose_set(data: str | None) -> EvalSet:
    """Return the set in a folder or of a task's name; by default the chosen one if it is there, else Mini.

    Raises:
        UsageError: There is none of this name.
        DataNotFoundError, EvalSetError: The folder holds none, or a damaged one.
    """
    if data is None:
        chosen = chosen_folder()
        return EvalSet.open(chosen if (chosen / "manifest.json").is_file() else settings.mini_folder())
    return set_named(data)


def _hits(args: argparse.Namespace, eval_set: EvalSet) -> list[Any]:
    import mteb

    import mteb_vehicle_search

    mteb_vehicle_search.register()
    require_model(args.model, args.revision, [])
    model = mteb.get_model(args.model, args.revision)
    # They import torch.
    from mteb_vehicle_search.search.free_search import FLOAT_BYTES, Corpus
    from mteb_vehicle_search.tasks import task_of

    corpus = Corpus(model, eval_set, task_of(eval_set).metadata, args.batch_size)
    if missing := corpus.missing:
        size = getattr(model.mteb_model_meta, "embed_dim", None)
        room = f", {terminal.in_bytes(missing * size * FLOAT_BYTES)}" if size else ""
        sys.stderr.write(
            f"{missing:,} images of {eval_set.title} are encoded first, once, which takes "
            f"{_time_to_encode(missing, RunRecord.find(), str(model.mteb_model_meta.name))}; their vectors are kept in "
            f"{corpus.folder}{room}.\n"
        )
        corpus.encode()
    if args.image is None:
        return corpus.find_text(args.text, args.k)
    with tempfile.TemporaryDirectory(prefix="vehicle-search-") as folder:
        return corpus.find_image(args.image, args.k, Path(folder))


def _time_to_encode(images: int, records: Iterable[RunRecord], model: str) -> str:
    """Return in words how long it takes, at the rate of the model's newest run that encoded any."""
    own = [one.info for one in records if one.key.model == model]
    rates = [(str(info.get("finished")), info.get("images_per_s")) for info in own]
    timed = [(finished, rate) for finished, rate in rates if isinstance(rate, int | float) and rate > 0]
    if not timed:
        return "as long as a run does"
    _, rate = max(timed)
    minutes = images / rate / 60
    time = f"about {minutes:,.0f} min" if minutes >= 1 else "less than a minute"
    return f"{time} at the {f'{rate:,.0f}' if rate >= 10 else f'{rate:.2g}'} images/s of its last run here"


def _file_name(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:80] or "query"
