import pytest
import torch
import torch.nn.functional as F

from rporec_recbole.model import trunk as trunk_module
from rporec_recbole.model.fusedhead import FusedHead
from rporec_recbole.model.losses import negatives_loss, recommendation_loss, sampled_recommendation_loss
from rporec_recbole.model.rechead import Reasoning, distinct, mean_reasoning, score_items
from rporec_recbole.model.trunk import rotate, turns_of


@pytest.fixture
def head():
    torch.manual_seed(0)
    head = FusedHead(
        12, torch.randn(12, 4), hidden_size=8, layers=2, heads=2, inner_size=16, dropout=0.0,
        initializer_range=0.3, history_bias=True,
    )  # fmt: skip
    torch.nn.init.normal_(head.fusion.project.weight)
    return head.eval()


HISTORIES = torch.tensor([[1, 2, 2, 5, 0, 0], [7, 3, 0, 0, 0, 0], [4, 4, 4, 9, 1, 11]])


def reasoning(well_formed):
    torch.manual_seed(1)
    return Reasoning(torch.randn(3, 8), torch.tensor(well_formed))


def test_malformed_reasoning_is_bit_equal_to_the_trunk(head):
    fused = head.scores(HISTORIES, reasoning([False, True, False]))
    trunk = head.scores(HISTORIES)
    assert torch.equal(fused[[0, 2]], trunk[[0, 2]])
    assert not torch.equal(fused[1], trunk[1])


def test_new_fusion_is_exactly_the_trunk(head):
    torch.nn.init.zeros_(head.fusion.project.weight)
    assert torch.equal(head.scores(HISTORIES, reasoning([True] * 3)), head.scores(HISTORIES))


@pytest.fixture
def reader():
    """A head whose fusion reads the history's text too, of the two newest items."""
    torch.manual_seed(0)
    head = FusedHead(
        12, F.normalize(torch.randn(12, 4), dim=1), hidden_size=8, layers=1, heads=2, inner_size=16, dropout=0.0,
        initializer_range=0.3, history_bias=True, history_items=2,
    )  # fmt: skip
    torch.nn.init.normal_(head.fusion.project.weight)
    return head.eval()


@pytest.mark.parametrize("padding", ["right", "left", "between"])
def test_the_text_of_a_history_is_that_of_its_newest_items(reader, padding):
    rows = {
        "right": [[1, 2, 5, 0], [7, 0, 0, 0], [0, 0, 0, 0]],
        "left": [[0, 1, 2, 5], [0, 0, 0, 7], [0, 0, 0, 0]],
        "between": [[1, 2, 0, 5], [0, 7, 0, 0], [0, 0, 0, 0]],
    }[padding]
    found, text = reader.read_history(torch.tensor(rows)), reader.item_text
    torch.testing.assert_close(found[0], torch.cat([F.normalize(text[2] + text[5], dim=0), text[5]]))
    torch.testing.assert_close(found[1], torch.cat([text[7], text[7]]))
    assert torch.equal(found[2], torch.zeros(8))


def test_a_fusion_that_reads_histories(reader):
    read = reasoning([True, False, True])._replace(history=reader.read_history(HISTORIES))
    trunk, fused = reader.scores(HISTORIES), reader.scores(HISTORIES, read)
    assert torch.equal(fused[1], trunk[1])  # not well-formed: the history's text counts for nothing either
    other = read._replace(history=read.history.roll(1, dims=0))
    assert not torch.allclose(reader.scores(HISTORIES, other)[0], fused[0])
    alone = reader.scores(HISTORIES[2:], read.at(slice(2, 3)))
    torch.testing.assert_close(alone[0], fused[2])
    torch.nn.init.zeros_(reader.fusion.project.weight)
    assert torch.equal(reader.scores(HISTORIES, read), trunk)


def test_the_mean_of_several_texts_leaves_malformed_ones_out():
    first = Reasoning(torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), torch.tensor([True, False, False]))
    second = Reasoning(torch.tensor([[3.0, 0.0], [1.0, 1.0], [7.0, 8.0]]), torch.tensor([True, True, False]))
    mean = mean_reasoning([first, second])
    assert mean.vectors[:2].tolist() == [[2.0, 1.0], [1.0, 1.0]]
    assert mean.well_formed.tolist() == [True, True, False]
    assert torch.equal(mean_reasoning([second, first]).vectors, mean.vectors)
    assert torch.equal(mean_reasoning([first] * 3).vectors[:1], first.vectors[:1])


