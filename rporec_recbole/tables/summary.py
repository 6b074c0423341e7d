"""What an import tells: what was taken for what, the first rows as they will be read, counts, and what comes next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rporec_recbole.tables.products import LONGEST, Products
from rporec_recbole.tables.purchases import Purchases
from rporec_recbole.tables.times import ORDER, PLAIN, day
from rporec_recbole.tables.writing import first_rows, lengths_of

_SHOWN = 40  # characters of a text in the preview
_MANY_TIES = 0.1


@dataclass(frozen=True)
class Imported:
    """What an import wrote.

    Attributes:
        name: of the data set.
        folder: with its files.
        users, items, interactions: how many there are.
        summary: all that there is to say, for people.
        next_command: what to type now.
        skipped: rows that could not be used and were left out.
        repeated: rows with the user, the item and the time of an earlier one.
    """

    name: str
    folder: Path
    users: int
    items: int
    interactions: int
    summary: str
    next_command: str
    skipped: int
    repeated: int


def told(count: int, what: str, many: str = "") -> str:
    """A number and its noun."""
    return f"{count:,} {what if count == 1 else many or what + 's'}"


def describe(
    folder: Path,
    took: Sequence[str],
    purchases: Purchases,
    products: Products | None,
    dropped: bool,
    said: Sequence[str],
    next_command: str,
    files: Sequence[str],
) -> str:
    """The whole text.

    Args:
        folder: of the data set.
        took: which column was taken for what.
        purchases: as written.
        products: as written; None where there are no texts.
        dropped: whether repeated rows were left out.
        said: sentences of the plan.
        next_command: to type.
        files: names in the folder.
    """
    lengths = lengths_of(purchases)
    chosen = np.unique(purchases.item)
    spans = (
        "" if purchases.time_said in (ORDER, PLAIN) else f", {day(purchases.time.min())} to {day(purchases.time.max())}"
    )
    once = int((lengths == 1).sum())
    lines = [
        f"{folder.name}: {told(len(purchases), 'interaction')} of {told(len(lengths), 'user')} and {told(len(chosen), 'item')}{spans}",
        "  " + " · ".join(took),
        "  The first rows as they will be read:",
        *_table(first_rows(purchases)),
    ]
    if products is not None and products.first:
        lines += _table([("item_id", *products.fields), *products.first])
    lines.append(
        f"  {told(once, 'user')} ({once / len(lengths):.0%}) {'has' if once == 1 else 'have'} one interaction; the median is {np.median(lengths):g}, the most {lengths.max():,}."
    )
    lines += [
        f"  {one}"
        for one in [
            *_of_texts(purchases, products, chosen),
            *_of_rows(purchases, dropped),
            *_of_times(purchases),
            *said,
        ]
    ]
    lines.append(f"Written: {folder} ({', '.join(files)})")
    lines.append(f"Next:    {next_command}")
    return "\n".join(lines)


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    cut = [[text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…" for text in row] for row in rows]
    widths = [max(len(row[column]) for row in cut) for column in range(len(cut[0]))]
    return [
        "    " + "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in cut
    ]


def _of_texts(purchases: Purchases, products: Products | None, chosen: np.ndarray) -> list[str]:
    if products is None:
        return []
    names = purchases.items.array()[chosen].tolist()
    there = sum(name in products.described for name in names)
    filled = sum(products.described.get(name, False) for name in names)
    found = [
        f"{filled:,} of {told(len(names), 'item')} ({filled / len(names):.0%}) have a text ({', '.join(products.fields)})."
    ]
    if there < len(names):
        missing = [name for name in names if name not in products.described]
        found.append(
            f"{told(len(missing), 'item')} of the interactions {'has' if len(missing) == 1 else 'have'} no row among the items, such as {missing[0]!r}."
        )
    spare = len(products.described) - there + products.unwanted
    if spare:
        found.append(
            f"{told(spare, 'item')} nobody chose; nothing can be learned of them, and they are not recommended."
        )
    if products.repeated:
        found.append(f"{told(products.repeated, 'row')} of the items had the id of an earlier row, which holds.")
    if products.without_id or products.torn:
        found.append(
            f"{told(products.without_id + products.torn, 'row')} of the items could not be used and {'was' if products.without_id + products.torn == 1 else 'were'} left out."
        )
    if products.mended:
        found.append(f"{told(products.mended, 'text')} had a tab or a line break, which is a space now.")
    if products.cut:
        found.append(
            f"{told(products.cut, 'text')} had more than {LONGEST:,} characters and {'was' if products.cut == 1 else 'were'} cut."
        )
    return found


def _of_rows(purchases: Purchases, dropped: bool) -> list[str]:
    found = []
    if purchases.bad.total:
        found.append(f"Left out: {purchases.bad.described()}.")
    if purchases.outside:
        found.append(f"{told(purchases.outside, 'row')} outside the wanted time left out.")
    if purchases.repeated:
        what = "left out; --duplicates=keep keeps them" if dropped else "kept; --duplicates=drop leaves them out"
        found.append(
            f"{told(purchases.repeated, 'row')} with the user, the item and the time of an earlier one: {what}."
        )
    for names, what in ((purchases.users, "user"), (purchases.items, "item")):
        if names.trimmed:
            found.append(f"White space around {told(names.trimmed, what + ' id')} was taken away.")
        if names.mended:
            found.append(f"{told(names.mended, what + ' id')} had a tab or a line break inside, which is a space now.")
    if purchases.comma:
        found.append("Ratings have a decimal comma.")
    return found


def _of_times(purchases: Purchases) -> list[str]:
    found = []
    if purchases.unzoned:
        found.append(f"{told(purchases.unzoned, 'date')} without a time zone, taken as UTC.")
    order = np.lexsort((purchases.time, purchases.user))
    same_user = purchases.user[order][1:] == purchases.user[order][:-1]
    ties = same_user & (purchases.time[order][1:] == purchases.time[order][:-1])
    if same_user.any() and (share := ties.sum() / same_user.sum()) > _MANY_TIES:
        found.append(
            f"{share:.0%} of what users chose one after the other has one and the same time; there the order of the rows decides."
        )
    return found
