"""Checks of RecBole's atomic files before RecBole reads them, so that a bad row is named instead of half-read."""

from __future__ import annotations

import math
from pathlib import Path

from rporec_recbole.errors import DatasetError

_TYPES = ("token", "token_seq", "float", "float_seq")


def read_header(path: Path, separator: str = "\t") -> dict[str, str]:
    """Field -> type of an atomic file.

    Raises:
        DatasetError: the file is missing or its first line is no typed header.
    """
    try:
        with path.open(encoding="utf-8") as file:
            head = file.readline().rstrip("\r\n")
        if head.startswith("\ufeff"):
            raise DatasetError(
                f"{path} starts with a byte order mark, which RecBole takes for a part of the first column. Save it as UTF-8 without one."
            )
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"Cannot read {path}: {error}.") from error
    fields: dict[str, str] = {}
    for column in head.split(separator):
        name, _, kind = column.rpartition(":")
        if not name or kind not in _TYPES:
            raise DatasetError(
                f"{path}, line 1: the column {column!r} must read `name:type` with a type among {', '.join(_TYPES)}, "
                f"columns separated by {separator!r}."
            )
        fields[name] = kind
    return fields


def check_rows(path: Path, separator: str = "\t", required: tuple[str, ...] = (), limit: int = 5) -> None:
    """Checks that every row of an atomic file has all fields and that its numbers are numbers.

    Args:
        path: the file.
        separator: between columns.
        required: fields that may not be empty; elsewhere a gap is allowed, RecBole fills it.
        limit: how many bad lines to name.

    Raises:
        DatasetError: names the first few bad lines and what is wrong with them.
    """
    kinds = list(read_header(path, separator).items())
    numbers = [(index, name) for index, (name, kind) in enumerate(kinds) if kind == "float"]
    problems: list[str] = []
    needed = [(index, name) for index, (name, _) in enumerate(kinds) if name in required]
    count = 0
    with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
        next(file)
        for count, line in enumerate(file, start=1):
            values = line.rstrip("\r\n").split(separator)
            if values == [""]:
                continue
            if len(values) != len(kinds):
                problems.append(
                    f"line {count + 1} has {len(values)} fields instead of {len(kinds)}: {line.strip()[:80]!r}"
                )
            else:
                problems += [
                    f"line {count + 1}: `{name}` is {values[i]!r}, not a number"
                    for i, name in numbers
                    if not _is_number(values[i])
                ]
                problems += [f"line {count + 1}: `{name}` is empty" for i, name in needed if not values[i]]
            if len(problems) >= limit:
                break
    if problems:
        raise DatasetError(f"{path} has malformed rows; correct or remove them:\n  " + "\n  ".join(problems[:limit]))
    if not count:
        raise DatasetError(f"{path} has a header but no rows.")


def _is_number(text: str) -> bool:
    if not text:
        return True  # a gap, which RecBole fills
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
