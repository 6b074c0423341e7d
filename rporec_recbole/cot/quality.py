"""Named filters for reasoning texts: one small pure function for each thing that can be wrong, applied in order, counted.

They choose what the backbone learns from (best-of-N), and they describe what it writes (`rporec cots stats`). They never
choose what the head reads: at test time nobody selects texts for it, so it has to learn from them as they come.

format       malformed: see `parse_completion`
length       the cot has fewer different words than `min_words` or more words than `max_words`
repetition   more than `repetition` of the cot's word trigrams stand in it before
copying      more than `copying` of the cot's words stand in runs of four or more that the prompt holds word for word
unfounded    the evidence names something that is no title of the prompt
leak         the cot names the target, and the prompt does not
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from rporec_recbole.cot.compose import evidence_of
from rporec_recbole.text.catalogue import title_of
from rporec_recbole.text.completions import Completion
from rporec_recbole.text.mentions import names, without, words_of

_REPEATED, _COPIED = 3, 4  # words of an n-gram


@dataclass(frozen=True)
class QualityLimits:
    """From where on a text is bad.

    Attributes:
        min_words: fewest different words of a cot.
        max_words: most words of a cot.
        repetition: highest share of word trigrams that repeat an earlier one.
        copying: highest share of words that are copied from the prompt in runs of four or more.
    """

    min_words: int
    max_words: int
    repetition: float
    copying: float


@dataclass(frozen=True)
class Written:
    """A completion and what it was written for.

    Attributes:
        completion: the parsed text.
        prompt: what the writer saw.
        target: title of the true next item; None where nobody may know it.
    """

    completion: Completion
    prompt: str
    target: str | None = None


def bad_format(one: Written, limits: QualityLimits) -> bool:
    """The completion is malformed."""
    return not one.completion.well_formed


def bad_length(one: Written, limits: QualityLimits) -> bool:
    """The cot is too short or too long."""
    words = words_of(one.completion.cot)  # dashes and dots are no words, and one word again and again is no text
    return len(set(words)) < limits.min_words or len(words) > limits.max_words


def bad_repetition(one: Written, limits: QualityLimits) -> bool:
    """The cot says the same thing again and again."""
    return repeated_share(one.completion.cot) > limits.repetition


def bad_copying(one: Written, limits: QualityLimits) -> bool:
    """The cot repeats the history instead of reasoning about it."""
    return copied_share(one.completion.cot, one.prompt) > limits.copying


def bad_evidence(one: Written, limits: QualityLimits) -> bool:
    """The evidence holds more than titles of the prompt. A cot without a section for evidence passes."""
    evidence = evidence_of(one.completion.cot)
    if evidence is None:
        return False
    return without(evidence, titles_in(one.prompt)).strip("; ") != ""


def leak(one: Written, limits: QualityLimits) -> bool:
    """The cot names the target, which the writer cannot know of."""
    return one.target is not None and names(one.completion.cot, one.target) and not names(one.prompt, one.target)


REASONS: dict[str, Callable[[Written, QualityLimits], bool]] = {
    "format": bad_format,
    "length": bad_length,
    "repetition": bad_repetition,
    "copying": bad_copying,
    "unfounded": bad_evidence,
    "leak": leak,
}


def first_reason(one: Written, limits: QualityLimits, asked: Collection[str] = tuple(REASONS)) -> str | None:
    """The first of `REASONS` against a text, among those asked for; None if there is none."""
    return next((name for name, is_bad in REASONS.items() if name in asked and is_bad(one, limits)), None)


def sift(
    texts: Iterable[Written], limits: QualityLimits, asked: Collection[str] = tuple(REASONS)
) -> tuple[list[int], Counter[str]]:
    """Which texts nothing speaks against, and how many fell for each reason.

    Args:
        texts: in any order.
        limits: see `QualityLimits`.
        asked: names of the reasons that count; they are tried in the order of `REASONS`.

    Returns:
        indices of the texts that are kept, and reason -> texts; a text counts for its first reason only.
    """
    verdicts = [first_reason(one, limits, asked) for one in texts]
    kept = [index for index, reason in enumerate(verdicts) if reason is None]
    return kept, Counter(reason for reason in verdicts if reason is not None)


def titles_in(prompt: str) -> set[str]:
    """The titles that a prompt shows: what stands in front of the first ` | ` of each line."""
    return {title_of(line) for line in prompt.split("\n") if line}


def repeated_share(text: str) -> float:
    """1 - distinct / all word trigrams (Welleck et al., 2020, call it seq-rep-3); 0 for less than one trigram."""
    grams = _grams(words_of(text), _REPEATED)
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def copied_share(text: str, source: str) -> float:
    """Share of the words of `text` that stand in runs of four or more words which `source` holds word for word."""
    words, there = words_of(text), set(_grams(words_of(source), _COPIED))
    copied: set[int] = set()
    for start, gram in enumerate(_grams(words, _COPIED)):
        if gram in there:
            copied.update(range(start, start + _COPIED))
    return len(copied) / len(words) if words else 0.0


def _grams(words: Sequence[str], size: int) -> list[tuple[str, ...]]:
    return [tuple(words[start : start + size]) for start in range(len(words) - size + 1)]
