"""Training batches of windows of like length, so that hardly anything of a batch is padding."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from recbole.data.interaction import Interaction


class WindowBatches:
    """Iterates over all windows once, in batches of about the same number of positions.

    Windows are sorted by length (in a new random order inside each length), cut into batches, and the batches come in a
    random order and without the padding that none of their windows needs. Histories are mostly much shorter than the
    longest: of the slots of randomly drawn batches, 43 % are padding on ml-1m (length 200), 88 % on Amazon's Beauty (50).

    Args:
        windows: as `RPORecDataset` makes them: 1-D columns and `[W, T]` columns padded on the right.
        lengths: `[W]` positions of each window.
        positions: slots of a batch at most, its longest window times their number; at least one window is in each.
        generator: what the orders are drawn from; its state decides all later epochs.
    """

    def __init__(self, windows: Interaction, lengths: torch.Tensor, positions: int, generator: torch.Generator) -> None:
        self.generator = generator
        self._windows = windows
        self._lengths = lengths.numpy()
        # From the longest down: the longest of a batch, which is its width, then is its first.
        self._bounds, start = [0], 0
        descending = np.sort(self._lengths)[::-1]
        while start < len(descending):
            start += max(1, positions // int(descending[start]))
            self._bounds.append(min(start, len(descending)))

    def __len__(self) -> int:
        """Batches per epoch; the same in every epoch."""
        return len(self._bounds) - 1

    def __iter__(self) -> Iterator[Interaction]:
        shuffled = torch.randperm(len(self._lengths), generator=self.generator).numpy()
        order = shuffled[np.argsort(-self._lengths[shuffled], kind="stable")]
        for batch in torch.randperm(len(self), generator=self.generator).tolist():
            index = order[self._bounds[batch] : self._bounds[batch + 1]]
            rows = self._windows[torch.from_numpy(index)]
            width = int(self._lengths[index[0]])
            yield Interaction(
                {name: rows[name] if rows[name].dim() == 1 else rows[name][:, :width] for name in rows.columns}
            )
