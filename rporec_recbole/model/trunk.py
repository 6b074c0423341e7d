"""The trunk: a pre-norm causal Transformer over item vectors, one state per position.

Letters in shapes: B rows, T positions, H hidden size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """Pre-norm self-attention and feed-forward: `x + Attn(LN(x))`, then `x + FFN(LN(x))`.

    Args:
        hidden_size: H.
        heads: number of attention heads; divides H.
        inner_size: width of the feed-forward layer.
        dropout: on both branches. Not inside the attention: there it costs a fifth of a step on CPU.
    """

    def __init__(self, hidden_size: int, heads: int, inner_size: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(hidden_size)
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size)
        self.merge = nn.Linear(hidden_size, hidden_size)
        self.ffn_norm = nn.LayerNorm(hidden_size)
        self.ffn = nn.Sequential(nn.Linear(hidden_size, inner_size), nn.GELU(), nn.Linear(inner_size, hidden_size))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, allowed: Tensor) -> Tensor:
        """`[B, T, H] -> [B, T, H]`; `allowed[b, 0, i, j]` says whether position i may look at j."""
        rows, steps, size = x.shape
        q, k, v = (
            self.qkv(self.attention_norm(x)).view(rows, steps, 3, self.heads, size // self.heads).permute(2, 0, 3, 1, 4)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
        x = x + self.dropout(self.merge(mixed.transpose(1, 2).reshape(rows, steps, size)))
        return x + self.dropout(self.ffn(self.ffn_norm(x)))


class Trunk(nn.Module):
    """Causal Transformer in the manner of SASRec (Kang and McAuley, ICDM 2018), pre-norm.

    Positions count real items from the oldest one shown, so padding on either side changes nothing.

    Args:
        hidden_size: H.
        layers: number of blocks.
        heads: attention heads per block.
        inner_size: feed-forward width.
        dropout: after the embedding and in every block.
        max_length: longest history.
    """

    def __init__(
        self, hidden_size: int, layers: int, heads: int, inner_size: int, dropout: float, max_length: int
    ) -> None:
        super().__init__()
        self.position = nn.Embedding(max_length, hidden_size)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(hidden_size, heads, inner_size, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(hidden_size)

    def forward(self, vectors: Tensor, real: Tensor) -> Tensor:
        """States of all positions.

        Args:
            vectors: `[B, T, H]` item vectors.
            real: `[B, T]` True where an item stands, False at padding.

        Returns:
            `[B, T, H]`; the state at position t has seen the items up to and including t.
        """
        steps = real.shape[1]
        order = (real.cumsum(1) - 1).clamp(min=0)
        causal = torch.ones(steps, steps, dtype=torch.bool, device=real.device).tril()
        diagonal = torch.eye(steps, dtype=torch.bool, device=real.device)
        # A padded position may look at itself, so that no row of the softmax is empty (it would be NaN).
        allowed = (causal & real[:, None, :] | diagonal)[:, None]
        x = self.dropout(vectors + self.position(order))
        for block in self.blocks:
            x = block(x, allowed)
        return self.norm(x)
