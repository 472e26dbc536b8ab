"""Names that mteb does not know, and interruptions: what its own command line then says."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mteb
import pytest
from mteb.cli import build_cli
from mteb.models import ModelMeta

import mteb_vehicle_search
from mteb_vehicle_search import cli, mistakes
from mteb_vehicle_search.errors import UsageError, VehicleSearchError
from mteb_vehicle_search.plugin import asked

mteb_vehicle_search.register()

ROOT = Path(__file__).parents[1]
START_UP = ROOT / "mteb_vehicle_search" / "plugin" / "start_up"
MINI = ["-t", "VehicleImageSearchMini"]
TINY = ["-m", "vehicle-search/tiny-clip"]
UNKNOWN = [
    ([*TINY, "-t", "VehicleImageSerch"], "mteb knows no task 'VehicleImageSerch'; did you mean VehicleImageSearch or "),
    ([*TINY, "-t", "vehicleimagesearchmini"], "did you mean VehicleImageSearchMini"),
    ([*TINY, "-t", "Zzzzzzzzzzzz"], "mteb knows no task 'Zzzzzzzzzzzz'; 'mteb available-tasks' lists them."),
    (
        [*TINY, "-b", "VehicleImageSerch"],
        "mteb knows no benchmark 'VehicleImageSerch'; did you mean VehicleImageSearch",
    ),
    (
        ["-m", "vehicle-search/tinyclip", *MINI],
        "does not know the model 'vehicle-search/tinyclip', and the hub did not",
    ),
    (["-m", "vehicle-search/tinyclip", *MINI], "did you mean vehicle-search/tiny-clip?"),
    (["-m", "tiny-clip", *MINI], "; did you mean vehicle-search/tiny-clip"),
    (["-m", "qqqqqq/zzzzzzzz", *MINI], "offline mode is enabled"),
    ([*TINY, *MINI, "--model-revision", "abc"], "Model revision abc not found for model vehicle-search/tiny-clip."),
]


@pytest.mark.parametrize(("words", "said"), UNKNOWN)
def test_a_name_with_a_typo_is_one_line_with_the_nearest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["vehicle-search"])
    assert cli.main(["run", *words, "-v", "0"]) == (1 if "qqqqqq/zzzzzzzz" in words else 2)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "Warning" not in line]
    assert line.startswith("error: ")
    assert said in line


def test_an_own_set_that_is_not_built_says_how_to_build_it() -> None:
    with pytest.raises(KeyError) as info:
        mteb.get_task("SparrowImageSearch")
    error = mistakes.explained(info.value)
    assert error is not None
    assert "vehicle-search-data build --preset" in str(error.hint)


def test_a_model_that_neither_mteb_nor_the_hub_has_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from_hub = classmethod(lambda cls, name, *given, **named: ModelMeta.create_empty({"name": name}))
    monkeypatch.setattr(ModelMeta, "from_hub", from_hub)
    with pytest.raises(NotImplementedError) as info:
        mteb.get_model("jinaai/jina-clip-v9")
    (said, *hint) = str(mistakes.explained(info.value)).splitlines()
    assert said.startswith(
        "mteb does not know the model 'jinaai/jina-clip-v9', nor does the hub; did you mean jinaai/jina"
    )
    assert hint == []


def test_ours_come_first() -> None:
    assert mistakes.nearest("VehicleImageSearch2", mistakes.known_tasks())[:2] == [
        "VehicleImageSearch",
        "VehicleImageSearchMini",
    ]


@pytest.mark.parametrize("name", ["vehicle-search/tiny-clip", "jinaai/jina-clip-v9"])
def test_an_error_of_a_model_itself_is_not_mistaken_for_a_wrong_name(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def loader(*given: object, **named: object) -> object:
        raise RuntimeError("out of memory")

    meta = ModelMeta.create_empty({"name": name, "loader": loader})
    monkeypatch.setattr("mteb.models.get_model_meta.get_model_meta", lambda *given, **named: meta)
    with pytest.raises(RuntimeError) as info:
        mteb.get_model(name)
    assert mistakes.explained(info.value) is None


def test_other_errors_and_interruptions_are_not_explained() -> None:
    for error in (KeyError("x"), KeyboardInterrupt(), VehicleSearchError("x")):
        assert mistakes.explained(error) is None


@pytest.mark.parametrize(
    "name", ["vidore/colqwen2.5-v0.2", "Qwen/Qwen3-VL-Reranker-2B", "intfloat/multilingual-e5-small"]
)
def test_a_model_that_cannot_search_is_refused_by_name_before_it_is_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["vehicle-search"])
    monkeypatch.setattr(mteb, "get_model", lambda *given, **named: pytest.fail("it was loaded"))
    assert cli.main(["run", *MINI, "-m", name, "-v", "0"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {name} cannot run VehicleImageSearchMini: it ")
    # Tasks of others may do with it.
    asked.require_model(name, None, [])


def test_mtebs_command_looks_first(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    ran: list[Any] = []
    frozen: list[int] = []
    monkeypatch.setattr(gc, "freeze", lambda: frozen.append(len(ran)))
    run = asked.around_run(ran.append)

    def given(*words: str) -> Any:
        return build_cli.build_cli().parse_args(["run", *words])

    with pytest.raises(SystemExit) as info:
        run(given(*MINI))
    assert info.value.code == 2
    assert capsys.readouterr().err == asked.USAGE
    for words in (
        [*MINI, "-m", "vidore/colqwen2.5-v0.2"],
        ["-b", "VehicleImageSearch", "-t", "NFCorpus", "-m", "vidore/colqwen2.5-v0.2"],
        [*MINI, "-m", "tiny-clip"],
    ):
        with pytest.raises(VehicleSearchError):
            run(given(*words))
    for words in (["-t", "NFCorpos"], ["-b", "VehicleImageSerch"]):
        with pytest.raises(KeyError) as missing:
            run(given(*words, *TINY))
        assert isinstance(mistakes.explained(missing.value), UsageError)
    assert ran == []
    # What others evaluate is theirs, were it a model that nobody knows.
    for words in ([*MINI, *TINY], ["-t", "NFCorpus", "-m", "no/such"], TINY):
        run(given(*words))
    assert [one.model for one in ran] == ["vehicle-search/tiny-clip", "no/such", "vehicle-search/tiny-clip"]
    # Where a task is ours, and before it begins.
    assert frozen == [0]


def test_an_interruption_of_another_task_is_not_ours() -> None:
    def interrupt(given: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as info:
        asked.around_run(interrupt)(build_cli.build_cli().parse_args(["run", "-t", "NFCorpus", *TINY]))
    assert not mistakes.on_our_tasks(info.value.__traceback__)


# The stock command


@contextmanager
def stock(*words: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """Run the stock command; one that has not ended by the end of the block is killed."""
    path = os.pathsep.join([str(START_UP), str(ROOT)])
    with subprocess.Popen(
        [sys.executable, "-m", "mteb", "run", *words, "-v", "0"],
        env={**os.environ, "PYTHONPATH": path, **variables},
        cwd=os.environ["VEHICLE_SEARCH_HOME"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture(autouse=True)
def there() -> None:
    Path(os.environ["VEHICLE_SEARCH_HOME"]).mkdir(exist_ok=True)


LATE = (["-m", "vidore/colqwen2.5-v0.2", *MINI], "vidore/colqwen2.5-v0.2 cannot run VehicleImageSearchMini: it gives")


@pytest.mark.parametrize(("words", "said"), [UNKNOWN[0], UNKNOWN[3], UNKNOWN[5], UNKNOWN[8], LATE])
def test_the_stock_command_says_it_in_one_line_too(words: list[str], said: str) -> None:
    with stock(*words) as process:
        error = process.communicate(timeout=100)[1]
    assert process.returncode == 2
    assert "Traceback" not in error
    (line,) = [line for line in error.splitlines() if line.startswith("error: ")]
    assert said in line


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_an_interrupted_run_of_our_task_says_how_to_go_on() -> None:
    seen = ""
    with stock(*TINY, *MINI) as process:
        assert process.stderr
        while "encode" not in seen.lower() and "image/s" not in seen and (more := process.stderr.read(1)):
            seen += more
        process.send_signal(signal.SIGINT)
        error = seen + process.communicate(timeout=100)[1]
    assert process.returncode == -signal.SIGINT, "as an interruption ends a process"
    assert "Traceback" not in error
    assert error.splitlines()[-1] == "interrupted; run the same command again to go on"
