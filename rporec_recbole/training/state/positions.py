"""Keeps record of the positions that each stage learned from, so that the ladder can be checked on what really happened.

A position is one training target; inside a run it is the index of its row in `RPORecDataset.timeline`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from rporec_recbole.data.files import unwritable, write_table
from rporec_recbole.errors import RunFolderError

POSITIONS = "positions.parquet"


class PositionLog:
    """Which positions taught what.

    Args:
        size: rows of the timeline.

    Attributes:
        size: the same.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._learned: dict[str, Tensor] = {}

    def add(self, stage: str, ends: np.ndarray | Tensor | Sequence[int]) -> None:
        """Notes positions, `[P]` timeline indices; noting one twice changes nothing."""
        learned = self._learned.setdefault(stage, torch.zeros(self.size, dtype=torch.bool))
        learned[torch.as_tensor(ends).cpu()] = True

    def __getitem__(self, stage: str) -> np.ndarray:
        """Timeline indices of a stage's positions, in timeline order; empty if it has none."""
        learned = self._learned.get(stage)
        return np.zeros(0, dtype=np.int64) if learned is None else learned.nonzero().squeeze(1).numpy()

    def tensors(self) -> dict[str, Tensor]:
        """Stage -> `[size]` True where it learned; `restore` reads them."""
        return dict(self._learned)

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """The record of a run that goes on."""
        self._learned = {stage: learned.clone() for stage, learned in tensors.items()}

    def table(self, dataset: Any) -> pd.DataFrame:
        """One row per stage and position: stage, user_id and item_id as in the data files, and place.

        Args:
            dataset: an `RPORecDataset`.

        Returns:
            `place` counts the interactions of the user from 0, oldest first; the item there is the target.
        """
        users, items = (dataset.timeline[field].numpy() for field in (dataset.uid_field, dataset.iid_field))
        starts = np.searchsorted(users, users, side="left")
        names = sorted(self._learned)  # a snapshot does not keep the order in which they were noted
        ends = np.concatenate([np.zeros(0, dtype=np.int64), *(self[stage] for stage in names)])
        stages = np.repeat(np.array(names, dtype=object), [len(self[stage]) for stage in names])
        return pd.DataFrame(
            {
                "stage": stages.astype(str),
                "user_id": dataset.id2token(dataset.uid_field, users[ends]).astype(str),
                "item_id": dataset.id2token(dataset.iid_field, items[ends]).astype(str),
                "place": (ends - starts[ends]).astype(np.int32),
            }
        )

    def read(self, table: pd.DataFrame, dataset: Any) -> None:
        """The record of a finished run, from what `table` made of it.

        Args:
            table: stage, user_id, item_id and place.
            dataset: an `RPORecDataset` with the same interactions.

        Raises:
            RunFolderError: at one of these places the data have another item, or none.
        """
        users, items = (dataset.timeline[field].numpy() for field in (dataset.uid_field, dataset.iid_field))
        user_ids, item_ids = (dataset.field2token_id[field] for field in (dataset.uid_field, dataset.iid_field))
        owners = table["user_id"].map(user_ids).fillna(-1).to_numpy(dtype=np.int64)
        targets = table["item_id"].map(item_ids).fillna(-1).to_numpy(dtype=np.int64)
        ends = np.searchsorted(users, owners, side="left") + table["place"].to_numpy(dtype=np.int64)
        there = ends.clip(0, len(users) - 1)
        if (ends != there).any() or (users[there] != owners).any() or (items[there] != targets).any():
            raise RunFolderError(
                "The run that this one starts from learned from other data: an interaction of its record is not there. Start from a run on "
                "the same data set."
            )
        for stage in table["stage"].unique():
            self.add(str(stage), ends[table["stage"].to_numpy() == stage])

    def save(self, dataset: Any, folder: Path) -> None:
        """Writes `positions.parquet`.

        Raises:
            RunFolderError: it cannot be written.
        """
        with unwritable(f"{folder / POSITIONS} cannot be written"):
            write_table(folder / POSITIONS, self.table(dataset))
