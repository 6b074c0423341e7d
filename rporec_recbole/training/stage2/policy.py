"""Which policy of stage 2 is kept, and when the stage stops: by validation, with patience."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from rporec_recbole.training.state.snapshots import Snapshot, named

Weights = Mapping[str, Tensor]


class BestPolicy:
    """The best policy so far.

    The policy that the stage starts with takes part, as step 0: reinforcement that helps nothing on validation changes
    nothing. Of equal scores the later one is kept, because a policy can change its texts without moving a rank.

    Args:
        patience: validations in a row without a new best after which the stage stops.

    Attributes:
        scores: (step, score) of every validation.
        step: of the best one, None before the first.
        weights: its weights.
    """

    def __init__(self, patience: int) -> None:
        self._patience = patience
        self.scores: list[tuple[int, float]] = []
        self.step: int | None = None
        self.weights: dict[str, Tensor] = {}

    @property
    def score(self) -> float | None:
        """Score of the best one."""
        return next((score for step, score in self.scores if step == self.step), None)

    def offer(self, step: int, score: float, weights: Weights) -> None:
        """A policy that was validated."""
        best = self.score
        self.scores.append((step, score))
        if best is None or score >= best:
            self.step, self.weights = step, dict(weights)

    @property
    def out_of_patience(self) -> bool:
        """Whether so many validations in a row brought no new best one."""
        since = [step for step, _ in self.scores if self.step is not None and step > self.step]
        return len(since) >= self._patience

    def tensors(self) -> dict[str, Tensor]:
        """For a snapshot; `restore` reads them, with `facts`."""
        return named("best", self.weights)

    def facts(self) -> dict[str, Any]:
        """For a snapshot."""
        return {"scores": self.scores, "best_step": self.step}

    def restore(self, kept: Snapshot) -> None:
        """Puts back what `tensors` and `facts` gave."""
        self.scores = [(int(step), float(score)) for step, score in kept.facts["scores"]]
        self.step, self.weights = kept.facts["best_step"], kept.under("best")
