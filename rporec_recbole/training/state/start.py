"""Going on from a finished run (`start_from`): its stages count as done, and only what comes after them is run.

So several settings of stage 2 share one stage 1, weights and texts and all, and differ in nothing else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from rporec_recbole.cot.store import CoTStore
from rporec_recbole.data.digest import check_digest
from rporec_recbole.errors import RunFolderError
from rporec_recbole.training.state import checkpoint
from rporec_recbole.training.state.positions import POSITIONS


def start_from(folder: Path, trainer: Any, loader: Any) -> list[str]:
    """Brings a trainer to where stage 1c of a finished run ended. That the settings fit is not asked again.

    Args:
        folder: the run.
        trainer: an `RPORecTrainer`; its model, store and record of positions become the run's.
        loader: its training loader.

    Returns:
        the stages that are done.

    Raises:
        RunFolderError: there is no finished run, a file of it is damaged, or its data were others.
    """
    try:
        positions = pd.read_parquet(folder / POSITIONS)
    except (OSError, ValueError) as error:
        raise RunFolderError(
            f"`start_from={folder}` holds no whole run ({error}). Name the folder of a run that has ended."
        ) from error
    if hasattr(loader.dataset, "digest"):  # data that RecBole's own functions made have none
        check_digest(folder, loader.dataset.digest)
    trainer.positions.read(positions, loader.dataset)
    store, before = CoTStore(trainer.folder / checkpoint.STORE), CoTStore(folder / checkpoint.STORE)
    store.take_from(before)
    before.close()
    checkpoint.restore(trainer.model, folder, store)
    trainer.model.head.at_full_strength()  # what the run chose at its end; while anything is learned, all of it counts
    return [stage for stage in trainer.wanted if stage in ("1a", "1b", "1c")]
