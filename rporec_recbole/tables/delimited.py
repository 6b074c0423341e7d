"""Text tables whose fields are separated by commas, semicolons, tabs or the like; pyarrow reads them, a block at a time."""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from rporec_recbole.errors import ConfigError, DatasetError, translating
from rporec_recbole.tables.opening import Place, readable
from rporec_recbole.tables.streams import STAND_IN, Mended, Separated
from rporec_recbole.tables.table import Batch, Torn

SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}
_BLOCK = 16 << 20  # bytes read at a time; no single row may be longer
_SAMPLE = 1 << 18
_MANY_LINES = 100
_SAID = re.compile(r"sep=([^\r\n])\r?\n")


class Delimited:
    """A text table; every value is a text, letter by letter, and an empty one is empty, not missing.

    Args:
        place: where it lies.
        encoding: of the file.
        separator: of the fields, of one or more characters; found by looking where it is None.
        header: names of the columns, where the file has none.
        quotes: False: quotes are characters like any other.
        mend: read what is no text in this encoding as signs that say so, and do not refuse it.

    Attributes:
        name, columns, torn: see `table.Table`.
        separator: as given or found.

    Raises:
        DatasetError: there are no rows, or the file is no text in this encoding.
    """

    def __init__(
        self,
        place: Place,
        encoding: str = "utf-8",
        separator: str | None = None,
        header: Sequence[str] | None = None,
        quotes: bool = True,
        mend: bool = False,
    ) -> None:
        self._mend = mend
        self.place, self.name, self.torn = place, str(place), Torn()
        self._encoding, self._quotes = _known(encoding), quotes
        sample = self._sample()
        said = _SAID.match(sample)  # as Excel writes it, above the names of the columns
        self._above = 0 if said is None else 1
        if said is not None:
            sample, separator = sample[said.end() :], separator or said[1]
        self.separator = separator or _sniffed(sample, quotes)
        first = next(iter(_records(sample, self.separator, quotes)), [])
        if not any(name.strip() for name in first):
            raise DatasetError(f"{place} is empty. It needs a first line with the names of its columns, and rows.")
        self.columns = tuple(name.strip() for name in header or first)
        self._own_header = header is None
        if len(self.columns) == 1 and separator is None:
            self._refuse_lines_above(sample)
        if self._own_header and len(self._rows_of(sample)) < 2:
            raise DatasetError(f"{place} has a first line ({', '.join(self.columns)[:200]}) and no rows below it.")

    def _refuse_lines_above(self, sample: str) -> None:
        """Where a first line of one word stands above lines of several fields, it is no header."""
        below = sample.partition("\n")[2]
        found = _sniffed(below, self._quotes)
        rows = list(itertools.islice(_records(below, found, self._quotes), 20))
        if rows and len(rows[-1]) > 1:
            raise DatasetError(
                f"The first line of {self.place}, {self.columns[0][:60]!r}, names no columns: lines below it have {len(rows[-1])} fields, separated by "
                f"{found!r}. Remove the lines above the names of the columns."
            )

    def _rows_of(self, sample: str) -> list[list[str]]:
        return list(itertools.islice((row for row in _records(sample, self.separator, self._quotes) if row), 2))

    def _sample(self) -> str:
        """The first lines as text, the last one perhaps torn."""
        with readable(self.place), self.place.open() as file:
            head = file.read(_SAMPLE)
        if head.startswith((b"\xff\xfe", b"\xfe\xff")) and "16" not in self._encoding:
            raise DatasetError(f"{self.place} is written in UTF-16. Add --encoding=utf-16.")
        if b"\0" in head and not self._encoding.startswith(("utf-16", "utf-32")):
            raise DatasetError(
                f"{self.place} is no table of text: it holds zero bytes. What is read: CSV and its kin, JSON lines, Parquet, packed (.gz) or in "
                "an archive (.zip) too. Save a workbook as CSV."
            )
        try:
            text = codecs.getincrementaldecoder(self._encoding)("replace" if self._mend else "strict").decode(head)
        except UnicodeError as error:
            raise undecodable(self.place, self._encoding, head) from error
        if not self._encoding.startswith("utf") and not head.isascii():
            try:
                codecs.getincrementaldecoder("utf-8")().decode(head)
            except UnicodeError:
                return text
            raise DatasetError(
                f"{self.place} is not written in {self._encoding}: its letters beyond ASCII are valid UTF-8, which no other encoding gives "
                "by chance. Leave --encoding out."
            )
        return text.removeprefix("\ufeff")

    def batches(self, columns: Sequence[str]) -> Iterator[Batch]:
        """See `table.Table`."""
        self.torn.count, self.torn.examples = 0, []
        numbers = {name: str(self.columns.index(name)) for name in columns}
        every = [str(number) for number in range(len(self.columns))]
        if not numbers:
            return
        with self._said(), self.place.open() as raw:
            reader = pacsv.open_csv(
                self._prepared(raw),
                read_options=pacsv.ReadOptions(
                    block_size=_BLOCK,
                    use_threads=False,
                    column_names=every,
                    skip_rows=self._above,
                    skip_rows_after_names=int(self._own_header),
                    encoding="utf8" if self._encoding == "utf-8" or self._mend else self._encoding,
                ),
                parse_options=pacsv.ParseOptions(
                    delimiter=self.separator if len(self.separator) == 1 else STAND_IN,
                    quote_char='"' if self._quotes else False,
                    newlines_in_values=self._quotes,
                    invalid_row_handler=self._skip,
                ),
                convert_options=pacsv.ConvertOptions(
                    column_types=dict.fromkeys(every, pa.string()),
                    include_columns=list(
                        dict.fromkeys([*numbers.values(), every[-1]])
                    ),  # the last one: see _refuse_open_quote
                    strings_can_be_null=False,
                ),
            )
            last = None
            for batch in reader:
                for column in batch.columns:
                    self._refuse_open_quote(column, _MANY_LINES)
                yield {name: batch.column(number) for name, number in numbers.items()}
                last = batch if len(batch) else last
            for column in [] if last is None else last.columns:
                self._refuse_open_quote(column.slice(len(column) - 1), 1)

    def _refuse_open_quote(self, texts: Any, lines: int) -> None:
        """A quote that is opened and never closed takes all rows behind it for one text, which shows in its lines: they are rows.

        Args:
            texts: a column.
            lines: so many lines of a text must look like rows.
        """
        if not self._quotes or not len(texts):
            return
        if lines > 1 and (pc.max(pc.binary_length(texts)).as_py() or 0) < 2 * lines:
            return
        several = texts.filter(pc.greater_equal(pc.count_substring(texts, "\n"), lines)).to_pylist()
        for text in several:
            inside = text.rstrip("\r\n").split("\n")[1:]
            rows = sum(line.count(self.separator) == len(self.columns) - 1 for line in inside)
            if len(self.columns) > 1 and len(inside) >= lines and rows > 0.9 * len(inside):
                raise self._open_quote()

    def _open_quote(self) -> DatasetError:
        return DatasetError(
            f"{self.place} has a quote that is opened and never closed, so that all rows behind it are one text. Close it, or read quotes as "
            "ordinary characters with --quotes=False."
        )

    def _prepared(self, raw: BinaryIO) -> Any:
        # pyarrow takes a byte order mark of UTF-8 away itself.
        if self._mend:
            return Mended(raw, self._encoding)
        return raw if len(self.separator) == 1 else Separated(raw, self.separator.encode(self._encoding))

    def _skip(self, row: Any) -> str:
        text = row.text.replace(STAND_IN, self.separator).strip()
        self.torn.add(f"{text[:60]!r} has {row.actual_columns} fields instead of {row.expected_columns}")
        return "skip"

    def _said(self) -> Any:
        def say(error: Exception) -> DatasetError | None:
            text = str(error)
            if isinstance(error, UnicodeError) or "invalid UTF8" in text:
                return undecodable(self.place, self._encoding)
            if "straddling" in text:
                return self._open_quote()
            if isinstance(error, pa.ArrowInvalid):
                return DatasetError(f"{self.place} cannot be read as a table separated by {self.separator!r}: {text}.")
            return None

        return translating(lambda error: say(error) or _as_unreadable(self.place, error))


