"""One ranked list for each target of a split by time, for models that know users by number.

RecBole ranks all targets of a user in one list for these models, and a list for each target for sequential ones, so that the two kinds
cannot be compared. Behind a cut in time a user may have many targets, each with another past.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from logging import getLogger
from typing import Any

import numpy as np
import recbole.data.utils
import torch
from recbole.data.dataloader import FullSortEvalDataLoader
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.data.interaction import Interaction
from recbole.utils import ModelType

from rporec_recbole.data.cuts import cuts_in_time
from rporec_recbole.data.seen import items_before


class TargetLists(FullSortEvalDataLoader):
    """RecBole's loader for ranking all items, a row for each target: the user, and none of what the target's interaction holds.

    Args:
        config: RecBole's config.
        dataset: a part of a split by time, with its `timeline` and `places` (`data.time_split`).
        sampler: RecBole's; not needed here.
        shuffle: rows keep their order in any case.
    """

    def __init__(self, config: Any, dataset: Any, sampler: Any, shuffle: bool = False) -> None:
        self.logger = getLogger()
        self.uid_field, self.iid_field = dataset.uid_field, dataset.iid_field
        self.is_sequential = False
        self.sample_size = len(dataset)
        AbstractDataLoader.__init__(self, config, dataset, sampler, shuffle=False)

    def collate_fn(self, index: Any) -> Any:
        """Users, what is hidden, and targets of some rows; see RecBole's loader."""
        dataset, index = self._dataset, np.array(index)
        rows = dataset.inter_feat[index]
        users = dataset.join(Interaction({self.uid_field: rows[self.uid_field]}))
        hidden = None
        if self.config["hide_seen"]:
            owners, items = (dataset.timeline[field].numpy() for field in (self.uid_field, self.iid_field))
            hidden = items_before(owners, items, dataset.places[index])
        return users, hidden, torch.arange(len(index)), rows[self.iid_field]


def install() -> None:
    """Makes RecBole choose `TargetLists` for a split by time; called once, by `host.registration.register`."""
    recbole.data.utils.get_dataloader = _with_target_lists(recbole.data.utils.get_dataloader)


def _with_target_lists(choose: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(choose)
    def choose_for_split(config: Any, phase: Any) -> Any:
        found = choose(config, phase)
        by_row = found is FullSortEvalDataLoader and config["MODEL_TYPE"] != ModelType.SEQUENTIAL
        asked = cuts_in_time(config["eval_args"]) and config["benchmark_filename"] is None
        return TargetLists if by_row and asked else found

    return choose_for_split
