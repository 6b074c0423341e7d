"""Items that training never met: no candidates of the loss, and scored by what is known of them."""

import pytest
import torch
import torch.nn.functional as F

from rporec_recbole.model.fusedhead import FusedHead
from rporec_recbole.model.losses import negatives_loss, recommendation_loss, sampled_recommendation_loss
from rporec_recbole.model.rechead import distinct

HISTORIES = torch.tensor([[1, 2, 2, 5, 0, 0], [7, 3, 0, 0, 0, 0], [4, 4, 4, 9, 1, 11]])
TARGETS = torch.tensor([[2, 2, 5, 1, 0, 0], [3, 9, 0, 0, 0, 0], [4, 4, 9, 1, 11, 3]])
COLD = [6, 8, 10]


def new_head(text=True, **more):
    torch.manual_seed(0)
    head = FusedHead(
        12, torch.randn(12, 4) if text else None, hidden_size=8, layers=1, heads=2, inner_size=16, dropout=0.0,
        initializer_range=0.3, history_bias=True, **more,
    )  # fmt: skip
    head.learned[COLD] = False
    return head.eval()


def loss_parts(head):
    items = head.item_vectors()
    states = head.states(HISTORIES, items)
    learned = TARGETS > 0
    rows, steps = learned.nonzero(as_tuple=True)
    states = states[learned]
    return states, items, TARGETS[learned], distinct(HISTORIES), rows, steps, head.history_offset(states)


@pytest.mark.parametrize(
    ("loss", "size"),
    [
        (recommendation_loss, 60),
        (sampled_recommendation_loss, 5),
        (sampled_recommendation_loss, 50),
        (negatives_loss, 7),
    ],
)
def test_no_gradient_reaches_a_cold_item(loss, size):
    head = new_head()
    states, items, *more = loss_parts(head)
    (gradient,) = torch.autograd.grad(loss(states, items, *more, size, head.learned), items)
    assert (gradient[[0, *COLD]] == 0).all()
    assert (gradient[[1, 2, 3, 4, 9]] != 0).any(dim=1).all()


def test_the_loss_is_that_of_a_catalogue_without_them():
    head = new_head()
    states, items, targets, seen, rows, steps, offset = loss_parts(head)
    kept = head.learned.clone()
    kept[0] = True
    new_id = kept.cumsum(0) - 1
    small = recommendation_loss(states, items[kept], new_id[targets], new_id[seen], rows, steps, offset, 999)
    for loss, size in ((recommendation_loss, 40), (sampled_recommendation_loss, 8)):
        found = loss(states, items, targets, seen, rows, steps, offset, size, head.learned)
        torch.testing.assert_close(found, small)


def test_without_cold_items_nothing_changes():
    head = new_head()
    head.learned[COLD] = True
    parts = loss_parts(head)
    for loss in (recommendation_loss, sampled_recommendation_loss):
        torch.manual_seed(5)
        plain = loss(*parts, 9)
        torch.manual_seed(5)
        assert torch.equal(loss(*parts, 9, head.learned), plain)
    assert torch.equal(head.item_vectors(), head.item_id.weight + head.text_to_item(head.item_text))


def test_a_cold_item_has_no_id_but_its_text():
    head = new_head()
    vectors, kept = head.item_vectors(), head.learned
    torch.testing.assert_close(vectors[COLD], head.text_to_item(head.item_text[COLD]))
    assert torch.equal(vectors[kept], (head.item_id.weight + head.text_to_item(head.item_text))[kept])
    assert torch.equal(vectors[0], head.text_to_item(head.item_text)[0])
    without = new_head(text=False)
    assert (without.item_vectors()[COLD] == 0).all()
    assert without.scores(HISTORIES)[:, 0].isneginf().all()


def test_id_dropout_hides_ids_in_training_alone():
    head = new_head(id_dropout=0.5)
    sure = head.item_vectors()
    torch.testing.assert_close(head.item_vectors(), sure)
    head.train()
    drawn = [head.item_vectors() for _ in range(50)]
    changed = torch.stack([(one != sure).any(dim=1) for one in drawn]).float().mean(dim=0)
    assert changed[0] == 0
    assert ((changed[head.learned] > 0.2) & (changed[head.learned] < 0.8)).all()
    assert new_head(text=False, id_dropout=0.5).id_dropout == 0


def test_negatives_are_never_the_target_and_count_plainly():
    """With all other items drawn many times the loss tends to log of the mean of exp over them."""
    head = new_head()
    states, items, targets, seen, rows, steps, offset = (part[:1] for part in loss_parts(head))
    torch.manual_seed(0)
    items, seen = head.item_vectors(), distinct(HISTORIES)
    many = 50_000
    found = negatives_loss(states, items, targets, seen, rows, steps, offset, many, head.learned)
    scores = items @ states[0]
    scores[1] += offset[0]  # the history of the first position is item 1
    others = [item for item in range(1, 12) if head.learned[item] and item != targets[0]]
    own = scores[targets[0]]
    expected = torch.log(own.exp() + many * scores[others].exp().mean()) - own
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0)


def test_negatives_with_one_other_item_by_hand():
    users, items = torch.randn(3, 4), torch.randn(4, 4)
    candidates = torch.tensor([False, True, False, True])
    targets, nothing = torch.tensor([1, 3, 1]), torch.zeros(3, 2, dtype=torch.int64)
    rows, steps = torch.arange(3), torch.zeros(3, dtype=torch.int64)
    found = negatives_loss(users, items, targets, nothing, rows, steps, None, 1, candidates)
    expected = F.cross_entropy(users @ items[[1, 3]].T, torch.tensor([0, 1, 0]))
    torch.testing.assert_close(found, expected)
