"""Scores of a finished run, made by the very method that its evaluation uses, for rows of a split and for other histories."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rporec_recbole.errors import ConfigError, RunFolderError
from rporec_recbole.evaluation.comparable import mode_of
from rporec_recbole.host.bridge import build_trainer
from rporec_recbole.runs.finished import LoadedRun
from rporec_recbole.runs.folder import logging_to

Batch = tuple[Any, Any, Tensor, Tensor]
"""What RecBole's loader hands out: `Interaction` of B rows, `(rows, items)` to hide or None, `[P]` rows and `[P]` targets."""


class Scorer:
    """Scores rows of a run as RecBole's trainer does for its evaluator; nothing is kept between batches.

    Args:
        run: the finished run.
    """

    def __init__(self, run: LoadedRun) -> None:
        self.run = run
        with logging_to(None):
            self._trainer = build_trainer(run.config, run.model)
            self._trainer.tensorboard.close()
        shutil.rmtree(run.config["checkpoint_dir"], ignore_errors=True)
        self._trainer.tot_item_num = run.dataset.item_num
        self._trainer.item_tensor = run.loaders["test"].dataset.get_item_feature().to(run.config["device"])

    def users(self, split: str) -> np.ndarray:
        """User id of every row that the evaluation of a split ranks, in its order.

        Raises:
            ConfigError: the run ranks sampled candidates, or no items at all.
        """
        mode = mode_of(self.run.config["eval_args"], split)
        if mode != "full":
            raise ConfigError(
                f"{self.run.run_dir} was evaluated with the mode `{mode}`, which does not rank all items. Only runs with the mode "
                "`full` of eval_args can be used here."
            )
        if self.run.config["fitted_from"]:
            raise ConfigError(
                f"{self.run.run_dir} was fitted on everything (rporec fit), so its {split} split is empty. Ask for whole profiles (`recommend`), or ask "
                f"the run that it came from: {self.run.config['fitted_from']}."
            )
        loader = self.run.loaders[split]
        rows = loader.uid_list if hasattr(loader, "uid_list") else loader.dataset.inter_feat[loader.uid_field]
        return rows.numpy()

    def last_rows(self, split: str) -> dict[int, int]:
        """User id -> number of the last row of that user, in the order of `users`.

        Raises:
            ConfigError: as `users`.
        """
        return {int(owner): row for row, owner in enumerate(self.users(split))}

    def batches(self, split: str, wanted: np.ndarray) -> Iterator[tuple[np.ndarray, Batch]]:
        """Batches of a split that hold wanted rows, whole: a score depends in its last bits on the batch that it is made in.

        Args:
            split: `valid` or `test`.
            wanted: numbers of rows, in the order of `users`.

        Yields:
            the wanted rows' places in the batch, and the batch.
        """
        chosen = np.zeros(len(self.users(split)), dtype=bool)
        chosen[wanted] = True
        first = 0
        for batch in self.run.loaders[split]:
            places = np.flatnonzero(chosen[first : first + len(batch[0])])
            first += len(batch[0])
            if len(places):
                yield places, batch

    @torch.no_grad()
    def scores(self, rows: Any, hidden: Any) -> Tensor:
        """Scores of all items, `[B, N]`; the padding item and what is hidden score `-inf`.

        Args:
            rows: RecBole `Interaction` of B rows.
            hidden: `(rows, items)`, or None.

        Raises:
            RunFolderError: a score is no finite number.
        """
        scores = self._trainer._full_sort_batch_eval((rows, hidden, None, None))[1]
        if not bool((scores < torch.inf).all()):
            raise RunFolderError(
                f"The model in {self.run.run_dir} gives scores that are no finite numbers, so nothing can be ranked. Train it again."
            )
        return scores
