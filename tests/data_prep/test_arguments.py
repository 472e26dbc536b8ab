"""The command line: every default, every flag, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data_prep.cli import PROGRAM
from data_prep.markers import STAGES
from mteb_vehicle_search import cli, settings


def parsed(*words: str) -> dict[str, Any]:
    """Return what a command is given."""
    found = vars(
        cli._parser(PROGRAM, next((word for word in words if word in PROGRAM.commands), None)).parse_args(words)
    )
    del found["main"], found["debug"], found["version"]
    return found


DEFAULTS = {
    "build": {
        "preset": "original",
        "flickr30k": None,
        "imagenet": None,
        "captions": "",
        "captioned": None,
        "distractors": None,
        "recipe": None,
        "out": None,
        "selection": None,
        "device": "auto",
        "engine": None,
        "batch_size": 32,
        "rebuild": [],
        "allow_rejects": False,
        "allow_incomplete": False,
        "dry_run": False,
        "quiet": False,
    },
    "verify": {"folder": Path("set"), "quiet": False},
    "inspect": {"folder": Path("set"), "sheet": None, "count": 24, "seed": 0},
    "push": {"folder": Path("set"), "repository": "lab/set", "images": False, "gated": False, "public": False},
    "recipe": {"folder": Path("set"), "out": Path("set.json")},
    "init": {
        "folder": "photos",
        "out": None,
        "name": "",
        "title": None,
        "table": "",
        "file_column": "",
        "caption_column": "",
        "force": False,
    },
}
POSITIONAL = {
    "build": [],
    "verify": ["set"],
    "inspect": ["set"],
    "push": ["set", "lab/set"],
    "recipe": ["set", "set.json"],
    "init": ["photos"],
}
FLAGS = [
    ("build --preset mini", "preset", "mini"),
    ("build --flickr30k /f", "flickr30k", "/f"),
    ("build --imagenet /i", "imagenet", "/i"),
    ("build --captions c.csv", "captions", "c.csv"),
    ("build --captioned /p", "captioned", "/p"),
    ("build --distractors s3://b/p", "distractors", "s3://b/p"),
    ("build --recipe r.json", "recipe", "r.json"),
    ("build --out o", "out", Path("o")),
    ("build --selection published", "selection", "published"),
    ("build --workers 3", "workers", 3),
    ("build --workers 1", "workers", 1),
    ("build --device cuda:1", "device", "cuda:1"),
    ("build --engine ray", "engine", "ray"),
    ("build --batch-size 1", "batch_size", 1),
    ("build --rebuild export --rebuild select", "rebuild", ["export", "select"]),
    *((f"build --rebuild {stage}", "rebuild", [stage]) for stage in STAGES),
    ("build --allow-rejects", "allow_rejects", True),
    ("build --allow-incomplete", "allow_incomplete", True),
    ("build --dry-run", "dry_run", True),
    ("build --quiet", "quiet", True),
    ("verify set --quiet", "quiet", True),
    ("inspect set --sheet s.png", "sheet", Path("s.png")),
    ("inspect set --count 1", "count", 1),
    ("inspect set --seed -3", "seed", -3),
    ("push set lab/set --public", "public", True),
    ("push set lab/set --images", "images", True),
    ("push set lab/set --gated", "gated", True),
    ("init photos --out p.toml", "out", Path("p.toml")),
    ("init photos --name cats", "name", "cats"),
    ("init photos --title Cats", "title", "Cats"),
    ("init photos --table t.csv", "table", "t.csv"),
    ("init photos --file-column f", "file_column", "f"),
    ("init photos --caption-column c", "caption_column", "c"),
    ("init photos --force", "force", True),
]


@pytest.mark.parametrize("command", DEFAULTS)
def test_defaults(command, monkeypatch):
    monkeypatch.setattr(settings, "usable_cores", lambda: 5)
    found = parsed(command, *POSITIONAL[command])
    more = {"workers": 5} if command == "build" else {}
    assert found == {**DEFAULTS[command], **more}


@pytest.mark.parametrize(("line", "name", "value"), FLAGS)
def test_flags(line, name, value):
    given = line.split()
    command = next(word for word in given if word in DEFAULTS)
    found = parsed(*given)
    plain = parsed(command, *POSITIONAL[command])
    assert found == {**plain, name: value}
    assert type(found[name]) is type(value)


def test_a_list_of_one_run_is_not_that_of_the_next():
    assert parsed("build", "--rebuild", "export")["rebuild"] == ["export"]
    assert parsed("build")["rebuild"] == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "the following arguments are required: COMMAND"),
        ("make", "invalid choice: 'make'"),
        ("build --workers 0", "argument --workers: must be at least 1"),
        ("build --workers -1", "argument --workers: must be at least 1"),
        ("build --workers two", "argument --workers: invalid positive value: 'two'"),
        ("build --batch-size 0", "argument --batch-size: must be at least 1"),
        ("build --rebuild everything", "argument --rebuild: invalid choice: 'everything'"),
        ("build --nothing", "unrecognized arguments: --nothing"),
        ("verify", "the following arguments are required: folder"),
        ("inspect", "the following arguments are required: folder"),
        ("inspect set --count 0", "argument --count: must be at least 1"),
        ("inspect set --seed x", "argument --seed: invalid int value: 'x'"),
        ("push set", "the following arguments are required: REPO"),
        ("recipe set", "the following arguments are required: OUT"),
        ("init", "the following arguments are required: FOLDER"),
        ("build --recipe r.json --preset mini", "argument --preset: not allowed with argument --recipe"),
    ],
)
def test_wrong_usage_exits_with_two(line, words, capsys):
    with pytest.raises(SystemExit) as stop:
        parsed(*line.split())
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.startswith("usage: vehicle-search-data")


def test_help_names_commands_flags_and_defaults(capsys):
    def shown(*arguments: str) -> str:
        with pytest.raises(SystemExit) as stop:
            parsed(*arguments, "--help")
        assert stop.value.code == 0
        return " ".join(capsys.readouterr().out.split())

    whole = shown()
    for words in (
        "verify read everything and report every violation",
        "push publish a set's recipe on the hub, or all of it; private",
    ):
        assert words in whole
    build = shown("build")
    assert "Build an evaluation set, or finish an interrupted build. Whatever is finished is kept" in build
    for words in (
        "--batch-size N of classifier and miners (default: 32)",
        "--rebuild STAGE",
        "more than 0.5 % of bad images",
    ):
        assert words in build
    assert f"although nothing changed: {', '.join(STAGES)}" in build
    for placeholder in ("--preset NAME", "--flickr30k SRC", "--imagenet SRC", "--out FOLDER", "--selection LIST"):
        assert placeholder in build
    assert "--workers N" in build
    inspect = shown("inspect")
    assert "Counts by source, class and size, and a contact sheet. " in inspect
    for words in ("--sheet PNG", "--count N images on the contact sheet (default: 24)", "--seed N which images"):
        assert words in inspect
    assert "(default: 0)" in inspect
