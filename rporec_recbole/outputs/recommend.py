"""The best items of a finished run for its users, or for histories that are new to it: as a table in a file, or at hand.

Columns, in this order: `user_id`, `rank` (1 is best), `item_id`, `score`, `title`; users in order, best items first. `title` is empty
where the data set has none, and `score` where no model has scored: the most popular items, which stand in (`fallback`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from rporec_recbole.data.histories import Histories, histories_of, read_histories
from rporec_recbole.errors import ConfigError
from rporec_recbole.evaluation.beyond import Tally
from rporec_recbole.evaluation.ranking import top_of
from rporec_recbole.outputs.asked import (
    ALL,
    Asked,
    check_reads_histories,
    users_of_data,
    users_of_split,
    users_with_histories,
)
from rporec_recbole.outputs.table_file import check_output, parts_writer, table_writer
from rporec_recbole.runs.finished import LoadedRun
from rporec_recbole.runs.finished import load_run as restored
from rporec_recbole.runs.known import known_of
from rporec_recbole.runs.titles import raw_titles
from rporec_recbole.settings.bars import progress_bar

SCHEMA = {"user_id": "string", "rank": "int32", "item_id": "string", "score": "float32", "title": "string"}
FALLBACKS = ("none", "popular")
_MEASURED = 10  # of each list
Columns = dict[str, np.ndarray]


@dataclass(frozen=True)
class Recommended:
    """What was written.

    Attributes:
        users: how many users.
        rows: how many rows.
        skipped_items: unknown items of histories that were left out.
        skipped_users: users for whom nothing could be ranked, and who were left out.
        filtered: users whom a filter had left out of the training, and who were ranked from what they have.
        popular: users for whom nothing could be ranked, and who got the most popular items.
        lacking: texts that were not there, where they are not to be written; the trunk alone ranked for them.
        measures: of the lists' best items (`evaluation.beyond`): how much of the catalogue they show, how evenly, how new it is.
    """

    users: int
    rows: int
    skipped_items: int
    skipped_users: int
    filtered: int = 0
    popular: int = 0
    lacking: int = 0
    measures: dict[str, float] = field(default_factory=dict)


def recommend(
    path: str | Path,
    output: str | Path = "recs.parquet",
    *,
    users: Sequence[str] | None = None,
    histories: str | Path | None = None,
    split: str = ALL,
    top_k: int = 100,
    hide_seen: bool | None = None,
    skip_unknown: bool = False,
    fallback: str = "none",
    missing_texts: str = "write",
    encoding: str | None = None,
    model: str | type | None = None,
    **places: str | None,
) -> Recommended:
    """Writes the best items into a file, or a folder of files; memory does not grow with the number of users.

    A user has fewer than `top_k` rows where fewer items are left to rank.

    Args:
        path: the run folder.
        output: .parquet, .csv or .jsonl; without a suffix a folder of Parquet files of a million rows each. What is there is replaced
            when the new one is complete.
        users: user ids as in the data files; None means all of them.
        histories: a file, a folder or a pattern of histories (`data.history_files`), in place of users of the run. The newest `MAX_ITEM_LIST_LENGTH`
            items of each are read; ratings are not known, and times where the file has them. Needs a sequential model that reads nothing but histories.
        split: `all`: everything that users have chosen. `valid` or `test`: the histories of the rows that the evaluation ranked.
        top_k: items per user.
        hide_seen: leave out everything that a user has chosen before; None does, and with `valid` and `test` it does as the run does. As
            in the evaluation, a target of theirs that repeats an older item stays.
        skip_unknown: leave out unknown users and items instead of refusing.
        fallback: `popular` gives users for whom nothing can be ranked the most popular items of the training part.
        missing_texts: `write` has texts that the run's store lacks written first, `trunk` ranks without them.
        encoding: of the file of histories; None means as the run's data files have it, and UTF-8 for JSON.
        model: for a run of a model of somebody's own, as for `load_run`.
        places: what moved since, likewise.

    Raises:
        RunFolderError: there is no finished run, or the table cannot be written.
        ConfigError: a user is unknown, or the model cannot do it.
        DatasetError: the file of histories cannot be used.
    """
    output = Path(output)
    check_output(output, or_folder=True)
    if users is not None and histories is not None:
        raise ConfigError(
            "Users of the run and a file of histories are asked for at once. Give one of `users` and `histories`."
        )
    run = restored(path, model=model, **places)
    lenient = skip_unknown or fallback == "popular"
    try:
        read, reasoner = None, getattr(run.model, "reasoner", None)
        if reasoner is not None:
            reasoner.writes = missing_texts == "write"
        if histories is not None:
            check_reads_histories(run)
            read = read_histories(histories, _items(run), lenient, encoding, run.config["encoding"] or "utf-8")
        with hiding(run, split, hide_seen, read is not None):
            asked = _asked(run, users, read, split, lenient)
            popular = asked.without if fallback == "popular" else []
            tally = Tally(
                run.dataset.item_num - 1,
                min(top_k, _MEASURED),
                known_of(run.config, run.dataset, run.loaders, texts=False),
            )
            count = 0
            with (
                (table_writer if output.suffix else parts_writer)(output, SCHEMA) as append,
                progress_bar(total=asked.count, desc="recommend", unit="user") as bar,
            ):
                for columns, named in _tables(run, asked, popular, top_k, tally):
                    append(columns)
                    count += len(columns["rank"])
                    bar.update(named)
    finally:
        if getattr(run.model, "reasoner", None) is not None:
            run.model.reasoner.store.close()
    return Recommended(
        asked.count + len(popular),
        count,
        asked.unknown_items,
        0 if popular else len(asked.without),
        asked.filtered,
        len(popular),
        0 if reasoner is None else reasoner.lacked,
        tally.values(),
    )


class Run(LoadedRun):
    """A finished run that can be asked for recommendations; what `rporec_recbole.load_run` gives."""

    def recommend(
        self,
        users: Sequence[str] | None = None,
        histories: Mapping[str, Sequence[str | int]] | None = None,
        k: int = 10,
        hide_seen: bool = True,
        *,
        split: str = ALL,
        skip_unknown: bool = False,
        fallback: str = "none",
        times: Mapping[str, Sequence[float]] | None = None,
    ) -> pd.DataFrame:
        """The best items of users, or of new histories, as `rporec recommend` writes them.

        Args:
            users: ids as in the data files; None means all of them, where no histories are given.
            histories: any name -> item ids, oldest first, in place of users of the run.
            k: items per user.
            hide_seen: leave out what a user has chosen before.
            split, skip_unknown, fallback: as for `recommend`.
            times: any name of `histories` -> when each of its items was chosen, counted as in the data files. A model that reads times
                (`time_buckets`) ranks without them from the order alone; others read none.

        Returns:
            `user_id`, `rank`, `item_id`, `score`, `title`; users in order, best items first.

        Raises:
            ConfigError: a user is unknown, an argument cannot be followed, or the model cannot do it.
            DatasetError: the histories cannot be used.
        """
        if users is not None and histories is not None:
            raise ConfigError("Users and histories are asked for at once. Give one of `users` and `histories`.")
        if isinstance(users, str):
            raise ConfigError(f"`users={users!r}` must be a list of user ids, such as [{users!r}].")
        if type(k) is not int or k < 1:
            raise ConfigError(f"`k={k!r}` must be a whole number of at least 1.")
        for name, value, allowed in (("split", split, (ALL, "test", "valid")), ("fallback", fallback, FALLBACKS)):
            if value not in allowed:
                raise ConfigError(f"`{name}={value!r}` must be one of {', '.join(allowed)}.")
        lenient, read = skip_unknown or fallback == "popular", None
        if histories is not None:
            check_reads_histories(self)
            read = histories_of(histories, _items(self), lenient, times)
        elif times is not None:
            raise ConfigError(
                "`times` are those of `histories`, and none are given. The run knows when its own users chose."
            )
        with hiding(self, split, hide_seen, read is not None):
            asked = _asked(self, None if users is None else [str(one) for one in users], read, split, lenient)
            popular = asked.without if fallback == "popular" else []
            tables = [pd.DataFrame(columns) for columns, _ in _tables(self, asked, popular, k)]
        return pd.concat(tables, ignore_index=True)


def load_run(path: str | Path, gpu: str | None = None, *, model: str | type | None = None, **places: str | None) -> Run:
    """Restores a finished run, which can be asked for recommendations too. Nothing is unpickled, and nothing in the folder changes.

    Args:
        path: the run folder.
        gpu, model, places: as for `runs.finished.load_run`.

    Raises:
        RPORecError: as there.
    """
    return Run(**vars(restored(path, gpu, model=model, **places)))


def _items(run: LoadedRun) -> Mapping[str, int]:
    return run.dataset.field2token_id[run.dataset.iid_field]


@contextlib.contextmanager
def hiding(run: LoadedRun, split: str, hide_seen: bool | None, new: bool) -> Iterator[None]:
    """Scores in this block leave out what a user has had, or do not.

    Args:
        run: the finished run; afterwards it is as it was.
        split: what is asked.
        hide_seen: as the user wants it; None: as `recommend` says.
        new: histories are asked, not a split.
    """
    before = run.config["hide_seen"]
    run.config["hide_seen"] = (before if split != ALL and not new else True) if hide_seen is None else hide_seen
    try:
        yield
    finally:
        run.config["hide_seen"] = before


def _asked(run: LoadedRun, users: Sequence[str] | None, read: Histories | None, split: str, lenient: bool) -> Asked:
    if read is not None:
        return users_with_histories(run, read)
    return users_of_data(run, users, lenient) if split == ALL else users_of_split(run, users, split, lenient)


def _tables(
    run: LoadedRun, asked: Asked, popular: Sequence[str], k: int, tally: Tally | None = None
) -> Iterator[tuple[Columns, int]]:
    """Columns of users in order, with the number of users; one empty table where there is nobody. The tally gets what stands in them.

    Raises:
        ConfigError: nothing can be ranked for any of those who were asked for.
    """
    if asked.without and not asked.count and not popular:
        raise ConfigError(
            f"Nothing can be ranked for any of the {len(asked.without):,} users: they are unknown, or none of their items is known. Nothing was "
            "written. --fallback=popular gives them the most popular items."
        )
    tokens = np.array(run.dataset.field2id_token[run.dataset.iid_field], dtype=object)
    titles = np.array(raw_titles(run), dtype=object)
    none = np.zeros(0, dtype=object)
    yield _columns(none, np.zeros((0, 1)), np.zeros((0, 1), dtype=int), tokens, titles), 0
    for names, scores in asked.parts:
        values, ids = _best(scores, k)
        if tally is not None:
            tally.add(np.where(values == -np.inf, 0, ids), np.zeros(len(ids), dtype=np.int64))
        yield _columns(names, values, ids, tokens, titles), len(names)
    best = _most_popular(run, k)
    size = max(1, 1 + (1 << 18) // k)
    for first in range(0, len(popular), size):
        names = np.array(popular[first : first + size], dtype=object)
        values, ids = np.full((len(names), len(best)), np.nan), np.tile(best, (len(names), 1))
        if tally is not None:
            tally.add(ids, np.zeros(len(ids), dtype=np.int64))
        yield _columns(names, values, ids, tokens, titles), 0


def _best(scores: Tensor, k: int) -> tuple[np.ndarray, np.ndarray]:
    values, ids = top_of(scores, min(k, scores.shape[1] - 1))
    return values.cpu().numpy(), ids.cpu().numpy()


def _most_popular(run: LoadedRun, k: int) -> np.ndarray:
    """Numbers of the items with the most interactions in the training part; of equal ones the first."""
    counts: Any = run.dataset.training_counts[run.dataset.iid_field]
    return 1 + np.argsort(-counts[1:], kind="stable")[:k]


def _columns(users: np.ndarray, values: np.ndarray, ids: np.ndarray, tokens: np.ndarray, titles: np.ndarray) -> Columns:
    rows, places = np.nonzero(values != -np.inf)  # what is hidden stands at the end
    chosen = ids[rows, places]
    return {
        "user_id": users[rows],
        "rank": places.astype(np.int32) + 1,
        "item_id": tokens[chosen],
        "score": values[rows, places].astype(np.float32),
        "title": titles[chosen],
    }
