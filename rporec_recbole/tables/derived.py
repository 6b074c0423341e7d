"""A table with one more column, made of others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa

from rporec_recbole.tables.table import Batch, Table, as_texts


class Derived:
    """A table and a column that is computed of its others, row by row.

    Args:
        table: to which it is added.
        column: its name.
        sources: the columns it is made of; those that the table lacks are empty.
        make: texts of a row, empty for what is missing -> its text.

    Attributes:
        name, columns, torn: see `table.Table`.
    """

    def __init__(self, table: Table, column: str, sources: Sequence[str], make: Callable[[Sequence[str]], str]) -> None:
        self._table, self._column, self._make = table, column, make
        self._sources = [name for name in sources if name in table.columns]
        self._places = [name in table.columns for name in sources]
        self.name, self.torn = table.name, table.torn
        self.columns: tuple[str, ...] = (*table.columns, column)

    def batches(self, columns: Sequence[str]) -> Iterator[Batch]:
        """See `table.Table`."""
        if self._column not in columns:
            yield from self._table.batches(columns)
            return
        plain = [name for name in columns if name != self._column]
        for batch in self._table.batches(list(dict.fromkeys([*plain, *self._sources]))):
            found = iter([[text or "" for text in as_texts(batch[name]).to_pylist()] for name in self._sources])
            size = len(next(iter(batch.values())))
            parts = [next(found) if there else [""] * size for there in self._places]
            made = pa.array([self._make(row) for row in zip(*parts, strict=True)], pa.string())
            yield {**{name: batch[name] for name in plain}, self._column: made}
