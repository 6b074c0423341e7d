"""How much of the fusion's move counts."""

import copy
import json

import numpy as np
import pytest
import torch

from rporec_recbole.model.answers import AnswerExpert
from rporec_recbole.model.fusedhead import FusedHead
from rporec_recbole.model.rechead import Reasoning
from rporec_recbole.settings.types import FusionSettings
from rporec_recbole.training.stage1.fusion import FusionRows, train_fusion
from rporec_recbole.training.stage1.strength import Strengths, Tried, _ranks, try_strengths


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


def tried_of(head, rows, strengths, **more):
    """Twenty users whose texts say which item comes next, or nothing of it."""
    reads = lambda index: None  # noqa: E731
    return try_strengths(
        head,
        rows,
        np.arange(len(rows)) % 20,
        more.pop("fit", reads),
        strengths,
        metric="ndcg@10",
        hide_seen=False,
        seed=1,
        **more,
    )


def fusion_rows_of(head, told: bool) -> FusionRows:
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(1, 20, (80,), generator=generator)
    vectors = torch.randn(80, 12, generator=generator)
    if told:  # the answer's half is the target's text
        vectors[:, 6:] = head.item_text[targets]
    reasoning = Reasoning(vectors, torch.ones(80, dtype=torch.bool))
    return FusionRows(torch.zeros(80, 8), torch.zeros(80, 3, dtype=torch.int64), reasoning, targets)


def learn(head):
    """What a fit does: the fusion learns where the target's text points."""

    def fit(rows):
        fit.seen.append(len(rows))
        settings = FusionSettings(
            **{
                **dict.fromkeys(FusionSettings.__dataclass_fields__),
                "fusion_epochs": 30,
                "fusion_patience": 30,
                "fusion_batch_size": 16,
                "fusion_learning_rate": 0.02,
                "answers_learning_rate": 0.02,
                "cot_dropout": 0.0,
            }
        )
        train_fusion(head, rows, None, settings, seed=0, desc="fit")

    fit.seen = []
    return fit


def test_what_helps_on_other_users_counts_and_what_does_not_is_silent(head):
    before = copy.deepcopy(head.state_dict())
    fit = learn(head)
    told = tried_of(head, fusion_rows_of(head, True), [0, 0.5, 1], fit=fit)
    assert told.rows == 80
    assert fit.seen == [40, 40]
    assert told.best.fusion > 0
    assert told.scores[Strengths(1.0, 0.0)] > told.scores[Strengths(0.0, 0.0)] + 0.05
    after = head.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert Tried.of_json(json.loads(json.dumps(told.as_json()))) == told


def test_of_equal_ones_the_smallest(head):
    head.expert = AnswerExpert(20)
    torch.nn.init.zeros_(head.fusion.project.weight)  # says nothing at any strength
    rows = fusion_rows_of(head, False)
    tried = tried_of(head, rows, [1, 0.5, 0])
    assert len(tried.scores) == 9
    assert next(iter(tried.scores)) == Strengths(0.0, 0.0) == tried.best
    tried.best.set(head)
    assert not head.reads
    Strengths(0.0, 0.25).set(head)
    assert head.reads


def test_without_two_users_nothing_counts(head):
    rows = fusion_rows_of(head, True).at(torch.arange(1))
    assert tried_of(head, rows, [0, 1]).best == Strengths(0.0, 0.0)
    assert tried_of(head, rows, [1]).best == Strengths(0.0, 0.0)


def test_seen_items_are_hidden_where_the_evaluation_hides_them(head):
    rows = fusion_rows_of(head, False)
    seen = torch.stack([rows.targets, rows.targets % 19 + 1, torch.zeros(80, dtype=torch.int64)], dim=1)
    rows = FusionRows(rows.states, seen, rows.reasoning, rows.targets)
    with torch.no_grad():
        for parameter in head.fusion.parameters():
            parameter.zero_()
    ranks = {hide: _ranks(head, rows, hide) for hide in (False, True)}
    assert (ranks[True] == ranks[False] - 1).any()  # the neighbour stood above some
    assert (ranks[True] <= ranks[False]).all()


def test_a_refreshed_trunk_hears_answers_alone():
    tried = Tried({Strengths(0.0, 0.0): 0.1, Strengths(0.0, 1.0): 0.2, Strengths(0.5, 0.0): 0.3}, "ndcg@10", 4)
    assert tried.best == Strengths(0.5, 0.0)
    assert tried.of_answers().best == Strengths(0.0, 1.0)
    assert tried.of_answers().rows == 4
