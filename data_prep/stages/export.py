"""The stages `duplicates` and `export`: from finished images to a verified evaluation set."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data_prep.job import Job
from data_prep.markers import Marker, fingerprint
from data_prep.stages.card import dataset_card
from data_prep.stages.duplicates import exact_groups, hash_bits, near_pairs, partners, same_text, twins_to_remove
from data_prep.stages.mine import Mined
from data_prep.stages.reduce import ReducedImage
from data_prep.stages.select import Selected
from mteb_vehicle_search.errors import BuildError, DataNotFoundError, EvalSetError
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.eval_set.schema import Arm, CorpusImage, Provenance, Qrel, Query, Rejected
from mteb_vehicle_search.eval_set.verify import verify
from mteb_vehicle_search.eval_set.writer import About, write_eval_set
from mteb_vehicle_search.files import replace_folder, write_whole

CAPTIONED = Arm("captioned", [], 1.0)


def queries_of(job: Job, entries: list[ReducedImage]) -> tuple[list[Query], list[Qrel]]:
    """Return the queries and what answers them."""
    queries, qrels = [], []
    for entry in entries:
        stem = entry.id.partition("/")[2]
        for number, text in enumerate(entry.facts["captions"][: job.preset.captioned.captions]):
            query_id = f"{stem}_caption_{number:02d}"
            queries.append(Query(query_id, text))
            qrels.append(Qrel(query_id, entry.id))
    return queries, qrels


def find_duplicates(job: Job, entries: list[ReducedImage], markers: list[Marker]) -> dict[str, Any]:
    """Return exact groups, near pairs, queries of the same text, and what the policy removes.

    `entries` are all images, sorted by id; `markers` are of the stages that gave them.
    """
    rule = job.preset.duplicates
    configuration = {
        "images": fingerprint([marker.outputs for marker in markers]),
        "captions": job.preset.captioned.captions,
        "rule": asdict(rule),
    }
    path = job.options.work / "duplicates.json"
    if job.stages.done("duplicates", configuration) is None:
        groups = exact_groups((entry.id, _pixels(entry)) for entry in entries)
        ids = [entry.id for entry in entries]
        captioned = [i for i, entry in enumerate(entries) if entry.facts["captions"]]
        bits = hash_bits([entry.facts["perceptual_hash"] for entry in entries])
        pairs = near_pairs(captioned, ids, bits, rule.max_distance)
        removed = twins_to_remove(pairs, groups, {ids[i] for i in captioned}) if rule.policy == "remove" else set()
        found = {
            "exact": groups,
            "near": [list(pair) for pair in pairs],
            "removed": sorted(removed),
            "same_text": same_text(queries_of(job, entries)[0]),
        }
        write_whole(path, json.dumps(found, indent=0, ensure_ascii=False).encode())
        job.stages.finish("duplicates", configuration, [path], {key: len(value) for key, value in found.items()})
    return json.loads(path.read_text(encoding="utf-8"))


def export(
    job: Job,
    entries: list[ReducedImage],
    selected: Selected,
    duplicates: dict[str, Any],
    markers: list[Marker],
    mined: Mined | None = None,
) -> EvalSet:
    """Write the evaluation set, verify it, and put it in its place.

    `entries` and `markers` are those that `find_duplicates` was given, and `duplicates` is what it returned; `mined`
    says how the distractors were chosen, if they were chosen from a pool.

    Raises:
        BuildError: An image that was chosen from the pool is not there any more, or the result does not verify; nothing
            is put in place.
    """
    preset, options = job.preset, job.options
    listed = options.selection is not None or options.recipe is not None
    twins = partners(duplicates["exact"], duplicates["near"])
    rejected = {*job.rejected, *_left_out(entries, duplicates["removed"], twins)}
    removed = set(duplicates["removed"])
    entries = [entry for entry in entries if entry.id not in removed]
    if mined is not None:
        _require_all(mined, entries)
        rejected |= {*mined.rejected}
    queries, qrels = queries_of(job, entries)
    sources = {source.name: source.for_manifest() for source in preset.sources()}
    passed_over = {stage: dict(sorted(job.passed_over[stage].items())) for stage in ("captioned", "distractors")}
    configuration = {
        "preset": json.loads(json.dumps(preset.as_json())),
        "sources": fingerprint(sources),
        "images": fingerprint([marker.outputs for marker in markers]),
        "scores": fingerprint(selected.scores),
        "duplicates": fingerprint(duplicates),
        "compared": fingerprint(selected.compared),
        **({"clusters": fingerprint(selected.clusters)} if selected.clusters else {}),
        "class_names": fingerprint(_class_names(job)),
        "listed": listed,
        "rejected": fingerprint(sorted(rejected)),
        "passed_over": passed_over,
        **({"arms": fingerprint([mined.arms, mined.pool])} if mined else {}),
    }
    done = job.stages.done("export", configuration)
    if done and (finished := _written(options.out, done.counts["bytes_id"])):
        return finished
    counts = {**_counts(entries, queries), "rejected": len(rejected)}
    notes = {
        "selection": selected.compared,
        **({"clusters": selected.clusters} if selected.clusters else {}),
        "duplicates": duplicates,
        "warnings": {entry.id: entry.facts["warning"] for entry in entries if entry.facts["warning"]},
        "counts": counts,
        "rejected": dict(sorted(Counter(item.stage for item in rejected).items())),
        "passed_over": passed_over,
        "expected": {key: value for key, value in asdict(preset.expected).items() if value is not None},
    }
    card = dataset_card(preset, counts, duplicates, listed, mined and mined.pool)
    staged = options.work / "export" / options.out.name
    facts = (preset.name, preset.title, preset.images, card, preset.as_json(), notes, sources, preset.task)
    about, arms = About(*facts, mined and mined.pool), mined and mined.arms
    eval_set = write_eval_set(
        staged,
        about,
        images=job.reporter.track(_corpus(job, entries, selected.scores or {}, twins, arms), "export", len(entries)),
        queries=queries,
        qrels=qrels,
        rejected=rejected,
    )
    if violations := verify(staged, progress=not job.reporter.quiet).violations:
        lines = "\n".join(f"  {item.where}: {item.what}" for item in violations[:10])
        raise BuildError(f"The evaluation set in {staged} does not verify:\n{lines}")
    replace_folder(staged, options.out)
    job.stages.finish("export", configuration, counts={"bytes_id": eval_set.manifest["bytes_id"]})
    return EvalSet.open(options.out)


def _written(folder: Path, bytes_id: str) -> EvalSet | None:
    """Return the set in a folder if it is the one that was written there; None for another, a damaged one, or none."""
    try:
        eval_set = EvalSet.open(folder)
    except (DataNotFoundError, EvalSetError):
        return None
    return eval_set if eval_set.manifest.get("bytes_id") == bytes_id else None


def _require_all(mined: Mined, entries: list[ReducedImage]) -> None:
    """Make sure that all images are there that the pool's probabilities speak of."""
    there = {entry.id for entry in entries if not entry.facts["captions"]}
    if missing := sorted(mined.arms.keys() - there):
        raise BuildError(
            f"{len(missing):,} of {len(mined.arms):,} images that were chosen from the pool are not there any more, "
            f"first {missing[0]}.",
            "The source changed: run the same command with --rebuild embed.",
        )


