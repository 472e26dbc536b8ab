"""Presets: what an evaluation set is made of, written as TOML.

Another domain is another file: `presets/examples/dogs.toml` with its class set `dogs.tsv` makes one of dogs. Unknown
keys are refused, so that a misspelt one is noticed.
"""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from data_prep import preset_rules
from data_prep.class_set import ClassSet
from data_prep.preset_tables import (
    NO_SOURCE,
    Captioned,
    Classifier,
    Distractors,
    Duplicates,
    Expected,
    Miner,
    Selection,
    told,
)
from data_prep.sources import Source
from data_prep.sources.registry import SOURCES
from data_prep.toml_schema import parse
from mteb_vehicle_search.errors import BuildError
from mteb_vehicle_search.eval_set.schema import ImagePolicy, camel_case, is_line, is_task_name

PRESETS = Path(__file__).parent / "presets"


@dataclass(frozen=True)
class Preset:
    """A checked preset.

    Attributes:
        name: Of the folder, in a-z, 0-9 and '-'.
        title: A line that people read above tables and on the page.
        task_name: Of the mteb task, such as DogImageSearch; by default the name in CamelCase.
        folder: Where the TOML lies, which relative paths refer to.
        miners: By name, views of images and captions.
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
    duplicates: Duplicates = field(default_factory=Duplicates)
    expected: Expected = field(default_factory=Expected)
    folder: Path = field(default=PRESETS, metadata={"hidden": True})
    miners: dict[str, Miner] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return what the preset says, for the manifest and for fingerprints; without paths of this machine."""
        content = {key: value for key, value in asdict(self).items() if key not in ("folder", "miners")}
        content["captioned"] = told(self.captioned, ("source", "captions"))
        content["distractors"] = told(self.distractors, ("source", "classes", "splits"))
        if self.selection:
            content["selection"] = self.selection.as_json()
        if self.miners:
            content["miners"] = {name: miner.as_json() for name, miner in sorted(self.miners.items())}
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
        rule = self.selection
        return ClassSet.load(rule.classes, self.folder) if rule and rule.method == "threshold" else None

    def wanted_classes(self) -> set[int]:
        """Return the indexes of the classes that distractors are of; none if they are of no class."""
        classes = self.distractor_classes()
        return set(classes.indices) if classes else set()

    def distractor_classes(self) -> ClassSet | None:
        """Return the class set of the distractors; of a pool for which none is named, all that its source has."""
        wanted = self.distractors
        if wanted.classes:
            return ClassSet.load(wanted.classes, self.folder)
        return ClassSet.whole() if SOURCES[wanted.source].per_class else None

    def pool_miners(self) -> dict[str, Miner]:
        """Return the miners that find distractors, by name; none where these are not chosen from a pool."""
        wanted = self.distractors
        if wanted.method == "class":
            return {}
        sees_texts = bool(SOURCES[wanted.source].per_class)
        seeing = [name for name, miner in self.miners.items() if miner.sees_images or sees_texts]
        return {name: self.miners[name] for name in wanted.miners or seeing}

    def cluster_miners(self) -> dict[str, Miner]:
        """Return the miners that captioned images are clustered by, by name; none where they are not."""
        rule = self.selection
        if rule is None or rule.method != "clusters":
            return {}
        return {name: self.miners[name] for name in rule.views or self.miners}


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
    classifier, selection, miners = preset.classifier, preset.selection, preset.miners
    rules = [
        *preset_rules.name_rules(preset.name),
        (is_line(preset.title) and preset.title.strip(), "title must be a line of text"),
        (is_task_name(preset.task), _task_rule(preset)),
        *preset_rules.captioned_rules(preset.captioned),
        *preset_rules.distractor_rules(preset.distractors, miners),
        *preset_rules.image_rules(preset.images),
        *preset_rules.duplicate_rules(preset.duplicates),
    ]
    if selection:
        rules += preset_rules.selection_rules(selection, miners, classifier)
    if classifier:
        by_probability = selection is not None and selection.method == "threshold"
        used = by_probability or any(miner.library == "classifier" for miner in miners.values())
        rules += preset_rules.classifier_rules(classifier, preset.folder, used)
    _require(rules, path)
    # Which of them are used is known of names that are.
    used = {*preset.pool_miners(), *preset.cluster_miners()}
    _require(preset_rules.miner_rules(miners, preset.folder, classifier, used), path)
    preset.selection_classes()
    preset.distractor_classes()


def _require(rules: list[preset_rules.Rule], path: Path) -> None:
    for holds, message in rules:
        if not holds:
            raise BuildError(f"{path}: {message}.")


def _task_rule(preset: Preset) -> str:
    rule = "must begin with A-Z and consist of A-Z, a-z and 0-9, 60 at most"
    if preset.task_name:
        return f"task_name {rule}"
    return f"state a task_name; the one made of the name, {preset.task!r}, {rule}"
