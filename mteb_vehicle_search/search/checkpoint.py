"""How far a search of many parts has come: the finished parts' ranking, in one file that is whole and proves itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy

from mteb_vehicle_search.errors import EncodeError
from mteb_vehicle_search.files import write_whole
from mteb_vehicle_search.search.parts import PartialRanking

NAMES = ("units", "scores", *PartialRanking._fields)


class Checkpoint(NamedTuple):
    """The units (numbers of parts) that are finished, the relevant images' scores, and what was found in all units."""

    units: frozenset[int]
    scores: np.ndarray
    found: PartialRanking


class PartialStore:
    """One checkpoint in the file `path`; the next takes its place, whole or not at all.

    It proves itself when it is read: its digest, and the `identity` of the search, which says all that decides what a
    unit finds: queries, judgements, groups, k, the rows of each unit, and what made the vectors.
    """

    def __init__(self, path: Path, identity: dict[str, Any]) -> None:
        self.path = path
        self._identity = json.dumps(identity, sort_keys=True)

    def write(self, units: Iterable[int], scores: np.ndarray, found: PartialRanking) -> None:
        """Store what was found in all `units` together, and the relevant images' scores (float32 [p]).

        Raises:
            EncodeError: The disk is full or not writable; the checkpoint before stays.
        """
        arrays = {"units": np.array(sorted(units), dtype=np.int64), "scores": scores, **found._asdict()}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self.path, safetensors.numpy.save(arrays, self._proof(arrays)))
        except OSError as error:
            raise EncodeError(
                f"Cannot store how far the search has come in {self.path}: {error}.",
                "Free some room, or set VEHICLE_SEARCH_HOME to a larger disk; the next run continues.",
            ) from error

    def read(self) -> Checkpoint | None:
        """Return the checkpoint; None if there is none.

        Raises:
            EncodeError: The file is damaged, or is of another search.
        """
        if not self.path.is_file():
            return None
        try:
            with safetensors.safe_open(self.path, "numpy") as file:
                proof, arrays = file.metadata(), {name: file.get_tensor(name) for name in NAMES}
            if proof != self._proof(arrays):
                raise ValueError("it is not of this search, or has changed")
            units = frozenset(arrays.pop("units").tolist())
            return Checkpoint(units, arrays.pop("scores"), PartialRanking(**arrays))
        except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
            hint = "Delete it, and the search begins anew."
            raise EncodeError(f"{self.path} is damaged: {error}.", hint) from error

    def _proof(self, arrays: dict[str, np.ndarray]) -> dict[str, str]:
        """Return what the file says of itself: the digest of its arrays and of the search they are of."""
        digest = hashlib.sha256(self._identity.encode())
        for name, array in sorted(arrays.items()):
            digest.update(f"{name} {array.dtype} {list(array.shape)}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return {"sha256": digest.hexdigest()}
