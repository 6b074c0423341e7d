"""Composes the reasoning texts from which the backbone learns to write.

A small program, no language model: evidence and preference are facts of the history shown in the prompt, and the answer
is the true next item of that *training* position. The intent names attributes of the next item only where the history
shows them too, so no sentence states what the prompt does not support, and it never spells out a title that the history
does not have.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from rporec_recbole.text.catalogue import Catalogue
from rporec_recbole.text.completions import render_completion
from rporec_recbole.text.mentions import STOP_WORDS, names

_EVIDENCE = re.compile(r"evidence:(.*?)\.\s*preference:", re.DOTALL | re.IGNORECASE)
_SECTIONS = re.compile(
    r"\s*evidence:(?P<evidence>.*?)\.\s*preference:(?P<preference>.*?)\.\s*intent:(?P<intent>.*?)\.?\s*",
    re.DOTALL | re.IGNORECASE,
)


def traits(catalogue: Catalogue, item: int) -> tuple[str, ...]:
    """What an item is, in single words: its attributes' words, or the long words of its title if it has none.

    A year becomes its decade.
    """
    title, attributes = catalogue.items[item]
    words = [word.strip(",;") for attribute in attributes for word in attribute.split()]
    if not any(attributes):
        words = [word.strip(".,;:!?()'\"").lower() for word in title.split()]
        words = [word for word in words if len(word) > 3 and word not in STOP_WORDS]
    return tuple(
        dict.fromkeys(f"{word[:3]}0s" if len(word) == 4 and word.isdigit() else word for word in words if word)
    )


def compose_completion(catalogue: Catalogue, history: Sequence[int], target: int) -> str:
    """The training completion of one position.

    Args:
        catalogue: item texts.
        history: the item ids that the prompt shows, oldest first, padding left out.
        target: the next item of this training position.
    """
    counts, ranked = _counted(catalogue, history)
    shared = [trait for trait in traits(catalogue, target) if trait in counts] or ranked[:1] or ["something new"]
    title = catalogue.items[target].title
    known = [*(catalogue.lines[item] for item in history), *counts]
    while len(shared) > 1 and names(", ".join(shared), title) and not any(names(text, title) for text in known):
        shared.pop()
    cot = f"{facts_of(catalogue, history)} intent: {', '.join(shared)}."
    return render_completion(cot, catalogue.lines[target])


def facts_of(catalogue: Catalogue, history: Sequence[int]) -> str:
    """The sections of a composed text that say what the history is: evidence and preference. No target has a part in them.

    Args:
        catalogue: item texts.
        history: the item ids that the prompt shows, oldest first, padding left out.
    """
    counts, ranked = _counted(catalogue, history)
    preference = ", ".join(f"{trait} {counts[trait]}" for trait in ranked[:4]) or "no pattern"
    evidence = "; ".join(catalogue.items[item].title for item in history[-2:])
    return f"evidence: {evidence}. preference: {preference}."


def _counted(catalogue: Catalogue, history: Sequence[int]) -> tuple[Counter[str], list[str]]:
    """How often each trait stands in the history, and the traits, the most frequent first, of equal ones the latest."""
    counts = Counter(trait for item in history for trait in traits(catalogue, item))
    recent = {trait: index for index, item in enumerate(history) for trait in traits(catalogue, item)}
    return counts, sorted(counts, key=lambda trait: (-counts[trait], -recent[trait], trait))


def evidence_of(cot: str) -> str | None:
    """What stands as evidence in a text of the form that `compose_completion` writes; None in a text of another form."""
    found = _EVIDENCE.search(cot)
    return None if found is None else found[1].strip()


def sections_of(cot: str) -> dict[str, str]:
    """Evidence, preference and intent of a text of the form that `compose_completion` writes; empty for one of another form."""
    found = _SECTIONS.fullmatch(cot)
    return {} if found is None else {name: text.strip() for name, text in found.groupdict().items()}
