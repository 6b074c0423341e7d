"""Whether a cot counts what the history has, as composed texts do: `Drama 5, 1990s 4`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rporec_recbole.cot.compose import traits
from rporec_recbole.text.catalogue import Catalogue
from rporec_recbole.text.mentions import words_of

_OFF = 3  # a count may be off by one for every so many items


def counts_traits(cot: str, catalogue: Catalogue, shown: Sequence[int]) -> bool:
    """Whether a cot says of one trait of the history how often it stands there, and is not far off.

    Far off is by more than a third of the items: `tiny` counts badly, and a text that counts badly still is about the history.
    Of the numbers after a trait the first one counts, so naming them all is no better than a guess.

    Args:
        cot: chain of thought.
        catalogue: item texts.
        shown: the item ids that the prompt shows.
    """
    counts = Counter(tuple(words_of(trait)) for item in shown for trait in traits(catalogue, item))
    sizes, words = sorted({len(trait) for trait in counts}, reverse=True), words_of(cot)
    said: dict[tuple[str, ...], str] = {}
    for place, number in enumerate(words):
        if number.isdecimal():
            before = (tuple(words[max(0, place - size) : place]) for size in sizes)
            trait = next((one for one in before if one in counts), None)
            if trait:
                said.setdefault(trait, number)
    off = max(1, len(shown) // _OFF)
    # Numbers are compared as they are written: a number may be too long for `int`.
    return any(
        number in map(str, range(max(1, counts[trait] - off), counts[trait] + off + 1))
        for trait, number in said.items()
    )
