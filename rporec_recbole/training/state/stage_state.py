"""The state of a run between two stages: kept after each stage, put back when a killed run goes on."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from rporec_recbole.backbone.load import load_backbone
from rporec_recbole.cot.store import CoTStore
from rporec_recbole.data.files import replacing_folder
from rporec_recbole.settings.places import PLACES
from rporec_recbole.training.state import checkpoint
from rporec_recbole.training.state.snapshots import Progress, named, restore_training_state, training_state
from rporec_recbole.version import versions

_SNAPSHOT = "stage"
_FACTS = ("best_valid_score", "best_valid_result", "stage_results", "stages", "rounds", "tried")


def identity(trainer: Any, loader: Any) -> str:
    """Digest of what a run must share with the snapshots it goes on from: data, versions, and what shapes the model, wherever that lies.
    That every setting is the same, `make_run_folder` in `runs/folder.py` sees to."""
    settings = dataclasses.asdict(trainer.model.settings)
    for part in settings.values():
        for place in PLACES:
            part.pop(place, None)
    digest = hashlib.sha256(f"{versions()} {trainer.seed} {trainer.learning_rate} {trainer.epochs} {settings}".encode())
    timeline = loader.dataset.timeline
    for field in (loader.dataset.uid_field, loader.dataset.iid_field, trainer.config["RATING_FIELD"]):
        if field in timeline:
            digest.update(timeline[field].numpy().tobytes())
    if trainer.model.catalogue is not None:
        digest.update("\n".join(trainer.model.catalogue.lines).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def backbone_folder(parent: Path, backbone: Any) -> Path:
    """Where `keep` keeps a backbone with these very weights, under the folder of the snapshots."""
    return parent / f"backbone-{backbone.fingerprint[:16]}"


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
    model, backbone = trainer.model, None
    if model.backbone is not None:
        folder = backbone_folder(progress.folder, model.backbone)
        backbone = folder.name
        try:
            if not folder.is_dir():
                progress.folder.mkdir(parents=True, exist_ok=True)
                with replacing_folder(folder) as fresh:
                    model.backbone.save(fresh)
        except (OSError, SafetensorError) as error:
            progress.warn(folder, error)
            return
    tensors, facts = training_state(model, trainer.optimizer, loader.generator)
    kept = progress.save(
        _SNAPSHOT,
        {**tensors, **named("positions", trainer.positions.tensors())},
        {
            **facts,
            "done": done,
            "backbone": backbone,
            "reasoning_on": model.reasoning_on,
            "curves": trainer.recorder.curves,
            **{name: getattr(trainer, name) for name in _FACTS},
        },
    )
    if kept:
        for old in progress.folder.glob("backbone-*"):
            if old.name != backbone:
                shutil.rmtree(old, ignore_errors=True)


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
    if facts["backbone"]:
        backbone = load_backbone(
            progress.folder / facts["backbone"], model.settings.backbone, torch.device(trainer.device)
        )
        model.connect(backbone, CoTStore(trainer.folder / checkpoint.STORE))
    model.reasoning_on = facts["reasoning_on"]
    for name in _FACTS:
        setattr(trainer, name, facts[name])
    trainer.recorder.restore(facts["curves"])
    trainer.positions.restore(kept.under("positions"))
    restore_training_state(kept, model, trainer.optimizer, loader.generator)  # last: loading a backbone draws numbers
    return list(facts["done"])
