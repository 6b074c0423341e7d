"""Which interactions are training, validation and test, for models of every kind alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from rporec_recbole.data.samples import without
from rporec_recbole.data.seen import PLACE

SPLITS = ("valid", "test")
Pairs = tuple[np.ndarray, np.ndarray]


def pairs_before(dataset: Any, loaders: Mapping[str, Any], split: str) -> Pairs:
    """Users and items of all that comes before a split, each pair once: what stands before `valid` is the training part.

    Args:
        dataset: RecBole's, after its split.
        loaders: split -> RecBole's loader.
        split: `valid` or `test`.
    """
    by_time = getattr(dataset, "time_split", None)
    if by_time is not None:
        users, items = by_time.training() if split == "valid" else by_time.until("valid")
        return without((users, items), ())
    rows = getattr(dataset, "timeline", dataset.inter_feat)
    fields = dataset.uid_field, dataset.iid_field
    users, items = (rows[field].numpy() for field in fields)
    later = SPLITS[SPLITS.index(split) :]
    targets = [tuple(loaders[one].dataset.inter_feat[field].numpy() for field in fields) for one in later]
    return without((users, items), targets)


def part_tables(dataset: Any, loaders: Mapping[str, Any], read: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of the file, filtered, by part: `train`, `valid` and `test`.

    Behind a cut in time lie rows that are no target (a user's very first one, or all but one). They are history of later targets, so
    `valid` and `test` hold them too, and a column `target` says which rows are ranked.

    Args:
        dataset: RecBole's, after its split.
        loaders: split -> RecBole's loader.
        read: the rows as they were before the split, users and items as numbers, with the columns that are wanted.

    Returns:
        tables with the columns of `read`, by user, then in their order in time.
    """
    users = dataset.uid_field
    by_time = getattr(dataset, "time_split", None)
    if by_time is not None:
        rows = _rows_of_file(dataset, [dataset.timeline], read)
        found = {"train": read.iloc[rows[by_time.parts == 0]]}
        for number, split in enumerate(SPLITS, start=1):
            here = np.flatnonzero(by_time.parts == number)
            found[split] = read.iloc[rows[here]].assign(target=np.isin(here, by_time.places[split]))
        return found
    timeline = getattr(dataset, "timeline", None)
    parts = [loaders[split].dataset.inter_feat for split in SPLITS]
    parts = parts if timeline is None else [timeline[part[PLACE]] for part in parts]
    rows = _rows_of_file(dataset, parts[::-1], read, newest_first=True)
    test, valid = np.split(rows, [len(parts[1])])
    taken = {"train": np.setdiff1d(np.arange(len(read)), rows), "valid": valid, "test": test}
    order = [users, *([dataset.time_field] if dataset.time_field in read else [])]
    return {name: read.iloc[np.sort(own)].sort_values(order, kind="stable") for name, own in taken.items()}


def _rows_of_file(dataset: Any, parts: Sequence[Any], read: pd.DataFrame, newest_first: bool = False) -> np.ndarray:
    """Where the rows of some tables stand in `read`, by user, item and time.

    The tables have times in less precision. Of rows that are the same in all three then, the first that is asked for is the oldest one.

    Args:
        dataset: RecBole's.
        parts: the tables.
        read: see `part_tables`.
        newest_first: it is the newest one.
    """
    time = dataset.time_field
    fields = [one for one in (dataset.uid_field, dataset.iid_field, time) if one in read and one in parts[0]]
    order = read[time].to_numpy().argsort(kind="stable") if time in read else np.arange(len(read))
    order = order[::-1] if newest_first else order
    ours = pd.concat([pd.DataFrame({name: part[name].numpy() for name in fields}) for part in parts])
    theirs = read[fields].iloc[order].astype(dict(ours.dtypes))
    for table in (ours, theirs):
        table["twin"] = table.groupby(fields).cumcount()
    places = pd.Series(order, pd.MultiIndex.from_frame(theirs))
    return places.loc[pd.MultiIndex.from_frame(ours)].to_numpy()
