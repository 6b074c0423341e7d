"""Where a split by time cuts: what may be written, and which times of a column it means.

`{TS: [0.8, 0.1, 0.1]}` are shares of all interactions, oldest first; `{TS: ['2000-11-20', '2000-12-10']}` are the first times of validation
and test, as dates (UTC where they name no zone) or as numbers like those of the column. A row at a cut lies behind it, so rows of one
instant never lie on both sides.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rporec_recbole.errors import ConfigError, DatasetError, did_you_mean
from rporec_recbole.tables.times import counted, date_of, moment, unit_of

TARGETS = ("all", "first", "last")
"""Which interactions of a user in a window are targets: every one, the first or the last."""
_PARTS = ("training", "validation", "test")
_SHARES, _CUTS = 3, 2
_FORM = (
    "{TS: [0.8,0.1,0.1]}, shares by time, or {TS: ['2000-11-20','2000-12-10']}, the first times of validation and test"
)


def cuts_in_time(eval_args: Any) -> bool:
    """Whether `eval_args` ask for a split by time."""
    split = eval_args.get("split") if isinstance(eval_args, Mapping) else None
    return isinstance(split, Mapping) and "TS" in split


def settled_evaluation(eval_args: Any) -> Any:
    """`eval_args` of a split by time with all that it means written out, and its dates as texts; others come back as they are."""
    if not cuts_in_time(eval_args):
        return eval_args
    given = eval_args["split"]["TS"]
    if isinstance(given, (list, tuple)):
        given = [one.isoformat() if isinstance(one, (datetime.date, datetime.datetime)) else one for one in given]
    whole = {"order": "TO", "group_by": None, "targets": TARGETS[0], **eval_args}
    if whole["group_by"] in ("none", "None"):
        whole["group_by"] = None
    return {**whole, "split": {**eval_args["split"], "TS": given}}


def cut_problems(eval_args: Mapping[str, Any]) -> list[str]:
    """What is wrong with the settings of a split by time, a sentence each.

    Args:
        eval_args: as `settled_evaluation` gives them.
    """
    given, found = eval_args["split"]["TS"], []
    if not isinstance(given, (list, tuple)) or len(given) not in (_SHARES, _CUTS):
        found.append(f"`eval_args.split={{TS: {given!r}}}` must be {_FORM}")
    elif are_shares(given):
        if not all(_is_number(one) and one > 0 for one in given):
            found.append(
                f"`eval_args.split={{TS: {given!r}}}`: shares must be three numbers above 0, such as [0.8,0.1,0.1]"
            )
    else:
        found += _date_problems(given)
    if eval_args["order"] != "TO":
        found.append(f"`eval_args.order={eval_args['order']!r}`: a split by time (TS) needs order TO")
    if eval_args["group_by"] is not None:
        found.append(
            f"`eval_args.group_by={eval_args['group_by']!r}`: a split by time (TS) cuts all users at the same moments, so group_by must be none. "
            "To cut each user's own history by time, write {RS: [0.8,0.1,0.1]} with group_by: user"
        )
    if eval_args["targets"] not in TARGETS:
        hint = did_you_mean(str(eval_args["targets"]), TARGETS)
        found.append(
            f"`eval_args.targets={eval_args['targets']!r}` must be one of {', '.join(TARGETS)}: which interactions of a user in a window are predicted.{hint}"
        )
    return found


def are_shares(given: Sequence[Any]) -> bool:
    """Whether what stands under `TS` are shares of the interactions, and not moments."""
    return len(given) == _SHARES


def cut_times(given: Sequence[Any], times: np.ndarray, field: str) -> tuple[float, float]:
    """The first times of validation and of test, in the units of a column.

    Args:
        given: what stands under `TS`, without problems.
        times: `[I]` the column, of all interactions.
        field: its name, for messages.

    Raises:
        DatasetError: a part would be empty, or dates are compared with numbers that are no times.
    """
    unit = unit_of(times)
    if are_shares(given):
        first, second = _by_share(given, np.sort(times))
    else:
        if unit is None and any(isinstance(one, str) for one in given):
            raise DatasetError(
                f"`eval_args.split={{TS: {list(given)}}}` names dates, and `{field}` counts no time since 1970: it runs from {times.min():.15g} to "
                f"{times.max():.15g}. Name the cuts by such numbers, or by shares, {{TS: [0.8,0.1,0.1]}}."
            )
        first, second = (_number(one, unit or "s") for one in given)
    counts = np.bincount(parts_of(times, (first, second)), minlength=_SHARES)
    if not counts.all():
        empty = " and ".join(part for part, count in zip(_PARTS, counts, strict=True) if not count)
        raise DatasetError(
            f"`eval_args.split={{TS: {list(given)}}}` cuts at {date_of(first, unit)} and {date_of(second, unit)}, and leaves no interaction for "
            f"{empty}: `{field}` runs from {date_of(times.min(), unit)} to {date_of(times.max(), unit)}, and what happened at one instant stays together. "
            "Move the cuts."
        )
    return first, second


def parts_of(times: np.ndarray, cuts: tuple[float, float]) -> np.ndarray:
    """The part in which each time lies, `[I]`: 0 training, 1 validation, 2 test."""
    return np.searchsorted(np.array(cuts), times, side="right")


def described_cuts(facts: Mapping[str, Any]) -> str:
    """A split by time as a sentence.

    Args:
        facts: `time_split` of `metrics.json`.
    """
    first, second = facts["cuts"]
    said = [f"split by time: training before {first} ({facts['train']['interactions']:,} interactions)"]
    for split, words in (("valid", f"validation before {second}"), ("test", "test from then on")):
        part = facts[split]
        said.append(
            f"{words} ({part['targets']:,} targets of {part['users']:,} users; {part['of_new_users']:,} of users and {part['of_new_items']:,} of items "
            "that the training never met)"
        )
    return ", ".join(said)


def _by_share(shares: Sequence[float], in_time: np.ndarray) -> tuple[float, float]:
    rows, total = len(in_time), sum(shares)
    valid, test = (max(1, int(one / total * rows)) for one in shares[1:])  # rounded down, as RecBole does
    return float(in_time[max(0, rows - test - valid)]), float(in_time[max(0, rows - test)])


def _number(one: Any, unit: str) -> float:
    return counted(moment(one, "eval_args.split.TS"), unit) if isinstance(one, str) else float(one)


def _date_problems(given: Sequence[Any]) -> list[str]:
    form = f"`eval_args.split={{TS: {list(given)}}}`"
    try:
        values = [moment(one, "eval_args.split.TS") if isinstance(one, str) else one for one in given]
    except ConfigError as error:
        return [str(error).rstrip(".")]
    if not all(_is_number(one) for one in values) or len({isinstance(one, str) for one in given}) > 1:
        return [f"{form} must be {_FORM}"]
    if values[0] >= values[1]:
        return [f"{form}: validation must begin before test"]
    return []


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and bool(np.isfinite(value))
