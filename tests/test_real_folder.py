"""Where tests look for the real photographs."""

from __future__ import annotations

from pathlib import Path

import real

from mteb_vehicle_search import settings


def test_the_chosen_folder_counts_then_the_one_beside_the_repository(tmp_path, monkeypatch):
    monkeypatch.delenv(real.HANDED_ON, raising=False)
    assert real.BESIDE.parts[-2:] == ("shared", "real")
    assert real.BESIDE.parents[1] == Path(__file__).parents[2]
    monkeypatch.setattr(real, "BESIDE", tmp_path / "beside")
    assert real.real_folder() is None
    (tmp_path / "beside").mkdir()
    assert real.real_folder() == tmp_path / "beside"
    (tmp_path / "chosen").mkdir()
    monkeypatch.setenv(real.HANDED_ON, str(tmp_path / "chosen"))
    assert real.real_folder() == tmp_path / "chosen"
    monkeypatch.setenv(real.HANDED_ON, str(tmp_path / "nowhere"))
    assert real.real_folder() is None


def test_the_product_sees_no_variable_of_the_tests():
    assert [sentence for sentence in settings.misspelt() if "REAL" in sentence] == []
