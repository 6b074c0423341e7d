"""Guesses of how a text goes on, from its prompt and from what other texts of the same call said.

The model checks several guessed tokens in one pass and keeps those that it would have written itself, so guesses change
the time and never the text (speculative decoding, Leviathan et al., arXiv 2211.17192, with the prompt as the draft model,
as in prompt lookup decoding, Saxena 2023). Texts that quote their prompt and follow a form are guessed well.
"""

from __future__ import annotations

from collections.abc import Sequence

MOST = 4  # tokens guessed at once
WORTH = 0.4  # hits per row that pay for one more token in every row: a token costs 0.3 to 0.4 of a pass of one token
_REMEMBERED = 500_000  # contexts; more learn nothing new about a form and cost memory

Context = tuple[int, ...]
Quotes = dict[Context, int]


class Guess:
    """A token, and how often it was right where it was guessed."""

    __slots__ = ("hits", "token", "tries")

    def __init__(self, token: int) -> None:
        self.token, self.hits, self.tries = token, 0, 0

    @property
    def chance(self) -> float:
        """Estimated probability of being right; one half before anything is known."""
        return (self.hits + 1) / (self.tries + 2)

    def learn(self, token: int) -> None:
        """`token` came. One that is wrong more often than right is replaced."""
        self.tries += 1
        if token == self.token:
            self.hits += 1
        elif 2 * self.hits < self.tries:
            self.token, self.hits, self.tries = token, 0, 0


class Drafts:
    """What the texts of one call have said so far."""

    def __init__(self) -> None:
        self._next: dict[Context, Guess] = {}  # the last three or two tokens of any text -> the next one
        self._quoted = [1, 2]  # quotations that were right, and all

    def quotes(self, prompt: Sequence[int]) -> Quotes:
        """Two tokens of a prompt -> what follows where they stand last."""
        return {(a, b): c for a, b, c in zip(prompt, prompt[1:], prompt[2:], strict=False)}

    def guess(self, context: Context, quotes: Quotes) -> tuple[list[int], list[float]]:
        """Up to `MOST` tokens.

        Args:
            context: the last three tokens of a text.
            quotes: of its prompt.

        Returns:
            tokens, and the chance of each that it and all before it are right.
        """
        tokens: list[int] = []
        chances: list[float] = []
        chance = 1.0
        while len(tokens) < MOST:
            known, quoted = self._next.get(context), None
            if known is None:
                quoted = quotes.get(context[1:])
                known = self._next.get(context[1:])
            if quoted is not None:
                token, right = quoted, self._quoted[0] / self._quoted[1]
            elif known is not None:
                token, right = known.token, known.chance
            else:
                break
            chance *= right
            tokens.append(token)
            chances.append(chance)
            context = (*context[1:], token)
        return tokens, chances

    def learn(self, context: Context, token: int, quotes: Quotes) -> None:
        """`token` came after the last three tokens of a text."""
        known, quoted = self._next.get(context), quotes.get(context[1:])
        if known is None and quoted is not None:
            self._quoted[0] += quoted == token
            self._quoted[1] += 1
        for key in (context, context[1:]):
            known = self._next.get(key)
            if known is not None:
                known.learn(token)
            elif len(self._next) < _REMEMBERED:
                self._next[key] = Guess(token)


def worth_checking(chances: Sequence[Sequence[float]]) -> int:
    """How many guessed tokens per row the next pass should check: as long as one more is expected to pay.

    Args:
        chances: of each row, from `Drafts.guess`.
    """
    for depth in range(MOST):
        if sum(row[depth] for row in chances if len(row) > depth) < WORTH * len(chances):
            return depth
    return MOST
