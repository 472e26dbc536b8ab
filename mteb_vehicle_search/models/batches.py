"""Batches of images and texts: how they are cut, decoded ahead, and spread over threads and devices in order."""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from itertools import islice
from queue import SimpleQueue
from threading import Event, Lock, get_ident
from typing import Any, NamedTuple, TypeVar, cast

import torch

from mteb_vehicle_search import settings

# On a processor more are no faster, and what lies between the layers takes memory.
TOKENS_PER_BATCH, TOKENS_ON_PROCESSOR = 16384, 4096
# Of a processor: each holds what lies between the layers.
MOST_LANES = 16
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

# Gives a batch of pixels, uint8 [n, 3, size, size], when it is called.
Pixels = Callable[[], "torch.Tensor"]


class Towers(NamedTuple):
    """A loaded model.

    Attributes:
        module: Holds all weights.
        image: A method of `module` or of its parts: float [n, 3, size, size], normalised -> [n, d].
        text: Another such method: int64 tokens [n, length] and attention mask -> [n, d].
        cast: Whether everything is to be cast to the precision; False: `load` did that and kept what must stay fp32.
    """

    module: torch.nn.Module
    image: Callable[[torch.Tensor], torch.Tensor]
    text: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    cast: bool = True


class Lane(NamedTuple):
    """Where a batch is computed: a device, the model on it, and how many processor threads torch may use here.

    With 0 threads, torch uses as many as are set.
    """

    device: torch.device
    towers: Towers
    threads: int = 0


