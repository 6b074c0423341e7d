"""Items by the words of their titles, for people who look for one."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from rporec_recbole.runs.titles import Item

LONGEST = 200  # characters of a query
MOST = 100  # items of an answer


class ItemSearch:
    """Finds items.

    Args:
        items: number 0 is padding.
    """

    def __init__(self, items: Sequence[Item]) -> None:
        self._items = list(items[1:])
        self._read = [_folded(f"{item.title} {item.item_id}") for item in self._items]

    def find(self, query: str, limit: int) -> list[Item]:
        """Items in which all words of a query stand, those that begin with it first; no more than `limit`."""
        wanted = _folded(query)
        words = wanted.split()
        first: list[Item] = []
        others: list[Item] = []
        if not words:
            return []
        for item, text in zip(self._items, self._read, strict=True):
            if text.startswith(wanted) or item.item_id == query:
                first.append(item)
                if len(first) == limit:
                    return first
            elif len(others) < limit and all(word in text for word in words):
                others.append(item)
        return [*first, *others][:limit]


def _folded(text: str) -> str:
    """Text without case and accents, so that `amelie` finds `Amélie`."""
    spread = unicodedata.normalize("NFKD", text.casefold())
    return "".join(character for character in spread if not unicodedata.combining(character))
