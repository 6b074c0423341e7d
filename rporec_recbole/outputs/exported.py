"""Whose vectors are exported, batch by batch: users of a split, of a run on everything, or of new histories."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from rporec_recbole.data.histories import Histories
from rporec_recbole.data.profiles import Profiles
from rporec_recbole.outputs.asked import history_rows
from rporec_recbole.runs.finished import LoadedRun
from rporec_recbole.runs.scoring import Scorer

ROWS = 1024
"""Users at once, as in `RPORec.full_sort_predict`."""

Batches = Iterator[tuple[np.ndarray, np.ndarray, Any]]
"""Names of B users, their places in a batch, and that batch."""


def of_split(run: LoadedRun, split: str) -> tuple[int, Batches]:
    """How many users there are, and batches; of a run on everything their whole profiles."""
    field, found = run.dataset.uid_field, None
    if run.config["fitted_from"]:
        count, found = _profiles(run)
    else:
        scorer = Scorer(run)
        last = np.array(sorted(scorer.last_rows(split).values()), dtype=np.int64)
        count = len(last)
        found = ((places, batch) for places, (batch, _, _, _) in scorer.batches(split, last))
    names = lambda batch, places: run.dataset.id2token(field, batch[field].numpy()[places])  # noqa: E731
    return count, ((np.array(names(batch, places), dtype=object), places, batch) for places, batch in found)


def of_histories(run: LoadedRun, read: Histories) -> Batches:
    """Batches of new users, in the order of their files."""
    for part, rows in history_rows(run, read.pieces(ROWS)):
        yield np.array([one.user for one in part], dtype=object), np.arange(len(part)), rows


def _profiles(run: LoadedRun) -> tuple[int, Iterator[tuple[np.ndarray, Any]]]:
    """How many users a run on everything has, and batches of their whole profiles with the places of those that are wanted, all."""
    profiles = Profiles(run.dataset, int(run.config["MAX_ITEM_LIST_LENGTH"]))
    starts = range(0, len(profiles.users), ROWS)
    parts = (np.arange(first, min(first + ROWS, len(profiles.users))) for first in starts)
    return len(profiles.users), ((np.arange(len(part)), profiles.rows(part)) for part in parts)
