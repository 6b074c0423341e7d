"""Training examples of which any characters may be learned, not the completion alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rporec_recbole.backbone.losses import IGNORE

Span = tuple[int, int]


def span_examples(
    tokenizer: Any, texts: Sequence[str], spans: Sequence[Sequence[Span]], completions: Sequence[str] | None = None
) -> list[tuple[list[int], list[int]]]:
    """Examples as (tokens, labels): of a text the tokens that touch a span are learned, of a completion behind it all, and
    the end token.

    Args:
        tokenizer: a fast tokenizer of transformers.
        texts: tokenised as prompts are.
        spans: (start, stop) in characters of each text, in order, without overlap.
        completions: of each text; None for none.
    """
    encoded = tokenizer(list(texts), split_special_tokens=True, return_offsets_mapping=True)
    ends: Sequence[list[int]] = [[]] * len(texts)
    if completions is not None:
        written = tokenizer(list(completions), add_special_tokens=False)["input_ids"]
        ends = [[*one, tokenizer.eos_token_id] for one in written]
    examples = []
    for tokens, offsets, learned, end in zip(encoded["input_ids"], encoded["offset_mapping"], spans, ends, strict=True):
        labels, number = [IGNORE] * len(tokens), 0
        for place, (start, stop) in enumerate(offsets):
            while number < len(learned) and learned[number][1] <= start:
                number += 1
            if number < len(learned) and stop > learned[number][0] and stop > start:
                labels[place] = tokens[place]
        examples.append((tokens + end, labels + end))
    return examples
