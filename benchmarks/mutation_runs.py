"""Runs tests over a tree with a mistake in it, and measures which tests come by a line.

The heavy libraries are imported once, in this process; every run is a fork of it that imports the product anew from its
own copy of the checkout. mteb is among them, without our hook: the product registers itself when it is imported.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from mutants import PRODUCT, product_files

HEAVY = (
    *("numpy", "torch", "torchvision", "transformers", "pandas", "pyarrow.parquet", "datasets", "open_clip", "timm"),
    *("scipy.stats", "sentence_transformers", "huggingface_hub", "PIL.Image", "rich.console", "jinja2", "imagehash"),
    *("hypothesis", "pytest", "ir_measures", "mteb"),
)
ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "VEHICLE_SEARCH_NO_HOOK": "1"}
# A mistake may make a test slow; one that takes this much longer hangs.
PATIENCE, SPARE_S = 5, 30
# Coverage slows everything down, and a few tests of interrupted processes may feel it.
FAILURES_BORNE = 3
COVERAGE_SETTINGS = """\
[run]
parallel = true
data_file = {data}
source = {sources}
context = ${{PYTEST_CURRENT_TEST-}}
concurrency = multiprocessing,thread
patch = _exit
disable_warnings = no-data-collected,module-not-imported,module-not-measured
"""
# Told to pytest by name: switches the context with the test, and writes down how long each took.
CONTEXT_PLUGIN = """\
import json, os
import coverage, pytest

seconds = {}

@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    measured = coverage.Coverage.current()
    if measured:
        measured.switch_context(item.nodeid)
    yield
    if measured:
        measured.switch_context("")

def pytest_runtest_logreport(report):
    if "PYTEST_XDIST_WORKER" not in os.environ:
        seconds[report.nodeid] = seconds.get(report.nodeid, 0) + report.duration

def pytest_sessionfinish(session):
    measured = coverage.Coverage.current()
    if measured:
        measured.stop()
        measured.save()
    if "PYTEST_XDIST_WORKER" not in os.environ:
        with open(os.environ["SECONDS_FILE"], "w") as file:
            json.dump(seconds, file)
