"""Rows of sequential models, each with the history before its target: written when a batch asks for them, not stored.

RecBole writes them all out before the training, one padded history for each interaction and each column: ml-1m at length 50 is a million rows
and .8 GB, and a loop in Python over all of them. A row here is where its history ends and how long it is.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from recbole.data.dataset import SequentialDataset
from recbole.data.interaction import Interaction
from torch import Tensor

from rporec_recbole.data.seen import PLACE


@dataclass(frozen=True)
class Lists:
    """What the lists of rows are cut from.

    Attributes:
        timeline: all interactions, sorted by user, then time.
        fields: name of a list -> the column of the timeline that it lists.
        lengths: name of the rows' column that holds how long their histories are.
        size: `MAX_ITEM_LIST_LENGTH`, slots of a list.
    """

    timeline: Interaction
    fields: dict[str, str]
    lengths: str
    size: int

    def of(self, ends: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """Every list of some rows, by name.

        Args:
            ends: `[B]` places in the timeline behind the last interaction of each history.
            lengths: `[B]` of the histories, `size` at most.
        """
        return {name: self.one(name, ends, lengths) for name in self.fields}

    def one(self, name: str, ends: Tensor, lengths: Tensor) -> Tensor:
        """One list of some rows, `[B, size]` (or `[B, size, ...]`, as the column is), padded on the right with 0."""
        steps = torch.arange(self.size)
        real = steps < lengths[:, None]
        values = self.timeline[self.fields[name]][torch.where(real, (ends - lengths)[:, None] + steps, 0)]
        mask = real.view(*real.shape, *([1] * (values.dim() - 2)))
        return torch.where(mask, values, torch.zeros_like(values))


def lists_of(dataset: Any) -> Lists:
    """The lists of a sequential data set that has its `timeline`: one for each column but the user's, under RecBole's names."""
    fields = {
        getattr(dataset, f"{field}_list_field"): field
        for field in dataset.timeline.columns
        if field != dataset.uid_field
    }
    return Lists(dataset.timeline, fields, dataset.item_list_length_field, dataset.max_item_list_len)


def slim_rows(dataset: Any) -> Interaction:
    """Sorts a data set into its `timeline` and returns a row for each interaction but a user's first: RecBole's rows without their lists.

    Args:
        dataset: RecBole's, as its `data_augmentation` finds it.
    """
    dataset.sort(by=[dataset.uid_field, dataset.time_field], ascending=True)
    dataset.timeline = dataset.inter_feat
    users = dataset.timeline[dataset.uid_field].numpy()
    starts = np.flatnonzero(np.r_[True, users[1:] != users[:-1]]) if len(users) else np.zeros(0, dtype=np.int64)
    position = np.arange(len(users)) - np.repeat(starts, np.diff(np.r_[starts, len(users)]))
    ends = np.flatnonzero(position > 0)
    rows = dataset.timeline[torch.from_numpy(ends)]
    lengths = torch.from_numpy(np.minimum(position[ends], dataset.max_item_list_len))
    rows.update(Interaction({dataset.item_list_length_field: lengths, PLACE: torch.from_numpy(ends)}))
    return rows


class Rows(Interaction):
    """Rows of a data set. A list that is asked for by its name is written for all of them, and kept; `written` gives some rows whole.

    Args:
        columns: name -> `[R, ...]`, among them `PLACE` and the lengths of the histories.
        lists: what their histories are cut from.
    """

    def __init__(self, columns: dict[str, Tensor], lists: Lists) -> None:
        super().__init__(columns)
        self.lists = lists

    @property
    def columns(self) -> list[str]:
        """Names of all columns, lists among them."""
        return list(dict.fromkeys([*self.interaction, *self.lists.fields]))

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __contains__(self, name: object) -> bool:
        return name in self.interaction or name in self.lists.fields

    def __getitem__(self, index: Any) -> Any:
        """A column by its name; some rows, still without lists, by anything that RecBole's takes; one row, whole, by its number."""
        if isinstance(index, (int, np.integer)):
            return self[[index]].written()[0]
        if not isinstance(index, str):
            if not isinstance(index, (slice, Tensor)):
                index = np.asarray(index)
                index = torch.from_numpy(index if index.size else index.astype(np.int64))
            return Rows({name: column[index] for name, column in self.interaction.items()}, self.lists)
        if index not in self.interaction and index in self.lists.fields:
            self.interaction[index] = self._list(index)
        return self.interaction[index]

    def __getattr__(self, name: str) -> Any:
        if "lists" in self.__dict__ and name in self:
            return self[name]
        raise AttributeError(f"'Interaction' object has no attribute '{name}'")

    def _list(self, name: str) -> Tensor:
        return self.lists.one(name, self.interaction[PLACE], self.interaction[self.lists.lengths])

    def written(self) -> Interaction:
        """The same rows as RecBole stores them, with every list; these are not kept."""
        lists = {name: self._list(name) for name in self.lists.fields if name not in self.interaction}
        return Interaction({**self.interaction, **lists})

    def __delitem__(self, name: str) -> None:
        if name not in self:
            raise KeyError(name)
        self.drop(name)

    def drop(self, column: str) -> None:
        """Takes a column out, a list too."""
        if column in self.lists.fields:
            left = {name: field for name, field in self.lists.fields.items() if name != column}
            self.lists = replace(self.lists, fields=left)
            self.interaction.pop(column, None)
        else:
            super().drop(column)

    def to(self, device: Any, selected_field: Any = None) -> Interaction:
        """As RecBole's, with every list; so are the methods below."""
        return self.written().to(device, selected_field)

    def cpu(self) -> Interaction:
        return self.written().cpu()

    def numpy(self) -> dict[str, np.ndarray]:
        return self.written().numpy()

    def repeat(self, sizes: int) -> Interaction:
        return self.written().repeat(sizes)

    def repeat_interleave(self, repeats: Any, dim: int = 0) -> Interaction:
        return self.written().repeat_interleave(repeats, dim)


class RowsDataset(SequentialDataset):
    """RecBole's sequential data set, whose rows are written when they are asked for; every row and every number is RecBole's."""

    inter_feat: Any
    timeline: Interaction

    def data_augmentation(self) -> None:
        """A row for each interaction but a user's first, lists left for later."""
        self._aug_presets()
        self._check_field("uid_field", "time_field")
        rows = slim_rows(self)
        self.inter_feat = Rows(rows.interaction, lists_of(self))

    def __getitem__(self, index: Any, join: bool = True) -> Any:
        """Rows with their lists. Arguments as RecBole's."""
        rows = self.inter_feat[index]
        rows = rows.written() if isinstance(rows, Rows) else rows
        return self.join(rows) if join else rows

    def inter_matrix(self, form: str = "coo", value_field: str | None = None) -> Any:
        """As RecBole's, which reads lists of whole tables."""
        whole = copy.copy(self)
        whole.inter_feat = self.inter_feat.written()
        return SequentialDataset.inter_matrix(whole, form, value_field)
