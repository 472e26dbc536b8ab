"""`vehicle-search reproduce` with stand-ins for the two models."""

import argparse
import json
import os
from pathlib import Path

import mteb
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
    assert {(r["corpus_size"], r["query_count"]) for r in reported} == {
        (reproduce.ORIGINAL_IMAGES, reproduce.ORIGINAL_QUERIES)
    }


def test_the_defaults_are_the_published_way():
    given = arguments()
    assert vars(given) == {"models": ["metaclip", "jina"], "tolerance": 0.001, "batch_size": 32, "device": None}
    assert reproduce.MODE == {"precision": "fp32", "preprocess": "exact"}
    assert (reproduce.ORIGINAL_IMAGES, reproduce.ORIGINAL_QUERIES) == (68_154, 10_725)
    assert [reproduce.PUBLISHED[name].model for name in given.models] == [metaclip_1_2().name, jina_clip_v2().name]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (("--models", "jina"), {"models": ["jina"]}),
        (("--models", "jina", "metaclip"), {"models": ["jina", "metaclip"]}),
        (("--tolerance", "0.5"), {"tolerance": 0.5}),
        (("--batch-size", "7"), {"batch_size": 7}),
        (("--device", "cuda:1"), {"device": "cuda:1"}),
    ],
)
def test_an_option_changes_its_own_value_only(given, expected):
    assert vars(arguments(*given)) == {**vars(arguments()), **expected}


@pytest.mark.parametrize(
    "given", [("--models", "clip"), ("--models",), ("--tolerance", "much"), ("--batch-size", "8.5")]
)
def test_an_option_without_sense_is_a_usage_error(given, capsys):
    with pytest.raises(SystemExit) as caught:
        arguments(*given)
    assert caught.value.code == 2


def stand_in(monkeypatch, shifts):
    """Put measured scores in place of an evaluation; returns what each was asked for."""
    asked = []

    def evaluate(model, batch_size, device):
        asked.append((model, batch_size, device))
        measured = next(p for p in reproduce.PUBLISHED.values() if p.model == model).ndcg_at_10 + shifts[model]
        ends = {"ndcg_at_10_ci_low": measured - 0.01, "ndcg_at_10_ci_high": measured + 0.02}
        return {"ndcg_at_10": measured, **ends, "map_at_10": 0.1}

    monkeypatch.setattr(reproduce, "evaluate", evaluate)
    return asked


METACLIP, JINA = (one.model for one in reproduce.PUBLISHED.values())


@pytest.mark.parametrize(
    ("first", "second", "status", "verdicts"),
    [
        (0.0004, -0.0004, 0, ["pass", "pass"]),
        (0.00099, -0.00099, 0, ["pass", "pass"]),
        (0.0, 0.00101, 1, ["pass", "FAIL (more than 0.001 apart)"]),
        (-0.00101, 0.0, 1, ["FAIL (more than 0.001 apart)", "pass"]),
        (-0.02, 0.02, 1, ["FAIL (more than 0.001 apart)", "FAIL (more than 0.001 apart)"]),
    ],
)
def test_every_model_must_be_within_the_tolerance(original, monkeypatch, capsys, first, second, status, verdicts):
    stand_in(monkeypatch, {METACLIP: first, JINA: second})
    assert reproduce.main(arguments()) == status
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:3]] == [METACLIP, JINA]
    assert [line.endswith(f"  {verdict}") for line, verdict in zip(lines[1:3], verdicts)] == [True, True]


def test_a_difference_of_just_the_tolerance_passes():
    """In numbers that binary fractions have exactly."""
    published = reproduce.Published("m", 0.5)
    differences = (0.25, -0.25, 0.25 + 2**-40, -0.25 - 2**-40)
    found = [reproduce.Comparison(published, 0.5 + d, 0, 1, 0.25).passed for d in differences]
    assert found == [True, True, False, False]


def test_the_table_shows_each_figure_under_its_heading():
    given = [
        reproduce.Comparison(reproduce.Published("org/one", 0.4), 0.39, 0.371, 0.412, 0.001),
        reproduce.Comparison(reproduce.Published("org/two", 0.2), 0.2005, 0.19, 0.21, 0.5),
    ]
    head, *rows, last = reproduce.table(given).splitlines()
    assert head.split() == ["model", "published", "measured", "95", "%", "interval", "difference", "verdict"]
    words = [" ".join(row.split()) for row in rows]
    assert words == [
        "org/one 0.40000 0.39000 0.37100 - 0.41200 -0.01000 FAIL (more than 0.001 apart)",
        "org/two 0.20000 0.20050 0.19000 - 0.21000 +0.00050 pass",
    ]
    ends = [head.index(word) + len(word) for word in ("published", "measured", "interval", "difference")]
    values = ("0.40000", "0.39000", "0.41200", "-0.01000")
    assert [rows[0].index(value) + len(value) for value in values] == ends
    assert "fp32" in last
    assert reproduce.table(given).endswith("\n")


