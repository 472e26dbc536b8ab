"""The columns that somebody asks for by name, `--columns`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from mteb_vehicle_search.analysis.columns import Cell, row_columns
from mteb_vehicle_search.errors import UsageError


def add_columns_argument(parser: argparse.ArgumentParser) -> None:
    """Add --columns."""
    parser.add_argument(
        "--columns",
        metavar="NAME[,NAME...]",
        type=lambda text: [name.strip() for name in text.split(",") if name.strip()],
        help="the columns beside rank and model, in one table: 'all', or some of "
        f"{', '.join(key for key, cell in shown_columns().items() if cell.table != 'who')}",
    )


def shown_columns() -> dict[str, Cell]:
    """Return the cells that tables can show by the names that people type: the keys of their fields."""
    return {column.key.removesuffix("_low"): column.cell for column in row_columns().values() if column.cell}


def chosen_cells(names: Sequence[str]) -> list[Cell]:
    """Return rank and model, and the cells of these names in the order of the names.

    Raises:
        UsageError: There is no such column.
    """
    known = shown_columns()
    who = {key: cell for key, cell in known.items() if cell.table == "who"}
    for name in names:
        if name not in known:
            others = ", ".join(key for key in known if key not in who)
            raise UsageError(f"There is no column {name!r}.", f"Choose 'all', or some of {others}.")
    return [*who.values(), *(known[name] for name in dict.fromkeys(names) if name not in who)]
