"""Tables that know their columns and types: Parquet files, folders of Hugging Face `datasets`, data frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from rporec_recbole.errors import DatasetError, first_line, translating
from rporec_recbole.tables.opening import Place, readable
from rporec_recbole.tables.table import Batch, Torn, text_of

_ROWS = 1 << 17


class Parquet:
    """A Parquet file.

    Args:
        place: where it lies.
        may_be_empty: whether it may have no rows.
        rows: of a batch.

    Attributes:
        name, columns, torn: see `table.Table`; nothing is torn here.
        count: how many rows it has.
    """

    def __init__(self, place: Place, may_be_empty: bool = False, rows: int = _ROWS) -> None:
        self.place, self.name, self.torn, self._rows = place, str(place), Torn(), rows
        with self._said():
            self._file = pq.ParquetFile(place.path if not place.member else pa.py_buffer(place.open().read()))
        self.columns = tuple(self._file.schema_arrow.names)
        self.count = int(self._file.metadata.num_rows)
        if not self.count and not may_be_empty:
            raise DatasetError(f"{place} has the columns {', '.join(self.columns)} and no rows.")

    def batches(self, columns: Sequence[str]) -> Iterator[Batch]:
        """See `table.Table`."""
        with self._said():
            for batch in self._file.iter_batches(batch_size=self._rows, columns=list(columns)):
                yield {name: batch.column(name) for name in columns}

    def _said(self) -> Any:
        def say(error: Exception) -> DatasetError:
            return DatasetError(f"{self.place} cannot be read as Parquet: {first_line(error)}.")

        return translating(say, pa.ArrowException, OSError)


class InMemory:
    """A data frame of pandas, a data set of Hugging Face, or a table of pyarrow or of whatever speaks its C interface.

    Args:
        content: any of the three.
        name: what to call it.

    Attributes:
        name, columns, torn: see `table.Table`; nothing is torn here.

    Raises:
        DatasetError: it is none of the three, it has no rows, or no names of columns.
    """

    def __init__(self, content: Any, name: str = "the table") -> None:
        self.name, self.torn = name, Torn()
        if isinstance(content, pd.DataFrame):
            if any(level is not None and level not in content.columns for level in content.index.names):
                content = content.reset_index()  # an index with a name is a column
            self._content = content
            columns = [str(column) for column in content.columns]
        elif isinstance(content, pa.Table):
            self._content, columns = content, content.column_names
        elif hasattr(content, "with_format") and hasattr(content, "column_names"):
            if isinstance(content.column_names, dict):
                raise DatasetError(f"{name} holds the parts {', '.join(content.column_names)}. Give one of them.")
            self._content, columns = content.with_format("arrow"), content.column_names
        elif hasattr(content, "__arrow_c_stream__"):  # polars and others
            self._content = content = pa.table(content)
            columns = content.column_names
        else:
            raise DatasetError(
                f"{name} is a {type(content).__name__}. Give a pandas DataFrame, a pyarrow Table, a Hugging Face Dataset or a path."
            )
        self.columns = tuple(columns)
        if not len(content):
            raise DatasetError(f"{name} has the columns {', '.join(self.columns) or 'of nothing'} and no rows.")

    def batches(self, columns: Sequence[str]) -> Iterator[Batch]:
        """See `table.Table`."""
        places = [self.columns.index(name) for name in columns]
        for start in range(0, len(self._content), _ROWS):
            stop = min(start + _ROWS, len(self._content))
            if isinstance(self._content, pd.DataFrame):
                part = self._content.iloc[start:stop]
                yield {name: _array(part.iloc[:, place]) for name, place in zip(columns, places, strict=True)}
            else:
                table = (
                    self._content.slice(start, stop - start)
                    if isinstance(self._content, pa.Table)
                    else self._content[start:stop]
                )
                yield {name: table.column(name).combine_chunks() for name in columns}


def _array(column: Any) -> Any:
    if column.dtype == object:  # of several types, maybe: each says its own text
        dates = [one for one in column if isinstance(one, pd.Timestamp)]
        if not dates:
            return pa.array([None if _missing(one) else text_of(one) for one in column], pa.string())
        return pa.array([None if _missing(one) else str(one) for one in column], pa.string())
    return pa.Array.from_pandas(column.dt.to_timestamp() if isinstance(column.dtype, pd.PeriodDtype) else column)


def _missing(value: Any) -> bool:
    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and value != value)


def saved_dataset(place: Place) -> InMemory:
    """A folder that `save_to_disk` of Hugging Face `datasets` wrote; nothing in it is run or unpickled.

    Raises:
        DatasetError: it cannot be read, or holds several parts.
    """
    import datasets

    path = place.path
    if (path / "dataset_dict.json").is_file():
        parts = sorted(one.parent.name for one in path.glob("*/state.json"))
        raise DatasetError(
            f"{path} holds the parts {', '.join(parts)}. Name the folder of one, such as {path / (parts or ['train'])[0]}."
        )
    with (
        readable(place),
        translating(
            lambda error: DatasetError(f"{path} cannot be read as a folder of `datasets`: {first_line(error)}."),
            ValueError,
            KeyError,
            pa.ArrowException,
        ),
    ):
        return InMemory(datasets.load_from_disk(str(path)), str(place))
