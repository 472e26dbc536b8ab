"""Which images a rule keeps, the lists that say so, and how a selection compares with the published one."""

from __future__ import annotations

import hashlib
import io
import urllib.request
from urllib.error import URLError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.preset import Selection
from data_prep.stages import select as selection
from mteb_vehicle_search.errors import BuildError, SourceError

SCORES = st.dictionaries(st.text("abc", max_size=3), st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), max_size=12)


@given(SCORES, st.sampled_from([0.0, 0.25, 0.5, 0.6]))
def test_a_threshold_keeps_what_is_above_it_by_id(scores, threshold):
    kept = selection.apply_rule(list(scores.items()), Selection("c", threshold=threshold))
    assert list(kept.items()) == sorted((name, score) for name, score in scores.items() if score > threshold)


@given(SCORES, st.sampled_from([0.01, 0.1, 0.3, 0.5, 0.9, 1.0]))
def test_a_share_keeps_the_best_and_decides_equal_scores_by_id(scores, share):
    kept = selection.apply_rule(list(scores.items())[::-1], Selection("c", share=share))
    best = sorted(scores, key=lambda name: (-scores[name], name))[: round(share * len(scores))]
    assert list(kept.items()) == [(name, scores[name]) for name in sorted(best)]


def test_a_digest_is_of_file_names_in_the_order_of_their_bytes():
    found = selection.selection_digest(["flickr30k/10", "flickr30k/9", "other/1ü"])
    assert found == hashlib.sha256("10.jpg\n1ü.jpg\n9.jpg\n".encode()).hexdigest()
    assert selection.selection_digest([]) == hashlib.sha256(b"").hexdigest()


def test_the_published_list_is_pinned():
    """Its address holds a commit, so that it cannot become another file."""
    assert selection.PUBLISHED_URL == (
        "https://raw.githubusercontent.com/lukemerrick/vehicle-image-search-eval/"
        "5320e45153c783bbae0e810a553ed379ae5f45ff/vehicle_image_search/qrels.csv"
    )
    assert selection.PUBLISHED_SHA256 == "f4e4c1d3122ac1894b5a2b4a8b3eb0c99ec455f1834dbcd53e24452867dc8c59"
    assert selection.PUBLISHED_BYTES == 413_446


@pytest.fixture
def published(monkeypatch):
    """A stand-in for the published list; returns its content and the requests for it."""
    content, asked = b"query_id,document_id\nq,1.jpg\n", []

    def urlopen(url: str, timeout: float) -> io.BytesIO:
        asked.append((url, timeout))
        return io.BytesIO(served[0])

    served = [content]
    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    monkeypatch.setattr(selection, "PUBLISHED_SHA256", hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(selection, "PUBLISHED_BYTES", len(content))
    return served, asked


def test_the_published_list_is_downloaded_once_and_checked(published, tmp_path):
    (content,), asked = published
    path = selection.published_file(tmp_path)
    assert path == tmp_path / "published.csv"
    assert path.read_bytes() == content
    assert [item.name for item in tmp_path.iterdir()] == ["published.csv"]
    assert selection.published_file(tmp_path) == path
    assert asked == [(selection.PUBLISHED_URL, 60)]


def test_a_damaged_copy_of_the_published_list_is_downloaded_again(published, tmp_path):
    (content,), asked = published
    (tmp_path / "published.csv").write_bytes(content[:-1])
    assert selection.published_file(tmp_path).read_bytes() == content
    assert len(asked) == 1


@pytest.mark.parametrize("change", [lambda c: c[:-1], lambda c: c + b"x", lambda c: c + b"x" * 1000, lambda c: b""])
def test_another_list_is_not_used(published, tmp_path, change):
    """One byte more than it has is read, so that a longer one is noticed, and no more."""
    served, _ = published
    content = served[0]
    served[0] = change(content)
    read = served[0][: len(content) + 1]
    with pytest.raises(SourceError) as error:
        selection.published_file(tmp_path)
    assert str(error.value) == (
        f"{selection.PUBLISHED_URL} has sha256 {hashlib.sha256(read).hexdigest()} instead of "
        f"{selection.PUBLISHED_SHA256}; it is not used."
    )
    assert list(tmp_path.iterdir()) == []


def test_a_list_that_cannot_be_downloaded_says_how_to_go_on(published, tmp_path, monkeypatch):
    def refuse(url: str, timeout: float) -> None:
        raise URLError("no route")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    with pytest.raises(SourceError, match=r"cannot be downloaded from https.*no route") as error:
        selection.published_file(tmp_path)
    assert str(error.value).endswith("name the file: --selection FILE.")


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("1.jpg\n2.JPG\n", {"1", "2.JPG"}),
        ("1.jpg\n\n  2.jpeg  \n", {"1", "2"}),
        ("1.jpg", {"1"}),
        ("1.jpg.jpg\n", {"1.jpg"}),
        ("1\n2.png\n", {"1", "2.png"}),
        ("1.jpg\n1.jpg\n", {"1"}),
        ("\ufeff1.jpg\n", {"1"}),
        ("document_id\n1.jpg\n2.jpg\n", {"1", "2"}),
        ("query_id,document_id\nq,1.jpg\nr,1.jpg\n", {"1"}),
        ("\ufeffdocument_id,query_id\n1.jpg,q\n", {"1"}),
        ('query_id,document_id\n"a,b",1.jpg\n', {"1"}),
        ("query_id,document_ids\n", None),
    ],
)
def test_lists_in_both_forms(tmp_path, content, names):
    path = tmp_path / "list"
    path.write_text(content, encoding="utf-8")
    if names is None:
        with pytest.raises(BuildError, match="is not a file name"):
            selection.read_selection(path, "flickr30k")
    else:
        assert selection.read_selection(path, "coco") == {f"coco/{name}" for name in names}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"b/c.jpg\na/b.jpg\n", "{path}: 'a/b.jpg' is not a file name.\nExpected one name such as 1000092795.jpg per"),
        (b"a b.jpg\n", "{path}: 'a b.jpg' is not a file name."),
        (b'document_id\n""\n', "{path}: '' is not a file name."),
        (b"", "{path} names no image."),
        (b"\n\n", "{path} names no image."),
        (b"document_id\n", "{path} names no image."),
        (
            b"1.jpg\n" + b"x" * 2000 + b"\xff\n",
            "{path} is not a list of file names: invalid start byte at byte 2,006.\nExpected one name such as",
        ),
    ],
)
def test_what_is_no_list_is_refused(tmp_path, content, message):
    path = tmp_path / "list"
    path.write_bytes(content)
    with pytest.raises(BuildError) as error:
        selection.read_selection(path, "flickr30k")
    assert str(error.value).startswith(message.format(path=path))


