"""The models that the plugin offers: one ModelMeta each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mteb.models import ModelMeta

TINY_CLIP_FOLDER = Path(__file__).parent / "tiny_clip"
# The first 40 digits of the sha256 of its weights: results of other weights never look like results of these.
TINY_CLIP_REVISION = "e3d4e8e6d358bb3dcb562ae2f9163129265723b8"


def model_metas() -> list[ModelMeta]:
    """Return the metadata of our models; loads no weights."""
    return [tiny_clip(), metaclip_1_2(), jina_clip_v2()]


def _load_open_clip(model_name: str, revision: str | None = None, device: Any = None, **kwargs: Any) -> Any:
    # Loading torch and open_clip takes seconds, and most uses of mteb need neither.
    from mteb_vehicle_search.models.open_clip import OpenClipEncoder

    return OpenClipEncoder(model_name, revision, device, **kwargs)


def _load_tiny_clip(model_name: str, revision: str | None = None, device: Any = None, **kwargs: Any) -> Any:
    # The folder is not in the metadata: mteb writes that into result files, and paths of a machine have no place there.
    own = {"folder": TINY_CLIP_FOLDER, "bpe_file": "bpe_vocabulary.txt.gz"}
    return _load_open_clip(model_name, revision, device, **{**own, **kwargs})


def _load_jina_clip(model_name: str, revision: str | None = None, device: Any = None, **kwargs: Any) -> Any:
    # See above.
    from mteb_vehicle_search.models.jina_clip import JinaClipEncoder

    return JinaClipEncoder(model_name, revision, device, **kwargs)


def tiny_clip() -> ModelMeta:
    """The embedded model: a CLIP of 1.4 million weights, trained on drawn scenes; it ships with the package."""
    from mteb.models import ModelMeta
    from mteb.models.model_meta import ScoringFunction

    return ModelMeta(
        loader=_load_tiny_clip,
        name="vehicle-search/tiny-clip",
        revision=TINY_CLIP_REVISION,
        release_date="2026-11-25",
        languages=["eng-Latn"],
        n_parameters=1_445_633,
        n_embedding_parameters=115_200,
        memory_usage_mb=6,
        max_tokens=32,
        embed_dim=128,
        license="apache-2.0",
        open_weights=True,
        public_training_code=None,
        public_training_data="data_prep/sources/drawn",
        framework=["PyTorch"],
        reference=None,
        similarity_fn_name=ScoringFunction.COSINE,
        use_instructions=False,
        training_datasets=set(),
        modalities=["image", "text"],
        model_type=["dense"],
        citation=None,
    )


def metaclip_1_2() -> ModelMeta:
    """MetaCLIP 1.2 ("Altogether"), ViT-H/14 with plain GELU."""
    from mteb.models import ModelMeta
    from mteb.models.model_meta import ScoringFunction

    return ModelMeta(
        loader=_load_open_clip,
        loader_kwargs={"quick_gelu": False},
        name="timm/vit_huge_patch14_clip_224.metaclip_altogether",
        revision="79ca86b54e97d41bd9f555bbb272bb1dcaa11f75",
        release_date="2024-12-10",
        languages=["eng-Latn"],
        n_parameters=986_109_441,
        n_embedding_parameters=49_408 * 1024,
        memory_usage_mb=3762,
        max_tokens=77,
        embed_dim=1024,
        license="cc-by-nc-4.0",
        open_weights=True,
        public_training_code="https://github.com/facebookresearch/MetaCLIP",
        public_training_data=None,
        framework=["PyTorch", "safetensors"],
        reference="https://huggingface.co/timm/vit_huge_patch14_clip_224.metaclip_altogether",
        similarity_fn_name=ScoringFunction.COSINE,
        use_instructions=False,
        # Web images with synthetic captions, not published: whether Flickr30k's photographs are among them is unknown.
        training_datasets=None,
        modalities=["image", "text"],
        citation="""@inproceedings{xu2024altogether,
  title = {Altogether: Image Captioning via Re-aligning Alt-text},
  author = {Xu, Hu and Huang, Po-Yao and Tan, Xiaoqing Ellen and Yeh, Ching-Feng and Kahn, Jacob and others},
  booktitle = {Proceedings of the 2024 Conference on Empirical Methods in Natural Language Processing},
  year = {2024},
}""",
    )


def jina_clip_v2() -> ModelMeta:
    """Jina CLIP v2, loaded natively; replaces mteb's entry, whose remote code needs transformers below 5."""
    from mteb.models import ModelMeta
    from mteb.models.model_meta import ScoringFunction

    return ModelMeta(
        loader=_load_jina_clip,
        name="jinaai/jina-clip-v2",
        revision="e10d47f5691d0454a0fb5d13f46f2199b74cb436",
        release_date="2024-10-09",
        languages=["eng-Latn"],
        n_parameters=865_278_477,
        n_embedding_parameters=250_002 * 1024,
        memory_usage_mb=1650,
        max_tokens=512,
        embed_dim=[1024, 768, 512, 256, 128, 64, 32],
        license="cc-by-nc-4.0",
        open_weights=True,
        public_training_code=None,
        public_training_data=None,
        framework=["PyTorch", "Transformers", "safetensors"],
        reference="https://huggingface.co/jinaai/jina-clip-v2",
        similarity_fn_name=ScoringFunction.COSINE,
        use_instructions=False,
        # The authors name no complete list: whether Flickr30k is among the training data is unknown.
        training_datasets=None,
        modalities=["image", "text"],
        citation="""@article{koukounas2024jinaclipv2,
  title = {jina-clip-v2: Multilingual Multimodal Embeddings for Text and Images},
  author = {Koukounas, Andreas and Mastrapas, Georgios and Wang, Bo and Akram, Mohammad Kalim and others},
  journal = {arXiv preprint arXiv:2412.08802},
  year = {2024},
}""",
    )
