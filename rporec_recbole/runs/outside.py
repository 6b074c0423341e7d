"""Lists of another system among runs: read, checked, and ranked as every model here is.

Only candidates are ranked, and where the runs hide what a user has seen, so it is here: such rows are taken out and the others move up, which
is what happens to the scores of a model. A target that stands in no list has the rank `BEYOND`, which no k reaches. Of equal scores the target
stands last. What was found is counted in `Checked`; what would make another number than the one that was meant is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rporec_recbole.errors import ConfigError, DatasetError
from rporec_recbole.evaluation.comparable import Run
from rporec_recbole.tables.reading import open_table
from rporec_recbole.tables.table import as_texts

BEYOND = 1 << 40
_USERS, _ITEMS = ("user_id", "user"), ("item_id", "item")
_NAMED = 3  # examples in a message


@dataclass(frozen=True)
class Checked:
    """What was found in the lists of another system.

    Attributes:
        name: of the system.
        file: that they were read from.
        rows: of the file.
        lists: of users whom the runs ranked.
        missing_users: whom the runs ranked and who have no list; their targets count as not found.
        unknown_users: who have a list and were ranked by no run; left out.
        outside_candidates: rows whose item is no candidate; taken out.
        seen_items: rows whose item the user has had, where the runs hide these; taken out.
        lists_with_ties: in which two scores, or two ranks, are equal.
        tied_targets: targets that stand beside others of the same score, and so behind them.
        shortest: items of the shortest list that is left.
        short_lists: with fewer items than the largest k, though more could be ranked; metrics at that k see nothing behind their end.
        deepest: the largest k.
    """

    name: str
    file: str
    rows: int
    lists: int
    missing_users: int
    unknown_users: int
    outside_candidates: int
    seen_items: int
    lists_with_ties: int
    tied_targets: int
    shortest: int
    short_lists: int
    deepest: int

    def said(self) -> list[str]:
        """What a reader of the numbers has to know, a sentence each."""
        found = [f"{self.lists:,} lists of {self.name} are ranked, read from {self.file} ({self.rows:,} rows)."]
        for count, what in (
            (self.missing_users, "users have no list: their targets count as not found (0)."),
            (self.unknown_users, "users of the file were ranked by no run: left out."),
            (self.outside_candidates, "rows name an item that is no candidate: taken out, the others move up."),
            (self.seen_items, "rows name an item that the user has had, which the runs hide: taken out likewise."),
            (self.lists_with_ties, "lists have ties: the target stands behind what ties with it."),
            (self.tied_targets, "targets are tied."),
            (
                self.short_lists,
                f"lists are shorter than {self.deepest} (the shortest has {self.shortest}): behind its end nothing is found, so values at a k above a "
                "list's length may be too low for this system.",
            ),
        ):
            if count:
                found.append(f"{count:,} {what}")
        return found


def outside_run(
    name: str, path: str | Path, like: Run, candidates: pd.Index, seen: pd.MultiIndex | None, deepest: int
) -> tuple[Run, Checked, pd.DataFrame]:
    """The lists of a file as a run that can be compared.

    Args:
        name: of the system.
        path: a table of users, items, and scores or ranks; of any kind that `tables` reads.
        like: a run that ranked all candidates, one list a user.
        candidates: tokens of the items that are ranked.
        seen: (user, item) that are hidden; None where nothing is.
        deepest: the largest k that is asked for.

    Returns:
        the run, what was found, and the lists as `evaluation.lists.lists_table` has them.

    Raises:
        DatasetError: the file cannot be read, or would give other numbers than those that were meant.
        ConfigError: the runs rank something that such a list cannot be held against.
    """
    refuse_runs(name, like)
    table = _read(path)
    rows, asked = len(table), like.rows.index.get_level_values("user_id").unique()
    known = table["user_id"].isin(asked)
    if not known.any():
        raise DatasetError(
            f"None of the {table['user_id'].nunique():,} users of {path} was ranked by {like.folder}: the file has {_some(table['user_id'])}, the run "
            f"{_some(asked)}. Users and items are named as in the data files; `rporec split` writes them."
        )
    unknown = table.loc[~known, "user_id"].nunique()
    table = table[known]
    there = table["item_id"].isin(candidates)
    if there.mean() < 0.5:
        raise DatasetError(
            f"{(~there).mean():.0%} of the items in {path} are no candidates of {like.folder}: the file has {_some(table.loc[~there, 'item_id'])}, the "
            f"candidates are {_some(candidates)}. Items are named as in the data files; `rporec split` writes them."
        )
    table, outside = table[there], int((~there).sum())
    had = np.zeros(len(table), dtype=bool)
    if seen is not None:
        had = pd.MultiIndex.from_frame(table[["user_id", "item_id"]]).isin(seen)
        table = table[~had]
    lists = _in_order(table)
    ranked, tied = _ranks(lists, like.rows)
    lengths = lists.groupby("user_id").size()
    left = pd.Series(len(candidates), lengths.index)  # a list with all that could be ranked is not short
    if seen is not None:
        left = left.sub(seen.get_level_values(0).value_counts(), fill_value=0).reindex(lengths.index)
    checked = Checked(
        name=name,
        file=str(path),
        rows=rows,
        lists=len(lengths),
        missing_users=len(asked) - len(lengths),
        unknown_users=unknown,
        outside_candidates=outside,
        seen_items=int(had.sum()),
        lists_with_ties=int(lists.loc[lists["tied"], "user_id"].nunique()),
        tied_targets=tied,
        shortest=int(lengths.min()) if len(lengths) else 0,
        short_lists=int((lengths < left.clip(upper=deepest)).sum()),
        deepest=deepest,
    )
    facts = {
        **{key: like.facts[key] for key in ("dataset", "candidates", "hide_seen")},
        "model": name,
        "seed": None,
        "parameters": None,
        "stages": {},
    }
    return Run(Path(path), facts, like.config, ranked, None), checked, lists.drop(columns=["value", "tied"])


def refuse_runs(name: str, like: Run) -> None:
    """Refuses runs that no list of another system can be held against; nothing is read for that.

    Args:
        name: of the system.
        like: one of the runs.

    Raises:
        ConfigError: says why.
    """
    if like.samples is not None:
        raise ConfigError(
            f"{like.folder} ranked samples of items, a draw for each target, and {name} was not asked to rank these. Compare lists with runs of the "
            "mode `full` of eval_args."
        )
    rows = like.rows[like.rows["place"] == 1]
    if rows.index.get_level_values("user_id").has_duplicates:
        raise ConfigError(
            f"{like.folder} ranked several lists of a user, one for each target, each with another history, and a file has one list a user. Compare "
            "lists with runs of one list a user: eval_args.split={LS: valid_and_test}, or `targets: first` of a split by time."
        )


def _read(path: str | Path) -> pd.DataFrame:
    """Columns user_id, item_id and value, where more is better."""
    opened = open_table(path)
    user, item = (_column(path, opened.columns, names) for names in (_USERS, _ITEMS))
    score, rank = ("score" in opened.columns, "rank" in opened.columns)
    if not score and not rank:
        raise DatasetError(
            f"{path} has the columns {', '.join(opened.columns)}, and neither `score` (more is better) nor `rank` (1 is best). Add one of them."
        )
    wanted = [user, item, *(["score"] if score else []), *(["rank"] if rank else [])]
    parts = []
    for batch in opened.batches(wanted):
        texts = {column: pd.Series(as_texts(batch[column]).to_pandas(), dtype="str") for column in wanted}
        parts.append(pd.DataFrame(texts))
    table = pd.concat(parts, ignore_index=True).rename(columns={user: "user_id", item: "item_id"})
    table = table.where(table != "")  # a text file has an empty text where Parquet has nothing
    if opened.torn.count:
        raise DatasetError(f"{path}: {opened.torn.count:,} rows cannot be read ({opened.torn.examples[0]}).")
    for column in ("user_id", "item_id"):
        if (gaps := int(table[column].isna().sum())) > 0:
            raise DatasetError(f"{path}: {gaps:,} rows have no {column}. Fill them or leave these rows out.")
    numbers = {one: _numbers(path, table, one) for one in ("score", "rank") if one in table}
    table = table[["user_id", "item_id"]].assign(value=numbers["score"] if score else -numbers["rank"])
    twice = table.duplicated(["user_id", "item_id"])
    if twice.any():
        first = table[twice].iloc[0]
        raise DatasetError(
            f"{path} has {int(twice.sum()):,} rows whose item stands in the user's list already, such as {first['item_id']} of user "
            f"{first['user_id']}: one item has one place. Leave the others out."
        )
    if score and rank:
        _refuse_contradictions(path, table.assign(rank=numbers["rank"]))
    return table


def _column(path: str | Path, columns: Sequence[str], names: Sequence[str]) -> str:
    found = next((name for name in names if name in columns), None)
    if found is None:
        raise DatasetError(
            f"{path} has the columns {', '.join(columns)}, and no `{names[0]}`. A file of lists has user_id, item_id, and score or rank."
        )
    return found


def _numbers(path: str | Path, table: pd.DataFrame, column: str) -> pd.Series:
    numbers = pd.to_numeric(table[column], errors="coerce").astype(float)
    bad = ~np.isfinite(numbers)
    if bad.any():
        shown = table.loc[bad, column].fillna("nothing")
        raise DatasetError(
            f"{path}: {int(bad.sum()):,} rows have no number as {column}, such as {_some(shown)}. Each row needs one."
        )
    return numbers


def _refuse_contradictions(path: str | Path, table: pd.DataFrame) -> None:
    ordered = table.sort_values(["user_id", "rank"], kind="stable")
    same = ordered["user_id"].eq(ordered["user_id"].shift())
    worse = same & (ordered["value"] > ordered["value"].shift()) & (ordered["rank"] > ordered["rank"].shift())
    if worse.any():
        raise DatasetError(
            f"{path}: rank and score contradict each other for {ordered.loc[worse, 'user_id'].nunique():,} users, such as "
            f"{ordered.loc[worse, 'user_id'].iloc[0]}: an item of a worse rank has a higher score. A higher score is better, rank 1 is best; leave one of "
            "the columns out."
        )


def _in_order(table: pd.DataFrame) -> pd.DataFrame:
    """Lists with `rank`, 1 to their length, best first, and whether a row is `tied` with another one."""
    lists = table.sort_values("value", ascending=False, kind="stable").sort_values("user_id", kind="stable")
    return lists.assign(
        rank=lists.groupby("user_id").cumcount() + 1, tied=lists.duplicated(["user_id", "value"], keep=False)
    )


def _ranks(lists: pd.DataFrame, wanted: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """The rows of a run with the ranks of its targets in other lists, and how many of these tie with another item."""
    # Of equal values each has the worst place among them.
    worst = lists.groupby(["user_id", "value"])["rank"].transform("max")
    places = lists.assign(rank=worst).set_index(["user_id", "item_id"])
    own = places.reindex(wanted.index)
    rows = wanted.assign(rank=own["rank"].fillna(BEYOND).astype(np.int64).to_numpy())
    ordered = rows.reset_index().sort_values(["user_id", "rank"], kind="stable")
    # As in `ranking.list_ranks`: targets that tie stand last, one behind the other.
    again = ordered.groupby(["user_id", "rank"]).cumcount(ascending=False)
    ordered["rank"] = np.where(ordered["rank"] < BEYOND, ordered["rank"] - again, BEYOND)
    ordered["place"] = ordered.groupby("user_id").cumcount() + 1
    return ordered.set_index(["user_id", "item_id"]).sort_index(), int(own["tied"].fillna(False).astype(bool).sum())


def _some(names: Any) -> str:
    return ", ".join(f"`{one}`" for one in list(dict.fromkeys(names))[:_NAMED])
