"""A judge's file: every judgment is on the disk before the answer leaves."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mteb_vehicle_search import settings
from mteb_vehicle_search.files import safe_name
from mteb_vehicle_search.judgments.judgment import Judgment

JUDGMENTS_HELP = "folder that holds a folder of judgments for each evaluation set (default: where 'judge' keeps them)"
# Names that Windows gives to devices, whatever follows a dot.
_DEVICE = re.compile(r"(con|prn|aux|nul|(com|lpt)\d)(\.|$)", re.IGNORECASE)


def judgments_folder(content_id: str, root: Path | None = None) -> Path:
    """Return the folder of the judgments of an evaluation set, below `root` or the usual one."""
    return (root or settings.judgments_folder()) / safe_name(content_id)


class JudgeFile:
    """The file of one judge, which lines are added to.

    A line that was cut off by a crash stays, and the next one begins on a line of its own. Several processes may add to
    one file: each holds the lock beside it while it writes its line.

    Attributes:
        path: Where it lies.
    """

    def __init__(self, folder: Path, judge: str) -> None:
        self.path = folder / f"{'judge-' if _DEVICE.match(judge) else ''}{safe_name(judge)}.jsonl"

    def append(self, judgment: Judgment) -> None:
        """Add a judgment; it is on the disk when this returns.

        Raises:
            OSError: It cannot be written, such as on a full disk; what was written of it is taken away again.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._alone(), self.path.open("ab+", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            line = judgment.as_line()
            if end:
                file.seek(end - 1)
                line = line if file.read(1) == b"\n" else b"\n" + line
            try:
                # At the end, since it was opened to append. A disk that gets full takes a part, and refuses the rest.
                while line:
                    line = line[file.write(line) :]
                os.fsync(file.fileno())
            except OSError:
                file.truncate(end)
                raise

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the lock; where the file system has none, a line is still added by one write."""
        from filelock import FileLock

        lock = FileLock(self.path.with_name(f".{self.path.name}.lock"))
        try:
            lock.acquire()
        except (OSError, NotImplementedError):
            yield
            return
        try:
            yield
        finally:
            lock.release()
