"""Which token comes next, and whether it is the last one.

Draws are reproducible row by row: each row has its own stream of uniform numbers, seeded by prompt and decoding, so the
text of a prompt does not depend on the batch in which it stood (up to float rounding).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rporec_recbole.cot.store import Decoding

_TAIL = 12  # tokens that hold the end of an answer


def uniforms(identity: str, decoding: Decoding) -> np.ndarray:
    """The stream of draws of a row, `[max_new_tokens]` numbers from 0 up to 1; token i takes the i-th."""
    digest = hashlib.sha256(f"{decoding.seed}/{decoding.sample}/{identity}".encode("utf-8", "surrogatepass")).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little")).random(decoding.max_new_tokens)


@dataclass(frozen=True)
class Stop:
    """When a row is finished.

    Attributes:
        ends: after any of these tokens.
        most: after so many tokens.
        has_ended: or when this says so of the last tokens.
    """

    ends: frozenset[int]
    most: int
    has_ended: Callable[[list[int]], bool] | None

    def after(self, tokens: list[int]) -> bool:
        """Whether a row that has written these tokens, at least one, is finished."""
        if tokens[-1] in self.ends or len(tokens) >= self.most:
            return True
        return self.has_ended is not None and self.has_ended(tokens[-_TAIL:])


def nucleus(probabilities: Tensor, top_p: float) -> Tensor:
    """`[..., V]` with 0 for all but the likeliest tokens, as few of them as together have `top_p`; the likeliest always stays.

    Not scaled to a sum of 1. A. Holtzman et al., "The Curious Case of Neural Text Degeneration", ICLR 2020.
    """
    sinking, order = probabilities.sort(dim=-1, descending=True, stable=True)
    before = sinking.cumsum(dim=-1) - sinking
    return torch.zeros_like(probabilities).scatter(-1, order, sinking.masked_fill(before >= top_p, 0.0))


class Choice:
    """Turns logits into tokens.

    Args:
        decoding: greedy or sampled.
        identities: names the stream of draws of each row.
        logprobs: whether log-probabilities are wanted.
    """

    def __init__(self, decoding: Decoding, identities: Sequence[str] | None, logprobs: bool) -> None:
        self.temperature, self.top_p, self.logprobs = decoding.temperature, decoding.top_p, logprobs
        self._draws: Tensor | None = None
        if decoding.temperature > 0:
            assert identities is not None, "sampling needs an identity per row"
            self._draws = torch.from_numpy(np.stack([uniforms(one, decoding) for one in identities]))

    def __call__(
        self, logits: Tensor, rows: list[int], written: list[int]
    ) -> tuple[list[list[int]], list[list[float]]]:
        """The next tokens, greedy or by inverting the cumulative distribution at the row's own draws.

        Args:
            logits: `[B, Q, V]`, of Q tokens in a row.
            rows: which rows they belong to.
            written: tokens that each of them has written before.

        Returns:
            tokens `[B, Q]` and their log-probabilities, empty if they are not wanted.
        """
        if self._draws is None:
            chosen = logits.argmax(dim=-1)
        else:
            at = torch.tensor(written)[:, None] + torch.arange(logits.shape[1])
            draws = self._draws[torch.tensor(rows)[:, None], at.clamp_(max=self._draws.shape[1] - 1)]
            probabilities = torch.softmax(logits.float() / self.temperature, dim=-1).double()
            if self.top_p < 1:
                probabilities = nucleus(probabilities, self.top_p)
            cumulative = probabilities.cumsum_(dim=-1)
            wanted = draws.to(logits.device)[..., None] * cumulative[..., -1:]
            chosen = torch.searchsorted(cumulative, wanted, right=True).squeeze(-1).clamp_(max=logits.shape[-1] - 1)
        if not self.logprobs:
            return chosen.tolist(), []
        logp = torch.log_softmax(logits.float() / (self.temperature or 1.0), dim=-1)
        return chosen.tolist(), logp.gather(-1, chosen[..., None]).squeeze(-1).tolist()
