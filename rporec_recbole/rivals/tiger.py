"""TIGER: the next item is generated, code by code of its semantic id.

S. Rajput et al., "Recommender Systems with Generative Retrieval", NeurIPS 2023 (arXiv 2305.05065). Differences: docs/rivals.md.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.utils import InputType
from torch import Tensor

from rporec_recbole.data.dataset import TARGETS
from rporec_recbole.errors import ConfigError
from rporec_recbole.rivals.code_network import CodeNetwork, Nodes, chains
from rporec_recbole.rivals.code_tree import CodeTree
from rporec_recbole.rivals.codes import residual_codes, told_apart
from rporec_recbole.rivals.dataset import WindowDataset
from rporec_recbole.rivals.text_vectors import kept, text_vectors

_NUMBERS = 2**24
"""How many numbers of one kind an evaluation holds at once."""
_OUTSIDE = 1.0
"""How far below the last beam items stand that no beam has reached: all alike, and ties count against a model."""


class TIGER(SequentialRecommender):
    """Settings: properties/model/TIGER.yaml. Scores are log-probabilities among the items that there are.

    Args:
        config: RecBole's Config.
        dataset: RecBole's data set of the training.

    Raises:
        ConfigError: a codebook has more codes than there are items.
    """

    input_type = InputType.POINTWISE
    dataset_class = WindowDataset
    codes: Tensor  # [N, C]

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.beams, self.width = int(config["beams"]), int(config["hidden_size"])
        codes = kept(config, "codes")
        self.register_buffer("codes", semantic_ids(config, dataset) if codes is None else codes)
        self.tree = CodeTree(self.codes)
        self.network = CodeNetwork(
            self.tree.sizes,
            int(self.max_seq_length),
            self.width,
            int(config["n_heads"]),
            int(config["inner_size"]),
            int(config["n_layers"]),
            float(config["dropout_prob"]),
        )

    def _apply(self, *args: Any, **kwargs: Any) -> Any:
        """The tree goes where the codes go."""
        moved = super()._apply(*args, **kwargs)
        if self.codes.device != self.tree.paths.device:
            self.tree = CodeTree(self.codes)
        return moved

    def calculate_loss(self, interaction: Any) -> Tensor:
        """Mean over targets of the sum over levels of the cross-entropy of the next code, among all codes of its level."""
        items, targets = self._history(interaction), interaction[TARGETS]
        steps, count = items.shape[1], self.codes.shape[1]
        codes = self.codes[targets[:, :steps]]
        memory = self.network.encode(self.codes[items])
        read = torch.arange(steps * count, device=items.device) // count
        states = self.network.decode(chains(self.network, codes), memory, (read[:, None] >= read)[None])
        there = targets[:, :steps] > 0
        states, codes = states.unflatten(1, (steps, count))[there], codes[there]
        return torch.stack(
            [F.cross_entropy(head(states[:, at]), codes[:, at]) for at, head in enumerate(self.network.heads)]
        ).sum()

    def predict(self, interaction: Any) -> Tensor:
        """`[B]` log-probabilities of the rows' own items."""
        items, own = self._history(interaction), interaction[self.ITEM_ID]
        states = self._states(chains(self.network, self.codes[own][:, None]), items, interaction)
        total = states.new_zeros(len(own))
        for depth, head in enumerate(self.network.heads):
            allowed = self.tree.allowed(depth, self.tree.paths[own, depth])
            shares = _shares(head(states[:, depth]), allowed)
            total = total + shares.gather(1, self.codes[own, depth][:, None]).squeeze(1)
        return total

    def full_sort_predict(self, interaction: Any) -> Tensor:
        """`[B, N]`: exact, or of the `beams` best items, and one score below them for all others."""
        return self._by_beams(interaction) if self.beams else self._exact(interaction)

    # --- all items ----------------------------------------------------------------------------------------------------

    def _exact(self, interaction: Any) -> Tensor:
        items, nodes = self._history(interaction), self._whole_tree()
        sizes = [len(table) for table in self.tree.children]
        rows = max(1, _NUMBERS // (len(self.tree) * nodes.ways.shape[1] * self.width))
        found = []
        for part, ends in zip(items.split(rows), interaction[self.ITEM_SEQ_LEN].split(rows), strict=True):
            states = self._read(nodes, part, ends).split(sizes, dim=1)
            shares = [
                _shares(head(own), self.tree.allowed(depth))
                for depth, (head, own) in enumerate(zip(self.network.heads, states, strict=True))
            ]
            found.append(self.tree.of_items(shares, self.codes))
        return torch.cat(found)

    def _whole_tree(self) -> Nodes:
        """Every node, by depth."""
        tokens, depths, ways, start = [], [], [], 0
        way = self.codes.new_zeros(1, 0)
        for depth, own in enumerate(self.tree.tokens):
            numbers = torch.arange(start, start + len(own), device=own.device)
            if depth:
                table = self.tree.children[depth - 1]
                parent, code = (table >= 0).nonzero(as_tuple=True)
                by_child = torch.empty_like(numbers)
                by_child[table[parent, code]] = parent
                way = way[by_child]
            way = torch.cat([way, numbers[:, None]], dim=1)
            tokens.append(self.network.tokens(own[:, -1] if depth else numbers, depth))
            depths.append(torch.full_like(numbers, depth))
            ways.append(torch.cat([way, numbers[:, None].expand(-1, len(self.tree.sizes) - depth - 1)], dim=1))
            start += len(own)
        return Nodes(torch.cat(tokens)[None], torch.cat(depths), torch.cat(ways))

    # --- the best items -----------------------------------------------------------------------------------------------

    def _by_beams(self, interaction: Any) -> Tensor:
        """Beams over the tree: each is the beginning of an item that there is, and in the end an item."""
        items = self._history(interaction)
        count = self.codes.shape[1]
        nodes, total = items.new_zeros(len(items), 1), torch.zeros(len(items), 1, device=items.device)
        way = items.new_zeros(len(items), 1, count)  # the codes of each beam
        for depth, head in enumerate(self.network.heads):
            states = self._states(chains(self.network, way[..., : depth + 1]), items, interaction)
            states = states.unflatten(1, (-1, depth + 1))[:, :, -1]
            shares = _shares(head(states), self.tree.allowed(depth, nodes)) + total[..., None]
            best = shares.flatten(1).topk(min(self.beams, shares[0].numel()), dim=1)
            parent, code = best.indices // shares.shape[2], best.indices % shares.shape[2]
            total, way = best.values, way.gather(1, parent[..., None].expand(-1, -1, count)).clone()
            way[..., depth] = code
            nodes = self.tree.children[depth][nodes.gather(1, parent), code].clamp(min=0)
        real = total > -torch.inf
        lowest = torch.where(real, total, torch.inf).amin(dim=1, keepdim=True) - _OUTSIDE
        scores = lowest.expand(-1, self.n_items).clone()
        return scores.scatter_(1, torch.where(real, nodes, 0), torch.where(real, total, lowest))

    # --- histories ----------------------------------------------------------------------------------------------------

    def _history(self, interaction: Any) -> Tensor:
        """`[B, T]` items, T as long as the longest history."""
        return interaction[self.ITEM_SEQ][:, : max(1, int(interaction[self.ITEM_SEQ_LEN].max()))]

    def _states(self, nodes: Nodes, items: Tensor, interaction: Any) -> Tensor:
        """`_read` of all rows, some at a time; nodes of each row are its own."""
        rows = max(1, _NUMBERS // (nodes.ways.numel() * self.width))
        parts = zip(
            nodes.tokens.split(rows), items.split(rows), interaction[self.ITEM_SEQ_LEN].split(rows), strict=True
        )
        return torch.cat([self._read(nodes._replace(tokens=tokens), own, ends) for tokens, own, ends in parts])

    def _read(self, nodes: Nodes, items: Tensor, lengths: Tensor) -> Tensor:
        """States of nodes that look at whole histories, `[B, M, H]`."""
        count = self.codes.shape[1]
        place = torch.arange(items.shape[1], device=items.device).repeat_interleave(count)
        mask = (place < lengths.clamp(min=1)[:, None])[:, None]
        return self.network.decode(nodes, self.network.encode(self.codes[items]), mask)


def semantic_ids(config: Any, dataset: Any) -> Tensor:
    """`[N, levels + 1]` of the items' texts; row 0, padding, has zeros.

    Args:
        config: RecBole's Config.
        dataset: RecBole's data set.

    Raises:
        ConfigError: a codebook has more codes than there are items.
    """
    size, items = int(config["codebook_size"]), int(dataset.item_num) - 1
    if size > items:
        raise ConfigError(
            f"TIGER on `{config['dataset']}`: `codebook_size={size}` must be from 2 to {items:,}, the number of items."
        )
    vectors = text_vectors(config, dataset)[1:].numpy()
    codes, _ = residual_codes(vectors, int(config["codebook_levels"]), size, int(config["seed"]))
    return F.pad(torch.from_numpy(told_apart(codes)), (0, 0, 1, 0))


def _shares(logits: Tensor, allowed: Tensor) -> Tensor:
    """Log-probabilities among the codes that may follow, `[..., K]`; `-inf` for others, and where none may."""
    inside = logits.masked_fill(~allowed, -torch.inf)
    return (inside - inside.logsumexp(dim=-1, keepdim=True)).masked_fill(~allowed, -torch.inf)
