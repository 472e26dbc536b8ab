"""What to build, from where, and how; and one build under way: what it has read and refused so far."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_prep.markers import Stages
from data_prep.preset import Preset
from data_prep.recipes import Recipe
from data_prep.sources import CaptionedSource, DistractorSource, Place
from data_prep.sources.registry import SOURCES
from data_prep.storage import PassedOver
from mteb_vehicle_search.addresses import is_url
from mteb_vehicle_search.engine import Engine, engine_of
from mteb_vehicle_search.errors import BuildError
from mteb_vehicle_search.eval_set.schema import Rejected
from mteb_vehicle_search.settings import usable_cores
from mteb_vehicle_search.terminal import Reporter

_OWN = {"captioned": "captioned images", "distractors": "distractors"}


@dataclass(frozen=True)
class BuildOptions:
    """What to build, from where, and how.

    Attributes:
        preset: What the evaluation set is made of.
        out: Folder of the finished set, or a link to it; the work folder `<out>.build` lies beside it.
        sources: By name, where a source lies: "hub" (which it is if nothing is said), a path or an address. Only
            sources that the preset uses. Where images of one's own lie goes by "captioned" and "distractors".
        captions: Path or address of the captions file; empty for the one that is found beside the images.
        selection: None: classify as the preset says. "published", or a file: take that list instead.
        recipe: None; or what to rebuild: its images, captions and preset, and nothing else.
        workers: Processes or threads that decode and resize.
        device: Where the classifier runs; "auto" for what the engine or this machine has.
        batch_size: Images per forward pass of the classifier.
        rebuild: Stages to do again although nothing changed.
        allow_rejects: Go on although more than 0.5 % of the inputs were refused.
        allow_incomplete: Go on although a source looks incomplete.
        engine: Where shards and chunks of images are worked on: "local", "ray", or None for what is set.
    """

    preset: Preset
    out: Path
    sources: Mapping[str, str] = field(default_factory=dict)
    captions: str = ""
    selection: str | None = None
    recipe: Recipe | None = None
    workers: int = field(default_factory=usable_cores)
    device: str = "auto"
    batch_size: int = 32
    rebuild: tuple[str, ...] = ()
    allow_rejects: bool = False
    allow_incomplete: bool = False
    engine: str | None = None

    def __post_init__(self) -> None:
        if self.out.is_symlink():  # The set goes where the link points, and the work folder beside it.
            object.__setattr__(self, "out", self.out.resolve())

    @property
    def work(self) -> Path:
        """The folder of markers and unfinished work."""
        return self.out.with_name(self.out.name + ".build")

    @property
    def is_here(self) -> bool:
        """Whether shards and images are worked on in this process."""
        return engine_of(self.engine).is_here

    def open_captioned(self) -> CaptionedSource:
        """Return the source of captioned images; a SourceError says why it is not where it should be."""
        source = SOURCES[self.preset.captioned.source]
        if source.captioned is None:
            raise BuildError(f"The source {source.name} has no captions.")
        return source.captioned(self.captioned_place())

    def open_distractors(self) -> DistractorSource:
        """Return the source of distractors; a SourceError says why it is not where it should be."""
        return open_distractors(self.preset.distractors.source, *self.distractor_places())

    def distractor_places(self) -> tuple[Place, Place | None]:
        """Return where the distractors lie, and where captioned images of the same source do, if there are any."""
        wanted = self.preset.distractors
        place = Place(self._src("distractors", wanted.source, wanted.location), self.work / "download")
        return place, self.captioned_place() if self.preset.captioned.source == wanted.source else None

    def captioned_place(self) -> Place:
        """Return where the captioned images lie, and how they are read."""
        wanted = self.preset.captioned
        return Place(
            self._src("captioned", wanted.source, wanted.location),
            self.work / "download",
            self.captions or self._located(wanted.table, inside=True),
            wanted.file_column,
            wanted.caption_column,
            wanted.fewest_captions,
        )

    def _src(self, role: str, name: str, location: str) -> str:
        if not SOURCES[name].located:
            return self.sources.get(name, "hub")
        if src := self.sources.get(role) or self._located(location):
            return src
        raise BuildError(
            f"The preset {self.preset.name} does not say where its {_OWN[role]} lie.",
            f"Say it with --{role}, or as {role}.location in the preset: a folder, an archive or an address.",
        )

    def _located(self, location: str, *, inside: bool = False) -> str:
        """Return what a preset calls a place, with the folder of the preset; or a name inside the source as it is."""
        if not location or is_url(location):
            return location
        path = self.preset.folder / Path(location).expanduser()
        return location if inside and not path.is_file() else str(path)


def open_distractors(name: str, place: Place, captioned: Place | None) -> DistractorSource:
    """Return the source of this name at a place; see `Source.distractors`.

    Raises:
        BuildError: It has no distractors.
        SourceError: It is not where it should be.
    """
    if (opens := SOURCES[name].distractors) is None:
        raise BuildError(f"The source {name} has no distractors.")
    return opens(place, captioned)


REJECT_LIMIT = 0.005


@dataclass
class Job:
    """What all stages of one build share.

    Attributes:
        described: What the captioned source said of itself at the start; it may say something else after it fell back
            to another form.
        inputs: How many images were read, by stage.
        rejected: Those that were refused.
        passed_over: How many files or rows were not used, by stage and reason.
        engine: Where shards and chunks of images are worked on, within its `with` block.
    """

    options: BuildOptions
    reporter: Reporter
    stages: Stages
    described: dict[str, Any]
    inputs: Counter[str] = field(default_factory=Counter)
    rejected: list[Rejected] = field(default_factory=list)
    passed_over: defaultdict[str, PassedOver] = field(default_factory=lambda: defaultdict(PassedOver))
    engine: Engine = field(default_factory=lambda: engine_of("local"))

    @property
    def preset(self) -> Preset:
        """What the evaluation set is made of."""
        return self.options.preset

    def check_rejects(self) -> None:
        """Stop if too many inputs were refused.

        Raises:
            BuildError: More than 0.5 %, and `allow_rejects` is not set.
        """
        count, total = len(set(self.rejected)), sum(self.inputs.values())
        if self.options.allow_rejects or count <= REJECT_LIMIT * total:
            return
        first = "\n".join(f"  {item.id} ({item.stage}): {item.reason}" for item in sorted(self.rejected)[:5])
        raise BuildError(
            f"{count} of {total} inputs were refused, more than {REJECT_LIMIT:.1%}; the first:\n{first}",
            "Something is wrong with a source. Mend it and run the command again, or go on with --allow-rejects.",
        )
