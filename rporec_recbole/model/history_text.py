"""Text vectors of histories, for a head that reads nothing else.

Letters in shapes: B rows, T positions, K items of a tail, D size of a text vector.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from rporec_recbole.model.encoder import TextEncoder
from rporec_recbole.settings.bars import progress_bar

_TEXTS = 1024


class HistoryText:
    """The vector of a history is that of its newest items' texts, encoded as one text.

    Each distinct tail is encoded once and kept, so after the first epoch a state is a look-up. That takes 4 D bytes and
    the tail's item ids for every position of the data set that is met: .5 GB for a million positions with D = 64, K = 20.

    Args:
        encoder: of items, histories and reasoning alike.
        lines: text of each item, by item id; 0 is padding.
        length: K, how many of the newest items are read.
        render: item ids, oldest first, to a text; None: their lines, the newest item first.
    """

    def __init__(
        self,
        encoder: TextEncoder,
        lines: Sequence[str],
        length: int,
        render: Callable[[Sequence[int]], str] | None = None,
    ) -> None:
        self._encoder, self._render = encoder, render
        self._lines = lines
        self._length = length
        self._row: dict[bytes, int] = {bytes(4 * length): 0}  # the empty tail: the zero vector
        self._table = np.zeros((_TEXTS, encoder.size), dtype=np.float32)

    def everywhere(self, histories: Tensor) -> Tensor:
        """The history up to and including each position, `[B, T] -> [B, T, D]`; padding 0 stands on the right."""
        ids = self._ids(histories)
        return self._vectors(self._tails(ids), histories).unflatten(0, ids.shape)

    def newest(self, histories: Tensor) -> Tensor:
        """Whole histories, `[B, T] -> [B, D]`; padding 0 may stand anywhere."""
        return self._vectors(self._newest_tails(histories), histories)

    def texts(self, histories: Tensor) -> list[str]:
        """The text up to each position, `[B, T] -> B * T`, row after row; empty at padding, which stands on the right."""
        return [self._text(tail.tobytes()) for tail in self._tails(self._ids(histories))]

    def newest_texts(self, histories: Tensor) -> list[str]:
        """The texts of whole histories, `[B, T] -> B`; padding 0 may stand anywhere."""
        return [self._text(tail.tobytes()) for tail in self._newest_tails(histories)]

    def _newest_tails(self, histories: Tensor) -> np.ndarray:
        ids = self._ids(histories)
        packed = np.take_along_axis(ids, np.argsort(ids > 0, axis=1, kind="stable"), axis=1)  # padding to the left
        tails = np.zeros((len(ids), self._length), dtype=np.int32)
        shown = min(self._length, ids.shape[1])
        tails[:, self._length - shown :] = packed[:, ids.shape[1] - shown :]
        return tails

    def read(self, histories: Tensor) -> None:
        """Encodes what `everywhere` of these histories will ask for."""
        self._rows(self._tails(self._ids(histories)))

    @staticmethod
    def _ids(histories: Tensor) -> np.ndarray:
        return histories.cpu().numpy().astype(np.int32)

    def _tails(self, ids: np.ndarray) -> np.ndarray:
        """`[B, T] -> [B * T, K]`, padding on the left; tails that end at padding are empty."""
        padded = np.pad(ids, ((0, 0), (self._length - 1, 0)))
        tails = np.lib.stride_tricks.sliding_window_view(padded, self._length, axis=1)
        return np.where(ids[:, :, None] > 0, tails, 0).reshape(-1, self._length)

    def _vectors(self, tails: np.ndarray, like: Tensor) -> Tensor:
        rows = self._rows(tails)  # first: it may replace the table
        return torch.from_numpy(self._table[rows]).to(like.device)

    def _rows(self, tails: np.ndarray) -> np.ndarray:
        """Row of the table for each tail, `[R, K] -> [R]`; tails that are new are encoded."""
        width = tails.dtype.itemsize * self._length
        joined = np.ascontiguousarray(tails).tobytes()
        keys = [joined[start : start + width] for start in range(0, len(joined), width)]
        new = [key for key in dict.fromkeys(keys) if key not in self._row]
        first = len(self._row)
        if first + len(new) > len(self._table):
            room = np.zeros((max(first + len(new), 2 * len(self._table)), self._table.shape[1]), dtype=np.float32)
            room[:first] = self._table[:first]
            self._table = room
        parts = range(0, len(new), _TEXTS)
        for start in progress_bar(parts, desc="Histories to vectors", disable=len(parts) < 4):
            part = new[start : start + _TEXTS]
            self._table[first + start : first + start + len(part)] = self._encoder.encode(
                [self._text(key) for key in part]
            )
        self._row.update({key: first + index for index, key in enumerate(new)})
        return np.array([self._row[key] for key in keys], dtype=np.int64)

    def _text(self, tail: bytes) -> str:
        if self._render is not None:
            shown = [int(item) for item in np.frombuffer(tail, dtype=np.int32) if item]
            return self._render(shown) if shown else ""
        # Newest first: an encoder that cuts long texts off then loses the oldest items.
        return "\n".join(self._lines[item] for item in np.frombuffer(tail, dtype=np.int32)[::-1] if item)
