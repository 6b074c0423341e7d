"""RecPO: what a reasoning earns, how it compares with the others of its history, and the loss that follows; tensors in, tensors out.

R. You et al., "R2ec: Towards Large Recommender Models with Reasoning", NeurIPS 2025 (arXiv 2505.16994). Reasoning and item are one policy: its
tokens are actions, and so is the item behind them. Clipping: DAPO, Q. Yu et al., arXiv 2503.14476.

Letters in shapes: B texts, N items (0 is padding), P histories, G texts of each, B = P G.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rporec_recbole.evaluation.ranking import ndcg_at, target_rank

_TINY = 1e-6
"""Rewards that differ by rounding are equal."""


def fused_reward(scores: Tensor, targets: Tensor, k: int, softmax_weight: float) -> Tensor:
    """`(1 - w) NDCG@k + w softmax(scores)[target]`, `[B]`: ranks are what counts, and the softmax tells apart texts of one rank.

    Args:
        scores: `[B, N]`; `-inf` is no candidate.
        targets: `[B]` item ids.
        k: depth of the NDCG.
        softmax_weight: w, from 0 to 1.
    """
    ndcg = ndcg_at(target_rank(scores, targets), k)
    likely = scores.softmax(dim=1).gather(1, targets[:, None]).squeeze(1)
    return (1 - softmax_weight) * ndcg + softmax_weight * likely


def group_advantages(rewards: Tensor) -> Tensor:
    """How much better each text is than the mean of its group, in standard deviations; 0 where all earned the same.

    Args:
        rewards: `[P, G]`.
    """
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    return centred / (rewards.std(dim=1, keepdim=True) + _TINY)


def best_of_groups(advantages: Tensor, count: int) -> Tensor:
    """The `count` best texts of each group, `[P, G]` bool: behind these alone the item is learned."""
    best = advantages.topk(min(count, advantages.shape[1]), dim=1).indices
    return torch.zeros_like(advantages, dtype=torch.bool).scatter_(1, best, True)


def clipped_loss(new: Tensor, old: Tensor, advantages: Tensor, low: float, high: float) -> Tensor:
    """`-min(r A, clip(r, 1 - low, 1 + high) A)` of each action, with `r = exp(new - old)`.

    Args:
        new, old: log-probabilities of the actions now and when they were taken.
        advantages: broadcast to the same shape.
        low, high: how far a probability may fall and rise, as shares, before its gradient ends.
    """
    ratio = (new - old).exp()
    return -torch.minimum(ratio * advantages, ratio.clamp(1 - low, 1 + high) * advantages)
