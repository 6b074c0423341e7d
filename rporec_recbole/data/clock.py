"""The clock: when each item of a history was chosen, in whole seconds.

RecBole keeps times in single precision (64 s or 131 s apart), and scales them to 0 to 1 on some data sets; differences of time need the
file's own. A model that reads the clock knows when the items of a history were chosen, and never when their target was.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rporec_recbole.tables.times import unit_of

CLOCK = "_clock"
"""Column of interactions: whole seconds since the first one of the data set; not there where times are plain numbers."""
UNKNOWN = -(2**62)
"""In the place of the seconds where nobody knows them; the difference of two times is still a number."""

_FARTHEST = 2**60
_PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}


@dataclass(frozen=True)
class Clock:
    """How the times of a data set's file are counted.

    Attributes:
        first: the earliest one.
        per_second: how many of its units make a second.
    """

    first: float
    per_second: float

    def seconds(self, times: Any) -> np.ndarray:
        """Times as the file has them, `[I]`, as whole seconds since the first one."""
        seconds = np.round((np.asarray(times, dtype=np.float64) - self.first) / self.per_second)
        return np.clip(seconds, -_FARTHEST, _FARTHEST).astype(np.int64)

    def times(self, seconds: np.ndarray) -> np.ndarray:
        """The other way round."""
        return self.first + seconds * self.per_second


def clock_of(times: np.ndarray) -> Clock | None:
    """How times, `[I]`, are counted; None where they say in which order a user chose and not when."""
    unit = unit_of(times) if len(times) else None
    return None if unit is None else Clock(float(times.min()), _PER_SECOND[unit])


def clock_list(owner: Any) -> str:
    """Name of the column of a history's seconds, `[B, T]`.

    Args:
        owner: whatever has RecBole's `config`.
    """
    return CLOCK + str(owner.config["LIST_SUFFIX"])


class HistoryTimes:
    """Reads out of rows when the items of their histories were chosen; says once where nobody knows.

    Args:
        column: of the rows, `clock_list`.
        model: its name, for that sentence.
    """

    def __init__(self, column: str, model: str) -> None:
        self.column, self._model, self._said = column, model, False

    def of(self, rows: Any) -> Tensor | None:
        """Seconds, `[B, T]`, `UNKNOWN` in rows without; None where none has any."""
        there = self.column in rows  # RecBole's `Interaction` has no `get`
        clock = rows[self.column] if there else None
        if not self._said and (clock is None or bool((clock == UNKNOWN).any())):
            self._said = True
            which = "These histories have" if clock is None else "Some of these histories have"
            logging.getLogger().warning(f"{which} no times: {self._model} ranks them by positions alone.")
        return clock


def hidden_times(clock: Tensor | None, share: float) -> Tensor | None:
    """Seconds of windows, `[B, T]`, of which a random share has none: a model meets histories without times in its training too."""
    if clock is None or not share:
        return clock
    return clock.masked_fill(torch.rand(len(clock), 1, device=clock.device) < share, UNKNOWN)


def history_times(dataset: Any, buckets: int) -> HistoryTimes | None:
    """What reads the clock of a data set's rows; None where no model asks, or where there is none, which is said.

    Args:
        dataset: with a `timeline`, where it is a sequential one.
        buckets: of time, the model's setting `time_buckets`.
    """
    if not buckets:
        return None
    if CLOCK not in getattr(dataset, "timeline", ()):
        logging.getLogger().warning(
            f"The times of `{dataset.dataset_name}` say in which order a user chose, and not when (plain numbers, or rows without a timeline): "
            f"`time_buckets={buckets}` has no effect, and positions alone are read."
        )
        return None
    return HistoryTimes(clock_list(dataset), str(dataset.config["model"]))


def seconds_of(histories: list[np.ndarray | None], length: int) -> Tensor:
    """The seconds of some histories as a column of rows, `[B, length]`; a history without times is `UNKNOWN` throughout.

    Args:
        histories: seconds of each, oldest first; of longer ones the newest `length` are taken.
        length: of the rows.
    """
    column = torch.zeros(len(histories), length, dtype=torch.int64)
    for row, seconds in enumerate(histories):
        if seconds is None:
            column[row] = UNKNOWN
        else:
            newest = torch.from_numpy(np.asarray(seconds, dtype=np.int64)[-length:])
            column[row, : len(newest)] = newest
    return column
