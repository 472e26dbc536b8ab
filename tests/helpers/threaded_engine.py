"""An engine whose workers are threads of this process: made elsewhere, sent to and lost as a cluster's, in no time."""

from __future__ import annotations

import pickle
from typing import Any

from engine_workers import Notes
from threaded_seats import ThreadedSeats

import mteb_vehicle_search.engine as engines
from mteb_vehicle_search.engine import Engine
from mteb_vehicle_search.engine.crew import Crew, Limits
from mteb_vehicle_search.engine.units import Units


class ThreadedEngine(Engine):
    """Has `space` workers; `drawn` are the units of each `map`, and `identities` what their workers had to be."""

    name, device = "threads", "cpu"

    def __init__(self, space: int = 3) -> None:
        self.space = space
        self.seats: list[ThreadedSeats] = []
        self.drawn: list[list[Any]] = []
        self.identities: list[Any] = []

    def __exit__(self, *error: object) -> None:
        for seats in self.seats:
            seats.unplug(len(seats.seats))

    def map(self, make_worker, units, *, identity=None, listener=None, most=None):
        carrier, drawn = ThreadedSeats(self.space), []
        self.seats.append(carrier)
        self.drawn.append(drawn)
        self.identities.append(identity)
        told = {"identity": identity or {}, "listener": listener or Notes(), "limits": Limits(60, 60)}
        seen = (drawn.append(unit) or unit for unit in units)
        yield from Crew(carrier, (pickle.dumps(make_worker), {}, []), Units(seen, most), [], **told).results()

    def describe(self):
        return f"{self.space} threads."


def installed(monkeypatch) -> ThreadedEngine:
    """Return the engine that builds get by the name "threads" from now on."""
    engine, real = ThreadedEngine(), engines.engine_of
    for module in ("data_prep.build", "data_prep.job"):
        monkeypatch.setattr(f"{module}.engine_of", lambda name=None: engine if name == "threads" else real(name))
    return engine
