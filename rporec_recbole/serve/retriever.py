"""The best items of users: the head's own ranking."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rporec_recbole.model.rechead import score_items
from rporec_recbole.recommend import top_of


class Retriever:
    """Finds the best items, exactly.

    Args:
        items: `[N, H]` item vectors, row 0 is padding.
        index: None; an approximate index of the same vectors.
    """

    def __init__(self, items: Tensor, index: Any = None) -> None:
        self.items = items
        self.index = index

    def top(
        self, users: Tensor, seen: Tensor, offset: Tensor | None, hidden: Tensor | None, k: int
    ) -> tuple[Tensor, Tensor]:
        """The `k` best items of each user, best first; of equal scores the smaller id first.

        Args:
            users: `[B, H]` user vectors.
            seen: `[B, T]` distinct items of the history, 0 elsewhere.
            offset: `[B]` b(s), or None.
            hidden: `[B, T']` ids that are left out, 0 elsewhere; or None.
            k: at most N - 1.

        Returns:
            scores `[B, K]` and ids `[B, K]`; what is left out scores `-inf` and stands at the end.
        """
        scores = score_items(users, self.items, seen, offset)
        if hidden is not None:
            scores = scores.scatter(1, hidden, -torch.inf)
        return top_of(scores, k)
