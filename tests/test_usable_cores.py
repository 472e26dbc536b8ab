"""How many processors there are for us: what the process and its control group may use, not what the machine has."""

import os

import pytest

from mteb_vehicle_search import settings


@pytest.fixture
def group(tmp_path, monkeypatch):
    """A control group that grants everything, on 8 processors."""
    monkeypatch.setattr(settings, "CONTROL_GROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    return tmp_path


def test_the_affinity_decides_where_nothing_else_does(group):
    assert settings.usable_cores() == 8


@pytest.mark.parametrize(("cores", "usable"), [(5, 5), (None, 1)])
def test_where_there_is_no_affinity_the_machine_decides(group, monkeypatch, cores, usable):
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert settings.usable_cores() == usable


@pytest.mark.parametrize(
    ("said", "usable"),
    [
        ("max 100000\n", 8),
        ("300000 100000\n", 3),
        ("350000 100000\n", 3),
        ("50000 100000\n", 1),
        ("1600000 100000\n", 8),
        ("", 8),
        ("300000\n", 8),
        ("300000 0\n", 8),
        ("words words\n", 8),
    ],
)
def test_a_quota_of_the_second_version(group, said, usable):
    (group / "cpu.max").write_text(said, encoding="ascii")
    assert settings.usable_cores() == usable


@pytest.mark.parametrize(
    ("quota", "period", "usable"),
    [("-1\n", "100000\n", 8), ("200000\n", "100000\n", 2), ("10000\n", "100000\n", 1), ("200000\n", None, 8)],
)
def test_a_quota_of_the_first_version(group, quota, period, usable):
    (group / "cpu").mkdir()
    (group / "cpu" / "cpu.cfs_quota_us").write_text(quota, encoding="ascii")
    if period:
        (group / "cpu" / "cpu.cfs_period_us").write_text(period, encoding="ascii")
    assert settings.usable_cores() == usable


@pytest.mark.parametrize(("said", "usable"), [("3", 3), ("16", 16), ("0.5", 1), ("", 8)])
def test_what_is_set_decides_before_all_else(group, monkeypatch, said, usable):
    monkeypatch.setenv("VEHICLE_SEARCH_CORES", said)
    assert settings.usable_cores() == usable
