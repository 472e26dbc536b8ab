"""Check that constraints.txt pins everything pyproject.toml asks for, at a version it allows; exit 1 otherwise."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]


def problems() -> list[str]:
    """Return what is out of step."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins: dict[str, list[str]] = {}
    found = []
    for line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        pin = Requirement(line)
        if pin.url or len(pin.specifier) != 1 or "==" not in str(pin.specifier):
            found.append(f"{line!r} is not a plain pin")
            continue
        pins.setdefault(canonicalize_name(pin.name), []).append(str(pin.specifier)[2:])
    wanted = [*project["dependencies"], *(r for extra in project["optional-dependencies"].values() for r in extra)]
    for requirement in map(Requirement, wanted):
        versions = pins.get(canonicalize_name(requirement.name))
        if not versions:
            found.append(f"{requirement.name} is not pinned")
        found += [
            f"{requirement.name}=={version} is outside {requirement.specifier}"
            for version in versions or []
            if not requirement.specifier.contains(version)
        ]
    return found


if __name__ == "__main__":
    for problem in problems():
        print(problem, file=sys.stderr)
    sys.exit(bool(problems()))
