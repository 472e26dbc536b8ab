"""ImageTextEncoder: the one encode loop under all our model wrappers."""

from __future__ import annotations

import copy
import gc
import hashlib
import json
import logging
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from itertools import chain
from threading import Lock
from typing import Any

import torch
from mteb.models.abs_encoder import AbsEncoder
from mteb.types import PromptType

from mteb_vehicle_search import settings
from mteb_vehicle_search.errors import EncodeError
from mteb_vehicle_search.exactness import exact_arithmetic
from mteb_vehicle_search.models.batches import (
    MOST_LANES,
    Lane,
    Pixels,
    Towers,
    all_lanes,
    decoded,
    decoded_ahead,
    grouped,
    in_order,
    most_tokens,
    ranges,
    threads_of_lane,
    token_batches,
)
from mteb_vehicle_search.models.devices import DTYPES, choose_devices, choose_precision
from mteb_vehicle_search.models.handover import read_batches
from mteb_vehicle_search.models.preprocess import ShortestSideCrop, chosen_mode

logger = logging.getLogger(__name__)


class ImageTextEncoder(AbsEncoder):
    """An mteb encoder of texts and images.

    Subclasses say how to load the weights (`load`), how images become uint8 squares (`crop`, `mean`, `std`), and how
    texts become tokens (`tokenise`). Threads decode and resize (Pillow and torch release the interpreter lock),
    batches travel to the device while it computes, and running out of memory halves the batch. Weights are loaded
    with the first batch, so that missing data is reported before.

    Environment: `VEHICLE_SEARCH_DEVICE`, `VEHICLE_SEARCH_PRECISION` (fp32, bf16, fp16), `VEHICLE_SEARCH_PREPROCESS`
    (exact, fast), `VEHICLE_SEARCH_COMPILE=1`.

    Args:
        model_name: Name on the hub.
        revision: Full commit hash.
        device: As mteb passes it: None, "cuda", "cpu", or the number of a CUDA device.
        precision: fp32, bf16 or fp16, whatever the environment says.
        preprocess: exact or fast, whatever the environment says.

    Raises:
        TypeError: A keyword is unknown.
        ModelLoadError: The precision is unknown.
        EncodeError: The preprocessing is unknown.
    """

    # `encode` takes `num_proc` and `on_progress` and decodes the images of the dataset in threads of its own.
    reads_images_itself = True
    fixed_length = True
    crop: ShortestSideCrop
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __init__(
        self,
        model_name: str,
        revision: str | None = None,
        device: str | int | None = None,
        *,
        precision: str | None = None,
        preprocess: str | None = None,
    ) -> None:
        self.model_name, self.revision = model_name, revision
        self.devices = choose_devices(device)
        self.device = self.devices[0]
        self.precision = choose_precision(self.device, precision)
        self.mode = chosen_mode(preprocess)
        self._replicas: list[Towers] = []
        self._largest_batch: int | None = None
        self._workers = 0
        self._texts: dict[str, int] = {}
        self._compiled = settings.flag("VEHICLE_SEARCH_COMPILE")
        self._lock = Lock()

    @abstractmethod
    def load(self) -> Towers:
        """Return the model in fp32 or its stored precision, on the CPU, in eval mode; raise ModelLoadError."""

    @abstractmethod
    def tokenise(self, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return int64 tokens [n, length] and the attention mask of the same shape."""

    @property
    def streams(self) -> bool:
        """Whether `encode_chunks` gives what `encode` does: not where a subclass or an object has its own `encode`."""
        return type(self).encode is ImageTextEncoder.encode and "encode" not in vars(self)

    @property
    def dtype(self) -> torch.dtype:
        """The torch dtype of weights and activations."""
        return DTYPES[self.precision]

    @property
    def towers(self) -> Towers:
        """The model on its first device, loaded on first use."""
        return self.replicas[0]

    @property
    def replicas(self) -> list[Towers]:
        """The model on each device, loaded on first use."""
        if not self._replicas:
            towers = self.load()
            # Read from disk once; the last device takes the original.
            self._replicas = [self._placed(copy.deepcopy(towers), device) for device in self.devices[:-1]]
            self._replicas.append(self._placed(towers, self.devices[-1]))
        return self._replicas

    def _placed(self, towers: Towers, device: torch.device) -> Towers:
        towers.module.eval().requires_grad_(False).to(device, self.dtype if towers.cast else None)
        if self._compiled:
            towers = towers._replace(image=torch.compile(towers.image), text=torch.compile(towers.text))
        return towers

    def describe(self) -> dict[str, Any]:
        """Return how this encoder works, for the run record."""
        return {
            "device": ",".join(str(device) for device in self.devices),
            "precision": self.precision,
            "preprocess": self.mode,
            "compile": self._compiled,
            "num_workers": self._workers,
            "largest_batch": self._largest_batch,
            **self._texts,
        }

    def count_cut(self, count: int, cut: int, context: int) -> None:
        """Note how many of the texts now tokenised had more than the `context` tokens that the tower reads."""
        self._texts = {"context_tokens": context, "texts": count, "texts_cut": cut}

    def fingerprint(self) -> str | None:
        """Return a digest of what decides the vectors: weights, precision, preprocessing, device kind.

        None if nothing identifies the weights.
        """
        if not self.revision and not self.weights_id():
            return None
        what = [self.model_name, self.revision, self.precision, self.mode, self.device.type, repr(self.crop)]
        return hashlib.sha256(json.dumps([*what, self.mean, self.std, self.weights_id()]).encode()).hexdigest()

    def weights_id(self) -> str:
        """Return what identifies the weights beyond name and revision; "" if the revision says it all."""
        return ""

    @torch.inference_mode()
    def encode(
        self,
        inputs: Any,
        *,
        task_metadata: Any = None,
        hf_split: str = "",
        hf_subset: str = "",
        prompt_type: PromptType | None = None,
        batch_size: int = 32,
        num_proc: int | None = None,
        on_progress: Callable[[int], None] | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """Return float32 [n, d] on the CPU, L2-normalised, in the order of `inputs`.

        Args:
            inputs: mteb's DataLoader of `image` or `text` batches. If its dataset gives JPEG bytes (`jpeg(i)`), they
                are decoded here in threads.
            batch_size: Images per forward pass.
            num_proc: Decoding threads; default: one for each processor, at most 16.
            on_progress: Called with the number of images just encoded.

        Raises:
            EncodeError: An image does not decode (names its id), or not even one image fits in memory.
        """
        with self._at_work(num_proc):
            if callable(getattr(inputs.dataset, "jpeg", None)):
                with closing(self._pixels(inputs.dataset, batch_size)) as batches:
                    return self._encode_images(batches, on_progress)
            batches = read_batches(inputs)
            kind, first = next(batches)
            items = chain(first, (item for _, items in batches for item in items))
            if kind == "image":
                return self._encode_images(grouped(map(self.crop, items), batch_size), on_progress)
            return self._encode_texts(list(items), on_progress)

    @torch.inference_mode()
    def encode_chunks(
        self,
        images: Any,
        chunks: Iterable[range],
        *,
        batch_size: int,
        num_proc: int | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> Generator[Callable[[], torch.Tensor]]:
        """Yield for each chunk of a data set what gives its vectors, and compute the next meanwhile.

        The vectors are those that `encode` gives for each chunk, to the bit: no batch has images of two chunks. To be
        closed in the thread that draws from it; while it is open, this process computes exactly (`exact_arithmetic`).

        Args:
            images: The data set of JPEG bytes: `jpeg(row)` and `ids`.
            chunks: Their row numbers, at least one in each; drawn ahead of the chunks that are yielded.
            batch_size, num_proc, on_progress: As for `encode`.

        Yields:
            What returns the vectors as `encode` does. It may be called in another thread, which then waits for the
            device.

        Raises:
            EncodeError: As by `encode`; the chunks before were yielded.
        """
        batches_of: deque[int] = deque()

        def begun() -> Iterator[range]:
            for rows in chunks:
                batches_of.append(len(range(0, len(rows), batch_size)))
                yield rows

        with (
            self._at_work(num_proc),
            closing(self._pixels(images, batch_size, begun())) as batches,
            closing(self._image_vectors(batches)) as vectors,
        ):
            parts = []
            for part in vectors:
                parts.append(part)
                if on_progress:
                    on_progress(len(part))
                if len(parts) == batches_of[0]:
                    batches_of.popleft()
                    yield partial(self._whole, parts)
                    parts = []

    @contextmanager
    def _at_work(self, num_proc: int | None) -> Iterator[None]:
        self._workers = num_proc or min(MOST_LANES, settings.usable_cores())
        with exact_arithmetic():
            yield

    def _pixels(self, images: Any, batch_size: int, chunks: Iterable[range] | None = None) -> Generator[Pixels]:
        """Yield the batches of a data set of JPEG bytes, chunk by chunk; without chunks, the whole is one."""

        def decode(row: int) -> torch.Tensor:
            try:
                return self.crop.decode(images.jpeg(row))
            except (OSError, SyntaxError, ValueError) as error:
                raise EncodeError(f"Image {images.ids[row]} does not decode: {error}.") from error

        cut = [range(len(images))] if chunks is None else chunks
        parts = (rows[part.start : part.stop] for rows in cut for part in ranges(len(rows), batch_size))
        size = self.crop.size_px
        if not self._decodes_ahead:
            # Decoding and computing share the cores, so each thread does both for a batch of its own.
            yield from (partial(decoded, part, decode, size) for part in parts)
            return
        pinned, ahead = self.device.type == "cuda", 2 * len(self.devices) + 1
        yield from decoded_ahead(parts, decode, size, workers=self._workers, ahead=ahead, pinned=pinned)

    @property
    def _decodes_ahead(self) -> bool:
        return self.device.type != "cpu"

    def _encode_images(self, batches: Iterable[Pixels], on_progress: Callable[[int], None] | None) -> torch.Tensor:
        parts = []
        with closing(self._image_vectors(batches)) as vectors:
            for part in vectors:
                parts.append(part)
                if on_progress:
                    on_progress(len(part))
        return self._whole(parts)

    def _image_vectors(self, batches: Iterable[Pixels]) -> Generator[torch.Tensor]:
        """Yield the vectors of each batch, on its device and of any length."""
        # Sent once: a copy from ordinary memory makes the host wait for the device.
        of_device = {
            device: [torch.tensor(value, device=device).view(3, 1, 1) * 255 for value in (self.mean, self.std)]
            for device in self.devices
        }

        def forward(pixels: torch.Tensor, lane: Lane) -> torch.Tensor:
            shift, scale = of_device[lane.device]
            on_device = pixels.to(lane.device, non_blocking=True).contiguous()
            return lane.towers.image(((on_device.float() - shift) / scale).to(self.dtype))

        yield from in_order(self._lanes(), batches, lambda batch, lane: self._in_memory(forward, batch(), lane))

    def _whole(self, parts: list[torch.Tensor]) -> torch.Tensor:
        """Return vectors of unit length on the CPU; copied only now, so that the device never waits for it."""
        with torch.inference_mode():
            return _unit(torch.cat([part.to(self.device) for part in parts])).cpu()

    def _lanes(self) -> list[Lane]:
        # A compiled model takes its time for each lane, and has all threads in one.
        lanes, threads = (1, torch.get_num_threads()) if self._compiled else (self._workers, threads_of_lane())
        return all_lanes(self.devices, self.replicas, lanes, threads)

    def _encode_texts(self, texts: list[str], on_progress: Callable[[int], None] | None) -> torch.Tensor:
        tokens, mask = self.tokenise(texts)
        lengths = mask.sum(dim=1)
        order = torch.argsort(lengths, stable=True)
        found: torch.Tensor | None = None

        def forward(rows: torch.Tensor, lane: Lane) -> torch.Tensor:
            end = tokens.shape[1] if self.fixed_length else int(lengths[rows].max())
            return lane.towers.text(tokens[rows, :end].to(lane.device), mask[rows, :end].to(lane.device))

        def work(rows: torch.Tensor, lane: Lane) -> tuple[torch.Tensor, torch.Tensor]:
            return rows, _unit(self._in_memory(forward, rows, lane)).cpu()

        of_each = None if self.fixed_length else lengths
        batches = token_batches(order, of_each, tokens.shape[1], most_tokens(self.device))
        with closing(in_order(self._lanes(), batches, work)) as done:
            for rows, vectors in done:
                if found is None:
                    found = torch.empty((len(texts), vectors.shape[1]))
                found[rows] = vectors
                if on_progress:
                    on_progress(len(rows))
        if found is None:
            raise EncodeError("There is nothing to encode.")
        return found

    def _in_memory(
        self, forward: Callable[[torch.Tensor, Lane], torch.Tensor], batch: torch.Tensor, lane: Lane
    ) -> torch.Tensor:
        """Run `forward`, in halves if the batch does not fit into memory."""
        limit = min(len(batch), self._largest_batch or len(batch))
        while True:
            try:
                return torch.cat([forward(part, lane) for part in batch.split(limit)])
            except (torch.OutOfMemoryError, MemoryError) as error:
                if limit == 1:
                    raise EncodeError(
                        f"{self.model_name} does not fit into the memory of {lane.device} even with one input.",
                        "Choose another device (VEHICLE_SEARCH_DEVICE) or precision (VEHICLE_SEARCH_PRECISION=bf16).",
                    ) from error
            gc.collect()
            if lane.device.type == "cuda":
                torch.cuda.empty_cache()
            with self._lock:
                if self._largest_batch is None:
                    logger.warning("Out of memory at batch size %d; going on with smaller batches.", limit)
                limit = self._largest_batch = min(limit // 2, self._largest_batch or limit)


def _unit(vectors: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(vectors.float(), dim=1)
