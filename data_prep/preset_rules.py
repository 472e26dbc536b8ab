"""What makes sense in a preset: rules of its tables, each with the sentence that says what is wrong."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_prep.preset_tables import (
    COLOUR_PROFILE,
    DISTRACTOR_METHODS,
    EXIF,
    NO_SOURCE,
    OF_IMAGES,
    OF_TEXTS,
    PIXEL_MINERS,
    RESAMPLE,
    SELECTION_METHODS,
    Captioned,
    Classifier,
    Distractors,
    Duplicates,
    Miner,
    Selection,
)
from data_prep.sources import SPLITS
from data_prep.sources.registry import SOURCES
from mteb_vehicle_search.eval_set.schema import ImagePolicy

# Whether it holds (as truth), and what is to be said if not.
Rule = tuple[Any, str]
_OF_LIST, _OF_CLUSTERS = ("list",), ("clusters", "images", "smallest", "views", "seed")
_OF_THRESHOLD = ("classes", "threshold", "share")


def name_rules(name: str) -> list[Rule]:
    """Return the rules of a preset's name."""
    return [
        (re.fullmatch(r"[a-z0-9][a-z0-9-]{0,59}", name), "name must be 1 to 60 of a-z, 0-9 and '-'"),
        (not re.fullmatch(r"con|prn|aux|nul|(com|lpt)\d", name), "name must not be one that Windows reserves"),
    ]


def is_preset_name(name: str) -> bool:
    """Tell whether a preset can have this name."""
    return all(holds for holds, _ in name_rules(name))


