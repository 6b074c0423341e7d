"""What R2ec learns from before it is rewarded: histories read as lists, composed reasonings, and what it writes itself.

A lesson is a text with tokens that the language head learns and places at which the recommendation head does. A history of n items read as one
list holds n - 1 of these places; `tiny` has read nothing else before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rporec_recbole.backbone.losses import IGNORE
from rporec_recbole.cot.compose import compose_completion
from rporec_recbole.cot.streams import streams_of
from rporec_recbole.rivals.r2ec_reader import Reader, Reasoned
from rporec_recbole.text.completions import ANSWER
from rporec_recbole.text.prompts import PromptTemplate, Rating

HistoryRow = tuple[list[int], list[Rating] | None]
"""A history and its ratings, as `PromptTemplate.prompt` takes them."""


class Lesson(NamedTuple):
    """One text.

    Attributes:
        tokens: of the text.
        labels: of the language head, `IGNORE` where nothing is learned.
        places: indices of tokens whose state is to find an item.
        items: the item of each place.
    """

    tokens: list[int]
    labels: list[int]
    places: list[int]
    items: list[int]


def list_lessons(
    reader: Reader,
    template: PromptTemplate,
    histories: Sequence[HistoryRow],
    window: int,
    rng: np.random.Generator,
) -> list[Lesson]:
    """Histories as lists of lines: the state at the end of each line is to find the item of the next one.

    Args:
        reader: gives tokens.
        template: gives lines.
        histories: whole ones of training, oldest first.
        window: tokens of a list.
        rng: draws where a long history is cut.
    """
    begin = reader.backbone.tokenizer("")["input_ids"]
    known: dict[str, list[int]] = {}

    def tokens_of(line: str) -> list[int]:
        if line not in known:
            known[line] = reader.backbone.tokenizer(line, add_special_tokens=False, split_special_tokens=True)[
                "input_ids"
            ]
        return known[line]

    lessons = []
    for items, ratings in histories:
        given = ratings if ratings is not None and template.show_ratings else [None] * len(items)
        lines = [tokens_of(template.line(item, rating)) for item, rating in zip(items, given, strict=True)]
        for stream in streams_of(0, 1, len(lines), [len(line) for line in lines], window, rng):
            tokens, places = list(begin), []
            for line in lines[stream.first : stream.last - 1]:  # of the last one nothing is read
                tokens += line
                places.append(len(tokens) - 1)
            learned = slice(stream.learned - 1 - stream.first, None)
            found = items[stream.first + 1 : stream.last]
            lessons.append(Lesson(tokens, [IGNORE] * len(tokens), places[learned], found[learned]))
    return lessons


def composed_text(template: PromptTemplate, row: HistoryRow, target: int) -> str:
    """A composed reasoning up to `<answer>`; it names no item that the prompt does not show."""
    whole = compose_completion(template.catalogue, template.shown(*row), target)
    return whole.partition(ANSWER)[0] + ANSWER


def text_lessons(reader: Reader, prompts: Sequence[str], texts: Sequence[str], targets: Sequence[int]) -> list[Lesson]:
    """Composed reasonings behind their prompts: they are written by the language head, and the prompt's end finds the item.

    Their own end finds none: they were composed by somebody who knew it.
    """
    if not prompts:
        return []
    written = reader.backbone.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    return [
        Lesson([*prompt, *text], [IGNORE] * len(prompt) + text, [len(prompt) - 1], [target])
        for prompt, text, target in zip(reader.backbone.prompts.encode(prompts), written, targets, strict=True)
    ]


def own_lessons(reasoned: Sequence[Reasoned], targets: Sequence[int]) -> list[Lesson]:
    """The model's own reasonings: the state behind them finds the item, that at the prompt's end too, and they go on being written."""
    lessons = []
    for one, target in zip(reasoned, targets, strict=True):
        labels = [IGNORE] * len(one.prompt) + one.text[: one.written]
        labels += [IGNORE] * (len(one.tokens) - len(labels))
        places = sorted({len(one.prompt) - 1, len(one.tokens) - 1})
        lessons.append(Lesson(one.tokens, labels, places, [target] * len(places)))
    return lessons
