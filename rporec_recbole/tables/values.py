"""Ids as numbers for counting, their names letter by letter, and ratings."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from rporec_recbole.tables.table import as_texts, filled

_SPACE = re.compile(r"[\s\x00-\x1f\x7f\x85\u2028\u2029]+")
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
_NO_RATING = frozenset(["NA", "N/A", "NaN", "nan", "null", "NULL", "None", "-"])
_MAYBE_THOUSANDS = re.compile(r"[+-]?\d{1,3},\d{3}")


_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_ODD = r"^[\s\p{Z}]|[\s\p{Z}]$|[\x00-\x1f\x7f]|^$"


def id_of(text: str | None) -> str:
    """An id without white space around it, and with a space for what would end a field; else letter by letter. Empty for none."""
    return _CONTROL.sub(" ", (text or "").strip()).strip()


def one_line(text: str) -> str:
    """A text in which every white space is one space, as RecBole's files need it."""
    return _SPACE.sub(" ", text).strip()


@dataclass
class Names:
    """Numbers the ids of a column in the order of their first rows.

    Attributes:
        number: id -> its number.
        trimmed: how many values had white space around them, which is no part of an id.
        mended: how many ids had a tab or a line break inside, which became a space.
    """

    number: dict[str, int] = field(default_factory=dict)
    trimmed: int = 0
    mended: int = 0

    def codes(self, array: Any) -> np.ndarray:
        """The number of each id, `[N]` int32; -1 where there is none."""
        found = as_texts(array).dictionary_encode()
        values = found.dictionary.to_pylist()
        places = found.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        odd = np.flatnonzero(pc.match_substring_regex(found.dictionary, _ODD).to_numpy(zero_copy_only=False))
        counts = np.bincount(places[places >= 0], minlength=len(values)) if len(odd) else None
        for place in odd.tolist():
            value, name = values[place], id_of(values[place])
            values[place] = name
            if name and counts is not None:
                self.trimmed += int(counts[place]) * (value.strip() != value)
                self.mended += value.strip() != name
        number = self.number
        codes = [number.setdefault(value, len(number)) if value else -1 for value in values]
        return np.array([*codes, -1], dtype=np.int32)[places]  # the last one is for what is null

    def __len__(self) -> int:
        return len(self.number)

    def array(self) -> np.ndarray:
        """All ids by their numbers, `[N]` objects."""
        return np.array(list(self.number), dtype=object)


@dataclass
class Ratings:
    """Reads a column of ratings; the first batch says whether they are numbers or names.

    Attributes:
        kind: `float` or `token`; empty before the first batch.
        comma: whether numbers have a decimal comma.
    """

    kind: str = ""
    comma: bool = False

    def read(self, array: Any) -> tuple[list[str] | np.ndarray, np.ndarray]:
        """Texts of the ratings, `[N]`, empty where there is none; and which of them can be used, `[N]` bool."""
        texts = pc.fill_null(pc.utf8_trim_whitespace(as_texts(array)), "")
        there = filled(texts)
        distinct = texts.dictionary_encode()
        values = distinct.dictionary.to_pylist()
        places = distinct.indices.to_numpy(zero_copy_only=False)
        if not self.kind and there.any():
            self._decide([value for value in values if value.strip() and value not in _NO_RATING])
        if self.kind == "token":
            named = np.array([one_line(value) for value in values] or [""], dtype=object)
            return named[places], np.ones(len(texts), bool)
        plain = [value.replace(",", ".") if self.comma else value for value in values]
        numbers = pd.to_numeric(pd.Series(plain, dtype=object), errors="coerce").to_numpy(dtype=float, na_value=np.nan)
        known = np.isfinite(numbers)
        there &= ~np.array([value in _NO_RATING for value in values] or [False])[places] if len(values) else there
        shown = np.array([value if ok else "" for value, ok in zip(plain, known, strict=True)] or [""], dtype=object)
        return shown[places], (known[places] if len(values) else np.ones(0, bool)) | ~there

    def _decide(self, values: list[str]) -> None:
        if not values:
            return
        commas = [value for value in values if _DECIMAL_COMMA.fullmatch(value)]
        # Certain only where no dot and no group of three digits could mean thousands.
        self.comma = bool(commas) and not any(_MAYBE_THOUSANDS.fullmatch(value) or "." in value for value in values)
        plain = [value.replace(",", ".") if self.comma else value for value in values]
        numbers = pd.to_numeric(pd.Series(plain, dtype=object), errors="coerce").notna().sum()
        self.kind = "float" if 2 * numbers >= len(values) else "token"
