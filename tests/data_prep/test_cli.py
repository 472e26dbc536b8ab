"""The command line: exit statuses, messages, the plan and inspection."""

from __future__ import annotations

import subprocess
import sys

import pytest
from PIL import Image
from small_sources import write_flickr30k, write_imagenet, write_preset

from data_prep import cli
from mteb_vehicle_search.eval_set import EvalSet


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A built evaluation set and the arguments that built it."""
    folder = tmp_path_factory.mktemp("small")
    write_flickr30k(folder / "flickr30k", 8)
    write_imagenet(folder / "imagenet", 3, 1)
    (folder / "classifier").mkdir()
    (folder / "list.txt").write_text("".join(f"{1000 + n}.jpg\n" for n in range(8)), encoding="utf-8")
    preset = write_preset(folder)
    arguments = ["build", "--preset", str(preset), "--flickr30k", str(folder / "flickr30k"), "--workers", "1"]
    arguments += ["--imagenet", str(folder / "imagenet"), "--selection", str(folder / "list.txt"), "--quiet"]
    assert cli.main([*arguments, "--out", str(folder / "out")]) == 0
    return folder / "out", arguments


def test_verify_says_whether_a_set_is_sound(small, tmp_path, capsys):
    out, _ = small
    assert cli.main(["verify", str(out), "--quiet"]) == 0
    shown = capsys.readouterr().out
    assert "No violation." in shown
    assert EvalSet.open(out).content_id in shown
    import shutil

    damaged = tmp_path / "damaged"
    shutil.copytree(out, damaged)
    path = next((damaged / "corpus").iterdir())
    path.write_bytes(path.read_bytes()[:-100])
    assert cli.main(["verify", str(damaged), "--quiet"]) == 1
    assert f"corpus/{path.name}: has " in capsys.readouterr().out


def test_a_missing_set_is_an_error_without_a_traceback(tmp_path, capsys):
    assert cli.main(["verify", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("Error: No evaluation set in")
    assert "Traceback" not in error


def test_usage_errors_exit_with_two():
    for arguments in ([], ["build", "--workers", "0"], ["build", "--rebuild", "everything"]):
        with pytest.raises(SystemExit) as stop:
            cli.main(arguments)
        assert stop.value.code == 2


def test_build_compares_its_counts(small, capsys):
    out, arguments = small
    assert cli.main([*arguments, "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    row = next(line for line in shown.splitlines() if "captioned" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")] == ["captioned", "8", "30", "-22"]


def test_the_plan_writes_nothing(small, tmp_path, capsys):
    out, arguments = small
    assert cli.main([*arguments, "--out", str(tmp_path / "new" / "set"), "--dry-run"]) == 0
    shown = capsys.readouterr().out
    for text in ("disk needed at the peak", "disk free", "stage export", "to do", "flickr_annotations", "0.00 GB"):
        assert text in shown
    assert list(tmp_path.iterdir()) == []
    assert cli.main([*arguments, "--out", str(out), "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "6 parts done" in shown
    assert "to do" in shown  # The classifier, since there is a list.


def test_the_plan_names_a_missing_source(small, tmp_path, capsys):
    _, arguments = small
    changed = [*arguments, "--imagenet", str(tmp_path / "nowhere"), "--out", str(tmp_path / "o"), "--dry-run"]
    assert cli.main(changed) == 0
    assert "NOT READY" in capsys.readouterr().out


def test_the_plan_says_when_the_disk_is_too_small(small, tmp_path, capsys, monkeypatch):
    import shutil

    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr("data_prep.plan.shutil.disk_usage", lambda path: usage)
    assert cli.main([*small[1], "--out", str(tmp_path / "o"), "--dry-run"]) == 1
    assert "not enough space" in capsys.readouterr().out


def test_inspect_counts_and_draws(small, tmp_path, capsys):
    out, _ = small
    sheet = tmp_path / "sheet.png"
    assert cli.main(["inspect", str(out), "--sheet", str(sheet), "--count", "12"]) == 0
    shown = capsys.readouterr().out
    for text in ("flickr30k", "imagenet", "n01443537 green cart", "160 to 239 px"):
        assert text in shown
    with Image.open(sheet) as image:
        assert image.size == (1200, 2 * 278)
        assert len(image.getcolors(1 << 24) or []) > 100


def test_importing_the_package_and_the_command_line_loads_nothing_heavy():
    code = "import sys, data_prep.cli; print([m for m in ('torch', 'mteb', 'PIL', 'pyarrow') if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[]"
