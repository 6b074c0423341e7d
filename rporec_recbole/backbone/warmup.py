"""How a backbone learns from batches of texts: one pass, whatever their loss is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from rporec_recbole.backbone.memory import release_freed_memory
from rporec_recbole.backbone.model import Backbone
from rporec_recbole.errors import TrainingError
from rporec_recbole.settings.bars import progress_bar

_RELEASE_EVERY = 10  # steps
Example = tuple[list[int], list[int]]
"""Tokens and labels."""
Batch = TypeVar("Batch")
Taught = TypeVar("Taught", bound=tuple[Any, ...])


def bucketed_batches(examples: Sequence[Example], batch_size: int, rng: np.random.Generator) -> Iterator[list[Example]]:
    """Batches of examples of similar length, in random order, so that little is spent on padding.

    Args:
        examples: (tokens, labels).
        batch_size: examples per batch; the last one may be smaller.
        rng: decides ties of length and the order of batches.
    """
    order = rng.permutation(len(examples))
    order = order[np.argsort([len(examples[i][0]) for i in order], kind="stable")]
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    for index in rng.permutation(len(batches)):
        yield [examples[i] for i in batches[index]]


def token_batches(examples: Sequence[Taught], tokens: int, rng: np.random.Generator) -> Iterator[list[Taught]]:
    """Batches of examples of similar length, in random order.

    Args:
        examples: tuples that begin with their tokens.
        tokens: of a batch with its padding; one example may have more.
        rng: decides ties of length and the order of batches.
    """
    order = rng.permutation(len(examples))
    order = order[np.argsort([-len(examples[i][0]) for i in order], kind="stable")]
    batches, start = [], 0
    while start < len(order):
        count = max(1, tokens // len(examples[order[start]][0]))
        batches.append(order[start : start + count])
        start += count
    for index in rng.permutation(len(batches)):
        yield [examples[i] for i in batches[index]]


def warm_up(
    backbone: Backbone,
    batches: Sequence[Batch],
    loss_of: Callable[[Batch], Tensor],
    *,
    learning_rate: float,
    desc: str,
    on_step: Callable[[int, float], None],
) -> None:
    """One pass over batches with AdamW, linear warm-up over a tenth of the steps, then cosine decay.

    Args:
        backbone: its trainable weights change.
        batches: one a step.
        loss_of: the loss of a batch.
        learning_rate: highest learning rate.
        desc: label of the progress bar.
        on_step: gets (step, loss).

    Raises:
        TrainingError: the loss is no finite number.
    """
    backbone.model.train()
    weights = backbone.trainable()
    optimizer = torch.optim.AdamW(weights, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    steps = len(batches)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
    with progress_bar(total=steps, desc=desc, unit="step") as bar:
        for step, batch in enumerate(batches):
            loss = loss_of(batch)
            if not torch.isfinite(loss):
                raise TrainingError(f"The loss became {loss.item()} at step {step}; lower warmup_learning_rate.")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            schedule.step()
            on_step(step, loss.item())
            bar.set_postfix(loss=f"{loss.item():.3f}")
            bar.update()
            if step % _RELEASE_EVERY == 0:
                release_freed_memory()
    backbone.model.eval()
    backbone.weights_changed()


def _rate(step: int, steps: int) -> float:
    warm = max(1, steps // 10)
    if step < warm:
        return (step + 1) / warm
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))
