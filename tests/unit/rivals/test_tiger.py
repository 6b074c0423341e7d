"""TIGER's scores: probabilities of items, exact or by beams, and what they may look at."""

import copy

import pytest
import torch

from rporec_recbole.data.dataset import TARGETS
from rporec_recbole.host.bridge import build_model
from rporec_recbole.host.data import build_data
from tests.toy import toy_config

SMALL = {"item_text_fields": ["title", "genre"], "codebook_size": 4, "codebook_levels": 2, "text_size": 8}


@pytest.fixture(scope="module")
def made(toy):
    """(model, training windows, rows of the test split)."""
    config = toy_config(
        toy, "TIGER", hidden_size=16, n_layers=1, n_heads=2, inner_size=16, MAX_ITEM_LIST_LENGTH=8, **SMALL
    )
    _, train, _, test = build_data(config)
    model = build_model(config, train)
    for head in model.network.heads:
        torch.nn.init.normal_(head.weight)  # a model that has an opinion
    return model.eval(), next(iter(train)), next(iter(test))[0]


@torch.no_grad()
def test_probabilities_of_all_items_add_up_to_one(made):
    model, _, rows = made
    scores = model.full_sort_predict(rows)
    torch.testing.assert_close(scores[:, 1:].exp().sum(dim=1), torch.ones(len(rows)))
    own = scores.gather(1, rows["item_id"][:, None]).squeeze(1)
    torch.testing.assert_close(model.predict(rows), own)


@torch.no_grad()
def test_every_beam_is_an_item_and_the_best_ones_are_those_of_the_exact_scores(made):
    model, _, rows = made
    exact, model.beams = model.full_sort_predict(rows), 20
    try:
        some = model.full_sort_predict(rows)
        model.beams = model.n_items
        every = model.full_sort_predict(rows)
    finally:
        model.beams = 0
    torch.testing.assert_close(every[:, 1:], exact[:, 1:])  # as many beams as items lose none
    floor = some.amin(dim=1, keepdim=True)
    named = some > floor
    assert named.sum(dim=1).tolist() == [20] * len(rows)
    assert not named[:, 0].any()  # padding is no item
    torch.testing.assert_close(some[named], exact[named])
    assert bool(((some == floor) | named).all())  # all others stand below, at one height


@torch.no_grad()
def test_scores_read_neither_the_target_nor_what_stands_behind_a_history(made):
    model, _, rows = made
    before, other = model.full_sort_predict(rows), copy.deepcopy(rows)
    other.interaction["item_id"] = rows["item_id"].flip(0)
    torch.testing.assert_close(model.full_sort_predict(other), before)
    one = rows[:1]  # in a batch of its own the history has no padding
    torch.testing.assert_close(model.full_sort_predict(one), before[:1])


@torch.no_grad()
def test_the_loss_is_that_of_each_target_after_the_items_before_it(made):
    """A window teaches at once what as many histories would teach one by one."""
    model, windows, _ = made
    window, total, count = windows[:1], 0.0, 0
    for step in range(int(window["item_length"])):
        one = copy.deepcopy(window)
        one.interaction["item_length"] = torch.tensor([step + 1])
        one.interaction[TARGETS] = torch.where(torch.arange(one[TARGETS].shape[1]) == step, one[TARGETS], 0)
        total, count = total + float(model.calculate_loss(one)), count + 1
    assert float(model.calculate_loss(window)) == pytest.approx(total / count, rel=1e-4)
