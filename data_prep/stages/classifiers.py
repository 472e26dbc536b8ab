"""Classifiers of ImageNet-1k from transformers and timm, each with its own preprocessing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError

from data_prep.class_set import ClassSet
from data_prep.hub import download_model, model_gb
from data_prep.job import Job
from data_prep.preset import Classifier
from data_prep.stages.networks import (
    THREADS,
    in_batches,
    load_timm,
    read_settings,
    require_safetensors,
    timm_repository,
)
from mteb_vehicle_search.errors import BuildError, first_line
from mteb_vehicle_search.files import file_sha256


class Scorer:
    """An image classifier with its own preprocessing, fp32.

    Subclasses set `labels` (class names by index, or None) and give `pixels` and `forward`.
    """

    labels: list[str] | None = None

    def __init__(self, device: str) -> None:
        self.device = device

    def pixels(self, image: Image.Image) -> np.ndarray:
        """Return the model's input for an RGB image, float32 [3, height, width]."""
        raise NotImplementedError

    def forward(self, batch: Any) -> Any:
        """Return logits [n, classes] of a float32 tensor [n, 3, height, width] on the device."""
        raise NotImplementedError

    def probabilities(self, inputs: Sequence[np.ndarray], batch_size: int) -> np.ndarray:
        """Return softmax over all classes, float32 [n, classes]."""
        return in_batches(
            self.device, inputs, batch_size, lambda batch: torch.softmax(self._logits(batch).float(), dim=-1)
        )

    def logits(self, inputs: Sequence[np.ndarray], batch_size: int) -> np.ndarray:
        """Return what softmax is taken of, float32 [n, classes]."""
        return in_batches(self.device, inputs, batch_size, self._logits)

    def _logits(self, inputs: Sequence[np.ndarray]) -> torch.Tensor:
        return self.forward(torch.from_numpy(np.stack(inputs)).to(self.device))


class TransformersScorer(Scorer):
    """A transformers classifier with its Pillow image processor, as the original evaluation ran it."""

    def __init__(self, folder: Path, device: str) -> None:
        super().__init__(device)
        from transformers import AutoImageProcessor, AutoModelForImageClassification
        from transformers.utils.logging import disable_progress_bar

        self._processor = AutoImageProcessor.from_pretrained(folder, backend="pil", local_files_only=True)
        disable_progress_bar()
        model = AutoModelForImageClassification.from_pretrained(folder, use_safetensors=True, local_files_only=True)
        self._model = model.float().eval().to(device)
        names = model.config.id2label
        named = any(str(name) != f"LABEL_{index}" for index, name in names.items())
        self.labels = [str(names[index]) for index in sorted(names)] if named else None
        self.classes = model.config.num_labels

    def pixels(self, image: Image.Image) -> np.ndarray:
        return self._processor(image, return_tensors="np")["pixel_values"][0]

    def forward(self, batch: Any) -> Any:
        return self._model(pixel_values=batch).logits


class TimmScorer(Scorer):
    """A timm classifier with the preprocessing of its pretrained configuration.

    `weights` are a safetensors file. `configuration` is that of the folder where it lies, as timm writes it; without,
    the library's own counts.
    """

    def __init__(self, model: str, device: str, weights: Path, configuration: dict[str, Any] | None = None) -> None:
        super().__init__(device)
        self._model, self._transform = load_timm(model, device, weights, configuration)
        self.classes = int(self._model.num_classes)

    def pixels(self, image: Image.Image) -> np.ndarray:
        return self._transform(image).numpy()

    def forward(self, batch: Any) -> Any:
        return self._model(batch)


def check_classes(scorer: Any, wanted: ClassSet) -> str | None:
    """Return a warning if the classifier's labels do not carry the class set's names.

    Raises:
        BuildError: The classifier has too few classes.
    """
    _require_classes(wanted, scorer.classes)
    odd = [c for c in wanted.classes if scorer.labels and _first(scorer.labels[c.index]) != _first(c.name)]
    if not odd:
        return None
    return (
        f"{len(odd)} of {len(wanted.classes)} class names differ between the classifier and the class set, "
        f"first {odd[0].index}: {scorer.labels[odd[0].index]!r} and {odd[0].name!r}."
    )


def _first(names: str) -> str:
    return names.partition(",")[0].strip().casefold()


