"""The best items of a finished run for its users, or for histories that are new to it, streamed into a table.

A user of the run gets what the evaluation ranked for the user's row of a split: the same history, the same scores, the same
hidden items, and so the target of that row stands where `ranks.parquet` has it. Where a split has several rows of a user, the
last one counts. `all` is no split: the history is the user's whole profile (`data.profiles`). Scores need the memory of one batch
of the run's evaluation (`data.score_budget`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from rporec_recbole.data.histories import JSON_SUFFIXES, History, interaction_of, read_histories
from rporec_recbole.data.profiles import Profiles
from rporec_recbole.data.score_budget import rows_at_once
from rporec_recbole.data.seen import Pairs
from rporec_recbole.errors import ConfigError
from rporec_recbole.evaluation.ranking import top_of
from rporec_recbole.outputs.table_file import check_output, table_writer
from rporec_recbole.runs.finished import LoadedRun, load_run
from rporec_recbole.runs.scoring import Scorer

SCHEMA = {"user_id": "string", "rank": "int32", "item_id": "string", "score": "float32"}
ALL = "all"
_PROFILE = "a whole profile"
_NAMED = 5  # unknown users in a message


@dataclass(frozen=True)
class Recommended:
    """What was written.

    Attributes:
        users: how many users.
        rows: how many rows.
        skipped_items: unknown items of histories that were left out.
        skipped_users: users who are unknown, or have no known item, and were left out.
    """

    users: int
    rows: int
    skipped_items: int
    skipped_users: int


def recommend(
    path: str | Path,
    output: str | Path = "recs.parquet",
    *,
    users: Sequence[str] | None = None,
    histories: str | Path | None = None,
    split: str = "test",
    top_k: int = 100,
    hide_seen: bool | None = None,
    skip_unknown: bool = False,
    encoding: str | None = None,
    model: str | type | None = None,
    **places: str | None,
) -> Recommended:
    """Writes the best items: `user_id`, `rank` (1 is best), `item_id`, `score`; users in order, best items first.

    A user has fewer than `top_k` rows where fewer items are left to rank.

    Args:
        path: the run folder.
        output: .parquet, .csv or .jsonl; an older file is replaced when the new one is complete.
        users: user ids as in the data files; None means all users of the split.
        histories: a file of histories (`data.histories`), in place of users of the run. The newest `MAX_ITEM_LIST_LENGTH`
            items of each are read; ratings are not known. Needs a sequential model that reads nothing but histories.
        split: `valid` or `test`: whose rows give the histories of the users; `all`: everything that they have chosen.
        top_k: items per user.
        hide_seen: leave out everything that a user has chosen before; None does as the run does, and hides it from `all`. As in
            the evaluation, a target that repeats an older item stays.
        skip_unknown: leave out unknown users and items instead of refusing.
        encoding: of the file of histories; None means as the run's data files have it, and UTF-8 for JSON.
        model: for a run of a model of somebody's own, as for `load_run`.
        places: what moved since, likewise.

    Raises:
        RunFolderError: there is no finished run, or the table cannot be written.
        ConfigError: a user is unknown, or the model cannot do it.
        DatasetError: the file of histories cannot be used.
    """
    output = Path(output)
    check_output(output)
    if users is not None and histories is not None:
        raise ConfigError(
            "Users of the run and a file of histories are asked for at once. Give one of `users` and `histories`."
        )
    run = load_run(path, model=model, **places)
    if hide_seen is None and split == ALL:
        hide_seen = True
    if hide_seen is not None:
        run.config["hide_seen"] = hide_seen
    if histories is not None:
        _check_reads_histories(run)
        ids = run.dataset.field2token_id[run.dataset.iid_field]
        usual = "utf-8" if Path(histories).suffix.lower() in JSON_SUFFIXES else run.config["encoding"]
        read = read_histories(histories, ids, skip_unknown, encoding or usual or "utf-8")
        wanted, skipped_items, skipped_users = len(read.found), read.skipped_items, read.skipped_users
        parts = _of_histories(run, Scorer(run), read.found)
    elif split == ALL:
        profiles = Profiles(
            run.dataset, int(run.config["MAX_ITEM_LIST_LENGTH"]) if hasattr(run.model, "ITEM_SEQ") else None
        )
        numbers = dict(zip(profiles.users.tolist(), range(len(profiles.users)), strict=True))
        rows, skipped_users = _rows_of(run, numbers, users, split, skip_unknown)
        wanted, skipped_items = len(rows), 0
        parts = _of_profiles(run, Scorer(run), profiles, rows)
    else:
        scorer = Scorer(run)
        rows, skipped_users = _rows_of(run, scorer.last_rows(split), users, split, skip_unknown)
        wanted, skipped_items = len(rows), 0
        parts = _of_split(run, scorer, split, rows)
    tokens = np.array(run.dataset.field2id_token[run.dataset.iid_field], dtype=object)
    count = 0
    try:
        with (
            table_writer(output, SCHEMA) as append,
            tqdm(total=wanted, desc="recommend", unit="user", leave=False) as bar,
        ):
            for names, scores in parts:
                columns = _columns(names, scores, tokens, top_k)
                append(columns)
                count += len(columns["rank"])
                bar.update(len(names))
    finally:
        if getattr(run.model, "reasoner", None) is not None:
            run.model.reasoner.store.close()
    return Recommended(wanted, count, skipped_items, skipped_users)


def _columns(users: np.ndarray, scores: Tensor, tokens: np.ndarray, top_k: int) -> dict[str, np.ndarray]:
    values, ids = (part.cpu().numpy() for part in top_of(scores, min(top_k, scores.shape[1] - 1)))
    rows, places = np.nonzero(values > -np.inf)  # what is hidden stands at the end
    return {
        "user_id": users[rows],
        "rank": places.astype(np.int32) + 1,
        "item_id": tokens[ids[rows, places]],
        "score": values[rows, places],
    }


# --- users of the run -------------------------------------------------------------------------------------------------


def _rows_of(
    run: LoadedRun, last: dict[int, int], users: Sequence[str] | None, split: str, skip_unknown: bool
) -> tuple[np.ndarray, int]:
    """The last row of each user, and how many users were skipped."""
    if users is None:
        return np.array(sorted(last.values()), dtype=np.int64), 0
    ids = run.dataset.field2token_id[run.dataset.uid_field]
    asked = list(dict.fromkeys(users))
    unknown = [user for user in asked if not ids.get(user, 0)]
    absent = [user for user in asked if ids.get(user, 0) and ids[user] not in last]
    if (unknown or absent) and not skip_unknown:
        few = f" (it was made with user_inter_num_interval={run.config['user_inter_num_interval']})"
        parts = [f"The run does not know {_some(unknown)}{few}."] if unknown else []
        parts += [f"The {split} split has no row of {_some(absent)}: too few interactions."] if absent else []
        raise ConfigError(
            " ".join(parts)
            + " Name users as user_id of the .inter file has them, give the histories of new users with "
            "--histories=FILE, or leave such users out with --skip_unknown=True."
        )
    rows = sorted(last[ids[user]] for user in asked if ids.get(user, 0) and ids[user] in last)
    if not rows:
        raise ConfigError(f"None of the {len(asked)} users has a row in the {split} split. Nothing was written.")
    return np.array(rows, dtype=np.int64), len(unknown) + len(absent)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"the user{'s' if len(names) > 1 else ''} " + ", ".join(f"`{name}`" for name in names[:_NAMED]) + more


def _of_split(run: LoadedRun, scorer: Scorer, split: str, rows: np.ndarray) -> Iterator[tuple[np.ndarray, Tensor]]:
    field = run.dataset.uid_field
    for places, (batch, hidden, _, _) in scorer.batches(split, rows):
        users = np.array(run.dataset.id2token(field, batch[field].numpy()[places]), dtype=object)
        yield users, scorer.scores(batch, hidden)[torch.from_numpy(places)]


# --- whole profiles ---------------------------------------------------------------------------------------------------


def _of_profiles(
    run: LoadedRun, scorer: Scorer, profiles: Profiles, chosen: np.ndarray
) -> Iterator[tuple[np.ndarray, Tensor]]:
    size = rows_at_once(int(run.config["eval_batch_size"]), run.dataset.item_num)
    for first in range(0, len(chosen), size):
        part = chosen[first : first + size]
        users = np.array(run.dataset.id2token(run.dataset.uid_field, profiles.users[part]), dtype=object)
        yield users, _scores(run, scorer, profiles.rows(part), profiles.had(part), _PROFILE)


# --- histories --------------------------------------------------------------------------------------------------------


def _check_reads_histories(run: LoadedRun) -> None:
    if not hasattr(run.model, "ITEM_SEQ"):
        raise ConfigError(
            f"{run.config['model']} knows users by what it learned of each, so it can recommend nothing for histories of new ones. "
            "Use a run of RPORec or of a sequential model of RecBole, or train again with these users in the .inter file."
        )


def _of_histories(run: LoadedRun, scorer: Scorer, found: Sequence[History]) -> Iterator[tuple[np.ndarray, Tensor]]:
    model = run.model
    length = int(run.config["MAX_ITEM_LIST_LENGTH"])
    size = rows_at_once(int(run.config["eval_batch_size"]), run.dataset.item_num)
    for first in range(0, len(found), size):
        part = found[first : first + size]
        rows = interaction_of(part, length, model.ITEM_SEQ, model.ITEM_SEQ_LEN)
        numbers = np.repeat(np.arange(len(part)), [len(one.items) for one in part])
        had = torch.from_numpy(numbers), torch.from_numpy(np.concatenate([one.items for one in part]))
        yield np.array([one.user for one in part], dtype=object), _scores(run, scorer, rows, had, "a new history")


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
