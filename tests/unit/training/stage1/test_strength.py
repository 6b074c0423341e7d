"""How much of the fusion's move counts."""

import pytest
import torch

from rporec_recbole.model.answers import AnswerExpert
from rporec_recbole.model.fusedhead import FusedHead
from rporec_recbole.model.rechead import Reasoning
from rporec_recbole.training.stage1.fusion import Strengths, choose_strength


@pytest.fixture
def head():
    torch.manual_seed(3)
    head = FusedHead(
        20,
        torch.randn(20, 6),
        hidden_size=8,
        layers=1,
        heads=2,
        inner_size=16,
        dropout=0.0,
        initializer_range=0.1,
        history_bias=True,
    ).eval()
    torch.nn.init.normal_(head.fusion.project.weight)
    return head


@pytest.fixture
def rows():
    reasoning = Reasoning(torch.randn(5, 12), torch.tensor([True, True, False, True, True]))
    return torch.randn(5, 8), reasoning


def test_none_of_it_is_the_trunk_and_all_of_it_the_fusion(head, rows):
    state, reasoning = rows
    head.strength.fill_(0.0)
    assert torch.equal(head.user_vectors(state, reasoning), state)
    assert torch.equal(head.gate(state, reasoning), torch.zeros(5))
    head.strength.fill_(1.0)
    assert torch.equal(head.user_vectors(state, reasoning), head.fusion(state, reasoning))


def test_half_of_it_goes_half_the_way(head, rows):
    state, reasoning = rows
    full = head.fusion(state, reasoning)
    head.strength.fill_(0.5)
    torch.testing.assert_close(head.user_vectors(state, reasoning), (state + full) / 2)
    assert torch.equal(head.user_vectors(state, reasoning)[2], state[2])  # not well-formed


def test_it_is_saved_with_the_head(head):
    head.strength.fill_(0.25)
    assert head.state_dict()["strength"] == 0.25


@pytest.mark.parametrize(
    ("scores", "bigger", "chosen"),
    [
        ({0: 0.1, 0.5: 0.3, 1: 0.2}, True, 0.5),
        ({0: 0.1, 0.5: 0.3, 1: 0.2}, False, 0),
        ({0: 0.3, 0.5: 0.3, 1: 0.3}, True, 0),  # reasoning that changes nothing does not count
        ({0.5: 0.2, 1: 0.2}, False, 0.5),
    ],
)
def test_validation_chooses(head, scores, bigger, chosen):
    tried = choose_strength(head, list(scores)[::-1], lambda: scores[round(float(head.strength), 2)], bigger)
    assert tried == {Strengths(strength, 0.0): score for strength, score in scores.items()}
    assert float(head.strength) == chosen


def test_fusion_and_answers_are_chosen_side_by_side(head):
    head.expert = AnswerExpert(20)

    def score():
        return {(0.5, 1.0): 0.4, (1.0, 0.0): 0.4}.get((float(head.strength), float(head.expert.strength)), 0.1)

    tried = choose_strength(head, [0, 0.5, 1], score)
    assert len(tried) == 9
    assert (float(head.strength), float(head.expert.strength)) == (1.0, 0.0)  # of equal ones the smallest
    assert head.reads
    choose_strength(head, [0, 0.5, 1], lambda: 0.0)
    assert not head.reads
    head.expert.strength.fill_(0.25)
    assert head.reads
