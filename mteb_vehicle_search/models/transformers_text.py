"""How a transformers checkpoint wants its texts: one rule for each kind of text tower."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch

from mteb_vehicle_search.errors import ModelLoadError, first_line

TOKENIZER, TOKENIZER_CONFIG, SENTENCEPIECE = "tokenizer.json", "tokenizer_config.json", "spiece.model"
# Shorter than what the checkpoint's tokenizer and positions allow: as the authors' code cuts.
LENGTHS = {"altclip": 77, "chinese_clip": 52}
# Their positions begin after the padding's number.
OFFSET_POSITIONS = ("roberta", "xlm-roberta", "camembert", "altclip_text_model")
ABSURD_LENGTH = 10**6
CANONICALISATIONS = ("authors", "open_clip", "none")
_ASCII_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


class Tokens(NamedTuple):
    """Texts as a tower takes them.

    Attributes:
        ids: int64 [n, length].
        mask: Of the same shape, 1 where a token of the text stands.
        cut: How many texts lost their end.
    """

    ids: torch.Tensor
    mask: torch.Tensor
    cut: int


class TextRule(Protocol):
    """From texts to tokens.

    Attributes:
        length: Tokens at most, special ones included.
        fixed_length: Whether each text is padded to `length`, and the padding is part of what the tower reads.
        masked: Whether the tower is given the mask.
        described: The rule in words, for the record; what it says decides the vectors.
    """

    length: int
    fixed_length: bool
    masked: bool
    described: str

    def __call__(self, texts: list[str]) -> Tokens: ...


class PaddedText:
    """The checkpoint's own tokenizer, padded to the longest text; the mask hides the padding.

    Raises:
        ModelLoadError: It cannot be read without remote code, or has no padding.
    """

    masked = True

    def __init__(self, folder: Path, config: Any) -> None:
        from transformers import AutoTokenizer

        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except Exception as error:  # the library raises whatever it stumbles over
            raise ModelLoadError(f"The tokenizer in {folder} cannot be read: {first_line(error)}.") from error
        if self._tokenizer.pad_token_id is None:
            raise ModelLoadError(f"The tokenizer in {folder} has no padding (pad_token).")
        self.length = _length(self._tokenizer.model_max_length, config)
        # The encode loop drops columns on the right, which must be padding then.
        self.fixed_length = self._tokenizer.padding_side != "right"
        self.described = f"{type(self._tokenizer).__name__}, at most {self.length} tokens"

    def __call__(self, texts: list[str]) -> Tokens:
        """Return tokens padded to the longest text, or to `length` where the padding stands on the left."""
        whole = self._tokenizer(texts, verbose=False)["input_ids"]
        encoded = self._tokenizer(
            texts,
            padding="max_length" if self.fixed_length else "longest",
            truncation=True,
            max_length=self.length,
            return_attention_mask=True,
            return_tensors="pt",
        )
        return Tokens(encoded["input_ids"], encoded["attention_mask"], sum(len(ids) > self.length for ids in whole))


class EndedText:
    """SigLIP's texts: prepared, without a beginning, always with an end, padded to a fixed length that the tower reads.

    Args:
        encode: From prepared texts to their tokens, without special ones.
        prepare: What is done to a text before.
        end, pad: Numbers of the tokens that end a text and fill what is left.
        length: Tokens of each text.
        side: Where the padding stands: right or left.
        described: See `TextRule`.
    """

    fixed_length, masked = True, False

    def __init__(
        self,
        encode: Callable[[list[str]], list[list[int]]],
        prepare: Callable[[str], str],
        *,
        end: int,
        pad: int,
        length: int,
        side: str,
        described: str,
    ) -> None:
        self._encode, self._prepare = encode, prepare
        self._end, self._pad, self.length, self._side = end, pad, length, side
        self.described = f"{described}, {length} tokens, padded on the {side}"

    def __call__(self, texts: list[str]) -> Tokens:
        """Return tokens [n, length] and a mask of ones: the tower reads the padding."""
        encoded = self._encode([self._prepare(text) for text in texts])
        rows = torch.full((len(texts), self.length), self._pad, dtype=torch.int64)
        for row, ids in zip(rows, encoded, strict=True):
            ended = torch.tensor([*ids[: self.length - 1], self._end])
            row[slice(len(ended)) if self._side == "right" else slice(-len(ended), None)] = ended
        return Tokens(rows, torch.ones_like(rows), sum(len(ids) >= self.length for ids in encoded))


def text_rule(folder: Path, config: Any, canonicalise: str | None = None) -> TextRule:
    """Return the rule of a checkpoint, by its model type and what its tokenizer's vocabulary ends texts with.

    Args:
        folder: Of the checkpoint.
        config: As transformers reads it.
        canonicalise: Of SigLIPs: "authors" (default), "open_clip" (lower case, no punctuation) or "none".

    Raises:
        ModelLoadError: The tokenizer is missing, damaged, or of no kind that is known; canonicalise is none of them.
    """
    if config.model_type == "siglip":
        return _siglip(folder, config.text_config.max_position_embeddings, canonicalise or "authors")
    if canonicalise:
        raise ModelLoadError(f"canonicalise={canonicalise!r} is for SigLIP; {folder} holds {config.model_type}.")
    return PaddedText(folder, config)


def _siglip(folder: Path, length: int, canonicalise: str) -> TextRule:
    if canonicalise not in CANONICALISATIONS:
        raise ModelLoadError(
            f"canonicalise={canonicalise!r} is unknown.", f"Choose from {', '.join(CANONICALISATIONS)}."
        )
    if not (folder / TOKENIZER).is_file() and (folder / SENTENCEPIECE).is_file():
        return _unconverted(folder / SENTENCEPIECE, length, canonicalise)
    from tokenizers import Tokenizer

    path = folder / TOKENIZER
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises bare Exception
        raise ModelLoadError(f"{path} is missing or damaged: {first_line(error)}.") from error
    stated = _stated_side(folder, tokenizer)
    tokenizer.no_padding()
    tokenizer.no_truncation()

    def encode(texts: list[str]) -> list[list[int]]:
        return [item.ids for item in tokenizer.encode_batch(texts, add_special_tokens=False)]

    gemma, side = tokenizer.token_to_id("<eos>") is not None, stated or "right"
    end = tokenizer.token_to_id("<eos>" if gemma else "</s>")
    pad = tokenizer.token_to_id("<pad>") if gemma else end
    if end is None or pad is None:
        raise ModelLoadError(f"{path} is neither SigLIP's nor SigLIP 2's tokenizer: it ends no text.")
    prepare, described = _preparation(canonicalise, gemma)
    kind = "Gemma's tokens" if gemma else "T5's tokens"
    described = f"{described}, {kind} without a beginning and with an end"
    return EndedText(encode, prepare, end=end, pad=pad, length=length, side=side, described=described)


def _unconverted(path: Path, length: int, canonicalise: str) -> TextRule:
    """Return the rule of a SigLIP 1 whose vocabulary is there as SentencePiece's own file only."""
    try:
        import sentencepiece  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ModelLoadError(
            f"{path.parent} has no {TOKENIZER}, and reading {path.name} needs the package sentencepiece.",
            "pip install sentencepiece",
        ) from error
    model = sentencepiece.SentencePieceProcessor(model_file=str(path))
    prepare, described = _preparation(canonicalise, gemma=False)
    end, described = model.eos_id(), f"{described}, T5's tokens without a beginning and with an end"
    return EndedText(model.encode, prepare, end=end, pad=end, length=length, side="right", described=described)


