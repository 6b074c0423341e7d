"""Three copies of a text encoder that learn with the head: for history, chain of thought and answer (the paper's release).

Letters in shapes: B texts, D size of a text vector.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


class TextTowers(nn.Module):
    """Texts to vectors in the space of the items. A blank text is the zero vector.

    Args:
        copy_of_encoder: makes a module from texts to `[B, D]`, a new copy at each call (`SentenceEncoder.trainable`).
        size: D.
    """

    def __init__(self, copy_of_encoder: Callable[[], nn.Module], size: int) -> None:
        super().__init__()
        self.size = size
        self.history_encoder, self.cot_encoder, self.answer_encoder = [copy_of_encoder() for _ in range(3)]
        self.history_map, self.cot_map = _mlp(size), _mlp(size)

    def history(self, texts: Sequence[str]) -> Tensor:
        """`[B, D]`."""
        return self._vectors(texts, self.history_encoder, self.history_map)

    def reasoning(self, cots: Sequence[str], answers: Sequence[str]) -> Tensor:
        """`[B, 2D]`; the answer's vector has no map behind it, so it stands where item vectors do."""
        cot = self._vectors(cots, self.cot_encoder, self.cot_map)
        return torch.cat([cot, self._vectors(answers, self.answer_encoder, nn.Identity())], dim=1)

    def _vectors(self, texts: Sequence[str], encoder: nn.Module, behind: nn.Module) -> Tensor:
        distinct = [text for text in dict.fromkeys(texts) if text.strip()]
        like = next(self.history_map.parameters())
        vectors = [like.new_zeros(1, self.size)]
        if distinct:
            vectors.append(behind(encoder(distinct)))
        row = {text: number for number, text in enumerate(distinct, start=1)}
        rows = torch.tensor([row.get(text, 0) for text in texts], dtype=torch.int64, device=like.device)
        return torch.cat(vectors)[rows]


def _mlp(size: int) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(size),
        nn.Linear(size, size),
        nn.LeakyReLU(),
        nn.LayerNorm(size),
        nn.Linear(size, size),
        nn.LeakyReLU(),
        nn.LayerNorm(size),
        nn.Linear(size, size),
    )