def _left_out(entries: list[ReducedImage], removed: list[str], twins: dict[str, list[str]]) -> Iterator[Rejected]:
    captioned = {entry.id for entry in entries if entry.facts["captions"]}
    for identifier in removed:
        answers = ", ".join(twin for twin in twins[identifier] if twin in captioned)
        yield Rejected(identifier, "duplicates", f"shows the same as the captioned {answers}")


def _counts(entries: list[ReducedImage], queries: list[Query]) -> dict[str, Any]:
    captioned = [entry for entry in entries if entry.facts["captions"]]
    return {
        "captioned": len(captioned),
        "distractors": len(entries) - len(captioned),
        "queries": len(queries),
        "distinct_texts": len({query.text for query in queries}),
        "warnings": sum(bool(entry.facts["warning"]) for entry in entries),
        "splits": dict(sorted(Counter(entry.facts["split"] for entry in captioned).items())),
    }


def _corpus(
    job: Job,
    entries: list[ReducedImage],
    scores: dict[str, float | None],
    twins: dict[str, list[str]],
    arms: Mapping[str, Arm] | None,
) -> Iterator[CorpusImage]:
    names = _class_names(job)
    for entry in entries:
        facts = entry.facts
        row = {key: facts[key] for key in Provenance._fields if key in facts}
        row |= {
            "captioned": bool(facts["captions"]),
            "class_name": names.get(facts["wnid"], ""),
            "vehicle_score": scores.get(entry.id) if facts["captions"] else None,
            "duplicates": twins.get(entry.id, []),
        }
        if arms is not None:
            row |= arms.get(entry.id, CAPTIONED)._asdict()
        yield CorpusImage(entry.id, entry.jpeg(), row)


def _class_names(job: Job) -> dict[str, str]:
    classes = job.preset.distractor_classes()
    return {item.wnid: item.name for item in classes.classes} if classes else {}


def _pixels(entry: ReducedImage) -> str:
    """Identify an image's pixels: equal pixels of equal size give equal JPEG bytes."""
    size = f"{entry.facts['width']}x{entry.facts['height']}"
    return f"{size}/{hashlib.sha256(entry.jpeg()).hexdigest()}"