def test_batch_equals_rows_one_by_one(head):
    together = head.scores(HISTORIES, reasoning([True] * 3))
    whole = reasoning([True] * 3)
    for i in range(3):
        alone = head.scores(HISTORIES[i : i + 1], Reasoning(whole.vectors[i : i + 1], whole.well_formed[i : i + 1]))
        torch.testing.assert_close(alone[0], together[i])


def test_left_padding_changes_nothing(head):
    left = torch.tensor([[0, 0, 1, 2, 2, 5], [0, 0, 0, 0, 7, 3], [4, 4, 4, 9, 1, 11]])
    torch.testing.assert_close(head.scores(left), head.scores(HISTORIES))


def test_later_items_change_no_earlier_state(head):
    items = head.item_vectors()
    changed = HISTORIES.clone()
    changed[:, 3:] = 8
    before, after = head.states(HISTORIES, items), head.states(changed, items)
    torch.testing.assert_close(after[:, :3], before[:, :3])
    assert not torch.allclose(after[:, 3:], before[:, 3:])


def test_rotated_products_depend_on_distance_alone():
    torch.manual_seed(0)
    q, k = torch.randn(8).expand(10, 8), torch.randn(8).expand(10, 8)
    turns = turns_of(torch.arange(10), 8, q.dtype)
    products = rotate(q, turns) @ rotate(k, turns).T
    for distance in range(-9, 10):
        along = products.diagonal(distance)
        torch.testing.assert_close(along, along[:1].expand_as(along), atol=1e-5, rtol=0)
    torch.testing.assert_close(rotate(q, turns).norm(dim=1), q.norm(dim=1))


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("positions", [1, 7, 2048])
def test_packed_rows_have_the_states_of_padded_ones(layers, positions, monkeypatch):
    monkeypatch.setattr(trunk_module, "_POSITIONS", positions)
    torch.manual_seed(layers)
    head = FusedHead(
        50, torch.randn(50, 4), hidden_size=16, layers=layers, heads=2, inner_size=16, dropout=0.0,
        initializer_range=0.3, history_bias=True,
    ).eval()  # fmt: skip
    items, lengths = head.item_vectors(), [1, 9, 3, 12, 1, 5]
    right = torch.zeros(6, 12, dtype=torch.int64)
    for row, length in enumerate(lengths):
        right[row, :length] = torch.randint(1, 50, (length,))
    expected = head.states(right, items)[torch.arange(6), torch.tensor(lengths) - 1]
    scattered = torch.zeros(6, 30, dtype=torch.int64)  # padding anywhere
    for row, length in enumerate(lengths):
        scattered[row, torch.randperm(30)[:length].sort().values] = right[row, :length]
    read = head.reader(items)
    for histories in (right, scattered):
        torch.testing.assert_close(head.last_state(histories, items), expected)
        torch.testing.assert_close(read(histories), expected)


def test_no_history_at_all(head):
    assert head.last_state(torch.zeros(0, 5, dtype=torch.int64), head.item_vectors()).shape == (0, 8)


def test_an_empty_history_is_read_as_the_padding_item(head):
    items = head.item_vectors()
    empty = torch.zeros(1, 1, dtype=torch.int64)
    both = torch.tensor([[0, 0], [4, 7]])
    torch.testing.assert_close(head.last_state(both, items)[:1], head.states(empty, items)[:, 0])


def test_padding_item_never_wins(head):
    assert (head.scores(HISTORIES)[:, 0] == -torch.inf).all()


