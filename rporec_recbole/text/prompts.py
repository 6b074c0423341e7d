"""The prompt of a history: its newest items, oldest first. The target never stands in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from rporec_recbole.text.catalogue import Catalogue

Rating = float | str | None
"""What a user gave an item, a number or a name; None where there is none."""

INSTRUCTIONS = {
    "compact": "",
    "instruct": """You recommend items. Below is what a user chose, oldest first.
Reason briefly about the evidence, the preference behind it and the intent, then guess the next item.
Write exactly: <think>evidence, preference, intent</think><answer>title | category | year or brand</answer>

""",
    "attributes": """Below is what a user chose, oldest first, with the attributes of each item.
Think about it briefly, then recommend the item that the user will choose next: between <answer> and </answer>, and nothing else
there, guess all of its attributes, in the form of the lines below.

""",
}
"""What stands before the history, by style of prompt."""


_RATED = " | rated "


def written(rating: float | str) -> str:
    """A rating in words: a number with all of its digits and no others."""
    return rating if isinstance(rating, str) else np.format_float_positional(rating, trim="-")


def unrated(shown: str) -> str:
    """A line of a prompt as the catalogue has it, without the user's rating."""
    return shown.rpartition(_RATED)[0] or shown


@dataclass(frozen=True)
class PromptTemplate:
    """Turns histories into prompts.

    Attributes:
        catalogue: item texts.
        max_items: the newest so many items are shown; older ones are dropped.
        style: `attributes` asks for the attributes of the next item, as the paper's prompt does; `instruct` explains the task and the schema, for pretrained models; `compact` shows the history alone,
            for a model that was trained on this very form.
        max_tokens: a longer prompt loses its oldest items first, never its end or its instruction.
        count_tokens: how many tokens a text has.
        show_ratings: whether the user's ratings are shown.
    """

    catalogue: Catalogue
    max_items: int
    style: str = "compact"
    max_tokens: int = 1 << 30
    count_tokens: Callable[[str], int] = len
    show_ratings: bool = True
    _line_tokens: dict[str, int] = field(default_factory=dict, repr=False, compare=False)
    _lines: dict[tuple[int, Rating], tuple[str, int]] = field(default_factory=dict, repr=False, compare=False)

    def prompt(self, history: Sequence[int], ratings: Sequence[Rating] | None = None) -> str:
        """Renders one history.

        Args:
            history: item ids, oldest first; zeros (padding) are skipped.
            ratings: the user's rating of each, where it is known.
        """
        return self._instruction + "".join(line for _, line in self._kept(history, ratings))

    def shown(self, history: Sequence[int], ratings: Sequence[Rating] | None = None) -> list[int]:
        """The item ids that `prompt` shows of the same history, oldest first."""
        return [item for item, _ in self._kept(history, ratings)]

    def line(self, item: int, rating: Rating) -> str:
        """How one item of a history stands in a prompt."""
        return self.catalogue.lines[item] + ("\n" if rating is None else f"{_RATED}{written(rating)}\n")

    def tokens(self, prompt: str) -> int:
        """How many tokens a prompt has, counted line by line as where it is decided what fits."""
        start = self._instruction
        lines = prompt.removeprefix(start).split("\n")
        return sum(self._tokens(f"{line}\n") for line in lines[:-1]) + (self._tokens(start) if start else 0)

    @property
    def _instruction(self) -> str:
        return INSTRUCTIONS[self.style]

    def _kept(self, history: Sequence[int], ratings: Sequence[Rating] | None) -> list[tuple[int, str]]:
        """(item, line) of what fits, oldest first."""
        rated = list(ratings) if ratings is not None and self.show_ratings else [None] * len(history)
        newest = [(item, rating) for item, rating in zip(history, rated, strict=True) if item != 0][-self.max_items :]
        room = self.max_tokens - (self._tokens(self._instruction) if self._instruction else 0)
        kept: list[tuple[int, str]] = []
        for item, rating in reversed(newest):
            line, tokens = self._lines.get((item, rating)) or self._measured(item, rating)
            room -= tokens
            if room < 0 and kept:
                break
            kept.append((item, line))
        return kept[::-1]

    def _measured(self, item: int, rating: Rating) -> tuple[str, int]:
        """A line and its tokens; the catalogue has few of them, histories many."""
        line = self.line(item, rating)
        self._lines[item, rating] = line, self._tokens(line)
        return self._lines[item, rating]

    def _tokens(self, line: str) -> int:
        if line not in self._line_tokens:
            self._line_tokens[line] = self.count_tokens(line)
        return self._line_tokens[line]
