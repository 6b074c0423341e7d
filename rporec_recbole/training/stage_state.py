"""The state of a run between two stages: kept after each stage, put back when a killed run goes on."""

from __future__ import annotations

from typing import Any

import torch

from rporec_recbole.backbone.load import load_backbone
from rporec_recbole.cot.store import CoTStore
from rporec_recbole.training import checkpoint
from rporec_recbole.training.resume import (
    Progress,
    named,
    optimizer_tensors,
    random_states,
    restore_optimizer,
    restore_random_states,
)

_SNAPSHOT = "stage"
_FACTS = ("best_valid_score", "best_valid_result", "stage_results", "stages")


def keep(progress: Progress, trainer: Any, loader: Any, done: list[str]) -> None:
    """Keeps everything that the stages after `done` start from.

    Args:
        progress: where; without a folder nothing is kept.
        trainer: an `RPORecTrainer`.
        loader: the training loader.
        done: the stages that have run, in order.
    """
    if progress.folder is None:
        return
    model = trainer.model
    if model.backbone is not None:
        model.backbone.save(progress.folder / f"backbone-{done[-1]}")
    random_tensors, random_facts = random_states(loader.generator)
    progress.save(
        _SNAPSHOT,
        {
            **named("model", model.state_dict()),
            **named("optimizer", optimizer_tensors(trainer.optimizer)),
            **named("random", random_tensors),
        },
        {
            "done": done,
            "has_backbone": model.backbone is not None,
            "reasoning_on": model.reasoning_on,
            "curves": trainer.recorder.curves,
            "random": random_facts,
            **{name: getattr(trainer, name) for name in _FACTS},
        },
    )


def put_back(progress: Progress, trainer: Any, loader: Any) -> list[str]:
    """Restores what `keep` kept last; the stages that are done, none if there is nothing to go on from.

    Raises:
        RunFolderError: the snapshot is damaged.
        BackboneError: the backbone beside it is.
    """
    kept = progress.load(_SNAPSHOT)
    if kept is None or progress.folder is None:
        return []
    facts, model = kept.facts, trainer.model
    model.load_state_dict(kept.under("model"))
    restore_optimizer(trainer.optimizer, kept.under("optimizer"))
    if facts["has_backbone"]:
        folder = progress.folder / f"backbone-{facts['done'][-1]}"
        backbone = load_backbone(folder, model.settings.backbone, torch.device(trainer.device))
        model.connect(backbone, CoTStore(trainer.folder / checkpoint.STORE))
    model.reasoning_on = facts["reasoning_on"]
    for name in _FACTS:
        setattr(trainer, name, facts[name])
    trainer.recorder.restore(facts["curves"])
    restore_random_states(loader.generator, kept.under("random"), facts["random"])
    return list(facts["done"])
