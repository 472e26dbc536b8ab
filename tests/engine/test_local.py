"""The seam, and the engine that needs nothing: which one is taken, one worker, in order, no more than is drawn."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import count

import pytest
from engine_workers import Miscounted, Notes, Seen, Squares

from mteb_vehicle_search.engine import Listener, engine_of
from mteb_vehicle_search.engine.local import LocalEngine
from mteb_vehicle_search.errors import EngineError, SettingsError, UsageError


@pytest.mark.parametrize(
    ("asked", "variable"), [(None, None), ("local", None), (None, "local"), (None, ""), ("local", "ray")]
)
def test_the_local_engine_is_the_default_and_the_argument_goes_before_the_variable(monkeypatch, asked, variable):
    if variable is not None:
        monkeypatch.setenv("VEHICLE_SEARCH_ENGINE", variable)
    assert isinstance(engine_of(asked), LocalEngine)


@pytest.mark.parametrize(("name", "meant"), [("Ray", "ray"), ("lokal", "local"), ("spark", "local or ray")])
def test_an_unknown_engine_is_refused_with_the_nearest(monkeypatch, name, meant):
    with pytest.raises(UsageError, match=rf"no engine '{name}'; did you mean {meant}\?"):
        engine_of(name)
    monkeypatch.setenv("VEHICLE_SEARCH_ENGINE", name)
    with pytest.raises(UsageError, match=rf"no engine '{name}'"):
        engine_of()


def test_without_ray_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "mteb_vehicle_search.engine.ray", raising=False)
    with pytest.raises(UsageError) as caught:
        engine_of("ray")
    assert str(caught.value) == "The engine 'ray' is not installed.\npip install 'mteb-vehicle-search[ray]'"


def test_units_are_done_in_order_and_progress_is_told():
    notes = Notes()
    with engine_of() as engine:
        assert list(engine.map(Squares(steps=3), [3, 1, 2], listener=notes)) == [(0, 9), (1, 1), (2, 4)]
    assert (notes.counts, notes.staff, notes.losses) == ([1] * 9, [(1, 1)], [])


def test_no_more_is_drawn_than_is_needed():
    with engine_of() as engine:
        results = engine.map(Seen(), count())
        assert next(results) == (0, [0])
        assert next(results) == (1, [0, 1])
        # A worker may draw ahead of what it yields.
        assert next(engine.map(Seen(ahead=2), count())) == (0, [0, 1, 2])


def test_without_units_no_worker_is_made():
    with engine_of() as engine:
        assert list(engine.map(None, [])) == []


def test_a_worker_stays_for_the_next_units_until_another_is_asked_for():
    with engine_of() as engine:
        assert list(engine.map(Seen(), [1])) == [(0, [1])]
        assert list(engine.map(Seen(), [2])) == [(0, [1, 2])]
        assert list(engine.map(Seen(ahead=1), [3])) == [(0, [3])]
        assert list(engine.map(Seen(), [4])) == [(0, [4])]
    with engine:
        assert list(engine.map(Seen(), [5])) == [(0, [5])]


@pytest.mark.parametrize(("results", "said"), [(1, "ended 1 results short"), (3, "more results than it drew units")])
def test_a_worker_that_miscounts_is_refused(results, said):
    with engine_of() as engine, pytest.raises(EngineError, match=f"Miscounted.*{said}"):
        list(engine.map(Miscounted(results), [7, 8]))


def test_a_listener_need_not_listen():
    listener = Listener()
    assert [listener.progress(1), listener.workers(1, 1), listener.lost("")] == [None] * 3


def test_it_is_said_where_work_would_be_done(monkeypatch):
    monkeypatch.setenv("VEHICLE_SEARCH_CORES", "5")
    assert engine_of().describe() == "This process, with 5 processors."


@pytest.mark.parametrize("variable", ["UNIT_TIMEOUT_S", "NODE_TIMEOUT_S", "WORKER_CPUS"])
def test_what_the_variables_of_ray_say_is_looked_at_before_anything_starts(monkeypatch, variable):
    pytest.importorskip("ray")
    monkeypatch.setenv(f"VEHICLE_SEARCH_{variable}", "never")
    with pytest.raises(SettingsError, match=f"{variable}=never"):
        engine_of("ray")


def test_a_local_run_imports_nothing_of_ray_nor_anything_heavy():
    code = (
        "import sys; from engine_workers import Squares; from mteb_vehicle_search.engine import engine_of\n"
        "with engine_of() as engine: assert dict(engine.map(Squares(), [2])) == {0: 4}\n"
        "print(sorted({'ray', 'numpy', 'torch', 'mteb'} & set(sys.modules)))"
    )
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
