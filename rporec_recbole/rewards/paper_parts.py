"""Parts of the reward as the public release of RPORec's paper computes them (Gao et al., arXiv 2605.21967; `main.py`, January 2026).

`text_parts.py` has parts of the same purposes that need no second language model and stay in [0, 1].
"""

from __future__ import annotations

import torch
from torch import Tensor

from rporec_recbole.rewards.record import RewardRecord
from rporec_recbole.rewards.text_parts import uncertain_gap
from rporec_recbole.text.completions import characters_outside

_OUTSIDE = 100  # characters outside the tags that cost everything
_SIMILAR = 0.5  # from above this cosine on a summary says the same


def cleanliness(record: RewardRecord) -> Tensor:
    """`r_clean = 1 - characters outside the tags / 100`, at least 0, `[B]` in [0, 1]; 0 for a malformed completion.

    Outside is what stands before `<think>` and behind `</answer>`; what stands between the sections is free, as in the release.
    """
    return _numbers(
        [
            max(0.0, 1 - characters_outside(one.text) / _OUTSIDE) if one.well_formed else 0.0
            for one in record.completions
        ]
    )


def summary_compression(record: RewardRecord) -> Tensor:
    """`r_comp = characters of the cot's summary / characters of the cot`, at most 1, `[B]` in [0, 1]; 0 without a summary.

    A cot that can hardly be made shorter says nothing twice. The summary is `RewardRecord.summaries`.
    """
    texts = zip(record.summaries.texts, record.completions, strict=True)
    return _numbers([min(1.0, len(summary.strip()) / max(1, len(one.cot))) for summary, one in texts])


def summary_consistency(record: RewardRecord) -> Tensor:
    """`r_sim = 1 if cos(cot, its summary) > 0.5 else 0`, `[B]` in {0, 1}, under the head's frozen text encoder."""
    cosine = torch.cosine_similarity(record.vectors.cot.double(), record.summaries.vectors.double(), dim=1)
    return (cosine > _SIMILAR).double()


def entropy_gap_uncapped(record: RewardRecord) -> Tensor:
    """`text_parts.entropy_gap` without its cap, `[B]`, at least 0: at most the logarithm of the vocabulary's size, in nats."""
    return uncertain_gap(record.entropies).clamp(min=0)


def _numbers(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)
