"""Presets: what an evaluation set is made of, written as TOML.

Another domain is another file: `presets/examples/dogs.toml` with its class set `dogs.tsv` makes one of dogs. Unknown
keys are refused, so that a misspelt one is noticed.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from data_prep.class_set import ClassSet
from data_prep.sources import SPLITS, Source
from data_prep.sources.registry import SOURCES
from data_prep.toml_schema import parse
from mteb_vehicle_search.errors import BuildError
from mteb_vehicle_search.eval_set.schema import ImagePolicy, camel_case, is_line, is_task_name

PRESETS = Path(__file__).parent / "presets"
RESAMPLE = ("box", "bilinear", "bicubic", "lanczos")
EXIF = ("distractors", "all", "none")
COLOUR_PROFILE = ("drop", "srgb")
NO_SOURCE = "none"
_OF_THIS_MACHINE = ("location", "table")


@dataclass(frozen=True)
class Captioned:
    """Where queries and their images come from.

    Attributes:
        source: "flickr30k", "drawn", or for pictures of one's own "folder" or "webdataset".
        captions: How many of an image's captions are kept, the first ones.
        location: Where pictures of one's own lie: a path relative to the preset, or an address.
        table: The file with their captions, relative to the preset or inside the location; "beside" for those in files
            beside the pictures; empty for what is found.
        file_column: Its column of file names; empty for the one that is found.
        caption_column: Likewise of the captions.
        fewest_captions: Pictures with fewer are not used.
    """

    source: str
    captions: int = 5
    location: str = ""
    table: str = ""
    file_column: str = ""
    caption_column: str = ""
    fewest_captions: int = 1


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
    """Where uncaptioned images come from.

    Attributes:
        source: "imagenet" with a class set, "drawn", "folder" or "webdataset" for pictures of one's own, or "none".
        classes: Name of a class set, or a TSV file relative to the preset.
        splits: Those of ImageNet that are used.
        location: Where pictures of one's own lie: a path relative to the preset, or an address. Where the captioned
            ones lie, too, it means those without captions.
    """

    source: str
    classes: str | None = None
    splits: tuple[str, ...] = SPLITS
    location: str = ""


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
        content["captioned"] = _told(self.captioned, ("source", "captions"))
        content["distractors"] = _told(self.distractors, ("source", "classes", "splits"))
        return content | {"images": self.images.as_json()}

    @property
    def task(self) -> str:
        """The name of its mteb task."""
        return self.task_name or camel_case(self.name)

    def sources(self) -> list[Source]:
        """Return the sources, each once."""
        names = dict.fromkeys((self.captioned.source, self.distractors.source))
        return [SOURCES[name] for name in names if name != NO_SOURCE]

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


def _told(table: Captioned | Distractors, always: Sequence[str]) -> dict[str, Any]:
    """What a table says: keys that sets of earlier versions do not know only where they say something."""
    usual = {f.name: f.default for f in fields(table)}
    said = {key: value for key, value in asdict(table).items() if key not in _OF_THIS_MACHINE}
    return {key: value for key, value in said.items() if key in always or value != usual[key]}


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
    check_preset(preset, path)
    return preset


def check_preset(preset: Preset, path: Path) -> None:
    """Make sure that a preset makes sense; `path` is for messages.

    Raises:
        BuildError: It does not; names the key.
    """
    images, duplicates, captioned, distractors = preset.images, preset.duplicates, preset.captioned, preset.distractors
    with_captions = [name for name, source in SOURCES.items() if source.captioned]
    with_distractors = [name for name, source in SOURCES.items() if source.distractors]
    per_class = [name for name in with_distractors if SOURCES[name].per_class]
    classes_given = distractors.classes or distractors.source not in per_class
    rules = [
        *_name_rules(preset.name),
        (is_line(preset.title) and preset.title.strip(), "title must be a line of text"),
        (is_task_name(preset.task), _task_rule(preset)),
        (captioned.source in with_captions, f"captioned.source must be {_either(with_captions)}"),
        *_captioned_rules(captioned),
        (distractors.source in with_distractors, f"distractors.source must be {_either(with_distractors)}"),
        (classes_given, "distractors.classes is missing: which ImageNet classes are wanted"),
        *_distractor_rules(distractors),
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


def _name_rules(name: str) -> list[tuple[Any, str]]:
    return [
        (re.fullmatch(r"[a-z0-9][a-z0-9-]{0,59}", name), "name must be 1 to 60 of a-z, 0-9 and '-'"),
        (not re.fullmatch(r"con|prn|aux|nul|(com|lpt)\d", name), "name must not be one that Windows reserves"),
    ]


def is_preset_name(name: str) -> bool:
    """Tell whether a preset can have this name."""
    return all(holds for holds, _ in _name_rules(name))


def _captioned_rules(table: Captioned) -> list[tuple[Any, str]]:
    """Rules of one's own pictures; whatever the source is called, since its name has a rule of its own."""
    own = table.source in SOURCES and SOURCES[table.source].located
    every = _either([name for name, source in SOURCES.items() if source.located])
    rules = [
        (own or not table.location, f"captioned.location has no meaning for {table.source!r}"),
        (own or table.captions <= 5, "captioned.captions must be 1 to 5"),
        (table.captions >= 1, f"captioned.captions must be {'at least 1' if own else '1 to 5'}"),
        (table.fewest_captions >= 1, "captioned.fewest_captions must be at least 1"),
    ]
    for key, usual in (("table", ""), ("file_column", ""), ("caption_column", ""), ("fewest_captions", 1)):
        means = own if key in ("caption_column", "fewest_captions") else table.source == "folder"
        whose = every if key in ("caption_column", "fewest_captions") else "'folder'"
        rules.append((means or getattr(table, key) == usual, f"captioned.{key} has a meaning for {whose} alone"))
    return rules


def _distractor_rules(table: Distractors) -> list[tuple[Any, str]]:
    own = table.source in SOURCES and SOURCES[table.source].located
    classless = own or table.source == NO_SOURCE
    return [
        (own or not table.location, f"distractors.location has no meaning for {table.source!r}"),
        (not (classless and table.classes), f"distractors.classes has no meaning for {table.source!r}, which has none"),
        (not classless or table.splits == SPLITS, f"distractors.splits has no meaning for {table.source!r}"),
    ]


def _task_rule(preset: Preset) -> str:
    rule = "must begin with A-Z and consist of A-Z, a-z and 0-9, 60 at most"
    if preset.task_name:
        return f"task_name {rule}"
    return f"state a task_name; the one made of the name, {preset.task!r}, {rule}"


def _either(names: Sequence[str]) -> str:
    return " or ".join(map(repr, names))
