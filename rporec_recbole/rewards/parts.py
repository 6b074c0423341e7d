"""The parts of the reward by name: ours, and those that `reward_weights` names as `package.module:function`."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from rporec_recbole.errors import ConfigError, RewardError
from rporec_recbole.rewards import paper_parts, ranking_parts, text_parts
from rporec_recbole.rewards.record import RewardRecord
from rporec_recbole.settings.named_code import find_code, names_code

Part = Callable[[RewardRecord], Tensor]
"""A record of B completions in, `[B]` numbers out."""

PARTS: dict[str, Part] = {
    "format": text_parts.format_part,
    "ndcg": ranking_parts.ndcg,
    "probability": ranking_parts.probability,
    "reciprocal_rank": ranking_parts.reciprocal_rank,
    "length": text_parts.length_cap,
    "conciseness": text_parts.conciseness,
    "compression": text_parts.compression,
    "semantic_consistency": text_parts.semantic_consistency,
    "entropy_gap": text_parts.entropy_gap,
    "cleanliness": paper_parts.cleanliness,
    "summary_compression": paper_parts.summary_compression,
    "summary_consistency": paper_parts.summary_consistency,
    "entropy_gap_uncapped": paper_parts.entropy_gap_uncapped,
}
SUMMARIZED = {"summary_compression", "summary_consistency"}
"""The parts that read `RewardRecord.summaries`, for which a second language model is kept."""


def find_part(name: str) -> Part:
    """The part of a name.

    Args:
        name: one of `PARTS`, or `package.module:function`.

    Raises:
        ConfigError: the name is unknown, its module cannot be imported or what it names is no function.
    """
    if name in PARTS:
        return PARTS[name]
    if not names_code(name):
        raise ConfigError(
            f"`reward_weights` names the part `{name}`; allowed are {', '.join(PARTS)}, or a function of yours as "
            "`package.module:function`."
        )
    found = find_code(name, "`reward_weights` names the part")
    if not callable(found):
        raise ConfigError(
            f"`reward_weights` names the part `{name}`, which is of type {type(found).__name__}; name a function that takes a "
            "RewardRecord and returns a tensor with one number per completion (docs/rewards.md)."
        )
    return found


def pay(name: str, part: Part, record: RewardRecord) -> Tensor:
    """What a part is worth to each completion, `[B]` float64.

    Raises:
        RewardError: the part returned something else than B numbers.
    """
    value = part(record)
    if not isinstance(value, torch.Tensor) or value.shape != (len(record),):
        given = f"shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else f"type {type(value).__name__}"
        raise RewardError(
            f"The reward part `{name}` returned a value of {given} for {len(record)} completions; it must return a tensor of "
            f"shape ({len(record)},), one number per completion (docs/rewards.md)."
        )
    return value.detach().cpu().double()


def check_parts(names: Iterable[str], trial: RewardRecord) -> None:
    """Finds all parts, and tries those that are not ours on a record: better now than hours into a run.

    Args:
        names: keys of `reward_weights`.
        trial: a small record; see `rechead_reward.trial_record`.

    Raises:
        ConfigError: see `find_part`.
        RewardError: a part raised, or returned something else than finite numbers, one per completion.
    """
    for name in names:
        part = find_part(name)
        if name in PARTS:
            continue
        try:
            value = pay(name, part, trial)
        except RewardError:
            raise
        except Exception as error:  # whatever somebody else's function raises
            raise RewardError(
                f"The reward part `{name}` failed on a trial of {len(trial)} completions ({type(error).__name__}: {error}). "
                "Repair it, or take it out of `reward_weights`."
            ) from error
        if not torch.isfinite(value).all():
            raise RewardError(
                f"The reward part `{name}` returned {value.tolist()} on a trial of a well-formed and a malformed completion; "
                "each number must be finite. Give completions that it cannot judge 0."
            )
