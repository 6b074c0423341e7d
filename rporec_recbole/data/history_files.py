"""Files of histories, in any of these forms, one file or many:

JSON lines   named .jsonl, .ndjson or .json: {"user": "...", "items": ["...", "..."]} on each line, and with "times": [..., ...] also when
             each item was chosen
tables       named .parquet or .csv: a column of users, and `items` with a list of ids (Parquet) or ids between spaces; `times` likewise
plain text   any other file: `user<TAB>item item item` on each line; ids with spaces or tabs need another form

Items stand oldest first, by their ids in the data files, and times are counted as there. Empty lines are skipped.
"""

from __future__ import annotations

import codecs
import contextlib
import glob
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rporec_recbole.data.atomic import text_lines
from rporec_recbole.errors import DatasetError
from rporec_recbole.tables.sequences import SUFFIXES, sequence_rows

JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")

Row = tuple[str, str, list[str] | str, Any]
"""Where it stands, a user, the user's items, and their times as somebody wrote them, or None; in place of the items a sentence that says what
is wrong."""


def files_named(given: str | Path, suffixes: tuple[str, ...] | None = None) -> list[Path]:
    """The files that a user named, in the order of their names.

    Args:
        given: a file, a folder, whose files count that have no name of a hidden one, or a pattern such as `days/*.parquet`.
        suffixes: of a folder's files that count; None: all.

    Raises:
        DatasetError: a folder or a pattern has no file.
    """
    path = Path(given)
    if path.is_dir():
        found = [one for one in path.iterdir() if one.is_file() and not one.name.startswith((".", "_"))]
        found = [one for one in found if suffixes is None or one.suffix.lower() in suffixes]
    elif path.exists() or not glob.has_magic(str(given)):
        return [path]  # the reader says that it is not there
    else:
        found = [Path(one) for one in glob.glob(str(given), recursive=True) if Path(one).is_file()]
    if not found:
        kinds = f" named {' or '.join(suffixes)}" if suffixes else ""
        raise DatasetError(
            f"{given} holds no file{kinds}. Name a file, a folder of files, or a pattern such as 'days/*.parquet'."
        )
    return sorted(found)


@dataclass(frozen=True)
class HistoryFiles:
    """Files of histories.

    Attributes:
        name: what people call them.
        files: in their order.
        encoding: of all of them; None: UTF-8 for JSON, `usual` for the others.
        usual: see `encoding`.
    """

    name: str
    files: tuple[Path, ...]
    encoding: str | None = None
    usual: str = "utf-8"

    @property
    def lasting(self) -> bool:
        """Whether they can be read again, as no pipe can."""
        return all(file.is_file() for file in self.files)

    def rows(self) -> Iterator[Row]:
        """All of them, from the first file to the last.

        Raises:
            DatasetError: a file cannot be read in this encoding.
        """
        for file in self.files:
            inside = "" if len(self.files) == 1 else f"{file.name}, "
            for here, *content in self._of_file(file):
                yield inside + here, *content

    def _of_file(self, file: Path) -> Iterator[Row]:
        suffix = file.suffix.lower()
        encoding = self.encoding or ("utf-8" if suffix in JSON_SUFFIXES else self.usual)
        if suffix in SUFFIXES:
            for number, (owner, items, times) in enumerate(sequence_rows(file, encoding), start=1):
                yield f"row {number}", owner or "", _of_table(owner, items), times
            return
        parse = _from_json if suffix in JSON_SUFFIXES else _from_text
        for number, line in list_lines(file, encoding):
            yield f"line {number}", *parse(line)


def list_lines(path: Path, encoding: str) -> Iterator[tuple[int, str]]:
    """Number and content of the lines of a file that a person or another program wrote, empty ones left out.

    Args:
        path: the file.
        encoding: of the file; UTF-8 may start with a byte order mark.
    """
    with contextlib.suppress(LookupError):  # the reader says it
        encoding = "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding
    return ((number, line) for number, line in text_lines(path, encoding) if line.strip())


def _of_table(owner: str | None, items: list[str | None] | None) -> list[str] | str:
    if not owner:
        return "has no user"
    known = [item for item in items or () if item]
    return known if len(known) == len(items or ()) else "an item is empty"


def _from_json(line: str) -> tuple[str, list[str] | str, Any]:
    form = 'must read {"user": "...", "items": ["...", "..."]}'
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return "", f"is no JSON; it {form}", None
    if not isinstance(row, dict) or not is_id(row.get("user")) or not isinstance(row.get("items"), list):
        return "", form, None
    if not all(is_id(item) for item in row["items"]):
        return str(row["user"]), f"an item is neither text nor a whole number; it {form}", None
    return str(row["user"]), [str(item) for item in row["items"]], row.get("times")


def is_id(value: Any) -> bool:
    """Whether a value may name a user or an item: a text with something in it, or a whole number, NumPy's too."""
    value = plain(value)
    return (isinstance(value, str) and value != "") or type(value) is int


def plain(value: Any) -> Any:
    """NumPy's own numbers as Python's."""
    return value.item() if isinstance(value, np.generic) else value


def _from_text(line: str) -> tuple[str, list[str] | str, None]:
    user, tab, items = line.partition("\t")
    if not tab or not user:
        hint = " (JSON lines need a file named .jsonl)" if line.startswith("{") else ""
        return user, f"must read `user<TAB>item item item`{hint}", None
    tokens = [item for item in items.replace("\t", " ").split(" ") if item]  # an id may hold any other white space
    return user, tokens, None
