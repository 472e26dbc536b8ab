"""What is known of the transformers checkpoints that are offered by name: revisions, sizes, licences, citations."""

from __future__ import annotations

from typing import Any

# Leaves the SigLIPs to mteb's own wrapper.
SIGLIP_SWITCH = "VEHICLE_SEARCH_STOCK_SIGLIP"

_BIG_VISION = "https://github.com/google-research/big_vision"
# All were trained on unpublished web images: whether Flickr30k is among them is unknown.
_SIGLIP_2: dict[str, Any] = {
    "release_date": "2025-02-17",
    "license": "apache-2.0",
    "max_tokens": 64,
    "public_training_code": _BIG_VISION,
    "citation": """@article{tschannen2025siglip2,
  title = {{SigLIP} 2: Multilingual Vision-Language Encoders with Improved Semantic Understanding, Localization, and
           Dense Features},
  author = {Tschannen, Michael and Gritsenko, Alexey and Wang, Xiao and Naeem, Muhammad Ferjad and others},
  journal = {arXiv preprint arXiv:2502.14786},
  year = {2025},
}""",
}
_SIGLIP_1: dict[str, Any] = {
    "release_date": "2024-01-08",
    "license": "apache-2.0",
    "max_tokens": 64,
    "public_training_code": _BIG_VISION,
    "citation": """@inproceedings{zhai2023sigmoid,
  title = {Sigmoid Loss for Language Image Pre-Training},
  author = {Zhai, Xiaohua and Mustafa, Basil and Kolesnikov, Alexander and Beyer, Lucas},
  booktitle = {Proceedings of the IEEE/CVF International Conference on Computer Vision},
  year = {2023},
}""",
}

# By name on the hub: the fields of its ModelMeta.
SIGLIPS: dict[str, dict[str, Any]] = {
    "google/siglip2-base-patch16-224": {
        "revision": "75de2d55ec2d0b4efc50b3e9ad70dba96a7b2fa2",
        "n_parameters": 375_187_970,
        "n_embedding_parameters": 256_000 * 768,
        "embed_dim": 768,
        **_SIGLIP_2,
    },
    "google/siglip2-so400m-patch16-384": {
        "revision": "dd658faac399427308559e2c3ac1e99cbe43845d",
        "n_parameters": 1_136_039_602,
        "n_embedding_parameters": 256_000 * 1152,
        "embed_dim": 1152,
        **_SIGLIP_2,
    },
    "google/siglip2-giant-opt-patch16-384": {
        "revision": "a713301b217d38485fb2204c808367d10bc3cc40",
        "n_parameters": 1_871_885_426,
        "n_embedding_parameters": 256_000 * 1152,
        "embed_dim": 1536,
        **_SIGLIP_2,
    },
    "google/siglip-so400m-patch14-384": {
        "revision": "9fdffc58afc957d1a03a25b10dba0329ab15c2a3",
        "n_parameters": 877_960_498,
        "n_embedding_parameters": 32_000 * 1152,
        "embed_dim": 1152,
        **_SIGLIP_1,
    },
}
OTHERS: dict[str, dict[str, Any]] = {
    # The number of its parameters is not published.
    "facebook/metaclip-2-worldwide-huge-quickgelu": {
        "revision": "2431b607fc8e05dd43b73797ba1a7a042514bcf4",
        "embed_dim": 1024,
        "license": "cc-by-nc-4.0",
        "max_tokens": 77,
        "public_training_code": "https://github.com/facebookresearch/MetaCLIP",
        "loader_kwargs": {"hidden_act": "quick_gelu"},
        "citation": """@article{chuang2025metaclip2,
  title = {{Meta CLIP} 2: A Worldwide Scaling Recipe},
  author = {Chuang, Yung-Sung and Li, Yang and Wang, Dong and Yeh, Ching-Feng and Lyu, Kehan and others},
  journal = {arXiv preprint arXiv:2507.22062},
  year = {2025},
}""",
    },
}
