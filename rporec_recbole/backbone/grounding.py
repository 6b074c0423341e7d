"""Grounded answers: what is written begins with `<think>`, runs up to `<answer>`, and what follows is a line of the catalogue.

A model that has learned lists of items as well might go on with the list instead of thinking; so the first tag is given.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from rporec_recbole.backbone.choice import uniforms
from rporec_recbole.backbone.engine import Generated, Read
from rporec_recbole.backbone.guesses import Way, drawn_leaves, likely_leaves
from rporec_recbole.backbone.prefix_tree import OPEN, tree_of_lines
from rporec_recbole.backbone.spelling import Spelling
from rporec_recbole.cot.store import Decoding
from rporec_recbole.text.completions import ANSWER, ANSWER_END, THINK, Guess, parse_completion
from rporec_recbole.text.prompts import unrated


class TagWatch:
    """Says of the last tokens of a text whether one of some tags is complete.

    Args:
        tokenizer: a transformers tokenizer.
        tags: what to look for.

    Attributes:
        tokens: the tags that are one token; a text may simply stop after these.
    """

    def __init__(self, tokenizer: Any, *tags: str) -> None:
        self._tokenizer, self._tags = tokenizer, tags
        spelled = [tokenizer(tag, add_special_tokens=False)["input_ids"] for tag in tags]
        self.tokens = [tokens[0] for tokens in spelled if len(tokens) == 1]
        self.needed = len(self.tokens) < len(tags)
        self._may_close: dict[int, bool] = {}

    def __call__(self, tokens: list[int]) -> bool:
        """Whether a tag stands in the text of these tokens and the last one may have closed it."""
        last = tokens[-1]
        if last not in self._may_close:
            self._may_close[last] = self._tags[0][-1] in self._tokenizer.decode([last])
        if not self._may_close[last]:
            return False
        text = self._tokenizer.decode(tokens)
        return any(tag in text for tag in self._tags)


class Grounding:
    """The lines that answers may be, for one tokenizer.

    Args:
        lines: by item id; row 0 is the padding item.
        tokenizer: a transformers tokenizer.
        repeats: whether an answer may be a line that the prompt shows: where nobody has an item twice that is a guess wasted.

    Attributes:
        digest: of the lines and of `repeats`; texts that were written with other ones are other texts.
        begin: the tokens that every completion begins with.
        opened: ends the text before an answer.
    """

    def __init__(self, lines: Sequence[str], tokenizer: Any, repeats: bool = True) -> None:
        self._lines, self._tokenizer, self._spelling = lines, tokenizer, Spelling(tokenizer)
        self._tree, self._again = tree_of_lines(lines, tokenizer)
        self._shown = {} if repeats else {line: item for item, line in enumerate(lines) if item}
        named = "\n".join([*lines, *([] if repeats else ["no repeats"])])
        self.digest = hashlib.sha256(named.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        self.begin: list[int] = tokenizer(THINK, add_special_tokens=False)["input_ids"]
        self.opened = TagWatch(tokenizer, ANSWER, ANSWER_END)

    def before_answer(self, decoding: Decoding) -> Decoding:
        """How the text between is drawn: with room for its beginning and the longest line, half of all at most."""
        room = min(len(self.begin) + self._tree.depth, decoding.max_new_tokens // 2)
        return dataclasses.replace(decoding, max_new_tokens=decoding.max_new_tokens - room)

    def likely(
        self,
        model: Any,
        prompts: Sequence[Sequence[int]],
        begun: Sequence[Generated],
        width: int,
        *,
        shown: Sequence[str],
        pad: int,
        budget: int,
        read: Read | None = None,
    ) -> list[Generated]:
        """Completions whose answer is the most likely line, with the next ones as guesses.

        Args:
            model: in eval mode.
            prompts: as tokens.
            begun: what was written behind each, up to `<answer>`; what is malformed by then stays as it is.
            width: how many guesses at most.
            shown: the prompts as text.
            pad: padding token.
            budget: tokens that are held at once.
            read: what was read of prompts and texts; None if they are to be read again.
        """
        contexts, rows, texts = self._at_answers(prompts, begun)
        closed = [self._closed(shown[row]) for row in rows]
        found = likely_leaves(
            model, texts, self._tree, width, pad=pad, budget=budget, closed=closed, read=_of(read, rows)
        )
        return self._answered(begun, contexts, dict(zip(rows, found, strict=True)))

    def drawn(
        self,
        model: Any,
        prompts: Sequence[Sequence[int]],
        begun: Sequence[Generated],
        decoding: Decoding,
        identities: Sequence[str],
        *,
        shown: Sequence[str],
        pad: int,
        budget: int,
        read: Read | None = None,
    ) -> list[Generated]:
        """Completions whose answer is a line drawn token by token, with that line as the only guess.

        Args:
            model: in eval mode.
            prompts: as tokens.
            begun: what was written behind each, up to `<answer>`; what is malformed by then stays as it is.
            decoding: temperature and seed.
            identities: names the stream of draws of each row, the one that the text before the answer has used.
            shown: the prompts as text.
            pad: padding token.
            budget: tokens that are held at once.
            read: what was read of prompts and texts; None if they are to be read again.
        """
        contexts, rows, texts = self._at_answers(prompts, begun)
        draws = [
            uniforms(identities[row], decoding)[min(len(begun[row].tokens), decoding.max_new_tokens - 1) :]
            for row in rows
        ]
        closed = [self._closed(shown[row]) for row in rows]
        temperature = decoding.temperature
        ways = drawn_leaves(
            model, texts, self._tree, draws, temperature, pad=pad, budget=budget, closed=closed, read=_of(read, rows)
        )
        return self._answered(begun, contexts, {row: [way] for row, way in zip(rows, ways, strict=True)})

    def _closed(self, prompt: str) -> np.ndarray:
        """The rows of the tree that a prompt leaves out."""
        if not self._shown:
            return OPEN
        items = {self._shown.get(line) for shown in prompt.split("\n") for line in (shown, unrated(shown))}
        return self._tree.rows_of(item for item in items if item is not None)

    def _at_answers(
        self, prompts: Sequence[Sequence[int]], begun: Sequence[Generated]
    ) -> tuple[list[list[int] | None], list[int], list[list[int]]]:
        """(context of each row, see `_context`; rows that have one; their prompts and contexts in one)."""
        contexts = [self._context(one.tokens) for one in begun]
        rows = [row for row, context in enumerate(contexts) if context is not None]
        return contexts, rows, [[*prompts[row], *(contexts[row] or [])] for row in rows]

    def _context(self, tokens: list[int]) -> list[int] | None:
        """The tokens of a text up to where the tree begins; None if it is not at an answer or malformed already."""
        text = self._spelling(tokens)
        head, opened, rest = text.partition(ANSWER)
        if not parse_completion(f"{head}{opened}x{ANSWER_END}").well_formed:
            return None
        if rest:  # the last token held more than the tag
            tokens = self._tokenizer(f"{head}{opened}", add_special_tokens=False)["input_ids"]
        kept = len(tokens) - len(self._again)
        return tokens[:kept] if tokens[kept:] == self._again else None

    def _answered(
        self, begun: Sequence[Generated], contexts: Sequence[list[int] | None], ways: dict[int, list[Way]]
    ) -> list[Generated]:
        completions = list(begun)
        for row, leaves in ways.items():
            context = contexts[row] or []
            guesses = tuple(Guess(self._lines[self._tree.items(way.node)[0]], way.logprob) for way in leaves)
            completions[row] = Generated([*context, *self._tree.tokens(leaves[0].node)], [], guesses)
        return completions


def _of(read: Read | None, texts: Sequence[int]) -> Read | None:
    """What was read of some texts, in their order."""
    if read is None:
        return None
    return Read(read.rows, [read.slots[one] for one in texts], [read.tokens[one] for one in texts])
