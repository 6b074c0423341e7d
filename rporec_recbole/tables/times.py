"""Times as whole microseconds since 1970 (UTC): dates, with zones or without, and counts of seconds, ms, us or ns, told apart."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from rporec_recbole.errors import ConfigError, DatasetError
from rporec_recbole.tables.table import as_texts, filled

UNITS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_PER_MICROSECOND = {"s": 1e-6, "ms": 1e-3, "us": 1.0, "ns": 1e3}
# Counts of seconds reach 1e11 in the year 5138; a count of milliseconds below it lies before 1973. And so on, in steps of a thousand.
_FROM = {"s": 0.0, "ms": 1e11, "us": 1e14, "ns": 1e17}
_BELOW = {"s": 1e11, "ms": 1e14, "us": 1e17, "ns": 1e20}
_PLAIN_BELOW = 1e8  # seconds of 1973
_SAMPLE = 10000
_NUMBER = r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$"
_ZONE = r"(Z|z|UTC|GMT|\d:?\d\d(\.\d+)? ?[+-]\d\d(:?\d\d)?)\s*$"  # behind a clock, or -05 of a day were one
_ORDERED = re.compile(r"\s*(\d{1,2})([/.-])(\d{1,2})\2(\d{4}|\d{2})(?!\d)(.*)", re.DOTALL)
_CLOCKS = (
    "",
    " %H:%M",
    " %H:%M:%S",
    " %H:%M:%S.%f",
    " %I:%M %p",
    " %I:%M:%S %p",
    ", %H:%M",
    ", %H:%M:%S",
    "T%H:%M:%S",
    "T%H:%M",
)
ORDER = "the order of the rows"
PLAIN = "plain numbers, of which the order counts and nothing else"


@dataclass
class Times:
    """Reads a column of times, batch by batch; what its first batch shows holds for all.

    Args:
        given: a format of `strptime`, a unit (`s`, `ms`, `us`, `ns`), `iso`, or None to find out.
        column: its name, for messages.

    Attributes:
        how: what the times are, in words; empty before the first batch.
        unzoned: how many dates had no zone, and were taken as UTC.
    """

    given: str | None
    column: str
    how: str = ""
    unzoned: int = 0
    _mode: str = ""

    def __post_init__(self) -> None:
        given = self.given
        if given is None:
            return
        if given in UNITS:
            self._numbers(given)
        elif given.lower() in ("iso", "iso8601"):
            self._mode, self.how = "iso", "dates"
        elif "%" in given:
            self._mode, self.how = given, f"dates as {given}"
        else:
            raise ConfigError(
                f"`--time_format={given}` is none. Write s, ms, us or ns for counts since 1970, iso, or a pattern such as %d/%m/%Y %H:%M."
            )

    def read(self, array: Any) -> tuple[np.ndarray, np.ndarray]:
        """Microseconds, `[N]` int64, and where there is a time that could be read, `[N]` bool.

        Raises:
            DatasetError: nobody can know what these times mean.
        """
        kind = array.type
        if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
            return self._typed(array, kind)
        texts = as_texts(array)
        if not self._mode:
            sample = [text.strip() for text in texts.filter(pa.array(filled(texts))).slice(0, _SAMPLE).to_pylist()]
            if not sample:
                return np.zeros(len(texts), np.int64), np.zeros(len(texts), bool)
            self._decide(sample)
        if self._mode in UNITS:
            return self._counted(texts, self._mode)
        return self._dated(texts)

    def _typed(self, array: Any, kind: Any) -> tuple[np.ndarray, np.ndarray]:
        self.how = self.how or "dates"
        there = ~np.asarray(array.is_null())
        if getattr(kind, "tz", None) is None:
            self.unzoned += int(there.sum())
        micros = array.cast(pa.timestamp("us", getattr(kind, "tz", None)), safe=False).cast(pa.int64())
        return micros.fill_null(0).to_numpy(zero_copy_only=False), there

    def _decide(self, sample: list[str]) -> None:
        numbers = [text for text in sample if re.match(_NUMBER, text)]
        if 2 * len(numbers) > len(sample):
            for length, pattern in ((8, "%Y%m%d"), (14, "%Y%m%d%H%M%S")):
                if all(len(text) == length for text in numbers) and _read_as(numbers, pattern):
                    self._mode, self.how = pattern, f"dates as {pattern}"
                    return
            unit = unit_of(np.array([float(text) for text in numbers]))
            self._numbers(unit or "s")
            self.how = self.how if unit else PLAIN
            return
        dates = _iso(pa.array(sample))
        if 2 * int(dates.notna().sum()) > len(sample):
            self._mode, self.how = "iso", "dates"
            return
        if 2 * sum(bool(_ORDERED.match(text)) for text in sample) > len(sample):
            self._mode = self._day_or_month_first(sample)
            self.how = f"dates as {self._mode}"
            return
        guessed = _with_clock(sample) or _guessed(sample)
        if guessed is not None:
            self._mode, self.how = guessed, f"dates as {guessed}"
            return
        odd = next((text for text, one in zip(sample, dates, strict=True) if one is pd.NaT), sample[0])
        raise DatasetError(
            f"The times of `{self.column}`, such as {odd[:60]!r}, cannot be read. Say how they are written with --time_format, such as "
            "--time_format='%d/%m/%Y %H:%M', or name another column with --time."
        )

    def _numbers(self, unit: str) -> None:
        self._mode, self.how = unit, f"{UNITS[unit]} since 1970"

    def _day_or_month_first(self, sample: list[str]) -> str:
        found = [match for text in sample if (match := _ORDERED.match(text))]
        first, second = (max(int(match[part]) for match in found) for part in (1, 3))
        separator, years = found[0][2], {len(match[4]) for match in found}
        year = "%Y" if years == {4} else "%y"
        if first > 12 and second > 12:
            raise DatasetError(
                f"The dates of `{self.column}` have the day first in some rows and the month first in others, such as {found[0][0]!r}. Write all alike, as 2024-03-05."
            )
        if (
            first <= 12 and second <= 12 and separator != "."
        ):  # with dots the day stands first, wherever that is written
            day_first = f"%d{separator}%m{separator}{year}"
            raise DatasetError(
                f"Is {found[0][0].strip()!r} of `{self.column}` a day and a month, or a month and a day? Nothing in it says so. Add --time_format='{day_first}' for the "
                f"day first, or --time_format='%m{separator}%d{separator}{year}'; with a clock behind it, as '{day_first} %H:%M'."
            )
        date = f"%d{separator}%m{separator}{year}" if second <= 12 else f"%m{separator}%d{separator}{year}"
        counts = {clock: int(_parsed(sample, date + clock).notna().sum()) for clock in _CLOCKS}
        return date + max(counts, key=lambda clock: counts[clock])

    def _counted(self, texts: Any, unit: str) -> tuple[np.ndarray, np.ndarray]:
        there = pc.fill_null(pc.match_substring_regex(texts, _NUMBER), False)
        clean = pc.if_else(there, pc.utf8_trim_whitespace(texts), "0")
        whole = pc.fill_null(pc.match_substring_regex(clean, r"^[+-]?(\d{1,18}|[1-8]\d{18})$"), False)
        exact = pc.if_else(whole, clean, "0")
        exact = pc.utf8_ltrim(exact, characters="+").cast(pa.int64()).to_numpy(zero_copy_only=False)
        is_whole = whole.to_numpy(zero_copy_only=False)
        rough = np.zeros(len(exact)) if is_whole.all() else clean.cast(pa.float64()).to_numpy(zero_copy_only=False)
        size = np.abs(np.where(is_whole, exact.astype(np.float64), rough))
        fits = (size < _BELOW[unit]) & ((size >= _FROM[unit]) | (self.given is not None) | (unit == "s"))
        per = _PER_MICROSECOND[unit]
        micros = exact // int(per) if per > 1 else exact * int(1 / per)
        micros = np.where(is_whole, micros, np.round(np.where(fits, rough, 0) / per).astype(np.int64))
        valid = there.to_numpy(zero_copy_only=False) & fits
        return np.where(valid, micros, 0), valid

    def _dated(self, texts: Any) -> tuple[np.ndarray, np.ndarray]:
        distinct = pc.fill_null(pc.utf8_trim_whitespace(texts), "").dictionary_encode()  # days repeat
        values = distinct.dictionary
        parsed = _iso(values) if self._mode == "iso" else _parsed(values, self._mode)
        places = distinct.indices.to_numpy(zero_copy_only=False)
        known = parsed.notna().to_numpy()
        micros = parsed.dt.tz_localize(None).to_numpy().astype("datetime64[us]").astype(np.int64)
        zoned = pc.match_substring_regex(values, _ZONE).to_numpy(zero_copy_only=False)
        valid = known[places]
        self.unzoned += int((valid & ~zoned[places]).sum())
        return np.where(valid, micros[places], 0), valid


def _iso(texts: Any) -> pd.Series:
    """Dates of ISO 8601. A bare year is none here, and digits without a mark between them were decided on before."""
    plain = pc.replace_substring_regex(texts, r"\s*(UTC|GMT)$", "Z")
    plain = pc.if_else(pc.match_substring_regex(plain, r"^\d{4}[-/]?\d"), plain, "")
    return _parsed(plain, "ISO8601")


def _parsed(texts: Any, pattern: str) -> pd.Series:
    values = pd.Series(texts.to_pylist() if isinstance(texts, pa.Array) else texts, dtype=object)
    return pd.to_datetime(values, format=pattern, errors="coerce", utc=True)


def _with_clock(sample: list[str]) -> str | None:
    """A pattern with the year first that ISO does not have: dots, or a clock of twelve hours; None if most texts do not fit one."""
    patterns = [f"%Y{mark}%m{mark}%d{clock}" for mark in "-/." for clock in _CLOCKS]
    return next((one for one in patterns if 2 * _parsed(sample, one).notna().sum() > len(sample)), None)


def _guessed(sample: list[str]) -> str | None:
    """A pattern with the name of a month in it, so that day and month cannot be taken for each other; None if most texts do not fit one."""
    from pandas.tseries.api import guess_datetime_format

    for pattern in filter(None, map(guess_datetime_format, sample[:20])):
        if re.search("%[bB]", pattern) and 2 * _parsed(sample, pattern).notna().sum() > len(sample):
            return str(pattern)
    return None


def _read_as(texts: list[str], pattern: str) -> bool:
    parsed = _parsed(texts, pattern)
    return bool((parsed.dt.year.between(1900, 2100)).mean() > 0.9)


def unit_of(times: np.ndarray) -> str | None:
    """What times count since 1970, told by the size of the one in the middle: `s`, `ms`, `us` or `ns`; None for plain numbers.

    Args:
        times: `[N]` finite numbers, at least one.
    """
    middle = float(np.median(np.abs(times)))
    unit = next(unit for unit in UNITS if middle < _BELOW[unit] or unit == "ns")
    return None if unit == "s" and middle < _PLAIN_BELOW else unit


def counted(micros: int, unit: str) -> float:
    """A time in microseconds as a count of another unit."""
    # Divided, not multiplied by a fraction: a whole number of seconds stays whole, and a cut does not fall beside its instant.
    return micros * 1000.0 if unit == "ns" else micros / {"s": 1e6, "ms": 1e3, "us": 1.0}[unit]


def date_of(time: float, unit: str | None) -> str:
    """A count since 1970 as a date, with a clock where it is not midnight (UTC); plain numbers, and years that no calendar has, as they are."""
    if unit is not None:
        try:
            found = pd.Timestamp(round(time / _PER_MICROSECOND[unit]), unit="us")
        except (ValueError, OverflowError):
            return f"{time:.15g}"
        return found.strftime("%Y-%m-%d") if found == found.normalize() else found.isoformat(sep=" ")
    return f"{time:.15g}"


def seconds(micros: np.ndarray) -> list[str]:
    """Microseconds as the shortest text of seconds, `[N]`."""
    whole, rest = np.divmod(micros, 1_000_000)
    texts = whole.astype(str).tolist()
    for place in np.flatnonzero(rest):
        exact = int(micros[place])
        sign, size = ("-", -exact) if exact < 0 else ("", exact)
        texts[place] = f"{sign}{size // 1_000_000}.{size % 1_000_000:06d}".rstrip("0")
    return texts


def day(micros: int) -> str:
    """The date of a time, such as 2024-03-05; its number where no calendar has it."""
    try:
        return pd.Timestamp(int(micros), unit="us").strftime("%Y-%m-%d")
    except (ValueError, OverflowError, NotImplementedError):  # the second and third: of pandas, for years beyond 9999
        return f"{micros / 1e6:.0f}"


def moment(text: str, option: str) -> int:
    """A date that an option names, in microseconds.

    Raises:
        ConfigError: it is none.
    """
    parsed = _iso(pa.array([text.strip()]))
    if parsed.isna().any():
        raise ConfigError(f"`{option}={text}` is no date. Write it as 2024-03-05, or with a clock as 2024-03-05T12:00.")
    return int(parsed.dt.tz_localize(None).to_numpy().astype("datetime64[us]").astype(np.int64)[0])
