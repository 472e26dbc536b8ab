"""The corpus as a torch dataset, and the loader that decodes it in parallel for any mteb encoder."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from PIL import Image
from torch.utils.data import DataLoader, Dataset

from mteb_vehicle_search.errors import EncodeError

if TYPE_CHECKING:
    from mteb_vehicle_search.eval_set import EvalSet


class CorpusImages(Dataset):
    """Images of an evaluation set: item i is `{"id": str, "image": PIL RGB}`, decoded on access.

    `jpeg(i)` gives the bytes undecoded, for encoders that decode in their own workers. `features` and `column_names`
    look like those of a `datasets.Dataset`, as some mteb encoders read them.
    """

    def __init__(self, eval_set: EvalSet, ids: list[str], first: int = 0) -> None:
        self._eval_set = eval_set
        self._first = first
        self.ids = ids

    def chunk(self, rows: range) -> CorpusImages:
        """Return the dataset of some consecutive rows."""
        return CorpusImages(self._eval_set, self.ids[rows.start : rows.stop], self._first + rows.start)

    @property
    def features(self) -> dict[str, Any]:
        """Column types, as `datasets` states them."""
        from datasets import Image, Value

        return {"id": Value("string"), "image": Image(mode="RGB")}

    @property
    def column_names(self) -> list[str]:
        """Names of the columns."""
        return ["id", "image"]

    def __len__(self) -> int:
        return len(self.ids)

    def jpeg(self, index: int) -> bytes:
        """Return the JPEG bytes of row `index`."""
        return self._eval_set.jpeg_at(self._first + index)

    def image(self, index: int) -> Image.Image:
        """Return row `index`, decoded, RGB.

        Raises:
            EncodeError: It does not decode; names the id.
        """
        try:
            with Image.open(io.BytesIO(self.jpeg(index))) as image:
                return image.convert("RGB")
        except (OSError, SyntaxError, ValueError) as error:
            folder = self._eval_set.folder
            raise EncodeError(
                f"Image {self.ids[index]} of {folder} does not decode: {error}.",
                f"See 'vehicle-search-data verify {folder}'.",
            ) from error

    def __getitem__(self, index: int | str) -> Any:
        if index == "id":
            return self.ids
        if not isinstance(index, int):
            raise KeyError(index)
        if index >= len(self):
            raise IndexError(index)
        return {"id": self.ids[index], "image": self.image(index)}


class ImageLoader(DataLoader):
    """A DataLoader whose batches are `{"id": list[str], "image": list[PIL]}` and that reports its progress."""

    def __init__(
        self, images: CorpusImages, batch_size: int, workers: int, on_progress: Callable[[int], Any] | None
    ) -> None:
        super().__init__(images, batch_size=batch_size, num_workers=workers, collate_fn=_columns, shuffle=False)
        self._on_progress = on_progress

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        for batch in super().__iter__():
            yield batch
            if self._on_progress:
                self._on_progress(len(batch["id"]))


def image_loader(
    images: CorpusImages, batch_size: int, workers: int, on_progress: Callable[[int], Any] | None = None
) -> ImageLoader:
    """Return the loader for one chunk; without `fork`, starting workers costs more than they give back."""
    return ImageLoader(images, batch_size, workers if sys.platform == "linux" else 0, on_progress)


def _columns(rows: list[dict[str, Any]]) -> dict[str, list]:
    return {name: [row[name] for row in rows] for name in rows[0]}
