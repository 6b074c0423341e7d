"""Which of many names came before, in sixteen bytes a name: forty million of them need not stand in memory as texts."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np

_BYTES = 16  # two of 40 million names share a digest with a probability of 10^-24


class Met:
    """Names that came before. Sorted runs of digests; a run is joined with the one before it once it is as long."""

    def __init__(self) -> None:
        self._runs: list[np.ndarray] = []

    def __len__(self) -> int:
        return sum(map(len, self._runs))

    def again(self, names: Sequence[str]) -> np.ndarray:
        """Remembers names.

        Args:
            names: B of them, each once.

        Returns:
            `[B]` bool: whether a name came in an earlier call.
        """
        if not names:
            return np.zeros(0, dtype=bool)
        joined = b"".join(blake2b(name.encode("utf-8", "surrogatepass"), digest_size=_BYTES).digest() for name in names)
        digests = np.frombuffer(joined, dtype=f"S{_BYTES}")
        before = np.zeros(len(digests), dtype=bool)
        for run in self._runs:
            places = np.searchsorted(run, digests).clip(max=len(run) - 1)
            before |= run[places] == digests
        if not before.all():
            self._add(np.sort(digests[~before]))
        return before

    def _add(self, run: np.ndarray) -> None:
        while self._runs and len(self._runs[-1]) <= len(run):
            run = np.sort(np.concatenate([self._runs.pop(), run]))
        self._runs.append(run)
