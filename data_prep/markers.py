"""Resumable stages: a marker says what was made, from what, with which configuration.

A stage is done if its marker's configuration is today's and its outputs have the bytes that the marker lists. A marker
is written last, by rename, so a killed process leaves either a finished stage or one that is done again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mteb_vehicle_search.eval_set.schema import Rejected
from mteb_vehicle_search.files import file_sha256, write_whole

STAGES = ("classify", "embed", "select", "mine", "captioned", "distractors", "duplicates", "export")


@dataclass(frozen=True)
class Marker:
    """What a finished stage did.

    Attributes:
        stage: Its name, such as "distractors/train_n02701002".
        configuration: Everything its outputs depend on, JSON: settings, and digests of its inputs.
        outputs: Path relative to the work folder -> bytes and sha256.
        counts: Numbers that later stages and the report want.
        rejected: Inputs that were left out.
    """

    stage: str
    configuration: dict[str, Any]
    outputs: dict[str, dict[str, Any]]
    counts: dict[str, Any] = field(default_factory=dict)
    rejected: list[Rejected] = field(default_factory=list)


def fingerprint(configuration: Any) -> str:
    """Return the sha256 of a JSON value, in hexadecimal."""
    return hashlib.sha256(json.dumps(configuration, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


class Stages:
    """The markers of one build, under `stages` in its work folder; `say` tells the user why a stage is stale."""

    def __init__(self, folder: Path, say: Callable[[str], None] = lambda message: None) -> None:
        self.folder = folder
        self._say = say
        self._said: set[tuple[str, object]] = set()

    def path(self, stage: str) -> Path:
        """Return where a stage's marker lies."""
        return self.folder / "stages" / f"{stage}.json"

    def done(self, stage: str, configuration: dict[str, Any]) -> Marker | None:
        """Return the marker of a finished stage, or None if it has to be done (again), and say why."""
        path = self.path(stage)
        if not path.is_file():
            return None
        marker = self._read(path)
        configuration = json.loads(json.dumps(configuration))
        if marker is None:
            return self._stale(stage, "marker", "its marker cannot be read")
        if marker.configuration != configuration:
            differing = _differences(marker.configuration, configuration)
            return self._stale(stage, tuple(differing), "; ".join(differing.values()))
        for name, expected in marker.outputs.items():
            output = self.folder / name
            if not output.is_file() or output.stat().st_size != expected["bytes"]:
                return self._stale(stage, "missing", f"{name} is missing or truncated")
            if file_sha256(output) != expected["sha256"]:
                return self._stale(stage, "changed", f"{name} was changed")
        return marker

    def finish(
        self,
        stage: str,
        configuration: dict[str, Any],
        outputs: Sequence[Path] = (),
        counts: dict[str, Any] | None = None,
        rejected: Sequence[Rejected] = (),
    ) -> Marker:
        """Write a stage's marker; its outputs must be complete."""
        described = {
            path.relative_to(self.folder).as_posix(): {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
            for path in outputs
        }
        marker = Marker(stage, configuration, described, counts or {}, sorted(rejected))
        content = {**asdict(marker), "fingerprint": fingerprint(configuration)}
        path = self.path(stage)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False).encode())
        return marker

    def discard(self, stage: str) -> None:
        """Forget a stage and all its parts, so that it is done again."""
        self.path(stage).unlink(missing_ok=True)
        parts = self.folder / "stages" / stage
        if parts.is_dir():
            shutil.rmtree(parts)

    def finished(self) -> dict[str, int]:
        """Return how many markers each stage has, whatever their configuration."""
        root = self.folder / "stages"
        return Counter(path.relative_to(root).with_suffix("").parts[0] for path in sorted(root.rglob("*.json")))

    def tell_changes(self, group: str, parts: Sequence[str]) -> None:
        """Say in a line how many of a stage's parts are done, if others were done that it has no more."""
        root = self.folder / "stages"
        done = {path.relative_to(root).with_suffix("").as_posix() for path in (root / group).glob("*.json")}
        if gone := done - {*parts}:
            self._say(
                f"Stage '{group}' has other parts than before: {len(done & {*parts})} of {len(parts)} are done, and "
                f"{len(gone)} that were done are not used any more."
            )

    def _stale(self, stage: str, kind: object, reason: str) -> None:
        """Say why a stage is done again; of its parts, which may be hundreds, only the first of each kind."""
        group = stage.partition("/")[0]
        if (group, kind) not in self._said:
            self._said.add((group, kind))
            self._say(f"Stage '{group}' is stale and is done again: {reason}.")

    def _read(self, path: Path) -> Marker | None:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            rejected = [Rejected(*row) for row in content["rejected"]]
            return Marker(content["stage"], content["configuration"], content["outputs"], content["counts"], rejected)
        except (ValueError, KeyError, TypeError):
            return None


def _differences(old: dict[str, Any], new: dict[str, Any]) -> dict[str, str]:
    """Return which settings changed, the nested ones by their path, and how, in words."""
    found = {}
    for key in sorted(set(old) | set(new)):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            found |= {f"{key}.{inner}": f"{key}.{said}" for inner, said in _differences(before, after).items()}
        elif before != after:
            found[key] = f"{key} was {_brief(before)}, is {_brief(after)}"
    return found


def _brief(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
