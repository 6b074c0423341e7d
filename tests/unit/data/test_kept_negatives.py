"""Negatives that are drawn once."""

import pytest
import torch

from rporec_recbole.data.kept_negatives import KeptNegatives
from rporec_recbole.errors import ConfigError


def test_they_are_kept_whatever_is_asked_first():
    positions, targets = torch.tensor([7, 3, 40]), torch.tensor([5, 1, 99])
    first = KeptNegatives(100, 49, seed=1).of(positions, targets)
    other = KeptNegatives(100, 49, seed=1)
    backwards = other.of(positions.flip(0), targets.flip(0)).flip(0)
    assert torch.equal(first, backwards)
    assert torch.equal(first, other.of(positions, targets))
    assert not torch.equal(first, KeptNegatives(100, 49, seed=2).of(positions, targets))


def test_each_is_another_item_and_none_is_the_target():
    for items in (3, 20, 1000):
        kept = KeptNegatives(items, 49, seed=0)
        positions = torch.arange(200)
        targets = 1 + positions % (items - 1)
        drawn = kept.of(positions, targets)
        assert drawn.shape == (200, min(49, items - 2))
        assert not (drawn == targets[:, None]).any()
        assert drawn.min() >= 1
        assert drawn.max() < items
        assert all(len(set(row)) == len(row) for row in drawn.tolist())
    assert len(set(drawn.flatten().tolist())) > 990, "all of the catalogue takes part"


def test_none_asked_and_nothing_to_draw():
    assert KeptNegatives(10, 4, 0).of(torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)).shape == (
        0,
        4,
    )
    with pytest.raises(ConfigError, match="two items at least"):
        KeptNegatives(2, 4, 0)
