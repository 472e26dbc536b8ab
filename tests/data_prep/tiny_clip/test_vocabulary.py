"""The vocabulary is byte-pair encoding as it is described, in the form that open_clip reads."""

from __future__ import annotations

import gzip
import itertools
import re
from collections import Counter
from pathlib import Path
from typing import Any

import open_clip
import open_clip.tokenizer
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import mteb_vehicle_search
from data_prep.sources.drawn.mini import mini_scenes
from data_prep.sources.drawn.phrases import captions
from data_prep.tiny_clip import vocabulary as bpe_vocabulary
from data_prep.tiny_clip.scenes import pool_scenes
from data_prep.tiny_clip.train import Training
from data_prep.tiny_clip.vocabulary import (
    CONTEXT_LENGTH,
    VOCABULARY_FILE,
    tokenize,
    tokenizer_files,
    train_vocabulary,
    vocabulary_size,
)

TINY_CLIP = Path(mteb_vehicle_search.__file__).parent / "models" / "tiny_clip"
WORDS = st.text("ab", min_size=1, max_size=5)
TEXTS = st.lists(st.lists(WORDS, max_size=4).map(" ".join), max_size=6)


def merges_of(vocabulary: bytes) -> list[str]:
    first, *lines = gzip.decompress(vocabulary).decode().split("\n")
    assert first == "#version: drawn scenes"  # The reader skips this line, whatever it says.
    return lines


def plain_byte_pairs(texts: list[str], merges: int) -> list[str]:
    """The algorithm as published: words as symbols with blanks between them, the commonest pair replaced by a regex."""
    words = Counter(word for text in texts for word in text.split())
    spelt = {" ".join(word) + "</w>": count for word, count in words.items()}
    learned = []
    for _ in range(merges):
        pairs: Counter[tuple[str, str]] = Counter()
        for symbols, count in spelt.items():
            split = symbols.split()
            for pair in itertools.pairwise(split):
                pairs[pair] += count
        if not pairs:
            break
        commonest = sorted(pair for pair in pairs if pairs[pair] == max(pairs.values()))[0]
        learned.append(" ".join(commonest))
        found = re.compile(r"(?<!\S)" + re.escape(" ".join(commonest)) + r"(?!\S)")
        spelt = {found.sub("".join(commonest), symbols): count for symbols, count in spelt.items()}
    return learned


@settings(deadline=None, max_examples=40, derandomize=True)
@given(TEXTS, st.integers(0, 12))
def test_merges_are_those_of_the_published_algorithm(texts, merges):
    assert merges_of(train_vocabulary(texts, merges)) == plain_byte_pairs(texts, merges)


def test_words_are_runs_of_letters_in_any_case_and_count_as_often_as_they_stand():
    assert merges_of(train_vocabulary(["A-Bus 12bus,", "BUS!", "cab's"], 3)) == ["b u", "bu s</w>", "a b</w>"]
    # Thrice "ab" is more than once "ba", which comes first in no order of the words.
    assert merges_of(train_vocabulary(["ba ab ab ab"], 1)) == ["a b</w>"]
    assert merges_of(train_vocabulary(["zy zy ab"], 1)) == ["z y</w>"]


def test_training_ends_when_every_word_is_one_symbol():
    assert merges_of(train_vocabulary(["abab"], 100)) == ["a b", "a b</w>", "ab ab</w>"]
    assert merges_of(train_vocabulary([], 100)) == []


def test_the_file_depends_on_nothing_but_the_texts():
    """Neither the time nor a name is in the header of the gzip file, nor does the order of the texts matter."""
    vocabulary = train_vocabulary(["a red bus", "the blue car"], 5)
    assert vocabulary == train_vocabulary(["the blue car", "a red bus"], 5)
    assert vocabulary[:3] == b"\x1f\x8b\x08"
    assert vocabulary[3] == 0  # No name.
    assert vocabulary[4:8] == bytes(4)  # No time.


def test_names_and_sizes_are_those_of_the_shipped_model():
    assert VOCABULARY_FILE == "bpe_vocabulary.txt.gz"
    assert CONTEXT_LENGTH == 32
    assert (TINY_CLIP / VOCABULARY_FILE).is_file()


@pytest.mark.parametrize("merges", [0, 1, 7])
def test_open_clip_counts_as_many_tokens(tmp_path, merges):
    vocabulary = train_vocabulary(["a red bus near the old house"], merges)
    (tmp_path / "v.txt.gz").write_bytes(vocabulary)
    tokenizer = open_clip.tokenizer.SimpleTokenizer(str(tmp_path / "v.txt.gz"))
    assert vocabulary_size(vocabulary) == tokenizer.vocab_size == 514 + merges


