"""What is said of each item: one pass over the table of products, from it straight into the `.item` file."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rporec_recbole.errors import DatasetError
from rporec_recbole.tables.columns import plain
from rporec_recbole.tables.purchases import SKIP, Bad
from rporec_recbole.tables.table import Table, as_texts
from rporec_recbole.tables.values import id_of, one_line

LONGEST = 1000  # characters of a text; prompts show fewer
_BREAKS = re.compile(r"[\t\r\n\x0b\x0c\x00]")
_TAKEN = {"user_id", "item_id", "rating", "timestamp", "label"}


@dataclass(frozen=True)
class Field:
    """One text of an item.

    Attributes:
        name: of the field in the `.item` file.
        column: of the table that it is made of.
        clean: makes the text of what stands there; None takes it as it is.
    """

    name: str
    column: str
    clean: Callable[[str], str] | None = None


@dataclass
class Products:
    """What was written of the items.

    Attributes:
        fields: names in the `.item` file, title first.
        described: ids with a row there -> whether any of the texts is not empty.
        without_id, repeated, mended, cut: rows without an id, or with the id of an earlier one; texts with line breaks or tabs, and too long ones.
        unwanted: rows of items that nobody chose, and that were left out for it.
        first: the first rows as they are written, for people.
        torn: rows that could not be taken apart.
    """

    fields: tuple[str, ...]
    described: dict[str, bool] = field(default_factory=dict)
    without_id: int = 0
    repeated: int = 0
    mended: int = 0
    cut: int = 0
    unwanted: int = 0
    first: list[tuple[str, ...]] = field(default_factory=list)
    torn: int = 0

    def text(self, value: str | None, clean: Callable[[str], str] | None = None) -> str:
        """A text as the file may hold it: in one line, and not too long."""
        if not value:
            return ""
        if clean is not None:
            value = clean(value)
        self.mended += bool(_BREAKS.search(value.strip()))
        line = one_line(value[: 4 * LONGEST])
        if len(line) > LONGEST:
            self.cut += 1
            line = line[:LONGEST].rsplit(" ", 1)[0]
        return line


def fields_of(columns: Sequence[str]) -> list[Field]:
    """Fields that are called as their columns, as far as RecBole allows that."""
    fields: list[Field] = []
    for column in columns:
        name = re.sub(r"\W+", "_", column).strip("_") or "text"
        name = f"item_{name}" if name in _TAKEN else name
        while any(name == other.name for other in fields):
            name += "_2"
        fields.append(Field(name, column))
    return fields


def write_products(
    table: Table,
    key: str,
    fields: Sequence[Field],
    path: Path,
    wanted: Collection[str] | None = None,
    bad_rows: str = SKIP,
) -> Products:
    """Writes an `.item` file; of several rows of one item the first one holds.

    Args:
        table: is read once.
        key: column of the item's id.
        fields: the texts, title first.
        path: of the file.
        wanted: ids that are written; None writes all.
        bad_rows: `refuse`: no row may lack an id or have another number of fields than the header.

    Raises:
        DatasetError: rows cannot be used and are not to be skipped.
    """
    products, bad = Products(tuple(one.name for one in fields)), Bad()
    read = 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(_header(fields))
        for batch in table.batches(list(dict.fromkeys([key, *(one.column for one in fields)]))):
            ids = as_texts(batch[key]).to_pylist()
            texts = {name: as_texts(array).to_pylist() for name, array in batch.items()}
            for row, given in enumerate(ids):
                item = id_of(given)
                if not item:
                    bad.add("without an id", 1, [f"row {read + row + 1:,}"])
                elif wanted is not None and item not in wanted:
                    products.unwanted += 1
                elif item in products.described:
                    products.repeated += 1
                else:
                    said = [products.text(texts[one.column][row], one.clean) for one in fields]
                    products.described[item] = any(said)
                    _add(products, file, item, said)
            read += len(ids)
    products.without_id, products.torn = bad.total, table.torn.count
    if table.torn.count:
        bad.add("with another number of fields", table.torn.count, table.torn.examples)
    if bad.total and bad_rows != SKIP:
        raise DatasetError(
            f"{bad.total:,} of the {read + table.torn.count:,} rows of {table.name} cannot be used: {bad.described()}. Correct them, or leave them "
            "out with --bad_rows=skip."
        )
    return products


def _header(fields: Sequence[Field]) -> str:
    return "\t".join(["item_id:token", *(f"{one.name}:token_seq" for one in fields)]) + "\n"


def _add(products: Products, file: Any, item: str, said: Sequence[str]) -> None:
    file.write("\t".join([item, *said]) + "\n")
    if len(products.first) < 3:
        products.first.append((item, *said))


class TextsInPurchases:
    """Collects item texts that stand in the table of interactions: of each item the first text that is not empty.

    Args:
        fields: the texts, title first.
    """

    def __init__(self, fields: Sequence[Field]) -> None:
        self.fields = fields
        self._found: list[dict[int, str]] = [{} for _ in fields]

    def see(self, items: np.ndarray, batch: Mapping[str, Any]) -> None:
        """Takes one batch: `[N]` item numbers, -1 for rows that are left out, and the columns."""
        for known, one in zip(self._found, self.fields, strict=True):
            texts = as_texts(batch[one.column]).to_pylist()
            numbers, first = np.unique(items, return_index=True)
            lacking = [number for number in numbers.tolist() if number >= 0 and number not in known]
            if not lacking:
                continue
            wanted = set(lacking)
            starts = dict(zip(numbers.tolist(), first.tolist(), strict=True))
            for number in lacking:
                text = texts[starts[number]]
                if text and text.strip():
                    known[number] = text
                    wanted.discard(number)
            if wanted:  # the first row of an item says nothing, a later one may
                for number, text in zip(items.tolist(), texts, strict=True):
                    if number in wanted and text and text.strip():
                        known[number] = text
                        wanted.discard(number)

    def write(self, ids: Sequence[str], path: Path) -> Products:
        """Writes the `.item` file.

        Args:
            ids: of the items, by their numbers.
            path: of the file.
        """
        products = Products(tuple(one.name for one in self.fields))
        with path.open("w", encoding="utf-8", newline="\n") as file:
            file.write(_header(self.fields))
            for number, item in enumerate(ids):
                said = [
                    products.text(known.get(number), one.clean)
                    for known, one in zip(self._found, self.fields, strict=True)
                ]
                products.described[item] = any(said)
                _add(products, file, item, said)
        return products


def write_users(table: Table, key: str, path: Path, wanted: Collection[str]) -> int:
    """Writes a `.user` file with all columns of a table as tokens; returns how many users are in it.

    Args:
        table: is read once.
        key: column of the user's id.
        path: of the file.
        wanted: ids that are written.
    """
    others = [name for name in dict.fromkeys(table.columns) if name != key and plain(name)]
    fields = [one for one in fields_of(others) if one.name.isidentifier()]
    seen: set[str] = set()
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write("\t".join(["user_id:token", *(f"{one.name}:token" for one in fields)]) + "\n")
        for batch in table.batches([key, *(one.column for one in fields)]):
            columns = [as_texts(batch[name]).to_pylist() for name in (key, *(one.column for one in fields))]
            for row in zip(*columns, strict=True):
                user, rest = id_of(row[0]), [one_line(value or "") for value in row[1:]]
                if user in wanted and user not in seen:
                    seen.add(user)
                    file.write("\t".join([user, *rest]) + "\n")
    return len(seen)
