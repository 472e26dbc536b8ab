"""The models that the plugin offers: one ModelMeta each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mteb_vehicle_search.models.known_transformers import OTHERS, SIGLIP_SWITCH, SIGLIPS

if TYPE_CHECKING:
    from mteb.models import ModelMeta

TINY_CLIP_FOLDER = Path(__file__).parent / "tiny_clip"
# The first 40 digits of the sha256 of its weights: results of other weights never look like results of these.
TINY_CLIP_REVISION = "e3d4e8e6d358bb3dcb562ae2f9163129265723b8"

# Their training data are web images, with synthetic captions for 1.2, and not published: whether Flickr30k's
# photographs are among them is unknown, so `training_datasets` stays None.
_METACLIP: dict[str, Any] = {
    "n_parameters": 986_109_441,
    "n_embedding_parameters": 49_408 * 1024,
    "embed_dim": 1024,
    "license": "cc-by-nc-4.0",
    "public_training_code": "https://github.com/facebookresearch/MetaCLIP",
}
_METACLIP_1_CITATION = """@inproceedings{xu2024metaclip,
  title = {Demystifying {CLIP} Data},
  author = {Xu, Hu and Xie, Saining and Tan, Xiaoqing Ellen and Huang, Po-Yao and Howes, Russell and others},
  booktitle = {The Twelfth International Conference on Learning Representations},
  year = {2024},
}"""
_METACLIP_1_2_CITATION = """@inproceedings{xu2024altogether,
  title = {Altogether: Image Captioning via Re-aligning Alt-text},
  author = {Xu, Hu and Huang, Po-Yao and Tan, Xiaoqing Ellen and Yeh, Ching-Feng and Kahn, Jacob and others},
  booktitle = {Proceedings of the 2024 Conference on Empirical Methods in Natural Language Processing},
  year = {2024},
}"""

# Trained on unpublished web images and videos: whether Flickr30k is among them is unknown.
_PE_CORE: dict[str, Any] = {
    "release_date": "2025-04-17",
    "license": "apache-2.0",
    "public_training_code": "https://github.com/facebookresearch/perception_models",
    "citation": """@article{bolya2025perception,
  title = {Perception Encoder: The best visual embeddings are not at the output of the network},
  author = {Bolya, Daniel and Huang, Po-Yao and Sun, Peize and Cho, Jang Hyun and Madotto, Andrea and others},
  journal = {arXiv preprint arXiv:2504.13181},
  year = {2025},
}""",
}


def model_metas() -> list[ModelMeta]:
    """Return the metadata of our models; loads no weights."""
    own = [tiny_clip(), metaclip_1(), metaclip_1_2(), jina_clip_v2(), pe_core_l(), pe_core_bigg()]
    return own + [transformers_meta(name, **facts) for name, facts in (SIGLIPS | OTHERS).items()]


def open_clip_meta(
    name: str, revision: str, *, n_parameters: int, embed_dim: int, quick_gelu: bool = False, **facts: Any
) -> ModelMeta:
    """Return the metadata of an open_clip checkpoint on the hub, in fp32 safetensors with open_clip's own vocabulary.

    Args:
        name: Repository on the hub; holds `open_clip_config.json` and `open_clip_model.safetensors`.
        revision: Full commit hash.
        n_parameters: Of both towers.
        embed_dim: Of the vectors.
        quick_gelu: The activation that it was trained with; a configuration that says otherwise is refused.
        **facts: Further fields of `ModelMeta`, such as `release_date`, `license`, `citation`; unknown ones are None.
    """
    common = {"reference": f"https://huggingface.co/{name}", "memory_usage_mb": round(n_parameters * 4 / 2**20)}
    given = {"n_parameters": n_parameters, "embed_dim": embed_dim, "loader_kwargs": {"quick_gelu": quick_gelu}}
    return _meta(name, revision, _load_open_clip, **{"max_tokens": 77, **common, **given, **facts})


def transformers_meta(
    name: str, revision: str, *, embed_dim: int, n_parameters: int | None = None, **facts: Any
) -> ModelMeta:
    """Return the metadata of a dual encoder of transformers on the hub, in fp32 safetensors.

    Args:
        name: Repository on the hub; holds `config.json`, `preprocessor_config.json`, a tokenizer, and the weights.
        revision: Full commit hash.
        embed_dim: Of the vectors.
        n_parameters: Of both towers; None if it is not known.
        **facts: Further fields of `ModelMeta`; unknown ones are None.
    """
    common = {
        "framework": ["PyTorch", "Transformers", "safetensors"],
        "reference": f"https://huggingface.co/{name}",
        "memory_usage_mb": round(n_parameters * 4 / 2**20) if n_parameters else None,
    }
    given = {"n_parameters": n_parameters, "embed_dim": embed_dim}
    return _meta(name, revision, _load_transformers, **{**common, **given, **facts})


def _meta(name: str, revision: str, loader: Callable[..., Any], **facts: Any) -> ModelMeta:
    """Return the metadata of a model that is not said otherwise: English, images and texts, cosine, open weights."""
    # mteb takes seconds to import, and most of the package does without.
    from mteb.models import ModelMeta
    from mteb.models.model_meta import ScoringFunction

    unknown = ("release_date", "license", "citation", "n_embedding_parameters", "training_datasets", "reference")
    common: dict[str, Any] = {
        **dict.fromkeys((*unknown, "public_training_code", "public_training_data")),
        "languages": ["eng-Latn"],
        "open_weights": True,
        "framework": ["PyTorch", "safetensors"],
        "similarity_fn_name": ScoringFunction.COSINE,
        "use_instructions": False,
        "modalities": ["image", "text"],
        "model_type": ["dense"],
    }
    return ModelMeta(name=name, revision=revision, loader=loader, **{**common, **facts})


def _load_open_clip(model_name: str, revision: str | None = None, device: Any = None, **kwargs: Any) -> Any:
    # Loading torch and open_clip takes seconds, and most uses of mteb need neither.
    from mteb_vehicle_search.models.open_clip import OpenClipEncoder

    return OpenClipEncoder(model_name, revision, device, **{"licence": _licence_of(model_name), **kwargs})


def image_text_meta(name: str, revision: str | None, loader: Callable[..., Any] | None, **facts: Any) -> ModelMeta:
    """Return the metadata of any image-text model; what is not said is unknown."""
    unknown = ("n_parameters", "memory_usage_mb", "max_tokens", "embed_dim")
    return _meta(name, revision, loader, **{**dict.fromkeys(unknown), **facts})  # type: ignore[arg-type]


def encoder_of(kind: str) -> Any:
    """Return the class that loads models of a kind (`layouts.py` names them), such as "open_clip"."""
    if kind == "open_clip":
        from mteb_vehicle_search.models.open_clip import OpenClipEncoder

        return OpenClipEncoder
    if kind == "transformers":
        from mteb_vehicle_search.models.transformers_dual import TransformersEncoder

        return TransformersEncoder
    from mteb_vehicle_search.models.sentence import SentenceEncoder

    return SentenceEncoder


def _load_tiny_clip(model_name: str, revision: str | None = None, device: Any = None, **kwargs: Any) -> Any:
    # The folder is not in the metadata: mteb writes that into result files, and paths of a machine have no place there.
    own = {"folder": TINY_CLIP_FOLDER, "bpe_file": "bpe_vocabulary.txt.gz"}
    return _load_open_clip(model_name, revision, device, **{**own, **kwargs})


def _load_jina_clip(model_name: str, revision: str | None = None, device: Any = None, **kwargs: Any) -> Any:
    from mteb_vehicle_search.models.jina_clip import JinaClipEncoder

    return JinaClipEncoder(model_name, revision, device, **{"licence": _licence_of(model_name), **kwargs})


def _load_transformers(model_name: str, revision: str | None = None, device: Any = None, **kwargs: Any) -> Any:
    from mteb_vehicle_search.models.transformers_dual import TransformersEncoder

    own = {"licence": _licence_of(model_name), "switch": SIGLIP_SWITCH if model_name in SIGLIPS else ""}
    return TransformersEncoder(model_name, revision, device, **{**own, **kwargs})


def _licence_of(name: str) -> str:
    return next((str(meta.license) for meta in model_metas() if meta.name == name), "")


def tiny_clip() -> ModelMeta:
    """The embedded model: a CLIP of 1.4 million weights, trained on drawn scenes; it ships with the package."""
    return _meta(
        "vehicle-search/tiny-clip",
        TINY_CLIP_REVISION,
        _load_tiny_clip,
        release_date="2026-11-25",
        n_parameters=1_445_633,
        n_embedding_parameters=115_200,
        memory_usage_mb=6,
        max_tokens=32,
        embed_dim=128,
        license="apache-2.0",
        public_training_data="data_prep/sources/drawn",
        framework=["PyTorch"],
        training_datasets=set(),
    )


def metaclip_1() -> ModelMeta:
    """MetaCLIP, ViT-H/14 with QuickGELU, of 2.5 billion pairs from CommonCrawl."""
    return open_clip_meta(
        "timm/vit_huge_patch14_clip_224.metaclip_2pt5b",
        "76809c3262ef519f838f564e6f1b34ad22c49914",
        quick_gelu=True,
        **_METACLIP,
        release_date="2023-09-28",
        citation=_METACLIP_1_CITATION,
    )


def metaclip_1_2() -> ModelMeta:
    """MetaCLIP 1.2 ("Altogether"), ViT-H/14 with plain GELU."""
    return open_clip_meta(
        "timm/vit_huge_patch14_clip_224.metaclip_altogether",
        "79ca86b54e97d41bd9f555bbb272bb1dcaa11f75",
        **_METACLIP,
        release_date="2024-12-10",
        citation=_METACLIP_1_2_CITATION,
    )


def jina_clip_v2() -> ModelMeta:
    """Jina CLIP v2, loaded natively; replaces mteb's entry, whose remote code needs transformers below 5."""
    return _meta(
        "jinaai/jina-clip-v2",
        "e10d47f5691d0454a0fb5d13f46f2199b74cb436",
        _load_jina_clip,
        release_date="2024-10-09",
        n_parameters=865_278_477,
        n_embedding_parameters=250_002 * 1024,
        memory_usage_mb=1650,
        max_tokens=512,
        embed_dim=[1024, 768, 512, 256, 128, 64, 32],
        license="cc-by-nc-4.0",
        framework=["PyTorch", "Transformers", "safetensors"],
        reference="https://huggingface.co/jinaai/jina-clip-v2",
        # The authors name no complete list: whether Flickr30k is among the training data is unknown.
        training_datasets=None,
        citation="""@article{koukounas2024jinaclipv2,
  title = {jina-clip-v2: Multilingual Multimodal Embeddings for Text and Images},
  author = {Koukounas, Andreas and Mastrapas, Georgios and Wang, Bo and Akram, Mohammad Kalim and others},
  journal = {arXiv preprint arXiv:2412.08802},
  year = {2024},
}""",
    )


def pe_core_l() -> ModelMeta:
    """Perception Encoder Core, L/14 at 336 px, in open_clip's layout."""
    return open_clip_meta(
        "timm/PE-Core-L-14-336",
        "8eff41b3f687e50a323662c2dda5eb3588c6dd35",
        n_parameters=671_138_817,
        n_embedding_parameters=49_408 * 1024,
        embed_dim=1024,
        max_tokens=32,
        **_PE_CORE,
    )


def pe_core_bigg() -> ModelMeta:
    """Perception Encoder Core, G/14 at 448 px, in open_clip's layout."""
    return open_clip_meta(
        "timm/PE-Core-bigG-14-448",
        "17aa0c25addfa14198fa2ff73d845a22d433432e",
        n_parameters=2_419_267_841,
        n_embedding_parameters=49_408 * 1280,
        embed_dim=1280,
        max_tokens=72,
        **_PE_CORE,
    )
