"""Stages 1a and refresh: the trunk learns, epoch by epoch, with a learning-rate schedule, early stopping and snapshots."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from recbole.utils import early_stopping
from torch import Tensor

from rporec_recbole.backbone.running import trains_in_bfloat16
from rporec_recbole.errors import TrainingError
from rporec_recbole.settings.bars import progress_bar
from rporec_recbole.settings.types import TrunkSettings
from rporec_recbole.training.state.positions import PositionLog
from rporec_recbole.training.state.recorder import Recorder
from rporec_recbole.training.state.snapshots import Progress, named, restore_training_state, training_state

_SNAPSHOT = "epoch"


@dataclass(frozen=True)
class Validation:
    """How an epoch is judged.

    Attributes:
        score: validation score of the model as it is.
        metric: its name, for curves.
        every: epochs between two validations.
        patience: training stops when more validations than this, one after the other, bring no gain (RecBole's count).
        bigger: whether more is better.
    """

    score: Callable[[], float]
    metric: str
    every: int
    patience: int
    bigger: bool


def learning_rate_factor(step: int, warmup: int, total: int, schedule: str) -> float:
    """What the learning rate is multiplied with at an optimiser step, counted from 0.

    Linear from 1 / warmup to 1 over the first `warmup` steps; then constant, half a cosine down to a tenth at `total`, or linear down to 0
    there.
    """
    if step < warmup:
        return (step + 1) / warmup
    if schedule == "constant":
        return 1.0
    done = min(1.0, (step - warmup) / max(1, total - warmup))
    if schedule == "linear":
        return 1.0 - done
    return 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * done))


def train_trunk(
    name: str,
    model: Any,
    optimizer: torch.optim.Optimizer,
    loader: Any,
    validation: Validation | None,
    settings: TrunkSettings,
    *,
    epochs: int,
    best_score: float,
    clip: dict[str, Any] | None,
    recorder: Recorder,
    positions: PositionLog,
    progress: Progress,
    on_score: Callable[[int, float], None] | None = None,
) -> dict[str, Any]:
    """Trains up to `epochs` epochs and leaves the best weights in the model.

    Args:
        name: of the stage; names curves and the snapshot.
        model: an `RPORec`; `calculate_loss` of a batch is what gets lower.
        optimizer: over the weights that may change.
        loader: windows.
        validation: None keeps the last epoch.
        settings: schedule and accumulation.
        epochs: at most.
        best_score: what an epoch has to beat for its weights to be kept.
        clip: arguments of `clip_grad_norm_`, or None.
        recorder: gets loss and score by epoch.
        positions: which positions taught what; kept in the snapshots.
        progress: a snapshot is kept after every epoch; one that is there already is continued.
        on_score: gets (epoch, score) after each validation.

    Returns:
        `epochs` (how many ran), `best_epoch` (0: none beat `best_score`) and `best_score`.

    Raises:
        TrainingError: the loss is no finite number.
    """
    best, best_epoch, waited, first, step = copy.deepcopy(model.state_dict()), 0, 0, 0, 0
    saved, stop = progress.load(_SNAPSHOT), False
    if saved is not None and saved.facts["name"] == name:
        first, step, best_epoch, waited, stop = (
            saved.facts[key] for key in ("epoch", "step", "best_epoch", "waited", "stop")
        )
        best_score = saved.facts["best_score"]
        best = saved.under("best")
        restore_training_state(saved, model, optimizer, loader.generator)
        recorder.restore(saved.facts["curves"])
        positions.restore(saved.under("positions"))
        logging.getLogger().info(f"{name}: going on after epoch {first} of a run that was interrupted")
    rates = [group["lr"] for group in optimizer.param_groups]
    total = epochs * math.ceil(len(loader) / settings.gradient_accumulation)
    epoch = first
    with progress_bar(total=epochs, initial=first, desc=name, unit="epoch") as bar:
        while epoch < epochs and not stop:
            loss, step = _epoch(model, optimizer, loader, settings, clip, step, rates, total)
            epoch += 1
            recorder.add(f"{name}/loss", epoch, loss)
            bar.update()
            if validation is not None and (epoch % validation.every == 0 or epoch == epochs):
                score = validation.score()
                recorder.add(f"{name}/{validation.metric}", epoch, score)
                bar.set_postfix(loss=f"{loss:.3f}", **{validation.metric: f"{score:.4f}"})
                best_score, waited, stop, better = early_stopping(
                    score, best_score, waited, validation.patience, validation.bigger
                )
                if better:
                    best, best_epoch = copy.deepcopy(model.state_dict()), epoch
                if on_score:
                    on_score(epoch - 1, score)
            if progress.folder is not None:
                recorder.flush()
                tensors, facts = training_state(model, optimizer, loader.generator)
                progress.save(
                    _SNAPSHOT,
                    {**tensors, **named("best", best), **named("positions", positions.tensors())},
                    {
                        **facts,
                        "name": name,
                        "epoch": epoch,
                        "step": step,
                        "best_epoch": best_epoch,
                        "best_score": best_score,
                        "waited": waited,
                        "stop": stop,
                        "curves": recorder.curves,
                    },
                )
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    if validation is None:
        best_epoch = epoch
    else:
        model.load_state_dict(best)
    return {"epochs": epoch, "best_epoch": best_epoch, "best_score": best_score}


def _epoch(
    model: Any,
    optimizer: torch.optim.Optimizer,
    loader: Any,
    settings: TrunkSettings,
    clip: dict[str, Any] | None,
    step: int,
    rates: list[float],
    total: int,
) -> tuple[float, int]:
    """One pass over the windows: (mean loss of a batch, optimiser steps so far)."""
    model.train()
    device = torch.device(model.device)
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    losses: list[Tensor] = []
    optimizer.zero_grad(set_to_none=True)
    for index, batch in enumerate(loader):
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=trains_in_bfloat16(device)):
            loss = model.calculate_loss(batch.to(device))
        losses.append(loss.detach())
        last = min(len(loader), (index // settings.gradient_accumulation + 1) * settings.gradient_accumulation)
        group_size = last - index // settings.gradient_accumulation * settings.gradient_accumulation
        (loss / group_size).backward()
        if index + 1 < last:
            continue
        if clip:
            torch.nn.utils.clip_grad_norm_(weights, **clip)
        factor = learning_rate_factor(step, settings.lr_warmup_steps, total, settings.lr_schedule)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * factor
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
    mean = torch.stack(losses).mean().item()
    if not math.isfinite(mean):
        raise TrainingError(f"The trunk's loss became {mean}; lower learning_rate or raise lr_warmup_steps.")
    return mean, step
