"""The pipeline, from top to bottom: classify, select, reduce the images, find duplicates, export, verify.

Every stage leaves a marker in the work folder (`<out>.build`), and is skipped by the next run if nothing that it
depends on has changed.
"""

from __future__ import annotations

from data_prep.job import BuildOptions, Job, open_captioned, open_distractors
from data_prep.markers import Stages
from data_prep.stages.export import export, find_duplicates
from data_prep.stages.reduce import merge, reduce_captioned, reduce_distractors
from data_prep.stages.select import select
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.files import check_replaceable, locked
from mteb_vehicle_search.terminal import Reporter


def build(options: BuildOptions, reporter: Reporter) -> EvalSet:
    """Build an evaluation set, or finish one that was interrupted.

    Returns:
        The verified set, at `options.out`.

    Raises:
        BuildError: The target holds other things, another build is at work there, too many inputs were refused, or
            the result does not verify.
        SourceError: A source is missing, refused or damaged.
    """
    check_replaceable(options.out)
    with locked(options.work):
        stages = Stages(options.work, reporter.say)
        for stage in options.rebuild:
            stages.discard(stage)
        captioned, distractors = open_captioned(options), open_distractors(options)
        job = Job(options, reporter, stages, captioned.describe())
        selected = select(job, captioned)
        markers = [reduce_captioned(job, captioned, selected.scores), *reduce_distractors(job, distractors)]
        job.check_rejects()
        entries = merge(job, markers)
        duplicates = find_duplicates(job, entries, markers)
        return export(job, entries, selected, duplicates, markers)
