"""What every reader of tables offers, and a table's values as texts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Batch = Mapping[str, Any]
"""Column -> `pyarrow.Array`, all of one length."""


@dataclass
class Torn:
    """Rows that cannot be taken apart into the columns of their table.

    Attributes:
        count: how many.
        examples: what is wrong with the first few.
    """

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, example: str) -> None:
        """Counts one row."""
        self.count += 1
        if len(self.examples) < 3:
            self.examples.append(example)


class Table(Protocol):
    """A table that is read from its start to its end, a piece at a time.

    Attributes:
        name: what people call it.
        columns: names, as they stand in it.
        torn: rows that could not be taken apart, filled while the table is read.
    """

    name: str
    columns: tuple[str, ...]
    torn: Torn

    def batches(self, columns: Sequence[str]) -> Iterator[Batch]:
        """These columns, batch by batch.

        Args:
            columns: each of them one of `self.columns`.

        Raises:
            DatasetError: the table cannot be read to its end.
        """
        ...


def as_texts(array: Any) -> Any:
    """Values as texts, `pyarrow.StringArray`; what is missing, or has no text of its own, is null.

    Texts stay as they are, letter by letter. Whole numbers that are kept as floats, as pandas does with a column that has gaps,
    are whole numbers again. The parts of a list are joined with commas.
    """
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    kind = array.type
    if pa.types.is_dictionary(kind):
        array = array.dictionary_decode()
        kind = array.type
    if pa.types.is_string(kind):
        return array
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind) or pa.types.is_integer(kind):
        return array.cast(pa.string())
    if pa.types.is_floating(kind):
        values = array.cast(pa.float64())
        numbers = values.to_numpy(zero_copy_only=False)
        with np.errstate(invalid="ignore"):
            whole = np.isfinite(numbers) & (np.abs(numbers) < 2**53) & (numbers == np.floor(numbers))
        if whole.all():
            return values.cast(pa.int64()).cast(pa.string())
        return pa.array([_of_float(one) for one in values.to_pylist()], pa.string())
    return pa.array([text_of(one) for one in array.to_pylist()], pa.string())


def _of_float(value: float | None) -> str | None:
    if value is None or not math.isfinite(value):
        return None
    return str(int(value)) if value == int(value) and abs(value) < 2**53 else repr(value)


def text_of(value: Any) -> str | None:
    """One value as a text; None where it has none."""
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, dict) or value != value:
        return None
    if isinstance(value, float):
        return _of_float(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, (list, tuple, set, np.ndarray)):
        parts = [text for one in value if (text := text_of(one))]
        return ", ".join(dict.fromkeys(parts)) or None
    return str(value)


def filled(texts: Any) -> np.ndarray:
    """Where texts say anything but white space, `[N]` bool."""
    found = pc.fill_null(pc.match_substring_regex(texts, r"[^\s\x00\p{Z}]"), False)
    return found.to_numpy(zero_copy_only=False)
