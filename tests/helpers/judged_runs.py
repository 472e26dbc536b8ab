"""A sample of the captions of runs in memory or on disk, and its judgments: drawn and answered by hand or by chance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from mteb_vehicle_search.analysis.judged_ranks import Judgeable
from mteb_vehicle_search.analysis.ranks import RunRanks
from mteb_vehicle_search.judgments import JudgeFile, Judgment, Judgments, Sample, Unit, write_sample
from mteb_vehicle_search.judgments.predictions import Predictions
from mteb_vehicle_search.judgments.store import judgments_folder

Answer = Callable[[str, str], int]


def sample_of(runs: Sequence[RunRanks], seed: int = 0, *, plain: bool = False, **changed) -> Sample:
    """Return all captions with images in question, in random order; strata by the least rank, or one if `plain`."""
    generator, first = np.random.default_rng(seed), runs[0]
    asked, ids = [Judgeable(run) for run in runs], first.query_ids[first.first].tolist()
    least = np.min([np.minimum.reduceat(run.ranks, run.first) for run in runs], axis=0)
    by_cluster: dict[str, list[int]] = {}
    clusters = first.clusters.tolist()
    for query in range(len(ids)):
        if any(one.counts[query] for one in asked):
            by_cluster.setdefault(str(clusters[query]), []).append(query)
    units, strata = [], {}
    names = list(by_cluster)
    for cluster in (names[at] for at in generator.permutation(len(names))):
        queries = generator.permutation(by_cluster[cluster]).tolist()
        stratum = "all" if plain else ["1", "2-3", "4-10", ">10"][int(np.searchsorted([1, 3, 10], least[queries[0]]))]
        strata[stratum] = strata.get(stratum, 0) + 1
        for turn, query in enumerate(queries):
            images = sorted(set().union(*(one.in_question(query) for one in asked)))
            known = first.relevant_ids[first.first[query] : asked[0].stop[query]].tolist()
            units.append(Unit(ids[query], tuple(known), cluster, stratum, len(queries), turn, tuple(images)))
    units.sort(key=lambda unit: unit.turn)
    given = {
        "content_id": first.record.key.content_id,
        "images_id": first.record.key.images_id,
        "runs": tuple(sorted(run.record.key.full_name for run in runs)),
        "seed": seed,
        "queries": len(ids),
        "clusters": len(set(clusters)),
        "strata": strata,
        "units": tuple(units),
        "planned": len(units),
        "checks": {},
        **changed,
    }
    return Sample(**given)


def lines_of(sample: Sample, units: int, answer: Answer, judge: str = "ada", start: int = 0) -> list[Judgment]:
    """Return what a judge says of the units from `start` up to `units`."""
    about = {"content_id": sample.content_id, "sample": sample.id, "judge": judge, "seconds": 2.0}
    about["at"] = "2026-11-01T10:00:00+00:00"
    return [
        Judgment(query=unit.query, image=image, grade=answer(unit.query, image), **about)
        for unit in sample.units[start:units]
        for image in unit.images
    ]


def judgments_of(sample: Sample, lines: Sequence[Judgment]) -> Judgments:
    """Return judgments in memory."""
    return Judgments(Path("judgments"), {sample.id: sample}, tuple(lines), ())


def write_judgments(sample: Sample, lines: Sequence[Judgment], root: Path | None = None) -> Path:
    """Write a sample and judgments to where they are looked for; returns their folder."""
    folder = judgments_folder(sample.content_id, root)
    write_sample(folder, sample)
    for one in lines:
        file = JudgeFile(folder, one.judge)
        folder.mkdir(parents=True, exist_ok=True)
        with file.path.open("ab") as out:
            out.write(one.as_line())
    return folder


def predictions_of(sample: Sample, chance: Callable[[str, str], float], model: str = "org/seer") -> Predictions:
    """Return what a model predicts of all images in question of a sample."""
    found = {(unit.query, image): chance(unit.query, image) for unit in sample.units for image in unit.images}
    return Predictions(model, "r1", sample.content_id, sample.images_id, sample.id, 60, found)


def by_chance(share: float) -> Answer:
    """Return a judge who finds a share of all images right, and a tenth partly: always the same ones."""

    def answer(query: str, image: str) -> int:
        drawn = np.random.default_rng([*f"{query} {image}".encode()]).random()
        return 3 if drawn < share else 2 if drawn < share + 0.1 else 1

    return answer
