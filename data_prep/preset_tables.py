"""The tables of a preset: what each says, and what of it goes into manifests and fingerprints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from data_prep.sources import SPLITS

RESAMPLE = ("box", "bilinear", "bicubic", "lanczos")
EXIF = ("distractors", "all", "none")
COLOUR_PROFILE = ("drop", "srgb")
NO_SOURCE = "none"
OF_IMAGES, OF_TEXTS = ("timm", "classifier", "pixels"), "sentence-transformers"
PIXEL_MINERS = ("layout", "colours")
SELECTION_METHODS = ("threshold", "list", "clusters")
DISTRACTOR_METHODS = ("class", "mined", "stratified")
_OF_THIS_MACHINE = ("location", "table", "list")
_NEAR_DUPLICATE_COSINE = {"timm": 0.95}


@dataclass(frozen=True)
class Captioned:
    """Where queries and their images come from.

    Attributes:
        source: "flickr30k", "drawn", or for images of one's own "folder" or "webdataset".
        captions: How many of an image's captions are kept, the first ones.
        location: Where images of one's own lie: a path relative to the preset, or an address.
        table: The file with their captions, relative to the preset or inside the location; "beside" for those in files
            beside the images; empty for what is found.
        file_column: Its column of file names; empty for the one that is found.
        caption_column: Likewise of the captions.
        fewest_captions: Images with fewer are not used.
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
class Miner:
    """A view of images or captions that neighbours and clusters are found by; none of the models that a set ranks.

    Attributes:
        library: "timm" (features of images), "sentence-transformers" (captions, and names of classes), "classifier"
            (logits of the preset's), or "pixels" (no weights).
        model: On the hub, or a folder relative to the preset; of "pixels" "layout" or "colours"; of "classifier" none.
        revision: Full commit hash on the hub; not needed for a local folder.
        family: Models of it are marked in results; compared with their names.
        side_px: Of the square that a timm model sees, in pixels; 0: its own.
        same_above: Cosine from which a pool image counts as a near duplicate of a captioned one, 0 to 1; 0: never.
            None: 0.95 for timm, never for the others.
    """

    library: str
    model: str = ""
    revision: str = ""
    family: str = ""
    side_px: int = 0
    same_above: float | None = None

    @property
    def sees_images(self) -> bool:
        """Whether it embeds images, and not texts."""
        return self.library in OF_IMAGES

    @property
    def same_cosine(self) -> float:
        """Cosine from which a pool image counts as a near duplicate; 0: never."""
        return _NEAR_DUPLICATE_COSINE.get(self.library, 0.0) if self.same_above is None else self.same_above

    def as_json(self) -> dict[str, Any]:
        """Return what it says."""
        return told(self, ("library", "model"))


@dataclass(frozen=True)
class Selection:
    """Which captioned images are kept.

    Attributes:
        classes: Of "threshold", whose probability is summed: name of a class set, or a TSV file relative to the preset.
        threshold: Keep what scores higher than this; or else
        share: keep this share of the images, the highest scores first.
        method: "threshold", "list" or "clusters" (whole clusters of images that look and read alike).
        list: Of "list": a file of image names, relative to the preset, as for `--selection`.
        clusters: Of "clusters": how many there are, kept or not.
        images: How many images are kept at most.
        smallest: Clusters with fewer images are not kept.
        views: Names of the miners that they are found by; none: all.
        seed: Of their start.
    """

    classes: str = ""
    threshold: float | None = None
    share: float | None = None
    method: str = "threshold"
    list: str = ""
    clusters: int | None = None
    images: int | None = None
    smallest: int = 5
    views: tuple[str, ...] = ()
    seed: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return what it says."""
        return told(self, ("classes", "threshold", "share") if self.method == "threshold" else ("method",))


@dataclass(frozen=True)
class Distractors:
    """Where uncaptioned images come from.

    Attributes:
        source: "imagenet", "drawn", "folder" or "webdataset" for images of one's own, or "none".
        classes: Name of a class set, or a TSV file relative to the preset; None: all of a pool that is mined.
        splits: Those of ImageNet that are used.
        location: Where images of one's own lie: a path relative to the preset, or an address. Where the captioned
            ones lie, too, it means those without captions.
        method: "class" (all images of the classes), "mined" (the nearest ones of captioned images, and as many random
            ones), or "stratified" (the nearest ones, and a random sample of all others).
        miners: Names of those that find the nearest ones; none: all that see the pool.
        near: How many nearest ones each miner finds for a captioned image.
        size: Of "stratified": how many distractors there are in all; or else
        rate: the share of the others that is drawn.
        seed: Of the random ones.
    """

    source: str
    classes: str | None = None
    splits: tuple[str, ...] = SPLITS
    location: str = ""
    method: str = "class"
    miners: tuple[str, ...] = ()
    near: int = 40
    size: int | None = None
    rate: float | None = None
    seed: str = "1"


@dataclass(frozen=True)
class Duplicates:
    """What happens to near duplicates.

    Attributes:
        policy: "report" lists them; "remove" also drops the uncaptioned twin of a captioned image.
        max_distance: Greatest number of differing bits, of 64, in the perceptual hashes of near duplicates; -1: there
            are none.
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


def told(table: Captioned | Distractors | Selection | Miner, always: Sequence[str]) -> dict[str, Any]:
    """Return what a table says: keys that sets of earlier versions do not know only where they say something."""
    usual = {f.name: f.default for f in fields(table)}
    said = {key: value for key, value in asdict(table).items() if key not in _OF_THIS_MACHINE}
    return {key: value for key, value in said.items() if key in always or value != usual[key]}
