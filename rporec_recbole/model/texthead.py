"""The text head: no ids, every vector is made from text, so items that nobody has chosen yet are scored like all others.

item vector      e_i = A text_i
state            s   = B enc(text of the history's newest items) + b
user vector      u   = s + m g(s, t) W t          t = first vector of a Transformer over [s, P enc(cot), P enc(answer)]

This is the head of RPORec's paper (Gao et al., arXiv 2605.21967): three text vectors, a small Transformer over them, a soft
gate, and the history alone where the answer is malformed. W starts at zero, so reasoning starts without effect. A and B
start as the same isometry: a new head ranks by the likeness of texts.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rporec_recbole.model.answers import AnswerExpert
from rporec_recbole.model.history_text import HistoryText
from rporec_recbole.model.rechead import Reasoning, ReasoningFusion, RecHead, draw_weights


class TextFusion(ReasoningFusion):
    """Lets a history vector read the reasoning, and adds what it finds through a gate.

    Args:
        hidden_size: H.
        text_size: D.
        layers: of the Transformer.
        heads: attention heads.
        inner_size: feed-forward width.
    """

    def __init__(self, hidden_size: int, text_size: int, layers: int, heads: int, inner_size: int) -> None:
        super().__init__()
        self.project = nn.Linear(text_size, hidden_size)
        self.kind = nn.Embedding(3, hidden_size)  # history, cot, answer
        layer = nn.TransformerEncoderLayer(
            hidden_size, heads, inner_size, 0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.mix = nn.TransformerEncoder(layer, layers, nn.LayerNorm(hidden_size), enable_nested_tensor=False)
        self.gate = nn.Linear(2 * hidden_size, 1)
        self.write = nn.Linear(hidden_size, hidden_size, bias=False)

    def forward(self, state: Tensor, reasoning: Reasoning) -> Tensor:
        """`[B, H] -> [B, H]`; rows that are not well-formed come back bit for bit."""
        found = self._found(state, reasoning)
        moved = state + self._gate(state, found) * self.write(found)
        return torch.where(reasoning.well_formed[:, None], moved, state)

    def gate_value(self, state: Tensor, reasoning: Reasoning) -> Tensor:
        """How much the reasoning may count, `[B]` in (0, 1)."""
        return self._gate(state, self._found(state, reasoning)).squeeze(1)

    def _found(self, state: Tensor, reasoning: Reasoning) -> Tensor:
        """t, `[B, H]`."""
        cot, answer = reasoning.vectors.chunk(2, dim=1)
        three = torch.stack([state, self.project(cot), self.project(answer)], dim=1) + self.kind.weight
        return self.mix(three)[:, 0]

    def _gate(self, state: Tensor, found: Tensor) -> Tensor:
        return torch.sigmoid(self.gate(torch.cat([state, found], dim=1)))


class TextHead(RecHead):
    """Scores items by their texts for a history of texts.

    Args:
        item_text: `[N, D]` text vectors of the items; kept frozen.
        history_text: text vectors of histories, from the same encoder.
        hidden_size: H.
        layers: of the Transformer over the three vectors.
        heads: attention heads.
        inner_size: feed-forward width.
        dropout: on history vectors.
        initializer_range: standard deviation of new weights other than A and B.
        history_bias: whether items of the history get the learned offset b(s).
        hears_answers: whether an expert hears which items answers name.
    """

    item_text: Tensor

    def __init__(
        self,
        item_text: Tensor,
        history_text: HistoryText,
        *,
        hidden_size: int,
        layers: int,
        heads: int,
        inner_size: int,
        dropout: float,
        initializer_range: float,
        history_bias: bool,
        hears_answers: bool = False,
    ) -> None:
        super().__init__(len(item_text))
        text_size = item_text.shape[1]
        self.history_text = history_text
        self.register_buffer("item_text", item_text)
        self.dropout = nn.Dropout(dropout)
        self.text_to_item = nn.Linear(text_size, hidden_size, bias=False)
        self.text_to_state = nn.Linear(text_size, hidden_size)
        self.offset = nn.Linear(hidden_size, 1) if history_bias else None
        self.fusion = fusion = TextFusion(hidden_size, text_size, layers, heads, inner_size)
        self.expert = AnswerExpert(len(item_text)) if hears_answers else None
        draw_weights(self, initializer_range)
        nn.init.zeros_(fusion.write.weight)
        if self.expert is not None:
            self.expert.silence()
        nn.init.orthogonal_(self.text_to_item.weight)
        with torch.no_grad():
            self.text_to_state.weight.copy_(self.text_to_item.weight)

    def item_vectors(self) -> Tensor:
        """e_i of all items, `[N, H]`."""
        return self.text_to_item(self.item_text)

    def states(self, histories: Tensor, items: Tensor) -> Tensor:
        """s at every position, `[B, T] -> [B, T, H]`; see `RecHead.states`. Item vectors are not needed."""
        return self.text_to_state(self.dropout(self.history_text.everywhere(histories)))

    def last_state(self, histories: Tensor, items: Tensor) -> Tensor:
        """s of whole histories, `[B, T] -> [B, H]`; padding 0 may stand anywhere."""
        return self.text_to_state(self.dropout(self.history_text.newest(histories)))

    def prepare(self, histories: Tensor) -> None:
        """Encodes the texts of all positions of `[R, T]` histories at once, with a progress bar."""
        self.history_text.read(histories)
