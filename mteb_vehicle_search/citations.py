"""How to cite a score: BibTeX of the evaluation, the harness, mteb and the data."""

from __future__ import annotations

from typing import Any

# The embedded set is drawn; its page cites no photographs.
DRAWN = "VehicleImageSearchMini"

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

IMAGENET = """\
@article{russakovsky2015imagenet,
  author = {Russakovsky, Olga and Deng, Jia and Su, Hao and Krause, Jonathan and Satheesh, Sanjeev and Ma, Sean
            and Huang, Zhiheng and Karpathy, Andrej and Khosla, Aditya and Bernstein, Michael and Berg, Alexander C.
            and Fei-Fei, Li},
  title = {{ImageNet} Large Scale Visual Recognition Challenge},
  journal = {International Journal of Computer Vision},
  volume = {115},
  number = {3},
  pages = {211--252},
  year = {2015}
}
"""


def bibtex(table: dict[str, Any]) -> str:
    """Return the entries for a score of a leaderboard table."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        ours = version("mteb-vehicle-search")
    except PackageNotFoundError:
        ours = "not installed"
    entries = EVALUATION.format(version=ours, task=table["task"], content_id=table["content_id"])
    return entries if table["task"] == DRAWN else "\n".join((entries, FLICKR30K, IMAGENET))
