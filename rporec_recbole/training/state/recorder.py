"""Keeps every number worth a curve: in memory for `curves.png`, and as TensorBoard events."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any


class Recorder:
    """Scalars by name.

    Args:
        tensorboard: a `SummaryWriter`, or None.

    Attributes:
        curves: name -> list of (step, value), names such as `1a trunk/loss`.
    """

    def __init__(self, tensorboard: Any = None) -> None:
        self._tensorboard = tensorboard
        self.curves: dict[str, list[tuple[int, float]]] = defaultdict(list)
        self._told: list[Callable[[str, int, float], None]] = []

    def tell(self, add: Callable[[str, int, float], None]) -> None:
        """From here on, hands every value to somebody else too.

        Args:
            add: gets name, step and value.
        """
        self._told.append(add)

    def add(self, name: str, step: int, value: float) -> None:
        """Records one value of one curve."""
        self.curves[name].append((step, float(value)))
        if self._tensorboard is not None:
            self._tensorboard.add_scalar(name.replace(" ", "_"), float(value), step)
        for add in self._told:
            add(name, step, value)

    def restore(self, curves: Mapping[str, Iterable[Sequence[float]]]) -> None:
        """Curves of a run that goes on. Its TensorBoard events are on disk, those after the last snapshot perhaps twice."""
        self.curves = defaultdict(
            list, {name: [(int(x), float(y)) for x, y in points] for name, points in curves.items()}
        )

    def flush(self) -> None:
        """Writes TensorBoard events to disk."""
        if self._tensorboard is not None:
            self._tensorboard.flush()
