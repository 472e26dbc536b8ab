"""The pipeline, from top to bottom: classify, select, reduce the images, find duplicates, export, verify.

Every stage leaves a marker in the work folder (`<out>.build`), and is skipped by the next run if nothing that it
depends on has changed.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep import selection as selecting
from data_prep.card import dataset_card
from data_prep.duplicates import exact_groups, hash_bits, near_pairs, same_text, twins_to_remove
from data_prep.options import BuildOptions, open_captioned, open_distractors
from data_prep.parts import PartEntry, read_part, write_part
from data_prep.progress import Reporter
from data_prep.stages import Marker, Stages, fingerprint, locked, replace_folder, write_whole
from mteb_vehicle_search.errors import BuildError
from mteb_vehicle_search.eval_set import CorpusImage, EvalSet, Qrel, Query, Rejected, write_eval_set
from mteb_vehicle_search.verification import verify

if TYPE_CHECKING:
    from data_prep.sources import CaptionedSource, DistractorSource, Part, SourceImage

STAGES = ("classify", "select", "captioned", "distractors", "duplicates", "export")
REJECT_LIMIT = 0.005
EARLY_CHECK = 2_000  # Inputs after which too many rejects stop a build before its end.


def build(options: BuildOptions, reporter: Reporter) -> EvalSet:
    """Build an evaluation set, or finish one that was interrupted.

    Returns:
        The verified set, at `options.out`.

    Raises:
        BuildError: Too many inputs were refused, another build holds the folder, or the result does not verify.
        SourceError: A source is missing, refused or damaged.
    """
    with locked(options.work):
        stages = Stages(options.work, reporter.say)
        for stage in options.rebuild:
            stages.discard(stage)
        captioned, distractors = open_captioned(options), open_distractors(options)
        run = _Build(options, reporter, stages, captioned.describe())
        kept, selected = run.select(captioned)
        markers = [run.captioned_part(captioned, kept, selected), *run.distractor_parts(distractors)]
        run.check_rejects()
        entries = run.merge()
        found = run.find_duplicates(entries, markers)
        return run.export(entries, kept, selected, found, markers)


class _Build:
    """One run of the pipeline; holds what all stages share."""

    def __init__(self, options: BuildOptions, reporter: Reporter, stages: Stages, described: dict[str, Any]) -> None:
        self.options, self.reporter, self.stages = options, reporter, stages
        self.preset = options.preset
        # Once: a source may describe itself in another way after it fell back to another form.
        self.described = described
        self.parts: list[Path] = []
        self.rejected: list[Rejected] = []
        self.inputs: Counter[str] = Counter()

    def select(self, source: CaptionedSource) -> tuple[dict[str, float] | None, Marker | None]:
        """Return the kept ids with their scores (-1: not classified), or None for all."""
        if self.options.selection is not None:
            choose, configuration = self._listed(self.options.selection)
        elif self.preset.classifier:
            choose, configuration = self._scored(source)
        else:
            return None, None
        path = self.options.work / "selection.json"
        published = self.options.work / "published.csv"
        known = None
        if published.is_file():
            known = selecting.read_selection(published, self.preset.captioned.source)
            configuration["published"] = selecting.selection_digest(known)
        marker = self.stages.done("select", configuration)
        if marker is None:
            kept = choose()
            if not kept:
                raise BuildError("The selection keeps no image at all.", "Lower selection.threshold in the preset.")
            expected = self.preset.expected
            compared = selecting.compare(kept, expected.captioned, expected.selection_sha256, known)
            write_whole(path, json.dumps(kept, indent=0).encode())
            marker = self.stages.finish("select", configuration, [path], compared)
        for line in selecting.describe(marker.counts):
            self.reporter.say(line)
        return json.loads(path.read_text(encoding="utf-8")), marker

    def _listed(self, selection: str) -> tuple[Callable[[], dict[str, float]], dict[str, Any]]:
        path = selecting.published_file(self.options.work) if selection == "published" else Path(selection)
        ids = selecting.read_selection(path, self.preset.captioned.source)
        return lambda: dict.fromkeys(sorted(ids), -1.0), {"list": selecting.selection_digest(ids)}

    def _scored(self, source: CaptionedSource) -> tuple[Callable[[], dict[str, float]], dict[str, Any]]:
        from data_prep.classify import summed_scores

        rule, classes = self.preset.selection, self.preset.selection_classes()
        if rule is None or classes is None:
            raise BuildError("A classifier needs [selection] in the preset.")
        files, configuration = self._classify(source)
        configuration |= {"classes": classes.indices, "rule": asdict(rule)}
        return lambda: selecting.select(summed_scores(files, classes.indices), rule), configuration

    def _classify(self, source: CaptionedSource) -> tuple[list[Path], dict[str, Any]]:
        from data_prep.classify import check_classes, choose_device, classifier_identity, load_scorer, score_images

        preset, options = self.preset, self.options
        classes = preset.selection_classes()
        if preset.classifier is None or classes is None:
            raise BuildError("The preset has no classifier.")
        classifier = preset.classifier
        device = choose_device(options.device)
        configuration = {
            "classifier": classifier_identity(classifier, preset.folder),
            "device": device.partition(":")[0],
        }
        whole = {**configuration, "batch_size": options.batch_size, "source": self.described}
        marker = self.stages.done("classify", whole)
        if marker is None:

            def scorer() -> Any:
                made = load_scorer(classifier, preset.folder, device)
                if warning := check_classes(made, classes):
                    self.reporter.say(f"Warning: {warning}")
                return made

            images = self.reporter.track(source.images(), "classify", source.count())
            files, rejected = score_images(
                self.stages, images, scorer, configuration, options.workers, options.batch_size
            )
            marker = self.stages.finish("classify", whole, files, {"chunks": len(files)}, rejected)
        import pyarrow.parquet as pq

        files = [options.work / name for name in sorted(marker.outputs)]
        self.rejected += marker.rejected
        self.inputs["captioned"] += sum(pq.read_metadata(file).num_rows for file in files) + len(marker.rejected)
        self.check_rejects()
        return files, {"scores": fingerprint(marker.outputs)}

    def captioned_part(self, source: CaptionedSource, kept: dict[str, float] | None, selected: Marker | None) -> Marker:
        """Reduce the kept captioned images."""
        configuration = {
            "source": self.described,
            "selection": fingerprint(sorted(kept)) if kept is not None else "all",
            "images": asdict(self.preset.images),
        }
        wanted = None if kept is None else set(kept)
        path = self.options.work / "captioned" / "part-00000"

        def images() -> Iterator[SourceImage]:
            return (image for image in source.images() if wanted is None or image.id in wanted)

        total = source.count() if wanted is None else len(wanted)
        marker = self._part("captioned", configuration, path, images, total)
        if wanted is not None:
            held = {entry.id for entry in read_part(path)} | {item.id for item in marker.rejected}
            if absent := sorted(wanted - held):
                self.rejected += [Rejected(i, "captioned", "selected, but the source does not have it") for i in absent]
        return marker

    def distractor_parts(self, source: DistractorSource) -> Iterator[Marker]:
        """Reduce the distractors, part by part; a source's part is released when its images are safe."""
        classes = self.preset.distractor_classes()
        wanted = set(classes.indices) if classes else set()
        splits = {*self.preset.distractors.splits, ""}
        parts = [part for part in source.parts(wanted) if part.split in splits]
        for number, part in enumerate(self.reporter.track(parts, "distractors", len(parts))):
            stage = f"distractors/part-{number:05d}"
            configuration = {
                "part": part.name,
                "source": part.fingerprint(),
                "classes": sorted(wanted),
                "images": asdict(self.preset.images),
            }

            def images(number: int = number, part: Part = part) -> Iterator[SourceImage]:
                source.prefetch(part)
                if number + 1 < len(parts) and not self.stages.path(f"distractors/part-{number + 1:05d}").is_file():
                    source.prefetch(parts[number + 1])
                return source.images(part, wanted)

            yield self._part(stage, configuration, self.options.work / stage, images)
            source.release(part)
            if sum(self.inputs.values()) >= EARLY_CHECK:
                self.check_rejects()
        shutil.rmtree(self.options.work / "download", ignore_errors=True)

    def _part(
        self,
        stage: str,
        configuration: dict[str, Any],
        path: Path,
        images: Callable[[], Iterator[SourceImage]],
        total: int | None = None,
    ) -> Marker:
        from data_prep.images import prepare_all

        what = stage.partition("/")[0]
        marker = self.stages.done(stage, configuration)
        if marker is None:
            stream = prepare_all(images(), self.preset.images, workers=self.options.workers)
            if what == "captioned":
                stream = self.reporter.track(stream, what, total)
            done = write_part(path, stream, what)
            marker = self.stages.finish(stage, configuration, done.files, {"images": done.images}, done.rejected)
        self.parts.append(path)
        self.rejected += marker.rejected
        self.inputs[what] += marker.counts["images"] + len(marker.rejected)
        return marker

    def check_rejects(self) -> None:
        """Stop if too many inputs were refused.

        Raises:
            BuildError: More than 0.5 %.
        """
        count, total = len(set(self.rejected)), sum(self.inputs.values())
        if self.options.allow_rejects or count <= REJECT_LIMIT * total:
            return
        first = "\n".join(f"  {item.id} ({item.stage}): {item.reason}" for item in sorted(self.rejected)[:5])
        raise BuildError(
            f"{count} of {total} inputs were refused, more than {REJECT_LIMIT:.1%}; the first:\n{first}",
            "Something is wrong with a source. Mend it and run the command again, or go on with --allow-rejects.",
        )

    def merge(self) -> list[PartEntry]:
        """Return the entries of all parts, sorted by id; a second image of the same id is refused."""
        found: dict[str, PartEntry] = {}
        for path in self.parts:
            for entry in read_part(path):
                if entry.id in found:
                    first = found[entry.id].path
                    where = f"{first.parent.name}/{first.name}"
                    self.rejected.append(Rejected(entry.id, "export", f"the id stands twice; the first is in {where}"))
                else:
                    found[entry.id] = entry
        self.check_rejects()
        return [found[identifier] for identifier in sorted(found)]

    def queries(self, entries: list[PartEntry]) -> tuple[list[Query], list[Qrel]]:
        """Return the queries and what answers them."""
        queries, qrels = [], []
        for entry in entries:
            stem = entry.id.rpartition("/")[2]
            for number, text in enumerate(entry.facts["captions"][: self.preset.captioned.captions]):
                query_id = f"{stem}_caption_{number:02d}"
                queries.append(Query(query_id, text))
                qrels.append(Qrel(query_id, entry.id))
        return queries, qrels

    def find_duplicates(self, entries: list[PartEntry], markers: list[Marker]) -> dict[str, Any]:
        """Return exact groups, near pairs, queries of the same text, and what the policy removes."""
        rule = self.preset.duplicates
        configuration = {
            "images": fingerprint([marker.outputs for marker in markers]),
            "captions": self.preset.captioned.captions,
            "rule": asdict(rule),
        }
        path = self.options.work / "duplicates.json"
        if self.stages.done("duplicates", configuration) is None:
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
                "same_text": same_text(self.queries(entries)[0]),
            }
            write_whole(path, json.dumps(found, indent=0, ensure_ascii=False).encode())
            counts = {key: len(value) for key, value in found.items()}
            self.stages.finish("duplicates", configuration, [path], counts)
        return json.loads(path.read_text(encoding="utf-8"))

    def export(
        self,
        entries: list[PartEntry],
        kept: dict[str, float] | None,
        selected: Marker | None,
        duplicates: dict[str, Any],
        markers: list[Marker],
    ) -> EvalSet:
        """Write the evaluation set, verify it, and put it in its place."""
        preset, options = self.preset, self.options
        removed = set(duplicates["removed"])
        entries = [entry for entry in entries if entry.id not in removed]
        rejected = sorted(
            {*self.rejected, *(Rejected(i, "duplicates", "duplicates a captioned image") for i in removed)}
        )
        queries, qrels = self.queries(entries)
        counts = {
            "captioned": sum(bool(entry.facts["captions"]) for entry in entries),
            "distractors": sum(not entry.facts["captions"] for entry in entries),
            "queries": len(queries),
            "distinct_texts": len({query.text for query in queries}),
            "rejected": len(rejected),
            "splits": dict(sorted(Counter(e.facts["split"] for e in entries if e.facts["captions"]).items())),
        }
        notes = {
            "selection": selected.counts if selected else {},
            "duplicates": duplicates,
            "counts": counts,
            "expected": {key: value for key, value in asdict(preset.expected).items() if value is not None},
        }
        configuration = {
            "preset": json.loads(json.dumps(preset.as_json())),
            "images": fingerprint([marker.outputs for marker in markers]),
            "scores": fingerprint(kept),
            "duplicates": fingerprint(duplicates),
            "rejected": fingerprint(rejected),
        }
        done = self.stages.done("export", configuration)
        if done and (options.out / "manifest.json").is_file():
            evaluation = EvalSet.open(options.out)
            if evaluation.manifest.get("bytes_id") == done.counts["bytes_id"]:
                return evaluation
        staged = options.work / "export" / options.out.name
        evaluation = write_eval_set(
            staged,
            name=preset.name,
            title=preset.title,
            images=self.reporter.track(self._corpus(entries, kept or {}), "export", len(entries)),
            queries=queries,
            qrels=qrels,
            rejected=rejected,
            policy=preset.images,
            card=dataset_card(preset, counts, duplicates),
            preset=preset.as_json(),
            notes=notes,
        )
        checked = verify(staged, progress=not self.reporter.quiet)
        if checked.violations:
            lines = "\n".join(f"  {item.where}: {item.what}" for item in checked.violations[:10])
            raise BuildError(f"The evaluation set in {staged} does not verify:\n{lines}")
        replace_folder(staged, options.out)
        self.stages.finish("export", configuration, counts={"bytes_id": evaluation.manifest["bytes_id"]})
        return EvalSet.open(options.out)

    def _corpus(self, entries: list[PartEntry], kept: dict[str, float]) -> Iterator[CorpusImage]:
        classes = self.preset.distractor_classes()
        names = {item.wnid: item.name for item in classes.classes} if classes else {}
        for entry in entries:
            facts = entry.facts
            keys = ("source", "split", "class_index", "wnid", "width", "height", "sha256", "perceptual_hash")
            row = {key: facts[key] for key in keys}
            row |= {
                "captioned": bool(facts["captions"]),
                "class_name": names.get(facts["wnid"], ""),
                "vehicle_score": kept.get(entry.id, -1.0) if facts["captions"] else -1.0,
            }
            yield CorpusImage(entry.id, entry.jpeg(), row)


def _pixels(entry: PartEntry) -> str:
    """Identify an image's pixels: equal pixels of equal size give equal JPEG bytes."""
    size = f"{entry.facts['width']}x{entry.facts['height']}"
    return f"{size}/{hashlib.sha256(entry.jpeg()).hexdigest()}"
