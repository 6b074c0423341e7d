"""The end of a training: how much of what fusion and expert have learned counts.

What they learn is the likelihood of all targets; what a ranking is asked for is the top of the list, and the first can get
better while the second gets worse. So each has a strength, chosen by the metric of a ranking.

It is chosen on positions of the fusion rung that the fit was held out from, half of the users at a time (cross-fitting): neither trunk nor
backbone has learned from them. Validation would be the wrong judge here. It has chosen the trunk's best epoch among dozens, so it holds
the trunk for better than it is, and whatever changes the trunk's ranking for worse (docs/experiments/strength.md).
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from rporec_recbole.data.score_budget import rows_at_once
from rporec_recbole.evaluation.ranking import target_rank
from rporec_recbole.evaluation.ranks import metric_values
from rporec_recbole.model.rechead import RecHead
from rporec_recbole.training.stage1.fusion import FusionRows

_ROWS = 1024
_MOST = 16_384  # rows that are ranked; more would say no more and take long in a large catalogue
_METRIC = "ndcg@10"


class Strengths(NamedTuple):
    """How much of what was learned counts, each from 0 (nothing) to 1 (all of it).

    Attributes:
        fusion: `RecHead.strength`.
        answers: `AnswerExpert.strength`; 0 for a head that hears no answers.
    """

    fusion: float
    answers: float

    def set(self, head: RecHead) -> None:
        """Makes them the head's."""
        head.strength.fill_(self.fusion)
        if head.expert is not None:
            head.expert.strength.fill_(self.answers)


class Tried(NamedTuple):
    """What pairs of strengths have scored.

    Attributes:
        scores: from the smallest sum up; the more the better.
        metric: of the scores.
        rows: how many were ranked.
    """

    scores: dict[Strengths, float]
    metric: str
    rows: int

    @property
    def best(self) -> Strengths:
        """Of equal ones the smallest, so reasoning has to earn its place; nothing where no row could be ranked."""
        if not self.rows:
            return Strengths(0.0, 0.0)
        return max(self.scores, key=lambda pair: self.scores[pair])  # the first of equal ones

    def of_answers(self) -> Tried:
        """Those of the answers alone, for a head whose fusion says nothing; all, where none was without it."""
        alone = {pair: score for pair, score in self.scores.items() if pair.fusion == 0}
        return self._replace(scores=alone or self.scores)

    @classmethod
    def of_json(cls, facts: dict[str, Any]) -> Tried:
        """What `as_json` gave."""
        scores = {Strengths(one["strength"], one["answers"]): one["score"] for one in facts["tried"]}
        return cls(scores, facts["metric"], facts["rows"])

    def as_json(self) -> dict[str, Any]:
        """For metrics.json."""
        return {
            "chosen": self.best.fusion,
            "answers": self.best.answers,
            "metric": self.metric,
            "rows": self.rows,
            "tried": [
                {"strength": one.fusion, "answers": one.answers, "score": score} for one, score in self.scores.items()
            ],
        }


def try_strengths(
    head: RecHead,
    rows: FusionRows,
    users: np.ndarray,
    fit: Callable[[FusionRows], Any],
    strengths: Sequence[float],
    *,
    metric: str,
    hide_seen: bool,
    seed: int,
) -> Tried:
    """Ranks each half of the users with what was learned from the other half, at all pairs of strengths.

    Args:
        head: as new fusion and expert are; afterwards it is as before.
        rows: of the fusion rung.
        users: `[R]` whose each row is.
        fit: trains fusion and expert on some rows.
        strengths: what to try for either; always all of them for a head with an expert, 0 alone for the answers of one without.
        metric: as `metric_values` has them; NDCG@10 takes the place of others.
        hide_seen: as in the evaluation, items of the history are no candidates.
        seed: draws the halves.
    """
    try:
        metric_values([1], metric)
    except ValueError:
        metric = _METRIC
    of_answers = [0.0] if head.expert is None else strengths
    pairs = [Strengths(float(fusion), float(answers)) for fusion, answers in itertools.product(strengths, of_answers)]
    scores = dict.fromkeys(sorted(pairs, key=lambda one: (sum(one), one)), 0.0)
    rng = np.random.default_rng(seed)
    distinct = rng.permutation(np.unique(users))
    kept, ranked = copy.deepcopy(head.state_dict()), 0
    for half in (distinct[0::2], distinct[1::2]):
        held_out = np.isin(users, half)
        if held_out.all() or not held_out.any():
            continue
        head.load_state_dict(kept)
        fit(rows.at(torch.from_numpy(np.flatnonzero(~held_out))))
        index = torch.from_numpy(rng.permutation(np.flatnonzero(held_out))[: _MOST // 2])
        ranked += len(index)
        for pair in scores:
            pair.set(head)
            scores[pair] += float(metric_values(_ranks(head, rows.at(index), hide_seen), metric).sum())
    head.load_state_dict(kept)
    return Tried({pair: total / max(1, ranked) for pair, total in scores.items()}, metric, ranked)


def fresh_reasoning(head: RecHead, new: nn.Module) -> None:
    """Puts new weights for fusion, expert and encoders of reasoning into a head; how popular items are stays.

    Args:
        head: gets them.
        new: a head of the same settings that has learned nothing.
    """
    parts = ("fusion.", "expert.", "towers.cot_", "towers.answer_")
    weights = {
        name: one
        for name, one in new.state_dict().items()
        if name.startswith(parts) and not name.endswith("popularity")
    }
    head.load_state_dict({**head.state_dict(), **weights})


@torch.no_grad()
def _ranks(head: RecHead, rows: FusionRows, hide_seen: bool) -> np.ndarray:
    head.eval()
    items, found = head.item_vectors(), []
    for index in torch.arange(len(rows)).split(rows_at_once(_ROWS, len(items))):
        some = rows.at(index)
        states, reasoning = some.read(head, items)
        scores = head.scores_of(states, items, some.seen, reasoning)
        if hide_seen:
            scores = scores.scatter(1, _hidden(some.seen, some.targets), -torch.inf)
        found.append(target_rank(scores, some.targets))
    return torch.cat(found).cpu().numpy()


def _hidden(seen: Tensor, targets: Tensor) -> Tensor:
    """The items of the histories; the padding item in the place of the target."""
    return torch.where(seen == targets[:, None], 0, seen)