"""


class Run(NamedTuple):
    """Tests over one changed file; their order is the order of the run."""

    path: str
    code: str
    tests: tuple[str, ...]


class Outcome(NamedTuple):
    """Whether the mistake was noticed, the first test that failed ("": it took too long), and the seconds."""

    noticed: bool
    by: str
    seconds: float


class Contexts:
    """Which tests come by which line, and how long each takes."""

    def __init__(self, lines: dict[str, dict[int, list[str]]], seconds: dict[str, float], root: Path) -> None:
        self._lines, self._seconds = lines, seconds
        self._sources = {path: (root / path).read_text(encoding="utf-8").splitlines() for path in product_files(root)}

    @classmethod
    def measure(cls, tree: Path, kept: Path | None) -> Contexts:
        """Run the suite of `tree` with coverage, or take what `kept` holds of the very same files."""
        state = _digest(tree)
        if kept and kept.exists():
            found = json.loads(kept.read_text(encoding="utf-8"))
            if found["state"] == state:
                lines = {path: {int(n): t for n, t in of.items()} for path, of in found["lines"].items()}
                return cls(lines, found["seconds"], tree)
        print("measuring which tests come by which line ...", flush=True)
        lines, seconds = _measure(tree)
        if kept:
            text = json.dumps({"state": state, "lines": lines, "seconds": seconds})
            kept.write_text(text, encoding="utf-8")
        return cls(lines, seconds, tree)

    def tests_of(self, path: str, line: int, budget_s: float) -> tuple[str, ...]:
        """Return the tests that come by a line, of the module's own file first, the quickest first.

        A line that is executed by the import alone has those that come by any function of its module, and by the
        lines that use the name which it defines.
        """
        found = {test for test in self._lines.get(path, {}).get(line, ()) if test}
        if not self._in_function(path, line):
            found |= {test for of in self._lines.get(path, {}).values() for test in of if test}
            if name := re.match(r"\s*(\w+)\b[^=(]*=", self._sources[path][line - 1]):
                found |= self._tests_near(re.compile(rf"\b{name[1]}\b"))
        own = f"test_{Path(path).stem}."
        ordered = sorted(found, key=lambda test: (own not in test, self._seconds.get(test, 1.0), test))
        kept, total = [], 0.0
        for test in ordered:
            total += self._seconds.get(test, 1.0)
            if kept and total > budget_s:
                break
            kept.append(test)
        return tuple(kept)

    def _in_function(self, path: str, line: int) -> bool:
        source = self._sources[path]
        indent = len(source[line - 1]) - len(source[line - 1].lstrip())
        for above in reversed(source[: line - 1]):
            depth = len(above) - len(above.lstrip())
            if above.strip() and depth < indent:
                indent = depth
                if re.match(r"\s*(async )?def ", above):
                    return not source[line - 1].lstrip().startswith(("def ", ") ->"))
        return False

    def _tests_near(self, name: re.Pattern[str]) -> set[str]:
        return {
            test
            for path, source in self._sources.items()
            for number, text in enumerate(source, 1)
            if name.search(text)
            for test in self._lines.get(path, {}).get(number, ())
            if test
        }


def _digest(tree: Path) -> str:
    digest = hashlib.sha256()
    for folder in (*PRODUCT, "tests"):
        for path in sorted((tree / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(path.relative_to(tree).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _measure(tree: Path) -> tuple[dict[str, dict[int, list[str]]], dict[str, float]]:
    import coverage

    scratch = tree.with_name("coverage")
    scratch.mkdir()
    settings, seconds = scratch / "coveragerc", scratch / "seconds.json"
    sources = ",".join(str(tree / name) for name in PRODUCT)
    settings.write_text(COVERAGE_SETTINGS.format(data=scratch / "data", sources=sources), encoding="utf-8")
    (scratch / "mutation_contexts.py").write_text(CONTEXT_PLUGIN, encoding="utf-8")
    environment = {
        **{name: value for name, value in os.environ.items() if name not in ENVIRONMENT},
        "COVERAGE_PROCESS_START": str(settings),
        "PYTHONPATH": os.pathsep.join((str(tree), str(scratch))),
        "SECONDS_FILE": str(seconds),
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "mutation_contexts", "-p", "no:cacheprovider"]
    done = subprocess.run(
        command, cwd=tree, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    # 1: some tests failed; they cannot tell a mistake from none, and are left out.
    failed = set(re.findall(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", done.stdout, re.MULTILINE))
    if done.returncode not in (0, 1) or len(failed) > FAILURES_BORNE:
        raise SystemExit(f"The suite does not pass without a mistake:\n{done.stdout[-5000:]}")
    for nodeid in sorted(failed):
        print(f"FAILS WITHOUT A MISTAKE: {nodeid}", flush=True)
    data = coverage.CoverageData(str(scratch / "all"))
    for part in sorted(scratch.glob("data.*")):
        one = coverage.CoverageData(str(part))
        with contextlib.suppress(coverage.CoverageException):
            one.read()
            data.update(one)
    lines: dict[str, dict[int, list[str]]] = defaultdict(dict)
    for file in data.measured_files():
        path = Path(file).relative_to(tree).as_posix()
        for number, tests in data.contexts_by_lineno(file).items():
            # A subprocess has its test from PYTEST_CURRENT_TEST, which ends with " (call)".
            lines[path][number] = sorted({re.sub(r" \((setup|call|teardown)\)$", "", test) for test in tests} - failed)
    found = json.loads(seconds.read_text(encoding="utf-8"))
    shutil.rmtree(scratch)
    return lines, found


def run_all(runs: Sequence[Run], trees: Sequence[Path], budget_s: float) -> Iterator[tuple[int, Outcome]]:
    """Yield the number and outcome of each run, as they end; as many at once as there are trees."""
    _import_heavy()
    waiting = list(enumerate(runs))[::-1]
    free, at_work = list(trees), {}
    while waiting or at_work:
        while waiting and free:
            number, run = waiting.pop()
            if not run.tests:
                yield number, Outcome(False, "", 0.0)
                continue
            tree = free.pop()
            at_work[_start(tree, run)] = (number, run, tree, time.monotonic())
        for pid, (number, run, tree, start) in list(at_work.items()):
            seconds = time.monotonic() - start
            if os.waitpid(pid, os.WNOHANG)[0]:
                outcome = _outcome(tree, seconds)
            elif seconds > PATIENCE * budget_s + SPARE_S:
                outcome = Outcome(True, "", seconds)
            else:
                continue
            _clean_up(pid, tree, run.path)
            del at_work[pid]
            free.append(tree)
            yield number, outcome
        time.sleep(0.02)


def check_unchanged(tests: set[str], tree: Path) -> set[str]:
    """Return those of the tests that fail without a mistake, run as they were run with one."""
    failing: set[str] = set()
    while left := sorted(tests - failing):
        path = product_files(tree)[0]
        run = Run(path, (tree / path).read_text(encoding="utf-8"), tuple(left))
        ((_, outcome),) = run_all([run], [tree], 3600)
        if not outcome.noticed:
            break
        failing.add(outcome.by)
        if not outcome.by:
            break
    return failing


def _import_heavy() -> None:
    os.environ.update(ENVIRONMENT)
    sys.meta_path[:] = [finder for finder in sys.meta_path if not getattr(finder, "hands_over_mteb", False)]
    for name in HEAVY:
        importlib.import_module(name)
    # What is here by now is not looked through again by the forks' collector.
    gc.collect()
    gc.freeze()


def _start(tree: Path, run: Run) -> int:
    original = tree / run.path
    shutil.copy2(original, tree.with_suffix(".original"))
    original.write_text(run.code, encoding="utf-8", newline="\n")
    _forget_bytecode(original)
    result = tree.with_suffix(".result")
    result.unlink(missing_ok=True)
    pid = os.fork()
    if pid:
        return pid
    try:
        _in_fork(tree, run, result)
    finally:
        os._exit(1)


def _in_fork(tree: Path, run: Run, result: Path) -> None:
    os.setsid()
    log = os.open(tree.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.chdir(tree)
    del os.environ["VEHICLE_SEARCH_NO_HOOK"]
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    os.environ["PYTHONPATH"] = str(tree)
    here = str(Path(__file__).parent)
    sys.path[:] = [str(tree), *(path for path in sys.path if path not in (here, str(Path(here).parent)))]
    # A process that a test spawns would begin with what it finds here: the driver.
    sys.modules["__main__"] = ModuleType("__main__")
    import hypothesis
    import pytest

    # A failing example is enough; making it small and remembering it takes time.
    kept = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
    hypothesis.settings.register_profile("mutation", phases=kept, database=None)
    hypothesis.settings.load_profile("mutation")

    class Recorder:
        failed = ""

        def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
            if report.failed and not self.failed:
                Recorder.failed = report.nodeid

    base = tree.with_suffix(".tmp")
    plain = ["-x", "-q", "-o", "addopts=", "-p", "no:cacheprovider", "-p", "_hypothesis_pytestplugin"]
    options = [*plain, "-m", "not gpu and not network and not slow", f"--basetemp={base}"]
    code = pytest.main([*options, *run.tests], plugins=[Recorder()])
    text = json.dumps({"code": int(code), "by": Recorder.failed or ("(collection)" if code else "")})
    result.write_text(text, encoding="utf-8")


def _outcome(tree: Path, seconds: float) -> Outcome:
    result = tree.with_suffix(".result")
    if not result.exists():  # the process died
        return Outcome(True, "", seconds)
    found = json.loads(result.read_text(encoding="utf-8"))
    return Outcome(found["code"] != 0, found["by"] if found["by"] != "(collection)" else "", seconds)


def _clean_up(pid: int, tree: Path, path: str) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)
    shutil.copy2(tree.with_suffix(".original"), tree / path)
    _forget_bytecode(tree / path)
    shutil.rmtree(tree.with_suffix(".tmp"), ignore_errors=True)


def _forget_bytecode(source: Path) -> None:
    """Python tells bytecode by time and size, which a mistake need not change."""
    for path in (source.parent / "__pycache__").glob(f"{source.stem}.*.pyc"):
        path.unlink()
