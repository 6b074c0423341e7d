"""Negatives that are drawn once for each position and kept: what RPORec's paper learns from, and ranks its rewards among."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from rporec_recbole.errors import ConfigError


class KeptNegatives:
    """A few items beside the target of a position, the same ones whenever they are asked for.

    They are a function of seed, position and target alone: no order of asking, number of processes or interruption changes
    them. Each is drawn once, uniformly from all items but the target (the paper's release draws without replacement too).

    Args:
        n_items: N, padding item 0 included.
        count: K, as many as there are where the catalogue has fewer.
        seed: of the draws.

    Raises:
        ConfigError: there is no item beside a target.
    """

    def __init__(self, n_items: int, count: int, seed: int) -> None:
        if n_items < 3:
            raise ConfigError(
                "Negatives need a catalogue of two items at least, and there is one. Use another data set."
            )
        self._others, self._seed = n_items - 2, seed
        self.count = min(count, self._others)
        self._drawn: dict[int, np.ndarray] = {}

    def of(self, positions: Tensor, targets: Tensor) -> Tensor:
        """The negatives of positions.

        Args:
            positions: `[P]` timeline indices.
            targets: `[P]` item ids.

        Returns:
            `[P, K]` item ids, on the device of the targets.
        """
        places = positions.tolist()
        for place in places:
            if place not in self._drawn:
                rng = np.random.default_rng([self._seed, place])
                self._drawn[place] = rng.choice(self._others, self.count, replace=False).astype(np.int32)
        drawn = np.stack([self._drawn[place] for place in places]) if places else np.zeros((0, self.count), np.int32)
        ids = torch.from_numpy(drawn).long().to(targets.device) + 1
        return ids + (ids >= targets[:, None]).long()  # the target is stepped over
