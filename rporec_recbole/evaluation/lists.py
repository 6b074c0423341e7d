"""The best items of every evaluated user, kept in a run as `lists.parquet`: what is measured of lists afterwards is made of them.

user_id, rank (1 is best), item_id, score; where a user has several lists also `list`, the number of the user's list, in the order in which
`ranks.parquet` has them. Of equal scores the item that the data set names first stands first; a rank in `ranks.parquet` counts ties against
the model, so it may be larger. What is hidden or no candidate stands in no list. While a split is evaluated they take 160 bytes a list.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from rporec_recbole.errors import RunFolderError
from rporec_recbole.evaluation.beyond import DEPTH
from rporec_recbole.evaluation.ranking import top_of

FILE = "lists.parquet"
_PARTS = 8  # of a batch of scores, so that to sort one takes no more memory than to score did
_COLUMNS = ["user_id", "rank", "item_id", "score"]


class TopLists(NamedTuple):
    """The best items of L lists.

    Attributes:
        owners: `[L]` numbers of the users.
        ids: `[L, K]` numbers of the items, best first; 0, the padding item, behind the end of a list.
        scores: `[L, K]` float32.
    """

    owners: np.ndarray
    ids: np.ndarray
    scores: np.ndarray


def best_lists(owners: Tensor, scores: Tensor) -> TopLists:
    """The best items of a batch of lists, a part of it at a time: where many scores tie, a part is sorted whole.

    Args:
        owners: `[B]` numbers of the users.
        scores: `[B, N]`; what stands at `-inf` is in no list.
    """
    kept = []
    for part in scores.split(max(1, -(-len(scores) // _PARTS))):
        best, ids = top_of(part, min(DEPTH, scores.shape[1] - 1))
        ids = ids.masked_fill(best == -torch.inf, 0)
        kept.append((ids.to(torch.int32).cpu().numpy(), best.to(torch.float32).cpu().numpy()))
    return TopLists(owners.cpu().numpy(), *(np.concatenate(one) for one in zip(*kept, strict=True)))


def lists_table(lists: TopLists, users: np.ndarray, items: np.ndarray) -> pd.DataFrame:
    """One row for each place of each list, in the order of evaluation.

    Args:
        lists: L of them.
        users: original tokens of the users, by number.
        items: original tokens of the items, by number.
    """
    rows, places = np.nonzero(lists.ids > 0)
    table = pd.DataFrame(
        {
            # Tokens are few: taken from columns of text, they need no Python object for each row.
            "user_id": _tokens(users).iloc[lists.owners[rows]].array,
            "rank": places.astype(np.int32) + 1,
            "item_id": _tokens(items).iloc[lists.ids[rows, places]].array,
            "score": lists.scores[rows, places],
        }
    )
    if len(np.unique(lists.owners)) < len(lists.owners):
        number = pd.Series(lists.owners).groupby(lists.owners).cumcount().to_numpy() + 1
        table.insert(1, "list", number[rows].astype(np.int32))
    return table


def _tokens(names: np.ndarray) -> pd.Series:
    return pd.Series(np.asarray(names, dtype=object), dtype="str")


def read_lists(run_dir: str | Path) -> pd.DataFrame | None:
    """What `lists_table` gave for a run; None where it has none: an older version made it, or it ranked samples.

    Raises:
        RunFolderError: the file is damaged.
    """
    path = Path(run_dir) / FILE
    if not path.exists():
        return None
    try:
        table = pd.read_parquet(path)
        if gone := [name for name in _COLUMNS if name not in table]:
            raise ValueError(f"it lacks the columns {gone}")
    except (OSError, ValueError, TypeError) as error:
        raise RunFolderError(
            f"{path} cannot be read ({error}). Bring the old file back, or delete it: the run can be compared without."
        ) from error
    return table


def as_matrix(table: pd.DataFrame, users: pd.Index, items: pd.Index) -> tuple[np.ndarray, np.ndarray]:
    """Lists as numbers: owners `[L]` and ids `[L, K]`, 0 behind the end of a list.

    Args:
        table: as `lists_table` gives it.
        users: tokens, by number; unknown ones count as number 0, padding.
        items: tokens, likewise.
    """
    keys = ["user_id", "list"] if "list" in table else ["user_id"]
    groups = table.groupby(keys, sort=False, observed=True)
    number, ranks = groups.ngroup().to_numpy(), table["rank"].to_numpy()
    ids = np.zeros((int(number.max(initial=-1)) + 1, int(ranks.max(initial=0))), dtype=np.int64)
    ids[number, ranks - 1] = np.maximum(items.get_indexer(pd.Index(table["item_id"])), 0)
    first = np.unique(number, return_index=True)[1]
    return np.maximum(users.get_indexer(pd.Index(table["user_id"].iloc[first])), 0), ids