def test_texts_are_cut_or_filled_to_32_tokens_and_can_be_read_back():
    vocabulary = train_vocabulary(["a red bus"] * 3, 20)
    size = vocabulary_size(vocabulary)
    tokens = tokenize(vocabulary, ["A red bus", "bus " * 50])
    assert (tokens.dtype, tokens.shape) == (torch.int64, (2, 32))
    assert tokens[0].tolist()[:5] == [size - 2, *tokens[0, 1:4].tolist(), size - 1]
    assert tokens[0, 5:].eq(0).all()
    assert (tokens[1, 0], tokens[1, -1]) == (size - 2, size - 1)
    assert int(tokens[1].ne(0).sum()) == 32


def test_the_shipped_vocabulary_is_what_the_captions_give():
    seed = Training.seed
    texts = [text for n, scene in enumerate(pool_scenes(seed, 4000)) for text in captions(scene, f"{seed}/{n}")]
    assert merges_of(train_vocabulary(texts, 400)) == merges_of((TINY_CLIP / VOCABULARY_FILE).read_bytes())


def test_each_vocabulary_has_its_own_tokenizer_which_is_made_once(monkeypatch):
    made = []
    original = open_clip.tokenizer.SimpleTokenizer

    def counted(path, **options):
        made.append((Path(path).name, options))
        return original(path, **options)

    monkeypatch.setattr(open_clip.tokenizer, "SimpleTokenizer", counted)
    bpe_vocabulary._tokenizer.cache_clear()
    one, other = train_vocabulary(["a red bus"], 9), train_vocabulary(["the blue car"], 9)
    red = [tokenize(vocabulary, ["a red bus"]) for vocabulary in (one, other, one, other)]
    assert torch.equal(red[0], red[2])
    assert torch.equal(red[1], red[3])
    assert int(red[0].ne(0).sum()) < int(red[1].ne(0).sum())
    assert made == [(VOCABULARY_FILE, {"context_length": 32})] * 2


def test_captions_of_mini_fit_in_the_shipped_model() -> None:
    vocabulary = TINY_CLIP / VOCABULARY_FILE
    tokenizer = open_clip.get_tokenizer(f"local-dir:{TINY_CLIP}", bpe_path=str(vocabulary))
    texts = [text for named in mini_scenes() for text in named.captions]
    tokens = tokenizer(texts)
    assert torch.equal(tokens, tokenize(vocabulary.read_bytes(), texts))
    assert int((tokens != 0).sum(dim=1).max()) < tokens.shape[1], "a caption does not fit in the context"


@pytest.fixture(scope="module")
def in_plain_open_clip() -> Any:
    return open_clip.get_tokenizer(f"local-dir:{TINY_CLIP}")


def test_the_shipped_tokenizer_is_the_shipped_vocabulary() -> None:
    for name, content in tokenizer_files((TINY_CLIP / VOCABULARY_FILE).read_bytes()).items():
        assert (TINY_CLIP / name).read_bytes() == content, name


def test_plain_open_clip_reads_every_mini_caption_as_we_do(in_plain_open_clip: Any) -> None:
    texts = [text for named in mini_scenes() for text in named.captions]
    assert len(texts) > 500
    found = in_plain_open_clip(texts)
    assert torch.equal(found, tokenize((TINY_CLIP / VOCABULARY_FILE).read_bytes(), texts))
    # The padding is open_clip's 0, and the last token of a text its end: the largest number, where it reads the vector.
    assert found[:, -1].unique().tolist() == [0]
    assert (found.max(dim=1).values == 899).all()


@settings(deadline=None, max_examples=300, derandomize=True)
@given(
    st.lists(
        st.one_of(
            st.text(st.characters(max_codepoint=0x2FF)),
            st.text(st.sampled_from("aZ !'slEé5_<\n½٣ß"), max_size=80),
            st.lists(st.sampled_from(["a car", "!!", "<PAD>", "<start_of_text>", "<end_of_text>", "It's"])).map(
                " ".join
            ),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_plain_open_clip_reads_any_text_as_we_do(in_plain_open_clip: Any, texts: list[str]) -> None:
    own = tokenize((TINY_CLIP / VOCABULARY_FILE).read_bytes(), texts)
    assert torch.equal(in_plain_open_clip(texts), own)


def test_the_shipped_folder_loads_in_plain_open_clip_as_it_stands() -> None:
    folder = f"local-dir:{TINY_CLIP}"
    model, _, preprocess = open_clip.create_model_and_transforms(folder)
    image = Image.new("RGB", (120, 90), (200, 30, 30))
    with torch.inference_mode():
        vector = model.encode_image(preprocess(image)[None])
        text = model.encode_text(open_clip.get_tokenizer(folder)(["a red car"]))
    assert vector.shape == text.shape == (1, 128)
