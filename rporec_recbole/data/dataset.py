"""RPORec's data set: RecBole's sequential data set without its one padded row per prefix.

RecBole decides which rows are training, validation and test rows; evaluation rows look exactly as in RecBole. Training
rows are windows over whole user sequences, in which every position is a target once.
"""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import numpy as np
import torch
from recbole.data.dataset import SequentialDataset
from recbole.data.interaction import Interaction
from recbole.utils.enum_type import FeatureSource, FeatureType
from torch import Tensor

from rporec_recbole.data.clock import CLOCK, Clock, clock_list, clock_of
from rporec_recbole.data.digest import digest_of
from rporec_recbole.data.item_texts import item_texts
from rporec_recbole.data.ladder import RL, rungs
from rporec_recbole.data.ratings import Ratings, distinct_ratings
from rporec_recbole.data.rows import lists_of, slim_rows
from rporec_recbole.data.seen import PLACE
from rporec_recbole.errors import ConfigError, DatasetError
from rporec_recbole.text.catalogue import Catalogue, build_catalogue

TARGETS, RUNGS, FIRST = "target_id_list", "rung_list", "first_position"


def window_positions(windows: Interaction) -> Tensor:
    """Timeline indices of the targets of training windows, `[W, T]`; they mean nothing where a window is padded."""
    return windows[FIRST][:, None] + torch.arange(windows[TARGETS].shape[1], device=windows[FIRST].device)


def refuse_own_split(config: Any) -> None:
    """RPORec and its rivals cut histories by time themselves; files that are cut already say too little.

    Raises:
        ConfigError: `benchmark_filename` is given.
    """
    if config["benchmark_filename"] is not None:
        raise ConfigError(
            f"{config['model']} splits whole sequences itself and cannot use `benchmark_filename`. Give it one .inter file."
        )


