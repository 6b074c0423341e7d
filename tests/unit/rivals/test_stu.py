"""HSTU's unit: values by hand, the past alone, times that are unknown."""

import math

import pytest
import torch

from rporec_recbole.data.clock import UNKNOWN
from rporec_recbole.model.clock import time_buckets
from rporec_recbole.rivals.stu import RelativeBias, TransductionUnit, attend


def silu(x):
    return x / (1 + math.exp(-x))


def column(*numbers):
    """`[1, 1, T, 1]`: one row, one head, vectors of one number."""
    return torch.tensor(numbers).view(1, 1, -1, 1)


def test_attention_by_hand():
    bias = torch.tensor([[0.5, 9.0], [0.25, 0.0]])
    found = attend(column(1.0, 2.0), column(1.0, -1.0), column(3.0, 5.0), bias, n=4).flatten().tolist()
    first = silu(1 * 1 + 0.5) / 4 * 3
    second = silu(2 * 1 + 0.25) / 4 * 3 + silu(2 * -1 + 0.0) / 4 * 5
    assert found == pytest.approx([first, second])


def test_weights_are_no_shares():
    """Twice as many items of a kind give twice as much, which a softmax cannot say."""
    few, many = (attend(column(*[1.0] * n), column(*[1.0] * n), column(*[1.0] * n), torch.zeros(1), 4) for n in (2, 4))
    assert many[0, 0, -1].item() == pytest.approx(2 * few[0, 0, -1].item())


def test_bias_is_the_sum_of_place_and_time():
    bias = RelativeBias(3, 4)
    buckets = time_buckets(torch.tensor([[0, 0, 2]]), 4)
    found = bias(3, buckets)[0]
    assert found[2, 0].item() == pytest.approx((bias.by_position[2] + bias.by_time[2]).item())
    assert found[2, 2].item() == pytest.approx((bias.by_position[0] + bias.by_time[0]).item())
    torch.testing.assert_close(bias(3, None)[0, 2], bias.by_position.detach().flip(0))
    unknown = time_buckets(torch.full((1, 3), UNKNOWN), 4)
    torch.testing.assert_close(bias(3, unknown), bias(3, None))  # as where no history has times
    assert RelativeBias(3, 0).by_time is None


def test_the_future_changes_no_past_position():
    torch.manual_seed(0)
    unit = TransductionUnit(8, 2, 6, 16, 0.0)
    x, clock = torch.randn(2, 6, 8), torch.arange(6).repeat(2, 1) * 100
    later = x.clone()
    later[:, 4:] = torch.randn(2, 2, 8)
    moved = clock.clone()
    moved[:, 4:] += 10_000
    before, after = unit(x, time_buckets(clock, 16)), unit(later, time_buckets(moved, 16))
    torch.testing.assert_close(before[:, :4], after[:, :4])
    assert not torch.allclose(before[:, 4:], after[:, 4:])
    torch.testing.assert_close(unit(x[:, :3], time_buckets(clock[:, :3], 16)), before[:, :3])  # and no padding does
