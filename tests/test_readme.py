"""What the README shows is what the commands print."""

from __future__ import annotations

import io
import re
import shlex
import subprocess
import tarfile
import textwrap
from pathlib import Path

import pytest
from terminals import as_terminal, without_colours

from data_prep import cli as data_cli
from mteb_vehicle_search import cli
from mteb_vehicle_search.analysis.formats import to_markdown
from mteb_vehicle_search.analysis.leaderboard import build_leaderboard, read_leaderboard
from mteb_vehicle_search.models import model_metas

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
WIDTH = 116
# A command after "$ " and what it printed, in one fence.
ALL_SHOWN = re.findall(r"```\n\$ (vehicle-search .+)\n((?:.*\n)+?)```", README)
# The sample of a pool is built first, which takes minutes.
OF_SAMPLE = "--task VehicleImageSearchMiniMillion"
SHOWN = [(line, shown) for line, shown in ALL_SHOWN if OF_SAMPLE not in line]


@pytest.fixture(autouse=True)
def in_the_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("VEHICLE_SEARCH_HOME", str(tmp_path))
    as_terminal(monkeypatch, WIDTH)


def test_commands_are_shown():
    assert {line.split()[1] for line, _ in SHOWN} >= {"compare", "growth"}


@pytest.mark.parametrize(("line", "shown"), [(line, shown) for line, shown in SHOWN if " report " not in line])
def test_a_command_prints_what_is_shown(line, shown, capsys):
    assert cli.main(shlex.split(line)[1:]) == 0
    assert tidy(capsys.readouterr().out) == tidy(shown)


@pytest.mark.slow
def test_what_is_shown_of_a_sample_of_a_pool(tmp_path, capsys, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "fixtures" / "damaged_tiny_clip"))
    assert data_cli.main(["build", "--preset", "mini-million", "--quiet"]) == 0
    for model in ("vehicle-search/tiny-clip", "test/damaged-tiny-clip", "mteb/baseline-random-encoder"):
        words = ["run", "-t", "VehicleImageSearchMiniMillion", "-m", model, "--output-folder", str(tmp_path / "out")]
        assert cli.main(words) == 0
    shown = [one for one in ALL_SHOWN if OF_SAMPLE in one[0]]
    assert [line.split()[1] for line, _ in shown] == ["population", "bias"]
    for line, expected in shown:
        capsys.readouterr()
        assert cli.main(shlex.split(line)[1:]) == 0
        assert tidy(capsys.readouterr().out) == tidy(expected)


def test_the_page_is_written_as_shown(tmp_path, capsys):
    (line,) = [line for line, _ in SHOWN if " report " in line]
    words = shlex.split(line)[1:]
    assert cli.main([*words[:-1], str(tmp_path / words[-1])]) == 0
    assert re.fullmatch(r"Wrote .*site/index.html \(\d\.\d MB\)\.", capsys.readouterr().out.strip())


def test_what_the_first_command_writes_is_ignored_by_git():
    (command,) = re.findall(r"^python3 -m venv .*mteb run .*$", README, flags=re.MULTILINE)
    words = shlex.split(command)
    folder = words[words.index("--output-folder") + 1]
    for written in (f"{folder}/results/any.json", ".venv/bin/python", "build/lib", "any.egg-info/PKG-INFO"):
        status = subprocess.run(["git", "check-ignore", "-q", written], cwd=ROOT, capture_output=True).returncode
        if status == 128:
            pytest.skip("not a git checkout")
        assert status == 0, written


def test_the_table_is_made_from_leaderboard_json():
    (table,) = re.findall(r"<!-- leaderboard: .* -->\n(.*?)<!-- end -->", README, flags=re.DOTALL)
    assert table.strip() == to_markdown(read_leaderboard(ROOT / "results" / "leaderboard.json")).strip()


def test_leaderboard_json_is_in_step_with_the_results(tmp_path, monkeypatch):
    # Those that are committed: somebody may have run a model into this folder.
    kept = subprocess.run(["git", "archive", "HEAD", "results"], cwd=ROOT, capture_output=True)
    if kept.returncode == 0:
        with tarfile.open(fileobj=io.BytesIO(kept.stdout)) as archive:
            archive.extractall(tmp_path, filter="data")
        monkeypatch.chdir(tmp_path)
    assert read_leaderboard(ROOT / "results" / "leaderboard.json") == build_leaderboard([Path("results")]).document


def test_the_model_shown_is_the_one_that_a_test_installs():
    plugin = ROOT / "tests" / "fixtures" / "model_plugin"
    assert (plugin / "colour_models.py").read_text("utf-8").strip() in README
    assert 'colours = "colour_models:META"' in README
    assert 'colours = "colour_models:META"' in (plugin / "pyproject.toml").read_text("utf-8")


def test_the_models_of_the_readme_are_registered():
    names = {meta.name for meta in model_metas()}
    table = README[README.index("We add\n") : README.index("and replace mteb's wrapper")]
    shown = set(re.findall(r"`((?:timm|google|facebook)/[^`]+)`", table))
    assert shown | {"vehicle-search/tiny-clip", "jinaai/jina-clip-v2"} == names


def test_the_entry_that_contributing_shows_is_the_registered_one():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(code.strip().splitlines()) <= 12
    found: dict = {}
    exec(textwrap.dedent(code), found)
    (ours,) = [meta for meta in model_metas() if meta.name == found["META"].name]
    for field in ("revision", "n_parameters", "embed_dim", "max_tokens", "license", "release_date", "loader"):
        assert getattr(found["META"], field) == getattr(ours, field), field


def tidy(text):
    return without_colours(text.strip())
