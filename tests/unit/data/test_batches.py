import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from recbole.data.interaction import Interaction

from rporec_recbole.data.batches import WindowBatches


def windows_of(lengths, width):
    """Window w holds w + 1 at each of its positions."""
    lengths = torch.tensor(lengths)
    real = torch.arange(width) < lengths[:, None]
    return Interaction(
        {"user": torch.arange(len(lengths)), "items": torch.where(real, torch.arange(len(lengths))[:, None] + 1, 0)}
    ), lengths


@given(st.lists(st.integers(1, 20), min_size=1, max_size=60), st.integers(1, 200))
def test_an_epoch_holds_every_window_once_and_no_batch_is_too_large(lengths, positions):
    windows, counts = windows_of(lengths, 20)
    batches = WindowBatches(windows, counts, positions, torch.Generator().manual_seed(1))
    epoch = list(batches)
    assert len(epoch) == len(batches)
    assert sorted(torch.cat([batch["user"] for batch in epoch]).tolist()) == list(range(len(lengths)))
    for batch in epoch:
        rows, width = batch["items"].shape
        own = counts[batch["user"]]
        assert width == own.max()
        assert rows == 1 or rows * width <= positions
        assert ((batch["items"] == batch["user"][:, None] + 1).sum(dim=1) == own).all()


def test_hardly_anything_is_padding():
    lengths = np.random.default_rng(0).geometric(0.1, size=2000).clip(1, 50).tolist()
    windows, counts = windows_of(lengths, 50)
    epoch = list(WindowBatches(windows, counts, 1600, torch.Generator().manual_seed(1)))
    slots = sum(batch["items"].numel() for batch in epoch)
    assert slots < 1.2 * sum(lengths)


def test_epochs_differ_and_the_generator_decides_them():
    windows, counts = windows_of([3, 5, 5, 5, 2, 5, 1, 5, 4, 5], 5)

    def epochs(generator):
        batches = WindowBatches(windows, counts, 10, generator)
        return [[batch["user"].tolist() for batch in batches] for _ in range(2)]

    generator = torch.Generator().manual_seed(7)
    state = generator.get_state()
    first, second = epochs(generator)
    assert first != second
    assert epochs(generator.set_state(state)) == [first, second]


@pytest.mark.parametrize("lengths", [[], [4]])
def test_few_windows(lengths):
    windows, counts = (
        windows_of(lengths, 5)
        if lengths
        else (Interaction({"user": torch.zeros(0)}), torch.zeros(0, dtype=torch.int64))
    )
    assert len(list(WindowBatches(windows, counts, 10, torch.Generator()))) == len(lengths)
