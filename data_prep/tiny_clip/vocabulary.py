"""A byte-pair vocabulary of one's own, as open_clip's tokenizer reads it."""

from __future__ import annotations

import collections
import gzip
import io
import itertools
import re
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch

CONTEXT_LENGTH = 32
VOCABULARY_FILE = "bpe_vocabulary.txt.gz"


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
