"""One rank per evaluated row: the table from which every metric and every paired test derives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from rporec_recbole.errors import RunFolderError
from rporec_recbole.ranking import hit_at, ndcg_at, reciprocal_rank_at

COLUMNS = ["split", "user_id", "item_id", "rank"]
METRICS = {"ndcg": ndcg_at, "hit": hit_at, "mrr": reciprocal_rank_at}


def rank_table(
    split: str, users: Sequence[str], items: Sequence[str], ranks: Sequence[int] | np.ndarray
) -> pd.DataFrame:
    """A table with the columns `split`, `user_id`, `item_id` (original tokens) and `rank` (1 is best)."""
    table = pd.DataFrame(
        {"split": split, "user_id": list(users), "item_id": list(items), "rank": np.asarray(ranks, dtype=np.int64)}
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
    path = Path(run_dir) / "ranks.parquet"
    try:
        table = pd.read_parquet(path)
        return table[table["split"] == split].set_index(["user_id", "item_id"])["rank"].sort_index()
    except (OSError, ValueError, KeyError) as error:
        raise RunFolderError(f"{path} cannot be read ({error}). Name the folder of a finished run.") from error
