"""Which titles a text names.

Two questions, two ways. Whether a *given* title stands in a text, to the letter, is `names`; what else stands there is `without`.
Which of *all* titles of a catalogue a text names is what `Mentions` finds: word by word, punctuation aside.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

from rporec_recbole.text.catalogue import Catalogue

STOP_WORDS = frozenset(
    ["a", "an", "and", "at", "by", "for", "from", "in", "is", "it", "of", "on", "or", "the", "to", "vs", "with"]
)
"""Words that tell no title from another."""

_COMMON = 0.01  # share of the catalogue from which on an attribute says little of an item


def words_of(text: str) -> list[str]:
    """The words of a text, in lower case, without punctuation."""
    return re.findall(r"\w+", text.casefold())


def names(text: str, title: str) -> bool:
    """Whether a title stands in a text, upper or lower case, and not just as a part of other words."""
    return title != "" and re.search(_standing(title.casefold()), text.casefold()) is not None


def without(text: str, titles: Iterable[str]) -> str:
    """A text with a `;` in the place of each of some titles, as they are written."""
    for title in sorted(titles, key=len, reverse=True):  # a title may stand inside a longer one
        text = re.sub(_standing(title), ";", text)
    return text


def _standing(title: str) -> str:
    """Pattern of a title that is no part of other words."""
    return rf"(?<!\w){re.escape(title)}(?!\w)"


class Mentions:
    """Finds titles in texts, word by word, so that a catalogue of any size costs a few look-ups a word.

    Args:
        catalogue: gives the titles.

    Attributes:
        most_words: words of the catalogue's longest item text.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._lines = frozenset(catalogue.lines)
        self._titles = {tuple(words_of(item.title)) for item in catalogue.items} - {()}
        having = Counter(word for item in catalogue.items for word in set(words_of(" ".join(item.attributes))))
        self._attributes = frozenset(having)
        self._common = frozenset(word for word, items in having.items() if items >= _COMMON * len(catalogue))
        self._telling = [_telling(item.title) for item in catalogue.items]
        self._longest = max(map(len, self._titles), default=0)
        self.most_words = max((len(words_of(line)) for line in catalogue.lines), default=0)

    def titles(self, text: str) -> list[tuple[str, ...]]:
        """The titles that stand in a text, in order, as words; the longest at each place, and none inside another."""
        words, start = words_of(text), 0
        found: list[tuple[str, ...]] = []
        while start < len(words):
            ends = range(min(len(words), start + self._longest), start, -1)
            title = next((t for end in ends if (t := tuple(words[start:end])) in self._titles), None)
            if title:
                found.append(title)
            start += len(title) if title else 1
        return found

    def names_any(self, text: str, items: Iterable[int]) -> bool:
        """Whether a text names one of some items, as people do: `The Godfather` for `Godfather, The`, or a part of a long title.

        Two words of a title in a row are enough, stop words left out, and so is its only word. Words that are attributes of
        many items are not: a genre names no film, even where a film is called like one. Scripts without spaces have no such
        words, so their titles may stand anywhere.

        Args:
            text: any text.
            items: ids of the items.
        """
        words, whole = _telling(text), text.casefold()
        runs = {run for run in [*pairwise(words), *((word,) for word in words)] if not self._common.issuperset(run)}
        for item in items:
            title = self._telling[item]
            if not runs.isdisjoint(pairwise(title) if len(title) > 1 else [tuple(title)]):
                return True
            if any(not word.isascii() and word in whole for word in title):
                return True
        return False

    def lists_items(self, answer: str) -> bool:
        """Whether an answer names more than one item, or says more than any item's text does.

        An item's own text never counts as a list. Elsewhere, two titles of several words are a list. Titles of one word may
        be words of another title or of a sentence, so a field's titles count if they make up more than half of its words.
        From the second field on, where attributes stand, words of attributes count neither as titles nor as other words.
        """
        if answer in self._lines:
            return False
        if len(words_of(answer)) > self.most_words:
            return True
        if sum(len(title) > 1 for title in self.titles(answer)) > 1:
            return True
        first, *others = answer.split("|")
        return self._named(first, frozenset()) + sum(self._named(field, self._attributes) for field in others) > 1

    def _named(self, field: str, attributes: frozenset[str]) -> int:
        """How many titles a field names, beside attributes; 0 where they do not make up more than half of it."""
        titles = [title for title in self.titles(field) if not attributes.issuperset(title)]
        others = [word for word in words_of(field) if word not in attributes]
        return len(titles) if 2 * sum(map(len, titles)) > len(others) else 0


def _telling(text: str) -> list[str]:
    """The words of a text that are no stop words."""
    return [word for word in words_of(text) if word not in STOP_WORDS]
