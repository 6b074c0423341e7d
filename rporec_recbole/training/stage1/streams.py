"""What stage 1b learns from lists of items: early histories read whole, and composed texts behind prompts that are learned too.

Behind `<answer>` a model sees the history through its own reasoning, and one answer a text teaches slowly what thousands of
lines have taught already. So the answer also learns from the list: its first token shall be expected as it is at the end of
the prompt, where the next line would begin (a self-distillation). What the reasoning adds is learned on top of that.

Letters in shapes: R rows, T tokens, H hidden size, V vocabulary, M learned tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rporec_recbole.backbone.examples import span_examples
from rporec_recbole.backbone.losses import IGNORE
from rporec_recbole.backbone.model import Backbone
from rporec_recbole.backbone.running import trains_in_bfloat16
from rporec_recbole.backbone.warmup import Example
from rporec_recbole.cot.streams import learned_spans, streams_of
from rporec_recbole.settings.types import is_embedded
from rporec_recbole.text.completions import ANSWER, THINK
from rporec_recbole.text.prompts import PromptTemplate, Rating
from rporec_recbole.training.stage1.rows import Lessons

_ANSWER_WEIGHT = 4.0  # of a token behind `<answer>`: there are thirty times as many others
_ECHO_WEIGHT = 8.0  # of an answer that learns from the list


class Lists:
    """Histories as lists of lines, of which the positions of some rungs are learned.

    Args:
        backbone: gives tokens.
        template: gives lines.
        users: user of each interaction, sorted.
        items: item of each interaction, by time for each user.
        ratings: of each interaction; None on a data set without ratings.
        ends: `[P]` timeline indices of the positions, sorted; those of a user follow each other, and nothing behind the last is read.
        window: tokens of a list.
    """

    def __init__(
        self,
        backbone: Backbone,
        template: PromptTemplate,
        users: np.ndarray,
        items: np.ndarray,
        ratings: Sequence[Rating] | None,
        ends: np.ndarray,
        window: int,
    ) -> None:
        self._tokenizer, self._window = backbone.tokenizer, window
        borders = (
            np.flatnonzero(np.r_[True, users[ends][1:] != users[ends][:-1], True]) if len(ends) else np.zeros(1, int)
        )
        first, last = ends[borders[:-1]], ends[borders[1:] - 1]
        self._histories = [
            (
                start,
                begin,
                [template.line(int(items[i]), None if ratings is None else ratings[i]) for i in range(start, end + 1)],
            )
            for start, begin, end in zip(
                np.searchsorted(users, users[last]).tolist(), first.tolist(), last.tolist(), strict=True
            )
        ]
        distinct = sorted({line for *_, lines in self._histories for line in lines})
        self._lengths = dict(zip(distinct, map(backbone.prompts.count, distinct), strict=True))

    def examples(self, rng: np.random.Generator) -> list[Example]:
        """One pass over all of them, with borders of its own."""
        texts, spans = [], []
        for start, begin, lines in self._histories:
            lengths = [self._lengths[line] for line in lines]
            for stream in streams_of(start, begin, start + len(lines), lengths, self._window, rng):
                texts.append("".join(lines[stream.first - start : stream.last - start]))
                spans.append(learned_spans(texts[-1], stream.learned - stream.first, rng))
        return span_examples(self._tokenizer, texts, spans) if texts else []


def lesson_examples(backbone: Backbone, lessons: Lessons, rng: np.random.Generator) -> list[Example]:
    """Composed texts behind their prompts, whose lines are learned too, all but the first: nothing stands before that one."""
    if not lessons.prompts:
        return []
    spans = [learned_spans(prompt, 1, rng) for prompt in lessons.prompts]
    return span_examples(backbone.tokenizer, lessons.prompts, spans, lessons.completions)


class ListLoss:
    """The loss of a collated batch of lists and lessons.

    Args:
        backbone: is trained.
    """

    def __init__(self, backbone: Backbone) -> None:
        self._backbone = backbone
        spelled = [backbone.tokenizer(tag, add_special_tokens=False)["input_ids"] for tag in (THINK, ANSWER)]
        # Tags of several tokens: no echo.
        self._tags = [tokens[0] for tokens in spelled] if all(len(tokens) == 1 for tokens in spelled) else None

    def __call__(self, batch: dict[str, Tensor]) -> Tensor:
        """Mean cross-entropy of what is learned, answers weighing more, and of answers with what the list expects."""
        inputs = batch["input_ids"]
        labels = F.pad(batch["labels"], (inputs.shape[1] - batch["labels"].shape[1], 0), value=IGNORE)[:, 1:]
        learned = labels != IGNORE
        logits, own = self._logits(batch, learned), labels[learned]
        losses = F.cross_entropy(logits, own, reduction="none")
        if self._tags is None:
            return losses.mean()
        think, answer = self._tags
        answering = (inputs == answer)[:, :-1]
        weight = 1 + (_ANSWER_WEIGHT - 1) * (answering.cumsum(1) > 0)[learned]
        # Each lesson has one end of the prompt and one beginning of the answer, in the order of the rows.
        expected = logits.detach()[own == think]
        expected[:, think] = -torch.inf
        said = torch.log_softmax(logits[answering[learned]], dim=-1)
        echo = -(torch.softmax(expected, dim=-1) * said).sum()
        return ((losses * weight).sum() + _ECHO_WEIGHT * echo) / (weight.sum() + _ECHO_WEIGHT * len(said))

    def _logits(self, batch: dict[str, Tensor], learned: Tensor) -> Tensor:
        """`[M, V]` before what is learned; in its output layer a small model spends half of its time."""
        model = self._backbone.model
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "position_ids")}
        with torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=trains_in_bfloat16(model.device)):
            if is_embedded(self._backbone.name) and not self._backbone.is_adapter:
                hidden = model.base_model(**inputs, use_cache=False).last_hidden_state[:, :-1]
                return model.get_output_embeddings()(hidden[learned]).float()
            return model(**inputs, use_cache=False).logits[:, :-1][learned].float()
