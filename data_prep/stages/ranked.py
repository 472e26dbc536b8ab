"""Miners must not be models that a set ranks: one would choose what it is judged by."""

from __future__ import annotations

from pathlib import Path

from data_prep.preset_tables import OF_TEXTS, Miner
from mteb_vehicle_search.errors import BuildError, ModelLoadError
from mteb_vehicle_search.models.layouts import layout_of_files
from mteb_vehicle_search.models.snapshot import listed


def check_not_ranked(name: str, miner: Miner, folder: Path) -> None:
    """Make sure that a miner is no image-text model.

    Raises:
        BuildError: It lies in a folder of one, or is one that mteb or this package knows.
    """
    if miner.library not in ("timm", OF_TEXTS):
        return
    local = folder / miner.model
    if _holds_image_text(local) if local.is_dir() else _is_known(miner.model):
        raise BuildError(
            f"The miner {name} is {miner.model}, an image-text model: one that a set ranks cannot choose its images.",
            "Name a model of images alone (library timm), or of texts alone (sentence-transformers).",
        )


def _holds_image_text(folder: Path) -> bool:
    try:
        layout_of_files(listed(folder))
    except ModelLoadError:
        return False
    return True


def _is_known(model: str) -> bool:
    import mteb  # It takes seconds.

    known = (meta for meta in mteb.get_model_metas() if {"image", "text"} <= {*(meta.modalities or ())})
    return model.casefold() in {str(meta.name).casefold() for meta in known}
