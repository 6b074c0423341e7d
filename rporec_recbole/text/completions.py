"""The only parser of what the language model writes: `<think>...</think><answer>...</answer>`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

THINK, THINK_END, ANSWER, ANSWER_END = TAGS = ("<think>", "</think>", "<answer>", "</answer>")

_TAG = re.compile("|".join(re.escape(tag) for tag in TAGS))


@dataclass(frozen=True)
class Completion:
    """A parsed completion.

    Attributes:
        text: what the model wrote, unchanged.
        cot: inside `<think>`, stripped; empty if malformed.
        answer: inside `<answer>`, stripped; empty if malformed.
        well_formed: whether both sections stand once, in order, closed and not empty.
    """

    text: str
    cot: str = ""
    answer: str = ""
    well_formed: bool = False


def parse_completion(text: str) -> Completion:
    """Parses a completion; never raises on a string.

    Well-formed means: the four tags stand exactly once each and in order, and both sections hold text. Repeated or
    nested tags are malformed. Text outside the sections is ignored; nothing reads it.
    """
    tags = list(_TAG.finditer(text))
    if tuple(match.group() for match in tags) != TAGS:
        return Completion(text)
    think, think_end, answer, answer_end = tags
    cot = text[think.end() : think_end.start()].strip()
    guess = text[answer.end() : answer_end.start()].strip()
    if not cot or not guess:
        return Completion(text)
    return Completion(text, cot, guess, True)


def first_well_formed(texts: Sequence[Completion]) -> Completion:
    """The one to show of several texts about one history: the first that counted, the first of all where none did."""
    return next((one for one in texts if one.well_formed), texts[0])


def render_completion(cot: str, answer: str) -> str:
    """The inverse of `parse_completion` for tag-free sections."""
    return f"{THINK}{cot}{THINK_END}{ANSWER}{answer}{ANSWER_END}"
