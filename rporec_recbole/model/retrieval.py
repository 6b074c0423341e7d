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
    rows, size = len(users), max(k, _ITEMS)
    buffer = users.new_empty(rows, size)
    best, ids = users.new_empty(rows, 0), torch.empty(rows, 0, dtype=torch.int64, device=users.device)
    found: list[tuple[Tensor, Tensor, Tensor]] = []  # (row, score, item) that beat the threshold, not yet merged
    waiting = 0
    for start in range(first, len(items), size):
        block = items[start : start + size]
        scores = torch.mm(users, block.T, out=buffer) if len(block) == size else users @ block.T
        row, column = _above(scores, best[:, -1:] if best.numel() else _below_the_top(scores, k))
        found.append((row, scores[row, column], start + column))
        waiting += len(row)
        # Merging costs the same for few as for many, so it waits until the threshold has something to gain from it.
        if waiting >= rows * k // 4:
            best, ids = _merged(best, ids, found, k)
            found, waiting = [], 0
    return _merged(best, ids, found, k) if waiting else (best, ids)


def _below_the_top(scores: Tensor, k: int) -> Tensor:
    """A number that at least `k` scores of each row are above, `[B, C] -> [B, 1]`: if there are groups enough, just
    below the k-th largest maximum of a group, which is much faster to find than the k-th largest score."""
    groups = scores.shape[1] // _FANS[0]
    if groups < 2 * k:
        return scores.new_full((len(scores), 1), -torch.inf)
    maxima = scores[:, : groups * _FANS[0]].unflatten(1, (_FANS[0], groups)).amax(dim=1)
    lowest = maxima.topk(k, dim=1).values[:, -1:]
    return torch.nextafter(lowest, torch.full_like(lowest, -torch.inf))


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


def _merged(best: Tensor, ids: Tensor, found: list[tuple[Tensor, Tensor, Tensor]], k: int) -> tuple[Tensor, Tensor]:
    """The top `k` of `best`, `[B, 0 or K]`, and `found` together, `[B, K]` each."""
    rows, kept = best.shape
    row, score, item = (torch.cat(parts) for parts in zip(*found, strict=True))
    row, order = row.sort(stable=True)
    counts = torch.bincount(row, minlength=rows)
    slot = kept + torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
    width = int(counts.max())
    scores = torch.nn.functional.pad(best, (0, width), value=-torch.inf)
    origin = torch.nn.functional.pad(ids, (0, width))
    scores[row, slot] = score[order]
    origin[row, slot] = item[order]
    values, where = scores.topk(k, dim=1)
    return values, origin.gather(1, where)
