"""A leaderboard column: how many texts were encoded per second."""

from __future__ import annotations

from mteb_vehicle_search.analysis.columns import NUMBER, Cell, Column, number

COLUMN = Column(
    "texts_per_s",
    NUMBER,
    "texts encoded per second",
    lambda entry: entry.info.get("texts_per_s"),
    Cell("run", "texts/s", number("texts_per_s", ",.0f")),
)
