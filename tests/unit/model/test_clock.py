"""The clock: edges of buckets, its bias and gradient, and a trunk with it: the past alone, packed as padded, without times as without a clock."""

import math

import numpy as np
import pytest
import torch

from rporec_recbole.data.clock import UNKNOWN, Clock, clock_of, hidden_times, seconds_of
from rporec_recbole.model.clock import time_bias, time_buckets
from rporec_recbole.model.fusedhead import FusedHead

BUCKETS = 24


def test_buckets_of_time():
    clock = torch.tensor([[0, 1, 3, 63, 86_463]])
    buckets = time_buckets(clock, 128)[0]
    assert buckets[4].tolist() == [37, 37, 37, 37, 0]
    assert buckets[3].tolist()[:4] == [13, 13, 13, 0]
    assert buckets[2, 1] == 2  # two seconds
    assert buckets[1, 0] == 0  # one second is as near as none
    assert time_buckets(clock, 20)[0].max() == 19


def test_edges_of_buckets_are_those_of_plain_numbers():
    """At each edge, on both sides of it, up to the age of the data and as far as a history can say."""
    edges = [math.ceil(math.exp(bucket * 0.301)) for bucket in range(1, 100)]
    gaps = np.unique([[edge - 1, edge, edge + 1] for edge in edges])
    found = time_buckets(torch.stack([torch.zeros(len(gaps), dtype=torch.int64), torch.tensor(gaps)], dim=1), 64)
    assert found[:, 1, 0].tolist() == np.minimum(np.floor(np.log(np.maximum(1, gaps)) / 0.301), 63).tolist()
    assert found[:, 1, 0].tolist() == found[:, 0, 1].tolist()


def test_unknown_times_have_a_bucket_of_their_own():
    clock = torch.tensor([[5, 9], [UNKNOWN, UNKNOWN]])
    assert time_buckets(clock, 7).tolist() == [[[0, 4], [4, 0]], [[7, 7], [7, 7]]]


@pytest.mark.parametrize("rows", [1, 2])
def test_bias_and_gradient_are_those_of_a_look_up(rows):
    torch.manual_seed(0)
    table = torch.randn(rows, 5, requires_grad=True)
    buckets, weights = torch.randint(0, 6, (3, 4, 4)), torch.randn(3, rows, 4, 4)
    plain = torch.cat([table, table.new_zeros(rows, 1)], dim=1)[:, buckets].transpose(0, 1)
    found = time_bias(table, buckets)
    assert torch.equal(found, plain)
    ours, theirs = (torch.autograd.grad((one * weights).sum(), table)[0] for one in (found, plain))
    torch.testing.assert_close(ours, theirs)
    assert time_bias(table, torch.full((1, 1, 1), 6)).isneginf().all()


def test_the_unit_of_a_file_and_back():
    seconds = 1.6e9 + np.array([5.0, 0.0, 86_400.0, 7.0])
    for per_second in (1, 1e3, 1e6):
        clock = clock_of(seconds * per_second)
        assert clock.seconds(seconds * per_second).tolist() == [5, 0, 86_400, 7]
        assert clock.times(np.array([5, 0])).tolist() == (seconds[:2] * per_second).tolist()
    assert clock_of(np.arange(100.0)) is None  # an order, and no clock
    assert clock_of(np.zeros(0)) is None
    assert abs(int(Clock(0.0, 1.0).seconds([1e19])[0])) < -UNKNOWN // 2


def test_seconds_of_histories_as_a_column():
    column = seconds_of([np.array([3, 4, 5]), None, np.array([6])], 2)
    assert column.tolist() == [[4, 5], [UNKNOWN, UNKNOWN], [6, 0]]


def test_a_share_of_the_windows_hides_its_times():
    torch.manual_seed(0)
    clock = torch.arange(6).repeat(1000, 1)
    hidden = (hidden_times(clock, 0.1) == UNKNOWN).all(dim=1)
    assert 70 < hidden.sum() < 130
    assert not torch.equal(hidden_times(clock, 0.1)[:, 0] == UNKNOWN, hidden)  # drawn anew
    assert hidden_times(clock, 0.0) is clock
    assert hidden_times(None, 0.5) is None


# --- a trunk with a clock ---------------------------------------------------------------------------------------------


def head_of(buckets, layers=2):
    torch.manual_seed(0)
    head = FusedHead(
        12, None, hidden_size=16, layers=layers, heads=2, inner_size=16, dropout=0.0, initializer_range=0.3,
        history_bias=True, time_buckets=buckets,
    )  # fmt: skip
    return head.eval()