def _as_unreadable(place: Place, error: Exception) -> DatasetError | None:
    try:
        with readable(place):
            raise error
    except DatasetError as told:
        return told
    except Exception:
        return None


def undecodable(place: Place, encoding: str, head: bytes | None = None) -> DatasetError:
    """What to say of a file that is not in its encoding."""
    shown = ""
    if head is not None:
        line = next((one for one in head.splitlines() if not _decodes(one, encoding)), b"")
        shown = f" A line that shows it: {line[:60]!r}."
    return DatasetError(
        f"{place} is not written in {encoding}. Name its encoding with --encoding=NAME, such as cp1252 (Windows in the West), ISO-8859-1 or gbk, "
        f"or save it as UTF-8.{shown}"
    )


def _decodes(line: bytes, encoding: str) -> bool:
    try:
        line.decode(encoding)
    except UnicodeError:
        return False
    return True


def _known(encoding: str) -> str:
    try:
        return codecs.lookup("utf-8" if encoding.lower() in ("utf-8-sig", "utf_8_sig") else encoding).name
    except LookupError as error:
        raise ConfigError(
            f"There is no encoding `{encoding}`. Some that there are: utf-8, cp1252, ISO-8859-1, gbk, utf-16."
        ) from error


def _records(sample: str, separator: str, quotes: bool) -> Iterator[list[str]]:
    """Rows of a sample; the last one may be torn."""
    if len(separator) > 1:
        sample, separator = sample.replace(separator, STAND_IN), STAND_IN
    csv.field_size_limit(max(csv.field_size_limit(), _SAMPLE))
    # Python takes a lone carriage return for no end of a line where it reads from a text that it has not split itself.
    lines = io.StringIO(sample, newline=None)
    rows = csv.reader(lines, delimiter=separator, quoting=csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE)
    try:
        yield from (row for row in rows if row)
    except csv.Error:
        return


def _sniffed(sample: str, quotes: bool) -> str:
    """The separator with which most rows have as many fields as the first one, and that one has the most."""
    best, best_score = ",", (0.0, 0)
    whole = sample if len(sample) < _SAMPLE // 4 else sample[: sample.rfind("\n") + 1] or sample
    for separator in SEPARATORS.values():
        rows = list(itertools.islice(_records(whole, separator, quotes), 200))
        fields = len(rows[0]) if rows else 0
        if fields > 1:
            alike = sum(len(row) == fields for row in rows) / len(rows)
            score = (round(alike, 1), fields)
            if score > best_score:
                best, best_score = separator, score
    return best


def separator_of(text: str) -> str:
    """A separator as a user names it: the character itself, `tab`, or `\\t`.

    Raises:
        ConfigError: it is empty.
    """
    named = SEPARATORS.get(
        text.lower(), text.encode("ascii", "ignore").decode("unicode_escape") if re.match(r"\\", text) else text
    )
    if not named:
        raise ConfigError(
            f"`--separator={text}` is empty. Write one of {', '.join(SEPARATORS)}, or the character itself."
        )
    return cast(str, named)
