"""What stands in place of the reasoning in a control; each has the `reason` of a `Reasoner`.

If a head gains as much from one of these as from the reasoning, then the gain is not the reasoning's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from rporec_recbole.cot.store import Decoding
from rporec_recbole.text.completions import Completion, render_completion
from rporec_recbole.text.prompts import PromptTemplate, Rating

Histories = Sequence[Sequence[int]]
Ratings = Sequence[Sequence[Rating]] | None


class GivesReasoning(Protocol):
    """Gives each history its completion."""

    def reason(
        self, histories: Histories, ratings: Ratings, decoding: Decoding, desc: str = "Reasoning"
    ) -> list[Completion]:
        """See `Reasoner.reason`."""
        ...


class Without:
    """The same completions, well-formed where they were, with parts of them left empty.

    Args:
        reasoner: gives the completions.
        parts: `cot`, `answer`, or both.
    """

    def __init__(self, reasoner: GivesReasoning, *parts: str) -> None:
        self.reasoner = reasoner
        self._empty: dict[str, Any] = dict.fromkeys(parts, "")
        if "answer" in parts:
            self._empty["guesses"] = ()

    def reason(
        self, histories: Histories, ratings: Ratings, decoding: Decoding, desc: str = "Reasoning"
    ) -> list[Completion]:
        """See `Reasoner.reason`."""
        written = self.reasoner.reason(histories, ratings, decoding, desc)
        return [dataclasses.replace(one, **self._empty) for one in written]


class BareHistory:
    """No language model: the text of the history that a prompt shows is the chain of thought, its newest item the answer."""

    def __init__(self, template: PromptTemplate) -> None:
        self.template = template

    def reason(
        self, histories: Histories, ratings: Ratings, decoding: Decoding, desc: str = "Reasoning"
    ) -> list[Completion]:
        """Completions that repeat what the model would have been shown; an empty history is malformed."""
        lines, found = self.template.catalogue.lines, []
        rated = ratings if ratings is not None else [None] * len(histories)
        for row in zip(histories, rated, strict=True):
            shown = self.template.shown(*row)
            if not shown:
                found.append(Completion(""))
                continue
            text = "\n".join(lines[item] for item in shown)
            found.append(Completion(text, text, lines[shown[-1]], True))
        return found


class AnotherUsers:
    """Every user gets what is written for another one.

    Args:
        reasoner: gives the completions.
        histories: of all users that will be asked for, item ids with padding.
        ratings: as long as `histories`, or None.
        seed: of the exchange: users stand in a ring of random order, and each gets its neighbour's.
        owners: whose history each is, where a user may have several; these stand side by side, and each gets one from so far away that
            it is somebody else's, unless one user has more than half of all.
    """

    def __init__(
        self,
        reasoner: GivesReasoning,
        histories: Histories,
        ratings: Ratings,
        seed: int,
        owners: Sequence[int] | None = None,
    ) -> None:
        self.reasoner = reasoner
        rows = list(zip(histories, ratings if ratings is not None else [None] * len(histories), strict=True))
        ring = np.random.default_rng(seed).permutation(len(rows))
        away = 1
        if owners is not None and len(rows):
            users, first, counts = np.unique(np.asarray(owners)[ring], return_index=True, return_counts=True)
            ring = ring[np.argsort(first[np.searchsorted(users, np.asarray(owners)[ring])], kind="stable")]
            away = int(counts.max())
        self._neighbour = {
            _key(*rows[user]): rows[other] for user, other in zip(ring, np.roll(ring, away), strict=True)
        }

    def reason(
        self, histories: Histories, ratings: Ratings, decoding: Decoding, desc: str = "Reasoning"
    ) -> list[Completion]:
        """The neighbours' completions.

        Raises:
            KeyError: a history was not among those given at the start.
        """
        rated = ratings if ratings is not None else [None] * len(histories)
        others = [self._neighbour[_key(*row)] for row in zip(histories, rated, strict=True)]
        theirs = None if ratings is None else [rating for _, rating in others if rating is not None]
        return self.reasoner.reason([history for history, _ in others], theirs, decoding, desc)


class Oracle:
    """A positive control: for a known share of the histories the answer is that of the true next item, which no reasoner may know.

    A head that hears what texts say gains what such a writer is worth; one that gains nothing cannot be asked what reasoning is
    worth. The rows that are told the truth are drawn once for each split, an exact share of each.

    Args:
        reasoner: gives the completions of the other rows; a told row is well-formed whatever it was.
        splits: of each split, its histories with ratings and the true next item of each.
        share: from 0 to 1, of the rows that are told the truth.
        true: what an item's answer is, its line for example.
        wrong: gives the answer of the other rows from the history; None leaves them as they were.
        seed: of the draw.
        marked: a replaced answer stands alone, without log-probability and further guesses, so that its form gives it away.
    """

    def __init__(
        self,
        reasoner: GivesReasoning,
        splits: Sequence[tuple[Histories, Ratings, Sequence[int]]],
        share: float,
        true: Callable[[int], str],
        wrong: Callable[[Sequence[int], np.random.Generator], str] | None = None,
        seed: int = 0,
        marked: bool = False,
    ) -> None:
        self.reasoner = reasoner
        self._answering = _marked if marked else _disguised
        self._answers: dict[tuple, str] = {}
        rng = np.random.default_rng(seed)
        for histories, ratings, targets in splits:
            rated = ratings if ratings is not None else [None] * len(histories)
            told = set(rng.permutation(len(histories))[: round(share * len(histories))].tolist())
            for number, (history, rating, target) in enumerate(zip(histories, rated, targets, strict=True)):
                if number in told:
                    self._answers[_key(history, rating)] = true(target)
                elif wrong is not None:
                    self._answers[_key(history, rating)] = wrong([item for item in history if item], rng)

    def reason(
        self, histories: Histories, ratings: Ratings, decoding: Decoding, desc: str = "Reasoning"
    ) -> list[Completion]:
        """The completions, with the answers of some rows replaced."""
        written = self.reasoner.reason(histories, ratings, decoding, desc)
        rated = ratings if ratings is not None else [None] * len(histories)
        answers = [self._answers.get(_key(*row)) for row in zip(histories, rated, strict=True)]
        return [
            one if answer is None else self._answering(one, answer)
            for one, answer in zip(written, answers, strict=True)
        ]


def _disguised(written: Completion, answer: str) -> Completion:
    """The same text with another answer, as sure of itself and with the same further guesses: nothing but what it names may tell the
    two apart. Of a malformed text too, for the positive control asks what the head hears."""
    cot, guesses = written.cot or "-", written.guesses
    further = [guess for guess in guesses[1:] if guess.answer != answer]
    kept = (guesses[0]._replace(answer=answer), *further) if guesses else ()
    return Completion(render_completion(cot, answer), cot, answer, True, kept)


def _marked(written: Completion, answer: str) -> Completion:
    cot = written.cot or "-"
    return Completion(render_completion(cot, answer), cot, answer, True)


def _key(history: Sequence[int], ratings: Sequence[Rating] | None) -> tuple:
    return tuple(history), None if ratings is None else tuple(ratings)
