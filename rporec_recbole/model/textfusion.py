"""How a text head reads reasoning: a small Transformer over three vectors, and a gate. The forms are those of `TextForm`.

Letters in shapes: B rows, H hidden size, D size of a text vector.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rporec_recbole.model.rechead import Reasoning, ReasoningFusion
from rporec_recbole.model.textform import TextForm


class TextFusion(ReasoningFusion):
    """Lets a history vector read the reasoning, and adds what it finds through a gate.

    u = base + g W t, with t a vector of the Transformer over [s, cot, third]. By default the base is s, the third vector the
    answer's, and W starts at zero. With `text_base: answer` base and third vector are the answer's where it is well-formed and
    s elsewhere.

    Args:
        hidden_size: H.
        text_size: D.
        layers: of the Transformer.
        heads: attention heads.
        inner_size: feed-forward width.
        form: see `TextForm`.
        projects: whether the vectors of the reasoning come from a text encoder and are mapped here; otherwise they have H
            numbers and are read as they are.
    """

    def __init__(
        self,
        hidden_size: int,
        text_size: int,
        layers: int,
        heads: int,
        inner_size: int,
        form: TextForm | None = None,
        projects: bool = True,
    ) -> None:
        super().__init__()
        self.form = form = form or TextForm()
        ours = form.mixing == "prenorm"
        self.project = nn.Linear(text_size, hidden_size) if projects else nn.Identity()
        self.kind = nn.Embedding(3, hidden_size) if ours else None  # history, cot, answer
        if ours:
            layer = nn.TransformerEncoderLayer(
                hidden_size, heads, inner_size, 0.0, activation="gelu", batch_first=True, norm_first=True
            )
        else:
            layer = nn.TransformerEncoderLayer(hidden_size, heads, inner_size, batch_first=True)
        self.mix = nn.TransformerEncoder(
            layer, layers, nn.LayerNorm(hidden_size) if ours else None, enable_nested_tensor=False
        )
        self.gate = _gate(hidden_size, form.gate_layers)
        self.write = nn.Linear(hidden_size, hidden_size, bias=False) if form.reasoning_map == "learned" else None
        self.answer_base: nn.Module | None = None
        if form.text_base == "answer":
            mapped = projects and form.item_vectors == "mapped"
            self.answer_base = nn.Linear(text_size, hidden_size, bias=False) if mapped else nn.Identity()

    def forward(self, state: Tensor, reasoning: Reasoning) -> Tensor:
        """`[B, H] -> [B, H]`; rows that are not read come back bit for bit: those that are not well-formed, or with
        `malformed_texts: read` those of them whose cot has no vector either."""
        base, found = self._found(state, reasoning)
        written = found if self.write is None else self.write(found)
        moved = base + self._gate(base, found) * written
        return torch.where(self._read(reasoning)[:, None], moved, state)

    def gate_value(self, state: Tensor, reasoning: Reasoning) -> Tensor:
        """How much the reasoning may count, `[B]` in (0, `gate_limit`)."""
        return self._gate(*self._found(state, reasoning)).squeeze(1)

    def _read(self, reasoning: Reasoning) -> Tensor:
        """`[B]` True for the rows that count."""
        if self.form.malformed_texts == "ignored":
            return reasoning.well_formed
        return reasoning.well_formed | (reasoning.vectors.chunk(2, dim=1)[0] != 0).any(dim=1)

    def _found(self, state: Tensor, reasoning: Reasoning) -> tuple[Tensor, Tensor]:
        """What the user vector begins with, and t; `[B, H]` both."""
        cot, answer = reasoning.vectors.chunk(2, dim=1)
        base, third = state, self.project(answer)
        if self.answer_base is not None:
            base = third = torch.where(reasoning.well_formed[:, None], self.answer_base(answer), state)
        three = torch.stack([state, self.project(cot), third], dim=1)
        if self.kind is not None:
            three = three + self.kind.weight
        return base, self.mix(three)[:, 0 if self.form.mixing_reads == "history" else 2]

    def _gate(self, base: Tensor, found: Tensor) -> Tensor:
        return self.form.gate_limit * torch.sigmoid(self.gate(torch.cat([base, found], dim=1)))


def _gate(hidden_size: int, layers: int) -> nn.Module:
    """`[B, 2H] -> [B, 1]`, before the sigmoid."""
    parts: list[nn.Module] = []
    width = 2 * hidden_size
    for _ in range(layers - 1):
        parts += [nn.Linear(width, hidden_size), nn.LeakyReLU()]
        width = hidden_size
    last = nn.Linear(width, 1)
    return nn.Sequential(*parts, last) if parts else last
