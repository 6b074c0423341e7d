"""RecPO by hand: what a text earns, how it stands in its group, and where the loss pushes."""

import math

import pytest
import torch

from rporec_recbole.rivals.recpo import best_of_groups, clipped_loss, fused_reward, group_advantages


def test_the_reward_joins_rank_and_probability():
    scores = torch.tensor([[-torch.inf, 2.0, 1.0, 0.0], [-torch.inf, 2.0, 1.0, 0.0]])
    found = fused_reward(scores, torch.tensor([2, 3]), k=2, softmax_weight=0.1)
    whole = math.exp(2) + math.exp(1) + 1
    second, third = 0.9 / math.log2(3) + 0.1 * math.exp(1) / whole, 0.1 / whole  # rank 3 is behind k
    assert found.tolist() == pytest.approx([second, third], abs=1e-6)
    assert fused_reward(scores, torch.tensor([1, 1]), k=5, softmax_weight=0.0).tolist() == [1.0, 1.0]


def test_an_item_that_is_no_candidate_takes_nothing():
    scores = torch.tensor([[-torch.inf, -torch.inf, 1.0]])
    assert fused_reward(scores, torch.tensor([2]), k=1, softmax_weight=0.5).item() == pytest.approx(1.0)


def test_advantages_are_of_the_group():
    found = group_advantages(torch.tensor([[1.0, 2.0, 3.0], [5.0, 5.0, 5.0]]))
    assert found[0].tolist() == pytest.approx([-1.0, 0.0, 1.0], abs=1e-5)
    assert found[1].tolist() == [0.0, 0.0, 0.0]
    assert best_of_groups(found, 1)[0].tolist() == [False, False, True]
    assert best_of_groups(found, 9).all()


def test_the_loss_raises_what_was_better_and_lowers_what_was_worse():
    logits = torch.zeros(2, 3, requires_grad=True)
    new = torch.log_softmax(logits, dim=1)[:, 0]
    clipped_loss(new, new.detach(), torch.tensor([1.0, -2.0]), 0.2, 0.28).sum().backward()
    assert logits.grad is not None
    down = -logits.grad  # where a step goes
    assert down[0, 0] > 0 > down[1, 0]
    assert down[1, 0].item() == pytest.approx(-2 * down[0, 0].item())


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "moves"),
    [(1.5, 1.0, -1.28, False), (0.5, -1.0, 0.8, False), (1.5, -1.0, 1.5, True), (0.5, 1.0, -0.5, True), (1.1, 1.0, -1.1, True)],
)  # fmt: skip
def test_what_has_gone_far_enough_is_left_alone(ratio, advantage, loss, moves):
    new = torch.tensor(math.log(ratio), requires_grad=True)
    found = clipped_loss(new, torch.tensor(0.0), torch.tensor(advantage), 0.2, 0.28)
    assert found.item() == pytest.approx(loss, abs=1e-6)
    found.backward()
    assert new.grad is not None
    assert (new.grad.item() != 0) is moves
