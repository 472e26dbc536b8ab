"""What kind of model lies in a folder or a repository, told by its files; nothing of it is loaded.

What a `Layout` names is all that a model consists of: that is fetched, hashed and loaded, and nothing else. What cannot
be loaded so is refused here.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any, NamedTuple

from mteb_vehicle_search.errors import ModelLoadError
from mteb_vehicle_search.models.listing import PICKLES, Listing

OPEN_CLIP, TRANSFORMERS, SENTENCE = "open_clip", "transformers", "sentence-transformers"
OPEN_CLIP_CONFIG, MODULES, CONFIG = "open_clip_config.json", "modules.json", "config.json"
# Any of them makes a folder one that holds a model.
CONFIGS = (OPEN_CLIP_CONFIG, MODULES, CONFIG)
# In open_clip's own order; a shard is named in the index.
OPEN_CLIP_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "model.safetensors")
# The only name that transformers and sentence-transformers know.
WEIGHTS = "model.safetensors"
INDEX = ".index.json"
# What decides vectors beside weights and configuration.
TOKENIZER_FILES = frozenset(
    (
        *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
        *("vocab.json", "vocab.txt", "merges.txt"),
        *("spiece.model", "sentencepiece.bpe.model", "tokenizer.model"),
    )
)
PREPROCESSING = frozenset(("preprocessor_config.json", "processor_config.json", "chat_template.jinja"))
OF_SENTENCES = "config_sentence_transformers.json"
SENTENCE_FILES = frozenset((MODULES, CONFIG, OF_SENTENCES, "chat_template.json"))

# Model types with both methods that are no dual encoders of one image and one text in one space.
REFUSED_TYPES = {
    "siglip2": "it takes images of any shape (NaFlex), which are not offered; the SigLIP 2 models of a fixed "
    "resolution are of the type siglip",
    "blip-2": "it gives several vectors for an image",
    "flava": "it gives a vector for each part of an image and a text",
    "owlvit": "it is a detector",
    "owlv2": "it is a detector",
}
# What sentence-transformers calls its models that give something else than one vector for each input.
REFUSED_KINDS = {
    "MultiVectorEncoder": "a vector for each token",
    "ColBERT": "a vector for each token",
    "SparseEncoder": "a sparse vector of words",
    "CrossEncoder": "no vectors",
}
# They keep models in folders below their own.
ROUTERS = ("Router", "Asym")
OF_THE_LIBRARY = "sentence_transformers."


Weights = tuple[tuple[str, ...], tuple[str, ...]]


class Layout(NamedTuple):
    """A model as it lies there.

    Attributes:
        kind: One of `OPEN_CLIP`, `TRANSFORMERS`, `SENTENCE`.
        weights: Names of its weights files, relative to the folder; of the first module of several first.
        others: Names of the other files that decide its vectors.
        config: What its configuration says.
    """

    kind: str
    weights: tuple[str, ...]
    others: tuple[str, ...]
    config: dict[str, Any]


def layout_of_files(files: Listing) -> Layout:
    """Return how the model lies there that its files are.

    Raises:
        ModelLoadError: There is no image-text model of a kind that is known, its weights are no safetensors, or it is
            of those that cannot be run.
    """
    if OPEN_CLIP_CONFIG in files.names:
        return _open_clip(files)
    if MODULES in files.names:
        return _sentence(files)
    if CONFIG in files.names:
        return _transformers(files)
    if pickles := sorted(name for name in files.names if PurePosixPath(name).suffix in PICKLES):
        said = f"{files.where} holds no model but checkpoints; "
        raise ModelLoadError(said + files.to_convert(pickles[-1], arch="NAME"))
    raise ModelLoadError(f"{files.where} holds no model: there is no {', '.join(CONFIGS[:-1])} or {CONFIG}.")


def _open_clip(files: Listing) -> Layout:
    config = files.object(OPEN_CLIP_CONFIG)
    text = config.get("model_cfg", {}).get("text_cfg", {}) if isinstance(config.get("model_cfg"), dict) else {}
    others = [OPEN_CLIP_CONFIG]
    if isinstance(text, dict) and "hf_tokenizer_name" in text:
        others += sorted(TOKENIZER_FILES & files.names)
    weights, index = _weights(files, OPEN_CLIP_WEIGHTS, any_name=True)
    if not weights:
        raise files.no_weights("open_clip")
    return Layout(OPEN_CLIP, weights, (*others, *index), config)


def _transformers(files: Listing) -> Layout:
    from transformers import CONFIG_MAPPING

    config = files.object(CONFIG)
    kind = config.get("model_type")
    if not isinstance(kind, str):
        what = "an image tower of timm's" if "pretrained_cfg" in config else f"a {CONFIG} without a model_type"
        raise ModelLoadError(f"{files.where} is no image-text model: it holds {what}.")
    if kind not in CONFIG_MAPPING:
        own = "its own code, which is never run" if "auto_map" in config else "a later version of it, or its own code"
        raise ModelLoadError(f"{files.where}: the installed transformers has no model type {kind!r}; it needs {own}.")
    if kind in REFUSED_TYPES:
        raise ModelLoadError(f"{files.where}: a model of type {kind} cannot be run here: {REFUSED_TYPES[kind]}.")
    if not gives_both_features(kind):
        raise ModelLoadError(
            f"{files.where} is no dual encoder of transformers: its model_type is {kind!r}, which gives no "
            "features of images and of texts."
        )
    _require_plain(files)
    weights, index = _weights(files, (WEIGHTS,))
    if not weights:
        raise files.no_weights("transformers")
    others = (CONFIG, *index, *sorted((TOKENIZER_FILES | PREPROCESSING) & files.names))
    return Layout(TRANSFORMERS, weights, others, config)


def gives_both_features(model_type: str) -> bool:
    """Tell whether transformers' model of this type has `get_image_features` and `get_text_features`."""
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

    names = MODEL_MAPPING_NAMES.get(model_type, ())
    for name in (names,) if isinstance(names, str) else names:
        try:
            model = getattr(transformers, name)
            if callable(model.get_image_features) and callable(model.get_text_features):
                return True
        except (AttributeError, ImportError):  # some need packages that are not installed
            continue
    return False


