"""What RecBole's evaluator saw: the rank of every evaluated target, and the best items of each list."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from recbole.config import Config
from recbole.evaluator import Collector
from recbole.utils import init_seed

from rporec_recbole.evaluation.comparable import mode_of
from rporec_recbole.evaluation.lists import TopLists, best_lists
from rporec_recbole.evaluation.ranking import ListRanks, list_ranks
from rporec_recbole.evaluation.ranks import rank_table
from rporec_recbole.host.rules import ks_of


class RankCollector(Collector):
    """RecBole's collector, which also keeps the rank of every evaluated target.

    Put it in place of `trainer.eval_collector` before `fit`. The metrics of RecBole's evaluator are made from the very ranks that it
    keeps, for every model alike, so the two cannot disagree: of equal scores RecBole itself takes those that come first in
    `torch.topk`, another one on another device; here they count against the model.

    Args:
        config: RecBole's config.
        dataset: maps ids back to tokens.
    """

    def __init__(self, config: Config, dataset: Any) -> None:
        super().__init__(config)
        self._dataset = dataset
        self._rows: list[tuple[Any, ...]] = []
        self._lists: list[TopLists] = []
        self.keeps_lists = False

    def eval_batch_collect(self, scores_tensor: Any, interaction: Any, positive_u: Any, positive_i: Any) -> None:
        """Collects one batch; see RecBole's `Collector`."""
        super().eval_batch_collect(scores_tensor, interaction, positive_u, positive_i)
        if positive_u is None or scores_tensor.dim() == 1:  # labels are predicted, and nothing is ranked
            return
        device = scores_tensor.device
        found = list_ranks(scores_tensor, positive_u.to(device), positive_i.to(device))
        if self.register.need("rec.topk"):
            self._put_in_order(found, len(scores_tensor))
        users = interaction[self._dataset.uid_field]
        if len(users) != len(scores_tensor):
            # A sampled evaluation: the candidates of a list stand one behind the other.
            users = torch.unique_consecutive(users)
        self._rows.append(tuple(one.cpu().numpy() for one in (users.to(device)[found.rows], *found[1:])))
        if self.keeps_lists:
            self._lists.append(best_lists(users, scores_tensor))

    def _put_in_order(self, found: ListRanks, lists: int) -> None:
        """Which of the best items are targets, `[B, K]`, and how many targets there are, in the place of what RecBole has just noted."""
        noted, k = self.data_struct.get("rec.topk")[-lists:], max(ks_of(self.topk))
        noted.zero_()
        seen = found.ranks <= k
        noted[found.rows[seen], found.ranks[seen] - 1] = 1
        noted[found.rows, k] = found.targets.to(noted.dtype)

    def take_lists(self) -> TopLists | None:
        """The best items of the lists ranked since the last call, if they were kept (`keeps_lists`)."""
        parts, self._lists = self._lists, []
        return TopLists(*(np.concatenate(one) for one in zip(*parts, strict=True))) if parts else None

    def take(self, split: str) -> pd.DataFrame:
        """The ranks collected since the last call, as a table (see `evaluation.ranks`)."""
        columns = (
            [np.concatenate(parts) for parts in zip(*self._rows, strict=True)]
            if self._rows
            else [np.zeros(0, dtype=np.int64)] * 5
        )
        self._rows = []
        users, items, ranks, places, targets = columns
        dataset = self._dataset
        uid, iid = dataset.uid_field, dataset.iid_field
        return rank_table(
            split,
            dataset.id2token(uid, users),
            dataset.id2token(iid, items),
            ranks,
            dataset.training_counts[uid][users],
            dataset.training_counts[iid][items],
            places,
            targets,
        )


def evaluated(
    trainer: Any, loader: Any, split: str, *, best: bool, lists: bool = False
) -> tuple[dict[str, float], pd.DataFrame]:
    """Evaluates a split: RecBole's metrics, and the ranks that they are made of.

    Chance begins at the run's seed each time, so that models which draw while they rank come back with the same ranks.

    Args:
        trainer: its collector is a `RankCollector`.
        loader: of the split.
        split: its name.
        best: bring back the weights of the best epoch first.
        lists: keep the best items of each list, for `take_lists` of the collector. Those of drawn candidates are nobody's lists, and not kept.
    """
    init_seed(trainer.config["seed"], trainer.config["reproducibility"])
    collector = trainer.eval_collector
    collector.keeps_lists = lists and mode_of(trainer.config["eval_args"], split) == "full"
    try:
        found = trainer.evaluate(loader, load_best_model=best, show_progress=False) or {}
    finally:
        collector.keeps_lists = False
    return {metric: float(value) for metric, value in found.items()}, collector.take(split)
