"""Likely false negatives: who votes, who is suspected, of what, and in which order."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from statistics import median

import numpy as np
import pytest
from hand_made_runs import hand_made

from mteb_vehicle_search.report.suspects import MOST, Suspect, Voter, agreed, same_text, voters

YES = Voter(True, 0.5, "")
NO = Voter(False, 0.5, "")


def voting(*weights: float) -> list[Voter]:
    return [Voter(True, weight, "") for weight in weights]


class TestWhoVotes:
    """Runs are told apart from chance by their ranks."""

    SIZE = 200

    def run(self, ranks, model="org/a", each=1):
        """Return a run of one image for each `each` ranks."""
        ids = {"relevant_ids": [f"flickr30k/{n // each:03}" for n in range(len(ranks))]}
        made = hand_made(list(ranks), query_ids=[f"q{n:03}" for n in range(len(ranks))], **ids)
        made.record.info |= {"corpus_size": self.SIZE, "model_name": model}
        return made

    def test_a_model_that_knows_something_votes_and_weighs_its_mrr(self):
        (voter,) = voters([self.run([1, 2, 4, 10] * 10)])
        assert (voter.votes, voter.why) == (True, "MRR 0.463")
        assert voter.weight == pytest.approx((1 + 1 / 2 + 1 / 4 + 1 / 10) / 4)

    def test_a_little_above_the_middle_suffices_if_it_is_certain(self):
        # The middle of 200 ranks is 100.5.
        assert voters([self.run([100] * 40)])[0].votes
        assert not voters([self.run([101] * 40)])[0].votes

    def test_random_ranks_do_not_vote_and_the_page_says_why(self):
        ranks = np.random.default_rng(5).integers(1, self.SIZE + 1, 60)
        _, voter = voters([self.run([1, 2] * 30, "org/good"), self.run(ranks, "org/random")])
        assert not voter.votes
        assert voter.weight == pytest.approx((1 / ranks).mean())
        assert voter.why.startswith(f"not told apart from chance: mean rank {ranks.mean():,.0f} of 200, p = 0.")

    def test_few_random_models_vote(self):
        generator = np.random.default_rng(0)
        voted = 0
        for _ in range(100):
            # The five captions of an image share what happens to it.
            ranks = np.repeat(generator.integers(1, self.SIZE + 1, 20), 5)
            voted += voters([self.run(ranks, each=5)])[0].votes
        # 2.5 % are expected: half of 5 %, since only better than chance counts.
        assert voted <= 8

    def test_captions_of_one_image_are_one_piece_of_evidence(self):
        # Five images are too few, however many captions they have: 2 of 2^5 sign patterns are as far from 0.
        assert not voters([self.run([1] * 50, each=10)])[0].votes
        assert voters([self.run([1] * 50, each=5)])[0].votes

    def test_worse_than_chance_does_not_vote(self):
        # A collapsed model: all images are equal, and the relevant one ranks last among equals.
        (voter,) = voters([self.run([self.SIZE] * 40)])
        assert not voter.votes

    def test_the_level_is_that_of_all_runs_together(self):
        # 9 of 10 images above the middle, all as far from it: p = 22 / 1,024 = 0.021; three times that is above 5 %.
        run = [self.run([50] * 9 + [151], f"org/{n}") for n in range(3)]
        assert voters(run[:1])[0].votes
        assert [voter.votes for voter in voters(run)] == [False] * 3

    def test_the_best_run_of_a_model_votes_for_all_of_its_runs(self):
        found = voters([self.run([2] * 40), self.run([1, 2] * 20), self.run([3] * 40, "org/b"), self.run([1, 2] * 20)])
        assert [voter.votes for voter in found] == [False, True, True, False]
        assert [voter.weight for voter in found] == pytest.approx([1 / 2, 3 / 4, 1 / 3, 3 / 4])
        assert {found[0].why, found[3].why} == {"another run of the same model votes"}

    def test_several_relevant_images_of_a_query_are_one_cluster(self):
        query_ids = [f"q{n // 10}" for n in range(50)]
        run = hand_made([1] * 50, query_ids=query_ids, relevant_ids=[f"flickr30k/{n:02}" for n in range(50)])
        run.record.info |= {"corpus_size": self.SIZE, "model_name": "org/a"}
        assert not voters([run])[0].votes


def test_two_models_must_prefer_a_wrong_image_for_the_same_caption():
    relevant = [0, 0, 1, 2, 2]
    ranks = [[2, 3, 2, 1, 4], [5, 1, 2, 5, 1], [4, 2, 1, 1, 1]]
    wrong = [[7, 7, 8, 9, 9], [7, 7, 9, 9, 9], [6, 7, 8, 9, 9]]
    # Image 7 beats image 0 for two models in row 0, and for two in row 1; 8 beats 1 for one model only; 9 beats 2 for
    # two models, but not for the same caption.
    assert agreed(relevant, ranks, wrong, [YES] * 3) == [Suspect(0, 7, [0, 1], 2, 3, 2.5, 4 / 6)]


def test_who_does_not_vote_is_not_counted():
    ranks, wrong = [[2], [2], [2]], [[7], [7], [7]]
    assert agreed([0], ranks, wrong, [YES, NO, NO]) == []
    assert agreed([0], ranks, wrong, [NO, YES, YES]) == [Suspect(0, 7, [0], 1, 2, 2, 1.0)]
    assert agreed([0], ranks, wrong, [NO, NO, NO]) == []


def test_a_better_model_has_more_weight():
    # Both suspects have two of four votes; the second has those of the better models.
    relevant, ranks = [0, 1], [[1, 2], [1, 2], [2, 1], [2, 1]]
    wrong = [[5, 7], [5, 7], [8, 5], [8, 5]]
    found = agreed(relevant, ranks, wrong, voting(0.6, 0.3, 0.2, 0.1))
    assert [(one.relevant, one.image) for one in found] == [(1, 7), (0, 8)]
    assert [one.agreement for one in found] == pytest.approx([0.9 / 1.2, 0.3 / 1.2])


def test_a_model_that_shows_no_wrong_image_does_not_vote():
    assert agreed([0], [[2], [2]], [[-1], [-1]], [YES, YES]) == []


def test_the_first_image_of_the_page_can_be_suspected():
    assert agreed([5], [[2], [2]], [[0], [0]], [YES, YES]) == [Suspect(5, 0, [0], 1, 2, 2, 1.0)]


def test_agreed_suspects_are_those_of_a_plain_count_with_the_most_agreement_first():
    generator = np.random.default_rng(7)
    seen = 0
    for _ in range(200):
        models, rows = int(generator.integers(1, 5)), int(generator.integers(1, 8))
        relevant = generator.integers(0, 3, rows).tolist()
        ranks = generator.integers(1, 4, (models, rows)).tolist()
        wrong = generator.integers(-1, 4, (models, rows)).tolist()
        electorate = [Voter(bool(generator.random() < 0.8), float(generator.random()), "") for _ in range(models)]
        total = math.fsum(voter.weight for voter in electorate if voter.votes)
        expected = []
        for right, image in itertools.product(range(3), range(4)):
            votes = [
                (model, row)
                for model, row in itertools.product(range(models), range(rows))
                if electorate[model].votes
                and (relevant[row], wrong[model][row]) == (right, image)
                and ranks[model][row] > 1
            ]
            if max(Counter(row for _, row in votes).values(), default=0) >= 2:
                captions = relevant.count(right)
                share = math.fsum(electorate[model].weight for model, _ in votes) / (captions * total)
                expected.append(
                    Suspect(
                        right,
                        image,
                        sorted({row for _, row in votes}),
                        captions,
                        len({model for model, _ in votes}),
                        median(ranks[model][row] for model, row in votes),
                        share,
                    )
                )
        expected.sort(key=lambda one: one.image)
        expected.sort(key=lambda one: one.rows[0])
        expected.sort(key=lambda one: one.agreement, reverse=True)
        assert agreed(relevant, ranks, wrong, electorate) == expected
        seen += len(expected)
    assert seen > 60


def test_only_the_most_suspicious_are_kept():
    assert MOST == 2_000
    count = MOST + 1
    images = list(range(1, count + 1))
    # All queries are about image 0; that of the last row has three votes, all others two.
    ranks = [[2] * count, [2] * count, [1] * (count - 1) + [2]]
    found = agreed([0] * count, ranks, [images, images, images], [YES] * 3)
    assert len(found) == MOST
    assert (found[0].image, found[-1].image) == (count, count - 2)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("A red bus.", "a  red bus", True),
        ("A red bus .", "A RED BUS", True),
        ("\tA red\nbus", "A red bus", True),
        ("Eine Straße", "EINE STRASSE", True),
        ("A red bus...", "A red bus", True),
        ("A red bus!", "A red bus", False),
        (".A red bus", "A red bus", False),
        ("A red bus", "A redbus", False),
        ("A red. bus", "A red bus", False),
    ],
)
def test_texts_are_the_same_but_for_case_spaces_and_full_stop(one, other, same):
    assert same_text(["q0", "q1"], [one, other]) == ([[0, 1]] if same else [])


def test_rows_of_one_query_are_no_repetition():
    # The two rows of q3 are one query with two relevant images; beside another query both are shown.
    assert same_text(["q3", "q3"], ["other", "other"]) == []
    assert same_text(["q3", "q3", "q4"], ["other", "other", "other"]) == [[0, 1, 2]]


def test_the_largest_group_of_same_texts_comes_first_then_the_first_query():
    texts = ["a", "b", "c", "b", "a", "c", "c", "alone"]
    assert same_text([f"q{n}" for n in range(8)], texts) == [[2, 5, 6], [0, 4], [1, 3]]
