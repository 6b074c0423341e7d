"""The Rechead: retrieves items precisely from a history and, where there is any, from what the backbone wrote.

item vector      e_i = ID_i + A text_i
trunk            s   = last state of the trunk over the history
reasoning        z   = [enc(cot); enc(answer)]
user vector      u   = s + m g(s, z) W z          m = 1 if well-formed, else 0; g in (0, 1)
score            u . e_i + b(s) [i in history]    b(s) linear: repeat or explore

W starts at zero, so the fused head starts as exactly the trunk; with m = 0 it stays exactly the trunk.

Letters in shapes: B rows, T positions, H hidden size, N items, D size of a text vector.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rporec_recbole.model.trunk import Trunk


class Reasoning(NamedTuple):
    """What the head reads of completions.

    Attributes:
        vectors: `[B, 2D]`, `[enc(cot); enc(answer)]`.
        well_formed: `[B]` True where the completion may count.
    """

    vectors: Tensor
    well_formed: Tensor


class Fusion(nn.Module):
    """Adds gated reasoning to a user state.

    Args:
        hidden_size: H.
        text_size: D.
    """

    def __init__(self, hidden_size: int, text_size: int) -> None:
        super().__init__()
        self.gate = nn.Linear(hidden_size + 2 * text_size, 1)
        self.project = nn.Linear(2 * text_size, hidden_size, bias=False)

    def forward(self, state: Tensor, reasoning: Reasoning) -> Tensor:
        """`[B, H] -> [B, H]`; rows that are not well-formed come back bit for bit."""
        moved = state + self.gate_value(state, reasoning)[:, None] * self.project(reasoning.vectors)
        return torch.where(reasoning.well_formed[:, None], moved, state)

    def gate_value(self, state: Tensor, reasoning: Reasoning) -> Tensor:
        """How much the reasoning may count, `[B]` in (0, 1)."""
        return torch.sigmoid(self.gate(torch.cat([state, reasoning.vectors], dim=1))).squeeze(1)


class RecHead(nn.Module):
    """Trunk, fusion and scoring.

    Args:
        n_items: N, padding item 0 included.
        item_text: `[N, D]` text vectors of the items; kept frozen. None: ids only.
        hidden_size: H.
        layers: blocks of the trunk.
        heads: attention heads.
        inner_size: feed-forward width.
        dropout: in the trunk.
        initializer_range: standard deviation of new weights.
        history_bias: whether items of the history get the learned offset b(s).
    """

    def __init__(
        self,
        n_items: int,
        item_text: Tensor | None,
        *,
        hidden_size: int,
        layers: int,
        heads: int,
        inner_size: int,
        dropout: float,
        initializer_range: float,
        history_bias: bool,
    ) -> None:
        super().__init__()
        self.item_id = nn.Embedding(n_items, hidden_size, padding_idx=0)
        self.trunk = Trunk(hidden_size, layers, heads, inner_size, dropout)
        self.offset = nn.Linear(hidden_size, 1) if history_bias else None
        self.item_text: Tensor | None
        self.register_buffer("item_text", item_text)
        text_size = 0 if item_text is None else item_text.shape[1]
        self.text_to_item = nn.Linear(text_size, hidden_size, bias=False) if text_size else None
        self.fusion = Fusion(hidden_size, text_size) if text_size else None
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=initializer_range)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        with torch.no_grad():
            self.item_id.weight[0].zero_()
        if self.fusion is not None:
            nn.init.zeros_(self.fusion.project.weight)

    def item_vectors(self) -> Tensor:
        """e_i of all items, `[N, H]`."""
        vectors = self.item_id.weight
        return vectors if self.text_to_item is None else vectors + self.text_to_item(self.item_text)

    def states(self, histories: Tensor, items: Tensor) -> Tensor:
        """Trunk states at every position.

        Args:
            histories: `[B, T]` item ids, padded on the right with 0.
            items: `[N, H]` from `item_vectors`.

        Returns:
            `[B, T, H]`; states at padding mean nothing.
        """
        # Not `items[histories]`: on a CPU its gradient adds in whatever order the threads come, and four times slower.
        return self.trunk(F.embedding(histories, items))

    def last_state(self, histories: Tensor, items: Tensor) -> Tensor:
        """Trunk state at the newest item of each history, `[B, T] -> [B, H]`; padding 0 may stand anywhere."""
        to_the_left = (histories == 0).int().sort(dim=1, stable=True).indices
        states = self.states(histories.gather(1, to_the_left), items)
        newest = ((histories != 0).sum(dim=1) - 1).clamp(min=0)
        return states[torch.arange(len(histories), device=histories.device), newest]

    def user_vectors(self, state: Tensor, reasoning: Reasoning | None) -> Tensor:
        """u from s; without reasoning u is s itself. `[B, H] -> [B, H]`."""
        return state if reasoning is None or self.fusion is None else self.fusion(state, reasoning)

    def history_offset(self, state: Tensor) -> Tensor | None:
        """b(s), `[..., H] -> [...]`; None without the history bias."""
        return None if self.offset is None else self.offset(state).squeeze(-1)

    def scores(self, histories: Tensor, reasoning: Reasoning | None = None) -> Tensor:
        """Scores of all items, `[B, T] -> [B, N]`; the padding item scores `-inf`."""
        items = self.item_vectors()
        state = self.last_state(histories, items)
        return score_items(self.user_vectors(state, reasoning), items, distinct(histories), self.history_offset(state))


def distinct(histories: Tensor) -> Tensor:
    """Keeps the first occurrence of each item in a row and sets repeats to 0. `[B, T] -> [B, T]`."""
    same = histories[:, :, None] == histories[:, None, :]
    steps = histories.shape[1]
    earlier = torch.ones(steps, steps, dtype=torch.bool, device=histories.device).tril(-1)
    return torch.where((same & earlier).any(dim=2), 0, histories)


def score_items(users: Tensor, items: Tensor, seen: Tensor, offset: Tensor | None) -> Tensor:
    """`u . e_i + b [i in seen]`, padding item at `-inf`.

    Args:
        users: `[P, H]`.
        items: `[N, H]`.
        seen: `[P, T]` ids of the history's distinct items, 0 elsewhere.
        offset: `[P]` or None.

    Returns:
        `[P, N]`.
    """
    padding = users.new_zeros(len(items))
    padding[0] = -torch.inf  # also swallows the offsets of padded steps, which all point at item 0
    scores = torch.addmm(padding, users, items.T)
    if offset is not None:
        scores = scores.scatter_add(1, seen, offset[:, None].expand(-1, seen.shape[1]))
    return scores
