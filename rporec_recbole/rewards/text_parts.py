"""Parts of the reward that look at the text alone.

Conciseness, compression, semantic consistency and the entropy gap are named by the paper (Gao et al., arXiv 2605.21967);
where a docstring says "our reading", the formula is ours. `paper_parts.py` has the formulas of the paper's release.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from rporec_recbole.rewards.record import RewardRecord
from rporec_recbole.text.mentions import words_of

_UNCERTAIN = 0.2  # share of the cot's tokens that the entropy gap calls uncertain


def format_part(record: RewardRecord) -> Tensor:
    """1 if the completion is well-formed, else 0, `[B]`: the constant in the paper's mixture, which its format gate pays."""
    return _numbers([float(one.well_formed) for one in record.completions])


def length_cap(record: RewardRecord) -> Tensor:
    """1 if there is a cot of at most `max_words` words, else 0, `[B]`; ours."""
    return _numbers([float(0 < words <= record.limits.max_words) for words in _cot_words(record)])


def conciseness(record: RewardRecord) -> Tensor:
    """`(max_words - words) / (max_words - min_words)` of the cot, 0 outside these limits, `[B]` in [0, 1].

    Our reading of the paper's conciseness: the shorter the better, as long as there is any reasoning at all; without the
    lower limit an empty cot would be the most concise.
    """
    limits = record.limits
    room = max(1, limits.max_words - limits.min_words)
    return _numbers(
        [
            (limits.max_words - words) / room if limits.min_words <= words <= limits.max_words else 0.0
            for words in _cot_words(record)
        ]
    )


def compression(record: RewardRecord) -> Tensor:
    """`1 - words of the cot / words of the prompt`, at least 0, and 0 below `min_words`, `[B]` in [0, 1].

    Our reading of the paper's compression: reasoning boils the history down instead of retelling it.
    """
    values = []
    for one, prompt in zip(record.completions, record.prompts, strict=True):
        written, read = len(words_of(one.cot)), len(words_of(prompt))
        enough = written >= max(1, record.limits.min_words)
        values.append(max(0.0, 1 - written / read) if enough and read else 0.0)
    return _numbers(values)


def semantic_consistency(record: RewardRecord) -> Tensor:
    """Cosine of cot and answer under the head's own text encoder, at least 0, `[B]` in [0, 1].

    Our reading of the paper's semantic consistency: the answer follows from what was reasoned.
    """
    cot, answer = (vectors.double() for vectors in record.vectors)
    return torch.cosine_similarity(cot, answer, dim=1).clamp(0, 1)


def entropy_gap(record: RewardRecord) -> Tensor:
    """Mean entropy of the 20 % most uncertain tokens of the cot minus the mean over the cot, `[B]` in [0, 1].

    The paper's formula, in nats, with H the entropy of the policy over its vocabulary at the rollout's temperature:
    `mean(top ceil(n / 5) of H_1..H_n) - mean(H_1..H_n)`. That it counts up to 1 is ours; no cot gives 0.
    """
    return uncertain_gap(record.entropies).clamp(0, 1)


def uncertain_gap(of_texts: Sequence[Tensor]) -> Tensor:
    """`mean(top ceil(n / 5) of H_1..H_n) - mean(H_1..H_n)` of each text, `[B]`; 0 without tokens.

    Args:
        of_texts: B tensors of entropies, in nats.
    """
    gaps = []
    for entropies in of_texts:
        entropies = entropies.double()
        top = entropies.topk(math.ceil(_UNCERTAIN * len(entropies))).values
        gaps.append((top.mean() - entropies.mean()).item() if len(entropies) else 0.0)
    return _numbers(gaps)


def _cot_words(record: RewardRecord) -> list[int]:
    return [len(words_of(one.cot)) for one in record.completions]


def _numbers(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)