def test_a_list_that_is_not_there(tmp_path):
    with pytest.raises(BuildError, match=r"There is no selection .*list\.\nGive --selection published, or a file\."):
        selection.read_selection(tmp_path / "list", "flickr30k")


IDS = ["flickr30k/2", "flickr30k/1"]
DIGEST = hashlib.sha256(b"1.jpg\n2.jpg\n").hexdigest()


@pytest.mark.parametrize(
    ("count", "sha256", "published", "wanted"),
    [
        (None, None, None, {}),
        (7, None, None, {}),
        (2, DIGEST, None, {"expected_count": 2, "expected_sha256": DIGEST, "same": True}),
        (3, "f" * 64, None, {"expected_count": 3, "expected_sha256": "f" * 64, "same": False}),
        (
            None,
            None,
            {"flickr30k/3", "flickr30k/0", "flickr30k/1"},
            {"missing": ["flickr30k/0", "flickr30k/3"], "extra": ["flickr30k/2"]},
        ),
        (None, None, set(), {"missing": [], "extra": ["flickr30k/1", "flickr30k/2"]}),
        (
            2,
            DIGEST,
            set(IDS),
            {"expected_count": 2, "expected_sha256": DIGEST, "same": True, "missing": [], "extra": []},
        ),
    ],
)
def test_a_comparison_holds_what_is_known(count, sha256, published, wanted):
    found = selection.compare(iter(IDS), count, sha256, published)
    assert found == {"count": 2, "sha256": DIGEST, **wanted}


def test_a_comparison_in_words():
    sha = "0123456789abcdef0123"
    lines = selection.describe({"count": 3, "sha256": sha})
    assert lines == ["Selection: 3 images, sha256 0123456789abcdef..."]
    known = {"count": 3, "sha256": sha, "expected_count": 4, "expected_sha256": sha[::-1], "same": False}
    assert selection.describe(known)[1:] == ["  It is NOT the published one (4 images, sha256 3210fedcba987654...)."]
    assert selection.describe({**known, "same": True})[1:] == [
        "  It is the same as the published one (4 images, sha256 3210fedcba987654...)."
    ]
    named = {"count": 3, "sha256": sha, "missing": list("abcdef"), "extra": ["x"]}
    assert selection.describe(named)[1:] == ["  6 missing, first a, b, c, d, e", "  1 extra, first x"]
    assert len(selection.describe({**named, "missing": [], "extra": []})) == 1
