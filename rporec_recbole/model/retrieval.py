"""Exact top-k over large catalogues, without ever holding the scores of all users and items.

Letters in shapes: B users, N items, H hidden size, K items wanted.
"""

from __future__ import annotations

import torch
from torch import Tensor

_USERS, _ITEMS, _GROUP = 512, 8192, 64


@torch.no_grad()
def top_items(users: Tensor, items: Tensor, k: int, first: int = 1) -> tuple[Tensor, Tensor]:
    """The `k` items with the largest `u . e_i` of each user, best first; ties go to either.

    Scores are made block by block. Once a user has `k` items, only groups of scores whose largest beats the worst of
    them are looked at, so that most of the time is the matrix product itself.

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
    rows = len(users)
    best = users.new_full((rows, k), -torch.inf)
    ids = torch.zeros(rows, k, dtype=torch.int64, device=users.device)
    buffer = users.new_empty(rows, _ITEMS)
    for start in range(first, len(items), _ITEMS):
        block = items[start : start + _ITEMS]
        if len(block) < _ITEMS:
            scores = users @ block.T
            if pad := -len(block) % _GROUP:
                scores = torch.nn.functional.pad(scores, (0, pad), value=-torch.inf)
        else:
            scores = torch.mm(users, block.T, out=buffer)
        if start == first:  # nothing to compare with yet
            best, where = torch.cat([best, scores], dim=1).topk(k, dim=1)
            ids = (where - k).clamp_(min=0) + first
            continue
        groups = scores.view(rows, -1, _GROUP)
        row, group = (groups.amax(dim=2) > best[:, -1:]).nonzero(as_tuple=True)
        if not len(row):
            continue
        promising = groups[row, group]
        pair, lane = (promising > best[row, -1:]).nonzero(as_tuple=True)
        owner = row[pair]  # ascending, since `nonzero` goes row by row
        counts = torch.bincount(owner, minlength=rows)
        slot = torch.arange(len(owner), device=owner.device) - (counts.cumsum(0) - counts)[owner]
        width = int(counts.max())
        values = torch.cat([best, users.new_full((rows, width), -torch.inf)], dim=1)
        values[owner, k + slot] = promising[pair, lane]
        origin = torch.cat([ids, ids.new_zeros(rows, width)], dim=1)
        origin[owner, k + slot] = start + group[pair] * _GROUP + lane
        best, where = values.topk(k, dim=1)
        ids = origin.gather(1, where)
    return best, ids
