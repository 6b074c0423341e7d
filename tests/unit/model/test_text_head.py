import numpy as np
import pytest
import torch

from rporec_recbole.model.history_text import HistoryText
from rporec_recbole.model.rechead import Reasoning
from rporec_recbole.model.texthead import TextHead

LINES = ["", *(f"film {item}" for item in range(1, 12))]
HISTORIES = torch.tensor([[1, 2, 2, 5, 0, 0], [7, 3, 0, 0, 0, 0], [4, 4, 4, 9, 1, 11]])


class Spy:
    """An encoder whose vectors depend on the text and nothing else, and that counts what it is asked."""

    size = 6

    def __init__(self):
        self.asked = []

    def encode(self, texts):
        self.asked += texts
        return np.stack([np.random.default_rng([*text.encode()]).normal(size=6) for text in texts]).astype(np.float32)


def new_head(length=3):
    torch.manual_seed(0)
    spy = Spy()
    head = TextHead(
        torch.from_numpy(spy.encode(LINES)), HistoryText(spy, LINES, length), hidden_size=8, layers=2, heads=2,
        inner_size=16, dropout=0.2, initializer_range=0.3, history_bias=True,
    )  # fmt: skip
    spy.asked.clear()
    return head.eval(), spy


def reasoning(well_formed):
    torch.manual_seed(1)
    return Reasoning(torch.randn(3, 12), torch.tensor(well_formed))


def test_malformed_reasoning_is_bit_equal_to_none():
    head, _ = new_head()
    torch.nn.init.normal_(head.fusion.write.weight)
    with_it, without = head.scores(HISTORIES, reasoning([False, True, False])), head.scores(HISTORIES)
    assert torch.equal(with_it[[0, 2]], without[[0, 2]])
    assert not torch.equal(with_it[1], without[1])


def test_new_fusion_is_exactly_no_reasoning():
    head, _ = new_head()
    assert torch.equal(head.scores(HISTORIES, reasoning([True] * 3)), head.scores(HISTORIES))


def test_gradient_reaches_every_weight_of_the_fusion():
    head, _ = new_head()
    state = head.last_state(HISTORIES, head.item_vectors()).detach()
    head.user_vectors(state, reasoning([True] * 3)).square().sum().backward()
    assert head.fusion.write.weight.grad.abs().sum() > 0  # zero itself, so it has to move first
    assert head.fusion.gate.weight.grad.abs().sum() == 0
    torch.nn.init.normal_(head.fusion.write.weight)
    head.zero_grad()
    head.user_vectors(state, reasoning([True] * 3)).square().sum().backward()
    still = {name for name, weight in head.fusion.named_parameters() if weight.grad.abs().sum() == 0}
    assert not still


def test_states_are_those_of_each_prefix():
    head, _ = new_head()
    items = head.item_vectors()
    states = head.states(HISTORIES, items)
    for row, step in (HISTORIES > 0).nonzero().tolist():
        prefix = HISTORIES[row : row + 1].clone()
        prefix[:, step + 1 :] = 0
        torch.testing.assert_close(head.last_state(prefix, items)[0], states[row, step])
        left = torch.cat([torch.zeros(1, 2, dtype=torch.int64), prefix], dim=1)
        torch.testing.assert_close(head.last_state(left, items)[0], states[row, step])


def test_only_the_newest_items_are_read_newest_first_and_once():
    head, spy = new_head(length=3)
    head.prepare(HISTORIES)
    assert len(spy.asked) == len(set(spy.asked)) == (HISTORIES > 0).sum()
    assert "film 5\nfilm 2\nfilm 2" in spy.asked
    assert all(text.count("\n") < 3 for text in spy.asked)
    before = len(spy.asked)
    head.states(HISTORIES, head.item_vectors())
    head.scores(HISTORIES)
    assert len(spy.asked) == before


def test_the_table_grows():
    spy = Spy()
    reader = HistoryText(spy, ["", *(str(item) for item in range(1, 60))], 2)
    first = reader.newest(HISTORIES)
    many = torch.randint(1, 60, (60, 60), generator=torch.Generator().manual_seed(0))
    assert reader.everywhere(many).shape == (60, 60, 6)
    assert len(spy.asked) > 1024
    assert torch.equal(reader.newest(HISTORIES), first)
    np.testing.assert_array_equal(reader.newest(many)[0], spy.encode([f"{many[0, -1]}\n{many[0, -2]}"])[0])


def test_an_empty_history_has_no_text():
    head, spy = new_head()
    state = head.last_state(torch.zeros(1, 4, dtype=torch.int64), head.item_vectors())
    assert torch.equal(state[0], head.text_to_state.bias)
    assert not spy.asked


def test_a_new_head_ranks_by_the_likeness_of_texts():
    head, _ = new_head(length=1)
    head.offset = None
    scores = head.scores(torch.tensor([[3], [8]]))
    wanted = head.item_text[[3, 8]] @ head.item_text.T
    torch.testing.assert_close(scores[:, 1:], wanted[:, 1:], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("training", [True, False])
def test_dropout_acts_in_training_alone(training):
    head, _ = new_head()
    head.train(training)
    assert torch.equal(head.scores(HISTORIES), head.scores(HISTORIES)) is not training
