"""The only parser of what the language model writes: `<think>...</think><answer>...</answer>`. It reads strictly, or as the paper's release does.

Behind a grounded answer stands what else the model might have answered, and how sure it was. A program writes that tail; the
model cannot, because its own text ends with `</answer>`:

    <think>...</think><answer>Heat | Crime | 1995</answer><guesses>
    -1.2345 Heat | Crime | 1995
    -2.3456 Casino | Crime | 1995
    </guesses>
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

THINK, THINK_END, ANSWER, ANSWER_END = TAGS = ("<think>", "</think>", "<answer>", "</answer>")

ANY_TAG = re.compile("|".join(re.escape(tag) for tag in TAGS))
_TAIL = re.compile(r"<guesses>\n((?:-?\d+\.\d{4} [^\n<>]+\n)+)</guesses>")


class Guess(NamedTuple):
    """One thing that the model might have answered.

    Attributes:
        answer: a line of the catalogue.
        logprob: its natural log-probability among all lines, given history and chain of thought.
    """

    answer: str
    logprob: float


@dataclass(frozen=True)
class Completion:
    """A parsed completion.

    Attributes:
        text: what the model wrote, unchanged; the guesses are no part of it.
        cot: inside `<think>`, stripped; empty if malformed.
        answer: inside `<answer>`, stripped; empty if malformed.
        well_formed: whether both sections stand once, in order, closed and not empty.
        guesses: most likely first; the first is the answer. Empty where the answer is not grounded.
    """

    text: str
    cot: str = ""
    answer: str = ""
    well_formed: bool = False
    guesses: tuple[Guess, ...] = ()


def parse_completion(text: str) -> Completion:
    """Parses a completion; never raises on a string.

    Well-formed means: the four tags stand exactly once each and in order, and both sections hold text. Repeated or
    nested tags are malformed. Text outside the sections is ignored, but for guesses right behind the answer; where these are
    not exactly as `render_guesses` writes them there are none.
    """
    tags = list(ANY_TAG.finditer(text))
    if tuple(match.group() for match in tags) != TAGS:
        return Completion(text)
    think, think_end, answer, answer_end = tags
    cot = text[think.end() : think_end.start()].strip()
    guess = text[answer.end() : answer_end.start()].strip()
    if not cot or not guess:
        return Completion(text)
    guesses = _guesses(text[answer_end.end() :], guess)
    return Completion(text[: answer_end.end()] if guesses else text, cot, guess, True, guesses)


def parse_leniently(text: str) -> Completion:
    """Parses a completion as the paper's release does: the tags must stand in order, and that is all; never raises on a string.

    The last tags that make an order count, counted from the end; tags may be repeated, and sections may be empty. What
    `parse_completion` calls well-formed is read alike by both.
    """
    strict = parse_completion(text)
    places = None if strict.well_formed else _lenient_places(text)
    if places is None:
        return strict
    think, think_end, answer, answer_end = places
    cot = text[think + len(THINK) : think_end].strip()
    return Completion(text, cot, text[answer + len(ANSWER) : answer_end].strip(), True)


PARSERS = {"strict": parse_completion, "lenient": parse_leniently}
"""How tags are read (`tag_reading`): name -> text to `Completion`."""


def characters_outside(text: str) -> int:
    """How many characters stand in front of `<think>` and behind `</answer>`, as `parse_leniently` finds these; all without them."""
    places = _lenient_places(text)
    return len(text) if places is None else places[0] + len(text) - places[3] - len(ANSWER_END)


def _lenient_places(text: str) -> tuple[int, int, int, int] | None:
    """Where the four tags begin: each the last one in front of the one that follows. None if they stand in no such order."""
    answer_end = text.rfind(ANSWER_END)
    answer = text.rfind(ANSWER, 0, max(0, answer_end))
    think_end = text.rfind(THINK_END, 0, max(0, answer))
    think = text.rfind(THINK, 0, max(0, think_end))
    return None if think < 0 else (think, think_end, answer, answer_end)


def _guesses(tail: str, answer: str) -> tuple[Guess, ...]:
    found = _TAIL.fullmatch(tail)
    if found is None:
        return ()
    lines = [line.partition(" ") for line in found[1].split("\n")[:-1]]
    guesses = tuple(Guess(line, float(logprob)) for logprob, _, line in lines)
    sinking = all(one.logprob >= other.logprob for one, other in itertools.pairwise(guesses))
    return guesses if sinking and guesses[0].logprob <= 0 and guesses[0].answer == answer else ()


def first_well_formed(texts: Sequence[Completion]) -> Completion:
    """The one to show of several texts about one history: the first that counted, the first of all where none did."""
    return next((one for one in texts if one.well_formed), texts[0])


def render_completion(cot: str, answer: str) -> str:
    """The inverse of `parse_completion` for tag-free sections."""
    return f"{THINK}{cot}{THINK_END}{ANSWER}{answer}{ANSWER_END}"


def render_guesses(guesses: Sequence[Guess]) -> str:
    """The tail that `parse_completion` reads behind an answer; nothing for no guesses.

    Args:
        guesses: most likely first; answers are lines of a catalogue, whose cleaned text has no line break and no `<` or `>`.
    """
    lines = "".join(f"{min(logprob, 0.0):.4f} {answer}\n" for answer, logprob in guesses)
    return f"<guesses>\n{lines}</guesses>" if lines else ""
