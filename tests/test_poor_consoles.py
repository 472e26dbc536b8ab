"""Consoles that lack characters, or take nothing: what was measured is stored, and the exit status tells the truth."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import small_runs
from small_set import small_set

from mteb_vehicle_search import cli, streams, summary
from mteb_vehicle_search.run_record import RunRecord
from mteb_vehicle_search.settings import home

MODEL = "vehicle-search/tiny-clip"
TASK = "DogImageSearch"
ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"


@pytest.fixture(autouse=True)
def dogs() -> None:
    small_set(home() / "data" / "dogs", name="dog-image-search", title="Dögs · and – „more“")


def command(*words: str, encoding: str = "utf-8", output: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    program = "data_prep" if words[0] == "verify" else "mteb_vehicle_search.cli"
    if words[0] == "mteb":
        program, words = "mteb", words[1:]
    with (output or Path(os.devnull)).open("wb") as sink:
        return subprocess.run(
            [sys.executable, "-m", program, *words],
            stdout=sink if output else subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONIOENCODING": encoding, "COLUMNS": "120", "PYTHONUNBUFFERED": ""},
            cwd=home(),
        )


@pytest.mark.parametrize("program", [["run"], ["mteb", "run"]], ids=" ".join)
@pytest.mark.parametrize("encoding", ["ascii", "cp932", pytest.param("cp437", marks=pytest.mark.slow)])
def test_a_run_ends_well_on_every_console(program: list[str], encoding: str) -> None:
    done = command(*program, "-t", TASK, "-m", MODEL, "--output-folder", "out", encoding=encoding)
    assert done.returncode == 0, done.stderr
    (stored,) = (home() / "out").rglob(f"{TASK}.json")
    score = json.loads(stored.read_text(encoding="utf-8"))["scores"]["test"][0]["ndcg_at_10"]
    (record,) = RunRecord.find()
    shown = done.stdout.decode(encoding)
    assert f"{score:.4f}" in shown
    assert f"{MODEL}" in shown
    assert str(record.folder) in shown.replace("\n", "")
    for words in (["leaderboard", "out"], ["compare", MODEL, MODEL], ["growth", MODEL], ["verify", "data/dogs"]):
        done = command(*words, encoding=encoding)
        assert done.returncode == 0, (words, done.stderr)
        assert done.stdout.decode(encoding).strip()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device")
def test_a_full_output_costs_no_result() -> None:
    full = Path("/dev/full")
    done = command("run", "-t", TASK, "-m", MODEL, "--output-folder", "out", output=full)
    assert "What was measured is stored, but it cannot be shown here" in done.stderr.decode()
    assert done.returncode == 0, "it did what it is for"
    assert len(list((home() / "out").rglob(f"{TASK}.json"))) == len(RunRecord.find()) == 1
    for words in (["leaderboard", "out"], ["growth", MODEL], ["verify", "data/dogs"]):
        done = command(*words, output=full)
        assert done.returncode == 1, words
        last = done.stderr.decode().splitlines()[-1]
        assert last == "error: the output could not be printed: No space left on device", words


def shell(line: str, unbuffered: str) -> subprocess.CompletedProcess[str]:
    """Run a line of a shell, in which `growth` has a run to tell of, and `leaderboard` has results."""
    small_runs.write_run(small_runs.write_set(home() / "set"), "org/a")
    program = f"{sys.executable} -m mteb_vehicle_search.cli"
    line = line.replace("growth", f"{program} growth org/a").replace("leaderboard", f"{program} leaderboard {RESULTS}")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": unbuffered}
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, cwd=home(), env=environment)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no system with a shell of this kind")
@pytest.mark.parametrize(
    ("line", "status", "error"),
    [
        ("growth >&-", 1, "error: the output could not be printed: it is closed\n"),
        ("growth --help >/dev/full", 1, "error: the output could not be printed: No space left on device\n"),
        ("leaderboard --out there.json >&-", 0, ""),
        ("leaderboard --out there.json >/dev/full", 0, ""),
        ("growth 2>&-", 0, ""),
        ("growth 2>/dev/full", 0, ""),
        ("VEHICLE_SEARCH_PRECISON=fp32 growth 2>&- >/dev/null", 0, ""),
        ("VEHICLE_SEARCH_PRECISON=fp32 growth 2>/dev/full >/dev/null", 0, ""),
        ("growth | head -c 1 >/dev/null; exit ${PIPESTATUS[0]}", None, ""),
    ],
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_the_status_tells_whether_the_output_was_shown(
    line: str, status: int | None, error: str, unbuffered: str
) -> None:
    done = shell(line, unbuffered)
    assert done.stderr == error
    assert done.returncode in ((0, 1) if status is None else (status,))
    if "2>" in line and "null" not in line:
        assert "0.0" in done.stdout, "what is said on standard error is not in the way of the result"


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_characters_that_are_missing_are_replaced_by_their_like(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    with (tmp_path / "said").open("w", encoding="ascii") as poor:
        monkeypatch.setattr(sys, name, poor)
        with streams.shown() as out:
            getattr(sys, name).write("0.5 – 0.6 · ≤ 1 … ± 2 × 3 ö 日 \udc80")
            assert out.error is None
        with pytest.raises(UnicodeEncodeError):
            poor.write("ö")
    said = (tmp_path / "said").read_text(encoding="ascii")
    assert said == "0.5 - 0.6 - <= 1 ... +- 2 x 3 \\xf6 \\u65e5 \\udc80"


def test_only_what_is_missing_is_replaced() -> None:
    assert streams.plain("ö · – é", "cp437") == "ö · - é"
    assert streams.plain("日 ·", "cp932").startswith("日 ")


def test_showing_never_raises(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    info = {"task_name": "T", "model_name": "a[/b]", "scores": {"ndcg_at_10": 0.5}, "images_per_s": None}
    summary.show_summary(info, tmp_path)
    shown = capsys.readouterr().out
    assert "T · a[/b]" in shown
    assert "0.5000" in shown
    summary.show_summary({}, tmp_path)
    assert "What was measured is stored, but it cannot be shown here: KeyError" in capsys.readouterr().err
    summary.show_stored({}, tmp_path, "m")
    assert "cannot be shown here" in capsys.readouterr().err
    for stream in (None, (tmp_path / "closed").open("w")):
        if stream:
            stream.close()
        monkeypatch.setattr(sys, "stdout", stream)
        summary.show_written(tmp_path)
        monkeypatch.setattr(sys, "stderr", stream)
        summary.show_written(tmp_path)
        monkeypatch.undo()


def test_options_and_modes_stand_in_the_heading(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    info = {"title": "Dogs", "task_name": "T", "model_name": "m", "scores": {"ndcg_at_10": 0.5}, "images_per_s": 3}
    summary.show_summary({**info, "options": {"embed_dim": 64}, "precision": "bf16", "preprocess": "fast"}, tmp_path)
    assert "Dogs · m[embed_dim=64] · bf16 · fast\n" in capsys.readouterr().out
    summary.show_summary({**info, "precision": "fp32", "preprocess": "exact"}, tmp_path)
    assert "Dogs · m\n" in capsys.readouterr().out


def test_what_was_written_is_named_by_its_whole_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    summary.show_written(Path("out/T.json"))
    assert capsys.readouterr().out == f"result      {tmp_path / 'out' / 'T.json'}\n"
    content = {"task_name": "T", "scores": {"test": [{"ndcg_at_10": 0.5}]}}
    summary.show_stored(content, Path("out/T.json"), "m")
    shown = capsys.readouterr().out
    assert f"stored in   {tmp_path / 'out' / 'T.json'}\n" in shown
    assert shown.endswith("To evaluate again, add --overwrite-strategy always.\n")


def test_what_is_shown_is_flushed_before_the_status_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def write(self, text: str) -> int:
            return len(text)

        def flush(self) -> None:
            raise OSError(28, "No space left on device")

        def fileno(self) -> int:
            raise OSError

    monkeypatch.setattr(sys, "stdout", Full())
    assert cli.main(["--version"]) == 1
    monkeypatch.setattr(cli, "_run", lambda *given: 0)
    assert cli.main(["leaderboard"]) == 1