def load_scorer(classifier: Classifier, folder: Path, device: str) -> Scorer:
    """Load the classifier that a preset in `folder` names; `device` is "cpu", "cuda" or "cuda:n".

    Raises:
        SourceError: It cannot be downloaded.
        BuildError: Its files are missing or damaged, or the library does not know it.
    """
    local = (folder / classifier.model).is_dir()
    found = folder / classifier.model if local else download_model(*hub_files(classifier))
    try:
        if classifier.library == "transformers":
            return TransformersScorer(found, device)
        if not local:
            return TimmScorer(classifier.model.rpartition("/")[2], device, found / "model.safetensors")
        configuration = read_settings(found / "config.json")
        return TimmScorer(configuration["architecture"], device, found / "model.safetensors", configuration)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = first_line(error)
        raise BuildError(
            f"The classifier {classifier.model} cannot be loaded from {found}: {reason}",
            f"Is it a classifier of {classifier.library} with config.json, preprocessing and model.safetensors? "
            "If so, get its files again.",
        ) from error


LOCAL_FILES = {
    "timm": ("config.json",),
    "transformers": ("config.json", "preprocessor_config.json"),
}


def check_files(classifier: Classifier, folder: Path, wanted: ClassSet | None = None) -> float:
    """Return the gigabytes (1e9 bytes) to download for a classifier that a preset in `folder` names; 0 if it is local.

    Of a local one everything is checked that can be without loading it; of one on the hub whether it is there.

    Raises:
        SourceError: The hub refuses or cannot be reached, or a file is missing there.
        BuildError: A file of a local one is missing or damaged, it is of the other library, or has too few classes.
    """
    local = folder / classifier.model
    if not local.is_dir():
        return model_gb(*hub_files(classifier))
    hint = f"Name a folder with {', '.join(LOCAL_FILES[classifier.library])} and weights as safetensors."
    configuration = read_settings(local / "config.json") if (local / "config.json").is_file() else {}
    library = "timm" if "architecture" in configuration else "transformers"
    if configuration and library != classifier.library:
        raise BuildError(
            f"The classifier in {local} is of {library}, not of {classifier.library}.",
            f'Say so in the preset: library = "{library}"',
        )
    weights = sorted(local.glob("*.safetensors"))
    absent = [name for name in LOCAL_FILES[classifier.library] if not (local / name).is_file()]
    absent += [] if weights else ["model.safetensors"]
    if absent:
        found = ", ".join(sorted(path.name for path in local.iterdir())[:8]) or "nothing"
        raise BuildError(f"The classifier in {local} lacks {', '.join(absent)}; found: {found}.", hint)
    require_safetensors(weights)
    classes = configuration.get("num_classes") or len(configuration.get("id2label", {}))
    if classes and wanted:
        _require_classes(wanted, classes)
    return 0.0


def _require_classes(wanted: ClassSet, classes: int) -> None:
    if max(wanted.indices) >= classes:
        raise BuildError(
            f"The class set {wanted.name!r} names class {max(wanted.indices)}; the classifier has {classes}.",
            "Class sets hold positions among the classifier's outputs, for ImageNet-1k 0 to 999.",
        )


def hub_files(classifier: Classifier) -> tuple[str, str, tuple[str, ...]]:
    """Return repository, revision and files of a classifier that is on the hub."""
    if classifier.library == "timm":
        return timm_repository(classifier.model), classifier.revision, ("model.safetensors",)
    return classifier.model, classifier.revision, ("config.json", "preprocessor_config.json", "model.safetensors")


def classifier_identity(classifier: Classifier, folder: Path) -> dict[str, Any]:
    """Return what names the classifier: its pin, or the digests of a local folder's files."""
    found: dict[str, Any] = asdict(classifier)
    local = folder / classifier.model
    if local.is_dir():
        found["files"] = {path.name: file_sha256(path) for path in sorted(local.iterdir()) if path.is_file()}
    return found


def choose_device(name: str) -> str:
    """Return a torch device for "auto", "cpu", "cuda" or "cuda:n".

    Raises:
        BuildError: There is no such device.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return "cuda" if count else "cpu"
    match = re.fullmatch(r"cuda(?::(\d+))?", name)
    if name != "cpu" and (match is None or int(match[1] or 0) >= count):
        raise BuildError(f"There is no device {name!r} here.", "Use --device cpu or --device auto.")
    return name


def kind_of(device: str) -> str:
    """Return what of a torch device decides the last bits, for markers."""
    return f"cpu, {THREADS} thread a batch" if device == "cpu" else device.partition(":")[0]


def device_of(job: Job) -> str:
    """Return the torch device that a build computes on; elsewhere than here it is only known of what kind."""
    asked, engine = job.options.device, job.engine
    if engine.is_here:
        return choose_device(asked)
    return (engine.device if asked == "auto" else asked).partition(":")[0]