def captioned_rules(table: Captioned) -> list[Rule]:
    """Return the rules of [captioned]; those of one's own images whatever the source is called."""
    with_captions = [name for name, source in SOURCES.items() if source.captioned]
    own = table.source in SOURCES and SOURCES[table.source].located
    every = _either([name for name, source in SOURCES.items() if source.located])
    rules: list[Rule] = [
        (table.source in with_captions, f"captioned.source must be {_either(with_captions)}"),
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


def distractor_rules(table: Distractors, miners: Mapping[str, Miner]) -> list[Rule]:
    """Return the rules of [distractors]."""
    with_distractors = [name for name, source in SOURCES.items() if source.distractors]
    known = SOURCES.get(table.source)
    own, with_classes = bool(known and known.located), bool(known and known.per_class)
    classless = own or table.source == NO_SOURCE
    classes_given = table.classes or not with_classes or (table.classes is None and table.method != "class")
    return [
        (table.source in with_distractors, f"distractors.source must be {_either(with_distractors)}"),
        (classes_given, "distractors.classes is missing: which ImageNet classes are wanted"),
        (own or not table.location, f"distractors.location has no meaning for {table.source!r}"),
        (not (classless and table.classes), f"distractors.classes has no meaning for {table.source!r}, which has none"),
        (not classless or table.splits == SPLITS, f"distractors.splits has no meaning for {table.source!r}"),
        (set() < set(table.splits) <= set(SPLITS), "distractors.splits may hold 'train' and 'val'"),
        (table.method in DISTRACTOR_METHODS, f"distractors.method must be {_either(DISTRACTOR_METHODS)}"),
        *_without_meaning("distractors", table, "class", ("miners", "near", "size", "rate", "seed")),
        *([] if table.method == "class" else _pool_rules(table, miners, with_classes)),
    ]


def _pool_rules(table: Distractors, miners: Mapping[str, Miner], with_classes: bool) -> list[Rule]:
    """Rules of distractors that are chosen from a pool."""
    method, chosen = table.method, table.miners or tuple(miners)
    seeing = [name for name in chosen if name in miners and (miners[name].sees_images or with_classes)]
    blind = f"compares captions with names of classes, and {table.source!r} has none"
    one = (table.size is None) != (table.rate is None)
    return [
        (table.source != NO_SOURCE, f"distractors.method {method!r} has no meaning for {NO_SOURCE!r}"),
        (miners, f"distractors.method {method!r} needs a miner: [miners.NAME]"),
        *_names("distractors.miners", table.miners, miners),
        *((name in seeing, f"distractors.miners: {name!r} {blind}") for name in table.miners),
        (seeing, f"distractors.method {method!r} needs a miner of images: {', '.join(map(repr, chosen))} {blind}"),
        (table.near >= 1, "distractors.near must be at least 1"),
        (method == "mined" or one, "distractors must give either size or rate"),
        *_without_meaning("distractors", table, "mined", ("size", "rate"), "its random arm is as large as the mined"),
        (table.size is None or table.size >= 1, "distractors.size must be at least 1"),
        (table.rate is None or 0 < table.rate <= 1, "distractors.rate must be in (0, 1]"),
        (table.seed, "distractors.seed must not be empty"),
    ]


def selection_rules(table: Selection, miners: Mapping[str, Miner], classifier: Classifier | None) -> list[Rule]:
    """Return the rules of [selection]."""
    rules: list[Rule] = [
        (table.method in SELECTION_METHODS, f"selection.method must be {_either(SELECTION_METHODS)}"),
        *_without_meaning("selection", table, "threshold", _OF_LIST + _OF_CLUSTERS),
        *_without_meaning("selection", table, "list", _OF_THRESHOLD + _OF_CLUSTERS),
        *_without_meaning("selection", table, "clusters", _OF_THRESHOLD + _OF_LIST),
    ]
    if table.method == "list":
        return [*rules, (table.list, "selection.list is missing: the file of image names")]
    if table.method == "clusters":
        return [*rules, *_cluster_rules(table, miners)]
    one_rule = (table.threshold is None) != (table.share is None)
    return [
        *rules,
        (table.classes, "selection.classes is missing"),
        (classifier, "[selection] needs a [classifier]"),
        (one_rule, "selection must give either threshold or share"),
        (table.threshold is None or 0 <= table.threshold < 1, "selection.threshold must be in [0, 1)"),
        (table.share is None or 0 < table.share <= 1, "selection.share must be in (0, 1]"),
    ]


def _cluster_rules(table: Selection, miners: Mapping[str, Miner]) -> list[Rule]:
    return [
        (miners, "selection.method 'clusters' needs a miner: [miners.NAME]"),
        *_names("selection.views", table.views, miners),
        (table.clusters is not None, "selection.clusters is missing: how many there are"),
        (table.clusters is None or table.clusters >= 2, "selection.clusters must be at least 2"),
        (table.images is not None, "selection.images is missing: how many images are kept at most"),
        (table.smallest >= 1, "selection.smallest must be at least 1"),
        (
            table.images is None or table.images >= table.smallest,
            "selection.images must be at least selection.smallest",
        ),
        (0 <= table.seed < 2**32, "selection.seed must be 0 to 4294967295"),
    ]


def classifier_rules(table: Classifier, folder: Path, used: bool) -> list[Rule]:
    """Return the rules of [classifier]; `used`: whether anything needs it."""
    return [
        (used, "a classifier needs [selection] by its probabilities, or a miner of the library 'classifier'"),
        (table.library in ("transformers", "timm"), "classifier.library must be 'transformers' or 'timm'"),
        *_model_rules("classifier", table, folder),
    ]


def miner_rules(
    miners: Mapping[str, Miner], folder: Path, classifier: Classifier | None, used: Collection[str]
) -> list[Rule]:
    """Return the rules of [miners]; `used`: names of those that something needs."""
    return [rule for name, miner in miners.items() for rule in _of_miner(name, miner, folder, classifier, used)]


def _of_miner(
    name: str, table: Miner, folder: Path, classifier: Classifier | None, used: Collection[str]
) -> Iterable[Rule]:
    key, library = f"miners.{name}", table.library
    libraries = (*OF_IMAGES, OF_TEXTS)
    yield (
        re.fullmatch(r"(?!id$)[a-z0-9-]{1,20}", name),
        f"{key}: the name must be 1 to 20 of a-z, 0-9 and '-', and not 'id'",
    )
    yield library in libraries, f"{key}.library must be {_either(libraries)}"
    if library in ("timm", OF_TEXTS):
        yield from _model_rules(key, table, folder)
    else:
        yield not table.revision, f"{key}.revision has no meaning for {library!r}"
    yield library != "classifier" or not table.model, f"{key}.model has no meaning for 'classifier': it is the preset's"
    yield library != "classifier" or classifier, f"{key} needs a [classifier]"
    yield library != "pixels" or table.model in PIXEL_MINERS, f"{key}.model must be {_either(PIXEL_MINERS)}"
    yield library == "timm" or not table.side_px, f"{key}.side_px has a meaning for 'timm' alone"
    yield table.side_px == 0 or 16 <= table.side_px <= 2048, f"{key}.side_px must be 16 to 2048, or 0 for the model's"
    yield 0 <= table.same_cosine <= 1, f"{key}.same_above must be in [0, 1]"
    yield name in used, f"{key} is used by nothing: name it in distractors.miners or selection.views"


def image_rules(table: ImagePolicy) -> list[Rule]:
    """Return the rules of [images]."""
    return [
        (table.shortest_side_px >= 16, "images.shortest_side_px must be at least 16"),
        (table.resample in RESAMPLE, f"images.resample must be one of {', '.join(RESAMPLE)}"),
        (1 <= table.jpeg_quality <= 95, "images.jpeg_quality must be 1 to 95"),
        (table.exif in EXIF, f"images.exif must be {_either(EXIF)}"),
        (table.colour_profile in COLOUR_PROFILE, f"images.colour_profile must be {_either(COLOUR_PROFILE)}"),
    ]


def duplicate_rules(table: Duplicates) -> list[Rule]:
    """Return the rules of [duplicates]."""
    return [
        (table.policy in ("report", "remove"), "duplicates.policy must be 'report' or 'remove'"),
        (-1 <= table.max_distance <= 16, "duplicates.max_distance must be -1 (none are) to 16"),
    ]


def _model_rules(key: str, table: Classifier | Miner, folder: Path) -> list[Rule]:
    """Rules of what is on the hub at a pinned revision, or a folder."""
    local = bool(table.model) and (folder / table.model).is_dir()
    return [
        (
            local or re.fullmatch(r"[\w.-]+(/[\w.-]+)?", table.model),
            f"{key}.model must be a folder beside the preset, or a name on the hub such as owner/name; "
            f"{table.model!r} is neither",
        ),
        (
            local or re.fullmatch(r"[0-9a-f]{40}", table.revision),
            f"{key}.revision must be a full commit hash (40 hexadecimal digits)",
        ),
    ]


def _without_meaning(
    table: str, content: Selection | Distractors, method: str, keys: Sequence[str], why: str = ""
) -> list[Rule]:
    """Rules that keys are left alone which have no meaning for a method."""
    if content.method != method:
        return []
    usual = type(content).__dataclass_fields__
    said = f" has no meaning for the method {method!r}" + (f": {why}" if why else "")
    return [(getattr(content, key) == usual[key].default, f"{table}.{key}{said}") for key in keys]


def _names(key: str, chosen: Sequence[str], miners: Mapping[str, Miner]) -> list[Rule]:
    known = f"there is {', '.join(map(repr, miners)) or 'none'}"
    return [
        *(
            (name in miners, f"{key} names the miner {name!r}, which [miners] does not hold: {known}")
            for name in chosen
        ),
        (len(set(chosen)) == len(chosen), f"{key} names a miner twice"),
    ]


def _either(names: Sequence[str]) -> str:
    return " or ".join(map(repr, names))
