"""How to cite a score: BibTeX of the evaluation, the harness, mteb and the data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mteb_vehicle_search.run_record import version_of

EVALUATION = """\
@misc{{merrick2024vehicle,
  author = {{Merrick, Luke}},
  title = {{{{Vehicle Image Search Evaluation}}}},
  year = {{2024}},
  url = {{https://github.com/lukemerrick/vehicle-image-search-eval}}
}}

@software{{mteb_vehicle_search,
  title = {{{{mteb-vehicle-search}}}},
  version = {{{version}}},
  note = {{Task {task}, content id {content_id}}}
}}

@inproceedings{{muennighoff2023mteb,
  author = {{Muennighoff, Niklas and Tazi, Nouamane and Magne, Lo{{\\"i}}c and Reimers, Nils}},
  title = {{{{MTEB}}: Massive Text Embedding Benchmark}},
  booktitle = {{Proceedings of EACL}},
  pages = {{2014--2037}},
  year = {{2023}}
}}
"""

FLICKR30K = """\
@article{young2014image,
  author = {Young, Peter and Lai, Alice and Hodosh, Micah and Hockenmaier, Julia},
  title = {From image descriptions to visual denotations},
  journal = {Transactions of the Association for Computational Linguistics},
  volume = {2},
  pages = {67--78},
  year = {2014},
}
"""


def bibtex(table: dict[str, Any], sources: Iterable[str] = ()) -> str:
    """Return the entries for a score of a leaderboard table, and those of the evaluation set's sources."""
    ours = version_of("mteb-vehicle-search") or "not installed"
    entries = EVALUATION.format(version=ours, task=table["task"], content_id=table["content_id"])
    return "\n".join((entries, *filter(None, sources)))
