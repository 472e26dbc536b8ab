"""Sets of ImageNet-1k classes, as tables: shipped in `class_sets/`, or beside a preset."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import NamedTuple

from data_prep.sources.imagenet.classes import lemmas, wnids
from mteb_vehicle_search.errors import BuildError

SHIPPED = Path(__file__).parent / "class_sets"
COLUMNS = ["index", "wnid", "name", "roots"]


class ImageClass(NamedTuple):
    """One class: its position among the classifier's outputs, WordNet id, lemmas, and WordNet roots."""

    index: int
    wnid: str
    name: str
    roots: str


class ClassSet(NamedTuple):
    """A named set of classes, sorted by index."""

    name: str
    classes: tuple[ImageClass, ...]

    @property
    def indices(self) -> list[int]:
        """The positions among the classifier's outputs."""
        return [item.index for item in self.classes]

    @classmethod
    def whole(cls) -> ClassSet:
        """Return all classes of ImageNet-1k."""
        named = ((index, wnid, lemmas()[wnid], "-") for index, wnid in enumerate(wnids()))
        return cls("imagenet", tuple(ImageClass(*one) for one in named))

    @classmethod
    def load(cls, name: str, folder: Path) -> ClassSet:
        """Return the shipped class set `name`, or the one in the TSV file `name`, relative to `folder`.

        Raises:
            BuildError: It does not exist or a line is wrong; the message names the line.
        """
        path = folder / name if name.endswith(".tsv") else SHIPPED / f"{name}.tsv"
        if not path.is_file():
            shipped = ", ".join(sorted(file.stem for file in SHIPPED.glob("*.tsv")))
            raise BuildError(f"There is no class set {path}.", f"Shipped class sets: {shipped}; or name a .tsv file.")
        try:
            rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines(), "excel-tab", quoting=csv.QUOTE_NONE))
        except (UnicodeDecodeError, csv.Error) as error:
            raise BuildError(f"{path} is not a table in UTF-8: {error}.") from error
        if not rows or rows[0] != COLUMNS:
            raise BuildError(f"{path} must begin with the columns {', '.join(COLUMNS)}, separated by tabs.")
        classes = []
        for number, row in enumerate(rows[1:], start=2):
            if len(row) != len(COLUMNS) or not row[0].isdigit() or not re.fullmatch(r"n\d{8}", row[1]):
                raise BuildError(f"{path}, line {number}: expected index, wnid (n and 8 digits), name, roots.")
            index = int(row[0])
            if index >= len(wnids()) or wnids()[index] != row[1]:
                right = wnids()[index] if index < len(wnids()) else "none"
                raise BuildError(
                    f"{path}, line {number}: class {index} of ImageNet-1k is {right}, not {row[1]}.",
                    "Classes are numbered 0 to 999 in the order of their WordNet ids.",
                )
            classes.append(ImageClass(index, *row[1:]))
        if len({item.index for item in classes}) != len(classes):
            raise BuildError(f"{path}: a class stands twice.")
        if not classes:
            raise BuildError(f"{path} names no class.")
        return cls(Path(name).stem, tuple(sorted(classes)))
