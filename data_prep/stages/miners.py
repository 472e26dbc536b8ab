"""Miners at work: images or texts become unit vectors, by which neighbours and clusters are found."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError

from data_prep.hub import HubRepository, download_model, model_gb
from data_prep.preset_tables import OF_TEXTS, Classifier, Miner
from data_prep.stages import classifiers
from data_prep.stages.networks import in_batches, load_timm, read_settings, require_safetensors, timm_repository
from mteb_vehicle_search.errors import BuildError, SourceError, first_line
from mteb_vehicle_search.files import file_sha256

LAYOUT_SIDE, COLOUR_LEVELS = 16, 4
# Of a model of sentence-transformers on the hub: what it is loaded from, at its top and in the folders of its modules.
_SETTINGS = (".json", ".txt", ".model")
_OF_THE_LIBRARY = "sentence_transformers."


class ImageMiner(Protocol):
    """Embeds images."""

    def read(self, image: Image.Image, small: Image.Image) -> np.ndarray:
        """Return the input of an RGB image, whole and reduced for the set; called in threads that decode."""
        ...

    def vectors(self, inputs: Sequence[np.ndarray], batch_size: int) -> np.ndarray:
        """Return unit vectors of n inputs, float32 [n, d]; zeros where there is no direction."""
        ...


class TimmMiner:
    """Features of images by a model of timm."""

    def __init__(self, model: str, device: str, weights: Path, configuration: dict[str, Any], side_px: int) -> None:
        self._device = device
        self._network = load_timm(model, device, weights, configuration, features=True, side_px=side_px)

    def read(self, image: Image.Image, small: Image.Image) -> np.ndarray:
        return self._network.pixels(image)

    def vectors(self, inputs: Sequence[np.ndarray], batch_size: int) -> np.ndarray:
        def features(batch: Sequence[np.ndarray]) -> torch.Tensor:
            return self._network.module(torch.from_numpy(np.stack(batch)).to(self._device))

        return unit(in_batches(self._device, inputs, batch_size, features))


class ClassifierMiner:
    """Logits of a classifier."""

    def __init__(self, scorer: classifiers.Scorer) -> None:
        self._scorer = scorer

    def read(self, image: Image.Image, small: Image.Image) -> np.ndarray:
        return self._scorer.pixels(image)

    def vectors(self, inputs: Sequence[np.ndarray], batch_size: int) -> np.ndarray:
        return unit(self._scorer.logits(inputs, batch_size))


class LayoutMiner:
    """The image averaged to 16 x 16, without its mean: where it is light, dark and coloured."""

    def read(self, image: Image.Image, small: Image.Image) -> np.ndarray:
        cells = np.asarray(small.resize((LAYOUT_SIDE, LAYOUT_SIDE), Image.Resampling.BOX), dtype=np.float64).ravel()
        # The last number gives an image of one colour a direction, too; beside the others it weighs nothing.
        return np.append(cells - cells.mean(), 1.0)

    def vectors(self, inputs: Sequence[np.ndarray], batch_size: int) -> np.ndarray:
        return unit(np.stack(inputs))


class ColourMiner:
    """How much of each quarter of the image has which of 64 colours; by square roots, so that none drowns others."""

    def read(self, image: Image.Image, small: Image.Image) -> np.ndarray:
        cells = np.asarray(small, dtype=np.int64) * COLOUR_LEVELS // 256
        colours = (cells[..., 0] * COLOUR_LEVELS + cells[..., 1]) * COLOUR_LEVELS + cells[..., 2]
        middle, centre = colours.shape[0] // 2, colours.shape[1] // 2
        quarters = [
            half for rows in (colours[:middle], colours[middle:]) for half in (rows[:, :centre], rows[:, centre:])
        ]
        return np.sqrt(np.concatenate([np.bincount(one.ravel(), minlength=COLOUR_LEVELS**3) for one in quarters]))

    def vectors(self, inputs: Sequence[np.ndarray], batch_size: int) -> np.ndarray:
        return unit(np.stack(inputs))


PIXELS = {"layout": LayoutMiner, "colours": ColourMiner}


class TextMiner:
    """Embeds texts by a model of sentence-transformers."""

    def __init__(self, folder: Path, device: str) -> None:
        from sentence_transformers import SentenceTransformer
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        self._device = device
        self._model = SentenceTransformer(
            str(folder),
            device=device,
            trust_remote_code=False,
            local_files_only=True,
            model_kwargs={"use_safetensors": True, "dtype": torch.float32},
        ).eval()

    def vectors(self, texts: Sequence[Sequence[str]], batch_size: int) -> np.ndarray:
        """Return the mean of the unit vectors of each item's texts, as a unit vector, float32 [n, d]."""
        # Texts of one length share a batch, and a text that several have is embedded once.
        distinct = sorted({text for several in texts for text in several}, key=lambda text: (len(text), text))
        inputs = [
            self._model.preprocess(distinct[start : start + batch_size])  # In one thread: tokenizers keep a state.
            for start in range(0, len(distinct), batch_size)
        ]
        found = unit(in_batches(self._device, inputs, 1, self._forward))
        rows = {text: row for row, text in enumerate(distinct)}
        return unit(
            np.stack([found[[rows[text] for text in several]].mean(axis=0, dtype=np.float64) for several in texts])
        )

    def _forward(self, batch: Sequence[dict[str, Any]]) -> torch.Tensor:
        (features,) = batch
        moved = {key: value.to(self._device) if hasattr(value, "to") else value for key, value in features.items()}
        return self._model(moved)["sentence_embedding"]