@pytest.fixture
def head():
    head = head_of(BUCKETS)
    for block in head.trunk.blocks:
        torch.nn.init.normal_(block.by_time)
    return head


HISTORIES = torch.tensor([[1, 2, 2, 5, 0, 0], [7, 3, 0, 0, 0, 0], [4, 4, 4, 9, 1, 11]])
SECONDS = torch.tensor([[0, 9, 400, 401, 0, 0], [50, 90_000, 0, 0, 0, 0], [0, 0, 1, 2, 9000, 9001]])


def test_a_clock_that_says_nothing_is_no_clock():
    """Zero bias: to rounding. No times: bit for bit, in each row that is ranked and where no row of a batch has any."""
    new, without = head_of(BUCKETS), head_of(0)
    assert new.state_dict().keys() - without.state_dict().keys() == {
        f"trunk.blocks.{place}.by_time" for place in (0, 1)
    }
    expected, items = without.scores(HISTORIES), without.item_vectors()
    torch.testing.assert_close(new.scores(HISTORIES, clock=SECONDS), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(
        new.states(HISTORIES, items, SECONDS)[2], without.states(HISTORIES, items)[2], atol=1e-6, rtol=0
    )
    assert torch.equal(without.scores(HISTORIES, clock=SECONDS), expected)
    for block in new.trunk.blocks:
        torch.nn.init.normal_(block.by_time)
    assert torch.equal(new.scores(HISTORIES), expected)
    assert torch.equal(new.states(HISTORIES, items), without.states(HISTORIES, items))
    mixed = SECONDS.clone()
    mixed[1] = UNKNOWN
    found = new.scores(HISTORIES, clock=mixed)
    assert torch.equal(found[1], expected[1])
    assert not any(torch.allclose(found[row], expected[row], atol=1e-3) for row in (0, 2))


def test_times_count_by_what_lies_between_them(head):
    scores = head.scores(HISTORIES, clock=SECONDS)
    torch.testing.assert_close(head.scores(HISTORIES, clock=SECONDS - 10_000_000), scores)
    other = SECONDS.clone()
    other[0, 3] += 5000
    moved = head.scores(HISTORIES, clock=other)
    assert torch.equal(moved[1:], scores[1:])
    assert not torch.allclose(moved[0], scores[0], atol=1e-3)


def test_neither_later_items_nor_later_times_change_a_state(head):
    items = head.item_vectors()
    before, later = head.states(HISTORIES, items, SECONDS), SECONDS.clone()
    later[:, 3:] += 700_000
    after = head.states(HISTORIES, items, later)
    torch.testing.assert_close(after[:, :3], before[:, :3])
    assert not torch.allclose(after[2, 3:], before[2, 3:], atol=1e-3)
    cut = head.states(HISTORIES[:, :3], items, SECONDS[:, :3])  # and no padding does
    torch.testing.assert_close(cut, before[:, :3])


@pytest.mark.parametrize("layers", [1, 3])
def test_packed_rows_have_the_states_of_padded_ones(layers):
    head = head_of(BUCKETS, layers)
    for block in head.trunk.blocks:
        torch.nn.init.normal_(block.by_time)
    items, lengths = head.item_vectors(), [1, 9, 3, 12, 1, 5]
    right, clock = torch.zeros(6, 12, dtype=torch.int64), torch.zeros(6, 12, dtype=torch.int64)
    for row, length in enumerate(lengths):
        right[row, :length] = torch.randint(1, 12, (length,))
        clock[row, :length] = torch.randint(0, 9000, (length,)).cumsum(0)
    clock[2] = UNKNOWN
    expected = head.states(right, items, clock)[torch.arange(6), torch.tensor(lengths) - 1]
    scattered, seconds = torch.zeros(6, 30, dtype=torch.int64), torch.zeros(6, 30, dtype=torch.int64)
    for row, length in enumerate(lengths):
        places = torch.randperm(30)[:length].sort().values
        scattered[row, places], seconds[row, places] = right[row, :length], clock[row, :length]
    read = head.reader(items)
    for histories, times in ((right, clock), (scattered, seconds)):
        torch.testing.assert_close(head.last_state(histories, items, times), expected)
        torch.testing.assert_close(read(histories, clock=times), expected)
    alone = [head.last_state(right[row : row + 1], items, clock[row : row + 1]) for row in range(6)]
    torch.testing.assert_close(torch.cat(alone), expected)
