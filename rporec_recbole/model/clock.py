"""What attention adds to its logits for the time between two items: a learned number for each bucket of its logarithm.

The bias by time of HSTU (J. Zhai et al., "Actions Speak Louder than Words", ICML 2024, arXiv 2402.17152), for whichever model reads a clock.

Letters in shapes: B rows, T positions, A rows of the table: one, or one for each attention head.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rporec_recbole.data.clock import UNKNOWN

_STEP = 0.301
"""A bucket of time reaches exp(.301) = 1.35 times as far back as the one before it: the constant of the authors' code."""


def time_buckets(clock: Tensor, buckets: int) -> Tensor:
    """Which bucket the time from each position back to each other one falls into: `floor(ln(max(1, |seconds|)) / .301)`.

    Args:
        clock: `[B, T]` whole seconds, or `UNKNOWN`.
        buckets: how many there are, N; the last one, N - 1, holds all that lies farther back.

    Returns:
        `[B, T, T]`, position by position of the past; above the diagonal it means nothing. N where a time is unknown.
    """
    seconds = (clock[:, :, None] - clock[:, None, :]).abs().clamp(min=1)
    # Single precision would do but for a border between two buckets that falls on a whole number of seconds.
    found = (seconds.double().log() / _STEP).long().clamp(max=buckets - 1)
    unknown = clock == UNKNOWN
    return found.masked_fill(unknown[:, :, None] | unknown[:, None, :], buckets) if bool(unknown.any()) else found


def time_bias(table: Tensor, buckets: Tensor) -> Tensor:
    """The numbers of buckets: 0 for N, a time that is unknown, and -inf for N + 1, what nothing may be read of.

    Args:
        table: `[A, N]`, learned.
        buckets: `[B, T, T]`.

    Returns:
        `[B, A, T, T]`.
    """
    return _Numbers.apply(table, buckets)


class _Numbers(torch.autograd.Function):
    """Forward looks numbers up; backward adds gradients up by bucket, which autograd's own does several times slower on a processor."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, buckets: Tensor) -> Tensor:
        ctx.save_for_backward(buckets)
        ctx.size = table.shape[1]
        nothing = table.new_zeros(len(table), 1)
        whole = torch.cat([table, nothing, torch.full_like(nothing, -torch.inf)], dim=1)
        return whole.index_select(1, buckets.flatten()).view(len(table), *buckets.shape).transpose(0, 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (buckets,) = ctx.saved_tensors
        flat = buckets.flatten()
        rows = [
            torch.bincount(flat, weights=one.flatten(), minlength=ctx.size + 2)[: ctx.size]
            for one in gradient.unbind(1)
        ]
        return torch.stack(rows).to(gradient.dtype), None
