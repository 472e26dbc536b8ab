"""SentenceEncoder: a sentence-transformers model of images and texts, by the library's own `encode`, checked."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from mteb.models.abs_encoder import AbsEncoder
from mteb.types import PromptType

from mteb_vehicle_search.errors import EncodeError, ModelLoadError
from mteb_vehicle_search.exactness import exact_arithmetic
from mteb_vehicle_search.models.checkpoint import Checkpoint
from mteb_vehicle_search.models.devices import DTYPES, choose_devices, choose_precision
from mteb_vehicle_search.models.handover import read_batches
from mteb_vehicle_search.models.layouts import SENTENCE
from mteb_vehicle_search.models.located import LocatedEncoder
from mteb_vehicle_search.models.transformers_dual import load_strictly
from mteb_vehicle_search.models.transformers_text import ABSURD_LENGTH


class SentenceEncoder(LocatedEncoder, AbsEncoder):
    """A sentence-transformers folder that embeds images and texts: its CLIPModel, or a multimodal Transformer.

    Args:
        model_name, revision: Name on the hub and full commit hash, or whatever names a local one. The name may say
            where the model lies, as a path or as `hf-hub:OWNER/NAME[@REVISION]`; the revision is then found out.
        device: As mteb passes it; of several, the first is used.
        folder: A local model folder, instead of the hub.
        licence: Of the model, told when it cannot be downloaded.
        precision: fp32, bf16 or fp16, whatever the environment says.

    Raises:
        ModelLoadError: The folder is not of sentence-transformers, needs remote code, holds pickled weights, or is of a
            model that gives no single vectors to be compared by their cosine.
    """

    def __init__(
        self,
        model_name: str,
        revision: str | None = None,
        device: str | int | None = None,
        *,
        folder: str | Path | None = None,
        licence: str = "",
        precision: str | None = None,
    ) -> None:
        found = self.locate(SENTENCE, model_name, revision, folder, licence=licence)
        self.model_name, self.revision = found.name, found.revision
        self.device = choose_devices(device)[0]
        self.precision = choose_precision(self.device, precision)
        self._loaded: Any = None
        self._texts: dict[str, int] = {}

    @property
    def sentence_transformer(self) -> Any:
        """The library's model, loaded on first use.

        Raises:
            ModelLoadError: It does not load, lacks weights, or embeds no images or no texts.
        """
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded

    def _load(self) -> Any:
        from sentence_transformers import SentenceTransformer

        dtype = DTYPES[self.precision]
        with self.reading() as folder:
            try:
                model = SentenceTransformer(
                    str(folder),
                    device=str(self.device),
                    trust_remote_code=False,
                    local_files_only=True,
                    model_kwargs={"use_safetensors": True, "dtype": dtype},
                )
            except Exception as error:  # the library raises whatever it stumbles over
                raise ModelLoadError(f"{folder} is not loaded by sentence-transformers: {error}.") from error
            if lacking := [kind for kind in ("image", "text") if not model.supports(kind)]:
                embeds = ", ".join(str(one) for one in model.modalities)
                raise ModelLoadError(
                    f"{self.model_name} embeds {embeds}, and no {lacking[0]}s; image search takes a model of both."
                )
            _require_all_weights(model, [folder / name for name in self.found.layout.weights], dtype)
        return model.eval()

    def encode(
        self, inputs: Any, *, prompt_type: PromptType | None = None, batch_size: int = 32, **kwargs: Any
    ) -> torch.Tensor:
        """Return float32 [n, d] on the CPU, L2-normalised, in the order of `inputs`.

        Args:
            inputs: mteb's DataLoader of `image` or `text` batches.
            prompt_type: Whether these are queries or documents, which some models embed otherwise.
            batch_size: Inputs in a forward pass.

        Raises:
            EncodeError: Inputs are neither; the model gives something else than a vector for each.
        """
        model = self.sentence_transformer
        encode = model.encode_query if prompt_type == PromptType.query else model.encode_document
        vectors, texts = [], []
        with torch.inference_mode(), exact_arithmetic():
            for kind, items in read_batches(inputs):
                # A text that is an address, or names a file, would be fetched.
                asked = items if kind == "image" else [{"text": text} for text in items]
                texts += items if kind == "text" else []
                found = encode(asked, batch_size=batch_size, convert_to_tensor=True, show_progress_bar=False)
                if not isinstance(found, torch.Tensor) or found.ndim != 2 or len(found) != len(items):
                    shape = list(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
                    given = f"{self.model_name} gives {shape} for {len(items)} inputs"
                    raise EncodeError(f"{given}; our search takes one vector for each.")
                vectors.append(torch.nn.functional.normalize(found.float(), dim=1).cpu())
        if texts:
            prompt = model.prompts.get("query") if prompt_type == PromptType.query else None
            self._texts = _told_of_texts(model, [f"{prompt or ''}{text}" for text in texts])
        return torch.cat(vectors)

    def describe(self) -> dict[str, Any]:
        """Return how this encoder works, for the run record."""
        how = {"device": str(self.device), "precision": self.precision, "library": "sentence-transformers"}
        return {**how, **self._texts}

    def fingerprint(self) -> str:
        """Return a digest of what decides the vectors."""
        what = [self.model_name, self.revision, self.precision, self.device.type, self.weights_id()]
        return hashlib.sha256(json.dumps(what).encode()).hexdigest()


def _told_of_texts(model: Any, texts: list[str]) -> dict[str, int]:
    """Return how many texts the library cuts, as `ImageTextEncoder` tells it; nothing where that cannot be seen."""
    from transformers import PreTrainedTokenizerBase

    tokenizer, limit = model.tokenizer, model.max_seq_length
    # A chat template puts words of its own around a text.
    plain = isinstance(tokenizer, PreTrainedTokenizerBase) and "message" not in model[0].modality_config
    if not plain or not limit or limit >= ABSURD_LENGTH:
        return {}
    cut = sum(len(ids) > limit for ids in tokenizer(texts, verbose=False)["input_ids"])
    return {"context_tokens": limit, "texts": len(texts), "texts_cut": cut}


def _require_all_weights(model: Any, paths: list[Path], dtype: torch.dtype) -> None:
    """Refuse a checkpoint that lacks weights, which the library would fill with random numbers without a word."""
    own = model.transformers_model
    if own is None:
        return
    # Those of the first module, which it is; the library itself refuses the others' where something is missing.
    first = [path for path in paths if path.parent == paths[0].parent]
    if Checkpoint(*first, local=True).shapes == {key: tuple(value.shape) for key, value in own.state_dict().items()}:
        return
    # Names of older versions, tied weights: transformers itself knows, and tells when it loads them once more.
    load_strictly(type(own), paths[0].parent, [path.name for path in first], dtype=dtype)
