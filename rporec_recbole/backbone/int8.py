"""Products of 8-bit integers on a processor, and linear layers made of them.

A layer's weights are rounded to whole numbers up to 127 with a scale for each output, its input with a scale for each token (Dettmers
et al., "LLM.int8()", arXiv 2208.07339, without its exceptions), so a text does not depend on its neighbours. Processors with
instructions for it (AVX-512 VNNI, AMX) multiply them several times faster than float32.

Letters in shapes: M tokens, K inputs, N outputs.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

LEVELS = 127
_SMALLEST = torch.finfo(torch.float32).tiny


def product(one: Tensor, other: Tensor) -> Tensor:
    """`one @ other.T` of int8 matrices, as int32."""
    return torch._int_mm(one, other.T)  # has no public name in torch yet; torchao, its own library, calls this one


@functools.cache
def products_are_exact() -> bool:
    """Not so on processors without instructions for it, where sums of two large products are cut off at 16 bits."""
    most = torch.full((64, 64), LEVELS, dtype=torch.int8)
    most[::3] *= -1
    try:
        return torch.equal(product(most, most).long(), most.long() @ most.long().T)
    except (AttributeError, RuntimeError):
        return False


def rounded(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows as whole numbers, int8 of the same shape, and the scale of each, `[M, 1]`."""
    scale = rows.abs().amax(1, keepdim=True).clamp_(min=_SMALLEST).div_(LEVELS)
    return (rows / scale).round_().to(torch.int8), scale


class Last:
    """The input that was rounded last."""

    def __init__(self) -> None:
        self._inputs: Tensor | None = None
        self._found: tuple[Tensor, Tensor] | None = None

    def rounded(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """`rounded` of `[..., K]` as `[M, K]`; not twice for the very same tensor."""
        if self._found is None or self._inputs is not inputs:
            self._inputs, self._found = inputs, rounded(inputs.flatten(0, -2).float())
        return self._found


class Int8Linear(nn.Module):
    """Stands in for a linear layer while nothing is trained.

    Args:
        weight: `[N, K]`, K above 1.
        bias: `[N]`, or None.
        last: shared by layers that may get the same input one after the other, as those of queries, keys and values do.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, last: Last | None = None) -> None:
        super().__init__()
        self._last = last or Last()
        self._rounded, scale = rounded(weight.detach().float())
        self._scale, self._bias = scale[:, 0], None if bias is None else bias.detach()

    def forward(self, inputs: Tensor) -> Tensor:
        """`[..., N]` of `[..., K]`, in the dtype of the inputs."""
        tokens, scale = self._last.rounded(inputs)
        out = product(tokens, self._rounded).float().mul_(scale).mul_(self._scale)
        if self._bias is not None:
            out += self._bias
        return out.to(inputs.dtype).unflatten(0, inputs.shape[:-1])


def int8_layers(model: Any) -> dict[str, Int8Linear]:
    """For each linear layer of a model but the output layer, by name, what stands in for it; an adapter is added to its weights.

    Args:
        model: a transformers causal LM, or a PEFT model around one.
    """
    output = model.get_output_embeddings()
    layers: dict[str, Int8Linear] = {}
    last = Last()
    for name, module in model.named_modules():
        if name.startswith(tuple(f"{outer}." for outer in layers)):
            continue  # a part of what is replaced as a whole
        layer = module.get_base_layer() if isinstance(module, BaseTunerLayer) else module
        if type(layer) is not nn.Linear or output in (module, layer):
            continue
        if layer.in_features > 1:  # torch 2.13 takes a single column for a row
            if module is not layer:
                module = copy.deepcopy(module)
                module.merge()
                layer = module.get_base_layer()
            layers[name] = Int8Linear(layer.weight, layer.bias, last)
    return layers


@contextmanager
def standing_in(model: Any, layers: dict[str, Int8Linear]) -> Iterator[None]:
    """A model has these layers meanwhile."""
    own = {name: model.get_submodule(name) for name in layers}
    try:
        for name, layer in layers.items():
            model.set_submodule(name, layer)
        yield
    finally:
        for name, layer in own.items():
            model.set_submodule(name, layer)
