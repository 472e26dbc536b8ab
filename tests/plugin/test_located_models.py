"""mteb's look-up of a model: with us it also answers for places, and for every other name it is what it was."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import mteb
import pytest
from stand_ins import SMALL_CLIP, random_open_clip

from mteb_vehicle_search import cli
from mteb_vehicle_search.errors import ModelLoadError
from mteb_vehicle_search.models import located
from mteb_vehicle_search.models.places import is_located
from mteb_vehicle_search.plugin import registry as plugin

ROOT = Path(__file__).parents[2]
mteb.get_model_metas()
MODULE: Any = sys.modules["mteb.models.get_model_meta"]
OURS = MODULE.get_model_meta
STOCK = OURS.__wrapped__


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with a model in it."""
    monkeypatch.chdir(tmp_path)
    random_open_clip(tmp_path / "mine", SMALL_CLIP)
    return tmp_path


def outcome(look_up: Any, *given: Any, **named: Any) -> Any:
    try:
        found = look_up(*given, **named)
    except Exception as error:
        return type(error), str(error)
    return found


def test_the_look_up_is_the_same_function_wherever_mteb_has_it() -> None:
    holders = [
        name
        for name, module in sys.modules.items()
        if name.partition(".")[0] == "mteb" and vars(module).get("get_model_meta") in (OURS, STOCK)
    ]
    assert "mteb" in holders
    assert [name for name in holders if vars(sys.modules[name])["get_model_meta"] is not OURS] == []
    assert inspect.signature(OURS) == inspect.signature(STOCK)
    assert OURS.__doc__ == STOCK.__doc__
    # Registering once more wraps nothing twice.
    plugin.register()
    assert MODULE.get_model_meta is OURS
    assert not hasattr(STOCK, "__wrapped__")


def test_every_name_that_mteb_knows_gives_what_it_gave(places: Path) -> None:
    names = [str(meta.name) for meta in mteb.get_model_metas()]
    assert len(names) > 500
    assert all(OURS(name) is STOCK(name) is plugin.sys.modules[plugin.MODELS].MODEL_REGISTRY[name] for name in names)


@pytest.mark.parametrize(
    "given",
    [
        ("vehicle-search/tiny-clip", "0" * 40),
        ("vehicle-search/tinyclip",),
        ("nobody/nothing",),
        ("nothing",),
        ("",),
        ("mine2",),
        ("openai/clip-vit-base-patch32", None, False, False, {"a": 1}),
    ],
    ids=str,
)
def test_every_other_name_gives_what_it_gives_without_us(places: Path, given: Any) -> None:
    assert outcome(OURS, *given) == outcome(STOCK, *given)


@pytest.mark.parametrize("name", ["vehicle-search/tiny-clip", "bm25s"])
def test_a_folder_of_the_name_of_a_known_model_does_not_hide_it(places: Path, name: str) -> None:
    Path(name).parent.mkdir(exist_ok=True)
    (places / "mine").rename(name)
    assert is_located(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        assert OURS(name) == STOCK(name)


def test_a_warning_of_mtebs_is_its_callers_as_it_was() -> None:
    places = []
    for look_up in (STOCK, OURS):
        with pytest.warns(DeprecationWarning, match="has been renamed") as caught:
            look_up("bm25s")
        places.append([(one.filename, one.category) for one in caught])
    assert places[0] == places[1] == [(__file__, DeprecationWarning)]


@pytest.mark.parametrize("name", ["mine", "./mine"])
def test_a_place_is_looked_up(places: Path, name: str) -> None:
    meta = mteb.get_model_meta(name)
    assert (meta.name, meta.revision) == ("local/mine", located.located_meta(name).revision)
    assert mteb.get_model_meta(name, meta.revision).revision == meta.revision
    assert meta.experiment_kwargs is None
    assert mteb.get_model_meta(name, experiment_kwargs={"a": 1}).experiment_kwargs == {"a": 1}
    assert mteb.get_model_meta(name, None, True, False, {"a": 1}).experiment_kwargs == {"a": 1}
    with pytest.raises(ModelLoadError, match="is at revision"):
        mteb.get_model(name, "0" * 40)
    # It does not become one of mteb's models.
    assert "local/mine" not in {model.name for model in mteb.get_model_metas()}
    assert mteb.get_model(name, device="cpu").mteb_model_meta.name == "local/mine"


def test_a_wrong_place_is_one_line_on_the_command_line(
    places: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [])
    assert cli.main(["run", "-t", "VehicleImageSearchMini", "-m", "./mime"]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said == f"error: There is no folder ./mime; did you mean {places / 'mine'}?"
    (places / "epoch_3.pt").write_bytes(b"")
    assert cli.main(["run", "-t", "VehicleImageSearchMini", "-m", "epoch_3.pt"]) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.endswith("convert it first: vehicle-search convert epoch_3.pt --arch NAME epoch_3")


def test_an_mteb_without_the_look_up_is_told_and_works_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(MODULE, "get_model_meta")
    monkeypatch.setattr(plugin, "_told", set())
    with pytest.warns(match="The models by where they lie of mteb-vehicle-search"):
        plugin.register()


def stock_run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the stock command in a folder."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "VEHICLE_SEARCH_HOME": str(folder / "home")}
    command = [sys.executable, "-m", "mteb", "run", "-t", "VehicleImageSearchMini", "--output-folder", "res", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=400)


def test_the_stock_command_evaluates_a_folder_and_other_weights_anew(places: Path) -> None:
    (places / "mine").rename(places / "open-clip-folder")
    revisions = []
    for seed in (1, 2):
        random_open_clip(places / "open-clip-folder", SMALL_CLIP, seed=seed)
        done = stock_run(places, "-m", "./open-clip-folder")
        assert done.returncode == 0, done.stderr[-2000:]
        assert "Vehicle Image Search Mini · local/open-clip-folder" in done.stdout
        revisions.append(located.located_meta("./open-clip-folder").revision)
        found = {path.parent.name for path in Path("res/results/local__open-clip-folder").glob("*/*Mini.json")}
        assert found == set(revisions)
    assert len(set(revisions)) == 2
    for path in Path("res").rglob("model_meta.json"):
        meta = json.loads(path.read_text(encoding="utf-8"))
        assert meta["name"] == "local/open-clip-folder"
        assert str(places) not in path.read_text(encoding="utf-8")
