"""Which items an answer speaks of: a look-up of catalogue lines, and a word by word comparison for everything else.

An answer that *is* an item's line means that item, without a doubt. Any other text is compared with the lines word by word
(every word weighs its inverse document frequency), in three numbers from 0 to 1:

covered     how much of the answer stands in the item's line
line        how much of the item's line stands in the answer
attributes  how much of the item's attributes stands in the answer

`Drama | 1996` covers and fills the attributes of all dramas of 1996 and of nothing else; 64 dimensions of `lsa` cannot tell them
from those of 1995. Nothing here has the size of the catalogue for each row: the words of an answer name the lines that have them.

Letters in shapes: N items (0 is padding), V words, K items an answer is matched with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from rporec_recbole.model.words import terms_of
from rporec_recbole.text.catalogue import Catalogue

MOST = 128  # items that an answer in free words is matched with
OF_A_LINE = 8  # items with one and the same line
_KEPT = 50_000  # answers that are remembered


class Match(NamedTuple):
    """The items that an answer speaks of, likeliest first; none where it shares no word with any line.

    Attributes:
        items: `[K]` item ids.
        likeness: `[K, 3]` covered, line, attributes.
    """

    items: np.ndarray
    likeness: np.ndarray


class AnswerMatcher:
    """Matches answers with the lines of a catalogue.

    Args:
        catalogue: item texts.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._items_of: dict[str, list[int]] = {}
        for item, line in enumerate(catalogue.lines):
            if item:
                self._items_of.setdefault(line, []).append(item)
        rows = [terms_of(line) for line in catalogue.lines]
        own = [terms_of(" | ".join(item.attributes)) for item in catalogue.items]
        self._column = {word: column for column, word in enumerate(sorted(set().union(*rows)))}
        there = _table(rows, self._column)
        often = np.bincount(there.indices, minlength=len(self._column))
        self._weight = np.log((1 + len(rows)) / (1 + often)) + 1.0
        self._unknown = float(np.log(1 + len(rows)) + 1.0)  # as a word of no line would weigh
        lines = there.multiply(self._weight).tocsr()
        attributes = _table(own, self._column).multiply(self._weight).tocsr()
        self._line_weight = np.asarray(lines.sum(axis=1)).ravel()
        self._attribute_weight = np.asarray(attributes.sum(axis=1)).ravel()
        self._lines, self._attributes = lines.T.tocsr(), attributes.T.tocsr()  # word -> items
        self._found: dict[str, Match] = {}

    def __call__(self, answers: Sequence[str]) -> list[Match]:
        """A match for each answer."""
        for answer in dict.fromkeys(answers):
            if answer not in self._found:
                if len(self._found) >= _KEPT:
                    self._found.pop(next(iter(self._found)))
                self._found[answer] = self._match(answer)
        return [self._found[answer] if answer in self._found else self._match(answer) for answer in answers]

    def items_of(self, line: str) -> list[int]:
        """The items whose line this is."""
        return self._items_of.get(line, [])

    def _match(self, answer: str) -> Match:
        exact = self.items_of(answer)
        if exact:
            items = np.array(exact[:OF_A_LINE], dtype=np.int64)
            return Match(items, np.ones((len(items), 3), dtype=np.float32))
        words = terms_of(answer)
        known = [self._column[word] for word in words if word in self._column]
        if not known:
            return Match(np.zeros(0, dtype=np.int64), np.zeros((0, 3), dtype=np.float32))
        whole = self._weight[known].sum() + self._unknown * (len(words) - len(known))
        items, common = _summed(self._lines, known)
        of_attributes = np.zeros(len(items))
        named, there = _summed(self._attributes, known)
        of_attributes[np.searchsorted(items, named)] = there  # an attribute's words stand in the line too
        covered = common / whole
        line = common / self._line_weight[items]
        attributes = of_attributes / np.maximum(self._attribute_weight[items], 1e-9)
        order = np.lexsort((items, -(covered + 0.5 * attributes + 0.1 * line)))[:MOST]
        likeness = np.stack([covered, line, attributes], axis=1)[order]
        return Match(items[order], likeness.astype(np.float32))


def _table(rows: Sequence[Sequence[str]], column: dict[str, int]) -> sp.csr_matrix:
    """`[N, V]`, 1 where a word stands."""
    starts = np.cumsum([0, *(len(row) for row in rows)])
    columns = np.array([column[word] for row in rows for word in row], dtype=np.int64)
    return sp.csr_matrix((np.ones(len(columns)), columns, starts), shape=(len(rows), len(column)))


def _summed(table: sp.csr_matrix, rows: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Columns that some rows of a sparse table name, ascending, and the sum of what stands there."""
    part = table[rows]
    columns, places = np.unique(part.indices, return_inverse=True)
    return columns, np.bincount(places, weights=part.data, minlength=len(columns))