def _require_plain(files: Listing, prefix: str = "") -> None:
    """Refuse what transformers would load beside the weights of a folder, or in their place."""
    config = files.object(f"{prefix}{CONFIG}") if f"{prefix}{CONFIG}" in files.names else {}
    if "transformers_weights" in config:
        raise ModelLoadError(
            f"{files.where}: {prefix}{CONFIG} names weights of its own (transformers_weights).",
            f"Call that file {WEIGHTS}, and take the line out.",
        )
    if "quantization_config" in config:
        raise ModelLoadError(
            f"{files.where}: quantised weights are not offered.", "Save the model in fp32, bf16 or fp16."
        )
    if f"{prefix}adapter_config.json" in files.names:
        raise ModelLoadError(
            f"{files.where} holds an adapter, not a whole model.", "Merge it into its model and save that."
        )


def _sentence(files: Listing) -> Layout:
    modules = files.json(MODULES)
    if not isinstance(modules, list) or not all(
        isinstance(one, dict) and {"type", "path"} <= set(one) for one in modules
    ):
        raise ModelLoadError(f"{files.where}: {MODULES} is damaged: it is no list of modules.")
    config = files.object(OF_SENTENCES) if OF_SENTENCES in files.names else {}
    types, folders = [str(one["type"]) for one in modules], [str(one["path"]) for one in modules]
    _require_single_vectors(files.where, config, types)
    if wrong := [one for one in folders if one != PurePosixPath(one).name or "\\" in one or one == ".."]:
        raise ModelLoadError(f"{files.where}: {MODULES} names the folder {wrong[0]!r}, which does not lie beside it.")
    if not modules or not _embeds_images(files, types[0], folders[0]):
        raise ModelLoadError(f"{files.where} embeds no images: it is a text model of sentence-transformers.")
    weights, others = [], []
    for folder in dict.fromkeys(folders):
        _require_plain(files, f"{folder}/" if folder else "")
        found, index = _weights(files, (WEIGHTS,), folder)
        # The library would take a pickle where there is nothing else.
        if not found and (folder == folders[0] or files.pickles(folder)):
            raise files.no_weights("sentence_transformers", folder)
        weights += found
        others += index
    others += [name for folder in {"", *folders} for name in files.inside(folder) if _decides(name.rpartition("/")[2])]
    return Layout(SENTENCE, tuple(weights), tuple(sorted(others)), config)


