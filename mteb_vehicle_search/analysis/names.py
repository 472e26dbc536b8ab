"""The names of runs: as tables show them, and as people type them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from itertools import combinations
from typing import NamedTuple

from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.run_record import NO_REVISION, RunKey

MODEL_HELP = (
    "name, name@revision, name[option=value,...] (precision and preprocess are options too), or run record folder"
)
GRAMMAR = "Write NAME, NAME@REVISION, NAME[OPTION=VALUE,...] or NAME@REVISION[OPTION=VALUE,...]; NAME[] has no options."
REVISION_DIGITS = 12
MODES = ("precision", "preprocess")


class Wanted(NamedTuple):
    """What somebody typed: the model, the first digits of its revision, and options that a run must have.

    `options` is None if any will do, and empty for a run without experiment options.
    """

    model: str
    revision: str = ""
    options: frozenset[tuple[str, str]] | None = None

    def fits(self, key: RunKey) -> bool:
        """Say whether a run is meant."""
        if key.model != self.model or not (key.revision or NO_REVISION).startswith(self.revision):
            return False
        if not self.options:
            return self.options is None or not key.options
        return self.options <= set(all_options(key).items())

    def is_full(self, key: RunKey) -> bool:
        """Say whether all options of a run were typed."""
        return self.options == frozenset(all_options(key).items())


def all_options(key: RunKey) -> dict[str, str]:
    """Return the options of a run with its precision and its preprocessing, as its full name has them."""
    modes = {name: getattr(key, name) for name in MODES}
    return {**dict(key.options), **{name: value for name, value in modes.items() if value}}


def parse(text: str, models: Collection[str]) -> Wanted:
    """Return what `name@revision[option=value,option=value]` means, where only the name is needed.

    Names of `models` that hold `@` or `[` are understood too.

    Raises:
        ResultsError: It is not of this form.
    """
    known = [name for name in models if text == name or text.startswith((f"{name}@", f"{name}["))]
    name = max(known, key=len) if known else re.split(r"[@\[\]]", text, maxsplit=1)[0]
    found = re.fullmatch(r"(?:@(?P<revision>[^\[\]]*))?(?:\[(?P<options>.*)\])?", text[len(name) :], re.DOTALL)
    # A value may hold a comma: the next option begins where a name and = follow.
    parts = re.split(r",(?=[^,=]+=)", (found and found["options"]) or "")
    pairs = [tuple(word.strip() for word in part.split("=", 1)) for part in parts if part.strip()]
    if not name or not found or not all(len(pair) == 2 and pair[0] for pair in pairs):
        raise ResultsError(f"{text!r} names no run.", GRAMMAR)
    options = None if found["options"] is None else frozenset((key, value) for key, value in pairs)
    return Wanted(name, found["revision"] or "", options)


def differences(keys: Sequence[RunKey]) -> list[str]:
    """Return what tells the runs of one evaluation set apart: "model", "revision", names of options."""
    options = [all_options(key) for key in keys]
    names = sorted({name for of_run in options for name in of_run}, key=lambda name: (name in MODES, name))
    return [
        *(part for part in ("model", "revision") if len({getattr(key, part) for key in keys}) > 1),
        *(name for name in names if len({of_run.get(name) for of_run in options}) > 1),
    ]


def shown_names(keys: Sequence[RunKey]) -> list[str]:
    """Return the names of the runs of one table: the model with its options, and more only where two look alike.

    So `org/model@0123456789ab[embed_dim=64,precision=bf16]` at most. Each can be typed.
    """
    plain = [key.name for key in keys]
    alike = {name for name, count in Counter(plain).items() if count > 1}
    groups = {name: [key for key in keys if key.name == name] for name in alike}
    return [_told_apart(key, groups[name]) if name in alike else name for key, name in zip(keys, plain)]


def _told_apart(key: RunKey, alike: Sequence[RunKey]) -> str:
    """Return the name of a run with as few of revision, precision and preprocessing as tell it from those like it."""
    parts = ("revision", *MODES)
    choices = [chosen for count in range(1, 4) for chosen in combinations(parts, count)]
    shown = next((c for c in choices if len({tuple(getattr(one, p) for p in c) for one in alike}) == len(alike)), parts)
    revisions = {one.revision for one in alike}
    digits = REVISION_DIGITS if len({one[:REVISION_DIGITS] for one in revisions}) == len(revisions) else None
    revision = f"@{key.revision[:digits] or NO_REVISION}" if "revision" in shown else ""
    modes = ((name, getattr(key, name)) for name in MODES if name in shown)
    return f"{key.model}{revision}{bracketed([*key.options, *(pair for pair in modes if pair[1])])}"


def bracketed(options: Iterable[tuple[str, str]]) -> str:
    """Return options as a name has them."""
    text = ",".join(f"{name}={value}" for name, value in options)
    return f"[{text}]" if text else ""
