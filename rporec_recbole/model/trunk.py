"""The trunk: a causal Transformer of gated blocks over item vectors, one state per position.

With a clock (`model.clock`) attention also sees how long before a position each earlier item was chosen. What a position knows of time are the
times of the items up to its own, never that of its target. A row whose times are unknown is read as by a trunk without a clock.

Letters in shapes: B rows, T positions, S positions of all rows together, N items, H hidden size, D size of an attention head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rporec_recbole.data.clock import UNKNOWN
from rporec_recbole.model.clock import time_bias, time_buckets

_POSITIONS = 2048  # that a processor takes through the blocks at once: what they make of them stays in its cache


class Block(nn.Module):
    """Pre-norm self-attention and SwiGLU feed-forward, each branch weighed by the state it is added to:

    `x + sigmoid(G x) * Attn(LN(x))`, then `x + sigmoid(G' x) * FFN(LN(x))`: the block of LiGR (Borisyuk et al., "From
    Features to Transformers", 2025). Positions enter as rotations of queries and keys (Su et al., RoFormer, 2021), so
    attention sees distances. Plain branches, GELU and learned position vectors lost on every data set tried
    (docs/experiments/trunk.md).

    Args:
        hidden_size: H.
        heads: number of attention heads; H / heads is even.
        inner_size: width of the feed-forward layer.
        dropout: on both branches. Not inside the attention: there it costs a fifth of a step on CPU.
        buckets: of time, each with a number for each head that starts at 0; 0 leaves time out.
    """

    def __init__(self, hidden_size: int, heads: int, inner_size: int, dropout: float, buckets: int = 0) -> None:
        super().__init__()
        self.heads = heads
        self.attention_gate = nn.Linear(hidden_size, hidden_size)
        self.ffn_gate = nn.Linear(hidden_size, hidden_size)
        self.attention_norm = nn.LayerNorm(hidden_size)
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size)
        self.merge = nn.Linear(hidden_size, hidden_size)
        self.ffn_norm = nn.LayerNorm(hidden_size)
        self.widen = nn.Linear(hidden_size, 2 * inner_size)
        self.narrow = nn.Linear(inner_size, hidden_size)
        self.dropout = nn.Dropout(dropout)
        self.by_time = nn.Parameter(torch.zeros(heads, buckets)) if buckets else None

    def forward(self, x: Tensor, buckets: Tensor | None = None) -> Tensor:
        """`[B, T, H] -> [B, T, H]`; position t sees the positions up to t.

        Args:
            x: `[B, T, H]`.
            buckets: `[B, T, T]` of `_buckets_of_past`; None where no times are known.
        """
        rows, steps, size = x.shape
        q, k, v = self.project(x).view(rows, steps, 3, self.heads, size // self.heads).permute(2, 0, 3, 1, 4)
        turns = turns_of(torch.arange(steps, device=x.device), q.shape[-1], q.dtype)
        bias = None if buckets is None else self.bias(buckets).to(q.dtype)
        mixed = F.scaled_dot_product_attention(rotate(q, turns), rotate(k, turns), v, bias, is_causal=bias is None)
        return self._branches(x, mixed.transpose(1, 2).reshape(rows, steps, size))

    def bias(self, buckets: Tensor) -> Tensor:
        """What time adds to the logits, `[B, Q, T] -> [B, heads, Q, T]`, for Q of the T positions."""
        assert self.by_time is not None, "a trunk without a clock asks for no bias"
        return time_bias(self.by_time, buckets)

    def project(self, x: Tensor) -> Tensor:
        """Queries, keys and values before their rotation, `[..., H] -> [..., 3H]`: what an item is, wherever it stands."""
        return self.qkv(self.attention_norm(x))

    def packed(self, x: Tensor, projected: Tensor, turns: Turns, lengths: Sequence[int], past: Past = None) -> Tensor:
        """`forward` of rows of any lengths that stand one after another, without a slot for padding.

        Args:
            x: `[S, H]`.
            projected: `[S, 3H]` from `project`.
            turns: of the S positions, `[S, 1, D / 2]` each.
            lengths: of the rows; their sum is S.
            past: of each row.

        Returns:
            `[S, H]`.
        """
        q, k, v = projected.view(len(x), 3, self.heads, -1).unbind(1)
        mixed = attend_in_rows(rotate(q, turns), rotate(k, turns), v, lengths, True, self._biases(past))
        return self._branches(x, mixed)

    def packed_last(self, x: Tensor, turns: Turns, lengths: Sequence[int], past: Past = None) -> Tensor:
        """The last position of each row of `packed`, for less: only keys and values are made of the others. `[S, H] -> [B, H]`."""
        size, normed = x.shape[1], self.attention_norm(x)
        ends = torch.tensor(lengths, device=x.device).cumsum(0) - 1
        query, pairs = self.qkv.weight.split([size, 2 * size])
        query_bias, pairs_bias = self.qkv.bias.split([size, 2 * size])
        k, v = F.linear(normed, pairs, pairs_bias).view(len(x), 2, self.heads, -1).unbind(1)
        q = F.linear(normed[ends], query, query_bias).view(len(lengths), self.heads, -1)
        q = rotate(q, Turns(turns.cos[ends], turns.sin[ends]))
        newest = None if past is None else [None if row is None else row[:, -1:] for row in past]
        x, mixed = x[ends], attend_in_rows(q, rotate(k, turns), v, lengths, False, self._biases(newest))
        return self._branches(x, mixed)

    def _biases(self, past: Past) -> list[Tensor | None] | None:
        return None if past is None else [None if row is None else self.bias(row) for row in past]

    def _branches(self, x: Tensor, mixed: Tensor) -> Tensor:
        """What follows the attention, `[..., H] -> [..., H]`; every position for itself."""
        mixed = self.merge(mixed)
        x = x + torch.sigmoid(self.attention_gate(x)) * self.dropout(mixed)
        value, gate = self.widen(self.ffn_norm(x)).chunk(2, dim=-1)
        return x + torch.sigmoid(self.ffn_gate(x)) * self.dropout(self.narrow(value * F.silu(gate)))


Past = Sequence[Tensor | None] | None
"""`_buckets_of_past` of each row by itself, `[1, t, t]`; None for a row, or for all, whose times nobody knows."""


class Turns(NamedTuple):
    """Cosine and sine of the angles by which positions turn queries and keys; a position and a pair of numbers has one."""

    cos: Tensor
    sin: Tensor


def turns_of(places: Tensor, size: int, dtype: torch.dtype) -> Turns:
    """The turns of positions, `[T] -> [T, D / 2]`, for vectors of D = `size` numbers."""
    rate = 10000.0 ** (-torch.arange(size // 2, device=places.device) / (size // 2))
    angle = places[:, None] * rate
    return Turns(angle.cos().to(dtype), angle.sin().to(dtype))


def rotate(x: Tensor, turns: Turns) -> Tensor:
    """Turns the pair of halves of each vector, `[..., D] -> [..., D]`, by angles that grow with its position."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * turns.cos - second * turns.sin, first * turns.sin + second * turns.cos], dim=-1)


def attend_in_rows(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    lengths: Sequence[int],
    causal: bool,
    biases: Sequence[Tensor | None] | None = None,
) -> Tensor:
    """Attention of packed rows, each within itself.

    Args:
        q: `[S, heads, D]` of all positions if causal; otherwise `[B, heads, D]`, one a row, which sees its whole row.
        k: `[S, heads, D]`.
        v: `[S, heads, D]`.
        lengths: of the B rows.
        causal: position t of a row sees those up to t.
        biases: added to the logits of each row, `[1, heads, t, t]` or, not causal, `[1, heads, 1, t]`, -inf where nothing is seen;
            None for a row, or for all, without.

    Returns:
        `[S, H]` or `[B, H]`.
    """
    steps = list(lengths)
    sizes = steps if causal else [1] * len(steps)
    rows = zip(q.split(sizes), k.split(steps), v.split(steps), biases or [None] * len(steps), strict=True)
    mixed = []
    for *row, bias in rows:
        one_q, one_k, one_v = (part.transpose(0, 1)[None] for part in row)
        seen = F.scaled_dot_product_attention(one_q, one_k, one_v, bias, is_causal=causal and bias is None)
        mixed.append(seen[0].transpose(0, 1))
    return torch.cat(mixed).flatten(1)


def _buckets_of_past(clock: Tensor, buckets: int) -> Tensor:
    """`time_buckets`, `[B, T] -> [B, T, T]`, with the future in a bucket of its own, of which nothing may be read (`time_bias`)."""
    steps = torch.arange(clock.shape[1], device=clock.device)
    return time_buckets(clock, buckets).masked_fill(steps > steps[:, None], buckets + 1)


class Trunk(nn.Module):
    """Causal Transformer in the manner of SASRec (Kang and McAuley, ICDM 2018), of gated blocks.

    Args:
        hidden_size: H.
        layers: number of blocks.
        heads: attention heads per block.
        inner_size: feed-forward width.
        dropout: after the embedding and in every block.
        buckets: of the time between two items; 0: a trunk without a clock.
    """

    def __init__(
        self, hidden_size: int, layers: int, heads: int, inner_size: int, dropout: float, buckets: int = 0
    ) -> None:
        super().__init__()
        self.buckets = buckets
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(hidden_size, heads, inner_size, dropout, buckets) for _ in range(layers))
        self.norm = nn.LayerNorm(hidden_size)

    def forward(self, vectors: Tensor, clock: Tensor | None = None) -> Tensor:
        """States of all positions: the one at position t has seen the items up to and including t, and their times.

        Args:
            vectors: `[B, T, H]` item vectors, oldest first; padding may only stand on the right, where no item sees it.
            clock: `[B, T]` seconds of the items (`data.clock`), `UNKNOWN` in rows without; None: of no row. A trunk without a clock
                reads none.

        Returns:
            `[B, T, H]`; states at padding mean nothing.
        """
        x = self.dropout(vectors)
        buckets = _buckets_of_past(clock, self.buckets) if self.buckets and clock is not None else None
        for block in self.blocks:
            x = block(x, buckets)
        return self.norm(x)

    def project(self, items: Tensor) -> Tensor:
        """What the first block's `project` makes of the items, `[N, H] -> [N, 3H]`, for `last`."""
        return cast(Block, self.blocks[0]).project(items)

    def last(
        self, histories: Tensor, items: Tensor, clock: Tensor | None = None, projected: Tensor | None = None
    ) -> Tensor:
        """The state at the newest item of each history.

        Rows are packed, so padding costs nothing, and the last block works for the newest position alone.

        Args:
            histories: `[B, T]` item ids, oldest first; padding 0 may stand anywhere. An empty one is read as the padding item.
            items: `[N, H]` item vectors.
            clock: `[B, T]`, as for `forward`.
            projected: `[N, 3H]` from `project`, for who asks more than once; None makes what is needed.

        Returns:
            `[B, H]`.
        """
        if not len(histories):
            return items.new_zeros(0, items.shape[1])
        rows = len(histories) if histories.device.type != "cpu" else max(1, _POSITIONS // histories.shape[1])
        parts = histories.split(rows)
        clocks = [None] * len(parts) if clock is None or not self.buckets else clock.split(rows)
        return torch.cat([self._last(part, items, times, projected) for part, times in zip(parts, clocks, strict=True)])

    def _last(self, histories: Tensor, items: Tensor, clock: Tensor | None, projected: Tensor | None) -> Tensor:
        there = histories != 0
        there[:, 0] |= ~there.any(dim=1)
        ids, counts = histories[there], there.sum(dim=1)
        places = (there.cumsum(dim=1) - 1)[there]
        lengths = counts.tolist()
        x = self.dropout(F.embedding(ids, items))
        *blocks, last = cast(list[Block], list(self.blocks))
        turns = turns_of(places, x.shape[1] // last.heads, x.dtype)
        turns = Turns(turns.cos[:, None], turns.sin[:, None])  # the same for all heads
        known = None if projected is None else F.embedding(ids, projected)
        past = None
        if clock is not None:
            past = [
                None if bool((times == UNKNOWN).all()) else _buckets_of_past(times[None], self.buckets)
                for times in clock[there].split(lengths)
            ]
        for block in blocks:
            x = block.packed(x, block.project(x) if known is None else known, turns, lengths, past)
            known = None  # of the first block only
        return self.norm(last.packed_last(x, turns, lengths, past))
