"""Which texts the histories of a run need, and under which keys: one or several each, and what is drawn in the place of malformed ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from rporec_recbole.cot.store import Decoding, completion_key

Look = Callable[[Sequence[str]], Mapping[str, bool]]
"""Keys -> those of them that have a text, and whether that is well-formed."""


def decodings_of(decoding: Decoding, samples: int) -> list[Decoding]:
    """How each of the texts of a history is drawn, as the evaluation draws them."""
    return [dataclasses.replace(decoding, sample=number) for number in range(samples)]


def looking_in(found: Mapping[str, bool]) -> Look:
    """A `Look` at what is at hand."""
    return lambda keys: found


class Wanted(NamedTuple):
    """A text that is to be written.

    Attributes:
        key: its key in the store.
        prompt: what it is written for.
        draw: number of the draw, in `Draws.all`.
    """

    key: str
    prompt: str
    draw: int


class Draws:
    """The draws of a run's evaluation: first those that every history gets, then those that malformed texts are replaced by.

    Args:
        writer: fingerprint of the run's backbone.
        firsts: the draws that every history gets.

    Attributes:
        all: every draw.
        next: of each the number of the draw that takes its place where it came out malformed; None where it stays.
    """

    def __init__(self, writer: str, firsts: Sequence[Decoding]) -> None:
        self.writer, self._firsts = writer, len(firsts)
        self.all = list(firsts)
        self.next: list[int | None] = []
        for one in self.all:  # which grows meanwhile
            self.next.append(None if one.instead is None else len(self.all))
            self.all += [] if one.instead is None else [one.instead]

    def key(self, prompt: str, draw: int) -> str:
        """The key of a text in the store."""
        return completion_key(prompt, self.writer, self.all[draw])

    def of_key(self, key: str, prompt: str) -> int | None:
        """The draw whose text for this prompt has this key; None where the key is another run's or another prompt's."""
        return next((draw for draw in range(len(self.all)) if self.key(prompt, draw) == key), None)

    def missing(self, prompts: Sequence[str], look: Look) -> list[Wanted]:
        """What is to be written next for some prompts, each of them once; nothing for one that has all that it will get.

        Args:
            prompts: of histories.
            look: finds the texts that are there.
        """
        firsts = [(prompt, draw) for prompt in dict.fromkeys(prompts) for draw in range(self._firsts)]
        return self.following([Wanted(self.key(prompt, draw), prompt, draw) for prompt, draw in firsts], look)

    def following(self, wanted: Sequence[Wanted], look: Look) -> list[Wanted]:
        """What is to be written next where some of these texts are there; in the place of malformed ones the next draws.

        Args:
            wanted: texts.
            look: finds those that are there.
        """
        found: list[Wanted] = []
        while wanted:
            there = look([one.key for one in wanted])
            found += [one for one in wanted if one.key not in there]
            malformed = [one for one in wanted if not there.get(one.key, True)]
            again = [(one.prompt, follows) for one in malformed if (follows := self.next[one.draw]) is not None]
            wanted = [Wanted(self.key(prompt, draw), prompt, draw) for prompt, draw in again]
        return found

    def described(self) -> list[dict[str, Any]]:
        """All draws as plain values, for whoever writes texts outside."""
        return [{**one.identity, "instead": follows} for one, follows in zip(self.all, self.next, strict=True)]
