"""Several models in one command: each has its table, and one that fails does not end the others."""

from __future__ import annotations

import gc
import json
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest
from mteb.models import ModelMeta
from small_set import small_set
from toy_encoder import ToyEncoder

import mteb_vehicle_search
from mteb_vehicle_search import cli, terminal
from mteb_vehicle_search.errors import ModelLoadError
from mteb_vehicle_search.plugin import registry
from mteb_vehicle_search.settings import runs_folder

mteb_vehicle_search.register()
LATE = "vidore/colqwen2.5-v0.2"
TABLE = "median rank  images/s"


@pytest.fixture
def loaded() -> list[Any]:
    """Weak references to the models that were loaded, in order."""
    return []


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loaded: list[Any]) -> None:
    """Some models that mteb knows: toy/a and toy/b, and three that fail in their ways."""

    def chained(model: ToyEncoder) -> None:
        try:
            raise ValueError(model.mteb_model_meta.name)
        except ValueError as error:
            raise ModelLoadError("no room") from error

    def load(name: str, revision: str | None = None, device: Any = None, **options: Any) -> ToyEncoder:
        if name == "toy/unloadable":
            raise ModelLoadError("toy/unloadable: its weights are missing.", "Fetch them.")
        model = ToyEncoder(name, revision)
        loaded.append(weakref.ref(model))
        if name == "toy/broken":
            model.spoil = lambda ids, vectors: vectors * float("nan")  # type: ignore[method-assign]
        if name == "toy/chained":
            model.spoil = lambda ids, vectors: chained(model)  # type: ignore[method-assign]
        return model

    module = sys.modules[registry.MODELS]
    known = dict(module.MODEL_REGISTRY)  # type: ignore[attr-defined]
    for name in ("toy/a", "toy/b", "toy/broken", "toy/chained", "toy/unloadable"):
        facts = {"name": name, "revision": "r1", "loader": load, "modalities": ["image", "text"]}
        known[name] = ModelMeta.create_empty(facts)
    for one in (module, sys.modules["mteb.models.get_model_meta"]):
        monkeypatch.setattr(one, "MODEL_REGISTRY", known)
    small_set(tmp_path / "set")
    monkeypatch.setenv("VEHICLE_SEARCH_DATA", str(tmp_path / "set"))
    monkeypatch.setenv(terminal.DEBUG, "0")
    monkeypatch.setattr(sys, "argv", ["vehicle-search"])
    monkeypatch.chdir(tmp_path)


def run(*words: str) -> int:
    return cli.main(["run", "-t", "VehicleImageSearch", *words])


def results() -> list[str]:
    return sorted(path.parts[-3] for path in Path("results").rglob("VehicleImageSearch.json"))


@pytest.mark.parametrize("words", ["-m toy/a -m toy/b", "--model toy/a toy/b", "-mtoy/a --model=toy/b"])
def test_each_model_has_its_table_and_its_result(capfd: pytest.CaptureFixture[str], words: str) -> None:
    assert run(*words.split()) == 0
    said = capfd.readouterr()
    assert said.out.count(TABLE) == 2
    assert said.out.index("toy/a") < said.out.index("toy/b")
    assert results() == ["toy__a", "toy__b"]
    assert said.err.splitlines()[-1] == "2 of 2 models were evaluated."


