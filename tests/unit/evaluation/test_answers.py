"""The writer's answers as a ranking, counted by hand."""

import math

import pytest
import torch

from rporec_recbole.evaluation.answers import AnswerMeasure, described
from rporec_recbole.text.completions import Completion, Guess

LINES = ("", "Heat", "Up", "Twin", "Twin", "Alien")
COUNTS = torch.tensor([0, 9, 5, 5, 1, 0])


def completion(*pairs):
    return Completion("", "because", pairs[0][0], True, tuple(Guess(*pair) for pair in pairs))


def measured(one, target, hidden=None):
    return AnswerMeasure(LINES, COUNTS)([one], torch.tensor([target]), hidden)


@pytest.mark.parametrize(
    ("one", "target", "rank"),
    [
        (completion(("Heat", -0.1), ("Up", -1.0)), 1, 1),
        (completion(("Heat", -0.1), ("Up", -1.0)), 2, 2),
        (completion(("Twin", -0.1), ("Up", -1.0)), 3, 2),  # two items have this line
        (completion(("Twin", -0.1), ("Up", -1.0)), 2, 3),
        (completion(("Heat", -0.5), ("Up", -0.5)), 1, 2),  # a tie counts against it
        (completion(("Heat", -0.1), ("Nobody", -0.5), ("Up", -1.0)), 2, 2),  # what is no item's line takes no place
        (Completion("", "c", "Up", True), 2, 1),
        (Completion("", "c", "Up", True), 1, None),
        (Completion("<think>"), 1, None),
    ],
)
def test_ranks(one, target, rank):
    found = measured(one, target)
    assert found["hit@10"] == (rank is not None)
    assert found["ndcg@10"] == pytest.approx(0.0 if rank is None else 1 / math.log2(rank + 1))


def test_hidden_items_are_no_candidates_for_anybody():
    hidden = (torch.tensor([0]), torch.tensor([1]))
    found = measured(completion(("Heat", -0.1), ("Up", -1.0)), 2, hidden)
    assert found["ndcg@10"] == 1
    assert found["pop ndcg@10"] == pytest.approx(1 / math.log2(3))  # Twin is as popular
    assert measured(completion(("Heat", -0.1)), 2)["pop ndcg@10"] == pytest.approx(1 / math.log2(4))


def test_shares_and_words():
    texts = [completion(("Heat", -0.1)), completion(("Nobody", -0.1)), completion(("Heat", -0.2)), Completion("x")]
    found = AnswerMeasure(LINES, COUNTS)(texts, torch.tensor([1, 1, 2, 1]))
    assert (found["named"], found["distinct"]) == (0.5, 2)
    assert found["hit@10"] == 0.25
    assert "50.0% name an item, 2 different ones" in described(found)
