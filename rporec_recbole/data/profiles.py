"""The whole profile of a user: everything there is, the newest interaction too. What to recommend next is asked of it.

An evaluation keeps the newest interaction for itself, so its rows are one step behind.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction

from rporec_recbole.data.rows import lists_of
from rporec_recbole.data.seen import Pairs
from rporec_recbole.errors import ConfigError


class Profiles:
    """The users of a data set in the order of their numbers, each with all of its interactions.

    Args:
        dataset: the whole data set of a run, for a sequential model with its `timeline` (`data.seen`).
        length: the newest so many interactions stand in a history, `MAX_ITEM_LIST_LENGTH`; None for models that read none.

    Attributes:
        users: `[U]` numbers of the users.

    Raises:
        ConfigError: histories stand in the user's own files, row by row.
    """

    def __init__(self, dataset: Any, length: int | None) -> None:
        if length is not None and not hasattr(dataset, "timeline"):
            raise ConfigError(
                "With `benchmark_filename` a run knows histories as its files have them, row by row, and no whole profile. Ask with "
                "--split=test, or give the histories with --histories=FILE."
            )
        self._dataset, self._length = dataset, length
        rows = dataset.inter_feat if length is None else dataset.timeline
        owners, items = rows[dataset.uid_field].numpy(), rows[dataset.iid_field].numpy()
        order = np.argsort(owners, kind="stable")  # by time already, where there is a timeline
        self._items, owners = items[order], owners[order]
        self.users, self._starts = np.unique(owners, return_index=True)
        self._stops = np.append(self._starts[1:], len(owners)).astype(np.int64)

    def rows(self, chosen: np.ndarray) -> Interaction:
        """What a model reads of some users; nothing of a target is in it.

        Args:
            chosen: `[B]` places in `users`.

        Returns:
            the user's number and features; for a sequential model every column of its history, `[B, length]`, and its length.
        """
        dataset, columns = self._dataset, {self._dataset.uid_field: torch.from_numpy(self.users[chosen])}
        if self._length is not None:
            ends = torch.from_numpy(self._stops[chosen])
            lengths = torch.clamp(ends - torch.from_numpy(self._starts[chosen]), max=self._length)
            columns |= lists_of(dataset).of(ends, lengths)
            columns[dataset.item_list_length_field] = lengths
        return dataset.join(Interaction(columns))

    def had(self, chosen: np.ndarray) -> Pairs:
        """All items that some users have, as (rows, items).

        Args:
            chosen: `[B]` places in `users`.
        """
        items = [np.unique(self._items[self._starts[place] : self._stops[place]]) for place in chosen]
        rows = np.repeat(np.arange(len(chosen)), [len(one) for one in items])
        return torch.from_numpy(rows), torch.from_numpy(np.concatenate(items) if items else np.zeros(0, np.int64))
