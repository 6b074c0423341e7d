"""`hide_seen`: which items of a user's past the evaluation leaves out of the ranking, for every model alike.

RecBole itself hides them for general models and ranks them for sequential ones, so that the two kinds cannot be
compared. Here one setting decides for both. The past is the user's whole past, longer than the history that a model
may see; the target itself always stays in the ranking.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from recbole.data.dataloader import FullSortEvalDataLoader
from recbole.data.dataset import DIENDataset, SequentialDataset
from recbole.data.interaction import Interaction
from torch import Tensor

PLACE = "_place"
"""Column of a sequential data set's rows: where the target stands in its `timeline`."""

Pairs = tuple[Tensor, Tensor]
"""(rows of the batch, item ids), the form in which RecBole's trainer sets scores to `-inf`."""

_NOTHING: Pairs = (torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))


def past_items(dataset: Any, rows: Any) -> Pairs:
    """Everything that stands before the target of each row, the target's own item left out.

    Args:
        dataset: a sequential data set with a `timeline`: an `Interaction` of all interactions, sorted by user, then time.
        rows: RecBole `Interaction` of `B` rows of this data set.
    """
    users, items = (dataset.timeline[field].numpy() for field in (dataset.uid_field, dataset.iid_field))
    return items_before(users, items, rows[PLACE].numpy())


def items_before(users: np.ndarray, items: np.ndarray, ends: np.ndarray) -> Pairs:
    """Everything that a user has before given places of the timeline, the item at the place itself left out.

    Args:
        users: user of each interaction, sorted.
        items: item of each interaction, by time for each user.
        ends: `[B]` indices into both: the targets.
    """
    batch, past = [], []
    for row, (start, end) in enumerate(zip(np.searchsorted(users, users[ends], side="left"), ends, strict=True)):
        seen = np.unique(items[start:end])
        seen = seen[seen != items[end]]
        past.append(seen)
        batch.append(np.full(len(seen), row))
    if not past:
        return _NOTHING
    return torch.from_numpy(np.concatenate(batch)), torch.from_numpy(np.concatenate(past))


def install() -> None:
    """Teaches RecBole's full-sort loader the setting `hide_seen`; called once, by `host.registration.register`."""
    collate = FullSortEvalDataLoader.collate_fn
    for kind in (SequentialDataset, DIENDataset):  # the second has an augmentation of its own
        kind.data_augmentation = _keeping_timeline(kind.data_augmentation)

    @functools.wraps(collate)
    def collate_with_past(self: Any, index: Any) -> Any:
        batch, used, rows, targets = collate(self, index)
        if not self.config["hide_seen"]:
            return batch, None, rows, targets
        if not self.is_sequential:
            return batch, used, rows, targets
        dataset = self._dataset
        if hasattr(dataset, "timeline"):
            hidden = past_items(dataset, dataset.inter_feat[np.array(index)])
        else:  # `benchmark_filename`: the lists of the file are all there is
            hidden = _listed_items(batch[dataset.iid_field + dataset.config["LIST_SUFFIX"]], targets)
        return batch, hidden, rows, targets

    FullSortEvalDataLoader.collate_fn = collate_with_past


def _keeping_timeline(augment: Callable[[Any], None]) -> Callable[[Any], None]:
    @functools.wraps(augment)
    def augment_and_keep(self: Any) -> None:
        self.sort(by=[self.uid_field, self.time_field], ascending=True)
        self.timeline = self.inter_feat
        augment(self)
        users = self.timeline[self.uid_field].numpy()
        places = np.flatnonzero(users[1:] == users[:-1]) + 1  # every interaction but a user's first is a target
        self.inter_feat.update(Interaction({PLACE: torch.from_numpy(places)}))

    return augment_and_keep


def _listed_items(histories: Tensor, targets: Tensor) -> Pairs:
    rows, steps = ((histories != 0) & (histories != targets[:, None])).nonzero(as_tuple=True)
    return rows, histories[rows, steps]
