"""Gates: a completion that fails one earns nothing, whatever its parts are worth.

The first five are filters of `cot/quality.py`, under the same names and limits. `stuffing` looks at the answer.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from rporec_recbole.cot.quality import REASONS, Written
from rporec_recbole.rewards.record import RewardRecord


def fault_free(reason: str) -> Callable[[RewardRecord], Tensor]:
    """The gate that closes where a reason of `cot.quality` speaks against the text."""
    is_bad = REASONS[reason]

    def gate(record: RewardRecord) -> Tensor:
        texts = zip(record.completions, record.prompts, strict=True)
        return _open([not is_bad(Written(one, prompt), record.limits) for one, prompt in texts])

    return gate


def one_item(record: RewardRecord) -> Tensor:
    """Closed where the answer lists items instead of naming one; see `Mentions.lists_items`."""
    return _open([not record.mentions.lists_items(one.answer) for one in record.completions])


GATES: dict[str, Callable[[RewardRecord], Tensor]] = {
    **{reason: fault_free(reason) for reason in ("format", "length", "repetition", "copying", "unfounded")},
    "stuffing": one_item,
}
"""Name -> record to `[B]`, 1 where the gate is open and 0 where it is closed."""


def _open(passes: list[bool]) -> Tensor:
    return torch.tensor(passes, dtype=torch.float64)
