"""What a trained RPORec is on disk: safetensors and JSON, nothing that needs unpickling.

head.safetensors    trunk and fusion
rporec.json         whether reasoning is on, and what else is needed to build the model again
encoder/            text encoder
backbone/           an ordinary Hugging Face folder, or a PEFT adapter
reasoning.sqlite    the store of reasoning texts
controls/           what only the controls need: the backbone before stage 2, head and backbone before the refresh, trunks
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rporec_recbole.backbone.load import load_backbone
from rporec_recbole.cot.store import CoTStore
from rporec_recbole.data.files import BACKBONE, read_tensors, unwritable, write_json, write_tensors
from rporec_recbole.errors import RunFolderError
from rporec_recbole.model.encoder import load_encoder

HEAD, STATE, ENCODER, STORE = "head.safetensors", "rporec.json", "encoder", "reasoning.sqlite"
CONTROLS = "controls"
BEFORE_RL = f"{CONTROLS}/backbone-before-rl"
HEAD_BEFORE_REFRESH = f"{CONTROLS}/head-before-refresh.safetensors"
BACKBONE_BEFORE_REFRESH = f"{CONTROLS}/backbone-before-refresh"
_FORMAT = 3


def save(model: Any, folder: Path) -> None:
    """Writes a trained model.

    Args:
        model: an `RPORec`.
        folder: made if missing.

    Raises:
        RunFolderError: the folder cannot be written.
    """
    with unwritable(f"The model cannot be written to {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        write_tensors(folder / HEAD, model.state_dict())
        if model.encoder is not None:
            (folder / ENCODER).mkdir(exist_ok=True)
            model.encoder.save(folder / ENCODER)
        if model.backbone is not None:
            model.backbone.save(folder / BACKBONE)
        state = {"format": _FORMAT, "reasoning_on": model.reasoning_on, "has_backbone": model.backbone is not None}
        write_json(folder / STATE, state)
        for file in folder.rglob("*.safetensors"):
            shutil.copymode(folder / STATE, file)  # transformers lets nobody but its owner read what it saves


def keep_before_refresh(head: dict[str, Tensor], backbone: Any, folder: Path) -> None:
    """Keeps head and backbone as they were before they saw the positions that a control's fusion is fitted to.

    Args:
        head: the model's `state_dict`.
        backbone: the `Backbone`.
        folder: of the run.

    Raises:
        RunFolderError: it cannot be written.
    """
    with unwritable(f"The model cannot be written to {folder}"):
        (folder / CONTROLS).mkdir(parents=True, exist_ok=True)
        write_tensors(folder / HEAD_BEFORE_REFRESH, head)
        backbone.save(folder / BACKBONE_BEFORE_REFRESH)


def load_head(model: Any, path: Path) -> None:
    """Loads trunk and fusion from a `head.safetensors`.

    Raises:
        RunFolderError: the file is missing, damaged or belongs to another model.
    """
    belongs = "It must be the head of a run with the same data set and sizes."
    weights, _ = read_tensors(path, belongs)
    try:
        model.load_state_dict({name: tensor.to(model.device) for name, tensor in weights.items()})
    except Exception as error:
        what = " ".join(line.strip() for line in str(error).splitlines()[:3])
        raise RunFolderError(f"{path} cannot be restored: {what} {belongs}") from error
    broken = [name for name, weight in model.named_parameters() if not bool(torch.isfinite(weight).all())]
    if broken:
        raise RunFolderError(
            f"{path} is damaged: `{broken[0]}` holds values that are no finite numbers. Train the run again."
        )


def restore(model: Any, folder: Path, store: CoTStore | None = None) -> None:
    """Brings a new model into the state that `save` wrote.

    Args:
        model: an `RPORec` made from the run's own config and data.
        folder: the run folder.
        store: of reasoning texts; None opens the run's own.

    Raises:
        RunFolderError: a file is missing or damaged.
    """
    try:
        state = dict(json.loads((folder / STATE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise RunFolderError(
            f"{folder / STATE} cannot be read ({error}); {folder} holds no finished RPORec run."
        ) from error
    if state.get("format") != _FORMAT:
        raise RunFolderError(
            f"{folder} was written in format {state.get('format')}, this version reads format {_FORMAT}. Use the version that wrote it."
        )
    if model.encoder is not None:
        text = model.settings.text
        unit = text.text_vector_length == "unit"
        model.use_encoder(load_encoder(text.text_encoder, folder / ENCODER, str(model.device), unit))
    load_head(model, folder / HEAD)
    if state.get("has_backbone"):
        if not (folder / BACKBONE).is_dir():
            raise RunFolderError(
                f"{folder} is not whole: its folder {BACKBONE}/ is gone. Copy all of the run, or train it again."
            )
        backbone = load_backbone(folder / BACKBONE, model.settings.backbone, torch.device(model.device))
        model.connect(backbone, CoTStore(folder / STORE) if store is None else store)
    model.reasoning_on = bool(state.get("reasoning_on"))
    model.eval()
