"""The images of a session, read ahead: one by one at random, each would cost the decoding of a block of the corpus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from threading import Event, Thread

from mteb_vehicle_search.errors import VehicleSearchError
from mteb_vehicle_search.eval_set import EvalSet


class ReadAhead:
    """JPEG bytes by id, of an evaluation set; those that are wanted are held in memory (about 5 kB each)."""

    def __init__(self, eval_set: EvalSet, wanted: Iterable[str]) -> None:
        self._eval_set, self._wanted = eval_set, sorted(set(wanted))
        self._held: dict[str, bytes] = {}

    def get(self, image: str) -> bytes:
        """Return the bytes of an image, whether it is held yet or not.

        Raises:
            EvalSetError: It cannot be read.
        """
        return self._held.get(image) or self._eval_set.jpeg(image)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Read what is wanted in another thread, as long as the block lasts."""
        enough = Event()
        thread = Thread(target=self._read, args=(enough,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            enough.set()
            thread.join()

    def _read(self, enough: Event) -> None:
        for image in self._wanted:
            if enough.is_set():
                return
            try:
                self._held[image] = self._eval_set.jpeg(image)
            except (VehicleSearchError, OSError):
                # Whoever asks for it hears why.
                return
