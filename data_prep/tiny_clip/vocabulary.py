"""A byte-pair vocabulary of one's own, as open_clip's tokenizer reads it."""

from __future__ import annotations

import collections
import gzip
import io
import itertools
import json
import re
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch

CONTEXT_LENGTH = 32
VOCABULARY_FILE = "bpe_vocabulary.txt.gz"
START, END, PADDING = "<start_of_text>", "<end_of_text>", "<PAD>"
# What open_clip takes for a word.
WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"
# Of a configuration's `text_cfg`.
TOKENIZER_CONFIG = {"hf_tokenizer_name": "vehicle-search/tiny-clip", "tokenizer_kwargs": {"clean": "lower"}}


def train_vocabulary(texts: list[str], merges: int) -> bytes:
    """Return a byte-pair vocabulary in the gzip format that open_clip's `SimpleTokenizer` reads.

    Merges the commonest neighbouring pair of symbols again and again (Sennrich et al., "Neural machine translation of
    rare words with subword units", 2016); equally common pairs in alphabetical order.
    """
    counts = collections.Counter(word for text in texts for word in re.findall(r"[a-z]+", text.lower()))
    words = {word: (*word[:-1], word[-1] + "</w>") for word in sorted(counts)}
    learned: list[tuple[str, str]] = []
    while len(learned) < merges:
        pairs: collections.Counter[tuple[str, str]] = collections.Counter()
        for word, symbols in words.items():
            for pair in itertools.pairwise(symbols):
                pairs[pair] += counts[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        learned.append(best)
        words = {word: _merge(symbols, best) for word, symbols in words.items()}
    # The reader skips the first line and would take an empty last one for a merge.
    lines = "\n".join(["#version: drawn scenes", *(" ".join(pair) for pair in learned)])
    file = io.BytesIO()
    with gzip.GzipFile("", "wb", mtime=0, fileobj=file) as zipped:
        zipped.write(lines.encode())
    return file.getvalue()


def _merge(symbols: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    merged: list[str] = []
    place = 0
    while place < len(symbols):
        if symbols[place : place + 2] == pair:
            merged.append(pair[0] + pair[1])
            place += 2
        else:
            merged.append(symbols[place])
            place += 1
    return tuple(merged)


def vocabulary_size(vocabulary: bytes) -> int:
    """Return the number of tokens: 256 bytes, the same at a word's end, the merges, start and end of text."""
    return 512 + len(gzip.decompress(vocabulary).decode().split("\n")) - 1 + 2


def tokenizer_files(vocabulary: bytes) -> dict[str, bytes]:
    """Return the same vocabulary as files by name that a tokenizer of transformers reads, to the same tokens.

    A configuration of open_clip can name no vocabulary file of its own, but it can say that transformers' tokenizer of
    its folder is meant. It expects the text in lower case, which the configuration says as well (`TOKENIZER_CONFIG`).
    """
    from open_clip.tokenizer import bytes_to_unicode

    symbols = list(bytes_to_unicode().values())
    merges = [line.split() for line in gzip.decompress(vocabulary).decode().split("\n")[1:]]
    entries = [*symbols, *(symbol + "</w>" for symbol in symbols), *("".join(merge) for merge in merges), START, END]
    numbers = {entry: number for number, entry in enumerate(entries)}
    # open_clip pads with 0, which is an ordinary symbol. A second name, which no text in lower case has, stands for it.
    numbers[PADDING] = 0
    special = [
        {"id": numbers[text], "content": text, "special": True}
        | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        for text in (PADDING, START, END)
    ]
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": WORDS}, "behavior": "Removed", "invert": True},
                {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
            ],
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [_special(START), {"Sequence": {"id": "A", "type_id": 0}}, _special(END)],
            "pair": [],
            "special_tokens": {text: {"id": text, "ids": [numbers[text]], "tokens": [text]} for text in (START, END)},
        },
        "decoder": None,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "</w>",
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": numbers,
            "merges": merges,
        },
    }
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": CONTEXT_LENGTH,
        **{"bos_token": START, "eos_token": END, "pad_token": PADDING},
        "padding_side": "right",
        "clean_up_tokenization_spaces": False,
    }
    return {
        name: f"{json.dumps(value, indent=1, ensure_ascii=False)}\n".encode()
        for name, value in (("tokenizer.json", content), ("tokenizer_config.json", settings))
    }


def _special(text: str) -> dict[str, Any]:
    return {"SpecialToken": {"id": text, "type_id": 0}}


def tokenize(vocabulary: bytes, texts: list[str]) -> torch.Tensor:
    """Return open_clip's tokens of the texts, int64 [n, context length]."""
    return _tokenizer(vocabulary)(texts)


@cache
def _tokenizer(vocabulary: bytes) -> Any:
    from open_clip.tokenizer import SimpleTokenizer

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / VOCABULARY_FILE
        file.write_bytes(vocabulary)
        return SimpleTokenizer(str(file), context_length=CONTEXT_LENGTH)
