"""The unit that HSTU is made of, and its relative bias; plain networks, no RecBole.

J. Zhai et al., "Actions Speak Louder than Words: Trillion-Parameter Sequential Transducers for Generative Recommendations", ICML 2024
(arXiv 2402.17152), equations 1 to 3.

Letters in shapes: B rows, T positions, H width, A attention heads, D = H / A.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rporec_recbole.model.clock import time_bias

_EPSILON = 1e-6


class RelativeBias(nn.Module):
    """What is added to `Q K^T`: a number for the distance in positions and one for the distance in time, the same for all heads.

    Args:
        length: largest number of positions.
        buckets: of time; 0 leaves time out.
    """

    def __init__(self, length: int, buckets: int) -> None:
        super().__init__()
        self.by_position = nn.Parameter(torch.empty(length).normal_(std=0.02))
        self.by_time = nn.Parameter(torch.empty(buckets).normal_(std=0.02)) if buckets else None

    def forward(self, steps: int, buckets: Tensor | None) -> Tensor:
        """`[1 or B, T, T]`.

        Args:
            steps: T.
            buckets: `[B, T, T]` of `model.clock.time_buckets`; None where nobody knows the times.
        """
        place = torch.arange(steps, device=self.by_position.device)
        bias = self.by_position[(place[:, None] - place).clamp(min=0)][None]
        if self.by_time is None or buckets is None:
            return bias
        return bias + time_bias(self.by_time[None], buckets)[:, 0]


class TransductionUnit(nn.Module):
    """Pointwise attention: what a position takes from another one depends on no third one, so its sum says how much there was.

    `U, V, Q, K = SiLU(W LN(x))`, `A = SiLU(Q K^T + bias) / n`, `y = x + W'(U * LN(A V))`.

    Args:
        width: H.
        heads: A, a divisor of H.
        length: n, and the largest number of positions. It is the same for all rows, so padding changes nothing.
        buckets: of time; 0 leaves time out.
        dropout: on `U * LN(A V)`.
    """

    def __init__(self, width: int, heads: int, length: int, buckets: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.length = heads, length
        self.widen = nn.Linear(width, 4 * width, bias=False)
        self.merge = nn.Linear(width, width)
        self.bias = RelativeBias(length, buckets)
        self.dropout = nn.Dropout(dropout)
        nn.init.normal_(self.widen.weight, std=0.02)
        nn.init.xavier_uniform_(self.merge.weight)

    def forward(self, x: Tensor, buckets: Tensor | None) -> Tensor:
        """`[B, T, H] -> [B, T, H]`; position t sees the positions up to t.

        Args:
            x: states; padding may stand on the right, where no item sees it.
            buckets: as for `RelativeBias`.
        """
        rows, steps, width = x.shape
        u, v, q, k = F.silu(self.widen(_normed(x))).chunk(4, dim=-1)
        q, k, v = (part.view(rows, steps, self.heads, -1).transpose(1, 2) for part in (q, k, v))
        mixed = attend(q, k, v, self.bias(steps, buckets)[:, None], self.length)
        return x + self.merge(self.dropout(u * _normed(mixed.transpose(1, 2).reshape(rows, steps, width))))


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, n: int) -> Tensor:
    """`SiLU(Q K^T + bias) / n`, causal, times V: `[B, A, T, D]`.

    Args:
        q, k, v: `[B, A, T, D]`.
        bias: broadcast to `[B, A, T, T]`.
        n: what weights are divided by.
    """
    weights = F.silu(q @ k.transpose(-1, -2) + bias).tril()
    return weights @ (v / n)


def _normed(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=_EPSILON)
