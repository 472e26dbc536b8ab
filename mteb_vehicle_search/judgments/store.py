"""A judge's file: every judgment is on the disk before the answer leaves."""

from __future__ import annotations

import os
from pathlib import Path

from mteb_vehicle_search import settings
from mteb_vehicle_search.files import safe_name
from mteb_vehicle_search.judgments.judgment import Judgment


def judgments_folder(content_id: str, root: Path | None = None) -> Path:
    """Return the folder of the judgments of an evaluation set, below `root` or the usual one."""
    return (root or settings.judgments_folder()) / safe_name(content_id)


class JudgeFile:
    """The file of one judge, which lines are added to.

    A line that was cut off by a full disk or a crash stays, and the next one begins on a line of its own.
    """

    def __init__(self, folder: Path, judge: str) -> None:
        self.path = folder / f"{safe_name(judge)}.jsonl"

    def append(self, judgment: Judgment) -> None:
        """Add a judgment; it is on the disk when this returns.

        Raises:
            OSError: It cannot be written, such as on a full disk; what was written of it is taken away again.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab+") as file:
            end = file.seek(0, os.SEEK_END)
            line = judgment.as_line()
            if end:
                file.seek(end - 1)
                line = line if file.read(1) == b"\n" else b"\n" + line
            try:
                file.seek(0, os.SEEK_END)
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                file.truncate(end)
                raise
