"""The tree of all semantic ids: which codes may follow a beginning, and which item an id is.

Letters: N items with padding, C codes an item, K codes of a level, L nodes of a depth (beginnings of so many codes; the root is the only one
of depth 0).
"""

from __future__ import annotations

import torch
from torch import Tensor


class CodeTree:
    """Built once from the codes; an item that is not in it cannot be named.

    Args:
        codes: `[N, C]`, all ids different; row 0, padding, is no id.

    Attributes:
        sizes: for each level, how many codes it has.
        paths: `[N, C]` for each item the nodes on its way, one of each depth from 0 to C - 1; 0 for padding.
        tokens: for each depth from 0, the codes that lead to its nodes, `[L, depth]`.
        children: for each depth, `[L, K]`: the node of the next depth behind a code, at the last one the item; -1 where there is none.
    """

    def __init__(self, codes: Tensor) -> None:
        own, device = codes[1:], codes.device
        self.sizes = [int(one) + 1 for one in own.amax(dim=0)]
        self.paths = torch.zeros_like(codes)
        self.tokens, self.children = [], []
        node, count = torch.zeros_like(own[:, 0]), 1
        for depth, size in enumerate(self.sizes):
            first = node.new_zeros(count).scatter_(0, node, torch.arange(len(own), device=device))  # any item of a node
            self.tokens.append(own[first, :depth])
            self.paths[1:, depth] = node
            beginnings, behind = torch.unique(node * size + own[:, depth], return_inverse=True)
            table = node.new_full((count * size,), -1)
            last = depth == len(self.sizes) - 1
            table[node * size + own[:, depth]] = torch.arange(1, len(codes), device=device) if last else behind
            self.children.append(table.view(count, size))
            node, count = behind, len(beginnings)

    def __len__(self) -> int:
        """How many nodes there are, the items left out."""
        return sum(len(table) for table in self.children)

    def allowed(self, depth: int, nodes: Tensor | None = None) -> Tensor:
        """Which codes may follow nodes of a depth, `[..., K]` bool; of all of them in order where none are named."""
        table = self.children[depth]
        return (table if nodes is None else table[nodes]) >= 0

    def of_items(self, by_depth: list[Tensor], codes: Tensor) -> Tensor:
        """Adds up along each item's way, `[B, N]`; 0 for padding.

        Args:
            by_depth: for each depth, `[B, L, K]`.
            codes: `[N, C]`.
        """
        total = by_depth[0].new_zeros(len(by_depth[0]), len(codes))
        for depth, values in enumerate(by_depth):
            total[:, 1:] += values[:, self.paths[1:, depth], codes[1:, depth]]
        return total