def threads_of_lane() -> int:
    """Return how many threads torch may use in a lane of a processor, if there are as many lanes as processors.

    On it depend the last bits of a product, whatever else is computed beside; up to `MOST_LANES` processors it is one.
    """
    return max(1, settings.usable_cores() // MOST_LANES)


def all_lanes(
    devices: Sequence[torch.device], replicas: Sequence[Towers], cpu_lanes: int, cpu_threads: int
) -> list[Lane]:
    """Return one lane for each device; for a processor, `cpu_lanes` lanes that share its model.

    Several batches at a time with few threads each keep a processor busier than one batch with all threads.
    """
    found = []
    for device, towers in zip(devices, replicas):
        on_cpu = device.type == "cpu"
        lane = Lane(device, towers, cpu_threads if on_cpu else 0)
        found += [lane] * (max(1, cpu_lanes // len(devices)) if on_cpu else 1)
    return found


def bare_lanes(device: torch.device, cpu_threads: int) -> list[Lane]:
    """Return the lanes of a device for work that holds its own model, or needs none."""
    return all_lanes([device], [cast(Any, None)], min(MOST_LANES, settings.usable_cores()), cpu_threads)


def in_order(lanes: list[Lane], batches: Iterable[_Item], work: Callable[[_Item, Lane], _Result]) -> Generator[_Result]:
    """Yield `work(batch, lane)` of each batch in order, spread over the lanes; the first error ends it.

    Whoever does not draw to the end closes it: what the garbage collector finds ends late, and in any thread.
    """
    if len(lanes) == 1:
        for batch in batches:
            with torch_threads(lanes[0].threads):
                result = work(batch, lanes[0])
            yield result
        return
    free: SimpleQueue[Lane] = SimpleQueue()
    for lane in lanes:
        free.put(lane)
    working: set[int] = set()
    # Held to interrupt: a thread that is in `working` then still is in `one`, and no other begins a batch.
    lock, stopped = Lock(), Event()

    def one(batch: _Item) -> _Result:
        with lock:
            if stopped.is_set():
                raise CancelledError
            working.add(get_ident())
        lane = free.get()
        try:
            if lane.threads:
                torch.set_num_threads(lane.threads)
            # Inference mode belongs to a thread.
            with torch.inference_mode():
                return work(batch, lane)
        finally:
            free.put(lane)
            with lock:
                working.discard(get_ident())

    with (
        _threads(len(lanes), "device") as pool,
        closing(_window((pool.submit(one, batch) for batch in batches), 2 * len(lanes))) as window,
    ):
        try:
            for future in window:
                yield _result(future)
        except BaseException:
            with lock:
                stopped.set()
                # On a processor, a batch can take minutes that nobody who pressed Ctrl-C wants to wait for.
                for thread in working:
                    _interrupt(thread)
            raise


def _result(future: Future[_Result]) -> _Result:
    """Wait for a result, and be ready to be interrupted.

    An untimed wait would notice neither Ctrl-C, where a library has set that signal to resume system calls, nor what
    `_interrupt` raises.
    """
    while not wait([future], timeout=0.2).done:
        pass
    return future.result()


# Raises KeyboardInterrupt in a thread of ours, at its next step of Python. No function of Python: until that step, a
# thread that is traced (coverage, debuggers) gets into none on CPython 3.11, and one that waits for us takes no step.
_interrupt = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_ulong, ctypes.py_object)(
    ("PyThreadState_SetAsyncExc", ctypes.pythonapi), ((1, "thread"), (1, "raised", KeyboardInterrupt))
)


def decoded_ahead(
    rows: Iterable[range],
    decode: Callable[[int], torch.Tensor],
    size_px: int,
    *,
    workers: int,
    ahead: int,
    pinned: bool,
) -> Generator[Pixels]:
    """Yield the pixels of each range of rows; `workers` threads decode `ahead` batches before they are called for.

    `decode` returns uint8 [3, size_px, size_px] of a row. From `pinned` memory, a CUDA device copies by itself. To be
    closed as `in_order`.
    """

    def fill(batch: torch.Tensor, part: range) -> None:
        torch.set_num_threads(1)
        # The batch was made in inference mode, which belongs to a thread.
        with torch.inference_mode():
            _fill(batch, part, decode)

    def submit(pool: ThreadPoolExecutor, part: range) -> Pixels:
        batch = empty_batch(len(part), size_px, pinned=pinned)
        shares = [slice(share.start, share.stop) for share in ranges(len(part), -(-len(part) // workers))]
        futures = [pool.submit(fill, batch[share], part[share]) for share in shares]

        def filled() -> torch.Tensor:
            for future in futures:
                _result(future)
            return batch

        return filled

    with _threads(workers, "decode") as pool:
        yield from _window((submit(pool, part) for part in rows), ahead)


def decoded(rows: range, decode: Callable[[int], torch.Tensor], size_px: int) -> torch.Tensor:
    """Return the pixels of some rows, decoded here and now; the arguments are those of `decoded_ahead`."""
    return _fill(empty_batch(len(rows), size_px), rows, decode)


def _fill(batch: torch.Tensor, rows: range, decode: Callable[[int], torch.Tensor]) -> torch.Tensor:
    for pixels, row in zip(batch, rows, strict=True):
        pixels.copy_(decode(row))
    return batch


def empty_batch(count: int, size_px: int, *, pinned: bool = False) -> torch.Tensor:
    """Return uint8 [count, 3, size, size] with the channels last in memory, as decoders give them."""
    return torch.empty((count, size_px, size_px, 3), dtype=torch.uint8, pin_memory=pinned).permute(0, 3, 1, 2)


def ranges(count: int, size: int) -> Iterator[range]:
    """Yield the row numbers of each batch of `size`."""
    return (range(start, min(start + size, count)) for start in range(0, count, size))


def grouped(stream: Iterable[torch.Tensor], size: int) -> Iterator[Pixels]:
    """Yield batches of `size` decoded images."""
    images = iter(stream)
    while part := list(islice(images, size)):
        yield lambda part=part: torch.stack(part)


def most_tokens(device: torch.device) -> int:
    """Return how many tokens a batch of texts may have on a device."""
    return TOKENS_ON_PROCESSOR if device.type == "cpu" else TOKENS_PER_BATCH


def token_batches(order: torch.Tensor, lengths: torch.Tensor | None, longest: int, most: int) -> Iterator[torch.Tensor]:
    """Yield row numbers in batches of at most `most` tokens, padding included, or one text; shortest texts first."""
    start = 0
    for end, row in enumerate(order):
        length = longest if lengths is None else int(lengths[row])
        if end > start and (end - start + 1) * length > most:
            yield order[start:end]
            start = end
    if len(order):
        yield order[start:]


def _window(items: Iterable[_Item], ahead: int) -> Generator[_Item]:
    """Yield the items, having drawn `ahead` more of them each time."""
    waiting: deque[_Item] = deque()
    for item in items:
        waiting.append(item)
        if len(waiting) > ahead:
            yield waiting.popleft()
    yield from waiting


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch use so many threads for a while; with 0, as many as are set."""
    before = torch.get_num_threads()
    try:
        if count:
            torch.set_num_threads(count)
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _threads(count: int, name: str) -> Iterator[ThreadPoolExecutor]:
    """Give a pool that ends with all its threads, whatever happens, and leaves torch's thread count as it was."""
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(count, thread_name_prefix=name)
    try:
        yield pool
        # Whoever drew everything ahead has yet to ask for the last results: they are not to be cancelled.
        pool.shutdown(wait=True)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(before)
