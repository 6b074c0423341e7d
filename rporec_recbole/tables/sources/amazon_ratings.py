"""Amazon's files of ratings alone have no header, and those of 2014 and 2018 have their columns in another order."""

from __future__ import annotations

from rporec_recbole.errors import DatasetError
from rporec_recbole.tables.delimited import Delimited
from rporec_recbole.tables.opening import Place
from rporec_recbole.tables.table import Table

_ASIN = 10  # letters and digits of an item's id; those of users have more


def ratings(place: Place, header: tuple[str, ...], other: str) -> Table:
    """A table of ratings.

    Args:
        place: of the file.
        header: its columns.
        other: the source whose files have users and items the other way round.

    Raises:
        DatasetError: the file is one of those.
    """
    table = Delimited(place, separator=",", header=header)
    first = next(iter(table.batches(["user", "item"])))
    users, items = (first[name].slice(0, 1000).to_pylist() for name in ("user", "item"))
    short = [sum(len(name) == _ASIN for name in names) / len(names) for names in (users, items)]
    if short[0] > 0.9 and short[1] < 0.5:
        raise DatasetError(
            f"{place} has items where users are expected, such as {users[0]!r}. That is the form of `rporec import {other}`."
        )
    return table
