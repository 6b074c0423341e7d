"""The output layer for the words that may follow: where an answer walks the catalogue's titles these are few, and a vocabulary is large."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

_IS_LAST: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


@contextmanager
def possible_words(model: Any) -> Iterator[PossibleWords]:
    """A transformers causal LM, or a PEFT model around one, gives hidden states for logits meanwhile, where that can be made good for."""
    base = model.get_base_model() if hasattr(model, "peft_config") else model
    layer = base.get_output_embeddings()
    if not _is_last(base, layer):
        yield PossibleWords(None)
        return
    base.set_output_embeddings(_Times(1.0))
    try:
        yield PossibleWords(layer)
    finally:
        base.set_output_embeddings(layer)


class PossibleWords:
    """Logits of some words.

    Args:
        layer: the model's output layer; None if the model gives all logits itself.
    """

    def __init__(self, layer: nn.Linear | None) -> None:
        self._layer = layer

    def logits(self, given: Tensor, words: Tensor) -> Tensor:
        """`[R, W]` of W words, from what the model gave for R tokens: `[R, H]` hidden states, or the logits `[R, V]`."""
        if self._layer is None:
            return given[:, words]
        bias = None if self._layer.bias is None else self._layer.bias[words]
        return nn.functional.linear(given, self._layer.weight[words], bias)


class _Times(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self._factor = factor

    def forward(self, states: Tensor) -> Tensor:
        return states * self._factor


def _is_last(base: Any, layer: Any) -> bool:
    """Whether logits are a multiple of what an ordinary output layer makes of hidden states, found by trying.

    A model may scale its logits, which is as well done before the layer, or cap them, which is not: a thousand times the states do not
    give a thousand times what one gives then.
    """
    if type(layer) is not nn.Linear:
        return False
    if base not in _IS_LAST:
        tokens = torch.arange(min(8, layer.out_features), device=layer.weight.device)[
            None
        ]  # one alone may be padding, which is 0
        try:
            states = []
            for factor in (1.0, 1000.0):
                base.set_output_embeddings(_Times(factor))
                states.append(base(input_ids=tokens, use_cache=False).logits)
        finally:
            base.set_output_embeddings(layer)
        one, thousand = states
        _IS_LAST[base] = one.shape[-1] == layer.in_features and torch.allclose(thousand, one * 1000, rtol=0.05)
    return _IS_LAST[base]
