"""Exact top-k over large catalogues, without ever holding the scores of all users and items.

Letters in shapes: B users, N items, H hidden size, K items wanted, G groups.
"""

from __future__ import annotations

import itertools
import operator

import torch
from torch import Tensor

_USERS, _ITEMS = 1024, 1024  # of one block of scores: 4 MB, so that the maxima are taken from a processor's cache
_FANS = (16, 8)  # scores under a maximum, maxima under a maximum of maxima, and so on
_RESCORED = 64  # users whose best groups are scored again at once


@torch.no_grad()
def top_items(users: Tensor, items: Tensor, k: int, first: int = 1) -> tuple[Tensor, Tensor]:
    """The `k` items with the largest `u . e_i` of each user, best first; ties go to either.

    Scores are made block by block, and only the largest of each group of 16, and of each 8 groups, is kept. The best `k`
    items stand in the `k` groups with the largest maxima: these alone are scored again. Almost all of the time is the
    matrix product itself.

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
    candidates = items[first:]
    blocks = -(-len(candidates) // _ITEMS)
    sizes = [_ITEMS // fans for fans in itertools.accumulate(_FANS, operator.mul)]
    if blocks * sizes[-1] < 2 * k:  # nothing to gain from groups
        parts = [(users_part @ candidates.T).topk(k, dim=1) for users_part in users.split(_USERS)]
    else:
        maxima = [users.new_empty(blocks, size, min(_USERS, len(users))) for size in sizes]
        parts = [_top_of_groups(part, candidates, k, maxima) for part in users.split(_USERS)]
    return torch.cat([values for values, _ in parts]), torch.cat([ids for _, ids in parts]) + first


def _top_of_groups(users: Tensor, items: Tensor, k: int, maxima: list[Tensor]) -> tuple[Tensor, Tensor]:
    """`maxima`, `[blocks, G, B]` each, is room to write to."""
    buffer = users.new_empty(_ITEMS, len(users))
    maxima = [level[:, :, : len(users)] for level in maxima]
    for number, block in enumerate(items.split(_ITEMS)):
        # Users last: a maximum over rows is faster than one along a row, and the members of a group stay neighbours.
        if len(block) == _ITEMS:
            scores = torch.mm(block, users.T, out=buffer)
        else:
            scores = torch.nn.functional.pad(block @ users.T, (0, 0, 0, _ITEMS - len(block)), value=-torch.inf)
        for level, fan in zip(maxima, _FANS, strict=True):
            scores = torch.amax(scores.unflatten(0, (-1, fan)), dim=1, out=level[number])
    of_largest = maxima[-1].flatten(0, 1).T.contiguous()
    groups = _members(of_largest.topk(k, dim=1, sorted=False).indices, _FANS[-1])
    row = torch.arange(len(users), device=users.device)[:, None]
    for level, fan in zip(maxima[-2::-1], _FANS[-2::-1], strict=True):
        best = level.flatten(0, 1)[groups, row].topk(k, dim=1, sorted=False).indices
        groups = _members(groups.gather(1, best), fan)
    return _top_of_some(users, items, groups, k)


def _members(groups: Tensor, fan: int) -> Tensor:
    """What stands under each of some maxima, `[B, K] -> [B, K * fan]`."""
    return (groups[..., None] * fan + torch.arange(fan, device=groups.device)).flatten(1)


def _top_of_some(users: Tensor, items: Tensor, ids: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The best of the items that `ids`, `[B, C]`, names for each user; ids past the end do not count."""
    scores = torch.empty(ids.shape, dtype=users.dtype, device=users.device)
    there = ids.clamp(max=len(items) - 1)
    for start in range(0, len(users), _RESCORED):
        part = slice(start, start + _RESCORED)
        vectors = torch.nn.functional.embedding(there[part], items)
        # One by one: on a CPU a batched product of matrices and single vectors takes up to twice as long.
        for one, user, score in zip(vectors, users[part], scores[part], strict=True):
            torch.mv(one, user, out=score)
    values, where = scores.masked_fill_(ids >= len(items), -torch.inf).topk(k, dim=1)
    return values, ids.gather(1, where)
