"""One rank for each target of each ranked list: the table from which every metric and every paired test derives.

RecBole's general models rank one list a user, with all targets of the user in it, its sequential models one list for each target. So
a metric is first one of a list, in RecBole's definition, then of a user, who may have several lists.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from rporec_recbole.errors import RunFolderError

COLUMNS = ["split", "user_id", "item_id", "rank", "user_activity", "item_popularity"]
OF_LISTS = ["place", "targets"]
"""Further columns, where a user has several targets; without them each target has a list of its own."""
METRICS = ("ndcg", "hit", "mrr", "recall", "precision", "map")

Numbers = int | Sequence[int] | np.ndarray | pd.Series


def rank_table(
    split: str,
    users: Sequence[str],
    items: Sequence[str],
    ranks: Numbers,
    activity: Numbers,
    popularity: Numbers,
    places: Numbers = 1,
    targets: Numbers = 1,
) -> pd.DataFrame:
    """One row for each target of each list.

    Args:
        split: `valid` or `test`.
        users: original tokens.
        items: original tokens of the targets.
        ranks: of the targets; 1 is best.
        activity: training interactions of each row's user.
        popularity: training interactions of each row's target; 0 is a cold item.
        places: of each target among those of its list, see `ranking.ListRanks`.
        targets: how many its list has.
    """
    numbers = {
        "rank": ranks,
        "user_activity": activity,
        "item_popularity": popularity,
        "place": places,
        "targets": targets,
    }
    table = pd.DataFrame({"split": split, "user_id": list(users), "item_id": list(items)})
    for name, column in numbers.items():
        table[name] = np.broadcast_to(np.asarray(column, dtype=np.int64), len(table))
    return table[[*COLUMNS, *OF_LISTS] if not table["user_id"].is_unique else COLUMNS]


def together(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Tables of several splits as one; where one of them has `place` and `targets`, all have."""
    table = pd.concat(tables, ignore_index=True)
    return with_lists(table) if set(OF_LISTS) & set(table) else table


def with_lists(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of `rank_table`, or several such put together, with `place` and `targets` in any case."""
    return rows.assign(**{name: rows[name].fillna(1).astype(int) if name in rows else 1 for name in OF_LISTS})


def k_of(metric: str) -> int:
    """How many places a metric looks at.

    Args:
        metric: as for `metric_values`.

    Raises:
        ValueError: the metric is of another kind.
    """
    name, _, digits = metric.lower().partition("@")
    if name not in METRICS or not digits.isdigit() or int(digits) < 1:
        raise ValueError(f"The metric {metric!r} must be one of {', '.join(f'{m}@K' for m in METRICS)}.")
    return int(digits)


def metric_values(ranks: Numbers, metric: str, places: Numbers = 1, targets: Numbers = 1) -> np.ndarray:
    """What each target adds to the metric of its list; of a list with one target that is the metric itself.

    The definitions are those of RecBole's evaluator (`recbole/evaluator/metrics.py`).

    Args:
        ranks: 1 is best.
        metric: `ndcg@K`, `hit@K`, `mrr@K`, `recall@K`, `precision@K` or `map@K`.
        places: of each target among those of its list, best first.
        targets: how many its list has.

    Raises:
        ValueError: the metric is of another kind.
    """
    k, rank = k_of(metric), np.asarray(ranks, dtype=float)
    name = metric.lower().partition("@")[0]
    place, count = (np.broadcast_to(np.asarray(one), rank.shape) for one in (places, targets))
    possible = np.minimum(count, k)
    if name in ("hit", "mrr"):
        found = (place == 1) / (rank if name == "mrr" else 1.0)
    elif name == "ndcg":
        ideal = np.cumsum(1 / np.log2(np.arange(1, k + 1) + 1.0))
        found = 1 / np.log2(rank + 1) / ideal[possible - 1]
    elif name == "map":
        found = place / rank / possible
    else:
        found = 1.0 / (count if name == "recall" else np.full(rank.shape, k))
    return np.where(rank <= k, found, 0.0)


def user_values(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One metric, user by user; the mean weighted by `lists` is RecBole's value over all lists.

    Args:
        rows: as `with_lists` gives them; `user_id` is a column or a level of the index.
        metric: as for `metric_values`.

    Returns:
        `value`, the mean over the lists of a user, and `lists`, their number, indexed by `user_id`, sorted.
    """
    shares = metric_values(rows["rank"], metric, rows["place"], rows["targets"])
    found = (
        rows.assign(value=shares, lists=(rows["place"] == 1).to_numpy()).groupby("user_id")[["value", "lists"]].sum()
    )
    return found.assign(value=found["value"] / found["lists"])


def read_ranks(run_dir: str | Path, split: str) -> pd.Series:
    """Ranks of one split of a run, indexed by (user_id, item_id), sorted.

    Raises:
        RunFolderError: the folder has no readable `ranks.parquet`.
    """
    return read_rows(run_dir, split)["rank"]


def read_rows(run_dir: str | Path, split: str) -> pd.DataFrame:
    """The rows of one split of a run, indexed by (user_id, item_id), sorted.

    Raises:
        RunFolderError: the folder has no readable `ranks.parquet`, or that split is not in it.
    """
    path = Path(run_dir) / "ranks.parquet"
    try:
        table = pd.read_parquet(path)
        there = sorted(table["split"].unique())
        if not (table["rank"] >= 1).all():
            raise ValueError("a rank is none of at least 1")
        rows = table[table["split"] == split].drop(columns="split").set_index(["user_id", "item_id"]).sort_index()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunFolderError(f"{path} cannot be read ({error}). Name the folder of a finished run.") from error
    if not there:
        raise RunFolderError(
            f"{path} has no ranks at all: that run ranks no items, or was trained on everything (rporec fit). Name runs that rank them."
        )
    if not len(rows):
        raise RunFolderError(
            f"{path} has no ranks of the split `{split}`, only of {there}: trials of a search leave the test split out. Name runs that "
            "ranked it."
        )
    return rows
