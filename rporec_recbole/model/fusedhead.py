"""The fused head: ids, order and text.

item vector      e_i = ID_i + A text_i
state            s   = last state of the trunk over the history
user vector      u   = s + m g(s, z) W z          g in (0, 1)

and what an answer names moves up by itself, as far as it is trusted (`model.answers`).

z is [enc(cot); enc(answer)], or with `history_items` [mean text of the newest items; text of the newest one; enc(cot);
enc(answer)]: the paper's head reads the history's text beside what was written too. W starts at zero, so the fused head starts as
exactly the trunk; with m = 0 it stays exactly the trunk, and the history's text counts for nothing either.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rporec_recbole.model.answers import AnswerExpert
from rporec_recbole.model.rechead import Reader, Reasoning, ReasoningFusion, RecHead, draw_weights
from rporec_recbole.model.trunk import Trunk


class Fusion(ReasoningFusion):
    """Adds gated reasoning to a user state.

    Args:
        hidden_size: H.
        read_size: of what is read, 2D, or 4D with the history's text.
    """

    def __init__(self, hidden_size: int, read_size: int) -> None:
        super().__init__()
        self.gate = nn.Linear(hidden_size + read_size, 1)
        self.project = nn.Linear(read_size, hidden_size, bias=False)

    def forward(self, state: Tensor, reasoning: Reasoning) -> Tensor:
        """`[B, H] -> [B, H]`; rows that are not well-formed come back bit for bit."""
        moved = state + self.gate_value(state, reasoning)[:, None] * self.project(_read(reasoning))
        return torch.where(reasoning.well_formed[:, None], moved, state)

    def gate_value(self, state: Tensor, reasoning: Reasoning) -> Tensor:
        """How much the reasoning may count, `[B]` in (0, 1)."""
        return torch.sigmoid(self.gate(torch.cat([state, _read(reasoning)], dim=1))).squeeze(1)


def _read(reasoning: Reasoning) -> Tensor:
    """z, `[B, 2D]` or `[B, 4D]`."""
    return reasoning.vectors if reasoning.history is None else torch.cat([reasoning.history, reasoning.vectors], dim=1)


class FusedHead(RecHead):
    """Trunk, fusion and scoring.

    A cold item has no id vector: its text says everything. (The mean of the learned id vectors in its place ranks cold items
    lower, because the mean item is an unpopular one; docs/experiments/cold_items.md.)

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
        id_dropout: share of the items that a training step treats as cold, so that texts learn to stand for ids (the idea
            of DropoutNet, Volkovs et al., NIPS 2017); without item text nothing is dropped.
        history_items: how many of the newest items' texts the fusion reads beside the reasoning; 0: none.
        hears_answers: whether an expert hears which items answers name.
        time_buckets: of the trunk's clock; 0: it has none.
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
        id_dropout: float = 0.0,
        history_items: int = 0,
        hears_answers: bool = False,
        time_buckets: int = 0,
    ) -> None:
        super().__init__(n_items)
        self.item_id = nn.Embedding(n_items, hidden_size, padding_idx=0)
        self.trunk = Trunk(hidden_size, layers, heads, inner_size, dropout, time_buckets)
        self.offset = nn.Linear(hidden_size, 1) if history_bias else None
        self.register_buffer("item_text", item_text)
        text_size = 0 if item_text is None else item_text.shape[1]
        self.text_to_item = nn.Linear(text_size, hidden_size, bias=False) if text_size else None
        self.history_items = history_items if text_size else 0
        self.fusion = Fusion(hidden_size, (4 if self.history_items else 2) * text_size) if text_size else None
        self.expert = AnswerExpert(n_items) if text_size and hears_answers else None
        self.id_dropout = id_dropout if text_size else 0.0
        draw_weights(self, initializer_range)
        with torch.no_grad():
            self.item_id.weight[0].zero_()
        if isinstance(self.fusion, Fusion):
            nn.init.zeros_(self.fusion.project.weight)
        if self.expert is not None:
            self.expert.silence()

    def item_vectors(self) -> Tensor:
        """e_i of all items, `[N, H]`."""
        vectors = self._ids()
        return vectors if self.text_to_item is None else vectors + self.text_to_item(self.item_text)

    def _ids(self) -> Tensor:
        ids, cold = self.item_id.weight, ~self.learned
        if self.training and self.id_dropout:
            cold = cold | (torch.rand(len(cold), device=cold.device) < self.id_dropout)
        cold[0] = False  # padding
        return ids.masked_fill(cold[:, None], 0.0) if cold.any() else ids

    def read_history(self, histories: Tensor) -> Tensor | None:
        """`[mean text of the newest items; text of the newest one]`, each of length 1 (or 0); see `RecHead.read_history`."""
        if not self.history_items or self.item_text is None:
            return None
        there = histories > 0
        order = there.byte().argsort(dim=1, stable=True)  # padding first, then the items, oldest to newest
        newest = histories.gather(1, order)[:, -self.history_items :].flip(1)
        total = self.item_text.new_zeros(len(histories), self.item_text.shape[1])
        for items in newest.unbind(1):  # one after the other: all at once would take `history_items` times the memory
            total += self.item_text[items] * (items > 0)[:, None]
        last = self.item_text[newest[:, 0]] * (newest[:, :1] > 0)
        return torch.cat([F.normalize(total, dim=1), last], dim=1)

    def states(self, histories: Tensor, items: Tensor, clock: Tensor | None = None) -> Tensor:
        """Trunk states at every position, `[B, T] -> [B, T, H]`; see `RecHead.states`."""
        # Not `items[histories]`: on a CPU its gradient adds in whatever order the threads come, and four times slower.
        return self.trunk(F.embedding(histories, items), clock)

    def last_state(self, histories: Tensor, items: Tensor, clock: Tensor | None = None) -> Tensor:
        """Trunk state at the newest item of each history, `[B, T] -> [B, H]`; padding 0 may stand anywhere."""
        return self.trunk.last(histories, items, clock)

    def reader(self, items: Tensor) -> Reader:
        """`last_state` with the first block's projections of all items, `[N, 3H]`, made beforehand; see `RecHead.reader`."""
        return partial(self.trunk.last, items=items, projected=self.trunk.project(items))