def _preparation(canonicalise: str, gemma: bool) -> tuple[Callable[[str], str], str]:
    if canonicalise == "none":
        return str, "as they are"
    if canonicalise == "open_clip":
        from open_clip.tokenizer import get_clean_fn

        return get_clean_fn("canonicalize"), "open_clip's canonicalisation (lower case, no punctuation)"
    return (ascii_lower, "lower case (ASCII)") if gemma else (lower_without_punctuation, "lower case, no punctuation")


def ascii_lower(text: str) -> str:
    """Return the text as SigLIP 2's authors prepare it: TensorFlow's `strings.lower` touches A to Z only."""
    return text.translate(_ASCII_LOWER)


def lower_without_punctuation(text: str) -> str:
    """Return the text as SigLIP's tokenizer in transformers canonicalises it: lower case, no ASCII punctuation."""
    return re.sub(r"\s+", " ", text.lower().translate(_NO_PUNCTUATION)).strip()


def _stated_side(folder: Path, tokenizer: Any) -> str | None:
    """Return on which side the checkpoint pads, or None if it does not say."""
    path = folder / TOKENIZER_CONFIG
    try:
        beside = json.loads(path.read_text(encoding="utf-8")).get("padding_side")
    except (OSError, ValueError, AttributeError) as error:
        raise ModelLoadError(f"{path} is missing or damaged: {error}.") from error
    within = (tokenizer.padding or {}).get("direction")
    if beside and within and beside != within:
        raise ModelLoadError(f"{path} pads on the {beside}, {TOKENIZER} beside it on the {within}.")
    side = beside or within
    if side not in (None, "left", "right"):
        raise ModelLoadError(f"{path} pads on the side {side!r}.")
    return side


def _length(own: int, config: Any) -> int:
    """Return how many tokens a tower takes: the least of what tokenizer, positions and authors allow."""
    text = getattr(config, "text_config", config)
    positions = int(getattr(text, "max_position_embeddings", 0) or ABSURD_LENGTH)
    if text.model_type in OFFSET_POSITIONS:
        positions -= int(text.pad_token_id or 0) + 1
    return min(own, positions, LENGTHS.get(config.model_type, ABSURD_LENGTH))
