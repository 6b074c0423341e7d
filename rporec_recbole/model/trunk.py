"""The trunk: a causal Transformer of gated blocks over item vectors, one state per position.

Letters in shapes: B rows, T positions, H hidden size, D size of an attention head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """Pre-norm self-attention and SwiGLU feed-forward, each branch weighed by the state it is added to:

    `x + sigmoid(G x) * Attn(LN(x))`, then `x + sigmoid(G' x) * FFN(LN(x))`: the block of LiGR (Borisyuk et al., "From
    Features to Transformers", 2025). Positions enter as rotations of queries and keys (Su et al., RoFormer, 2021), so
    attention sees distances. Plain branches, GELU and learned position vectors lost on every data set tried
    (docs/experiments.md).

    Args:
        hidden_size: H.
        heads: number of attention heads; H / heads is even.
        inner_size: width of the feed-forward layer.
        dropout: on both branches. Not inside the attention: there it costs a fifth of a step on CPU.
    """

    def __init__(self, hidden_size: int, heads: int, inner_size: int, dropout: float) -> None:
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

    def forward(self, x: Tensor) -> Tensor:
        """`[B, T, H] -> [B, T, H]`; position t sees the positions up to t."""
        rows, steps, size = x.shape
        q, k, v = (
            self.qkv(self.attention_norm(x)).view(rows, steps, 3, self.heads, size // self.heads).permute(2, 0, 3, 1, 4)
        )
        mixed = F.scaled_dot_product_attention(rotate(q), rotate(k), v, is_causal=True)
        return self._branches(x, mixed.transpose(1, 2).reshape(rows, steps, size))

    def at(self, x: Tensor, places: Tensor) -> Tensor:
        """One position of each row of `forward`, for less: only keys and values are made of the others.

        Args:
            x: `[B, T, H]`.
            places: `[B]` positions.

        Returns:
            `[B, H]`.
        """
        rows, steps, size = x.shape
        normed, row = self.attention_norm(x), torch.arange(rows, device=x.device)
        query, pairs = self.qkv.weight.split([size, 2 * size])
        query_bias, pairs_bias = self.qkv.bias.split([size, 2 * size])
        k, v = (
            F.linear(normed, pairs, pairs_bias)
            .view(rows, steps, 2, self.heads, size // self.heads)
            .permute(2, 0, 3, 1, 4)
        )
        q = F.linear(normed[row, places], query, query_bias).view(rows, self.heads, 1, size // self.heads)
        seen = (torch.arange(steps, device=x.device) <= places[:, None])[:, None, None]
        mixed = F.scaled_dot_product_attention(rotate(q, places), rotate(k), v, attn_mask=seen)
        return self._branches(x[row, places], mixed.reshape(rows, size))

    def _branches(self, x: Tensor, mixed: Tensor) -> Tensor:
        """What follows the attention, `[..., H] -> [..., H]`; every position for itself."""
        mixed = self.merge(mixed)
        x = x + torch.sigmoid(self.attention_gate(x)) * self.dropout(mixed)
        value, gate = self.widen(self.ffn_norm(x)).chunk(2, dim=-1)
        return x + torch.sigmoid(self.ffn_gate(x)) * self.dropout(self.narrow(value * F.silu(gate)))


def rotate(x: Tensor, places: Tensor | None = None) -> Tensor:
    """Turns the pair of halves of each vector by an angle that grows with its position.

    Args:
        x: `[..., T, D]`; with places `[B, heads, 1, D]`.
        places: `[B]` positions of the only step of each row; None counts the steps from 0.

    Returns:
        as `x`.
    """
    steps, half = x.shape[-2], x.shape[-1] // 2
    rate = 10000.0 ** (-torch.arange(half, device=x.device) / half)
    if places is None:
        angle = torch.arange(steps, device=x.device)[:, None] * rate
    else:
        angle = places[:, None, None, None] * rate
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


class Trunk(nn.Module):
    """Causal Transformer in the manner of SASRec (Kang and McAuley, ICDM 2018), of gated blocks.

    Args:
        hidden_size: H.
        layers: number of blocks.
        heads: attention heads per block.
        inner_size: feed-forward width.
        dropout: after the embedding and in every block.
    """

    def __init__(self, hidden_size: int, layers: int, heads: int, inner_size: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(hidden_size, heads, inner_size, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(hidden_size)

    def forward(self, vectors: Tensor) -> Tensor:
        """States of all positions: the one at position t has seen the items up to and including t.

        Args:
            vectors: `[B, T, H]` item vectors, oldest first; padding may only stand on the right, where no item sees it.

        Returns:
            `[B, T, H]`; states at padding mean nothing.
        """
        x = self.dropout(vectors)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def last(self, vectors: Tensor, places: Tensor) -> Tensor:
        """The state of one position of each row. The last block works for it alone, which saves two fifths of two blocks.

        Args:
            vectors: `[B, T, H]` as in `forward`.
            places: `[B]` positions.

        Returns:
            `[B, H]`.
        """
        x = self.dropout(vectors)
        *blocks, last = self.blocks
        for block in blocks:
            x = block(x)
        assert isinstance(last, Block), "a trunk is made of blocks"
        return self.norm(last.at(x, places))
