"""Environments of their own with built wheels in them."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import textwrap
from pathlib import Path

from mteb_vehicle_search.plugin import registry

ROOT = Path(__file__).parents[2]
BORROWED = sysconfig.get_paths()["purelib"]


class Environment:
    """A virtual environment that borrows the dependencies of this one, but not what is installed in editable mode."""

    def __init__(self, folder: Path, *wheels: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        self.home = folder / "home"
        self.python = folder / "bin" / "python"
        code = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
        self.site_packages = Path(self.run("-c", code).stdout.strip())
        (self.site_packages / "zz_borrowed.pth").write_text(f"{BORROWED}\n", encoding="utf-8")
        pip = [sys.executable, "-m", "pip", "--python", self.python, "--disable-pip-version-check", "install"]
        subprocess.run([*pip, "--quiet", "--no-deps", "--no-index", *wheels], check=True)

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VEHICLE_SEARCH", "COVERAGE"))}
        places = {"HF_HOME": self.home / "hf", "MTEB_CACHE": self.home / "mteb", "VEHICLE_SEARCH_HOME": self.home}
        offline = {"HF_HUB_OFFLINE": "1", "PYTHONIOENCODING": "utf-8", "COLUMNS": "200"}
        env = {**kept, **{k: str(v) for k, v in places.items()}, **offline, **variables}
        self.home.mkdir(exist_ok=True)
        return subprocess.run(
            [str(self.python), *arguments], capture_output=True, text=True, env=env, cwd=self.home, timeout=170
        )

    def check(self, code: str, *options: str, **variables: str) -> str:
        """Run assertions in a fresh interpreter; returns its stderr."""
        done = self.run(*options, "-c", textwrap.dedent(code), **variables)
        assert done.returncode == 0, done.stderr
        return done.stderr


def build(project: Path, folder: Path, kind: str = "wheel") -> Path:
    code = f"import sys, hatchling.build; hatchling.build.build_{kind}(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, folder], cwd=project, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def distribution(folder: Path, name: str, value: str) -> None:
    """Lay down the metadata of a package whose entry point is `value`."""
    info = folder / f"{name.replace('-', '_')}-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n", encoding="utf-8")
    entry = f"[{registry.ENTRY_POINT_GROUP}]\n{name} = {value}\n"
    (info / "entry_points.txt").write_text(entry, encoding="utf-8")
