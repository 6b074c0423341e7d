"""Stages 1c and 2b: the fusion learns how generated reasoning moves a user vector. The trunk stays frozen."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rporec_recbole.data.score_budget import rows_at_once
from rporec_recbole.model.rechead import Reasoning, RecHead, distinct
from rporec_recbole.settings.bars import progress_bar
from rporec_recbole.settings.types import FusionSettings

_ROWS = 1024


@dataclass(frozen=True)
class RowTexts:
    """What R rows were read from.

    Attributes:
        histories: `[R, T]` item ids.
        cots: R texts, as the head reads them.
        answers: R texts.
    """

    histories: Tensor
    cots: Sequence[str]
    answers: Sequence[str]

    def at(self, index: Tensor) -> RowTexts:
        """Some of the rows."""
        places = index.tolist()
        return RowTexts(
            self.histories[index], [self.cots[row] for row in places], [self.answers[row] for row in places]
        )


@dataclass(frozen=True)
class FusionRows:
    """Positions with everything the fusion needs of them; the trunk has run already.

    Attributes:
        states: `[R, H]` trunk states.
        seen: `[R, T]` distinct items of each history.
        reasoning: what the backbone wrote, encoded, with what the fusion reads of the history's text.
        targets: `[R]` item ids.
        negatives: `[R, K]` items that each target is learned among; None: the whole catalogue.
        texts: what states and vectors are made of anew while all of the head learns; None where they stay as they are.
    """

    states: Tensor
    seen: Tensor
    reasoning: Reasoning
    targets: Tensor
    negatives: Tensor | None = None
    texts: RowTexts | None = None

    def __len__(self) -> int:
        return len(self.targets)

    def at(self, index: Tensor) -> FusionRows:
        """Some of the rows."""
        index = index.to(self.targets.device)
        return FusionRows(
            self.states[index],
            self.seen[index],
            self.reasoning.at(index),
            self.targets[index],
            None if self.negatives is None else self.negatives[index],
            None if self.texts is None else self.texts.at(index),
        )

    def read(self, head: RecHead, items: Tensor) -> tuple[Tensor, Reasoning]:
        """States and reasoning as the head reads them now; as they are where nothing is kept to make them of."""
        if self.texts is None:
            return self.states, self.reasoning
        states = head.last_state(self.texts.histories, items)
        vectors = head.read_texts(self.texts.cots, self.texts.answers)
        return states, self.reasoning if vectors is None else self.reasoning._replace(vectors=vectors)


@torch.no_grad()
def fusion_rows(
    head: RecHead, histories: Tensor, clock: Tensor | None, reasoning: Reasoning, targets: Tensor
) -> FusionRows:
    """Runs the trunk over histories, `[R, T]`, and their seconds, `[R, T]` or None, once."""
    head.eval()
    items, parts = head.item_vectors(), histories.split(_ROWS)
    clocks = [None] * len(parts) if clock is None else clock.split(_ROWS)
    states = torch.cat([head.last_state(part, items, times) for part, times in zip(parts, clocks, strict=True)])
    seen = torch.cat([distinct(part) for part in parts])
    return FusionRows(states, seen, reasoning, targets)


def fusion_loss(
    head: RecHead,
    items: Tensor,
    rows: FusionRows,
    index: Tensor,
    shown: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Cross-entropy of the targets over the full catalogue, or among the negatives that the rows have.

    Args:
        head: its fusion gets the gradient; all of it where the rows have texts.
        items: `[N, H]` item vectors.
        rows: all positions.
        index: `[B]` which of them.
        shown: `[B]` False hides a row's reasoning (CoT dropout); None shows all.
        reduction: `mean`, or `none` for one loss a row, `[B]`.
    """
    some = rows.at(index)
    states, reasoning = some.read(head, items)
    if shown is not None:
        reasoning = reasoning._replace(well_formed=reasoning.well_formed & shown)
        if head.reads_malformed:
            reasoning = reasoning._replace(vectors=torch.where(shown[:, None], reasoning.vectors, 0.0))
    scores = head.scores_of(states, items, some.seen, reasoning)
    if some.negatives is None:
        return F.cross_entropy(scores, some.targets, reduction=reduction)
    scores = scores.gather(1, torch.cat([some.targets[:, None], some.negatives], dim=1))
    return F.cross_entropy(scores, torch.zeros_like(some.targets), reduction=reduction)


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
    """Trains the fusion's weights, or with `fusion_learns: head` all of the head's, at full strength, and keeps the epoch with the lowest
    validation loss.

    Epoch 0, the fusion as it came, takes part: reasoning that does not help on validation changes nothing. With `fusion_keeps: last` the last
    epoch is kept, and nothing ends it early.

    Args:
        head: only `head.fusion` and `head.expert` change, unless all of it learns; both count in full.
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
    all_learns = settings.fusion_learns == "head"
    learned: dict[str, tuple[nn.Module, float]] = {
        "fusion": (head if all_learns else fusion, settings.fusion_learning_rate * rate_factor)
    }
    if head.expert is not None:
        learned["expert"] = head.expert, settings.answers_learning_rate
    parts = nn.ModuleDict({name: part for name, (part, _) in learned.items()})
    apart = set(head.expert.parameters()) if all_learns and head.expert is not None else set()
    groups: list[dict[str, Any]] = [
        {"params": [one for one in part.parameters() if name == "expert" or one not in apart], "lr": rate}
        for name, (part, rate) in learned.items()
    ]
    optimizer = torch.optim.Adam(groups)
    rates = [group["lr"] for group in groups]
    step, steps = 0, settings.fusion_epochs * -(-len(train) // settings.fusion_batch_size)
    best, best_epoch = _loss(head, items, valid), 0
    best_weights = copy.deepcopy(parts.state_dict())
    on_epoch(0, _loss(head, items, train), best)
    for epoch in progress_bar(range(1, settings.fusion_epochs + 1), desc=desc, unit="epoch"):
        order = torch.randperm(len(train), generator=generator)
        total = 0.0
        head.train(all_learns)
        for index in order.split(settings.fusion_batch_size):
            shown = torch.rand(len(index), generator=generator) >= settings.cot_dropout
            if settings.fusion_schedule == "linear":
                for group, rate in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate * (1 - step / steps)
            step += 1
            items = head.item_vectors() if all_learns else items
            loss = fusion_loss(head, items, train, index.to(train.targets.device), shown.to(train.targets.device))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(index)
        head.eval()
        if all_learns:
            with torch.no_grad():
                items = head.item_vectors()
        score = _loss(head, items, valid)
        on_epoch(epoch, total / max(1, len(train)), score)
        if valid is None or settings.fusion_keeps == "last" or score < best:
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
