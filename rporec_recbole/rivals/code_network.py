"""The encoder and decoder of TIGER: histories of codes in, what the next code is after any beginning of an id out.

Letters in shapes: B rows, T items of a history, C codes an item, S = T C, M nodes (beginnings of ids), H width, A heads, D = H / A.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Nodes(NamedTuple):
    """Beginnings of ids, each with those that it goes on from.

    Attributes:
        tokens: `[B or 1, M]` the newest code of each as the network counts them, 0 for the empty beginning.
        depths: `[M]` how many codes it has.
        ways: `[M, C]` the nodes from the empty beginning to itself, then itself again.
    """

    tokens: Tensor
    depths: Tensor
    ways: Tensor


class Attention(nn.Module):
    """Softmax attention of several heads.

    Args:
        width: H.
        heads: A.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.pair, self.merge = (
            nn.Linear(width, width),
            nn.Linear(width, 2 * width),
            nn.Linear(width, width),
        )

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """`[B, M, H]`.

        Args:
            x: `[B, M, H]`, who asks.
            memory: `[B, S, H]`, who is asked.
            mask: broadcast to `[B, A, M, S]`, True where one may look.
        """
        q, (k, v) = self._split(self.query(x)), (self._split(one) for one in self.pair(memory).chunk(2, dim=-1))
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.merge(mixed.transpose(1, 2).flatten(2))

    def along(self, x: Tensor, nodes: Nodes) -> Tensor:
        """`[B, M, H]`: each node looks at those on its way alone."""
        q, (k, v) = self._split(self.query(x)), (self._split(one) for one in self.pair(x).chunk(2, dim=-1))
        k, v = k[:, nodes.ways], v[:, nodes.ways]  # [B, M, C, A, D]
        weights = (q[:, :, None] * k).sum(dim=-1) / q.shape[-1] ** 0.5
        behind = torch.arange(weights.shape[2], device=x.device) > nodes.depths[:, None]
        weights = weights.masked_fill(behind[:, :, None], -torch.inf).softmax(dim=2)
        return self.merge((weights[..., None] * v).sum(dim=2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1))


class Layer(nn.Module):
    """Pre-norm attention within, to the history if it is a decoder's, and a feed-forward part.

    Args:
        width: H.
        heads: A.
        inner: width of the feed-forward part.
        dropout: on each branch.
        reads: whether it looks at a history.
    """

    def __init__(self, width: int, heads: int, inner: int, dropout: float, reads: bool) -> None:
        super().__init__()
        self.own, self.own_norm = Attention(width, heads), nn.LayerNorm(width)
        self.other: Attention | None = Attention(width, heads) if reads else None
        self.other_norm: nn.LayerNorm | None = nn.LayerNorm(width) if reads else None
        self.feed = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, inner), nn.ReLU(), nn.Linear(inner, width))
        self.dropout = nn.Dropout(dropout)

    def encode(self, x: Tensor, mask: Tensor) -> Tensor:
        """`[B, S, H]`, see `Attention`."""
        normed = self.own_norm(x)
        x = x + self.dropout(self.own(normed, normed, mask))
        return x + self.dropout(self.feed(x))

    def decode(self, x: Tensor, nodes: Nodes, memory: Tensor, mask: Tensor) -> Tensor:
        """`[B, M, H]`, see `Attention`."""
        assert self.other is not None
        assert self.other_norm is not None
        x = x + self.dropout(self.own.along(self.own_norm(x), nodes))
        x = x + self.dropout(self.other(self.other_norm(x), memory, mask))
        return x + self.dropout(self.feed(x))


class CodeNetwork(nn.Module):
    """A small encoder-decoder over codes.

    The encoder reads each item with those before it, so that one reading of a window serves all of its targets.

    Args:
        sizes: for each of C levels, how many codes it has.
        length: largest number of items.
        width: H.
        heads: A, a divisor of H.
        inner: width of the feed-forward parts.
        layers: of the encoder, and of the decoder.
        dropout: on first states and on every branch.
    """

    offsets: Tensor  # [C]

    def __init__(
        self, sizes: Sequence[int], length: int, width: int, heads: int, inner: int, layers: int, dropout: float
    ) -> None:
        super().__init__()
        self.codes = nn.Embedding(1 + sum(sizes), width)
        self.levels, self.depths = nn.Embedding(len(sizes), width), nn.Embedding(len(sizes), width)
        self.places = nn.Embedding(length, width)
        self.encoder = nn.ModuleList(Layer(width, heads, inner, dropout, reads=False) for _ in range(layers))
        self.decoder = nn.ModuleList(Layer(width, heads, inner, dropout, reads=True) for _ in range(layers))
        self.encoder_norm, self.decoder_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.heads = nn.ModuleList(nn.Linear(width, size) for size in sizes)
        self.dropout = nn.Dropout(dropout)
        starts = torch.tensor([0, *sizes[:-1]]).cumsum(0) + 1  # 0 is the empty beginning
        self.register_buffer("offsets", starts, persistent=False)
        for part in (self.codes, self.levels, self.depths, self.places):
            nn.init.normal_(part.weight, std=0.02)

    def encode(self, codes: Tensor) -> Tensor:
        """`[B, T, C] -> [B, S, H]`; padding may stand on the right, where no item sees it."""
        steps, count = codes.shape[1:]
        x = self.codes(codes + self.offsets) + self.levels.weight + self.places.weight[:steps, None]
        x, item = self.dropout(x.flatten(1, 2)), torch.arange(steps, device=codes.device).repeat_interleave(count)
        for layer in self.encoder:
            x = cast(Layer, layer).encode(x, item[:, None] >= item)
        return self.encoder_norm(x)

    def decode(self, nodes: Nodes, memory: Tensor, mask: Tensor) -> Tensor:
        """States of nodes, `[B, M, H]`.

        Args:
            nodes: M of them.
            memory: `[B, S, H]` of `encode`.
            mask: broadcast to `[B, M, S]`, True where a node may look.
        """
        x = self.dropout(self.codes(nodes.tokens) + self.depths(nodes.depths))
        x = x.expand(len(memory), -1, -1)
        for layer in self.decoder:
            x = cast(Layer, layer).decode(x, nodes, memory, mask[:, None])
        return self.decoder_norm(x)

    def tokens(self, codes: Tensor, depth: int) -> Tensor:
        """Codes of the level above a depth as the network counts them; the empty beginning for depth 0."""
        return torch.zeros_like(codes) if depth == 0 else codes + self.offsets[depth - 1]


def chains(network: CodeNetwork, codes: Tensor) -> Nodes:
    """Every proper beginning of some ids: C nodes for each, one behind the other.

    Args:
        network: that reads them.
        codes: `[B, P, C]`; the last code of each is no part of a beginning.

    Returns:
        M = P C nodes.
    """
    rows, ids, count = codes.shape
    tokens = torch.stack([network.tokens(codes[..., max(0, depth - 1)], depth) for depth in range(count)], dim=-1)
    depths = torch.arange(count, device=codes.device)
    way = torch.minimum(depths, depths[:, None])
    ways = (torch.arange(ids, device=codes.device)[:, None, None] * count + way).flatten(0, 1)
    return Nodes(tokens.view(rows, -1), depths.repeat(ids), ways)
