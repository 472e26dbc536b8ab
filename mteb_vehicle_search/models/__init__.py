"""The models that the plugin offers: one ModelMeta each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mteb.models import ModelMeta

TINY_CLIP_FOLDER = Path(__file__).parent / "tiny_clip"
TINY_CLIP_REVISION = "1"


def model_metas() -> list[ModelMeta]:
    """Return the metadata of our models; loads no weights."""
    return [tiny_clip()]


def _load_open_clip(model_name: str, revision: str | None = None, device: Any = None, **kwargs: Any) -> Any:
    # Loading torch and open_clip takes seconds, and most uses of mteb need neither.
    from mteb_vehicle_search.models.open_clip import OpenClipEncoder

    return OpenClipEncoder(model_name, revision, device, **kwargs)


def tiny_clip() -> ModelMeta:
    """The embedded model: a CLIP of two million weights, trained on drawn scenes; it ships with the package."""
    from mteb.models import ModelMeta
    from mteb.models.model_meta import ScoringFunction

    return ModelMeta(
        loader=_load_open_clip,
        loader_kwargs={"folder": str(TINY_CLIP_FOLDER), "bpe_file": "bpe_vocabulary.txt.gz"},
        name="vehicle-search/tiny-clip",
        revision=TINY_CLIP_REVISION,
        release_date="2026-11-25",
        languages=["eng-Latn"],
        n_parameters=1_445_505,
        n_embedding_parameters=115_072,
        memory_usage_mb=6,
        max_tokens=32,
        embed_dim=128,
        license="apache-2.0",
        open_weights=True,
        public_training_code=None,
        public_training_data="data_prep/sources/drawn.py",
        framework=["PyTorch"],
        reference=None,
        similarity_fn_name=ScoringFunction.COSINE,
        use_instructions=False,
        training_datasets=set(),
        modalities=["image", "text"],
        model_type=["dense"],
        citation=None,
    )
