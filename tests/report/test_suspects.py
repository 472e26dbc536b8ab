"""Likely false negatives: who is suspected, of what, and in which order."""

from mteb_vehicle_search.report.suspects import Suspect, agreed, near, same_text


def test_two_models_must_agree_on_a_wrong_image_above_the_relevant_one():
    relevant = [0, 0, 1, 2]
    ranks = [[2, 3, 2, 1], [5, 1, 2, 1], [4, 2, 1, 1]]
    wrong = [[7, 7, 8, 9], [7, 7, 9, 9], [6, 7, 8, 9]]
    # Image 7 is above image 0 for two models in row 0, and for two in row 1; 8 above 1 for one model only.
    assert agreed(relevant, ranks, wrong) == [Suspect(relevant=0, image=7, rows=[0, 1], weight=4, models=3)]


def test_a_model_that_shows_no_wrong_image_does_not_vote():
    assert agreed([0], [[2], [2]], [[-1], [-1]]) == []


def test_near_duplicates_of_the_relevant_image():
    tops = [[[5, 6, 0], [6]], [[7], [5]]]
    hashes = [0b1111, 0b0000, None, None, None, 0b1110, 0b0011, None]
    assert near([0, 1], tops, hashes, bits=2) == [
        Suspect(0, 5, [0], 1, 0),
        Suspect(0, 6, [0], 2, 0),
        Suspect(1, 6, [1], 2, 0),
    ]
    assert near([0, 1], tops, hashes, bits=1) == [Suspect(0, 5, [0], 1, 0)]


def test_same_text_but_for_case_spaces_and_full_stop():
    texts = ["A red bus.", "a  red bus", "A red bus!", "other", "other", "A red car"]
    # The two rows of q3 are one query with two relevant images.
    assert same_text(["q0", "q1", "q2", "q3", "q3", "q5"], texts) == [[0, 1]]
