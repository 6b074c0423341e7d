"""Which settings let a model learn and be measured on these data, and what they leave out, said in sentences.

RPORec's defaults are for users with long histories: the newest two interactions of each user are its validation and test targets, and
the stages share the others (`data/ladder.py`). A shop has many customers with one purchase.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

SHORTEST = 4  # `user_inter_num_interval` of properties/overall.yaml
ENOUGH_USERS = 30  # fewer than these say nothing about a model
_PROMPTS = 4  # `rl_prompts`
_EARLY, _RL_SHARE = 0.7, 0.34  # `ladder_early`, `ladder_rl`
CHRONOLOGICAL = {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "TO", "group_by": None, "mode": "full"}
"""`eval_args` of a split by time: the first 80 % of all targets teach, the last 10 % test."""


@dataclass
class Plan:
    """What goes into the data set's YAML file beside its columns.

    Attributes:
        settings: key -> value.
        said: sentences for the user.
        model: the one that the next command runs.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    model: str = "RPORec"


def plan_for(user: np.ndarray, item: np.ndarray, time: np.ndarray, *, texts: bool, given: Mapping[str, Any]) -> Plan:
    """Settings for these interactions.

    Args:
        user, item: `[I]` numbers.
        time: `[I]` microseconds.
        texts: whether items have texts.
        given: settings that are chosen already; they stand.
    """
    plan = Plan(dict(given))
    lengths = np.bincount(user)
    people, rows = int((lengths > 0).sum()), len(user)
    if "eval_args" in given:
        shortest = 2
        positions = _in_time(user, time)
    elif (enough := int((lengths >= SHORTEST).sum())) >= min(ENOUGH_USERS, people) and enough:
        shortest = SHORTEST
        positions = lengths[lengths >= SHORTEST] - 3
        if enough < people:
            kept = int(lengths[lengths >= SHORTEST].sum())
            plan.said.append(
                f"Models learn from and are measured on users with at least {SHORTEST} interactions: {enough:,} of {people:,} users with {kept:,} of {rows:,} "
                f"interactions. {_others(people - enough)}"
            )
    elif (more := int((lengths >= 2).sum())) >= 2:
        shortest = 2
        positions = _in_time(user, time)
        plan.settings |= {"eval_args": CHRONOLOGICAL, "user_inter_num_interval": "[2,inf)"}
        plan.said.append(
            f"{enough or 'None'} of {people:,} users {'has' if enough == 1 else 'have'} {SHORTEST} or more interactions, too few to hide the last two of each. So the data are split by time: models "
            f"learn from the first 80 % and are measured on what comes after, with all {more:,} users who have at least two interactions. "
            f"{_others(people - more)}"
        )
    else:
        shortest = 1
        positions = np.zeros(0, dtype=int)
        plan.settings |= {"eval_args": CHRONOLOGICAL, "user_inter_num_interval": "[1,inf)"}
        plan.model = "Pop"
        plan.said.append(
            "No two users have two interactions each, so there is no history to learn from: the most popular items are all that can be recommended."
        )
    kept = lengths[user] >= shortest
    _lists(plan, len(np.unique(item[kept])))
    if plan.model == "RPORec":
        if texts:
            _stages(plan, positions)
        else:
            plan.settings.setdefault("ids_only", True)
            plan.said.append(
                "No column describes the items, so RPORec runs its trunk alone, without a language model (ids_only)."
            )
    return plan


def _others(users: int) -> str:
    return (
        ""
        if not users
        else "The other user is left out of both."
        if users == 1
        else f"The other {users:,} users are left out of both."
    )


def _in_time(user: np.ndarray, time: np.ndarray) -> np.ndarray:
    """How many training targets each user has where the first 80 % of all targets are training."""
    order = np.lexsort((time, user))
    targets = order[np.r_[False, user[order][1:] == user[order][:-1]]] if len(order) else order
    first = targets[np.argsort(time[targets], kind="stable")][: int(0.8 * len(targets))]
    counts = np.bincount(user[first]) if len(first) else np.zeros(0, dtype=int)
    return counts[counts > 0]


def _lists(plan: Plan, items: int) -> None:
    """Lists of the best items must be shorter than the catalogue."""
    if items >= 20 or "topk" in plan.settings:
        return
    sizes = [k for k in (5, 10) if k <= items] or [max(1, items - 1)]
    plan.settings |= {"topk": sizes, "valid_metric": f"NDCG@{sizes[-1]}"}
    plan.said.append(
        f"There {'is 1 item' if items == 1 else f'are {items} items'}, so rankings are measured at {' and '.join(map(str, sizes))}."
    )


def _stages(plan: Plan, positions: np.ndarray) -> None:
    """The stages that have something to learn from."""
    if "stages" in plan.settings:
        return
    for early in (_EARLY, 0.5):
        fusion, rl = _positions(positions, early)
        if fusion and rl >= _PROMPTS:
            if early != _EARLY:
                plan.settings["ladder_early"] = early
                plan.said.append(
                    f"Histories are short, so the first {early:.0%} of each, not {_EARLY:.0%}, teach trunk and language model, and more is left "
                    "for the later stages (ladder_early)."
                )
            return
    for early in (_EARLY, 0.5):
        if _positions(positions, early)[0]:
            plan.settings |= {"stages": ["1a", "1b", "1c", "refresh"]} | (
                {} if early == _EARLY else {"ladder_early": early}
            )
            plan.said.append("Histories are too short for reinforcement learning (stage 2), which is left out.")
            return
    plan.settings["stages"] = ["1a"]
    plan.said.append("Histories are too short to teach reasoning, so RPORec trains its trunk alone (stage 1a).")


def _positions(counts: np.ndarray, early: float) -> tuple[int, int]:
    """How many training positions the fusion and stage 2 learn from: as `rungs` of `data/ladder.py` deals them, which a test compares."""
    late = counts - np.ceil(early * counts).astype(int)
    rl = np.floor(late * _RL_SHARE).astype(int)
    return int((late - rl).sum()), int(rl.sum())
