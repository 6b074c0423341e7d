"""Several processes for one run: the main one runs all stages, the others help with stage 2, which they share step by step.

A helper builds data and model as the main process does, and waits. For each round it takes the state after the stage before
from the snapshot in the run folder, so both start from the same weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from rporec_recbole.training import stage_state
from rporec_recbole.training.positions import PositionLog
from rporec_recbole.training.processes import Processes
from rporec_recbole.training.resume import Progress


def call_helpers(processes: Processes, trainer: Any, number: int) -> None:
    """The main process calls the others to a round of stage 2; to the round 0 when it needs them no more.

    Args:
        processes: all of them.
        trainer: the main process's; the snapshot of the stage before is in its `progress`.
        number: of the round.
    """
    processes.share((str(trainer.progress.folder), str(trainer.reward_folder), number))


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
    while True:
        folder, reward_folder, number = processes.share(("", "", 0))
        if not number:
            return
        trainer.reward_folder = Path(reward_folder)  # this process's own folders end with it
        trainer.progress = Progress(Path(folder), stage_state.identity(trainer, train_data))
        trainer.positions = PositionLog(len(train_data.dataset.timeline))
        stage_state.put_back(trainer.progress, trainer, train_data)
        trainer.backbone_stages.refine(train_data, valid_data, number)
