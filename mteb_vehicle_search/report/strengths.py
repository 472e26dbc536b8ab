"""How well each model does by the kind of vehicle that a caption names, and by the caption's length."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from mteb_vehicle_search.analysis.strata import words
from mteb_vehicle_search.analysis.uncertainty import Interval, clustered_interval

if TYPE_CHECKING:
    from mteb_vehicle_search.analysis.ranks import RunRanks

# In this order: what a kind has matched is taken out, so that a dirt bike is no bicycle and a golf cart no car.
VEHICLES = {
    "motorcycle": r"motor ?cycles?|motor ?cyclists?|motor ?bikes?|mopeds?|scooters?|dirt ?bikes?|atvs?|quads?",
    "bicycle": r"bicycles?|bikes?|bikers?|cyclists?|bicyclists?|bmx|unicycles?|tricycles?",
    "bus": r"bus|buses|mini ?bus(?:es)?|double[- ]deckers?|coach(?:es)?",
    "train or tram": r"train cars?|trains?|trams?|street ?cars?|trolleys?|subways?|locomotives?|railway cars?|metro",
    "truck": r"trucks?|lorry|lorries|pickups?|fire ?engines?|fire ?trucks?|semis?|ambulances?",
    "tractor or machine": r"tractors?|bulldozers?|excavators?|forklifts?|backhoes?|snow ?plows?|cranes?|mowers?",
    "cart or carriage": r"(?:golf )?carts?|carriages?|wagons?|rickshaws?|bugg(?:y|ies)",
    "sled": r"sleds?|sleighs?|bobsleds?|bobsleighs?|snowmobiles?|dogsleds?",
    "boat or aircraft": r"boats?|ships?|canoes?|kayaks?|ferry|ferries|planes?|airplanes?|aircraft|helicopters?",
    "van or camper": r"vans?|mini ?vans?|campers?|rvs?|motor ?homes?|caravans?",
    "car": r"cars?|race ?cars?|taxis?|taxicabs?|cabs?|jeeps?|convertibles?|sedans?|limousines?|limos?|suvs?"
    r"|automobiles?|autos?|go-?karts?|karts?",
}
NONE_NAMED = "none named"
LENGTHS = {"up to 8 words": 8, "9 to 12 words": 12, "13 to 16 words": 16, "17 words or more": 10**9}
BY_VEHICLE, BY_LENGTH = "Vehicle named in the caption", "Caption length"
RESAMPLES = 2_000


class Part(NamedTuple):
    """Some of the queries.

    Attributes:
        label: What they have in common.
        queries: Their number.
        scores: nDCG@10 of each model with its 95 % interval.
    """

    label: str
    queries: int
    scores: list[Interval]


def vehicles(caption: str) -> list[str]:
    """Return every kind of VEHICLES that a caption names, or NONE_NAMED."""
    found, rest = [], caption
    for kind, pattern in VEHICLES.items():
        rest, count = re.subn(rf"\b(?:{pattern})\b", " ", rest, flags=re.IGNORECASE)
        found += [kind] if count else []
    return found or [NONE_NAMED]


def groups(captions: Sequence[str]) -> dict[str, dict[str, list[int]]]:
    """Return, by division and label, the positions of the captions; one may name several vehicles."""
    divisions: dict[str, dict[str, list[int]]] = {
        BY_VEHICLE: {label: [] for label in (*VEHICLES, NONE_NAMED)},
        BY_LENGTH: {label: [] for label in LENGTHS},
    }
    for at, caption in enumerate(captions):
        for kind in vehicles(caption):
            divisions[BY_VEHICLE][kind].append(at)
        count = len(words(caption))
        divisions[BY_LENGTH][next(label for label, end in LENGTHS.items() if count <= end)].append(at)
    return {title: {label: at for label, at in parts.items() if at} for title, parts in divisions.items()}


def strengths(captions: Sequence[str], runs: Sequence[RunRanks]) -> dict[str, list[Part]]:
    """Return, by division, the parts with the scores of each run; captions in the order of the runs' queries."""
    values: list[Any] = [run.scores("ndcg_at_10") for run in runs]
    clusters = runs[0].clusters
    return {
        title: [
            Part(label, len(at), [clustered_interval(v[at], clusters[at], resamples=RESAMPLES) for v in values])
            for label, at in parts.items()
        ]
        for title, parts in groups(captions).items()
    }
