"""The dataset card: every figure, source and weakness that a reader must know, and none that does not hold."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from data_prep.preset import Captioned, Classifier, Distractors, Preset, Selection
from data_prep.stages.card import dataset_card
from mteb_vehicle_search.eval_set.schema import ImagePolicy

COUNTS = {
    "captioned": 1_200,
    "distractors": 50_034,
    "queries": 6_000,
    "distinct_texts": 5_995,
    "rejected": 7,
    "warnings": 3,
    "splits": {"": 2, "test": 40, "train": 1_158},
}
DUPLICATES = {
    "exact": [["a", "b"], ["c", "d", "e"]],
    "near": [["a", "f", 1], ["a", "g", 2], ["b", "f", 4]],
    "removed": ["f"],
    "same_text": [{"text": "A car.", "queries": ["1", "2"]}, {"text": "A bus.", "queries": ["3", "4", "5"]}],
}
PRESET = Preset(
    name="cars",
    title="Car Search",
    captioned=Captioned("flickr30k", captions=3),
    distractors=Distractors("imagenet", classes="orig49", splits=("train", "val")),
    description="A search for cars.",
    classifier=Classifier("transformers", "owner/vit"),
    selection=Selection("orig49", threshold=0.6),
    images=ImagePolicy(shortest_side_px=90, resample="lanczos", jpeg_quality=81),
)
DRAWN = Preset("mini", "Mini", Captioned("drawn"), Distractors("drawn"))
NO_DUPLICATES = {"exact": [], "near": [], "removed": [], "same_text": []}


def card(preset=PRESET, counts=COUNTS, duplicates=DUPLICATES, listed=False) -> str:
    return dataset_card(preset, counts, duplicates, listed)


def section(text: str, heading: str) -> str:
    """Return what stands under a heading."""
    return re.split(r"^## ", text.partition(f"## {heading}\n\n")[2], flags=re.MULTILINE)[0]


def test_the_sections_come_in_order_with_a_blank_line_between():
    text = card()
    assert text.startswith("A search for cars.\n\n## Counts\n\n| what")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == [
        "Counts",
        "Evaluating a model",
        "Sources and terms",
        "How it was built",
        "Known weaknesses",
        "Citing",
    ]
    assert "\n\n\n" not in text
    for line in re.findall(r"^## .*$", text, re.MULTILINE):
        assert f"\n\n{line}\n\n" in text
    last = text.split("\n\n")[-1]
    for name in ("`manifest.json`", "content id", "`rejected.parquet`"):
        assert name in last


def test_a_set_without_description_begins_with_its_counts():
    assert card(DRAWN).startswith("## Counts\n")


def table(text: str) -> dict[str, str]:
    head, rule, *rows = section(text, "Counts").strip().splitlines()
    assert head == "| what | count |"
    assert rule == "|---|---:|"  # Numbers stand at the right.
    return dict(re.fullmatch(r"\| (.*) \| (.*) \|", row).groups() for row in rows)


def test_every_count_is_told():
    assert table(card()) == {
        "images": "51,234",
        "of which captioned": "1,200",
        "of which distractors": "50,034",
        "queries": "6,000",
        "distinct texts": "5,995",
        "rejected inputs": "7",
        "JPEGs kept although the decoder complained": "3",
    }


def test_complaints_of_the_decoder_are_told_only_if_there_were_any():
    assert len(table(card(counts={**COUNTS, "warnings": 1}))) == 7
    assert len(table(card(counts={**COUNTS, "warnings": 0}))) == 6


@pytest.mark.parametrize(
    ("captioned", "distractors", "terms", "cited"),
    [
        ("flickr30k", "imagenet", ["Flickr30k", "ImageNet-1k"], ["Young, Lai", "Plummer", "Russakovsky"]),
        ("flickr30k", "drawn", ["Flickr30k", "Drawn scenes"], ["Young, Lai", "Plummer"]),
        ("drawn", "imagenet", ["Drawn scenes", "ImageNet-1k"], ["Russakovsky"]),
        ("drawn", "drawn", ["Drawn scenes"], []),
    ],
)
def test_each_source_is_named_once_with_its_terms_and_citations(captioned, distractors, terms, cited):
    text = card(replace(PRESET, captioned=Captioned(captioned), distractors=Distractors(distractors)))
    lines = section(text, "Sources and terms").strip().splitlines()
    assert [re.match(r"- \*\*(.*?)\*\*", line)[1] for line in lines] == terms
    for line in lines:
        assert ("non-commercial research and education only" in line) is ("Drawn" not in line)
    assert ("## Citing" in text) is bool(cited)
    citations = [line for line in section(text, "Citing").splitlines() if line.startswith("- ")]
    assert len(citations) == len(cited)
    assert all(line.startswith(f"- {name}") for line, name in zip(citations, cited))


def method(*args, **options) -> list[str]:
    return section(card(*args, **options), "How it was built").strip().splitlines()


def test_a_threshold_a_share_or_a_list_is_said_as_the_rule():
    by_threshold = method()[0]
    assert "`orig49`" in by_threshold
    assert "`owner/vit`, is greater than 0.6." in by_threshold
    by_share = method(replace(PRESET, selection=Selection("wordnet", share=0.1234)))[0]
    assert "`wordnet`" in by_share
    assert "`owner/vit`, is among the highest 12.34%." in by_share
    assert "is greater than 0." in method(replace(PRESET, selection=Selection("orig49", threshold=0)))[0]
    by_list = method(listed=True)[0]
    assert "those of a list" in by_list
    assert "owner/vit" not in "".join(method(listed=True))


def test_all_images_are_kept_without_a_rule():
    for changes in ({"classifier": None}, {"selection": None}, {"classifier": None, "selection": None}):
        lines = method(replace(PRESET, **changes))
        assert len(lines) == 3
        assert lines[0].startswith("- Distractors are all images")


def test_what_the_distractors_are_is_said():
    assert "- Distractors are all images (train and val) of the classes `orig49`." in method()
    only = replace(PRESET, distractors=Distractors("imagenet", classes="wordnet", splits=("val",)))
    assert "- Distractors are all images (val) of the classes `wordnet`." in method(only)
    assert not any("Distractors" in line for line in method(DRAWN))


def test_how_images_were_reduced_and_captions_kept_is_said():
    lines = method()
    assert len(lines) == 4
    assert "at most 90 px (lanczos)" in lines[2]
    assert "JPEG of quality 81" in lines[2]
    assert "the first 3 of an image" in lines[3]
    assert all(line.startswith("- ") for line in lines)


def weaknesses(**options) -> list[str]:
    return section(card(**options), "Known weaknesses").strip().splitlines()


def test_weaknesses_are_counted():
    lines = weaknesses()
    assert [re.match(r"- ([\w ]+)", line)[1] for line in lines] == [
        "False negatives",
        "Captions come several per image",
        "Duplicates",
        "Contamination",
    ]
    assert "5 queries share their text" in lines[0]
    assert "2 groups of identical images, 3 near duplicates of captioned images; 1 images were removed" in lines[2]
    assert "the captioned images are 40 test, 1,158 train; " in lines[3]
    assert "usual splits of flickr30k" in lines[3]


def test_nothing_is_said_of_splits_that_are_not_known():
    for splits in ({}, {"": 12}):
        assert len(weaknesses(counts={**COUNTS, "splits": splits})) == 3


def test_a_set_without_duplicates_says_none():
    lines = weaknesses(duplicates=NO_DUPLICATES)
    assert "0 queries share" in lines[0]
    assert "0 groups of identical images, 0 near duplicates of captioned images; 0 images" in lines[2]


def test_the_command_names_the_sets_own_task():
    assert "\nmteb run -t Cars -m MODEL\n" in section(card(), "Evaluating a model")
    assert "\nmteb run -t Bikes -m MODEL\n" in card(replace(PRESET, task_name="Bikes"))


def test_one_caption_of_each_image_makes_queries_independent():
    many = {
        "captioned": 3,
        "distractors": 4,
        "queries": 15,
        "distinct_texts": 15,
        "rejected": 0,
        "warnings": 0,
        "splits": {},
    }
    duplicates = {"exact": [], "near": [], "removed": [], "same_text": []}
    preset = Preset("cats", "Cats", Captioned("folder"), Distractors("none"))
    assert "Captions come several per image" in dataset_card(preset, many, duplicates, listed=False)
    assert "Captions come several per image" not in dataset_card(
        preset, {**many, "queries": 3}, duplicates, listed=False
    )
