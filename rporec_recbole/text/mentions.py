"""Which titles of the catalogue a text names."""

from __future__ import annotations

import re

from rporec_recbole.text.catalogue import Catalogue


def words_of(text: str) -> list[str]:
    """The words of a text, in lower case, without punctuation."""
    return re.findall(r"\w+", text.casefold())


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

    def lists_items(self, answer: str) -> bool:
        """Whether an answer names more than one item, or says more than any item's text does.

        An item's own text never counts as a list. Elsewhere, two titles of several words are a list; titles of one word
        may be words of another title or attributes, so they count in the first field alone, and only where titles make
        up more than half of it.
        """
        if answer in self._lines:
            return False
        if len(words_of(answer)) > self.most_words:
            return True
        first = answer.split("|")[0]
        named = self.titles(first)
        covered = sum(map(len, named))
        if len(named) > 1 and 2 * covered > len(words_of(first)):
            return True
        return sum(len(title) > 1 for title in self.titles(answer)) > 1
