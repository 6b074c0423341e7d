"""Several processes for one run: the main one runs all stages, the others share the writing of texts and every step of stage 2.

A helper builds data and model as the main process does, and waits for what it is asked. What it needs of the main process's
state it takes from the snapshots in the run folder: before a round of stage 2 the state after the stage before, so that both start from
the same weights; before it writes texts, the backbone.
"""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from rporec_recbole.backbone.load import load_backbone
from rporec_recbole.cot.reasoner import SHARED
from rporec_recbole.cot.store import CoTStore, Decoding
from rporec_recbole.training.stage2.rounds import refine
from rporec_recbole.training.state import stage_state
from rporec_recbole.training.state.positions import PositionLog
from rporec_recbole.training.state.processes import Processes
from rporec_recbole.training.state.snapshots import Progress

_REFINE, _WRITE, _END = "refine", "write", "end"


class Helpers:
    """The other processes, as the main one sees them.

    Args:
        processes: all of them.
        trainer: the main process's `RPORecTrainer`.
    """

    def __init__(self, processes: Processes, trainer: Any) -> None:
        self._processes, self._trainer = processes, trainer

    def refine(self, number: int) -> None:
        """Calls them to a round of stage 2; the snapshot of the stage before is there."""
        trainer = self._trainer
        self._processes.share((_REFINE, (str(trainer.progress.folder), str(trainer.reward_folder), number)))

    def write(self, prompts: Sequence[str], decoding: Decoding) -> bool:
        """Asks those on this machine to complete prompts into the run's store; whether they can.

        They cannot while the backbone's weights of the moment are kept nowhere, in the middle of a stage.
        """
        model = self._trainer.model
        store, kept = model.reasoner.store.path, self._trainer.progress.folder
        if store is None or kept is None or not (folder := stage_state.backbone_folder(kept, model.backbone)).is_dir():
            return False
        plain = dataclasses.replace(decoding, instead=None)  # for malformed ones this is called again
        self._processes.share((_WRITE, (socket.gethostname(), str(folder), str(store), list(prompts), plain)))
        return True

    def end(self) -> None:
        """Tells them that nobody is needed any more."""
        self._processes.share((_END, ()))


def help_with(trainer: Any, train_data: Any, valid_data: Any) -> None:
    """Helps until the main process needs nobody any more.

    Args:
        trainer: an `RPORecTrainer` of the same config that has run nothing.
        train_data: its training loader.
        valid_data: its validation loader.

    Raises:
        RunFolderError: the main process's run folder cannot be read here, or is of other data or settings.
    """
    processes = Processes(torch.device(trainer.device))
    here = ""  # the folder of the backbone that this process has
    while True:
        asked: tuple[str, tuple[Any, ...]] = processes.share(None)
        what, given = asked
        if what == _END:
            return
        if what == _REFINE:
            folder, reward_folder, number = given
            trainer.reward_folder = Path(reward_folder)  # this process's own folders end with it
            trainer.progress = Progress(Path(folder), stage_state.identity(trainer, train_data))
            trainer.positions = PositionLog(len(train_data.dataset.timeline))
            stage_state.put_back(trainer.progress, trainer, train_data)
            refine(trainer, train_data, valid_data, number)
            here = ""
        else:
            host, folder, store, prompts, decoding = given
            if host == socket.gethostname():  # SQLite's log works on one machine
                if folder != here:
                    _take_backbone(trainer, Path(folder), Path(store))
                    here = folder
                trainer.model.reasoner.complete(prompts, decoding)


def _take_backbone(trainer: Any, folder: Path, store: Path) -> None:
    """Connects the model to the main process's backbone and store."""
    model = trainer.model
    if model.reasoner is not None:
        model.reasoner.store.close()
    model.connect(load_backbone(folder, model.settings.backbone, torch.device(trainer.device)), CoTStore(store))
    model.reasoner.at_once = SHARED
