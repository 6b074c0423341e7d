"""How the language model of R2ec reads and writes: a reasoning up to `<answer>`, and the hidden state at the last token of whatever it read.

Letters in shapes: R texts, T tokens, K last tokens, H hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rporec_recbole.backbone.engine import batches_by_length, generate_tokens
from rporec_recbole.backbone.grounding import TagWatch
from rporec_recbole.backbone.losses import IGNORE
from rporec_recbole.backbone.model import Backbone
from rporec_recbole.backbone.running import trains_in_bfloat16
from rporec_recbole.cot.store import Decoding
from rporec_recbole.text.completions import ANSWER

ITEM_INSTRUCTIONS = {
    "compact": "",
    "instruct": "Name what is typical of the item below, in a few words.\n\n",
    "attributes": "Name what is typical of the item below, in a few words.\n\n",
}
"""What stands before an item's text, by style of prompt."""


_ALIKE = 0.75
"""How long the shortest of the texts that are read together is at least, as a share of the longest: less is mostly padding."""


class Reasoned(NamedTuple):
    """A history with what was written about it.

    Attributes:
        prompt: tokens.
        text: tokens behind them, up to `<answer>`; none where nothing is written.
        written: how many of these the model wrote itself; where it did not come to `<answer>`, the tag was added.
    """

    prompt: list[int]
    text: list[int]
    written: int

    @property
    def tokens(self) -> list[int]:
        """All of it."""
        return [*self.prompt, *self.text]


class Reader:
    """Reads and writes with a backbone whose weights may change at any time.

    Args:
        backbone: the language model.
    """

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self.answer: list[int] = backbone.tokenizer(ANSWER, add_special_tokens=False)["input_ids"]
        self._opened = TagWatch(backbone.tokenizer, ANSWER)

    @property
    def width(self) -> int:
        """H."""
        return int(self.backbone.model.config.get_text_config().hidden_size)

    def items(self, lines: Sequence[str], style: str) -> list[list[int]]:
        """Texts of items as tokens; an item's vector is the state at the last one, `<answer>`, as a user's is behind a reasoning.

        Args:
            lines: of the catalogue.
            style: of prompts.
        """
        prompts = self.backbone.prompts.encode([ITEM_INSTRUCTIONS[style] + line for line in lines])
        return [[*prompt, *self.answer] for prompt in prompts]

    def read(self, examples: Sequence[tuple[list[int], list[int]]]) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Reads texts together, padded on the left.

        Args:
            examples: (tokens, labels) of each, R of them.

        Returns:
            states `[R, T, H]`, logits `[R, K, V]` of the last K tokens, which hold all labels, and the collated batch.
        """
        batch = self.backbone.collate(examples)
        kept = batch["labels"].shape[1]
        with self._precision():
            out = self.backbone.model(
                **self._inputs(batch), use_cache=False, output_hidden_states=True, logits_to_keep=kept
            )
        return out.hidden_states[-1].float(), out.logits.float(), batch

    def last_states(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """`[R, H]` at the last token of each, in parts of like length."""
        states, order = [], []
        for numbers in _alike([len(text) for text in texts], self.backbone.batch_tokens):
            part = [(list(texts[number]), [IGNORE] * len(texts[number])) for number in numbers]
            inputs = self._inputs(self.backbone.collate(part))
            with self._precision():
                states.append(self._decoder(**inputs, use_cache=False).last_hidden_state[:, -1].float())
            order += numbers
        back = torch.tensor(order, device=self.backbone.device).argsort()
        return torch.cat(states)[back]

    def reason(self, prompts: Sequence[str], decoding: Decoding, identities: Sequence[str] | None) -> list[Reasoned]:
        """Writes a reasoning behind each prompt, up to `<answer>`.

        Args:
            prompts: texts.
            decoding: greedy, or drawn.
            identities: names the stream of draws of each; None for greedy ones.
        """
        model, encoded = self.backbone.model, self.backbone.prompts.encode(prompts)
        ends = {token for token in self.backbone.end_tokens if token not in self.answer} | set(self._opened.tokens)
        found = generate_tokens(
            model,
            encoded,
            decoding,
            ends=sorted(ends),
            pad=self.backbone.tokenizer.pad_token_id,
            budget=self.backbone.batch_tokens,
            identities=identities,
            has_ended=self._opened if self._opened.needed else None,
        )
        return [self._closed(prompt, one.tokens) for prompt, one in zip(encoded, found, strict=True)]

    def unreasoned(self, prompts: Sequence[str]) -> list[Reasoned]:
        """Prompts behind which nothing is written."""
        return [Reasoned(prompt, [], 0) for prompt in self.backbone.prompts.encode(prompts)]

    @property
    def _decoder(self) -> Any:
        """The model without its output layer, with an adapter where there is one."""
        model = self.backbone.model
        return (model.get_base_model() if self.backbone.is_adapter else model).base_model

    def _precision(self) -> torch.autocast:
        device = self.backbone.device
        return torch.autocast(device.type, dtype=torch.bfloat16, enabled=trains_in_bfloat16(device))

    @staticmethod
    def _inputs(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: batch[name] for name in ("input_ids", "attention_mask", "position_ids")}

    def _closed(self, prompt: list[int], tokens: list[int]) -> Reasoned:
        if tokens[-1] in self._opened.tokens or (self._opened.needed and self._opened(tokens)):
            return Reasoned(prompt, tokens, len(tokens))
        if tokens[-1] in self.backbone.end_tokens:
            tokens = tokens[:-1]
        return Reasoned(prompt, [*tokens, *self.answer], len(tokens))


def _alike(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """`batches_by_length` whose texts are of like length."""
    for numbers in batches_by_length(lengths, 0, budget):
        part: list[int] = []
        for number in numbers:
            if part and lengths[number] < _ALIKE * lengths[part[0]]:
                yield part
                part = []
            part.append(number)
        yield part
