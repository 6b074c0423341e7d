"""RecBole's atomic files: how every reader takes them apart, and their checks before RecBole reads them.

A line ends at a line feed, with or without one carriage return before it, and nowhere else; a field ends at the separator; quotes are
characters like any other. RecBole's own readers disagree: its header ends at a lone carriage return, pandas' rows end there too.
"""

from __future__ import annotations

import codecs
import csv
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import pandas as pd

from rporec_recbole.errors import DatasetError

_TYPES = ("token", "token_seq", "float", "float_seq")
_NUMBER = re.compile(r" *[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)? *", re.ASCII)


def text_lines(path: Path, encoding: str = "utf-8") -> Iterator[tuple[int, str]]:
    """The number of each line, from 1, and the line without its end.

    Raises:
        DatasetError: the file cannot be read, or is not in this encoding.
    """
    try:
        with path.open(encoding=encoding, newline="\n") as file:
            for number, line in enumerate(file, start=1):
                yield number, line.removesuffix("\n").removesuffix("\r")
    except UnicodeError as error:
        raise undecodable(path, encoding) from error
    except (OSError, LookupError) as error:  # the second: no such encoding
        raise DatasetError(f"Cannot read {path}: {error}.") from error


def undecodable(path: Path, encoding: str) -> DatasetError:
    """What to say of a file that is not in its encoding."""
    place = ""
    with path.open("rb") as file:
        for number, line in enumerate(file if "\n".encode(encoding) == b"\n" else (), start=1):
            try:
                line.decode(encoding)
            except UnicodeError:
                place = f" Line {number}: {line.strip()[:60]!r}."
                break
    return DatasetError(
        f"{path} is not written in {encoding}. Name its encoding with --encoding=NAME, such as utf-8, ISO-8859-1, cp1252 or gbk, "
        f"or save it as UTF-8.{place}"
    )


def read_header(path: Path, separator: str = "\t", encoding: str = "utf-8") -> dict[str, str]:
    """Field -> type of an atomic file.

    Raises:
        DatasetError: the file is missing or its first line is no typed header.
    """
    head = next(text_lines(path, encoding), (1, ""))[1]
    if head.startswith("\ufeff"):
        raise DatasetError(
            f"{path} starts with a byte order mark, which RecBole takes for a part of the first column. Read it with --encoding=utf-8-sig, "
            "or save it as UTF-8 without one."
        )
    if "\r" in head:
        raise DatasetError(
            f"{path}, line 1: there is a carriage return, but no line feed behind it, so no line ends. Save the file with line feeds."
        )
    fields: dict[str, str] = {}
    for column in head.split(separator):
        name, _, kind = column.partition(":")
        if not name or kind not in _TYPES:
            raise DatasetError(
                f"{path}, line 1: the column {column!r} must read `name:type` with a type among {', '.join(_TYPES)}, "
                f"columns separated by {separator!r}; it was read as {encoding} (--encoding)."
            )
        if name in fields:
            raise DatasetError(f"{path}, line 1: two columns are named `{name}`. Rename or remove one.")
        fields[name] = kind
    return fields


def check_rows(
    path: Path,
    separator: str = "\t",
    encoding: str = "utf-8",
    required: tuple[str, ...] = (),
    limit: int = 5,
    within: str = " ",
) -> None:
    """Checks that every row of an atomic file has all fields, that its numbers are numbers, and that its encoding may be true.

    Args:
        path: the file.
        separator: between columns.
        encoding: of the file.
        required: fields that may not be empty; elsewhere a gap is allowed, RecBole fills it.
        limit: how many bad lines to name.
        within: between the numbers of a list (`seq_separator`).

    Raises:
        DatasetError: names the first few bad lines and what is wrong with them; or the text is UTF-8 and was to be read as another one.
    """
    kinds = list(read_header(path, separator, encoding).items())
    numbers = [(index, name) for index, (name, kind) in enumerate(kinds) if kind == "float"]
    lists = [(index, name) for index, (name, kind) in enumerate(kinds) if kind == "float_seq"]
    needed = [(index, name) for index, (name, _) in enumerate(kinds) if name in required]
    problems: list[str] = []
    rows, foreign, is_utf8 = 0, 0, not codecs.lookup(encoding).name.startswith("utf")
    for number, line in text_lines(path, encoding):
        if number == 1 or not line:
            continue
        rows += 1
        values = line.split(separator)
        if len(values) != len(kinds):
            problems.append(f"line {number} has {len(values)} fields instead of {len(kinds)}: {line.strip()[:80]!r}")
        else:
            problems += [
                f"line {number}: `{name}` is {values[i]!r}, not a number"
                for i, name in numbers
                if not _is_number(values[i])
            ]
            problems += [
                f"line {number}: `{name}` has {one!r}, not a number"
                for i, name in lists
                for one in values[i].split(within)
                if not _is_number(one)
            ]
            problems += [f"line {number}: `{name}` is empty" for i, name in needed if not values[i].strip(" ")]
        if is_utf8 and not line.isascii():
            foreign, is_utf8 = foreign + 1, _is_utf8(line, encoding)
        if len(problems) >= limit:
            break
    if problems:
        raise DatasetError(f"{path} has malformed rows; correct or remove them:\n  " + "\n  ".join(problems[:limit]))
    if is_utf8 and foreign:
        raise DatasetError(
            f"{path} is not written in {encoding}: all of its {foreign:,} lines with letters beyond ASCII are valid UTF-8, which no other "
            "encoding gives by chance. Name it: --encoding=utf-8."
        )
    if not rows:
        raise DatasetError(f"{path} has a header but no rows.")


def _is_utf8(line: str, encoding: str) -> bool:
    try:
        line.encode(encoding).decode("utf-8")
    except UnicodeError:
        return False
    return True


def _is_number(text: str) -> bool:
    """Whether pandas reads it as one; an empty text is a gap, which RecBole fills."""
    return not text or (_NUMBER.fullmatch(text) is not None and math.isfinite(float(text)))


def read_table(path: Path, separator: str = "\t", encoding: str = "utf-8", **options: Any) -> pd.DataFrame:
    """An atomic file as pandas reads it, with lines and fields as everywhere here. Only what is empty is missing: `NA` is a token.

    Args:
        path: the file.
        separator: between columns.
        encoding: of the file.
        options: of `pandas.read_csv`, such as `usecols` and `dtype`; columns are named as in the header.

    Raises:
        DatasetError: the file cannot be read, or is not in this encoding.
    """
    try:
        with path.open(encoding=encoding, newline="\n") as file:
            return pd.read_csv(
                _LineFeeds(file),  # type: ignore[call-overload]  # it reads, which is all that pandas asks for
                sep=separator,
                engine="c",
                lineterminator="\n",
                quoting=csv.QUOTE_NONE,
                keep_default_na=False,
                na_values=[""],
                float_precision="round_trip",
                **options,
            )
    except UnicodeError as error:
        raise undecodable(path, encoding) from error
    except OSError as error:
        raise DatasetError(f"Cannot read {path}: {error}.") from error


class _LineFeeds:
    """A text whose lines all end with a line feed alone."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def read(self, size: int = -1) -> str:
        text = self._file.read(size)
        while text.endswith("\r"):  # a pair may be torn apart
            more = self._file.read(1)
            text = text + more if more else text[:-1]
            if not more:
                break
        return text.replace("\r\n", "\n")

    def __iter__(self) -> Iterator[str]:
        return iter(self._file)