def _require_single_vectors(where: str, config: dict[str, Any], types: list[str]) -> None:
    """Refuse a model of sentence-transformers that gives no single vectors to be compared by their cosine."""
    kind = str(config.get("model_type", "SentenceTransformer"))
    if any("MultiVector" in one or one.startswith("pylate.") for one in types):
        kind = "MultiVectorEncoder"
    if kind != "SentenceTransformer":
        gives = f", which gives {REFUSED_KINDS[kind]}" if kind in REFUSED_KINDS else ""
        raise ModelLoadError(
            f"{where} is a {kind} of sentence-transformers{gives}; image search takes one vector for each image and "
            "each text."
        )
    if foreign := [one for one in types if not one.startswith(OF_THE_LIBRARY)]:
        raise ModelLoadError(
            f"{where}: {foreign[0]} in {MODULES} is not the library's; code that comes with a model is never run."
        )
    if router := [one for one in types if one.rpartition(".")[2] in ROUTERS]:
        raise ModelLoadError(
            f"{where}: a {router[0].rpartition('.')[2]} of sentence-transformers, which leads images and texts to "
            "models of their own, is not offered.",
            "mteb_vehicle_search.from_functions(image=…, text=…, name=…) evaluates any model.",
        )
    if (similarity := config.get("similarity_fn_name")) not in (None, "cosine"):
        raise ModelLoadError(
            f"{where}: {OF_SENTENCES} compares vectors by {similarity!r}; here they are compared by cosine."
        )


def _embeds_images(files: Listing, type_: str, folder: str) -> bool:
    """Tell whether the module that takes the inputs knows images."""
    kind = type_.rpartition(".")[2]
    if kind != "Transformer":
        return kind == "CLIPModel"
    prefix = f"{folder}/" if folder else ""
    if (name := f"{prefix}sentence_bert_config.json") in files.names:
        modalities = files.object(name).get("modality_config")
        if isinstance(modalities, dict) and modalities:
            return "image" in modalities
    name = f"{prefix}{CONFIG}"
    return name in files.names and "vision_config" in files.object(name)


def _decides(name: str) -> bool:
    """Tell whether a file of this name in the folder of a module decides vectors: each kind has one of its own."""
    return name in SENTENCE_FILES | TOKENIZER_FILES | PREPROCESSING or name.endswith("_config.json")


def _weights(files: Listing, preferred: tuple[str, ...], folder: str = "", *, any_name: bool = False) -> Weights:
    """Return the safetensors files of the model in a folder, none if there are none, and the index that names them.

    Args:
        files: All files.
        preferred: Names, the first first.
        folder: Where.
        any_name: Whether a single file may have another name.

    Raises:
        ModelLoadError: A shard is missing, or several files could be meant, or the only one has no name to be found by.
    """
    prefix = f"{folder}/" if folder else ""
    for name in preferred:
        if f"{prefix}{name}" in files.names:
            return (f"{prefix}{name}",), ()
        if f"{prefix}{name}{INDEX}" in files.names:
            return _shards(files, f"{prefix}{name}{INDEX}", prefix), (f"{prefix}{name}{INDEX}",)
    rest = [name for name in files.inside(folder) if name.endswith(".safetensors")]
    if len(rest) > any_name:
        raise ModelLoadError(
            f"{files.where} holds weights of no name to choose by: {', '.join(rest[:4])}"
            f"{', …' if len(rest) > 4 else ''}.",
            f"Name the right one {preferred[0]}.",
        )
    return tuple(rest), ()


def _shards(files: Listing, index: str, prefix: str) -> tuple[str, ...]:
    try:
        shards = sorted({str(name) for name in files.object(index)["weight_map"].values()})
    except (KeyError, AttributeError, TypeError) as error:
        raise ModelLoadError(f"{files.where}: {index} is damaged: it has no weight_map.") from error
    # What lies elsewhere no digest would cover.
    if wrong := [name for name in shards if "/" in name or "\\" in name or not name.endswith(".safetensors")]:
        raise ModelLoadError(f"{files.where}: {index} names {wrong[0]!r}, which is no safetensors file beside it.")
    if missing := [name for name in shards if f"{prefix}{name}" not in files.names]:
        raise ModelLoadError(f"{files.where}: {missing[0]} is missing, which {index} names.")
    return tuple(f"{prefix}{name}" for name in shards)
