"""Signs of reward hacking in the curves of stage 2, in words.

A sign is a change between the first and the last steps that is large enough to matter and larger than what the steps
themselves vary: three standard errors of the difference of two means. Signs are reasons to read texts, not proof.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, variance

WATCHED = ("popularity", "distinct answers", "copying", "reward")
Curve = Sequence[tuple[int, float]]
_WINDOW, _LEAST = 10, 5  # steps at either end, at most and at least
_ERRORS = 3.0
_MORE = 0.15  # a share that rose by this much
_FEWER = 0.7  # of the distinct answers are left


def signs_of_hacking(curves: Mapping[str, Curve]) -> dict[str, str]:
    """Which signs show.

    Args:
        curves: those of `WATCHED` (see `watch.watched`) and `validation`, each as (step, value) pairs in the order of steps;
            a missing or short one shows nothing.

    Returns:
        name of the sign -> a sentence for the log.
    """
    found = {}
    for name, what in (("popularity", "answers that name one of the most popular items"), ("copying", "copied words")):
        ends = _ends(curves.get(name, ()))
        if ends and ends[1] - ends[0] > _MORE:
            found[name] = f"the share of {what} rose from {ends[0]:.0%} to {ends[1]:.0%}"
    ends = _ends(curves.get("distinct answers", ()))
    if ends and ends[1] < _FEWER * ends[0]:
        found["distinct answers"] = f"the distinct answers of a step fell from {ends[0]:.1f} to {ends[1]:.1f}"
    ends, scores = _ends(curves.get("reward", ())), [score for _, score in curves.get("validation", ())]
    if ends and ends[1] > ends[0] and len(scores) > 2 and max(scores[-2:]) < scores[0]:
        found["validation"] = (
            f"the reward rose from {ends[0]:.3f} to {ends[1]:.3f} while NDCG@10 on validation fell from {scores[0]:.4f} to "
            f"{scores[-1]:.4f}"
        )
    return found


def _ends(curve: Curve) -> tuple[float, float] | None:
    """Means of the first and the last steps; None if there are too few or they do not differ by more than noise."""
    values = [value for _, value in curve]
    window = min(_WINDOW, len(values) // 2)
    if window < _LEAST:
        return None
    first, last = values[:window], values[-window:]
    error = math.sqrt((variance(first) + variance(last)) / window)
    return (fmean(first), fmean(last)) if abs(fmean(last) - fmean(first)) > _ERRORS * error else None
