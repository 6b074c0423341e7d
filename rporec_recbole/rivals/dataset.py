"""What the rivals learn from: windows as RPORec's trunk has them, every position a target once, and beside each item when it was chosen."""

from __future__ import annotations

import numpy as np

from rporec_recbole.data.dataset import RPORecDataset
from rporec_recbole.data.ladder import EARLY


class WindowDataset(RPORecDataset):
    """RPORec's windows without its ladder, with the clock (`data.clock`) wherever the file has real times."""

    @property
    def keeps_clock(self) -> bool:
        """Whatever the model reads: the digest of a rival's data has always had it."""
        return True

    def _rungs(self, positions: int) -> np.ndarray:
        return np.full(positions, EARLY, dtype=np.int8)
