"""Presets: what an evaluation set is made of, written as TOML.

Another domain is another file: `presets/examples/dogs.toml` with its class set `dogs.tsv` makes one of dogs. Unknown
keys are refused, so that a misspelt one is noticed.
"""

from __future__ import annotations

import csv
import re
import tomllib
import types
from collections.abc import Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

from data_prep.sources import SPLITS, Source
from data_prep.sources.imagenet.classes import wnids
from data_prep.sources.registry import SOURCES
from mteb_vehicle_search.errors import BuildError
from mteb_vehicle_search.eval_set.schema import ImagePolicy, camel_case, is_line, is_task_name

T = TypeVar("T")


def parse(kind: type[T], content: dict[str, Any], path: Path, table: str = "") -> T:
    """Return a dataclass filled from a TOML table; fields whose metadata has `hidden` cannot be given.

    Args:
        kind: A dataclass of strings, numbers, tuples of strings and dataclasses.
        content: The parsed table.
        path: Of the file, for messages.
        table: The table's name, for messages; empty for the whole file.

    Raises:
        BuildError: A key is unknown, missing or of another type; the message names it.
    """
    hints = get_type_hints(kind)
    known = {f.name: f for f in fields(kind) if "hidden" not in f.metadata}  # pyright: ignore[reportArgumentType]
    if unknown := sorted(set(content) - set(known)):
        where = f"[{table}]" if table else "the top level"
        names = ", ".join(sorted(known))
        raise BuildError(f"{path}: unknown key {unknown[0]!r} in {where}.", f"Known keys there: {names}.")
    values = {}
    for name, f in known.items():
        if name in content:
            values[name] = _value(hints[name], content[name], path, f"{table}.{name}" if table else name)
        elif f.default is MISSING and f.default_factory is MISSING:
            raise BuildError(f"{path}: {f'{table}.' if table else ''}{name} is missing.")
    return kind(**values)


def _value(hint: Any, value: Any, path: Path, key: str) -> Any:
    if get_origin(hint) in (Union, types.UnionType):
        hint = next(arg for arg in get_args(hint) if arg is not type(None))
    if hasattr(hint, "__dataclass_fields__"):
        if not isinstance(value, dict):
            raise BuildError(f"{path}: {key} must be a table, [{key}].")
        return parse(hint, value, path, key)
    if get_origin(hint) is tuple:
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise BuildError(f"{path}: {key} must be a list of strings.")
        return tuple(value)
    if not isinstance(value, (int, float) if hint is float else hint) or isinstance(value, bool):
        raise BuildError(f"{path}: {key} must be of type {hint.__name__}, not {value!r}.")
    return float(value) if hint is float else value


PRESETS = Path(__file__).parent / "presets"
RESAMPLE = ("box", "bilinear", "bicubic", "lanczos")
EXIF = ("distractors", "all", "none")
COLOUR_PROFILE = ("drop", "srgb")


@dataclass(frozen=True)
class Captioned:
    """Where queries and their images come from, such as "flickr30k"; the first `captions` of each image are kept."""

    source: str
    captions: int = 5


@dataclass(frozen=True)
class Classifier:
    """An ImageNet-1k classifier.

    Attributes:
        library: "transformers" or "timm"; the model is used with its own preprocessing.
        model: Hub repository (timm: model name), or a local folder of the library's, relative to the preset.
        revision: Full commit hash on the hub; not needed for a local folder.
    """

    library: str
    model: str
    revision: str = ""


@dataclass(frozen=True)
class Selection:
    """Which captioned images are kept, by the summed probability of the classes.

    Attributes:
        classes: Name of a class set, or a TSV file relative to the preset.
        threshold: Keep what scores higher than this; or else
        share: keep this share of the images, the highest scores first.
    """

    classes: str
    threshold: float | None = None
    share: float | None = None


@dataclass(frozen=True)
class Distractors:
    """Where uncaptioned images come from: "imagenet" with a class set, or "drawn"."""

    source: str
    classes: str | None = None
    splits: tuple[str, ...] = SPLITS


@dataclass(frozen=True)
class Duplicates:
    """What happens to near duplicates.

    Attributes:
        policy: "report" lists them; "remove" also drops the uncaptioned twin of a captioned image.
        max_distance: Greatest number of differing bits, of 64, in the perceptual hashes of near duplicates.
    """

    policy: str = "report"
    max_distance: int = 4


@dataclass(frozen=True)
class Expected:
    """What the finished set should hold, where that is known; compared, not enforced.

    `selection_sha256` is of the kept file names (`<stem>.jpg`), sorted bytewise, one per line.
    """

    captioned: int | None = None
    distractors: int | None = None
    queries: int | None = None
    selection_sha256: str | None = None


