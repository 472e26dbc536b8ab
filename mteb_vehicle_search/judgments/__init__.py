"""What people said of the labels of an evaluation set: samples of its captions, and the judgments of their images.

A folder for each content id holds `sample-<id>.json` and a file of lines for each judge, which are only ever added to.
Merging what several people judged on several machines is putting their files into one folder.
"""

from __future__ import annotations

from mteb_vehicle_search.judgments.judgment import Judgment
from mteb_vehicle_search.judgments.reading import Judgments, Known, Problem, read_judgments
from mteb_vehicle_search.judgments.sample import Sample, Unit, read_sample, write_sample
from mteb_vehicle_search.judgments.store import JUDGMENTS_HELP, JudgeFile, judgments_folder

__all__ = [
    "JUDGMENTS_HELP",
    "JudgeFile",
    "Judgment",
    "Judgments",
    "Known",
    "Problem",
    "Sample",
    "Unit",
    "judgments_folder",
    "read_judgments",
    "read_sample",
    "write_sample",
]
