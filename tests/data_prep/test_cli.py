"""The command line: exit statuses, messages, the plan and inspection."""

from __future__ import annotations

import errno
import os
import re
import runpy
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from small_set import small_set
from small_sources import write_flickr30k, write_imagenet, write_preset

from data_prep import build, cli
from data_prep.job import BuildOptions
from data_prep.plan import Plan
from data_prep.preset import load_preset
from data_prep.push import Sharing
from data_prep.sources.drawn.source import MINI, CaptionedScenes, DistractorScenes
from mteb_vehicle_search import settings
from mteb_vehicle_search.errors import BuildError
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.eval_set.verify import Verification, Violation


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
    damaged = tmp_path / "damaged"
    shutil.copytree(out, damaged)
    path = next((damaged / "corpus").iterdir())
    path.write_bytes(path.read_bytes()[:-100])
    assert cli.main(["verify", str(damaged), "--quiet"]) == 1
    assert f"corpus/{path.name}: has " in capsys.readouterr().out


def test_a_missing_set_is_an_error_without_a_traceback(tmp_path, capsys):
    assert cli.main(["verify", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: No evaluation set in")
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
    assert row.split() == ["captioned", "8", "30", "-22"]


def test_the_plan_writes_nothing(small, tmp_path, capsys):
    out, arguments = small
    assert cli.main([*arguments, "--out", str(tmp_path / "new" / "set"), "--dry-run"]) == 0
    shown = capsys.readouterr().out
    for text in ("disk needed at the peak", "disk free", "stage export", "to do", "flickr_annotations", "nothing"):
        assert text in shown
    assert list(tmp_path.iterdir()) == []
    assert cli.main([*arguments, "--out", str(out), "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "6 parts done" in shown
    assert "to do" in shown  # The classifier, since there is a list.


def test_the_plan_names_a_missing_source(small, tmp_path, capsys):
    _, arguments = small
    changed = [*arguments, "--imagenet", str(tmp_path / "nowhere"), "--out", str(tmp_path / "o"), "--dry-run"]
    assert cli.main(changed) == 1
    said = capsys.readouterr()
    assert "NOT READY" in said.out
    assert said.err.splitlines()[-2] == f"error: there is no folder {tmp_path / 'nowhere'}"


def test_the_plan_says_when_the_disk_is_too_small(small, tmp_path, capsys, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr("data_prep.plan.shutil.disk_usage", lambda path: usage)
    assert cli.main([*small[1], "--out", str(tmp_path / "o"), "--dry-run"]) == 1
    assert "GB are free on the disk" in capsys.readouterr().err


def test_inspect_counts_and_draws(small, tmp_path, capsys):
    out, _ = small
    sheet = tmp_path / "sheet.png"
    assert cli.main(["inspect", str(out), "--sheet", str(sheet), "--count", "12"]) == 0
    shown = capsys.readouterr().out
    for text in ("flickr30k", "imagenet", "n01443537 green cart", "160 to 239 px"):
        assert text in shown
    with Image.open(sheet) as image:
        assert image.size[0] == 1320
        assert image.size[1] > 200, "two rows"
        assert len(image.getcolors(1 << 24) or []) > 100


def test_importing_the_package_and_the_command_line_loads_nothing_heavy():
    code = "import sys, data_prep.cli; print([m for m in ('torch', 'mteb', 'PIL', 'pyarrow') if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[]"


class Stop(BuildError):
    """Ends a command where a test has seen enough."""


@pytest.fixture
def asked(monkeypatch):
    """What a build was asked for, which then stops."""
    found: list[Any] = []

    def build(options, reporter):
        found.append((options, reporter.quiet))
        raise Stop("stopped")

    monkeypatch.setattr("data_prep.build.build", build)
    return found


def test_without_flags_the_original_is_built_from_the_hub_where_the_task_looks(asked, monkeypatch, tmp_path):
    monkeypatch.setattr(settings, "usable_cores", lambda: 5)
    assert cli.main(["build"]) == 1
    assert cli.main(["build", "--preset", "mini"]) == 1
    monkeypatch.setenv("VEHICLE_SEARCH_DATA", str(tmp_path / "mine"))
    assert cli.main(["build"]) == 1
    assert cli.main(["build", "--preset", "mini"]) == 1
    home = settings.home() / "data"
    original, mini = load_preset("original"), load_preset("mini")
    assert asked == [
        (BuildOptions(original, home / "vehicle-image-search", workers=5), False),
        (BuildOptions(mini, home / "vehicle-image-search-mini", workers=5), False),
        (BuildOptions(original, tmp_path / "mine", workers=5), False),
        (BuildOptions(mini, home / "vehicle-image-search-mini", workers=5), False),
    ]


def test_a_copy_from_an_address_is_not_built_over(asked, capsys, monkeypatch):
    monkeypatch.setenv("VEHICLE_SEARCH_DATA", "s3://bucket/set")
    assert cli.main(["build"]) == 1
    assert asked == []
    assert "VEHICLE_SEARCH_DATA names s3://bucket/set, to which a build does not write.\n" in capsys.readouterr().err


def test_a_set_of_another_name_is_not_replaced_by_the_original(asked, capsys, monkeypatch, tmp_path):
    small_set(tmp_path / "dogs", name="dog-image-search")
    monkeypatch.setenv("VEHICLE_SEARCH_DATA", str(tmp_path / "dogs"))
    assert cli.main(["build"]) == 1
    assert asked == []
    said = capsys.readouterr().err
    assert f"{tmp_path / 'dogs'} holds the set dog-image-search, which a build of vehicle-image-search would" in said
    assert "--out" in said


def test_every_flag_of_build_arrives(asked, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    line = "build --preset mini --out sets/a --flickr30k f --imagenet i --selection l --workers 3 --device cpu "
    line += "--batch-size 7 --rebuild select --rebuild export --allow-rejects --allow-incomplete --quiet "
    line += "--captions c --captioned p --distractors d"
    assert cli.main(line.split()) == 1
    sources = {"flickr30k": "f", "imagenet": "i", "captioned": "p", "distractors": "d"}
    rest = (3, "cpu", 7, ("select", "export"), True, True)
    wanted = BuildOptions(load_preset("mini"), tmp_path / "sets" / "a", sources, "c", "l", None, *rest)
    assert asked == [(wanted, True)]


def test_a_tilde_is_the_home_folder(asked, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cli.main(["build", "--preset", "mini", "--out", "~/set"]) == 1
    assert asked[0][0].out == tmp_path / "set"


@pytest.mark.parametrize(
    ("given", "quiet", "then"), [(None, False, None), (None, True, "1"), ("0", True, "0"), ("0", False, "0")]
)
def test_quiet_silences_the_hubs_bars_too(asked, monkeypatch, given, quiet, then):
    name = "HF_HUB_DISABLE_PROGRESS_BARS"
    monkeypatch.setenv(name, given or "")
    if given is None:
        monkeypatch.delenv(name)
    cli.main(["build", "--preset", "mini", *(["--quiet"] if quiet else [])])
    assert os.environ.get(name) == then


def test_pillows_warnings_are_not_shown(asked):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cli.main(["build", "--preset", "mini"])
        warnings.warn_explicit("odd EXIF", UserWarning, "TiffImagePlugin.py", 1, module="PIL.TiffImagePlugin")
        with pytest.raises(UserWarning, match="other"):
            warnings.warn_explicit("other", UserWarning, "x.py", 1, module="PILLOW")


@pytest.mark.parametrize(("needed", "free", "status"), [(1.0, 1.0, 0), (1.0, 0.999, 1), (0.0, 0.0, 0)])
def test_a_dry_run_shows_the_plan_and_whether_there_is_space(asked, monkeypatch, capsys, needed, free, status):
    planned = []

    def plan(options):
        planned.append(options)
        found = Plan([("disk", "a" * 100), ("[b]", "2")], needed_gb=needed, free_gb=free, warnings=["Look."])
        found.captioned, found.distractors = CaptionedScenes(MINI), DistractorScenes(MINI)
        return found

    monkeypatch.setattr("data_prep.build.plan", plan)
    assert cli.main(["build", "--preset", "mini", "--dry-run"]) == status
    shown, told = capsys.readouterr()
    assert told == "warning: Look.\n"
    assert asked == []
    assert planned[0].preset == load_preset("mini")
    assert "Plan" in shown
    assert "[b]" in shown
    assert sum(len(run) for run in re.findall("a{5,}", shown)) == 100, "longer cells are not cut"


@pytest.fixture
def failing(monkeypatch):
    """Makes `verify` raise an exception."""

    def fail(error: BaseException) -> None:
        def verify(*given, **more):
            raise error

        monkeypatch.setattr("mteb_vehicle_search.eval_set.verify.verify", verify)

    return fail


FULL = "\nFree some space and run the same command again; finished work is kept.\n"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (BuildError("wrong", "do this"), "error: wrong\ndo this\n"),
        (OSError(errno.ENOSPC, "No space", "/a/b"), "error: the disk is full (/a/b)." + FULL),
        (OSError(errno.ENOSPC, "No space"), "error: the disk is full (No space)." + FULL),
        (PermissionError(errno.EACCES, "Denied", "/a/b"), "error: [Errno 13] Denied: '/a/b'\n"),
    ],
)
def test_an_error_is_one_message_and_with_debug_a_traceback(failing, capsys, error, message):
    failing(error)
    assert cli.main(["verify", "set"]) == 1
    assert capsys.readouterr() == ("", message)
    with pytest.raises(type(error)):
        cli.main(["--debug", "verify", "set"])
    assert capsys.readouterr() == ("", "")


def test_an_interruption_says_how_to_go_on(failing, capsys):
    failing(KeyboardInterrupt())
    assert cli.main(["verify", "set"]) == 130
    assert capsys.readouterr() == ("", "interrupted; run the same command again to go on\n")


def test_what_is_not_foreseen_is_named_with_the_way_to_see_more(failing, capsys):
    failing(ZeroDivisionError("x"))
    assert cli.main(["verify", "set"]) == 1
    assert capsys.readouterr().err.startswith("error: ZeroDivisionError: x\nThis was not foreseen; --debug")


@pytest.mark.parametrize("quiet", [False, True])
@pytest.mark.parametrize(("violations", "status", "last"), [([], 0, "No violation."), (["a", "b"], 1, "2 violations.")])
def test_verify_shows_what_it_found(monkeypatch, capsys, quiet, violations, status, last):
    given = []

    def verify(folder, *, progress):
        given.append((folder, progress))
        return Verification([Violation(f"corpus/{v}", f"[is] {v}") for v in violations], {"corpus": 12345}, "c0ffee")

    monkeypatch.setattr("mteb_vehicle_search.eval_set.verify.verify", verify)
    assert cli.main(["verify", "set", *(["--quiet"] if quiet else [])]) == status
    assert given == [(Path("set"), not quiet)]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].strip() == "set"
    assert any("corpus" in line and "12,345" in line for line in lines)
    after = lines[lines.index("Content id c0ffee") + 1 :]
    assert after == [*(f"  corpus/{v}: [is] {v}" for v in violations), last]


@pytest.mark.parametrize(
    ("built", "published", "words"),
    [(5, None, "-"), (5, 5, "same"), (12345, 5, "+12,340"), (5, 12345, "-12,340"), (0, 0, "same")],
)
def test_counts_are_compared_in_words(built, published, words):
    assert build._compared(built, published) == words


class Rows(list):
    """A table of rejects."""

    def slice(self, start, count):
        """Return some of the rows."""
        return Rows(self[start : start + count])

    def to_pylist(self):
        """Return them as dictionaries."""
        return [{"id": f"x/{n}", "stage": "captioned", "reason": f"reason {n}"} for n in self]


@pytest.mark.parametrize("expected", [{}, {"captioned": 30, "queries": 10}])
@pytest.mark.parametrize("rejected", [0, 5, 6])
def test_build_shows_counts_rejects_and_where_things_are(monkeypatch, capsys, tmp_path, expected, rejected):
    class Built:
        folder, content_id, task_name = tmp_path / "set", "c0ffee", "MySet"

        def __init__(self) -> None:
            counts = {"captioned": 8, "distractors": 12000, "queries": 10, "distinct_texts": 9, "rejected": rejected}
            self.manifest = {"title": "My Set", "notes": {"counts": counts, "expected": expected}}

        def rejected(self):
            return Rows(range(rejected))

    monkeypatch.setattr("data_prep.build.build", lambda options, reporter: Built())
    assert cli.main(["build", "--preset", "mini", "--out", str(tmp_path / "set")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].strip() == "My Set"
    cells = [re.split(" {2,}", line.strip()) for line in lines[2:7]]
    more = {"captioned": ["30", "-22"], "queries": ["10", "same"]} if expected else {}
    named = {
        "captioned": "8",
        "distractors": "12,000",
        "queries": "10",
        "distinct_texts": "9",
        "rejected": str(rejected),
    }
    assert cells == [
        [name.replace("_", " "), count, *(more.get(name, ["-", "-"]) if expected else [])]
        for name, count in named.items()
    ]
    assert lines[1].split() == (["count", "built", "published", "difference"] if expected else ["count", "built"])
    after = lines[7:]
    folder = tmp_path / "set"
    assert after == [
        *(f"  x/{n} (captioned): reason {n}" for n in range(min(5, rejected))),
        *([f"  ...; all of them are in {folder / 'rejected.parquet'}"] if rejected > 5 else []),
        "Content id c0ffee",
        f"Verified; at {folder}",
        f"Evaluate a model: VEHICLE_SEARCH_DATA={folder} mteb run -t MySet -m MODEL",
        f"{folder}.build holds the finished stages; delete it when no rebuild is planned.",
    ]


def test_the_command_is_short_where_the_set_is_found(tmp_path, monkeypatch):
    def command(folder):
        return build._command(EvalSet(folder, {"name": "my-set"}))

    plain = "mteb run -t MySet -m MODEL"
    assert command(settings.home() / "data" / "any") == plain
    assert command(tmp_path / "a b") == f"VEHICLE_SEARCH_DATA='{tmp_path}/a b' {plain}"
    monkeypatch.setenv("VEHICLE_SEARCH_DATA", str(tmp_path / "a b"))
    assert command(tmp_path / "a b") == plain


def test_inspect_draws_what_is_asked_for(small, tmp_path, monkeypatch, capsys):
    out, _ = small
    drawn = []
    monkeypatch.setattr("data_prep.inspect.contact_sheet", lambda *given: drawn.append(given))
    assert cli.main(["inspect", str(out)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "Contact sheet: contact-sheet.png"
    assert cli.main(["inspect", str(out), "--sheet", "s.png", "--count", "3", "--seed", "9"]) == 0
    assert [given[1:] for given in drawn] == [(Path("contact-sheet.png"), 24, 0), (Path("s.png"), 3, 9)]
    assert {given[0].content_id for given in drawn} == {EvalSet.open(out).content_id}


@pytest.mark.parametrize("classes", [{}, {"n1 cart": 2}])
def test_inspect_shows_bars_of_forty_at_most(small, monkeypatch, capsys, classes):
    from data_prep.inspect import Summary

    out, _ = small
    sides = {"below 160 px": 10, "160 to 239 px": 40, "more": 0}
    summary = Summary(sources={"flickr30k": 1234}, classes=classes, sides=sides)
    monkeypatch.setattr("data_prep.inspect.summarise", lambda eval_set: summary)
    monkeypatch.setattr("data_prep.inspect.contact_sheet", lambda *given: None)
    assert cli.main(["inspect", str(out)]) == 0
    shown = capsys.readouterr().out
    rows = [re.split(" {2,}", line.strip()) for line in shown.splitlines()]
    for name, bar in (("below 160 px", ["#" * 10]), ("160 to 239 px", ["#" * 40]), ("more", [])):
        assert [name, str(sides[name]), *bar] in rows
    assert ["flickr30k", "1,234"] in rows
    assert ("Images by class" in shown) == bool(classes) == (["n1 cart", "2"] in rows)
    headings = [[line] for line in ("Images by source", "Shorter side of the originals")]
    assert [row for row in rows if row in headings] == headings
    assert rows.count(["source", "images"]) == rows.count(["shorter side", "images"]) == 1
    assert rows.count(["class", "images"]) == bool(classes)


@pytest.mark.parametrize("public", [False, True])
@pytest.mark.parametrize("warning", ["", "Terms."])
def test_push_warns_first_and_says_where_it_went(small, monkeypatch, capsys, public, warning):
    out, _ = small
    given = []
    monkeypatch.setattr("data_prep.push.terms_warning", lambda eval_set, sharing: given.append(sharing) or warning)
    monkeypatch.setattr("data_prep.push.push", lambda *what: given.append(what) or "https://hub/lab/set")
    assert cli.main(["push", str(out), "lab/set", *(["--public"] if public else [])]) == 0
    assert given == [Sharing(public=public), (out, "lab/set", Sharing(public=public))]
    assert capsys.readouterr() == ("Pushed the recipe to https://hub/lab/set\n", "Terms.\n" if warning else "")


@pytest.mark.parametrize(("arguments", "status"), [(["verify", "{nowhere}"], 1), (["verify", "{set}"], 0), ([], 2)])
def test_python_m_is_the_same_command(small, tmp_path, monkeypatch, arguments, status):
    places = {"nowhere": tmp_path, "set": small[0]}
    monkeypatch.setattr(sys, "argv", ["x", *(word.format(**places) for word in arguments)])
    with pytest.raises(SystemExit) as stop:
        runpy.run_module("data_prep", run_name="__main__")
    assert stop.value.code == status
    assert "main" in runpy.run_module("data_prep.__main__", run_name="data_prep.__main__")  # Importing it runs nothing.


def test_a_package_of_the_users_own_that_hides_ours_is_named(tmp_path):
    """Found first where PYTHONPATH names a folder with one; the import of ours would fail without a word."""
    (tmp_path / "data_prep").mkdir()
    (tmp_path / "data_prep" / "__init__.py").touch()
    (tmp_path / "work").mkdir()
    code = "import sys; from mteb_vehicle_search.cli import data_main; sys.exit(data_main(['build', '--help']))"
    here = os.pathsep.join(filter(None, sys.path))
    for first, status in ((str(tmp_path), 1), ("", 0)):
        path = os.pathsep.join(filter(None, [first, here]))
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": path},
            cwd=tmp_path / "work",
            capture_output=True,
            text=True,
        )
        assert done.returncode == status
        ours = Path(cli.__file__).parent
        said = (
            f"error: Another package called data_prep, in {tmp_path / 'data_prep'}, hides the one of this command, in "
            f"{ours}.\nTake it out of PYTHONPATH, or rename it.\n"
        )
        assert done.stderr == (said if status else "")
