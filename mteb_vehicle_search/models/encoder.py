"""ImageTextEncoder: the one encode loop under all our model wrappers."""

from __future__ import annotations

import gc
import hashlib
import json
import logging
import os
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from mteb.models.abs_encoder import AbsEncoder
from mteb.types import PromptType

from mteb_vehicle_search.errors import EncodeError
from mteb_vehicle_search.models.devices import choose_devices, choose_precision
from mteb_vehicle_search.models.preprocess import ShortestSideCrop, chosen_mode

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

TOKENS_PER_BATCH = 16384
_Batch = TypeVar("_Batch")
_Result = TypeVar("_Result")


class Towers(NamedTuple):
    """A loaded model.

    Attributes:
        module: Holds all weights.
        image: float [n, 3, size, size], normalised -> [n, d].
        text: int64 tokens [n, length] and attention mask -> [n, d].
        cast: Whether everything is to be cast to the precision; False: `load` did that and kept what must stay fp32.
    """

    module: torch.nn.Module
    image: Callable[[torch.Tensor], torch.Tensor]
    text: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    cast: bool = True


class Place(NamedTuple):
    """A device and the model on it."""

    device: torch.device
    towers: Towers


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
    """

    crop: ShortestSideCrop
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __init__(
        self, model_name: str, revision: str | None = None, device: str | int | None = None, **kwargs: Any
    ) -> None:
        self.model_name, self.revision = model_name, revision
        self.devices = choose_devices(device)
        self.device = self.devices[0]
        self.precision = choose_precision(self.device)
        self.mode = chosen_mode()
        self._replicas: list[Towers] = []
        self._largest_batch: int | None = None
        self._workers = 0

    @abstractmethod
    def load(self) -> Towers:
        """Return the model in fp32 or its stored precision, on the CPU, in eval mode; raise ModelLoadError."""

    @abstractmethod
    def tokenise(self, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return int64 tokens [n, length] and the attention mask of the same shape."""

    @property
    def dtype(self) -> torch.dtype:
        """The torch dtype of weights and activations."""
        import torch

        return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[self.precision]

    @property
    def towers(self) -> Towers:
        """The model on its first device, loaded on first use."""
        return self.replicas[0]

    @property
    def replicas(self) -> list[Towers]:
        """The model on each device, loaded on first use."""
        if not self._replicas:
            self._replicas = [self._loaded(device) for device in self.devices]
        return self._replicas

    def _loaded(self, device: torch.device) -> Towers:
        import torch

        towers = self.load()
        towers.module.eval().requires_grad_(False).to(device, self.dtype if towers.cast else None)
        if os.environ.get("VEHICLE_SEARCH_COMPILE") == "1":
            towers = towers._replace(image=torch.compile(towers.image), text=torch.compile(towers.text))
        return towers

    def describe(self) -> dict[str, Any]:
        """Return how this encoder works, for the run record."""
        return {
            "device": ",".join(str(device) for device in self.devices),
            "precision": self.precision,
            "preprocess": self.mode,
            "compile": os.environ.get("VEHICLE_SEARCH_COMPILE") == "1",
            "num_workers": self._workers,
            "largest_batch": self._largest_batch,
        }

    def fingerprint(self) -> str:
        """Return a digest of what decides the vectors: weights, precision, preprocessing, device kind."""
        digest = hashlib.sha256()
        what = [self.model_name, self.revision, self.precision, self.mode, self.device.type, repr(self.crop)]
        digest.update(json.dumps([*what, self.mean, self.std, self.weights_id()]).encode())
        return digest.hexdigest()

    def weights_id(self) -> str:
        """Return what identifies the weights beyond name and revision; "" if the revision says it all."""
        return ""

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
        import torch

        self._workers = num_proc or min(16, os.cpu_count() or 1)
        with torch.inference_mode():
            if callable(getattr(inputs.dataset, "jpeg", None)):
                return self._encode_images(self._decoded(inputs.dataset, batch_size), batch_size, on_progress)
            first, batches = _peek(iter(inputs))
            if first is None:
                raise EncodeError("There is nothing to encode.")
            if "image" in first:
                stream = (self.crop(image.convert("RGB")) for batch in batches for image in batch["image"])
                return self._encode_images(_grouped(stream, batch_size), batch_size, on_progress)
            if "text" not in first:
                raise EncodeError(f"Inputs have neither 'image' nor 'text', only {sorted(first)}.")
            texts = [text for batch in batches for text in batch["text"]]
            return self._encode_texts(texts, on_progress)

    def _decoded(self, images: Any, batch_size: int) -> Iterator[torch.Tensor]:
        """Yield uint8 batches [n, 3, size, size]; threads work two batches ahead."""
        import torch

        def one(index: int) -> torch.Tensor:
            try:
                return self.crop.decode(images.jpeg(index))
            except (OSError, SyntaxError, ValueError) as error:
                raise EncodeError(f"Image {images.ids[index]} does not decode: {error}.") from error

        with ThreadPoolExecutor(self._workers, thread_name_prefix="decode") as pool:
            ahead: list[list[Any]] = []
            indexes = iter(range(len(images)))
            try:
                while True:
                    while len(ahead) < 3 and (part := list(islice(indexes, batch_size))):
                        ahead.append([pool.submit(one, index) for index in part])
                    if not ahead:
                        return
                    yield torch.stack([future.result() for future in ahead.pop(0)])
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _encode_images(
        self, batches: Iterator[torch.Tensor], batch_size: int, on_progress: Callable[[int], None] | None
    ) -> torch.Tensor:
        import torch

        def forward(pixels: torch.Tensor, place: Place) -> torch.Tensor:
            scale = torch.tensor(self.std, device=place.device).view(3, 1, 1) * 255
            shift = torch.tensor(self.mean, device=place.device).view(3, 1, 1) * 255
            if place.device.type == "cuda":
                pixels = pixels.pin_memory()
            on_device = pixels.to(place.device, non_blocking=True)
            return place.towers.image(((on_device.float() - shift) / scale).to(self.dtype))

        vectors = []
        for part in in_order(self._places(), batches, lambda pixels, place: self._in_memory(forward, pixels, place)):
            vectors.append(part)
            if on_progress:
                on_progress(len(part))
        # Copied to the host only now, so that the device never waits for it.
        return _unit(torch.cat([part.to(self.device) for part in vectors])).cpu()

    def _places(self) -> list[Place]:
        return [Place(device, towers) for device, towers in zip(self.devices, self.replicas)]

    def _encode_texts(self, texts: list[str], on_progress: Callable[[int], None] | None) -> torch.Tensor:
        import torch

        tokens, mask = self.tokenise(texts)
        lengths = mask.sum(dim=1)
        order = torch.argsort(lengths, stable=True)
        found: torch.Tensor | None = None

        def forward(rows: torch.Tensor, place: Place) -> torch.Tensor:
            end = tokens.shape[1] if self.fixed_length else int(lengths[rows].max())
            part, seen = tokens[rows, :end].to(place.device), mask[rows, :end].to(place.device)
            return place.towers.text(part, seen)

        def work(rows: torch.Tensor, place: Place) -> tuple[torch.Tensor, torch.Tensor]:
            return rows, _unit(self._in_memory(forward, rows, place)).cpu()

        batches = _token_batches(order, lengths if not self.fixed_length else None, tokens.shape[1])
        for rows, vectors in in_order(self._places(), batches, work):
            if found is None:
                found = torch.empty((len(texts), vectors.shape[1]))
            found[rows] = vectors
            if on_progress:
                on_progress(len(rows))
        if found is None:
            raise EncodeError("There is nothing to encode.")
        return found

    fixed_length = True

    def _in_memory(
        self, forward: Callable[[torch.Tensor, Place], torch.Tensor], batch: torch.Tensor, place: Place
    ) -> torch.Tensor:
        """Run `forward`, in halves if the batch does not fit into memory."""
        import torch

        limit = min(len(batch), self._largest_batch or len(batch))
        while True:
            try:
                return torch.cat([forward(part, place) for part in batch.split(limit)])
            except (torch.OutOfMemoryError, MemoryError) as error:
                if limit == 1:
                    raise EncodeError(
                        f"{self.model_name} does not fit into the memory of {place.device} even with one input.",
                        "Choose another device (VEHICLE_SEARCH_DEVICE) or precision (VEHICLE_SEARCH_PRECISION=bf16).",
                    ) from error
            gc.collect()
            if place.device.type == "cuda":
                torch.cuda.empty_cache()
            if self._largest_batch is None:
                logger.warning("Out of memory at batch size %d; going on with smaller batches.", limit)
            limit = self._largest_batch = limit // 2


