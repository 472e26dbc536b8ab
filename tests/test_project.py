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
    files = [path for path in (ROOT / name for name in listed.stdout.split("\0") if name) if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 20_000_000
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
