import re
import subprocess
from pathlib import Path

import pytest
from check_constraints import problems

ROOT = Path(__file__).parents[1]


def test_constraints_pin_what_the_project_needs():
    assert problems() == []


def test_no_registry_host_and_no_large_file_is_committed():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    files = [ROOT / name for name in listed.stdout.split("\0") if name]
    assert sum(path.stat().st_size for path in files if path.is_file()) < 20_000_000
    hosts = re.compile("|".join(("py" + "pi.org", "pythonhosted" + r"\.org", "npmjs" + r"\.org")))
    found = [
        path.name
        for path in files
        if path.suffix in {".txt", ".toml", ".md", ".py"} and hosts.search(path.read_text("utf-8"))
    ]
    assert found == []


def test_the_shipped_sizes_keep_their_limits():
    def size(folder):
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

    package = ROOT / "mteb_vehicle_search"
    assert size(package / "mini") <= 8_000_000
    assert size(package / "models" / "tiny_clip") <= 5_000_000


def test_the_readme_shows_the_tested_model_and_the_constraints_command():
    text = (ROOT / "README.md").read_text("utf-8")
    assert (ROOT / "tests/fixtures/model_plugin/colour_models.py").read_text("utf-8").strip() in text
    assert 'colours = "colour_models:META"' in (ROOT / "tests/fixtures/model_plugin/pyproject.toml").read_text("utf-8")
