"""`short_rows`: RecBole's sequential models read their batches in pieces of like length, without the padding that no row of a piece needs.

RecBole pads every row on the right to `MAX_ITEM_LIST_LENGTH`, and most models spend most of their time on padding. The batches and their order stay
RecBole's: the model turns each piece into vectors by itself, and makes loss or scores of all of them at once. So nothing is other than in RecBole but
the last bits of sums, as with another number of threads, and which units a dropout takes, as with another seed. Many scores of items for the loss are made a
block of rows at a time.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import recbole.data.dataset
import torch
from recbole.utils import ModelType
from torch import Tensor, nn

EXACT = (
    "BERT4Rec",
    "CORE",
    "FDSA",
    "GCSAN",
    "GRU4Rec",
    "GRU4RecF",
    "GRU4RecKG",
    "KSR",
    "NARM",
    "SASRec",
    "SASRecF",
    "SRGNN",
)
"""Models that read nothing of what stands behind a history: padding is masked or lies behind the step that is taken.

Others of RecBole's do read it and keep it: they mix all slots (LightSANs, FEARec, SINE), have weights for each of them (HGN, Caser, RepeatNet), take the last
one (NextItNet, the CPR models), pad on the left (SHAN, HRM), count from the end (FOSSIL), add up vectors of padding (STAMP, NPE) or normalise over the
batch (DIN, DIEN). FPMC and TransRec read one item of a history, and S3Rec's stages mask rows of one length.
"""
_LOSS_BY_ROWS = ("FDSA", "GRU4Rec", "GRU4RecF", "GRU4RecKG", "NARM", "SASRec", "SASRecF", "SRGNN")
"""Models whose cross-entropy is a mean over rows and makes nothing of all items but their scores."""
EXACTLY, ALWAYS, NEVER = "exact", "always", "never"
CHOICES = (EXACTLY, ALWAYS, NEVER)
_SLOTS_A_PIECE = 256
"""What a piece costs beside its slots, in slots, and so much more for each item: the gradient of the table of items is as large as the table."""
_SLOTS_AN_ITEM = 0.01
_SLOTS_A_PIECE_ELSEWHERE = 2**16
"""On anything but a CPU, where many slots cost what one does; guessed, not measured."""

_LOGITS_AT_ONCE = 2**21
"""Of a training on a CPU: 8 MB, which stay in use, where larger blocks of memory are asked for and given back at each batch and take as long as the sums."""
_LEAST_ROWS = 128
"""Whose scores are made at once in any case: each block of rows makes a gradient as large as the table of items."""


def rows_on_demand(config: Any) -> bool:
    """Whether the rows of a run's data set are written when they are asked for (`data.rows`), which changes no bit of them.

    Args:
        config: RecBole's Config of the run.
    """
    return (
        config["short_rows"] != NEVER
        and config["MODEL_TYPE"] == ModelType.SEQUENTIAL
        and config["benchmark_filename"] is None
        and not hasattr(recbole.data.dataset, f"{config['model']}Dataset")
    )


def shortened(config: Any) -> type:
    """The class to build a run's model of: RecBole's own, or one that extends it to read pieces.

    Args:
        config: RecBole's Config of the run.
    """
    cls: type = config.model_class
    ours = cls.__module__.startswith("recbole.") and cls.__name__ in EXACT
    return _in_pieces(cls, config["short_rows"]) if ours and config["short_rows"] != NEVER else cls


@functools.cache
def _in_pieces(cls: type, choice: str) -> type:
    return type(cls.__name__, (InPieces, cls), {"__module__": cls.__module__, "short_rows": choice})


def draws(model: nn.Module) -> bool:
    """Whether a training of the model draws units to leave out."""
    rates = (
        module.p if isinstance(module, nn.Dropout) else module.dropout
        for module in model.modules()
        if isinstance(module, (nn.Dropout, nn.RNNBase))
    )
    return any(rate > 0 for rate in rates)


def remark(config: Any, model: nn.Module) -> str | None:
    """What somebody who waits for a training will want to know, None if nothing.

    Args:
        config: RecBole's Config of the run.
        model: built for it.
    """
    name = config["model"]
    if not isinstance(model, InPieces):
        if config["short_rows"] != ALWAYS:
            return None
        return f"`short_rows=always` leaves {name} as it is: it is none of the models that read nothing of their padding ({', '.join(EXACT)})."
    if model.short_rows == ALWAYS or not draws(model):
        return None
    return (
        f"{name} drops units at random, so it trains on rows padded as RecBole pads them, to have RecBole's own draws. --short_rows=always trains without the "
        "padding, on the same batches with other draws: faster where most histories are short."
    )


class InPieces(nn.Module):
    """Stands before a sequential model of RecBole's and lets its `forward` read pieces of like length.

    Attributes:
        short_rows: `always`, or `exact`: not where a training draws units to leave out.
    """

    short_rows = EXACTLY
    ITEM_SEQ: str  # this and the next three are RecBole's
    ITEM_SEQ_LEN: str
    n_items: int
    loss_type: str
    _made: Tensor | None = None
    """What `forward` has made of the rows whose loss is being calculated."""

    def _as_long(self) -> bool:
        return self.training and self.short_rows != ALWAYS and draws(self)

    def calculate_loss(self, interaction: Any) -> Tensor:
        """The model's own loss of a batch; a mean over rows is made of the means of blocks of rows, where the scores of all items are many."""
        theirs: Any = super()
        item_seq = interaction[self.ITEM_SEQ]
        rows, at_once = len(item_seq), max(_LEAST_ROWS, _LOGITS_AT_ONCE // self.n_items)
        by_rows = type(self).__name__ in _LOSS_BY_ROWS and self.loss_type == "CE" and item_seq.device.type == "cpu"
        if not by_rows or rows <= at_once or self._as_long():
            return theirs.calculate_loss(interaction)
        made, losses = self.forward(item_seq, interaction[self.ITEM_SEQ_LEN]), []
        try:
            for start in range(0, rows, at_once):
                block = slice(start, start + at_once)
                self._made = made[block]
                losses.append(theirs.calculate_loss(interaction[block]) * (len(self._made) / rows))
        finally:
            self._made = None
        return torch.stack(losses).sum()

    def forward(self, item_seq: Tensor, *rest: Tensor) -> Tensor:
        """What the model makes of rows.

        Args:
            item_seq: `[B, L]` histories, padded on the right with 0.
            rest: `[B]` each; the first, if any, is their lengths.

        Returns:
            `[B, H]`, or `[B, L, H]` with 0 where a piece has no such step.
        """
        if self._made is not None:
            return self._made
        size = item_seq.shape[1]
        if self._as_long() or not len(item_seq):
            return super().forward(item_seq, *rest)
        lengths = _lengths(item_seq, *rest)
        order = np.argsort(lengths, kind="stable")
        cut = pieces(lengths[order], self._overhead(item_seq.device))
        if len(cut) == 1:
            return _as_wide(super().forward(item_seq[:, : cut[0][1]], *rest), size)
        found, start = [], 0
        for stop, width in cut:
            rows = torch.from_numpy(order[start:stop]).to(item_seq.device)
            part = super().forward(item_seq[rows, :width], *(one[rows] for one in rest))
            found.append(_as_wide(part, size))
            start = stop
        return torch.cat(found)[torch.from_numpy(np.argsort(order)).to(item_seq.device)]

    def _overhead(self, device: torch.device) -> float:
        """What a piece costs beside its slots, in slots."""
        if device.type != "cpu":
            return _SLOTS_A_PIECE_ELSEWHERE
        return _SLOTS_A_PIECE + (self.n_items * _SLOTS_AN_ITEM if self.training else 0)


def _lengths(item_seq: Tensor, *rest: Tensor) -> np.ndarray:
    """How many steps each row needs, `[B]`, at least one."""
    steps = torch.arange(1, item_seq.shape[1] + 1, device=item_seq.device)
    needed = torch.where(item_seq != 0, steps, 1).amax(dim=1)
    return torch.maximum(needed, rest[0]).cpu().numpy() if rest else needed.cpu().numpy()


def _as_wide(output: Tensor, size: int) -> Tensor:
    """`[B, H]` as it is; `[B, W, H]` with as many steps as the batch has."""
    steps_too = 3
    return nn.functional.pad(output, (0, 0, 0, size - output.shape[1])) if output.dim() == steps_too else output


def pieces(lengths: np.ndarray, overhead: float) -> list[tuple[int, int]]:
    """Cuts rows, sorted by length, where it costs least: a piece costs its rows times its longest one, and the overhead.

    Args:
        lengths: `[B]` ascending.
        overhead: of a piece, in slots.

    Returns:
        for each piece the row behind its last, and its width.
    """
    widths, counts = np.unique(lengths, return_counts=True)
    stops = np.concatenate([[0], np.cumsum(counts)])
    cost, start = np.zeros(len(stops)), np.zeros(len(stops), dtype=np.int64)
    for end, width in enumerate(widths, start=1):
        tried = cost[:end] + (stops[end] - stops[:end]) * width + overhead
        start[end] = tried.argmin()
        cost[end] = tried[start[end]]
    found, end = [], len(widths)
    while end:
        found.append((int(stops[end]), int(widths[end - 1])))
        end = start[end]
    return found[::-1]
