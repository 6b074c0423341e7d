"""Gates: a completion that fails one earns nothing, whatever its parts are worth.

The first five are filters of `cot/quality.py`, under the same names and limits. The others need the catalogue:

empty        the cot says nothing of the history
stuffing     the answer lists items instead of naming one
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from rporec_recbole.cot.quality import REASONS, Written
from rporec_recbole.rewards.record import RewardRecord
from rporec_recbole.text.mentions import words_of


def fault_free(reason: str) -> Callable[[RewardRecord], Tensor]:
    """The gate that closes where a reason of `cot.quality` speaks against the text."""
    is_bad = REASONS[reason]

    def gate(record: RewardRecord) -> Tensor:
        texts = zip(record.completions, record.prompts, strict=True)
        return _open([not is_bad(Written(one, prompt), record.limits) for one, prompt in texts])

    return gate


def about_history(record: RewardRecord) -> Tensor:
    """Closed where no word of the history's item texts stands in the cot.

    Words of one to three ASCII letters count for nothing: they stand in filler too.
    """
    passes = []
    for one, history in zip(record.completions, record.histories, strict=True):
        cot = one.cot.casefold()
        words = {word for item in history for word in words_of(record.catalogue.lines[item])}
        passes.append(any(word in cot for word in words if len(word) > 3 or not word.isascii()))
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
