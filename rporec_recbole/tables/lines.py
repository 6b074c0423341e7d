"""Tables of one record a line: JSON lines, and the Python dictionaries that some older data sets have in their place."""

from __future__ import annotations

import ast
import io
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from rporec_recbole.errors import DatasetError, translating
from rporec_recbole.tables.delimited import undecodable
from rporec_recbole.tables.opening import Place, readable
from rporec_recbole.tables.table import Batch, Torn, text_of

_ROWS = 20000
_LOOKED_AT = 1000


class Lines:
    """A table of one record a line, or of one JSON list of records; numbers are texts, letter by letter.

    Args:
        place: where it lies.
        encoding: of the file.

    Attributes:
        name, columns, torn: see `table.Table`. Columns are those of the first thousand records.

    Raises:
        DatasetError: there are no records.
    """

    def __init__(self, place: Place, encoding: str = "utf-8") -> None:
        self.place, self.name, self.torn = place, str(place), Torn()
        self._encoding = encoding
        names: dict[str, None] = {}
        for record in itertools.islice(self._records(), _LOOKED_AT):
            names.update(dict.fromkeys(record))
        if not names:
            shown = f" Its first line: {self.torn.examples[0]}." if self.torn.examples else ""
            raise DatasetError(f"{place} holds no records, one on each line.{shown}")
        self.columns = tuple(names)

    def batches(self, columns: Sequence[str]) -> Iterator[Batch]:
        """See `table.Table`."""
        self.torn.count, self.torn.examples = 0, []
        records = self._records()
        while rows := list(itertools.islice(records, _ROWS)):
            yield {name: pa.array([text_of(row.get(name)) for row in rows], pa.string()) for name in columns}

    def _records(self) -> Iterator[Mapping[str, Any]]:
        unread = translating(lambda error: undecodable(self.place, self._encoding), UnicodeError)
        with readable(self.place), unread, self.place.open() as raw:
            text = io.TextIOWrapper(raw, encoding=self._encoding, newline="\n")
            first = text.readline().removeprefix("\ufeff")
            while first and not first.strip():
                first = text.readline()
            if first.lstrip().startswith("["):
                yield from self._listed(first + text.read())
                return
            for line in itertools.chain([first], text):
                if line.strip():
                    record = _record(line)
                    if record is None:
                        self.torn.add(f"{line.strip()[:60]!r} is no record")
                    else:
                        yield record

    def _listed(self, text: str) -> Iterator[Mapping[str, Any]]:
        try:
            content = _DECODER.decode(text)
        except ValueError as error:
            raise DatasetError(f"{self.place} begins like a JSON list and is none: {error}.") from error
        for record in content:
            if isinstance(record, dict):
                yield record
            else:
                self.torn.add(f"{str(record)[:60]!r} is no record")


_DECODER = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=lambda name: None)


def _record(line: str) -> Mapping[str, Any] | None:
    """JSON, or a literal of Python, which is read as data and never run."""
    try:
        found = _DECODER.decode(line.strip())
    except (ValueError, RecursionError):
        try:
            found = ast.literal_eval(line.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return None
    return found if isinstance(found, dict) else None
