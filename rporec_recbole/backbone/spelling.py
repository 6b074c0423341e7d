"""How a tokenizer spells completions: from tokens back to text, and whether a text comes back as it was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rporec_recbole.text.completions import TAGS, parse_completion, render_completion

_COT, _REPLY = "evidence: Film 3 of 1984; more of it. intent: a drama", "Film 4 of the Drama | Comedy | 1985"


class Spelling:
    """Turns tokens into text without special ones, but for the tags.

    Users like to add the tags as special tokens (`add_special_tokens`), and those are left out of a text wherever special ones are:
    nothing that such a model writes would ever be well-formed.

    Args:
        tokenizer: a transformers tokenizer.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        special = special_tokens(tokenizer)
        tags = set(tag_tokens(tokenizer))
        self._left_out = special - tags if special & tags else None

    def __call__(self, tokens: Sequence[int]) -> str:
        """The text of some tokens."""
        if self._left_out is None:
            return str(self._tokenizer.decode(list(tokens), skip_special_tokens=True))
        return str(self._tokenizer.decode([token for token in tokens if token not in self._left_out]))


def special_tokens(tokenizer: Any) -> set[int]:
    """The tokens that decoding may leave out; text never becomes one of them while a prompt is encoded."""
    added = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    return added | set(tokenizer.all_special_ids)


def tag_tokens(tokenizer: Any) -> list[int]:
    """The tags that are one token."""
    vocabulary = tokenizer.get_vocab()
    return [vocabulary[tag] for tag in TAGS if tag in vocabulary]


def spelling_problems(tokenizer: Any, embeddings: int, model_end: Any) -> list[str]:
    """Why completions cannot be learned or read with a tokenizer.

    Args:
        tokenizer: a transformers tokenizer.
        embeddings: how many tokens the model knows.
        model_end: the end token, or a list of such, that the model's config names; may be None.
    """
    problems = []
    end = tokenizer.eos_token_id
    if end is None:
        first = model_end[0] if isinstance(model_end, list) and model_end else model_end
        named = "" if first is None else f" (the model's config names {tokenizer.convert_ids_to_tokens(first)!r})"
        problems.append(
            f"its tokenizer has no end token, so no text would learn to end. Set `tokenizer.eos_token`{named} and save it again"
        )
    needed = {*tag_tokens(tokenizer), *(one for one in (end, tokenizer.pad_token_id) if one is not None)}
    unreachable = special_tokens(tokenizer) - needed
    beyond = {
        number: token
        for token, number in tokenizer.get_vocab().items()
        if number >= embeddings and number not in unreachable
    }
    if beyond:
        highest = max(beyond)
        problems.append(
            f"its tokenizer is longer than its embeddings: {len(beyond)} tokens, up to number {highest} ({beyond[highest]!r}), lie beyond the "
            f"{embeddings} that the model knows. Save the model again after `model.resize_token_embeddings({highest + 1})`, or take the "
            "tokenizer that it was trained with"
        )
    written = render_completion(_COT, _REPLY)
    back = Spelling(tokenizer)(tokenizer(written, add_special_tokens=False)["input_ids"])
    found = parse_completion(back)
    if (_bare(found.cot), _bare(found.answer)) != (_bare(_COT), _bare(_REPLY)):
        problems.append(
            f"a completion does not come through its tokenizer: {written!r} comes back as {back!r}. Give it the tags {', '.join(TAGS)} as ordinary "
            "tokens, `tokenizer.add_tokens([...])`, or take another model"
        )
    return problems


def _bare(text: str) -> str:
    """Without spaces and in small letters: a tokenizer may change those."""
    return "".join(text.casefold().split())
