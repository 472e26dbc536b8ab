"""Recipes: an evaluation set without its images and captions, rebuilt from one's own copies of the sources.

A recipe names every image, caption and judgement, and holds digests of what they are. It may be given to people who may
not be given the images: `writing.py` makes one of a set, `reading.py` checks one that a stranger wrote, and
`differences.py` says what a rebuilt set has otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from data_prep.class_set import ClassSet
from data_prep.preset import Preset
from mteb_vehicle_search.eval_set.schema import ImagePolicy, Qrel

RECIPE_VERSION = 1
RECIPE_FILE = "recipe.json.gz"  # Of a repository that holds one.


class RecipeImage(NamedTuple):
    """An image of the corpus, told by its source's own bytes.

    Attributes:
        sha256: Of the source's bytes, hexadecimal.
        width: Of the original as it was decoded, in pixels.
        height: Likewise.
        score: Summed probability of the selection's classes; None if it was not classified.
    """

    sha256: str
    width: int
    height: int
    score: float | None = None


@dataclass(frozen=True)
class RecipePreset(Preset):
    """The preset of a set that is rebuilt: the recipe names the captioned images, and the classes with their names.

    It has no classifier and needs no file beside it.
    """

    classes: ClassSet | None = field(default=None, metadata={"hidden": True})

    def distractor_classes(self) -> ClassSet | None:
        """Return the classes that the recipe's distractors are of."""
        return self.classes

    def as_json(self) -> dict[str, Any]:
        """Return what the preset says."""
        return {key: value for key, value in super().as_json().items() if key != "classes"}


@dataclass(frozen=True)
class Recipe:
    """A checked recipe.

    Attributes:
        where: Where it lies, for people.
        name: Of the set, like its `title` and `task_name`.
        content_id: Of the set.
        sources_id: What identifies the sources' bytes (`schema.images_id`).
        images_id: What identifies the stored JPEGs; "" if the set did not tell.
        policy: How its images were reduced.
        preset: What a build needs to know, beside what the recipe names.
        sources: Terms and citations of each source, as in a manifest.
        captioned: The images that queries ask for, by id.
        distractors: The others.
        queries: Query id -> sha256 of its text in UTF-8, hexadecimal.
        qrels: All relevance judgements.
    """

    where: str
    name: str
    title: str
    task_name: str
    content_id: str
    sources_id: str
    images_id: str
    policy: ImagePolicy
    preset: RecipePreset
    sources: Mapping[str, Any]
    captioned: Mapping[str, RecipeImage]
    distractors: Mapping[str, RecipeImage]
    queries: Mapping[str, str]
    qrels: frozenset[Qrel]

    def scores(self) -> dict[str, float | None]:
        """Return the ids of the captioned images, which are the selection, with the scores they were chosen by."""
        return {corpus_id: image.score for corpus_id, image in self.captioned.items()}
