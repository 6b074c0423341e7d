"""Who chose what and when: one pass over the table of interactions, into numbers that fit into memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from rporec_recbole.errors import DatasetError
from rporec_recbole.tables.table import Table, as_texts
from rporec_recbole.tables.times import ORDER, Times
from rporec_recbole.tables.values import Names, Ratings

SKIP, REFUSE = "skip", "refuse"
_EXAMPLES = 3


@dataclass(frozen=True)
class Chosen:
    """The columns of an interaction table.

    Attributes:
        user, item: of the ids.
        time: None: the rows stand in their order.
        rating: None: there are none.
        texts: that describe the item, where no other table does.
    """

    user: str
    item: str
    time: str | None
    rating: str | None = None
    texts: tuple[str, ...] = ()


@dataclass
class Bad:
    """Rows that cannot be used, by what is wrong with them."""

    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, what: str, count: int, examples: Sequence[str]) -> None:
        """Counts rows; keeps the first few examples."""
        if count:
            self.counts[what] = self.counts.get(what, 0) + count
            kept = self.examples.setdefault(what, [])
            kept.extend(list(examples)[: _EXAMPLES - len(kept)])

    @property
    def total(self) -> int:
        """Rows of all kinds."""
        return sum(self.counts.values())

    def described(self) -> str:
        """The kinds, their counts and examples, in a sentence without its end."""
        return "; ".join(
            f"{count:,} {what}" + (f" ({', '.join(self.examples[what])})" if self.examples[what] else "")
            for what, count in self.counts.items()
        )


@dataclass
class Purchases:
    """All interactions that can be used, in the order of their rows.

    Attributes:
        users, items: names by number.
        user, item: `[I]` int32.
        time: `[I]` int64, microseconds since 1970, or row numbers where there are no times.
        rating: `[I]` texts; None where there are none.
        rating_kind: `float` or `token`.
        time_said: what the times are, in words.
        unzoned: how many of them had no zone.
        bad: rows that were left out.
        repeated: rows with the user, the item and the time of an earlier one.
        outside: rows before or after the wanted time.
        comma: ratings had a decimal comma.
    """

    users: Names
    items: Names
    user: np.ndarray
    item: np.ndarray
    time: np.ndarray
    rating: np.ndarray | None
    rating_kind: str
    time_said: str
    unzoned: int
    bad: Bad
    repeated: int = 0
    outside: int = 0
    comma: bool = False

    def __len__(self) -> int:
        return len(self.user)

    def keep(self, rows: np.ndarray) -> None:
        """Leaves out all other rows.

        Args:
            rows: `[I]` bool.
        """
        self.user, self.item, self.time = self.user[rows], self.item[rows], self.time[rows]
        self.rating = None if self.rating is None else self.rating[rows]


def read_purchases(
    table: Table,
    chosen: Chosen,
    time_format: str | None = None,
    bad_rows: str = REFUSE,
    seen: Callable[[np.ndarray, dict[str, Any]], None] | None = None,
) -> Purchases:
    """Reads a table of interactions.

    Args:
        table: is read once.
        chosen: its columns.
        time_format: see `times.Times`.
        bad_rows: `refuse` or `skip`.
        seen: gets `[N]` item numbers and the columns of `chosen.texts`, batch by batch.

    Raises:
        DatasetError: rows cannot be used and are not to be skipped, or none is left.
    """
    users, items, ratings, bad = Names(), Names(), Ratings(), Bad()
    times = Times(time_format, chosen.time or "")
    parts: dict[str, list[Any]] = {"user": [], "item": [], "time": [], "rating": []}
    columns = list(
        dict.fromkeys(
            [one for one in (chosen.user, chosen.item, chosen.time, chosen.rating) if one] + list(chosen.texts)
        )
    )
    read = 0
    for batch in table.batches(columns):
        user, item = users.codes(batch[chosen.user]), items.codes(batch[chosen.item])
        fine = np.ones(len(user), bool)

        def left_out(
            what: str, usable: np.ndarray, shown: str | None, batch: Any = batch, start: int = read
        ) -> np.ndarray:
            rows = np.flatnonzero(fine & ~usable)  # noqa: B023  called at once
            examples = [_example(row, start, shown, batch) for row in rows[:_EXAMPLES].tolist()]
            bad.add(what, len(rows), examples)
            return usable

        fine &= left_out("without a user", user >= 0, None)
        fine &= left_out("without an item", item >= 0, None)
        if chosen.time is None:
            time = np.arange(read, read + len(user), dtype=np.int64) * 1_000_000
        else:
            time, readable = times.read(batch[chosen.time])
            fine &= left_out("whose time cannot be read", readable, chosen.time)
        if chosen.rating is not None:
            rating, usable = ratings.read(batch[chosen.rating])
            fine &= left_out("whose rating is no number", usable, chosen.rating)
            parts["rating"].append(np.asarray(rating, dtype=object)[fine])
        parts["user"].append(user[fine])
        parts["item"].append(item[fine])
        parts["time"].append(time[fine])
        if seen is not None:
            seen(np.where(fine, item, -1), {name: batch[name] for name in chosen.texts})
        read += len(user)
    if table.torn.count:
        bad.add("with another number of fields", table.torn.count, table.torn.examples)
    _refuse(table, bad, read + table.torn.count, bad_rows, chosen)
    user, item, time = (np.concatenate(parts[key]) for key in ("user", "item", "time"))
    rated = np.concatenate(parts["rating"]) if parts["rating"] else None
    return Purchases(
        users, items, user, item, time, rated, ratings.kind or "float",
        ORDER if chosen.time is None else times.how, times.unzoned, bad, comma=ratings.comma,
    )  # fmt: skip


def _example(row: int, start: int, column: str | None, batch: Any) -> str:
    if column is None:
        return f"row {start + row + 1:,}"
    value = as_texts(batch[column].slice(row, 1))[0].as_py()
    return f"row {start + row + 1:,}: {(value or '')[:40]!r}"


def _refuse(table: Table, bad: Bad, rows: int, bad_rows: str, chosen: Chosen) -> None:
    if rows == bad.total:
        raise DatasetError(
            f"None of the {rows:,} rows of {table.name} can be used: {bad.described() or 'there are none'}. Columns: {', '.join(table.columns)}."
        )
    if bad.total and bad_rows != SKIP:
        hint = " --time_format says how times are written." if "whose time cannot be read" in bad.counts else ""
        raise DatasetError(
            f"{bad.total:,} of the {rows:,} rows of {table.name} cannot be used: {bad.described()}. Correct them, or leave them out with "
            f"--bad_rows=skip.{hint}"
        )


def drop_repeated(purchases: Purchases, drop: bool) -> None:
    """Counts rows with the user, the item and the time of an earlier one, and leaves them out if that is wanted."""
    found = pd.DataFrame({"u": purchases.user, "i": purchases.item, "t": purchases.time}).duplicated().to_numpy()
    purchases.repeated = int(found.sum())
    if drop and purchases.repeated:
        purchases.keep(~found)


def within(purchases: Purchases, since: int | None, until: int | None) -> None:
    """Leaves out what lies before `since`, or at `until` and after, in microseconds.

    Raises:
        DatasetError: nothing is left.
    """
    rows = np.ones(len(purchases), bool)
    if since is not None:
        rows &= purchases.time >= since
    if until is not None:
        rows &= purchases.time < until
    purchases.outside = int((~rows).sum())
    if not rows.any():
        from rporec_recbole.tables.times import day

        raise DatasetError(
            f"No interaction lies in the wanted time: they reach from {day(purchases.time.min())} to {day(purchases.time.max())}. Change --since or --until."
        )
    if purchases.outside:
        purchases.keep(rows)
