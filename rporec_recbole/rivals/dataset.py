"""What the rivals learn from: windows as RPORec's trunk has them, every position a target once, and beside each item when it was chosen.

RecBole keeps times in single precision (64 s or 131 s apart), and scales them to 0 to 1 on some data sets; differences of time need the
file's own.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction
from recbole.utils.enum_type import FeatureSource, FeatureType

from rporec_recbole.data.dataset import TARGETS, RPORecDataset, window_positions
from rporec_recbole.data.ladder import EARLY
from rporec_recbole.tables.times import unit_of

CLOCK = "_clock"
"""Column of interactions: whole seconds since the first one of the data set; not there where times are plain numbers."""

_PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}


class WindowDataset(RPORecDataset):
    """RPORec's windows without its ladder, with the seconds of `CLOCK` where the file has real times."""

    def _normalize(self) -> None:
        """RecBole's, which scales times; before it does, they are counted."""
        seconds = self._seconds()
        super()._normalize()
        if seconds is not None:
            self.inter_feat[CLOCK] = seconds
            # Whole numbers: RecBole makes single precision of anything else.
            self.set_field_property(CLOCK, FeatureType.TOKEN, FeatureSource.INTERACTION, 1)

    def _seconds(self) -> np.ndarray | None:
        """`[I]`; None where times say in which order a user chose and not when."""
        if self.time_field not in self.inter_feat or not len(self.inter_feat):
            return None
        times = self.inter_feat[self.time_field].to_numpy(dtype=np.float64, copy=True)
        unit = unit_of(times)
        if unit is None:
            return None
        return np.round((times - times.min()) / _PER_SECOND[unit]).astype(np.int64)

    def _windows(self, ends: np.ndarray) -> Interaction:
        windows = super()._windows(ends)
        if CLOCK in self.timeline:
            real = windows[TARGETS] > 0
            places = torch.where(real, window_positions(windows) - 1, 0)  # of the inputs, one before their targets
            windows.update(Interaction({clock_list(self): torch.where(real, self.timeline[CLOCK][places], 0)}))
        return windows

    def _rungs(self, positions: int) -> np.ndarray:
        return np.full(positions, EARLY, dtype=np.int8)


def clock_list(owner: Any) -> str:
    """Name of the column of a history's seconds, `[B, T]`.

    Args:
        owner: whatever has RecBole's `config`.
    """
    return CLOCK + str(owner.config["LIST_SUFFIX"])


def has_clock(dataset: Any) -> bool:
    """Whether a data set knows when its items were chosen; says so where it does not."""
    there = CLOCK in getattr(dataset, "timeline", ())
    if not there:
        logging.getLogger().warning(
            f"The times of `{dataset.dataset_name}` say in which order a user chose, and not when (plain numbers, or rows without a timeline): "
            "positions alone make the bias."
        )
    return there
