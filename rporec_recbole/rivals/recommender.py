"""What the sequential rivals share: a state for each position of a history, its loss over all positions, scores of all items.

Letters in shapes: B rows, T positions, P positions that are targets, H width, N items.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.utils import InputType
from torch import Tensor

from rporec_recbole.data.clock import HistoryTimes
from rporec_recbole.data.dataset import TARGETS
from rporec_recbole.model.losses import negatives_loss, recommendation_loss
from rporec_recbole.rivals.dataset import WindowDataset

_LOGITS = 2**24
"""How many logits of the loss are there at once."""
_PAIRS = 2**22
"""How many pairs of positions an evaluation holds at once."""


class WindowRecommender(SequentialRecommender, ABC):
    """Learns from windows, in which every position is a target (`rivals.dataset`).

    A subclass offers `states`, `users` and `item_vectors`.

    Args:
        config: RecBole's Config; `negatives` is how many items each target is told from, 0 for all of them.
        dataset: RecBole's data set of the training.

    Attributes:
        times: reads the clock of rows; None for a model that reads none.
    """

    input_type = InputType.POINTWISE
    dataset_class = WindowDataset
    times: HistoryTimes | None = None

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.config = config
        self.negatives = int(config["negatives"])

    # --- what a subclass offers ---------------------------------------------------------------------------------------

    @abstractmethod
    def states(self, items: Tensor, clock: Tensor | None) -> Tensor:
        """What is known at each position, `[B, T, H]`: of the items up to it.

        Args:
            items: `[B, T]`, oldest first, 0 behind the newest.
            clock: `[B, T]` seconds at which they were chosen (`data.clock`); None where nobody knows, or the model reads none.
        """

    def users(self, states: Tensor) -> Tensor:
        """`[P, H]` states as they meet `item_vectors`; a score is their product."""
        return states

    @abstractmethod
    def item_vectors(self) -> Tensor:
        """`[N, H]`."""

    # --- RecBole's methods --------------------------------------------------------------------------------------------

    def calculate_loss(self, interaction: Any) -> Tensor:
        """Mean cross-entropy of the targets among all items, or among themselves and `negatives` others."""
        items, clock = self._read(interaction)
        targets = interaction[TARGETS][:, : items.shape[1]]
        users = self.users(self.states(items, clock)[targets > 0])
        targets = targets[targets > 0]
        # Without a bias for what the history holds, the loss reads no history.
        none = torch.zeros_like(targets)
        loss, number = (negatives_loss, self.negatives) if self.negatives else (recommendation_loss, _LOGITS)
        return loss(users, self.item_vectors(), targets, none.new_zeros(1, 1), none, none, None, number)

    def full_sort_predict(self, interaction: Any) -> Tensor:
        """`[B, N]`."""
        return self._newest(interaction) @ self.item_vectors().T

    def predict(self, interaction: Any) -> Tensor:
        """`[B]` scores of the rows' own items."""
        return (self._newest(interaction) * self.item_vectors()[interaction[self.ITEM_ID]]).sum(dim=-1)

    def _newest(self, interaction: Any) -> Tensor:
        """`[B, H]` at the newest item of each row."""
        items, clock = self._read(interaction)
        last = interaction[self.ITEM_SEQ_LEN].clamp(min=1) - 1
        rows = max(1, _PAIRS // items.shape[1] ** 2)
        clocks = [None] * len(items) if clock is None else clock.split(rows)
        states = [
            self.states(part, seconds)[torch.arange(len(part), device=part.device), end]
            for part, seconds, end in zip(items.split(rows), clocks, last.split(rows), strict=False)
        ]
        return self.users(torch.cat(states))

    def _read(self, interaction: Any) -> tuple[Tensor, Tensor | None]:
        """Histories and their seconds, `[B, T]` each, T as long as the longest of them."""
        steps = max(1, int(interaction[self.ITEM_SEQ_LEN].max()))
        clock = None if self.times is None else self.times.of(interaction)
        return interaction[self.ITEM_SEQ][:, :steps], None if clock is None else clock[:, :steps]
