"""Which items make a stream: a piece of a user's history as the backbone reads it, to learn at every item which one comes next.

A lesson teaches one answer for a whole prompt. A history of n items holds n answers, so read as one text it teaches n times as
much for the same tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_WHOLE_LINES = (
    0.15  # of the lines are learned with what stands behind the title: a title says it all, so little is left to learn
)


class Stream(NamedTuple):
    """Interactions `first` to `last`, the latter left out, as indices into a timeline.

    Attributes:
        first: the oldest that is shown.
        learned: the first that is learned; those before it are shown only.
        last: one behind the newest.
    """

    first: int
    learned: int
    last: int


def streams_of(
    start: int, begin: int, stop: int, lengths: Sequence[int], window: int, rng: np.random.Generator
) -> list[Stream]:
    """Cuts one history into streams, so that every interaction from `begin` on is learned once.

    Borders are drawn, so another pass sees other pieces: what is learned covers a fifth to four fifths of a window, and
    what stands before it fills another fifth.

    Args:
        start: index of the user's first interaction, which nothing stands before and which is never learned.
        begin: index of the first that is learned; those before it are shown only.
        stop: index behind the last that may be learned.
        lengths: tokens of each interaction's line, from `start` on.
        window: tokens of a stream at most; one line always fits.
        rng: draws the borders.
    """
    streams: list[Stream] = []
    before, at = window // 5, max(begin, start + 1)
    while at < stop:
        room = int(rng.integers(window // 5, window - before + 1))
        last, used = at, 0
        while last < stop and (last == at or used + lengths[last - start] <= room):
            used += lengths[last - start]
            last += 1
        first, seen = at - 1, lengths[at - 1 - start]
        while first > start and seen + lengths[first - 1 - start] <= before:
            first -= 1
            seen += lengths[first - start]
        streams.append(Stream(first, at, last))
        at = last
    return streams


def learned_spans(text: str, skipped: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Which characters of a list of lines are learned: titles, and of some lines all.

    Args:
        text: lines as prompts show them.
        skipped: so many lines at the beginning are shown only.
        rng: draws the lines of which all is learned.

    Returns:
        (start, stop) of each piece, in order.
    """
    spans, start = [], 0
    for number, line in enumerate(text.splitlines(keepends=True)):
        whole = rng.random() < _WHOLE_LINES
        if number >= skipped:
            title = line.rstrip("\n").partition(" | ")[0]
            spans.append((start, start + len(line if whole else title)))
        start += len(line)
    return spans