def unit(vectors: np.ndarray) -> np.ndarray:
    """Return vectors at length one, float32 [n, d]; those without a direction, or a finite length, as they are."""
    wide = vectors.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    return np.divide(wide, lengths, out=wide, where=lengths > 0).astype(np.float32)


def load_miner(miner: Miner, folder: Path, classifier: Classifier | None, device: str) -> ImageMiner | TextMiner:
    """Load a miner that a preset in `folder` names; `device` is "cpu", "cuda" or "cuda:n".

    Raises:
        SourceError: It cannot be downloaded.
        BuildError: Its files are missing or damaged, or the library does not know it.
    """
    if miner.library == "pixels":
        return PIXELS[miner.model]()
    if miner.library == "classifier":
        if classifier is None:
            raise BuildError("The preset has no classifier.")
        return ClassifierMiner(classifiers.load_scorer(classifier, folder, device))
    local = (folder / miner.model).is_dir()
    found = folder / miner.model if local else download_model(*_hub_files(miner))
    try:
        if miner.library == OF_TEXTS:
            return TextMiner(found, device)
        settings = read_settings(found / "config.json") if local else {}
        model = settings["architecture"] if local else miner.model.rpartition("/")[2]
        return TimmMiner(model, device, found / "model.safetensors", settings, miner.side_px)
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, SafetensorError) as error:
        raise BuildError(
            f"The miner {miner.model} cannot be loaded from {found}: {first_line(error)}",
            f"Is it a model of {miner.library} with weights as safetensors? If so, get its files again.",
        ) from error


def check_files(miner: Miner, folder: Path, classifier: Classifier | None) -> float:
    """Return the gigabytes (1e9 bytes) to download for a miner that a preset in `folder` names; 0 if it is local.

    Of a local one everything is checked that can be without loading it; of one on the hub whether it is there.

    Raises:
        SourceError: The hub refuses or cannot be reached, or a file is missing there.
        BuildError: A file of a local one is missing or damaged, or it is of another library.
    """
    if miner.library == "pixels":
        return 0.0
    if miner.library == "classifier":
        return classifiers.check_files(classifier, folder) if classifier else 0.0
    local = folder / miner.model
    if not local.is_dir():
        return model_gb(*_hub_files(miner))
    if miner.library == OF_TEXTS:
        needed, weights = ("modules.json",), sorted(local.rglob("*.safetensors"))
    else:
        needed, weights = ("config.json",), sorted(local.glob("model.safetensors"))
    absent = [name for name in needed if not (local / name).is_file()] + ([] if weights else ["model.safetensors"])
    if absent:
        found = ", ".join(sorted(path.name for path in local.iterdir())[:8]) or "nothing"
        raise BuildError(
            f"The miner in {local} lacks {', '.join(absent)}; found: {found}.",
            f"Name a folder of {miner.library} with {needed[0]} and weights as safetensors.",
        )
    require_safetensors(weights)
    if miner.library == OF_TEXTS:
        _require_own_code(local)
    elif "architecture" not in read_settings(local / "config.json"):
        raise BuildError(f"The miner in {local} is not of timm: its config.json names no architecture.")
    return 0.0


def _require_own_code(folder: Path) -> None:
    try:
        types = [str(one["type"]) for one in json.loads((folder / "modules.json").read_text(encoding="utf-8"))]
    except (ValueError, KeyError, TypeError) as error:
        raise BuildError(f"{folder / 'modules.json'} is no list of modules.", "Get the file again.") from error
    if foreign := [one for one in types if not one.startswith(_OF_THE_LIBRARY)]:
        raise BuildError(
            f"The miner in {folder} needs {foreign[0]}, which is not the library's; code that comes with a model is "
            "never run.",
            "Name another model.",
        )


def _hub_files(miner: Miner) -> tuple[str, str, tuple[str, ...]]:
    """Return repository, revision and files of a miner that is on the hub."""
    if miner.library == "timm":
        return timm_repository(miner.model), miner.revision, ("model.safetensors",)
    # The library's settings say in which folders modules lie; no others have weights that are used.
    names = _names_on_hub(HubRepository(miner.model, miner.revision, kind="model"))
    modules = {name.rpartition("/")[0] for name in names if name.endswith("/config.json") and name[0].isdigit()}
    wanted = [name for name in names if name.rpartition("/")[0] in {"", *modules} and name.endswith(_SETTINGS)]
    weights = [name for name in names if name.rpartition("/")[0] in {"", *modules} and name.endswith(".safetensors")]
    return miner.model, miner.revision, ("modules.json", *sorted({*wanted, *weights} - {"modules.json"}))


def _names_on_hub(model: HubRepository) -> list[str]:
    """Return the names of a model's files; without a network of those that the hub's cache has."""
    try:
        return [file.path for file in model.files()]
    except SourceError:
        if (found := model.cached("modules.json")) is None:
            raise
        return sorted(path.relative_to(found.parent).as_posix() for path in found.parent.rglob("*") if path.is_file())


def identity_of(miner: Miner, folder: Path, classifier: Classifier | None) -> dict[str, Any]:
    """Return what the vectors of a miner depend on: its pin, or the digests of a local folder's files."""
    if miner.library == "classifier" and classifier:
        return {"library": miner.library, "classifier": classifiers.classifier_identity(classifier, folder)}
    found: dict[str, Any] = {"library": miner.library, "model": miner.model, "revision": miner.revision}
    if miner.side_px:
        found["side_px"] = miner.side_px
    local = folder / miner.model
    if miner.library != "pixels" and local.is_dir():
        paths = sorted(path for path in local.rglob("*") if path.is_file())
        found["files"] = {path.relative_to(local).as_posix(): file_sha256(path) for path in paths}
    return found
