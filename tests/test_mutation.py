"""The benchmark that says whether the tests would notice: which mistakes it makes, and which tests it runs for them."""

import sys
import tomllib
from pathlib import Path

import pytest

pytest.importorskip("mutmut", reason="there is no mutmut for Windows")
BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
import mutants  # noqa: E402
import mutation_runs  # noqa: E402

SOURCE = '''\
"""What this is."""

LIMIT = 3


def first(items: list[int], key: str = "size") -> int:
    """Say nothing."""
    if len(items) > LIMIT:
        raise ValueError(f"There are {len(items)} items, {'too' + 'many'} of them.")
    report(items, "what people read")
    return items[0]


def report(items, words):
    print(words, sep="-")
'''


@pytest.fixture
def project(tmp_path):
    package = tmp_path / "data_prep"
    package.mkdir()
    (package / "one.py").write_text(SOURCE, encoding="utf-8")
    (package / "two.py").write_text("from data_prep.one import LIMIT\n\n\ndef room():\n    return LIMIT\n", "utf-8")
    return tmp_path


def changes(project):
    places = mutants.points(project, "data_prep/one.py")
    found = [place.mutant(number) for place in places for number in range(len(place.variants))]
    return {(mutant.scope, mutant.before, mutant.after) for mutant in found}


def test_boundaries_guards_calls_and_names_are_mistaken(project):
    guard = "if len(items) > LIMIT:"
    message = "raise ValueError(f\"There are {len(items)} items, {'too' + 'many'} of them.\")"
    assert {
        ("", "LIMIT = 3", "LIMIT = 4"),
        ("first", guard, "if len(items) >= LIMIT:"),
        ("first", guard, "if (len(items) > LIMIT) and False:"),
        ("first", message, "pass"),
        ("first", 'report(items, "what people read")', "pass"),
        ("first", 'report(items, "what people read")', 'report(None, "what people read")'),
        ("first", "return items[0]", "return items[1]"),
        ("report", 'print(words, sep="-")', 'print(words, sep="XX-XX")'),
    } <= changes(project)


def test_words_for_people_and_annotations_are_left_alone(project):
    text = "\n".join(after for _, _, after in changes(project))
    for word in ("peopleXX", "XXwhat", "XXtoo", "manyXX", "Say", "list[None]"):
        assert word not in text
    calls = {after for _, before, after in changes(project) if before.startswith("report(")}
    assert calls == {"pass", 'report(None, "what people read")', 'report("what people read")'}


def test_every_mistake_is_one_line_that_still_compiles(project):
    for place in mutants.points(project, "data_prep/one.py"):
        for number in range(len(place.variants)):
            mutant = place.mutant(number)
            compile(mutant.code, mutant.path, "exec")
            assert mutant.before != mutant.after
            assert mutant.before in SOURCE


def test_the_tests_of_a_line_are_those_that_came_by_it_own_and_quick_ones_first(project):
    lines = {
        "data_prep/one.py": {
            3: [""],
            8: ["test_b.py::slow", "test_b.py::quick", "test_one.py::own"],
            15: ["test_c.py::c"],
        },
        "data_prep/two.py": {5: ["test_two.py::two"]},
    }
    seconds = {"test_b.py::slow": 50.0, "test_b.py::quick": 0.1, "test_one.py::own": 3.0, "test_c.py::c": 0.2}
    contexts = mutation_runs.Contexts(lines, seconds, project)
    assert contexts.tests_of("data_prep/one.py", 8, 100) == ("test_one.py::own", "test_b.py::quick", "test_b.py::slow")
    assert contexts.tests_of("data_prep/one.py", 8, 10) == ("test_one.py::own", "test_b.py::quick")
    assert contexts.tests_of("data_prep/one.py", 11, 100) == ()
    # Executed by the import: whatever uses the module, or the name.
    assert set(contexts.tests_of("data_prep/one.py", 3, 100)) == {*seconds, "test_two.py::two"}


@pytest.mark.parametrize(
    "path", sorted(BENCHMARKS.glob("*/*.toml")), ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_every_listed_mistake_has_its_reason(path):
    (entries,) = tomllib.loads(path.read_text(encoding="utf-8")).values()
    for entry in entries:
        wanted = {"where", "before", "after", "reason"} if path.parent.name == "equivalent_mutants" else set(entry)
        assert wanted == set(entry)
        assert entry.get("reason", entry.get("note", "")).strip()
        assert entry.get("tests") != []


def test_every_chosen_mistake_has_its_one_place_in_the_code():
    root = BENCHMARKS.parent
    sources = {f"/{path}": (root / path).read_text(encoding="utf-8") for path in mutants.product_files(root)}
    stale = []
    for path in sorted((BENCHMARKS / "chosen_mistakes").glob("*.toml")):
        for entry in tomllib.loads(path.read_text(encoding="utf-8"))["mistake"]:
            own = [source for name, source in sources.items() if name.endswith(f"/{entry['file']}")]
            found = [source.count(entry["old"]) for source in own]
            if found != [1] or entry["old"] == entry["new"]:
                stale.append(f"{path.name}: {entry['file']}: {entry['note']}: found {found}")
    assert stale == []
