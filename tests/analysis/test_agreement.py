"""Do judges agree, and can they be relied on."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hand_made_runs import hand_made
from judged_runs import judgments_of, lines_of, sample_of

from mteb_vehicle_search.analysis.agreement import _ac2, agreement, judge_figures, warnings_of
from mteb_vehicle_search.errors import UsageError
from mteb_vehicle_search.judgments import Judgment

TOPS = [[f"imagenet/{n:02d}-{place}" for place in range(10)] for n in range(20)]


def two_judges(first, second):
    """Return the judgments of two judges, who say of image number n what the functions give."""
    sample = sample_of([hand_made([3] * 20, top_ids=TOPS)])
    images = sorted(image for unit in sample.units for image in unit.images)
    lines = [
        *lines_of(sample, 99, lambda _, image: first(images.index(image)), "ada"),
        *lines_of(sample, 99, lambda _, image: second(images.index(image)), "bob"),
    ]
    return judgments_of(sample, lines)


def check(grade, kind, judge="ada", number=0):
    return Judgment(
        "5" * 64, "q00", f"flickr30k/{number}", grade, judge, "2026-11-01T10:00:00+00:00", 4.0, "s", check=kind
    )


def test_judges_who_say_the_same_agree():
    pytest.importorskip("krippendorff")
    found = agreement(two_judges(lambda n: 1 + n % 3, lambda n: 1 + n % 3))
    assert (found.images, found.alpha, found.low, found.high, found.ac2) == (40, 1, 1, 1, 1)
    assert found.warning == ""


def test_judges_who_guess_do_not():
    pytest.importorskip("krippendorff")
    guess = np.random.default_rng(0).integers(1, 4, (2, 40))
    found = agreement(two_judges(lambda n: int(guess[0][n]), lambda n: int(guess[1][n])))
    assert found.low < 0.1 < found.high
    assert found.low < found.alpha < found.high
    assert found.warning == (
        f"judges agree too little: alpha {found.alpha:.2f}, below 0.67; read the guide together, and judge again where "
        "you differ"
    )
    assert list(warnings_of(found, {})) == [f"{found.warning}."]


def test_grades_are_ordered():
    pytest.importorskip("krippendorff")
    near = agreement(two_judges(lambda n: 1 + n % 3, lambda n: min(1 + n % 3, 2)), resamples=10)
    far = agreement(two_judges(lambda n: 1 + n % 3, lambda n: 1 if n % 3 == 2 else 1 + n % 3), resamples=10)
    assert near.alpha > far.alpha + 0.3
    assert near.ac2 > far.ac2


def test_where_all_is_no_alpha_has_no_meaning_and_ac2_has():
    found = agreement(two_judges(lambda n: 1, lambda n: 1))
    assert (found.images, found.alpha, found.low, found.ac2, found.warning) == (40, None, None, 1, "")


def test_images_whose_answer_is_known_do_not_count():
    both = [check(3, "known", judge, number) for judge in ("ada", "bob") for number in range(3)]
    sample = sample_of([hand_made([3] * 20, top_ids=TOPS)])
    assert agreement(judgments_of(sample, both)).images == 0


def test_one_judge_or_none_that_can_tell_leaves_nothing():
    assert agreement(two_judges(lambda n: 1, lambda n: 0)).images == 0


def test_ac2_by_hand():
    """Two raters, three images: 1 and 1, 1 and 2, 3 and 3."""
    counts = np.array([[2, 0, 0], [1, 1, 0], [0, 0, 2]])
    near = 2 / 3  # weight of neighbours among three grades
    share = np.array([3, 1, 2]) / 6
    chance = (3 + 4 * near) / 6 * (share * (1 - share)).sum()
    assert _ac2(counts) == pytest.approx(((1 + near + 1) / 3 - chance) / (1 - chance))


def test_without_krippendorff_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "krippendorff", None)
    with pytest.raises(UsageError) as caught:
        agreement(two_judges(lambda n: 1 + n % 3, lambda n: 1 + n % 3))
    assert caught.value.hint == "pip install 'mteb-vehicle-search[judge]'"


@pytest.mark.parametrize(
    ("failed", "shown", "stops"), [(1, 3, False), (2, 20, False), (2, 19, True), (3, 20, True), (0, 20, False)]
)
def test_a_judge_who_fails_known_answers_should_stop(failed, shown, stops):
    known = [check(1 if n < failed else 3, "known", number=n) for n in range(shown)]
    drawn = [check(3, "random", number=100), check(1, "random", number=101), check(0, "", number=102)]
    sample = sample_of([hand_made([3] * 20, top_ids=TOPS)])
    found = judge_figures(judgments_of(sample, [*known, *drawn]))["ada"]
    assert found == (shown + 3, 4.0, 1, shown, failed, 2, 1)
    said = f"{failed} of {shown} captions' own images were said to be wrong, more than 10%: read the guide again"
    assert found.stops == (said if stops else "")
