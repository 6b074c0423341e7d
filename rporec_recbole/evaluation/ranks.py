"""One rank per evaluated row: the table from which every metric and every paired test derives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from rporec_recbole.errors import RunFolderError
from rporec_recbole.evaluation.ranking import hit_at, ndcg_at, reciprocal_rank_at

COLUMNS = ["split", "user_id", "item_id", "rank", "user_activity", "item_popularity"]
METRICS = {"ndcg": ndcg_at, "hit": hit_at, "mrr": reciprocal_rank_at}


def rank_table(
    split: str,
    users: Sequence[str],
    items: Sequence[str],
    ranks: Sequence[int] | np.ndarray,
    activity: Sequence[int] | np.ndarray,
    popularity: Sequence[int] | np.ndarray,
) -> pd.DataFrame:
    """One row per evaluated row.

    Args:
        split: `valid` or `test`.
        users: original tokens.
        items: original tokens of the targets.
        ranks: of the targets; 1 is best.
        activity: training interactions of each row's user.
        popularity: training interactions of each row's target; 0 is a cold item.
    """
    numbers = {"rank": ranks, "user_activity": activity, "item_popularity": popularity}
    table = pd.DataFrame(
        {
            "split": split,
            "user_id": list(users),
            "item_id": list(items),
            **{name: np.asarray(column, dtype=np.int64) for name, column in numbers.items()},
        }
    )
    return table[COLUMNS]


def metric_values(ranks: Sequence[int] | np.ndarray, metric: str) -> np.ndarray:
    """One metric, row by row.

    Args:
        ranks: 1 is best.
        metric: `ndcg@K`, `hit@K` or `mrr@K`.

    Raises:
        ValueError: the metric is of another kind.
    """
    name, _, k = metric.lower().partition("@")
    if name not in METRICS or not k.isdigit():
        raise ValueError(f"The metric {metric!r} must be one of {', '.join(f'{m}@K' for m in METRICS)}.")
    return METRICS[name](torch.tensor(np.asarray(ranks)), int(k)).numpy()


def read_ranks(run_dir: str | Path, split: str) -> pd.Series:
    """Ranks of one split of a run, indexed by (user_id, item_id), sorted.

    Raises:
        RunFolderError: the folder has no readable `ranks.parquet`.
    """
    return read_rows(run_dir, split)["rank"]


def read_rows(run_dir: str | Path, split: str) -> pd.DataFrame:
    """`rank`, `user_activity` and `item_popularity` of one split of a run, indexed by (user_id, item_id), sorted.

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
            f"{path} has no ranks at all: the evaluation of that run ranks no items. Name runs that rank them."
        )
    if not len(rows):
        raise RunFolderError(
            f"{path} has no ranks of the split `{split}`, only of {there}: trials of a search leave the test split out. Name runs that "
            "ranked it."
        )
    return rows
