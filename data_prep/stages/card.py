"""The dataset card: what an evaluation set is, where it comes from, what is weak about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from data_prep.preset import Preset


def dataset_card(
    preset: Preset,
    counts: dict[str, Any],
    duplicates: dict[str, Any],
    listed: bool,
    pool: Mapping[str, Any] | None = None,
) -> str:
    """Return the body of the dataset card, Markdown.

    Args:
        preset: What the set is made of.
        counts: `captioned`, `distractors`, `queries`, `distinct_texts`, `rejected`, `warnings`, `splits`.
        duplicates: `exact`, `near`, `removed`, `same_text`.
        listed: Whether a list chose the captioned images, and not the preset's rule.
        pool: What the distractors are a sample of, see `EvalSet.pool`.
    """
    sources = preset.sources()
    sections = [
        preset.description,
        "## Counts\n\n" + _counts(counts),
        "## Evaluating a model\n\n" + _command(preset),
        "## Sources and terms\n\n" + "\n".join(f"- {source.card}" for source in sources),
        "## How it was built\n\n" + _method(preset, listed, pool),
        "## Known weaknesses\n\n" + _weaknesses(preset, counts, duplicates),
    ]
    if citations := [line for source in sources for line in source.cite]:
        sections.append("## Citing\n\nCite the sources:\n\n" + "\n".join(f"- {line}" for line in citations))
    sections.append(
        "`manifest.json` holds the preset, the content id, the duplicates and the digest of every file; "
        "`rejected.parquet` every input that was left out, and why."
    )
    return "\n\n".join(section for section in sections if section)


def _counts(counts: dict[str, Any]) -> str:
    rows = [
        ("images", counts["captioned"] + counts["distractors"]),
        ("of which captioned", counts["captioned"]),
        ("of which distractors", counts["distractors"]),
        ("queries", counts["queries"]),
        ("distinct texts", counts["distinct_texts"]),
        ("rejected inputs", counts["rejected"]),
    ]
    if counts["warnings"]:
        rows.append(("JPEGs kept although the decoder complained", counts["warnings"]))
    return "| what | count |\n|---|---:|\n" + "\n".join(f"| {what} | {count:,} |" for what, count in rows)


def _command(preset: Preset) -> str:
    return (
        "With mteb and the package `mteb-vehicle-search`:\n\n"
        f"```bash\nmteb run -t {preset.task} -m MODEL\n```\n\n"
        "A copy is found in the folder `data` of `VEHICLE_SEARCH_HOME`, or where `VEHICLE_SEARCH_DATA` says."
    )


def _method(preset: Preset, listed: bool, pool: Mapping[str, Any] | None) -> str:
    images, selection = preset.images, preset.selection
    lines = []
    if listed:
        lines.append("- The captioned images are those of a list; its digest is in `manifest.json`.")
    elif preset.classifier and selection:
        rule = f"is greater than {selection.threshold}" if selection.threshold is not None else ""
        rule = rule or f"is among the highest {selection.share:.2%}"
        lines.append(
            f"- A captioned image is kept if the summed probability of the classes `{selection.classes}`, by the "
            f"classifier `{preset.classifier.model}`, {rule}."
        )
    if pool is not None:
        lines += _sampling(pool)
    elif preset.distractors.classes:
        splits = " and ".join(preset.distractors.splits)
        lines.append(f"- Distractors are all images ({splits}) of the classes `{preset.distractors.classes}`.")
    lines += [
        f"- Images are reduced so that the shorter side has at most {images.shortest_side_px} px "
        f"({images.resample}), and stored as JPEG of quality {images.jpeg_quality}.",
        f"- Every caption (the first {preset.captioned.captions} of an image) is a query; "
        "its own image is the one relevant answer.",
    ]
    return "\n".join(lines)


def _sampling(pool: Mapping[str, Any]) -> list[str]:
    images, near, far = (f"{pool[key]:,}" for key in ("images", "near", "far"))
    miners = ", ".join(f"`{name}`" for name in pool["miners"])
    return [
        f"- Distractors are a sample of a pool of {images} images: all {near} near ones, which are the "
        f"{pool['near_each']} nearest of each captioned image by each of the miners {miners}, and a random sample of "
        f"the {far} others.",
        "- `provenance` says of each image its arm, by which miners it was found, and with which probability it came "
        "in: so ranks in the whole pool are estimated without bias, whatever miners see.",
    ]


def _dependence(counts: dict[str, Any]) -> list[str]:
    if counts["queries"] == counts["captioned"]:
        return []
    return ["- Captions come several per image, so queries are not independent: intervals must resample images."]


def _weaknesses(preset: Preset, counts: dict[str, Any], duplicates: dict[str, Any]) -> str:
    repeated = sum(len(item["queries"]) for item in duplicates["same_text"])
    lines = [
        "- False negatives: distractors have no captions, so a general caption may fit some of them; "
        f"{repeated} queries share their text with another query and yet have one answer each.",
        *_dependence(counts),
        f"- Duplicates: {len(duplicates['exact'])} groups of identical images, {len(duplicates['near'])} near "
        f"duplicates of captioned images; {len(duplicates['removed'])} images were removed for it.",
    ]
    if splits := ", ".join(f"{count:,} {name}" for name, count in counts["splits"].items() if name):
        lines.append(
            f"- Contamination: by the usual splits of {preset.captioned.source}, the captioned images are {splits}; "
            "a model fine-tuned on the training split has seen them."
        )
    return "\n".join(lines)