def test_history_bias_moves_each_item_of_the_history_once(head):
    items, state = head.item_vectors(), head.last_state(HISTORIES, head.item_vectors())
    plain = score_items(head.user_vectors(state, None), items, distinct(HISTORIES), None)
    moved = head.scores(HISTORIES) - plain
    offset = head.history_offset(state)
    for row, history in enumerate(HISTORIES):
        for item in range(1, 12):
            expected = offset[row] if item in history else torch.tensor(0.0)
            torch.testing.assert_close(moved[row, item], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("budget", [13, 60, 10_000])
def test_all_position_loss_and_gradients_equal_plain_cross_entropy(head, budget):
    targets = torch.tensor([[2, 2, 5, 6, 0, 0], [3, 8, 0, 0, 0, 0], [4, 4, 9, 1, 11, 10]])
    parameters = [head.item_id.weight, head.offset.weight, head.trunk.norm.weight]

    items = head.item_vectors()
    states = head.states(HISTORIES, items)
    learned = targets > 0
    rows, steps = learned.nonzero(as_tuple=True)
    offset, users = head.history_offset(states[learned]), head.user_vectors(states[learned], None)
    ours = recommendation_loss(users, items, targets[learned], distinct(HISTORIES), rows, steps, offset, budget)
    our_gradients = torch.autograd.grad(ours, parameters)

    # RecBole's way: one padded row per prefix.
    prefixes, wanted = [], []
    for row, step in zip(rows.tolist(), steps.tolist(), strict=True):
        prefix = HISTORIES[row].clone()
        prefix[step + 1 :] = 0
        prefixes.append(prefix)
        wanted.append(targets[row, step])
    theirs = F.cross_entropy(head.scores(torch.stack(prefixes)), torch.stack(wanted))
    their_gradients = torch.autograd.grad(theirs, parameters)

    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    for a, b in zip(our_gradients, their_gradients, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


TARGETS = torch.tensor([[2, 2, 5, 6, 0, 0], [3, 8, 0, 0, 0, 0], [4, 4, 9, 1, 11, 10]])


def sampled_and_full(head, negatives):
    items = head.item_vectors()
    states = head.states(HISTORIES, items)
    learned = TARGETS > 0
    rows, steps = learned.nonzero(as_tuple=True)
    offset, users = head.history_offset(states[learned]), head.user_vectors(states[learned], None)
    same = (users, items, TARGETS[learned], distinct(HISTORIES), rows, steps, offset)
    return sampled_recommendation_loss(*same, negatives), recommendation_loss(*same, 10_000)


def test_sampled_loss_with_all_negatives_is_the_full_loss(head):
    parameters = [head.item_id.weight, head.offset.weight, head.trunk.norm.weight]
    sampled, full = sampled_and_full(head, 11)
    torch.testing.assert_close(sampled, full, atol=1e-5, rtol=0)
    ours, theirs = (torch.autograd.grad(loss, parameters, retain_graph=True) for loss in (sampled, full))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_sampled_loss_estimates_the_sum_over_the_catalogue(head):
    """The estimate of the sum is unbiased, so exp(loss) of one position is right on average."""
    torch.manual_seed(3)
    items, state = head.item_vectors(), head.last_state(HISTORIES, head.item_vectors())
    seen, steps = distinct(HISTORIES), torch.tensor([3, 1, 5])
    same = (seen[:1], torch.tensor([0]), steps[:1], head.history_offset(state[:1]))
    full = recommendation_loss(state[:1], items, torch.tensor([6]), *same, 10_000)
    draws = [sampled_recommendation_loss(state[:1], items, torch.tensor([6]), *same, 6) for _ in range(4000)]
    torch.testing.assert_close(torch.stack(draws).exp().mean(), full.exp(), rtol=0.02, atol=0)


@pytest.mark.parametrize("loss", [recommendation_loss, sampled_recommendation_loss, negatives_loss])
def test_a_batch_without_positions_to_learn_from_has_no_loss(head, loss):
    """Windows of users with long histories may hold positions of later stages alone."""
    items, none = head.item_vectors(), torch.zeros(0, dtype=torch.int64)
    states = head.states(HISTORIES, items).flatten(0, 1)[:0]
    value = loss(states, items, none, distinct(HISTORIES), none, none, head.history_offset(states), 5)
    value.backward()
    assert value == 0
    assert torch.isfinite(head.item_id.weight.grad).all()


def test_gradients_are_the_same_every_time():
    torch.manual_seed(0)
    head = FusedHead(
        60, None, hidden_size=64, layers=1, heads=1, inner_size=64, dropout=0.0,
        initializer_range=0.3, history_bias=True,
    )  # fmt: skip
    histories = torch.randint(1, 60, (64, 100))
    weights = torch.randn(64, 100, 64)

    def gradient():
        return torch.autograd.grad((head.states(histories, head.item_vectors()) * weights).sum(), head.item_id.weight)[
            0
        ]

    first = gradient()
    assert all(torch.equal(gradient(), first) for _ in range(5))
