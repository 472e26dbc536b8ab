"""Which file each name of a table means."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from data_prep.sources.own.listing import fold, has_image_ending


class Matches(NamedTuple):
    """File -> the name that means it, and names that mean none -> why."""

    files: dict[str, str]
    problems: dict[str, str]


def match_names(names: Iterable[str], files: Iterable[str]) -> Matches:
    """Find the file of each name: as it stands; else the only one whose path ends with the name, or the name with it.

    So a table may name files without their folders, or with folders above the location. Case does not matter, as it
    does not on Windows; a name without an ending means the image with any.

    Args:
        names: Of a table.
        files: Paths of the images.
    """
    files = list(files)
    whole = {fold(file): file for file in files}
    last, bare = defaultdict(list), defaultdict(list)
    for folded, file in whole.items():
        base = folded.rpartition("/")[2]
        last[base].append((folded, file))
        bare[base.rpartition(".")[0]].append((folded.rpartition(".")[0], file))
    found = Matches({}, {})
    for name in names:
        folded = fold(name)
        base = folded.rpartition("/")[2]
        near = last[base] if has_image_ending(name) else last[base] or bare[base]
        fitting = [file for path, file in near if path == folded] or [
            file for path, file in near if path.endswith(f"/{folded}") or folded.endswith(f"/{path}")
        ]
        if not fitting:
            found.problems[name] = f"there is no file {name}"
        elif len(fitting) > 1:
            some = ", ".join(fitting[:3])
            found.problems[name] = f"{name} may be any of {len(fitting):,} files: {some}; it must say the folder, too"
        elif fitting[0] in found.files:
            found.problems[name] = f"{name} means the same file as {found.files[fitting[0]]}"
        else:
            found.files[fitting[0]] = name
    return found
