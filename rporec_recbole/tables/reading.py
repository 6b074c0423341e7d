"""Which reader a table needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rporec_recbole.errors import DatasetError
from rporec_recbole.tables.columnar import InMemory, Parquet, saved_dataset
from rporec_recbole.tables.delimited import Delimited
from rporec_recbole.tables.lines import Lines
from rporec_recbole.tables.opening import Place, find, readable
from rporec_recbole.tables.table import Table

_OTHERS = {
    b"PK\x03\x04": "a zip archive or a workbook. Save a workbook as CSV; an archive needs the ending .zip",
    b"\xd0\xcf\x11\xe0": "an old workbook. Save it as CSV",
    b"SQLite format": "a database. Export the table as CSV",
    b"ARROW1": "an Arrow file. Save it as Parquet",
    b"\x80\x04": "a pickle, which is never loaded here. Save it as Parquet",
    b"\x89PNG": "a picture",
    b"%PDF": "a PDF",
}


def open_table(
    given: Any, encoding: str = "utf-8", separator: str | None = None, quotes: bool = True, name: str = "the table"
) -> Table:
    """The reader that fits what was given.

    Args:
        given: the path of a file (CSV and its kin, JSON lines, Parquet; packed, or in an archive as `shop.zip/purchases.csv`) or of a folder
            of Hugging Face `datasets`; or a data frame, a table of pyarrow, a data set of Hugging Face.
        encoding: of a text file.
        separator, quotes: see `delimited.Delimited`.
        name: what to call a table that has no path.

    Raises:
        DatasetError: it cannot be read.
        ConfigError: there is no such encoding.
    """
    if not isinstance(given, (str, Path)):
        return InMemory(given, name)
    return table_at(find(given), encoding, separator, quotes)


def table_at(place: Place, encoding: str = "utf-8", separator: str | None = None, quotes: bool = True) -> Table:
    """The same, of a place that was found."""
    if not place.member and place.path.is_dir():
        if any((place.path / name).is_file() for name in ("dataset_info.json", "dataset_dict.json", "state.json")):
            return saved_dataset(place)
        inside = sorted(one.name for one in place.path.iterdir())[:8]
        raise DatasetError(
            f"{place} is a folder; it holds {', '.join(inside) or 'nothing'}. Name the file of the table."
        )
    with readable(place), place.open() as file:
        head = file.read(4096)
    if not head.strip():
        raise DatasetError(f"{place} is empty. It needs a first line with the names of its columns, and rows.")
    if head.startswith(b"PAR1"):
        return Parquet(place)
    what = next((what for start, what in _OTHERS.items() if head.startswith(start)), None)
    if what:
        raise DatasetError(f"{place} is {what}. What is read: CSV and its kin, JSON lines, Parquet.")
    if separator is None and head.removeprefix(b"\xef\xbb\xbf").lstrip()[:2] in _STARTS_OF_RECORDS:
        return Lines(place, encoding)
    return Delimited(place, encoding, separator, quotes=quotes)


_STARTS_OF_RECORDS = {b'{"', b"{'", b"{u", b"[{", b"{ ", b"[\n", b"[\r", b"[ "}
