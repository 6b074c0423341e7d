"""A split by time for every model: both cuts are moments, the same for all users, in the file's own precision.

What happened before the first cut is training, and nothing else teaches anything. A target of validation or test is an interaction behind
its cut that has something of its user before it: a sequential model could say nothing about a user's very first one, so no model is asked.
Each target has a list of its own, for models that know users by number too (`data/target_lists.py`), and stands behind everything that its
user had before, whichever part that lies in. Users and items that the training never met stay: a user's vector, or an item's, is then what
the model makes of nothing, for all models alike, and the run counts such targets.

RecBole's own `TS` has one such cut, for test alone. Its place is taken by what stands here.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from recbole.data.dataset import Dataset
from recbole.sampler import RepeatableSampler, Sampler

from rporec_recbole.data.cuts import cut_times, cuts_in_time, parts_of
from rporec_recbole.data.seen import PLACE
from rporec_recbole.tables.times import date_of, unit_of

SPLITS = ("valid", "test")
_AT_ONCE = 0.5  # share of users who begin at the earliest time of all: no clock has so many


@dataclass(frozen=True)
class TimeSplit:
    """How a data set was cut.

    Attributes:
        cuts: the first times of validation and of test, in the units of the file.
        unit: what they count since 1970; None for plain numbers.
        users, items, parts: `[I]` of all interactions, by user, then time; parts are 0 (training), 1 (validation) and 2 (test).
        places: split -> the targets, as indices into these.
    """

    cuts: tuple[float, float]
    unit: str | None
    users: np.ndarray
    items: np.ndarray
    parts: np.ndarray
    places: dict[str, np.ndarray]

    def training(self) -> tuple[np.ndarray, np.ndarray]:
        """Users and items of all that teaches."""
        there = self.parts == 0
        return self.users[there], self.items[there]

    def until(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Users and items of all that happened up to the end of a split."""
        there = self.parts <= 1 + SPLITS.index(split)
        return self.users[there], self.items[there]

    def dates(self) -> list[str]:
        """The cuts as dates."""
        return [date_of(cut, self.unit) for cut in self.cuts]

    def facts(self) -> dict[str, Any]:
        """What `metrics.json` keeps: the cuts, and what each part has."""
        users, items = self.training()
        found: dict[str, Any] = {"cuts": self.dates(), "times": list(self.cuts)}
        found["train"] = {"interactions": len(users), "users": len(np.unique(users)), "items": len(np.unique(items))}
        for number, split in enumerate(SPLITS, start=1):
            places = self.places[split]
            found[split] = {
                "interactions": int((self.parts == number).sum()),
                "targets": len(places),
                "users": len(np.unique(self.users[places])),
                "of_new_users": int((~np.isin(self.users[places], users)).sum()),
                "of_new_items": int((~np.isin(self.items[places], items)).sum()),
            }
        return found


def install() -> None:
    """Puts this split in the place of RecBole's `TS`; called once, by `host.registration.register`."""
    Dataset._normalize = _keeping_times(Dataset._normalize)
    Dataset.time_based_split = _split
    for sampler in (Sampler, RepeatableSampler):
        sampler._get_candidates_list = _of_training(sampler._get_candidates_list)


def _keeping_times(normalize: Callable[[Any], None]) -> Callable[[Any], None]:
    """RecBole scales times and ratings to 0 to 1 for its own models; `exact_times` has times before and after, `[I]` each, and `rows_given`
    all columns before, where `keep_rows` is on (`host.data.build_data`)."""

    @functools.wraps(normalize)
    def normalize_and_keep(self: Any) -> None:
        time, table = self.time_field, self.inter_feat
        wanted = cuts_in_time(self.config["eval_args"]) and time in table
        exact = table[time].to_numpy(dtype=np.float64, copy=True) if wanted else None
        if self.config["keep_rows"]:
            self.rows_given = table.copy()
        normalize(self)
        if exact is not None:
            self.exact_times = exact, table[time].to_numpy(dtype=np.float64, copy=True)

    return normalize_and_keep


def _split(self: Any, ratios: Any, group_by: Any) -> list[Any]:
    """What RecBole calls for `TS`, once the rows are in order: training, validation and test."""
    exact, scaled = self.exact_times
    cuts = cut_times(ratios, exact, self.time_field)
    borders = tuple(scaled[exact >= cut].min() for cut in cuts)
    rows = self.inter_feat[self.time_field].numpy()
    sequential = hasattr(self, "timeline")
    timeline = self.timeline if sequential else self.inter_feat
    users = timeline[self.uid_field].numpy()
    order = np.argsort(users, kind="stable")  # by time already
    users, items, times = (
        timeline[field].numpy()[order] for field in (self.uid_field, self.iid_field, self.time_field)
    )
    parts, starts, unit = parts_of(times, borders), np.r_[True, users[1:] != users[:-1]], unit_of(exact)
    _warn_of_order(self, times[starts], unit)
    which = self.config["eval_args"]["targets"]
    places = {
        split: _targets(users, ~starts & (parts == number), which) for number, split in enumerate(SPLITS, start=1)
    }
    self.time_split = TimeSplit(cuts, unit, users, items, parts, places)
    self._drop_unused_col()
    if not sequential:
        self.timeline = self.inter_feat[torch.from_numpy(order)]
    found = [self.copy(self.inter_feat[np.flatnonzero(parts_of(rows, borders) == 0)])]
    for split in SPLITS:
        if sequential:
            part = self.copy(self.inter_feat[np.flatnonzero(np.isin(self.inter_feat[PLACE].numpy(), places[split]))])
        else:
            part = self.copy(self.timeline[torch.from_numpy(places[split])])
            part.places = places[split]
        found.append(part)
    return found


def _targets(users: np.ndarray, there: np.ndarray, which: str) -> np.ndarray:
    """Places of the targets among interactions sorted by user, then time.

    Args:
        users: `[I]`.
        there: `[I]` whether an interaction lies in the window and has something before it.
        which: one of `cuts.TARGETS`.
    """
    places = np.flatnonzero(there)
    if which == "all" or not len(places):
        return places
    other = users[places][1:] != users[places][:-1]
    return places[np.r_[True, other] if which == "first" else np.r_[other, True]]


def _warn_of_order(dataset: Any, firsts: np.ndarray, unit: str | None) -> None:
    if unit is None and len(firsts) > 1 and (firsts == firsts.min()).mean() >= _AT_ONCE:
        logging.getLogger().warning(
            f"The times of `{dataset.dataset_name}` begin again with every user (1, 2, 3, ...): they say in which order a user chose, and not when, so a "
            "split by time (TS) means nothing there; split with {LS: valid_and_test}, or {RS: [0.8,0.1,0.1]} and group_by: user."
        )


def _of_training(candidates: Callable[[Any], list[Any]]) -> Callable[[Any], list[Any]]:
    """Negatives that are drawn by popularity are drawn by that of the training."""

    @functools.wraps(candidates)
    def candidates_of_training(self: Any) -> list[Any]:
        dataset = self.dataset if isinstance(self, RepeatableSampler) else self.datasets[0]
        split = getattr(dataset, "time_split", None)
        return candidates(self) if split is None else split.training()[1].tolist()

    return candidates_of_training
