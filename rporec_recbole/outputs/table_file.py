"""Tables that are written piece by piece, into a file or a folder of files, so that memory stays flat; smaller ones go through
`data/files.py` in one piece."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rporec_recbole.data.files import replacing, replacing_folder, unwritable
from rporec_recbole.errors import ConfigError
from rporec_recbole.runs.folder import refuse_own_file

Columns = Mapping[str, np.ndarray]
SUFFIXES = (".parquet", ".csv", ".jsonl")
PART_ROWS = 1 << 20
"""Of each file of a folder."""
_PART = re.compile(r"part-\d{5,}\.parquet")
_ROW_GROUP, _ROW_GROUP_BYTES = 1 << 18, 1 << 26  # rows, or bytes before compression: rows of vectors are long


def check_output(path: Path, option: str = "--output", or_folder: bool = False) -> None:
    """Refuses a file that could not be written, before any work is done.

    Args:
        path: of the file.
        option: what names it, for the message.
        or_folder: a name without a suffix is that of a folder of files (`parts_writer`).

    Raises:
        ConfigError: the suffix is none of `SUFFIXES`, the folder is missing or may not be written to, or the path is a folder itself or a
            file of a run; or a folder holds what is none of its files.
    """
    parts = or_folder and not path.suffix
    if not parts and path.suffix.lower() not in SUFFIXES:
        folder = ", or have no suffix for a folder of Parquet files" if or_folder else ""
        raise ConfigError(
            f"`{option}={path}` must end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}, which chooses the form{folder}."
        )
    if not path.parent.is_dir():
        raise ConfigError(f"`{option}={path}`: the folder {path.parent} does not exist. Make it, or name another.")
    if not os.access(path.parent, os.W_OK):
        raise ConfigError(f"`{option}={path}`: you may not write to the folder {path.parent.absolute()}. Name another.")
    if parts:
        others = sorted(one.name for one in path.iterdir() if not _PART.fullmatch(one.name)) if path.is_dir() else []
        if others or path.is_file():
            held = f"holds other files than parts of a table, such as `{others[0]}`" if others else "is a file"
            raise ConfigError(f"`{option}={path}` {held}, and would be replaced. Name a new folder.")
        return
    if path.is_dir():
        raise ConfigError(f"`{option}={path}` is a folder. Name a file.")
    refuse_own_file(path)


@contextlib.contextmanager
def table_writer(path: Path, schema: Mapping[str, str]) -> Iterator[Callable[[Columns], None]]:
    """A function that appends columns of equal length to a new table, as Parquet, CSV or JSON lines by the suffix of `path`.

    The table grows in a file beside `path` and takes its place at the end of the block; after an error or a kill `path` is as
    it was.

    Args:
        path: see `check_output`.
        schema: column -> Arrow type; `float32[64]` for vectors of 64 numbers, whose column is an array `[rows, 64]`.

    Raises:
        RunFolderError: the file cannot be written.
    """
    opened = {".parquet": _parquet, ".csv": _csv, ".jsonl": _json_lines}[path.suffix.lower()]
    with unwritable(f"{path} cannot be written", "--output", pa.ArrowException):
        with replacing(path) as growing, opened(growing, schema) as append:
            yield append


def part_name(number: int) -> str:
    """The name of a file of a folder, in their order."""
    return f"part-{number:05d}.parquet"


@contextlib.contextmanager
def parts_writer(folder: Path, schema: Mapping[str, str], rows: int = PART_ROWS) -> Iterator[Callable[[Columns], None]]:
    """As `table_writer`, into a folder of Parquet files; an older folder is replaced when the new one is complete.

    Args:
        folder: see `check_output`.
        schema: as for `table_writer`.
        rows: of each file; the last one has what is left, and there is one where there is nothing.

    Raises:
        RunFolderError: a file cannot be written.
    """
    with unwritable(f"{folder} cannot be written", "--output", pa.ArrowException), replacing_folder(folder) as growing:
        with contextlib.ExitStack() as stack:
            number, room = 0, rows
            append = stack.enter_context(_parquet(growing / part_name(0), schema))

            def split(columns: Columns) -> None:
                nonlocal number, room, append
                start, count = 0, len(columns[next(iter(schema))])
                while start < count:
                    if not room:
                        stack.close()
                        number, room = number + 1, rows
                        append = stack.enter_context(_parquet(growing / part_name(number), schema))
                    taken = min(room, count - start)
                    append({name: columns[name][start : start + taken] for name in schema})
                    start, room = start + taken, room - taken

            yield split


@contextlib.contextmanager
def _parquet(path: Path, schema: Mapping[str, str]) -> Iterator[Callable[[Columns], None]]:
    kinds = pa.schema([(name, _type(kind)) for name, kind in schema.items()])
    waiting: list[Any] = []
    with pq.ParquetWriter(path, kinds, compression="zstd") as writer:

        def append(columns: Columns) -> None:
            waiting.append(pa.table({name: _array(columns[name], kinds.field(name).type) for name in schema}))
            if (
                sum(len(part) for part in waiting) >= _ROW_GROUP
                or sum(part.nbytes for part in waiting) >= _ROW_GROUP_BYTES
            ):
                flush()

        def flush() -> None:  # small batches share a row group
            if waiting:
                writer.write_table(pa.concat_tables(waiting).combine_chunks())
                waiting.clear()

        yield append
        flush()


def _type(kind: str) -> Any:
    vector = re.fullmatch(r"(\w+)\[(\d+)\]", kind)
    return pa.list_(pa.type_for_alias(vector[1]), int(vector[2])) if vector else pa.type_for_alias(kind)


def _array(values: np.ndarray, kind: Any) -> Any:
    if values.ndim == 1:
        return pa.array(values, kind, from_pandas=True)  # no number is a gap, in all three forms
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1), kind.value_type), type=kind)


@contextlib.contextmanager
def _csv(path: Path, schema: Mapping[str, str]) -> Iterator[Callable[[Columns], None]]:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(schema)
        yield lambda columns: writer.writerows(_rows(columns, schema))


@contextlib.contextmanager
def _json_lines(path: Path, schema: Mapping[str, str]) -> Iterator[Callable[[Columns], None]]:
    with path.open("w", encoding="utf-8") as file:

        def append(columns: Columns) -> None:
            for row in _rows(columns, schema):
                file.write(json.dumps(dict(zip(schema, row, strict=True))) + "\n")

        yield append


def _rows(columns: Columns, schema: Mapping[str, str]) -> Iterator[tuple[Any, ...]]:
    return zip(*(_values(columns[name]) for name in schema), strict=True)


def _values(column: np.ndarray) -> list[Any]:
    gaps = np.isnan(column) if column.ndim == 1 and column.dtype.kind == "f" else np.zeros(1, dtype=bool)
    return np.where(gaps, None, column).tolist() if gaps.any() else column.tolist()  # type: ignore[call-overload]
