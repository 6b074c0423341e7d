"""When a fusion stops to learn, and what it keeps."""

import dataclasses

import pytest
import torch

from rporec_recbole.model.answers import AnswerExpert, Guesses
from rporec_recbole.model.fusedhead import FusedHead
from rporec_recbole.model.rechead import Reasoning
from rporec_recbole.settings.reader import default_settings
from rporec_recbole.training.stage1.fusion import FusionRows, train_fusion


@pytest.fixture
def head():
    torch.manual_seed(5)
    return FusedHead(
        10, torch.randn(10, 4), hidden_size=8, layers=1, heads=2, inner_size=16, dropout=0.0, initializer_range=0.1,
        history_bias=False,
    )  # fmt: skip


def rows_of(targets: torch.Tensor) -> FusionRows:
    """Rows with one and the same state, whose reasoning names a number from 1 to 4."""
    named = torch.arange(len(targets)) % 4
    reasoning = Reasoning(torch.eye(8)[named], torch.ones(len(targets), dtype=torch.bool))
    return FusionRows(torch.ones(len(targets), 8), torch.zeros(len(targets), 1, dtype=torch.int64), reasoning, targets)


def trained(head, valid_targets, **settings):
    """The kept epoch and how many epochs were run."""
    epochs = []
    chosen = dataclasses.replace(default_settings().fusion, fusion_batch_size=8, fusion_learning_rate=0.02, **settings)
    train = rows_of(torch.arange(64) % 4 + 1)
    kept = train_fusion(
        head, train, rows_of(valid_targets), chosen, seed=0, desc="", on_epoch=lambda epoch, *_: epochs.append(epoch)
    )
    return kept, epochs[-1]


def test_reasoning_that_does_not_help_ends_it_and_changes_nothing(head):
    before = {name: one.clone() for name, one in head.state_dict().items()}
    others = torch.arange(16) % 4 + 5  # no training row has any of these targets
    assert trained(head, others, fusion_epochs=30, fusion_patience=3) == (0, 3)
    assert all(torch.equal(one, before[name]) for name, one in head.state_dict().items())


def test_as_long_as_validation_gains_it_goes_on(head):
    assert trained(head, torch.arange(16) % 4 + 1, fusion_epochs=12, fusion_patience=3) == (12, 12)


def test_an_answer_that_is_right_is_heard_though_further_guesses_never_are(head):
    rows = rows_of(torch.arange(64) % 4 + 1)
    draw = torch.Generator().manual_seed(0)
    further = (rows.targets[:, None] + torch.randint(1, 4, (64, 3), generator=draw) - 1) % 4 + 1  # never the target
    items = torch.cat([rows.targets[:, None], further], dim=1)
    facts = torch.tensor([1.0, -3.0, 0.0, 1.0, 0.0]).expand(64, 4, 5).clone()  # as sure of one as of another
    facts[:, 0, 4] = 1.0
    guesses = Guesses(items[:, :, None], torch.ones(64, 4, 1, 3), facts)
    rows = dataclasses.replace(rows, reasoning=rows.reasoning._replace(guesses=guesses))
    head.expert = AnswerExpert(10)
    head.fusion.requires_grad_(False)  # the expert alone
    settings = dataclasses.replace(default_settings().fusion, fusion_epochs=100)
    train_fusion(head, rows, None, settings, seed=0, desc="")
    scores = head.scores_of(rows.states, head.item_vectors(), rows.seen, rows.reasoning)
    assert (scores.argmax(dim=1) == rows.targets).all()
