"""How a prompt becomes tokens: as it stands, or as the one message of a user in the tokenizer's chat template."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from rporec_recbole.errors import BackboneError, first_line

_HERE = "RPOREC-PROMPT"
_THINKING = re.compile(r"</?think>")


class PromptEncoder:
    """Turns prompts into tokens, never more than there is room for.

    The template is rendered once, around a mark; the tokens before and after the mark then surround every prompt. So the
    template's own tokens cannot be cut off, and no prompt can contain one of them: item texts are untrusted.

    Args:
        tokenizer: a transformers tokenizer.
        max_tokens: room for a prompt with all that is put around it.
        chat: use the tokenizer's chat template; without one, prompts stand alone.
        around: what the template has put before and after a prompt already; None renders it now. Many templates print today's
            date.

    Attributes:
        chat: whether a chat template is in use.
        around: as rendered; None without a template.
        overhead: tokens of every prompt that are not its own.

    Raises:
        BackboneError: the template does not render, or does not show the message.
    """

    def __init__(self, tokenizer: Any, max_tokens: int, chat: bool, around: tuple[str, str] | None = None) -> None:
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens
        self.chat = bool(chat and tokenizer.chat_template)
        self._before: list[int] = []
        self._after: list[int] = []
        self.around = (around or _around(tokenizer)) if self.chat else None
        if self.around is not None:
            self._before, self._after = (
                self.tokenizer(text, add_special_tokens=False)["input_ids"] for text in self.around
            )
            self.overhead = len(self._before) + len(self._after)
        else:
            self.overhead = len(tokenizer("")["input_ids"])
        self.identity = f"{max_tokens}{'' if self.around is None else _HERE.join(self.around)}"
        """Changes when the tokens of a prompt may change; part of the backbone's fingerprint."""

    def count(self, text: str) -> int:
        """Length of a part of a prompt in tokens."""
        return len(self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])

    def encode(self, prompts: Sequence[str]) -> list[list[int]]:
        """Prompts as tokens.

        `PromptTemplate` leaves out the oldest items of a history until it fits. What is too long all the same, one item
        with a very long text, loses its end in a chat template (the instruction stands at its beginning) and its
        beginning without one.
        """
        if not self.chat:
            encoded = self.tokenizer(list(prompts), add_special_tokens=True, split_special_tokens=True)["input_ids"]
            return [ids[-self.max_tokens :] for ids in encoded]
        stripped = [prompt.strip() for prompt in prompts]
        encoded = self.tokenizer(stripped, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        room = max(0, self.max_tokens - self.overhead)
        return [[*self._before, *ids[:room], *self._after] for ids in encoded]


def _around(tokenizer: Any) -> tuple[str, str]:
    """What a chat template puts before and after a user's message, up to where the assistant begins to write.

    The completion holds the whole of `<think>...</think><answer>...</answer>`, so the assistant's turn must start empty.
    Qwen3's template leaves it empty with `enable_thinking=True`; with False it puts an empty `<think></think>` there, after
    which the model would not think. Templates of models that always think open a `<think>` themselves: it is cut off here,
    and the model writes it. Templates that do not know the argument ignore it.
    """
    try:
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": _HERE}], tokenize=False, add_generation_prompt=True, enable_thinking=True
        )
    except Exception as error:  # jinja raises many kinds, and templates raise their own
        raise _unusable(first_line(error)) from error
    if text.count(_HERE) != 1:
        raise _unusable(f"it shows a user's message {text.count(_HERE)} times instead of once")
    before, after = text.split(_HERE)
    opened = _THINKING.search(after)
    return before, after[: opened.start()] if opened else after


def _unusable(reason: str) -> BackboneError:
    return BackboneError(
        f"The backbone's chat template cannot be used: {reason}. Do without it: --chat_template=never."
    )
