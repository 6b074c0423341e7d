"""Who gets recommendations, and the scores of all items for each of them, batch by batch.

A user of the run gets what the evaluation ranked for the user's row of a split: the same history, the same scores, the same
hidden items, and so the target of that row stands where `ranks.parquet` has it. Where a split has several rows of a user, the
last one counts. `all` is no split: the history is the user's whole profile (`data.profiles`), and users whom a filter left out of the
training are ranked from what they have (`host.filtered`). Scores need the memory of one batch of the run's evaluation
(`data.score_budget`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rporec_recbole.data.cuts import cuts_in_time
from rporec_recbole.data.histories import Histories, History, interaction_of
from rporec_recbole.data.profiles import Profiles
from rporec_recbole.data.score_budget import rows_at_once
from rporec_recbole.data.seen import Pairs
from rporec_recbole.errors import ConfigError
from rporec_recbole.host.filtered import filtered_users
from rporec_recbole.runs.finished import LoadedRun
from rporec_recbole.runs.scoring import Scorer

ALL = "all"
_PROFILE = "a whole profile"
_NAMED = 5  # unknown users in a message
_FORGET_AFTER = 100_000  # new histories

Part = tuple[np.ndarray, Tensor]
"""Names of B users, and the scores of all items for them, `[B, N]`."""


@dataclass
class Asked:
    """Users who are to be ranked, and those for whom nothing can be.

    Attributes:
        parts: scores, users in order.
        count: how many users stand in them.
        filtered: how many of these a filter had left out of the training.
        without: users for whom the model has nothing, by name: none of their items is known, or they are none of the data's.
        unknown_items: of histories, which were left out.
    """

    parts: Iterator[Part]
    count: int
    filtered: int = 0
    without: list[str] = field(default_factory=list)
    unknown_items: int = 0


# --- users of the run -------------------------------------------------------------------------------------------------


def users_of_split(run: LoadedRun, users: Sequence[str] | None, split: str, unknown_too: bool) -> Asked:
    """Users as the evaluation of a split ranked them.

    Args:
        run: the finished run.
        users: by name; None means all.
        split: `valid` or `test`.
        unknown_too: leave unknown users to the caller (`Asked.without`) instead of refusing.

    Raises:
        ConfigError: a user is unknown, or has no row in the split.
    """
    scorer = Scorer(run)
    last = scorer.last_rows(split)
    if users is None:
        return Asked(_of_split(run, scorer, split, np.array(sorted(last.values()), dtype=np.int64)), len(last))
    ids = run.dataset.field2token_id[run.dataset.uid_field]
    asked = list(dict.fromkeys(users))
    there = [user for user in asked if ids.get(user, 0) and ids[user] in last]
    without = [user for user in asked if user not in set(there)]
    if not unknown_too:
        _refuse(
            run, [user for user in without if not ids.get(user, 0)], [one for one in without if ids.get(one, 0)], split
        )
    rows = np.array(sorted(last[ids[user]] for user in there), dtype=np.int64)
    return Asked(_of_split(run, scorer, split, rows), len(rows), without=without)


def _of_split(run: LoadedRun, scorer: Scorer, split: str, rows: np.ndarray) -> Iterator[Part]:
    uid = run.dataset.uid_field
    for places, (batch, hidden, _, _) in scorer.batches(split, rows):
        users = np.array(run.dataset.id2token(uid, batch[uid].numpy()[places]), dtype=object)
        yield users, scorer.scores(batch, hidden)[torch.from_numpy(places)]


# --- whole profiles ---------------------------------------------------------------------------------------------------


def users_of_data(run: LoadedRun, users: Sequence[str] | None, unknown_too: bool) -> Asked:
    """Users with all that they have chosen: those of the run, then those whom a filter left out of it.

    Args:
        run: the finished run.
        users: by name; None means all of the data files.
        unknown_too: leave users of whom the model knows nothing to the caller instead of refusing.

    Raises:
        ConfigError: a user is unknown, or the model cannot do it.
    """
    reads = hasattr(run.model, "ITEM_SEQ")
    profiles = Profiles(run.dataset, int(run.config["MAX_ITEM_LIST_LENGTH"]) if reads else None)
    ids, scorer = run.dataset.field2token_id[run.dataset.uid_field], Scorer(run)
    numbers = dict(zip(profiles.users.tolist(), range(len(profiles.users)), strict=True))
    wanted = None if users is None else list(dict.fromkeys(users))
    inside = (
        list(numbers.values())
        if wanted is None
        else [numbers[ids[one]] for one in wanted if ids.get(one, 0) in numbers]
    )
    outside = None if wanted is None else {one for one in wanted if ids.get(one, 0) not in numbers}
    light, without = ([], []) if outside is not None and not outside else filtered_users(run.config, run.dataset)
    if outside is not None:
        light = [one for one in light if one.user in outside]
        without = [one for one in wanted or () if one in outside - {one.user for one in light}]
    if light and not _ranks_strangers(run, scorer, light[0]):
        light, without = [], sorted({*without, *(one.user for one in light)})
    if outside is not None and not unknown_too:
        _refuse(run, without, [], ALL)
    parts = _of_profiles(run, scorer, profiles, np.array(sorted(inside), dtype=np.int64))
    if light:
        size = _rows_of_histories(run)
        pieces = (light[first : first + size] for first in range(0, len(light), size))
        parts = _one_after_the_other(parts, _of_histories(run, scorer, pieces))
    return Asked(parts, len(inside) + len(light), len(light), without)


def _one_after_the_other(*parts: Iterator[Part]) -> Iterator[Part]:
    for part in parts:
        yield from part


def _ranks_strangers(run: LoadedRun, scorer: Scorer, one: History) -> bool:
    """Whether a model ranks for a user who took no part in its training."""
    try:
        check_reads_histories(run)
        next(_of_histories(run, scorer, iter([[one]])))
    except ConfigError:
        return False
    return True


def _of_profiles(run: LoadedRun, scorer: Scorer, profiles: Profiles, chosen: np.ndarray) -> Iterator[Part]:
    size = rows_at_once(int(run.config["eval_batch_size"]), run.dataset.item_num)
    for first in range(0, len(chosen), size):
        part = chosen[first : first + size]
        users = np.array(run.dataset.id2token(run.dataset.uid_field, profiles.users[part]), dtype=object)
        yield users, _scores(run, scorer, profiles.rows(part), profiles.had(part), _PROFILE)


def _refuse(run: LoadedRun, unknown: Sequence[str], absent: Sequence[str], split: str) -> None:
    if not unknown and not absent:
        return
    few = f" (it was made with user_inter_num_interval={run.config['user_inter_num_interval']})"
    parts = [f"The run does not know {_some(unknown)}{few}."] if unknown else []
    why = "nothing behind that cut" if cuts_in_time(run.config["eval_args"]) else "too few interactions"
    parts += [f"The {split} split has no row of {_some(absent)}: {why}."] if absent else []
    raise ConfigError(
        " ".join(parts) + " Name users as user_id of the .inter file has them, give the histories of new users with "
        "--histories=FILE, leave such users out with --skip_unknown=True, or give them the most popular items with --fallback=popular."
    )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"the user{'s' if len(names) > 1 else ''} " + ", ".join(f"`{name}`" for name in names[:_NAMED]) + more


# --- histories --------------------------------------------------------------------------------------------------------


def users_with_histories(run: LoadedRun, read: Histories) -> Asked:
    """Users whom the run has never met.

    Args:
        run: the finished run.
        read: their histories.

    Raises:
        ConfigError: the model reads more than histories.
    """
    check_reads_histories(run)
    parts = _of_histories(run, Scorer(run), read.pieces(_rows_of_histories(run)))
    return Asked(parts, read.count, without=read.without, unknown_items=read.skipped_items)


def check_reads_histories(run: LoadedRun) -> None:
    """Refuses a model that can rank for its own users alone.

    Raises:
        ConfigError: it is such a model.
    """
    if not hasattr(run.model, "ITEM_SEQ"):
        raise ConfigError(
            f"{run.config['model']} knows users by what it learned of each, so it can recommend nothing for histories of new ones. "
            "Use a run of RPORec or of a sequential model of RecBole, or train again with these users in the .inter file."
        )


def _rows_of_histories(run: LoadedRun) -> int:
    return rows_at_once(int(run.config["eval_batch_size"]), run.dataset.item_num)


def _of_histories(run: LoadedRun, scorer: Scorer, pieces: Iterable[Sequence[History]]) -> Iterator[Part]:
    for part, rows in history_rows(run, pieces):
        numbers = np.repeat(np.arange(len(part)), [len(one.items) for one in part])
        had = torch.from_numpy(numbers), torch.from_numpy(np.concatenate([one.items for one in part]))
        yield np.array([one.user for one in part], dtype=object), _scores(run, scorer, rows, had, "a new history")


def history_rows(run: LoadedRun, pieces: Iterable[Sequence[History]]) -> Iterator[tuple[Sequence[History], Any]]:
    """New histories with the rows that a model reads of them, piece by piece.

    Args:
        run: the finished run.
        pieces: histories, B at a time.
    """
    model, met = run.model, 0
    length = int(run.config["MAX_ITEM_LIST_LENGTH"])
    times = (model.times.column, run.dataset.clock) if getattr(model, "times", None) is not None else None
    for part in pieces:
        yield part, interaction_of(part, length, model.ITEM_SEQ, model.ITEM_SEQ_LEN, times)
        met += len(part)
        if met >= _FORGET_AFTER and getattr(model, "encoder", None) is not None:
            model.use_encoder(model.encoder)  # a text head keeps the vector of every history that it meets
            met = 0


def _scores(run: LoadedRun, scorer: Scorer, rows: Any, had: Pairs, what: str) -> Tensor:
    """Scores of rows that are none of a split but `what`; `had` is the whole past, longer than what a model reads."""
    loader = run.loaders["test"]
    try:
        return scorer.scores(loader.transform(loader.dataset, rows), had if run.config["hide_seen"] else None)
    except KeyError as error:
        raise _needs_more(run, error, what) from error


def _needs_more(run: LoadedRun, error: KeyError, what: str) -> Exception:
    columns: Any = run.loaders["test"].dataset.inter_feat.columns
    if error.args[:1] and error.args[0] in columns:
        instead = "ask with --split=test" if what == _PROFILE else "train again with these users in the .inter file"
        return ConfigError(
            f"{run.config['model']} reads `{error.args[0]}` of each user, which {what} does not have. Use a run of RPORec or "
            f"of a model that reads histories alone, such as SASRec or GRU4Rec, or {instead}."
        )
    return error