def in_order(
    places: list[Place], batches: Iterable[_Batch], work: Callable[[_Batch, Place], _Result]
) -> Iterator[_Result]:
    """Yield `work(batch, place)` of each batch in order, spread over the places; the first error ends it."""
    import torch

    if len(places) == 1:
        for batch in batches:
            yield work(batch, places[0])
        return
    free: SimpleQueue[Place] = SimpleQueue()
    for place in places:
        free.put(place)

    def one(batch: _Batch) -> _Result:
        place = free.get()
        try:
            # Inference mode belongs to a thread.
            with torch.inference_mode():
                return work(batch, place)
        finally:
            free.put(place)

    with ThreadPoolExecutor(len(places), thread_name_prefix="device") as pool:
        waiting: deque[Future[_Result]] = deque()
        try:
            for batch in batches:
                waiting.append(pool.submit(one, batch))
                if len(waiting) > 2 * len(places):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _unit(vectors: torch.Tensor) -> torch.Tensor:
    import torch

    return torch.nn.functional.normalize(vectors.float(), dim=1)


def _peek(items: Iterator[Any]) -> tuple[Any, Iterator[Any]]:
    from itertools import chain

    first = next(items, None)
    return first, iter(()) if first is None else chain([first], items)


def _grouped(stream: Iterator[torch.Tensor], size: int) -> Iterator[torch.Tensor]:
    import torch

    while part := list(islice(stream, size)):
        yield torch.stack(part)


def _token_batches(order: torch.Tensor, lengths: torch.Tensor | None, longest: int) -> Iterator[torch.Tensor]:
    """Yield row numbers in batches of at most `TOKENS_PER_BATCH` tokens, padding included; shortest texts first."""
    start = 0
    while start < len(order):
        end = start
        while end < len(order):
            length = longest if lengths is None else int(lengths[order[end]])
            if end > start and (end - start + 1) * length > TOKENS_PER_BATCH:
                break
            end += 1
        yield order[start:end]
        start = end
