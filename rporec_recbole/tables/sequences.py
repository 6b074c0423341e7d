"""Tables with a user and a list of items in each row: lists as Parquet has them, or ids between spaces."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from rporec_recbole.errors import DatasetError
from rporec_recbole.tables.columns import column_for
from rporec_recbole.tables.reading import open_table
from rporec_recbole.tables.table import as_texts

SUFFIXES = (".parquet", ".csv")
_ITEMS = ("items", "history", "item_ids")
_TIMES = "times"


def sequence_rows(
    path: Path, encoding: str = "utf-8"
) -> Iterator[tuple[str | None, list[str | None] | None, list[Any] | None]]:
    """User, items and times of each row; None where one is missing.

    Args:
        path: a table with a column of users, under one of its usual names, and one called `items`, `history` or `item_ids`; one called `times` may
            say when each item was chosen.
        encoding: of a CSV file.

    Raises:
        DatasetError: the file cannot be read, or lacks such a column.
    """
    table = open_table(path, encoding)
    users = column_for("user", None, table.columns, table.name)
    items = next((name for name in _ITEMS if name in table.columns), None)
    if users is None or items is None:
        raise DatasetError(
            f"{path} must have a column of users, such as `user`, and one called {', '.join(_ITEMS[:-1])} or {_ITEMS[-1]} with the list of "
            f"their items, oldest first. It has: {', '.join(table.columns)}."
        )
    times = [_TIMES] if _TIMES in table.columns else []
    for batch in table.batches([users, items, *times]):
        owners, lists = as_texts(batch[users]).to_pylist(), _lists(batch[items], path, items)
        yield from zip(owners, lists, _numbers(batch[_TIMES]) if times else [None] * len(owners), strict=True)
    if table.torn.count:
        raise DatasetError(
            f"{path} has {table.torn.count:,} rows that cannot be read; the first: {table.torn.examples[0]}."
        )


def _lists(column: pa.Array, path: Path, name: str) -> list[list[str | None] | None]:
    kind = column.type
    listed = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    if listed and not pa.types.is_nested(kind.value_type):
        tokens = as_texts(column.flatten()).to_pylist()
        ends = column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).cumsum().tolist()
        return [tokens[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    texts = as_texts(column)
    if listed or kind != texts.type:
        raise DatasetError(
            f"The column `{name}` of {path} is of the type {kind}. It must hold lists of item ids, or texts with spaces between the ids."
        )
    return [None if text is None else [token for token in text.split(" ") if token] for text in texts.to_pylist()]


def _numbers(column: pa.Array) -> list[list[Any] | None]:
    """Lists of whatever a list holds; of texts, what stands between spaces, as numbers where they are some."""
    rows = column.to_pylist()
    return [[_number(word) for word in row.split(" ") if word] if isinstance(row, str) else row for row in rows]


def _number(word: str) -> float | str:
    try:
        return float(word)
    except ValueError:
        return word