@pytest.mark.parametrize("bad", ["toy/broken", "toy/chained"])
def test_models_are_not_kept_in_memory_for_the_next(
    capfd: pytest.CaptureFixture[str], loaded: list[Any], bad: str
) -> None:
    alive: list[int] = []
    known = sys.modules[registry.MODELS].MODEL_REGISTRY  # type: ignore[attr-defined]
    load = known["toy/b"].loader

    def counting(*given: Any, **named: Any) -> Any:
        alive.append(sum(one() is not None for one in loaded))
        return load(*given, **named)

    known["toy/b"] = known["toy/b"].model_copy(update={"loader": counting})
    assert run("-m", "toy/a", "-m", bad, "-m", "toy/b") == 1
    gc.collect()
    assert alive == [0]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("toy/broken", "error: toy/broken returned NaN"),
        ("toy/unloadable", "error: toy/unloadable: its weights are missing.\nFetch them.\n"),
        ("toy/c", "error: mteb does not know the model 'toy/c', and the hub did not tell"),
        (LATE, f"error: {LATE} cannot run VehicleImageSearch: it gives several vectors"),
    ],
)
@pytest.mark.parametrize("at", [0, 1, 2])
def test_one_that_fails_does_not_end_the_others(
    capfd: pytest.CaptureFixture[str], bad: str, said: str, at: int
) -> None:
    names = ["toy/a", "toy/b"]
    names.insert(at, bad)
    assert run(*(word for name in names for word in ("-m", name))) == 1
    found = capfd.readouterr()
    assert found.out.count(TABLE) == 2
    assert f"{bad} failed:\n{said}" in found.err
    assert found.err.count(f"{bad} failed:") == 1
    assert found.err.splitlines()[-1] == f"2 of 3 models were evaluated; these failed: {bad}"
    assert results() == ["toy__a", "toy__b"]


def test_what_there_is_not_is_said_before_the_first_one_is_loaded(
    capfd: pytest.CaptureFixture[str], loaded: list[Any]
) -> None:
    assert run("-m", "toy/a", "-m", "toy/a.", "-m", LATE) == 1
    said = capfd.readouterr().err
    assert said.index(f"{LATE} failed:") < said.index("encode images")
    assert "did you mean toy/a" in said
    assert len(loaded) == 1


@pytest.mark.parametrize(
    ("names", "status"),
    [
        (["toy/a."], 2),
        (["toy/a.", LATE], 2),
        ([LATE], 2),
        (["toy/broken"], 1),
        (["toy/a.", "toy/broken"], 1),
        (["toy/broken", "toy/unloadable"], 1),
    ],
)
def test_the_status_tells_wrong_usage_from_failure(names: list[str], status: int) -> None:
    assert run("-m", *names) == status
    assert results() == []


def test_a_model_that_is_named_twice_runs_once(capfd: pytest.CaptureFixture[str], loaded: list[Any]) -> None:
    assert run("-m", "toy/a", "toy/a") == 0
    assert len(loaded) == 1
    assert capfd.readouterr().out.count(TABLE) == 1


def test_a_revision_is_of_one_model(capsys: pytest.CaptureFixture[str], loaded: list[Any]) -> None:
    assert run("-m", "toy/a", "-m", "toy/b", "--model-revision", "r1") == 2
    assert capsys.readouterr().err.startswith("error: --model-revision is of one model")
    assert loaded == []
    assert run("-m", "toy/a", "--model-revision", "r1") == 0


def test_options_of_mteb_are_those_of_each_run() -> None:
    assert run("-m", "toy/a", "toy/b", "--batch-size", "7", "--output-folder", "mine") == 0
    records = [json.loads(path.read_text(encoding="utf-8")) for path in runs_folder().rglob("run.json")]
    assert not Path("results").exists()
    assert len(list(Path("mine").rglob("VehicleImageSearch.json"))) == 2
    assert [record["batch_size"] for record in records] == [7, 7]


def test_with_debug_tracebacks_are_shown(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(terminal.DEBUG, "1")
    assert run("-m", "toy/unloadable", "-m", "toy/a") == 1
    assert "Traceback" in capfd.readouterr().err
    with pytest.raises(ModelLoadError):
        run("-m", "toy/unloadable")


def test_an_interruption_ends_all(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    from mteb.cli import build_cli

    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(build_cli, "main", interrupt)
    assert run("-m", "toy/a", "-m", "toy/b") == 130


def test_the_help_tells_of_both(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["run", "--help"])
    said = capsys.readouterr().out
    assert "--overwrite-strategy" in said
    assert "--limit N" in said
    assert "Several models" in said
