"""Runs in TREC's form, `query Q0 image rank score tag` a line: read as a whole, and refused by the line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from mteb_vehicle_search.errors import ResultsError

FIELDS = ("query", "q0", "image", "rank", "score", "tag")
FORM = "A line is 'QUERY Q0 IMAGE RANK SCORE TAG', six words with blanks between them."


class Lines(NamedTuple):
    """The lines of a run, n of them, by number of query and image.

    Attributes:
        queries: int64 [n], places in the ids of the queries that were given.
        images: int64 [n], places in the ids of the images.
        scores: float64 [n], finite.
        told_ranks: int64 [n], the column of ranks; None where it is none (not whole numbers).
        tag: What the run calls itself.
    """

    queries: np.ndarray
    images: np.ndarray
    scores: np.ndarray
    told_ranks: np.ndarray | None
    tag: str


def read_lines(path: Path, query_ids: Sequence[str], image_ids: Sequence[str]) -> Lines:
    """Read a run of one evaluation set, whose ids are given.

    Raises:
        ResultsError: It cannot be read, a line has another form, names what the set lacks, repeats an image of its
            query or has no finite score, or there are several runs in the file; says the line, and how many there are.
    """
    table: Any = _table(path)
    queries = _known(path, table["query"], query_ids, "query")
    images = _known(path, table["image"], image_ids, "image")
    scores = _numbers(table["score"])
    _refuse(path, ~np.isfinite(scores), lambda at: f"{table['score'].iloc[at]!r} is no finite score")
    twice = pd.DataFrame({"query": queries, "image": images}).duplicated().to_numpy()
    _refuse(path, twice, lambda at: f"query {table['query'].iloc[at]!r} lists {table['image'].iloc[at]!r} again")
    tags = table["tag"].unique().tolist()
    if len(tags) > 1:
        raise ResultsError(f"{path} holds several runs: {', '.join(map(repr, tags[:5]))}.", "Import them one by one.")
    ranks = _numbers(table["rank"])
    whole = bool(np.all(np.isfinite(ranks) & (ranks == np.floor(ranks)) & (np.abs(ranks) < 2**53)))
    return Lines(queries, images, scores, ranks.astype(np.int64) if whole else None, str(tags[0]))


def _table(path: Path) -> pd.DataFrame:
    """Return the fields of all lines as text."""
    try:
        with path.open(encoding="utf-8") as file:
            table = pd.read_csv(
                file,
                sep=r"\s+",
                header=None,
                names=[*FIELDS, "more"],
                # Repeated texts are held once.
                dtype={
                    name: "category" if name in ("query", "q0", "image", "tag") else str for name in (*FIELDS, "more")
                },
                na_filter=False,
                quoting=3,
                skip_blank_lines=False,
                engine="c",
            )
    except FileNotFoundError as error:
        raise ResultsError(f"{path} does not exist.") from error
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ResultsError(f"{path} is no run: {str(error).strip()}.", FORM) from error
    short = table["tag"].isna().to_numpy() | (table["tag"].astype(str) == "").to_numpy()
    long = ~table["more"].isna().to_numpy() & (table["more"] != "").to_numpy()
    _refuse(path, short | long, lambda at: f"it has {'more' if long[at] else 'fewer'} than six words", FORM)
    if not len(table):
        raise ResultsError(f"{path} has no lines.", FORM)
    return table


def _numbers(column: pd.Series) -> np.ndarray:
    """Return a column of texts as numbers, float64 [n]; NaN for what is none."""
    return np.asarray(pd.to_numeric(column, errors="coerce"), dtype=np.float64)


def _known(path: Path, column: pd.Series, ids: Sequence[str], kind: str) -> np.ndarray:
    """Return the places of a column's texts among the ids."""
    place = {name: at for at, name in enumerate(ids)}
    categories = [str(name) for name in column.cat.categories]
    of_category = np.array([place.get(name, -1) for name in categories], dtype=np.int64)
    found = of_category[column.cat.codes.to_numpy()]
    unknown = int((of_category < 0).sum())
    many = f" ({unknown:,} such ids)" if unknown > 1 else ""
    _refuse(path, found < 0, lambda at: f"the set has no {kind} {column.iloc[at]!r}{many}")
    return found


def _refuse(path: Path, wrong: np.ndarray, why, hint: str | None = None) -> None:
    """Raise a ResultsError with the first line that is wrong, and how many are."""
    count = int(wrong.sum())
    if count:
        at = int(np.argmax(wrong))
        others = f", and {count - 1:,} more lines" if count > 1 else ""
        raise ResultsError(f"{path}, line {at + 1:,}{others}: {why(at)}.", hint)
