"""TOML as dataclasses: what is given arrives with its type, everything else is refused by its name."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from data_prep.toml_schema import parse
from mteb_vehicle_search.errors import BuildError


@dataclass(frozen=True)
class Inner:
    depth: int = 3


@dataclass(frozen=True)
class Table:
    text: str
    number: int = 7
    real: float | None = None
    texts: tuple[str, ...] = ("a",)
    inner: Inner | None = None
    listed: list = field(default_factory=lambda: ["made"])
    secret: str = field(default="hidden", metadata={"hidden": True})


def test_what_is_given_arrives_and_the_rest_is_default():
    assert parse(Table, {"text": "x"}, Path("p")) == Table("x")
    given = {"text": "x", "number": 1, "real": 0.5, "texts": ["b", "c"], "inner": {"depth": 4}}
    assert parse(Table, given, Path("p")) == Table("x", 1, 0.5, ("b", "c"), Inner(4))
    assert parse(Table, {"text": "", "texts": [], "inner": {}}, Path("p")) == Table("", texts=(), inner=Inner())


def test_a_whole_number_is_a_real_one():
    found = parse(Table, {"text": "x", "real": 1}, Path("p"))
    assert (found.real, type(found.real)) == (1.0, float)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "p.toml: text is missing."),
        ({"text": 3}, "p.toml: text must be of type str, not 3."),
        ({"text": "x", "number": "1"}, "p.toml: number must be of type int, not '1'."),
        ({"text": "x", "number": 1.0}, "p.toml: number must be of type int, not 1.0."),
        ({"text": "x", "number": True}, "p.toml: number must be of type int, not True."),
        ({"text": "x", "real": True}, "p.toml: real must be of type float, not True."),
        ({"text": "x", "real": "1"}, "p.toml: real must be of type float, not '1'."),
        ({"text": "x", "texts": "ab"}, "p.toml: texts must be a list of strings."),
        ({"text": "x", "texts": ["a", 1]}, "p.toml: texts must be a list of strings."),
        ({"text": "x", "texts": [1, "a"]}, "p.toml: texts must be a list of strings."),
        ({"text": "x", "inner": 3}, "p.toml: inner must be a table, [inner]."),
        ({"text": "x", "inner": {"depth": "a"}}, "p.toml: inner.depth must be of type int, not 'a'."),
        (
            {"text": "x", "inner": {"dept": 1}},
            "p.toml: unknown key 'dept' in [inner].\nKnown keys there: depth.",
        ),
        (
            {"text": "x", "zzz": 1, "tex": 1},
            "p.toml: unknown key 'tex' in the top level.\nKnown keys there: inner, listed, number, real, text, texts.",
        ),
        (
            {"text": "x", "secret": "y"},
            "p.toml: unknown key 'secret' in the top level.\n"
            "Known keys there: inner, listed, number, real, text, texts.",
        ),
    ],
)
def test_what_is_wrong_is_refused_by_its_name(content, message):
    with pytest.raises(BuildError) as error:
        parse(Table, content, Path("p.toml"))
    assert str(error.value) == message


@dataclass(frozen=True)
class Outer:
    inner: Table


def test_names_in_nested_tables_have_their_table():
    with pytest.raises(BuildError) as error:
        parse(Outer, {"inner": {}}, Path("p"))
    assert str(error.value) == "p: inner.text is missing."
    with pytest.raises(BuildError) as error:
        parse(Outer, {"inner": {"text": "x", "inner": {"depth": True}}}, Path("p"))
    assert str(error.value) == "p: inner.inner.depth must be of type int, not True."
