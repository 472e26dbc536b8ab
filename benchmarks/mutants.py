"""Every small mistake that can be put into a source file: mutmut's operators, and three of ours.

Ours are the ones that find missing guards and clean-ups, which mutmut leaves out: a call whose result nobody uses is
dropped, a `raise` is dropped, a condition is never true (statement deletion: Deng, Offutt and Li, "Empirical Evaluation
of the Statement Deletion Mutation Operator", ICST 2013).

Left out are annotations, imports, decorators, docstrings and the words of messages and help texts: a string with a
space in it is for people, and so is what is put into it; any other is a key or a name, and is mutated.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import libcst as cst
from libcst import matchers as m
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation import mutators

PRODUCT = ("mteb_vehicle_search", "data_prep")


class Mutant(NamedTuple):
    """One mistake: where it is, the lines before and after, and the whole file with it."""

    path: str
    line: int
    scope: str
    before: str
    after: str
    code: str

    @property
    def where(self) -> str:
        """File name and scope, which outlast moves of the file and lines added above."""
        return f"{Path(self.path).name} {self.scope}".strip()


class Point(NamedTuple):
    """A place in the source with the ways in which it can be wrong; a mutant is made when it is asked for."""

    path: str
    line: int
    scope: str
    module: cst.Module
    node: cst.CSTNode
    variants: list[cst.CSTNode]

    def mutant(self, number: int) -> Mutant:
        """Return variant `number`."""
        code = self.module.deep_replace(self.node, self.variants[number]).code  # type: ignore[arg-type]
        diff = list(difflib.ndiff(self.module.code.splitlines(), code.splitlines()))
        before, after = (
            "\n".join(line[2:].strip() for line in diff if line.startswith(sign) and line[2:].strip()) for sign in "-+"
        )
        return Mutant(self.path, self.line, self.scope, before, after, code)


def product_files(root: Path) -> list[str]:
    """Return the paths of the product's sources below `root`, sorted."""
    return sorted(path.relative_to(root).as_posix() for name in PRODUCT for path in (root / name).rglob("*.py"))


def points(root: Path, path: str) -> list[Point]:
    """Return the places of a source file, in its order."""
    wrapper = MetadataWrapper(cst.parse_module((root / path).read_text(encoding="utf-8")))
    finder = _Finder(path, wrapper.module)
    wrapper.visit(finder)
    return finder.points


class _Finder(cst.CSTVisitor):
    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(self, path: str, module: cst.Module) -> None:
        super().__init__()
        self._path, self._module = path, module
        self._scopes: list[str] = []
        self._messages = 0
        self.points: list[Point] = []

    def on_visit(self, node: cst.CSTNode) -> bool:
        if _left_out(node):
            return False
        if isinstance(node, cst.FunctionDef | cst.ClassDef):
            self._scopes.append(node.name.value)
        if isinstance(node, cst.FormattedString) and _for_people(node):
            self._messages += 1
        if self._messages and isinstance(node, cst.SimpleString):
            return True
        original = self._module.code_for_node(node)
        variants = [variant for variant in _variants(node) if self._module.code_for_node(variant) != original]
        if variants:
            line = self.get_metadata(PositionProvider, node).start.line  # type: ignore[union-attr]
            point = Point(self._path, line, ".".join(self._scopes), self._module, node, variants)
            self.points.append(point)
        return True

    def on_leave(self, original_node: cst.CSTNode) -> None:
        if isinstance(original_node, cst.FunctionDef | cst.ClassDef):
            self._scopes.pop()
        if isinstance(original_node, cst.FormattedString) and _for_people(original_node):
            self._messages -= 1


def _left_out(node: cst.CSTNode) -> bool:
    if isinstance(node, cst.Annotation | cst.Import | cst.ImportFrom | cst.Decorator):
        return True
    if isinstance(node, cst.If) and m.matches(node.test, m.Name("TYPE_CHECKING")):
        return True
    if isinstance(node, cst.Expr) and isinstance(node.value, cst.BaseString):
        return True
    if isinstance(node, cst.Assign):
        target = node.targets[0].target
        # Type aliases and names that only tools read.
        return m.matches(target, m.Name("__all__") | m.Name("TYPE_CHECKING") | m.Name("logger")) or (
            isinstance(target, cst.Name)
            and isinstance(node.value, cst.Subscript | cst.Call)
            and m.matches(
                node.value,
                m.Subscript(m.Name("Callable") | m.Name("Iterable") | m.Name("Literal")) | m.Call(m.Name("TypeVar")),
            )
        )
    return False


def _variants(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    if isinstance(node, cst.SimpleString):
        if not _for_people(node):
            yield from list(mutators.operator_string(node))[:1]  # the case of letters is left as it is
        return
    if isinstance(node, cst.Call) and m.matches(node.func, m.Name("len") | m.Name("isinstance") | m.Name("cast")):
        return
    for kind, operator in mutators.mutation_operators:
        if operator is not mutators.operator_string and isinstance(node, kind):
            yield from (variant for variant in operator(node) if _keeps_words(node, variant))
    if isinstance(node, cst.Raise) or (isinstance(node, cst.Expr) and isinstance(node.value, cst.Call | cst.Await)):
        yield cst.Pass()
    if isinstance(node, cst.If):
        test = node.test.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
        never = cst.BooleanOperation(left=test, operator=cst.And(), right=cst.Name("False"))
        yield node.with_changes(test=never)


def _keeps_words(node: cst.CSTNode, variant: cst.CSTNode) -> bool:
    """Tell whether a mutation leaves alone what is written for people."""
    if isinstance(node, cst.Assign | cst.AnnAssign):
        return node.value is None or not _for_people(node.value)
    if isinstance(node, cst.Call) and isinstance(variant, cst.Call):
        kept = {id(argument.value) for argument in variant.args}
        gone = [argument.value for argument in node.args if id(argument.value) not in kept]
        # None for False is no mistake.
        return not any(_for_people(value) or m.matches(value, m.Name("False")) for value in gone)
    if isinstance(node, cst.BinaryOperation):
        return not (_for_people(node.left) or _for_people(node.right))
    return True


def _for_people(node: cst.CSTNode) -> bool:
    if isinstance(node, cst.SimpleString):
        return any(character.isspace() for character in str(node.evaluated_value).strip("\n"))
    if isinstance(node, cst.FormattedString):
        return any(isinstance(part, cst.FormattedStringText) and " " in part.value for part in node.parts)
    if isinstance(node, cst.ConcatenatedString):
        return _for_people(node.left) or _for_people(node.right)
    return False


def all_points(root: Path, paths: Iterable[str]) -> list[Point]:
    """Return the places of several files."""
    return [point for path in paths for point in points(root, path)]
