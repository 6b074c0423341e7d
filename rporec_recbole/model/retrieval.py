"""Exact top-k over large catalogues, without ever holding the scores of all users and items.

Letters in shapes: B users, N items, H hidden size, K items wanted.
"""

from __future__ import annotations

import torch
from torch import Tensor

_USERS, _ITEMS = 512, 8192
_FANS = (16, 8)  # scores under a maximum, maxima under a maximum of maxima


@torch.no_grad()
def top_items(users: Tensor, items: Tensor, k: int, first: int = 1) -> tuple[Tensor, Tensor]:
    """The `k` items with the largest `u . e_i` of each user, best first; ties go to either.

    Scores are made block by block. Once a user has `k` items, only groups of scores whose largest beats the worst of
    them are looked into, so that most of the time is the matrix product itself.

    Args:
        users: `[B, H]`.
        items: `[N, H]`.
        k: items per user; at most `N - first`.
        first: items before this index are never returned; the default leaves out the padding item 0.

    Returns:
        scores `[B, K]` and item ids `[B, K]`.

    Raises:
        ValueError: fewer than `k` items can be returned.
    """
    if not 0 < k <= len(items) - first:
        raise ValueError(f"k={k} must be between 1 and {len(items) - first}, the number of items.")
    parts = [_top_of_block(part, items, k, first) for part in users.split(_USERS)]
    return torch.cat([values for values, _ in parts]), torch.cat([ids for _, ids in parts])


def _top_of_block(users: Tensor, items: Tensor, k: int, first: int) -> tuple[Tensor, Tensor]:
    rows, start, size = len(users), first, max(k, _ITEMS // 8)
    buffer = users.new_empty(rows, _ITEMS)
    found: list[tuple[Tensor, Tensor, Tensor]] = []  # (row, score, item) that beat the threshold, not yet merged
    waiting = 0
    scores = users @ items[start : start + size].T
    best, ids = scores.topk(k, dim=1)
    ids = ids + start
    while (start := start + size) < len(items):
        size = min(2 * size, _ITEMS)
        block = items[start : start + size]
        scores = torch.mm(users, block.T, out=buffer) if len(block) == _ITEMS else users @ block.T
        row, column = _above(scores, best[:, -1:])
        found.append((row, scores[row, column], start + column))
        waiting += len(row)
        # Merging costs the same for few as for many, so it waits until the threshold has something to gain from it.
        if waiting >= rows * k // 4:
            best, ids = _merged(best, ids, found)
            found, waiting = [], 0
    return _merged(best, ids, found) if waiting else (best, ids)


def _above(scores: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
    """(row, column) of every score, `[B, C]`, above its row's threshold, `[B, 1]`; few are expected."""
    levels = [scores]
    for fan in _FANS:
        if pad := -levels[-1].shape[1] % fan:
            levels[-1] = torch.nn.functional.pad(levels[-1], (0, pad), value=-torch.inf)
        # What is compared lies far apart, because a maximum over columns is the fastest.
        levels.append(levels[-1].view(len(scores), fan, -1).amax(dim=1))
    row, column = (levels.pop() > threshold).nonzero(as_tuple=True)
    while levels:
        below = levels.pop().view(len(scores), _FANS[len(levels)], -1)
        pair, lane = (below[row, :, column] > threshold[row]).nonzero(as_tuple=True)
        row, column = row[pair], lane * below.shape[2] + column[pair]
    return row, column


def _merged(best: Tensor, ids: Tensor, found: list[tuple[Tensor, Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """The top of `best` and `found` together, `[B, K]` each."""
    rows, k = best.shape
    row, score, item = (torch.cat(parts) for parts in zip(*found, strict=True))
    row, order = row.sort(stable=True)
    counts = torch.bincount(row, minlength=rows)
    slot = k + torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
    width = int(counts.max())
    scores = torch.nn.functional.pad(best, (0, width), value=-torch.inf)
    origin = torch.nn.functional.pad(ids, (0, width))
    scores[row, slot] = score[order]
    origin[row, slot] = item[order]
    values, where = scores.topk(k, dim=1)
    return values, origin.gather(1, where)
