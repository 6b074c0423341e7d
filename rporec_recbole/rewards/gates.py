"""Gates: a completion that fails one earns nothing, whatever its parts are worth.

The first five are filters of `cot/quality.py`, under the same names and limits. The others need the catalogue:

empty        the cot says nothing of the history
stuffing     the answer lists items instead of naming one
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from rporec_recbole.cot.counting import counts_traits
from rporec_recbole.cot.quality import REASONS, Written
from rporec_recbole.rewards.record import RewardRecord


def fault_free(reason: str) -> Callable[[RewardRecord], Tensor]:
    """The gate that closes where a reason of `cot.quality` speaks against the text."""
    is_bad = REASONS[reason]

    def gate(record: RewardRecord) -> Tensor:
        texts = zip(record.completions, record.prompts, strict=True)
        return _open([not is_bad(Written(one, prompt), record.limits) for one, prompt in texts])

    return gate


def about_history(record: RewardRecord) -> Tensor:
    """Closed where the cot neither names an item that the prompt shows nor counts an attribute of these items.

    Attributes alone do not open it: a few genres are in nearly every history, so the same words would do for all of them.
    See `Mentions.names_any` and `counts_traits`.
    """
    passes = []
    for one, shown in zip(record.completions, record.shown, strict=True):
        passes.append(record.mentions.names_any(one.cot, shown) or counts_traits(one.cot, record.catalogue, shown))
    return _open(passes)


def one_item(record: RewardRecord) -> Tensor:
    """Closed where the answer lists items instead of naming one; see `Mentions.lists_items`."""
    return _open([not record.mentions.lists_items(one.answer) for one in record.completions])


GATES: dict[str, Callable[[RewardRecord], Tensor]] = {
    **{reason: fault_free(reason) for reason in ("format", "length", "repetition", "copying", "unfounded")},
    "empty": about_history,
    "stuffing": one_item,
}
"""Name -> record to `[B]`, 1 where the gate is open and 0 where it is closed."""


def _open(passes: list[bool]) -> Tensor:
    return torch.tensor(passes, dtype=torch.float64)
