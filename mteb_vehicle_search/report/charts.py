"""Numbers of the growth curves and of the strengths by stratum, ready to be drawn."""

from __future__ import annotations

import math
import re
from typing import Any

from mteb_vehicle_search.errors import VehicleSearchError
from mteb_vehicle_search.run_record import RunRecord

WIDTH, HEIGHT = 640, 240
VEHICLES = {
    "motorcycle": "motorcycles?|motorbikes?|mopeds?|scooters?|dirt ?bikes?",
    "bicycle": "bicycles?|bikes?|cyclists?|bmx|bicyclists?",
    "bus": "bus|buses|minibus",
    "train or tram": "trains?|trams?|streetcars?|subway|locomotives?",
    "truck": "trucks?|lorry|pickups?|fire engines?",
    "tractor": "tractors?|bulldozers?|excavators?",
    "van": "vans?|minivans?",
    "car": "cars?|taxis?|cabs?|jeeps?|convertibles?",
}


def growth_curves(records: list[RunRecord]) -> list[dict[str, Any]]:
    """Return points and SVG polylines of nDCG@10 against the size of the corpus; a run without ranks is told why."""
    from mteb_vehicle_search.analysis.corpus_growth import growth
    from mteb_vehicle_search.analysis.ranks import load_ranks

    curves = []
    for record in records:
        name = record.info["model_name"]
        try:
            points = growth(load_ranks(record))["ndcg_at_10"]
        except (VehicleSearchError, KeyError) as error:
            curves.append({"model": name, "points": [], "why": f"{error}"})
            continue
        places = [(_x(p.corpus_size), HEIGHT * (1 - p.value), p.method) for p in points]
        exact = [(x, y) for x, y, method in places if method == "exact"]
        beyond = exact[-1:] + [(x, y) for x, y, method in places if method != "exact"]
        curves.append({"model": name, "points": points, "exact": _line(exact), "beyond": _line(beyond)})
    return curves


def _x(size: int) -> float:
    """Place 10 to 10,000,000+ on a logarithmic axis."""
    return WIDTH * min(1.0, max(0.0, (math.log10(max(size, 10)) - 1) / 6.1))


def _line(points: list[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def vehicle(caption: str) -> str:
    """Return the first kind of vehicle in VEHICLES that a caption names."""
    for kind, words in VEHICLES.items():
        if re.search(rf"\b(?:{words})\b", caption, re.IGNORECASE):
            return kind
    return "none named"


def strengths(texts: list[str], ranks: list[Any], clusters: list[int]) -> list[dict[str, Any]]:
    """Return nDCG@10 of each model by vehicle named in the caption and by caption length, with intervals."""
    import numpy as np

    from mteb_vehicle_search.analysis.strata import words
    from mteb_vehicle_search.analysis.uncertainty import clustered_interval
    from mteb_vehicle_search.outcome import ndcg_at_10

    lengths = [len(words(text)) for text in texts]
    bins = [next(name for end, name in LENGTHS if n <= end) for n in lengths]
    divisions = {"Vehicle named in the caption": [vehicle(text) for text in texts], "Caption length": bins}
    orders = {"Vehicle named in the caption": [*VEHICLES, "none named"], "Caption length": [n for _, n in LENGTHS]}
    images = np.asarray(clusters)
    tables = []
    for title, labels in divisions.items():
        rows = []
        for label in orders[title]:
            mask = np.array([other == label for other in labels])
            if mask.any():
                cells = [clustered_interval(ndcg_at_10(r[mask]), images[mask], resamples=2000) for r in ranks]
                rows.append({"label": label, "queries": int(mask.sum()), "cells": cells})
        tables.append({"title": title, "rows": rows})
    return tables


LENGTHS = ((8, "up to 8 words"), (12, "9-12 words"), (16, "13-16 words"), (math.inf, "17 words or more"))
