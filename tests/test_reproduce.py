"""`vehicle-search reproduce` with stand-ins for the two models."""

import argparse
import json
import os
from pathlib import Path

import pytest
from small_set import small_set
from stand_ins import SMALL_CLIP, TINY_JINA, put_into_hub_cache, random_open_clip, tiny_jina

from mteb_vehicle_search import reproduce
from mteb_vehicle_search.errors import DataNotFoundError, ResultsError
from mteb_vehicle_search.models import jina_clip, jina_clip_v2, jina_layout, metaclip_1_2
from mteb_vehicle_search.models.checkpoint import Checkpoint
from mteb_vehicle_search.run_record import RunRecord


def arguments(*given):
    parser = argparse.ArgumentParser()
    reproduce.add_arguments(parser)
    return parser.parse_args(given)


@pytest.fixture
def original(tmp_path, monkeypatch):
    """A small set that passes for the original."""
    small_set(tmp_path / "set")
    monkeypatch.setenv("VEHICLE_SEARCH_DATA", str(tmp_path / "set"))
    monkeypatch.setattr(reproduce, "ORIGINAL_IMAGES", 36)
    monkeypatch.setattr(reproduce, "ORIGINAL_QUERIES", 12)


def test_published_scores_are_those_of_the_results_folder():
    reported = json.loads((Path(__file__).parent.parent / "results" / "reported.json").read_text())["reported"]
    assert [one.ndcg_at_10 for one in reproduce.PUBLISHED.values()] == [r["scores"]["ndcg_at_10"] for r in reported]


@pytest.mark.parametrize(("shift", "status", "word"), [(0.0004, 0, "pass"), (-0.02, 1, "FAIL")])
def test_measured_is_held_against_published(original, monkeypatch, capsys, shift, status, word):
    modes = []

    def evaluate(model, batch_size, device):
        modes.append({name: os.environ[name] for name in reproduce.MODE})
        wanted = next(p for p in reproduce.PUBLISHED.values() if p.model == model).ndcg_at_10
        measured = wanted + shift
        return {
            "ndcg_at_10": measured,
            "ndcg_at_10_ci_low": measured - 0.01,
            "ndcg_at_10_ci_high": measured + 0.01,
        }

    monkeypatch.setattr(reproduce, "evaluate", evaluate)
    monkeypatch.setenv("VEHICLE_SEARCH_PRECISION", "bf16")
    assert reproduce.main(arguments()) == status
    shown = capsys.readouterr().out
    assert shown.count(word) == 2
    assert "0.51109" in shown
    assert "0.38448" in shown
    assert modes == [reproduce.MODE, reproduce.MODE]
    assert os.environ["VEHICLE_SEARCH_PRECISION"] == "bf16"
    assert "VEHICLE_SEARCH_PREPROCESS" not in os.environ


def test_a_stand_in_model_goes_the_whole_way(original, monkeypatch, capsys):
    stand_in = reproduce.Published("mteb/baseline-random-encoder", 0.5)
    monkeypatch.setitem(reproduce.PUBLISHED, "metaclip", stand_in)
    assert reproduce.main(arguments("--models", "metaclip", "--tolerance", "1")) == 0
    assert "mteb/baseline-random-encoder" in capsys.readouterr().out


def test_both_models_go_the_whole_way_in_the_published_mode(original, tmp_path, monkeypatch, capsys):
    """The real entries and loaders, with small checkpoints in the hub's cache in place of the real ones."""
    metaclip, jina = metaclip_1_2(), jina_clip_v2()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    put_into_hub_cache(tmp_path, metaclip.name, metaclip.revision, random_open_clip(tmp_path / "clip", SMALL_CLIP))
    put_into_hub_cache(tmp_path, jina.name, jina.revision, tiny_jina(tmp_path / "jina"))
    monkeypatch.setattr(jina_clip, "DIGESTS", {})
    counts = jina_layout.count_parameters(Checkpoint(TINY_JINA / "model.safetensors").shapes)
    monkeypatch.setattr(jina_layout, "PUBLISHED_PARAMETERS", counts)
    monkeypatch.setenv("VEHICLE_SEARCH_PRECISION", "bf16")
    monkeypatch.setenv("VEHICLE_SEARCH_PREPROCESS", "fast")
    assert reproduce.main(arguments("--device", "cpu", "--batch-size", "8", "--tolerance", "1")) == 0
    shown = capsys.readouterr().out
    records = {record.info["model_name"]: record.info for record in RunRecord.find()}
    assert set(records) == {metaclip.name, jina.name}
    for name, info in records.items():
        assert (info["precision"], info["encoder"]["preprocess"], info["batch_size"]) == ("fp32", "exact", 8)
        (line,) = [line for line in shown.splitlines() if line.startswith(name)]
        assert f"{info['scores']['ndcg_at_10']:.5f}" in line
        assert f"{info['scores']['ndcg_at_10_ci_low']:.5f}" in line
        assert line.endswith("pass")


def test_another_set_is_refused(original, monkeypatch):
    monkeypatch.setattr(reproduce, "ORIGINAL_IMAGES", 68_154)
    with pytest.raises(ResultsError, match="36 images"):
        reproduce.main(arguments())


def test_missing_data_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("VEHICLE_SEARCH_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(DataNotFoundError):
        reproduce.main(arguments())