def test_a_model_is_asked_for_with_its_options(original, monkeypatch, capsys):
    asked = stand_in(monkeypatch, {METACLIP: 0.0, JINA: 0.0})
    reproduce.main(arguments("--batch-size", "3", "--device", "cuda:1"))
    assert asked == [(model, 3, "cuda:1") for model in (METACLIP, JINA)]


def test_only_the_models_that_are_named_are_run(original, monkeypatch, capsys):
    asked = stand_in(monkeypatch, {METACLIP: 0.0, JINA: 0.0})
    assert reproduce.main(arguments("--models", "jina")) == 0
    assert [model for model, *_ in asked] == [JINA]
    assert METACLIP not in capsys.readouterr().out


def test_the_interval_shown_is_the_measured_one(original, monkeypatch, capsys):
    stand_in(monkeypatch, {METACLIP: 0.0, JINA: 0.0})
    reproduce.main(arguments("--models", "metaclip", "--tolerance", "0.25"))
    assert "0.51109   0.51109   0.50109 - 0.53109   +0.00000  pass" in capsys.readouterr().out


def test_an_evaluation_encodes_anew_on_the_device_and_in_batches_as_asked(original, monkeypatch):
    loaded, get_model = [], mteb.get_model
    monkeypatch.setattr(mteb, "get_model", lambda *a, **kw: loaded.append((a, kw)) or get_model(*a, **kw))
    found = reproduce.evaluate("mteb/baseline-random-encoder", 5, "cpu")
    again = reproduce.evaluate("mteb/baseline-random-encoder", 6, "cpu")
    assert loaded == [(("mteb/baseline-random-encoder",), {"device": "cpu", **reproduce.MODE})] * 2
    # Had the second been taken from mteb's cache, the record would be of the first.
    (record,) = RunRecord.find()
    assert record.info["batch_size"] == 6
    assert not list(Path(os.environ["MTEB_CACHE"]).rglob("VehicleImageSearch.json"))
    assert found["ndcg_at_10"] == again["ndcg_at_10"] == record.info["scores"]["ndcg_at_10"]
    assert found["ndcg_at_10_ci_low"] <= found["ndcg_at_10"] <= found["ndcg_at_10_ci_high"]


def test_the_task_is_registered_where_the_start_up_file_was_skipped(original, monkeypatch):
    done, get_task = [], mteb.get_task
    monkeypatch.setattr("mteb_vehicle_search.register", lambda: done.append("register"))
    monkeypatch.setattr(mteb, "get_task", lambda name: done.append(name) or get_task(name))
    reproduce.evaluate("mteb/baseline-random-encoder", 5, "cpu")
    assert done == ["register", "VehicleImageSearch"]


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


@pytest.mark.parametrize("name", ["ORIGINAL_IMAGES", "ORIGINAL_QUERIES"])
@pytest.mark.parametrize("more", [-1, 1])
def test_a_set_of_another_size_is_refused_before_any_model_is_loaded(original, monkeypatch, name, more):
    asked = stand_in(monkeypatch, {METACLIP: 0.0, JINA: 0.0})
    monkeypatch.setattr(reproduce, name, getattr(reproduce, name) + more)
    with pytest.raises(ResultsError, match="set has 36 images and 12 queries") as caught:
        reproduce.main(arguments())
    assert f"{reproduce.ORIGINAL_IMAGES:,} and {reproduce.ORIGINAL_QUERIES:,}" in caught.value.message
    assert "build --preset original" in caught.value.hint
    assert asked == []


@pytest.mark.parametrize("name", ["images", "corpus"])
def test_images_are_counted_by_either_name(name, tmp_path):
    reproduce._require_original({name: 68_154, "queries": 10_725}, tmp_path)
    with pytest.raises(ResultsError, match="68153 images"):
        reproduce._require_original({name: 68_153, "queries": 10_725}, tmp_path)


def test_missing_data_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("VEHICLE_SEARCH_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(DataNotFoundError):
        reproduce.main(arguments())
