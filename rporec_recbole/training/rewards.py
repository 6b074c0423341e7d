"""Verifiable rewards from the frozen Rechead. Each part is a small pure function of completions and scores.

R = well_formed * sum_k w_k part_k, with the weights in the config. A completion that was cut off at the limit has no
closing tag, so it is malformed and earns 0. The ranking code is the evaluator's.

Letters in shapes: B completions, N items.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from rporec_recbole.errors import RewardError
from rporec_recbole.ranking import ndcg_at, reciprocal_rank_at, target_rank
from rporec_recbole.text.completions import Completion, parse_completion

Score = Callable[[Sequence[int], Sequence[Completion]], Tensor]
"""Positions and completions in, scores of all items `[B, N]` out; all that rewards know of the model."""


def format_part(scores: Tensor, targets: Tensor, k: int) -> Tensor:
    """1 for every completion; the format gate in front takes it from malformed ones. `[B]`."""
    return torch.ones(len(targets), dtype=torch.float64)


def ndcg_part(scores: Tensor, targets: Tensor, k: int) -> Tensor:
    """NDCG@k of the target over the full catalogue, `[B]`."""
    return ndcg_at(target_rank(scores, targets), k)


def probability_part(scores: Tensor, targets: Tensor, k: int) -> Tensor:
    """Softmax probability of the target over the full catalogue, `[B]`."""
    return torch.softmax(scores.double(), dim=1).gather(1, targets[:, None]).squeeze(1)


def reciprocal_rank_part(scores: Tensor, targets: Tensor, k: int) -> Tensor:
    """1 / rank of the target if it is among the first k, `[B]`."""
    return reciprocal_rank_at(target_rank(scores, targets), k)


PARTS: dict[str, Callable[[Tensor, Tensor, int], Tensor]] = {
    "format": format_part,
    "ndcg": ndcg_part,
    "probability": probability_part,
    "reciprocal_rank": reciprocal_rank_part,
}


class RecheadReward:
    """Format gate times weighted parts.

    Args:
        score: see `Score`.
        targets: `[R]` true next item of each position.
        weights: part name -> weight.
        k: depth of the ranking parts.
        observe: gets the mean of each part, of `well_formed` and of the reward, after every batch; may be None.
    """

    def __init__(
        self,
        score: Score,
        targets: Tensor,
        weights: Mapping[str, float],
        k: int,
        observe: Callable[[dict[str, float]], None] | None = None,
    ) -> None:
        self._score = score
        self._targets = targets
        self._weights = dict(weights)
        self._k = k
        self._observe = observe

    def __call__(self, texts: Sequence[str], positions: Sequence[int]) -> list[float]:
        """One reward per text.

        Args:
            texts: completions as the backbone wrote them.
            positions: row of `targets` that each belongs to.

        Raises:
            RewardError: a reward is not a finite number.
        """
        completions = [parse_completion(text) for text in texts]
        scores = self._score(positions, completions).cpu()
        targets = self._targets[torch.as_tensor(list(positions))].cpu()
        gate = torch.tensor([float(one.well_formed) for one in completions], dtype=torch.float64)
        parts = {name: PARTS[name](scores, targets, self._k) for name in self._weights}
        total = gate * sum((weight * parts[name] for name, weight in self._weights.items()), torch.zeros_like(gate))
        rewards = total.tolist()
        for text, reward in zip(texts, rewards, strict=True):
            if not math.isfinite(reward):
                raise RewardError(f"A reward is {reward}, so the run stops. The completion was: {text!r}")
        if self._observe:
            means = {name: value.mean().item() for name, value in parts.items()}
            self._observe({**means, "well_formed": gate.mean().item(), "reward": total.mean().item()})
        return rewards
