"""Stages 1c and 2b: the fusion learns how generated reasoning moves a user vector. The trunk stays frozen."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rporec_recbole.data.score_budget import rows_at_once
from rporec_recbole.model.rechead import Reasoning, RecHead, distinct
from rporec_recbole.settings.bars import progress_bar
from rporec_recbole.settings.types import FusionSettings

_ROWS = 1024


@dataclass(frozen=True)
class FusionRows:
    """Positions with everything the fusion needs of them; the trunk has run already.

    Attributes:
        states: `[R, H]` trunk states.
        seen: `[R, T]` distinct items of each history.
        reasoning: what the backbone wrote, encoded, with what the fusion reads of the history's text.
        targets: `[R]` item ids.
    """

    states: Tensor
    seen: Tensor
    reasoning: Reasoning
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def at(self, index: Tensor) -> FusionRows:
        """Some of the rows."""
        index = index.to(self.targets.device)
        return FusionRows(self.states[index], self.seen[index], self.reasoning.at(index), self.targets[index])


@torch.no_grad()
def fusion_rows(head: RecHead, histories: Tensor, reasoning: Reasoning, targets: Tensor) -> FusionRows:
    """Runs the trunk over histories, `[R, T]`, once."""
    head.eval()
    items = head.item_vectors()
    parts = range(0, len(histories), _ROWS)
    states = torch.cat([head.last_state(histories[i : i + _ROWS], items) for i in parts])
    seen = torch.cat([distinct(histories[i : i + _ROWS]) for i in parts])
    return FusionRows(states, seen, reasoning, targets)


def fusion_loss(
    head: RecHead,
    items: Tensor,
    rows: FusionRows,
    index: Tensor,
    shown: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Cross-entropy of the targets over the full catalogue.

    Args:
        head: its fusion gets the gradient.
        items: `[N, H]` item vectors.
        rows: all positions.
        index: `[B]` which of them.
        shown: `[B]` False hides a row's reasoning (CoT dropout); None shows all.
        reduction: `mean`, or `none` for one loss a row, `[B]`.
    """
    reasoning = rows.reasoning.at(index)
    if shown is not None:
        reasoning = reasoning._replace(well_formed=reasoning.well_formed & shown)
    scores = head.scores_of(rows.states[index], items, rows.seen[index], reasoning)
    return F.cross_entropy(scores, rows.targets[index], reduction=reduction)


def train_fusion(
    head: RecHead,
    train: FusionRows,
    valid: FusionRows | None,
    settings: FusionSettings,
    *,
    seed: int,
    desc: str,
    rate_factor: float = 1.0,
    on_epoch: Callable[[int, float, float], None] = lambda epoch, loss, valid_loss: None,
) -> int:
    """Trains the fusion's weights at full strength and keeps the epoch with the lowest validation loss.

    Epoch 0, the fusion as it came, takes part: reasoning that does not help on validation changes nothing.

    Args:
        head: only `head.fusion` and `head.expert` change, and both count in full.
        train: positions of the fusion rung.
        valid: validation positions; None keeps the last epoch.
        settings: epochs, how many without a lower validation loss end it, batch size, learning rate of Adam, and the share of
            rows whose reasoning is hidden in a step.
        seed: seed of order and dropout.
        desc: label of the progress bar.
        rate_factor: times the learning rate of the fusion. The expert's stays: how far answers may be trusted is a matter of thirty numbers,
            and another writer may ask for quite others.
        on_epoch: gets (epoch, training loss, validation loss).

    Returns:
        the epoch that was kept.
    """
    fusion = head.fusion
    assert fusion is not None, "an ids-only head has no fusion"
    head.eval()
    head.at_full_strength()
    with torch.no_grad():
        items = head.item_vectors()
    generator = torch.Generator().manual_seed(seed)
    learned: dict[str, tuple[nn.Module, float]] = {"fusion": (fusion, settings.fusion_learning_rate * rate_factor)}
    if head.expert is not None:
        learned["expert"] = head.expert, settings.answers_learning_rate
    parts = nn.ModuleDict({name: part for name, (part, _) in learned.items()})
    groups = [{"params": part.parameters(), "lr": rate} for part, rate in learned.values()]
    optimizer = torch.optim.Adam(groups)
    best, best_epoch = _loss(head, items, valid), 0
    best_weights = copy.deepcopy(parts.state_dict())
    on_epoch(0, _loss(head, items, train), best)
    for epoch in progress_bar(range(1, settings.fusion_epochs + 1), desc=desc, unit="epoch"):
        order = torch.randperm(len(train), generator=generator)
        total = 0.0
        for index in order.split(settings.fusion_batch_size):
            shown = torch.rand(len(index), generator=generator) >= settings.cot_dropout
            loss = fusion_loss(head, items, train, index.to(train.targets.device), shown.to(train.targets.device))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(index)
        score = _loss(head, items, valid)
        on_epoch(epoch, total / max(1, len(train)), score)
        if valid is None or score < best:
            best, best_epoch = score, epoch
            best_weights = copy.deepcopy(parts.state_dict())
        elif epoch - best_epoch >= settings.fusion_patience:
            break
    parts.load_state_dict(best_weights)
    return best_epoch


@torch.no_grad()
def _loss(head: RecHead, items: Tensor, rows: FusionRows | None) -> float:
    if rows is None or not len(rows):
        return float("nan")
    total = 0.0
    for index in torch.arange(len(rows), device=rows.targets.device).split(rows_at_once(_ROWS, len(items))):
        total += fusion_loss(head, items, rows, index).item() * len(index)
    return total / len(rows)
