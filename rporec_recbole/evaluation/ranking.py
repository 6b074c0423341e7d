"""The rank of the target, the metrics of a rank, and the best items: one definition for rewards, evaluation and reports.

Letters in shapes: B rows, N items (0 is RecBole's padding item), P pairs of a row and one of its targets.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


def target_rank(scores: Tensor, target: Tensor) -> Tensor:
    """Rank of each row's target among all items; 1 is best and ties count against the model.

    ``rank = |{i : not score_i < score_target}|``, so an item that ties with the target stands above it, a NaN score
    counts as standing above it, and a NaN target comes last. Mask an item by giving it ``-inf``.

    Args:
        scores: ``[B, N]``.
        target: ``[B]`` item ids.

    Returns:
        ``[B]`` integer ranks.
    """
    own = scores.gather(1, target.view(-1, 1))
    return (~(scores < own)).sum(dim=1)


class ListRanks(NamedTuple):
    """Where the targets of ranked lists stand; one list may have several. All `[P]` integers.

    Attributes:
        rows: which list.
        items: the targets, each once a list.
        ranks: 1 is best. Of equal scores the targets stand last, one behind the other.
        places: 1 for the best target of its list, 2 for the next.
        targets: how many the list has.
    """

    rows: Tensor
    items: Tensor
    ranks: Tensor
    places: Tensor
    targets: Tensor


def list_ranks(scores: Tensor, rows: Tensor, items: Tensor) -> ListRanks:
    """Ranks all targets of each list, as `target_rank` does where there is one.

    Args:
        scores: `[B, N]`.
        rows: `[P]` rows of `scores`, in any order.
        items: `[P]` targets; the same one twice counts once.

    Returns:
        sorted by row, then rank.
    """
    if bool((rows[1:] > rows[:-1]).all()):  # the usual case, and much the cheaper one: one target a list
        one = torch.ones_like(rows)
        # A copy of all scores would be the memory of an evaluation once more.
        whole = scores if len(rows) == len(scores) else scores[rows]
        return ListRanks(rows, items, target_rank(whole, items), one, one)
    rows, items = torch.unique(torch.stack([rows, items]), dim=1)
    parts = torch.arange(len(rows), device=rows.device).split(len(scores))  # never more than another batch of scores
    ranks = torch.cat([target_rank(scores[rows[part]], items[part]) for part in parts])
    order = ranks.argsort(stable=True)
    order = order[rows[order].argsort(stable=True)]
    rows, items, ranks = rows[order], items[order], ranks[order]
    number = torch.arange(len(rows), device=rows.device)
    _, tied = torch.unique_consecutive(torch.stack([rows, ranks]), dim=1, return_counts=True)
    ranks = ranks - ((tied.cumsum(0) - 1).repeat_interleave(tied) - number)
    _, counts = torch.unique_consecutive(rows, return_counts=True)
    places = number - (counts.cumsum(0) - counts).repeat_interleave(counts) + 1
    return ListRanks(rows, items, ranks, places, counts.repeat_interleave(counts))


def ndcg_at(rank: Tensor, k: int) -> Tensor:
    """NDCG@k of a single relevant item: ``1 / log2(rank + 1)`` if ``rank <= k``, else 0. Shapes ``[B] -> [B]``."""
    gain = 1.0 / torch.log2(rank.to(torch.float64) + 1.0)
    return torch.where(rank <= k, gain, torch.zeros_like(gain))


def hit_at(rank: Tensor, k: int) -> Tensor:
    """1 where ``rank <= k``, else 0. Shapes ``[B] -> [B]``."""
    return (rank <= k).to(torch.float64)


def reciprocal_rank_at(rank: Tensor, k: int) -> Tensor:
    """``1 / rank`` where ``rank <= k``, else 0. Shapes ``[B] -> [B]``."""
    value = 1.0 / rank.to(torch.float64)
    return torch.where(rank <= k, value, torch.zeros_like(value))


def top_of(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The `k` best of each row, best first; of equal scores the smaller id first.

    Args:
        scores: `[B, N]`.
        k: at most N. Which of several items at `-inf` stand at the end is left open.

    Returns:
        scores `[B, K]` and ids `[B, K]`.
    """
    best, ids = scores.topk(min(k + 1, scores.shape[1]), dim=1)
    if ids.shape[1] > k:
        last = best[:, k - 1]
        tied = (last == best[:, k]) & (last > -torch.inf)  # `topk` takes whichever it likes across the cut
        ids = ids[:, :k]
        if tied.any():
            ids[tied] = scores[tied].sort(dim=1, descending=True, stable=True).indices[:, :k]
    ids = ids.sort(dim=1).values
    values, order = scores.gather(1, ids).sort(dim=1, descending=True, stable=True)
    return values, ids.gather(1, order)
