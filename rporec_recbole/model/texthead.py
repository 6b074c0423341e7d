"""The text head: no ids, every vector is made from text, so items that nobody has chosen yet are scored like all others.

item vector      e_i = A text_i
state            s   = B enc(text of the history's newest items) + b
user vector      u   = s + m g(s, t) W t          t = first vector of a Transformer over [s, P enc(cot), P enc(answer)]

This is the head of RPORec's paper (Gao et al., arXiv 2605.21967): three text vectors, a small Transformer over them, a soft
gate, and the history alone where the answer is malformed. W starts at zero, so reasoning starts without effect. A and B
start as the same isometry: a new head ranks by the likeness of texts. What the paper's release does otherwise can be chosen, one by
one (`TextForm`, `TextTowers`).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rporec_recbole.errors import ConfigError
from rporec_recbole.model.answers import AnswerExpert
from rporec_recbole.model.history_text import HistoryText
from rporec_recbole.model.rechead import RecHead, draw_weights
from rporec_recbole.model.textform import TextForm
from rporec_recbole.model.textfusion import TextFusion
from rporec_recbole.model.texttowers import TextTowers


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
        form: see `TextForm`.
        towers: encoders that learn with the head, in the place of the frozen vectors of histories and reasoning; or None.

    Raises:
        ConfigError: vectors that nothing maps have another size than the head.
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
        form: TextForm | None = None,
        towers: TextTowers | None = None,
    ) -> None:
        super().__init__(len(item_text))
        text_size, self.form = item_text.shape[1], form or TextForm()
        mapped = self.form.item_vectors == "mapped"
        if hidden_size != text_size and (towers is not None or not mapped):
            raise ConfigError(
                f"`hidden_size={hidden_size}` must be {text_size}, the size of the text encoder's vectors, with `item_vectors=raw` or "
                "`head_encoder=trained`: nothing maps them."
            )
        self.history_text = history_text
        self.register_buffer("item_text", item_text)
        self.dropout = nn.Dropout(dropout)
        self.text_to_item = nn.Linear(text_size, hidden_size, bias=False) if mapped else None
        self.text_to_state = nn.Linear(text_size, hidden_size) if towers is None else None
        self.offset = nn.Linear(hidden_size, 1) if history_bias else None
        self.fusion = fusion = TextFusion(
            hidden_size, text_size, layers, heads, inner_size, self.form, projects=towers is None
        )
        self.expert = AnswerExpert(len(item_text)) if hears_answers else None
        as_torch_draws = copy.deepcopy(fusion.state_dict()) if self.form.mixing == "postnorm" else None
        draw_weights(self, initializer_range)
        if as_torch_draws is not None:
            fusion.load_state_dict(as_torch_draws)
        if fusion.write is not None:
            nn.init.zeros_(fusion.write.weight)
        if self.expert is not None:
            self.expert.silence()
        if self.text_to_item is not None:
            nn.init.orthogonal_(self.text_to_item.weight)
        start = torch.eye(text_size) if self.text_to_item is None else self.text_to_item.weight.detach()
        with torch.no_grad():
            for linear in (self.text_to_state, fusion.answer_base):
                if isinstance(linear, nn.Linear):
                    linear.weight.copy_(start)
        self.towers = towers  # last: nothing draws its weights anew

    @property
    def reads_malformed(self) -> bool:
        """See `RecHead.reads_malformed`."""
        return self.form.malformed_texts == "read"

    def item_vectors(self) -> Tensor:
        """e_i of all items, `[N, H]`."""
        return self.item_text if self.text_to_item is None else self.text_to_item(self.item_text)

    def states(self, histories: Tensor, items: Tensor, clock: Tensor | None = None) -> Tensor:
        """s at every position, `[B, T] -> [B, T, H]`; see `RecHead.states`. Item vectors are not needed, and texts say no times."""
        if self.towers is not None:
            return self.dropout(self.towers.history(self.history_text.texts(histories))).unflatten(0, histories.shape)
        assert self.text_to_state is not None, "a head without towers maps its vectors"
        return self.text_to_state(self.dropout(self.history_text.everywhere(histories)))

    def last_state(self, histories: Tensor, items: Tensor, clock: Tensor | None = None) -> Tensor:
        """s of whole histories, `[B, T] -> [B, H]`; padding 0 may stand anywhere."""
        if self.towers is not None:
            return self.dropout(self.towers.history(self.history_text.newest_texts(histories)))
        assert self.text_to_state is not None, "a head without towers maps its vectors"
        return self.text_to_state(self.dropout(self.history_text.newest(histories)))

    def read_texts(self, cots: Sequence[str], answers: Sequence[str]) -> Tensor | None:
        """See `RecHead.read_texts`."""
        return None if self.towers is None else self.towers.reasoning(cots, answers)

    def prepare(self, histories: Tensor) -> None:
        """Encodes the texts of all positions of `[R, T]` histories at once, with a progress bar."""
        if self.towers is None:
            self.history_text.read(histories)
