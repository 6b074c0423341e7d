"""The output layer of a greedy writer on a processor: only what can be the largest logit is computed in full precision.

A product of 262,144 vocabulary rows with a handful of hidden states is more than half of a decoding step of Gemma 3 270M,
and greedy decoding needs its largest entry alone. So the product is first made of 8-bit integers, which a processor
multiplies several times faster, with a bound on what the rounding may have changed; whatever the bound cannot exclude is
computed again from the real weights. The token is the same, up to float rounding.

With w_v = s_v p_v + d_v (p_v whole numbers up to 127) and x = a (q + q'/254) + e (q, q' the same):

    |x w_v - a s_v (q p_v + q' p_v / 254)|  <=  |x| |d_v| + |e| |w_v - d_v|                       (Cauchy-Schwarz)

Letters in shapes: M hidden states, H hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from rporec_recbole.backbone.int8 import LEVELS, product, products_are_exact

SMALLEST = 50_000  # a smaller vocabulary is multiplied as fast as it is screened
_COLUMNS = 2048  # of the vocabulary, screened at once: what belongs to them stays in the cache
_MOST = 0.02  # of a row's logits; where more have to be computed again, all of them are
_PAIRS = 16_384  # logits computed again at once: what they are made of is copied
_ROUNDING = 1e-5  # relative error of float32 sums, amply


class ScreenedOutput(nn.Module):
    """Stands in for an output layer: exact logits of all candidates for the largest one, -inf for the rest.

    Args:
        layer: without bias, in float32, on the CPU. Its weights must not change while this is used.
    """

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self._layer = [layer]  # no child: its weights are not this module's
        weight = layer.weight.detach()
        self._rounded = torch.empty(weight.shape, dtype=torch.int8)
        self._scale = torch.empty(len(weight))
        self._bounds = torch.empty(2, len(weight))  # norms of the remainders, and of what is left of the weights
        for columns in torch.arange(len(weight)).split(_COLUMNS):
            part = weight[columns[0] : columns[-1] + 1]
            scale = part.abs().amax(1, keepdim=True).clamp_(min=torch.finfo(torch.float32).tiny).div_(LEVELS)
            rounded = part.div(scale).round_()
            rest = part - rounded * scale
            self._rounded[columns] = rounded.to(torch.int8)
            self._scale[columns] = scale[:, 0]
            slack = part.norm(dim=1) * _ROUNDING
            self._bounds[0, columns] = rest.norm(dim=1) + slack
            self._bounds[1, columns] = (rounded * scale).norm(dim=1)

    @property
    def layer(self) -> nn.Linear:
        """What it stands in for."""
        return self._layer[0]

    def forward(self, hidden: Tensor) -> Tensor:
        """Logits `[..., V]` of hidden states `[..., H]`, -inf where they cannot be the largest of their row."""
        layer, rows = self.layer, hidden.reshape(-1, hidden.shape[-1])
        size = rows.abs().amax(1, keepdim=True).clamp_(min=torch.finfo(torch.float32).tiny)
        if not torch.isfinite(size).all():
            return layer(hidden)
        above, tops, best = self._screen(rows, size / LEVELS)
        row, block = (tops >= best[:, None]).nonzero(as_tuple=True)
        which, column = (above.view(len(rows), -1, _COLUMNS)[row, block] >= best[row][:, None]).nonzero(as_tuple=True)
        row, token = row[which], block[which] * _COLUMNS + column
        undecided = torch.bincount(row, minlength=len(rows)) > _MOST * layer.out_features
        few = ~undecided[row]
        row, token = row[few], token[few]
        logits = above.fill_(-torch.inf)[:, : layer.out_features]
        for some_row, some_token in zip(row.split(_PAIRS), token.split(_PAIRS), strict=True):
            logits[some_row, some_token] = torch.linalg.vecdot(rows[some_row], layer.weight[some_token])
        logits[undecided] = layer(rows[undecided])
        return logits.reshape(*hidden.shape[:-1], layer.out_features)

    def _screen(self, rows: Tensor, unit: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What each logit is at most, `[M, blocks * _COLUMNS]`, the most of each block, and what a row's largest is at least."""
        scaled = rows / unit
        coarse = scaled.round()
        fine = ((scaled - coarse) * (2 * LEVELS)).round_()
        rest = rows - (coarse + fine / (2 * LEVELS)) * unit
        parts = torch.cat([coarse, fine]).to(torch.int8)
        norms = torch.stack([rows.norm(dim=1), rest.norm(dim=1)], dim=1)
        blocks = -(-len(self._scale) // _COLUMNS)
        above = torch.full((len(rows), blocks * _COLUMNS), -torch.inf)
        tops, best = torch.empty(len(rows), blocks), torch.full((len(rows),), -torch.inf)
        for block in range(blocks):
            columns = slice(block * _COLUMNS, min((block + 1) * _COLUMNS, len(self._scale)))
            products = product(parts, self._rounded[columns])
            whole, fraction = products.float().chunk(2)
            about = whole.add_(fraction, alpha=1 / (2 * LEVELS)).mul_(self._scale[columns]).mul_(unit)
            off = norms @ self._bounds[:, columns]
            torch.maximum(best, (about - off).amax(1), out=best)
            most = torch.add(about, off, out=above[:, columns])
            tops[:, block] = most.amax(1)
        return above, tops, best


def can_screen(layer: Any) -> bool:
    """Whether an output layer of transformers can be screened, and it pays."""
    return (
        type(layer) is nn.Linear
        and layer.bias is None
        and layer.out_features >= SMALLEST
        and layer.in_features > 1  # torch 2.13 takes a single column for a row
        and layer.weight.device.type == "cpu"
        and layer.weight.dtype == torch.float32
        and products_are_exact()
    )


@contextmanager
def output_layer(model: Any, screened: ScreenedOutput | None) -> Iterator[None]:
    """A transformers causal LM, or a PEFT model around one, has this output layer meanwhile; None leaves its own."""
    if screened is None:
        yield
        return
    model = model.get_base_model() if hasattr(model, "peft_config") else model
    model.set_output_embeddings(screened)
    try:
        yield
    finally:
        model.set_output_embeddings(screened.layer)
