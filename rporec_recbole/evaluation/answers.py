"""What the writer itself knows: how often the next item is among the lines that it would have answered, beside the most popular items.

Letters in shapes: B rows, N items.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rporec_recbole.data.score_budget import rows_at_once
from rporec_recbole.evaluation.ranking import hit_at, ndcg_at, target_rank
from rporec_recbole.text.completions import Completion, Guess

K = 10
_NEVER = 1 << 40  # the rank of what is not guessed, a small catalogue's too


class AnswerMeasure:
    """Measures answers against one catalogue.

    Args:
        lines: of the items, by id; several items may have the same one. Row 0 is the padding item.
        counts: `[N]` training interactions of each item.
    """

    def __init__(self, lines: Sequence[str], counts: Tensor) -> None:
        self._items: dict[str, list[int]] = {}
        for item, line in enumerate(lines[1:], start=1):
            self._items.setdefault(line, []).append(item)
        self._popularity = counts.float().clone()
        self._popularity[0] = -torch.inf

    def __call__(
        self, completions: Sequence[Completion], targets: Tensor, hidden: tuple[Tensor, Tensor] | None = None
    ) -> dict[str, float]:
        """What some answers are worth as a ranking.

        Args:
            completions: B of them; an answer without guesses is the only guess.
            targets: `[B]` item ids.
            hidden: (row, item) of what is no candidate.

        Returns:
            `hit@10` and `ndcg@10` of the guesses, ties counted against them and malformed texts as misses; the same of the most
            popular items as `pop hit@10` and `pop ndcg@10`; `named`, the share of the answers that are an item's line, and
            `distinct`, how many different ones there are.
        """
        left_out: list[set[int]] = [set() for _ in completions]
        if hidden is not None:
            for row, item in zip(*(part.tolist() for part in hidden), strict=True):
                left_out[row].add(item)
        ranks = torch.tensor(
            [
                self._rank(one, target, out)
                for one, target, out in zip(completions, targets.tolist(), left_out, strict=True)
            ]
        )
        of_popular = self._ranks_of_popular(targets.cpu(), left_out)
        answers = [one.answer for one in completions if one.well_formed]
        return {
            f"hit@{K}": hit_at(ranks, K).mean().item(),
            f"ndcg@{K}": ndcg_at(ranks, K).mean().item(),
            f"pop hit@{K}": hit_at(of_popular, K).mean().item(),
            f"pop ndcg@{K}": ndcg_at(of_popular, K).mean().item(),
            "named": sum(answer in self._items for answer in answers) / max(1, len(completions)),
            "distinct": float(len(set(answers))),
        }

    def _ranks_of_popular(self, targets: Tensor, left_out: Sequence[set[int]]) -> Tensor:
        """Ranks of the targets `[B]` among the most popular items, those left out of each row at the end."""
        found = []
        for rows in torch.arange(len(targets)).split(rows_at_once(len(targets), len(self._popularity))):
            scores = self._popularity.repeat(len(rows), 1)
            for place, row in enumerate(rows.tolist()):
                scores[place, list(left_out[row])] = -torch.inf
            found.append(target_rank(scores, targets[rows]))
        return torch.cat(found)

    def _rank(self, completion: Completion, target: int, left_out: set[int]) -> int:
        """1 is best."""
        guesses = completion.guesses or ((Guess(completion.answer, 0.0),) if completion.well_formed else ())
        found = [(set(self._items.get(one.answer, ())) - left_out, one.logprob) for one in guesses]
        own = [logprob for items, logprob in found if target in items]
        if not own:
            return _NEVER
        return sum(len(items) for items, logprob in found if logprob >= own[0])


def described(measure: dict[str, float]) -> str:
    """One line for a log."""
    return (
        f"answers alone: hit@{K} {measure[f'hit@{K}']:.4f}, NDCG@{K} {measure[f'ndcg@{K}']:.4f} (Pop {measure[f'pop hit@{K}']:.4f}, "
        f"{measure[f'pop ndcg@{K}']:.4f}); {measure['named']:.1%} name an item, {measure['distinct']:.0f} different ones"
    )