class RPORecDataset(SequentialDataset):
    """Found by RecBole's `create_dataset` under its name.

    Attributes:
        timeline: all interactions, sorted by user, then time; `timeline[i]` for integer arrays `i`.
        n_prefix_rows: how many training rows RecBole would have made.
        ratings: what the users gave; None on data without ratings.
        clock: how the file counts times, where a model reads them (`keeps_clock`) and they are real ones; else None.
        digest: stands for all that was loaded (`data.digest`).
    """

    inter_feat: Any
    timeline: Interaction
    digest: str = ""
    ratings: Ratings | None = None
    clock: Clock | None = None
    _rated: np.ndarray  # [R]

    def __init__(self, config: Any) -> None:
        refuse_own_split(config)
        super().__init__(config)

    def _fill_nan(self) -> None:
        """RecBole's, which invents what is missing; ratings are kept before it does."""
        field = self.config["RATING_FIELD"]
        if field in self.inter_feat:
            self._rated, values = distinct_ratings(self, field)
            self.ratings = Ratings(field, f"{field}{self.config['LIST_SUFFIX']}", values)
        super()._fill_nan()

    @property
    def keeps_clock(self) -> bool:
        """Whether interactions keep their whole seconds (`CLOCK`); without them columns and digest are those of a model that reads no times."""
        return bool(self.config["time_buckets"])

    def _normalize(self) -> None:
        """RecBole's, which scales times; before it does, they are counted."""
        seconds = None
        if self.keeps_clock and self.time_field in self.inter_feat:
            times = self.inter_feat[self.time_field].to_numpy(dtype=np.float64, copy=True)
            self.clock = clock_of(times)
            seconds = None if self.clock is None else self.clock.seconds(times)
        super()._normalize()
        if seconds is not None:
            self.inter_feat[CLOCK] = seconds
            # Whole numbers: RecBole makes single precision of anything else.
            self.set_field_property(CLOCK, FeatureType.TOKEN, FeatureSource.INTERACTION, 1)

    def unrated(self) -> np.ndarray | None:
        """Which interactions have no rating in the file, `[R]`, before the split; None on data without ratings."""
        return None if self.ratings is None else self._rated == 0

    def data_augmentation(self) -> None:
        """One slim row per (history, next item): where the history ends and how long it is, no lists yet."""
        self._aug_presets()
        self._check_field("uid_field", "time_field")
        if self.time_field not in self.inter_feat:
            raise DatasetError(
                f"The data set {self.dataset_name} has no time field `{self.time_field}`, so its items have no order. Name it with --TIME_FIELD and load it with load_col."
            )
        if self.ratings is not None and self.ratings.field in self.inter_feat:
            self.inter_feat.update(Interaction({self.ratings.field: torch.from_numpy(self._rated)}))
        rows = slim_rows(self)
        self.set_field_property(PLACE, FeatureType.TOKEN, FeatureSource.INTERACTION, 1)
        self.inter_feat = rows

    def build(self) -> list[RPORecDataset]:
        """RecBole's split; lists are made for the evaluation rows, windows for the training rows."""
        self.digest = self.digest or digest_of(self)
        train, valid, test = super().build()
        self.n_prefix_rows = train.n_prefix_rows = len(train.inter_feat)
        train.train_ends = np.sort(train.inter_feat[PLACE].numpy())
        train.inter_feat = self._windows(train.train_ends)
        for part in (valid, test):
            part.inter_feat = self._with_lists(part.inter_feat)
        return [train, valid, test]

    def __getitem__(self, index: Any, join: bool = True) -> Any:
        """Rows, each with the history before it: before the split these lists are made here. Arguments as RecBole's."""
        rows = self.inter_feat[index]
        if PLACE in rows and self.item_list_field not in rows:
            rows = self._with_lists(rows)
        return self.join(rows) if join else rows

    @property
    def item_list_field(self) -> str:
        """Name of the column of histories; RecBole makes it of the item column's name."""
        return self.iid_field + self.config["LIST_SUFFIX"]

    def _with_lists(self, rows: Interaction) -> Interaction:
        columns = {name: rows[name] for name in rows.columns}
        return Interaction({**columns, **lists_of(self).of(rows[PLACE], rows[self.item_list_length_field])})

    def _windows(self, ends: np.ndarray) -> Interaction:
        """Windows of at most `max_item_list_len` training positions, cut from each user's newest position backwards.

        Args:
            ends: sorted timeline indices of the training targets; `ends[i]` is also where that target's history ends.

        Returns:
            rows with `user_id`, the input items, their targets and the targets' rungs, each `[W, T]`, right-padded
            with 0; every training target stands in one window. `FIRST` is the timeline index of a window's first target,
            the others follow it. Where there is a clock, the seconds of the inputs too, never those of the targets.
        """
        size = self.max_item_list_len
        users = self.timeline[self.uid_field].numpy()
        items = self.timeline[self.iid_field].numpy()
        starts, stops, rung_of = [], [], np.zeros(len(users), dtype=np.int64)
        bounds = (
            np.flatnonzero(np.r_[True, users[ends][1:] != users[ends][:-1], True])
            if len(ends)
            else np.zeros(1, dtype=int)
        )
        for low, high in itertools.pairwise(bounds):
            own = ends[low:high]
            rung_of[own] = self._rungs(len(own))
            for last in range(high - low, 0, -size):
                starts.append(own[max(0, last - size)])
                stops.append(own[last - 1] + 1)
        first, stop = torch.tensor(starts), torch.tensor(stops)
        steps = torch.arange(size)
        real = steps < (stop - first)[:, None]
        index = torch.where(real, first[:, None] + steps, 0)
        as_targets = lambda values: torch.where(real, torch.from_numpy(values)[index], 0)  # noqa: E731
        before = torch.clamp(index - 1, min=0)
        inputs = torch.where(real, torch.from_numpy(items)[before], 0)
        clock = {clock_list(self): torch.where(real, self.timeline[CLOCK][before], 0)} if CLOCK in self.timeline else {}
        self.set_field_property(FIRST, FeatureType.TOKEN, FeatureSource.INTERACTION, 1)
        for name in (TARGETS, RUNGS):
            self.set_field_property(name, FeatureType.TOKEN_SEQ, FeatureSource.INTERACTION, size)
        return Interaction(
            {
                self.uid_field: torch.from_numpy(users)[first],
                self.item_list_field: inputs,
                self.item_list_length_field: stop - first,
                TARGETS: as_targets(items),
                RUNGS: as_targets(rung_of),
                FIRST: first,
                **clock,
            }
        )

    def first_rungs(self) -> Tensor:
        """The lowest rung on which each item stands in a training sequence, as input or target, `[n_items]`.

        Above `ladder.RL` for items without a training interaction and for padding; call it on the training part.
        """
        windows, lowest = self.inter_feat, torch.full((self.item_num,), RL + 1)
        for field in (self.item_list_field, TARGETS):
            there = windows[TARGETS] > 0
            lowest.scatter_reduce_(0, windows[field][there], windows[RUNGS][there], "amin")
        lowest[0] = RL + 1
        return lowest

    def positions(self, rung: int, per_user: int | None = None) -> np.ndarray:
        """Timeline indices of the training targets on one rung, in timeline order; call it on the training part.

        Without the ladder (`ladder: False`) every rung holds all of them.

        Args:
            rung: one of `ladder.EARLY`, `FUSION`, `RL`.
            per_user: only so many of each user's newest.
        """
        users = self.timeline[self.uid_field].numpy()[self.train_ends]
        chosen: list[np.ndarray] = []
        for own in np.split(self.train_ends, np.flatnonzero(users[1:] != users[:-1]) + 1):
            on_rung = own[self._rungs(len(own)) == rung] if self.config["ladder"] else own
            chosen.append(on_rung if per_user is None else on_rung[-per_user:])
        return np.concatenate(chosen) if chosen else np.zeros(0, dtype=np.int64)

    def _rungs(self, positions: int) -> np.ndarray:
        early = self.config["ladder_early"] if self.config["ladder"] else 1.0
        return rungs(positions, early, self.config["ladder_rl"])

    def histories(self, ends: np.ndarray) -> Interaction:
        """Rows shaped like evaluation rows (history lists and the target's `item_id`) for given timeline indices."""
        users = self.timeline[self.uid_field].numpy()
        starts = np.searchsorted(users, users[ends], side="left")
        rows = self.timeline[torch.from_numpy(ends)]
        lengths = torch.from_numpy(np.minimum(ends - starts, self.max_item_list_len))
        rows.update(Interaction({self.item_list_length_field: lengths, PLACE: torch.from_numpy(ends)}))
        return self._with_lists(rows)

    def target_counts(self, max_rung: int) -> Tensor:
        """How often each item is a training target up to a rung of the ladder, `[n_items]`; call it on the training part."""
        targets, rung = self.inter_feat[TARGETS], self.inter_feat[RUNGS]
        return torch.bincount(targets[(targets > 0) & (rung <= max_rung)], minlength=self.item_num)

    def train_targets(self) -> Tensor:
        """Item ids of all training targets, `[n_prefix_rows]`."""
        return self.timeline[self.iid_field][torch.from_numpy(self.train_ends)]

    def training_rows(self) -> Interaction:
        """All interactions of the training part; each user's first one is among them, which is no target."""
        users = self.timeline[self.uid_field].numpy()
        starts = np.searchsorted(users, users[self.train_ends], side="left")
        return self.timeline[torch.from_numpy(np.union1d(starts, self.train_ends))]

    def interaction_counts(self) -> Tensor:
        """How often each item stands in the training part, `[n_items]`; as a target alone: `item_counter`."""
        return torch.bincount(self.training_rows()[self.iid_field], minlength=self.item_num)

    def has_repeats(self) -> bool:
        """Whether any user of the training part has an item twice."""
        rows = self.training_rows()
        pairs = rows[self.uid_field] * self.item_num + rows[self.iid_field]
        return len(torch.unique(pairs)) < len(pairs)

    def catalogue(self, fields: list[str], max_characters: int, named: bool = False) -> Catalogue:
        """Item texts of these columns of the `.item` file; arguments as for `build_catalogue`.

        Raises:
            DatasetError: a column does not exist.
        """
        tokens = [str(token) for token in self.field2id_token[self.iid_field]]
        return build_catalogue(item_texts(self.config, fields, tokens), tokens, fields, max_characters, named)

    @property
    def item_counter(self) -> Any:
        """How often each item is a training target; RecBole's popularity metrics read it."""
        if hasattr(self, "train_ends"):
            return Counter(self.train_targets().tolist())
        return super().item_counter