@dataclass(frozen=True)
class Preset:
    """A checked preset.

    Attributes:
        name: Of the folder, in a-z, 0-9 and '-'.
        title: A line that people read above tables and on the page.
        task_name: Of the mteb task, such as DogImageSearch; by default the name in CamelCase.
        folder: Where the TOML lies, which relative paths refer to.
    """

    name: str
    title: str
    captioned: Captioned
    distractors: Distractors
    description: str = ""
    task_name: str = ""
    classifier: Classifier | None = None
    selection: Selection | None = None
    images: ImagePolicy = field(default_factory=ImagePolicy)
    duplicates: Duplicates = Duplicates()
    expected: Expected = Expected()
    folder: Path = field(default=PRESETS, metadata={"hidden": True})

    def as_json(self) -> dict[str, Any]:
        """Return what the preset says, for the manifest and for fingerprints; without paths of this machine."""
        content = {key: value for key, value in asdict(self).items() if key != "folder"}
        return content | {"images": self.images.as_json()}

    @property
    def task(self) -> str:
        """The name of its mteb task."""
        return self.task_name or camel_case(self.name)

    def sources(self) -> list[Source]:
        """Return the sources, each once."""
        return [SOURCES[name] for name in dict.fromkeys((self.captioned.source, self.distractors.source))]

    def selection_classes(self) -> ClassSet | None:
        """Return the class set that the selection sums over."""
        return ClassSet.load(self.selection.classes, self.folder) if self.selection else None

    def wanted_classes(self) -> set[int]:
        """Return the indexes of the classes that distractors are of; none if they are of no class."""
        classes = self.distractor_classes()
        return set(classes.indices) if classes else set()

    def distractor_classes(self) -> ClassSet | None:
        """Return the class set of the distractors."""
        return ClassSet.load(self.distractors.classes, self.folder) if self.distractors.classes else None


def load_preset(name: str) -> Preset:
    """Return the shipped preset `name`, or the one in the file `name` (ending in .toml).

    Raises:
        BuildError: It does not exist, is not TOML, or breaks the schema; the message names the key.
    """
    path = Path(name) if name.endswith(".toml") else PRESETS / f"{name}.toml"
    if not path.is_file():
        shipped = ", ".join(sorted(file.stem for file in PRESETS.glob("*.toml")))
        raise BuildError(f"There is no preset {name!r}.", f"Shipped presets: {shipped}; or give a .toml file.")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BuildError(f"{path} is not TOML: {error}.") from error
    preset = replace(parse(Preset, content, path), folder=path.absolute().parent)
    _check(preset, path)
    return preset


def _check(preset: Preset, path: Path) -> None:
    images, duplicates, captioned, distractors = preset.images, preset.duplicates, preset.captioned, preset.distractors
    with_captions = [name for name, source in SOURCES.items() if source.captioned]
    with_distractors = [name for name, source in SOURCES.items() if source.distractors]
    per_class = [name for name in with_distractors if SOURCES[name].per_class]
    classes_given = distractors.classes or distractors.source not in per_class
    rules = [
        (re.fullmatch(r"[a-z0-9][a-z0-9-]{0,59}", preset.name), "name must be 1 to 60 of a-z, 0-9 and '-'"),
        (not re.fullmatch(r"con|prn|aux|nul|(com|lpt)\d", preset.name), "name must not be one that Windows reserves"),
        (is_line(preset.title) and preset.title.strip(), "title must be a line of text"),
        (is_task_name(preset.task), _task_rule(preset)),
        (captioned.source in with_captions, f"captioned.source must be {_either(with_captions)}"),
        (1 <= captioned.captions <= 5, "captioned.captions must be 1 to 5"),
        (distractors.source in with_distractors, f"distractors.source must be {_either(with_distractors)}"),
        (classes_given, "distractors.classes is missing: which ImageNet classes are wanted"),
        (set() < set(distractors.splits) <= set(SPLITS), "distractors.splits may hold 'train' and 'val'"),
        (images.shortest_side_px >= 16, "images.shortest_side_px must be at least 16"),
        (images.resample in RESAMPLE, f"images.resample must be one of {', '.join(RESAMPLE)}"),
        (1 <= images.jpeg_quality <= 95, "images.jpeg_quality must be 1 to 95"),
        (images.exif in EXIF, f"images.exif must be {_either(EXIF)}"),
        (images.colour_profile in COLOUR_PROFILE, f"images.colour_profile must be {_either(COLOUR_PROFILE)}"),
        (duplicates.policy in ("report", "remove"), "duplicates.policy must be 'report' or 'remove'"),
        (0 <= duplicates.max_distance <= 16, "duplicates.max_distance must be 0 to 16"),
        (preset.classifier is None or preset.selection, "a classifier needs [selection]"),
    ]
    if selection := preset.selection:
        one_rule = (selection.threshold is None) != (selection.share is None)
        rules += [
            (preset.classifier, "[selection] needs a [classifier]"),
            (one_rule, "selection must give either threshold or share"),
            (selection.threshold is None or 0 <= selection.threshold < 1, "selection.threshold must be in [0, 1)"),
            (selection.share is None or 0 < selection.share <= 1, "selection.share must be in (0, 1]"),
        ]
    if classifier := preset.classifier:
        local = (preset.folder / classifier.model).is_dir()
        pinned = re.fullmatch(r"[0-9a-f]{40}", classifier.revision)
        rules += [
            (classifier.library in ("transformers", "timm"), "classifier.library must be 'transformers' or 'timm'"),
            (
                local or re.fullmatch(r"[\w.-]+(/[\w.-]+)?", classifier.model),
                "classifier.model must be a folder beside the preset, or a name on the hub such as owner/name; "
                f"{classifier.model!r} is neither",
            ),
            (local or pinned, "classifier.revision must be a full commit hash (40 hexadecimal digits)"),
        ]
    for holds, message in rules:
        if not holds:
            raise BuildError(f"{path}: {message}.")
    preset.selection_classes()
    preset.distractor_classes()


def _task_rule(preset: Preset) -> str:
    rule = "must begin with A-Z and consist of A-Z, a-z and 0-9, 60 at most"
    if preset.task_name:
        return f"task_name {rule}"
    return f"state a task_name; the one made of the name, {preset.task!r}, {rule}"


def _either(names: Sequence[str]) -> str:
    return " or ".join(map(repr, names))


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
