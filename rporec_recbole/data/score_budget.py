"""How many rows are scored at once: a budget of scores, so that the memory of an evaluation does not grow with the catalogue.

RecBole scores `eval_batch_size` rows of a sequential model at once, whatever the catalogue: 4,096 rows of 96,000 items are 1.6 GB a copy.
Ranks and metrics are of each row by itself, so fewer rows at once change none.
"""

from __future__ import annotations

import functools
from typing import Any

from recbole.data.dataloader import FullSortEvalDataLoader, NegSampleEvalDataLoader
from recbole.model.abstract_recommender import AbstractRecommender

SCORES_AT_ONCE = 2**24
"""64 MB in single precision; an evaluation holds a few copies of it. More at once is no faster."""


def rows_at_once(wanted: int, scores: int) -> int:
    """How many rows are scored at once, at least one.

    Args:
        wanted: at most.
        scores: of a row: the items, or whatever numbers the row needs.
    """
    return max(1, min(wanted, SCORES_AT_ONCE // max(1, scores)))


def install() -> None:
    """Keeps RecBole's evaluation loaders within the budget; called once, by `host.registration.register`."""
    for loader in (FullSortEvalDataLoader, NegSampleEvalDataLoader):
        loader._init_batch_size_and_step = _within_budget(loader._init_batch_size_and_step)


def _within_budget(size: Any) -> Any:
    @functools.wraps(size)
    def size_within_budget(self: Any) -> None:
        size(self)
        self.step = rows_at_once(self.step, self._dataset.item_num * _numbers(self))

    return size_within_budget


def _numbers(loader: Any) -> int:
    """How many numbers a score needs: one, or a whole row where a model scores pairs alone and RecBole writes each row out for each item."""
    if loader.config.model_class.full_sort_predict is not AbstractRecommender.full_sort_predict:
        return 1
    tables = (loader._dataset.inter_feat, loader._dataset.item_feat)
    rows = [table[[0]] for table in tables if table is not None and len(table)]
    return sum(row[name][0].numel() for row in rows for name in row.columns)
