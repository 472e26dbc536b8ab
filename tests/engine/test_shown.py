"""What people see of work on an engine."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
from tqdm import tqdm

from mteb_vehicle_search.engine.shown import Shown

RAY, LOCAL = SimpleNamespace(is_here=False), SimpleNamespace(is_here=True)


@pytest.fixture
def bar():
    with tqdm(total=100, file=io.StringIO(), mininterval=0) as bar:
        yield bar


def test_a_bar_counts_forth_and_back_and_tells_the_workers(bar):
    shown = Shown(bar, RAY)
    shown.workers(3, 2)
    shown.progress(40)
    shown.progress(-10)
    assert bar.n == 30
    bar.refresh()
    assert "30/100" in bar.fp.getvalue().rpartition("\r")[2]
    assert "workers: 3, nodes: 2" in bar.fp.getvalue()


def test_a_note_stands_beside_the_workers_and_is_replaced(bar):
    shown = Shown(bar, RAY)
    shown.note("1 of 9 shards")
    shown.workers(2, 1)
    shown.note("2 of 9 shards")
    shown.progress(1)
    bar.refresh()
    assert "2 of 9 shards, workers: 2, nodes: 1" in bar.fp.getvalue().rpartition("\r")[2]
    assert "1 of 9" not in bar.fp.getvalue().rpartition("\r")[2]


def test_this_process_is_no_worker_to_tell_of(bar):
    Shown(bar, LOCAL).workers(1, 1)
    bar.refresh()
    assert "workers" not in bar.fp.getvalue()


def test_each_lost_worker_is_told_in_a_line(bar, capsys):
    shown = Shown(bar, RAY)
    shown.lost("A worker on a was lost: it hung.")
    assert bar.fp.getvalue().endswith(", lost: 1]")
    shown.lost("A worker on b was lost: it hung.")
    assert bar.fp.getvalue().endswith(", lost: 2]")
    assert capsys.readouterr().err == (
        "warning: A worker on a was lost: it hung.\nwarning: A worker on b was lost: it hung.\n"
    )


def test_what_the_check_raises_ends_the_work_before_it_is_counted(bar):
    def check():
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        Shown(bar, RAY, check).progress(3)
    assert bar.n == 0
