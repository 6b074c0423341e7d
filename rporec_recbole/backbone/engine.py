"""The generation engine: length-sorted batches under a token budget, left padding, a KV cache written in place, a common
beginning that is read once, guessed tokens checked several at a time, finished rows that leave at once.

The text of a prompt does not depend on the batch in which it stood nor on what was guessed, up to float rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rporec_recbole.backbone.choice import Choice, Stop
from rporec_recbole.backbone.drafts import Drafts, worth_checking
from rporec_recbole.backbone.kv_cache import attention_of_engine
from rporec_recbole.backbone.memory import release_freed_memory
from rporec_recbole.backbone.rows import Rows, read_beginning
from rporec_recbole.backbone.screening import ScreenedOutput, output_layer
from rporec_recbole.cot.store import Decoding
from rporec_recbole.settings.bars import progress_bar
from rporec_recbole.text.completions import Guess


@dataclass(frozen=True)
class Generated:
    """One completion as tokens.

    Attributes:
        tokens: the new tokens, the end token included if it was written.
        logprobs: log-probability of each under the sampling distribution (temperature applied); empty if nobody asked.
        guesses: what a grounded answer might have been, most likely first, the answer included.
    """

    tokens: list[int]
    logprobs: list[float]
    guesses: tuple[Guess, ...] = ()


@dataclass(frozen=True)
class Read:
    """What the model has read of the texts of a batch, so that whoever goes on with them need not read them again.

    Attributes:
        rows: all of the batch.
        slots: the row of each text in `rows`.
        tokens: prompt and completion of each, as far as they are read: all but the last token.
    """

    rows: Rows
    slots: list[int]
    tokens: list[list[int]]


def batches_by_length(lengths: Sequence[int], new_tokens: int, budget: int) -> Iterator[list[int]]:
    """Groups row indices, longest first, so that rows times padded length stays within a budget.

    Args:
        lengths: prompt lengths in tokens.
        new_tokens: room for the completion of each row.
        budget: rows times (longest prompt + new tokens); a single row may exceed it.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    while order:
        rows = max(1, budget // (lengths[order[0]] + new_tokens))
        yield order[:rows]
        order = order[rows:]


@torch.inference_mode()
def generate_tokens(
    model: Any,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    *,
    ends: Sequence[int],
    pad: int,
    budget: int,
    identities: Sequence[str] | None = None,
    logprobs: bool = False,
    screened: ScreenedOutput | None = None,
    has_ended: Callable[[list[int]], bool] | None = None,
    on_batch: Callable[[list[int], list[Generated], Read | None], None] | None = None,
    keep_read: bool = False,
    desc: str | None = None,
) -> list[Generated]:
    """Completes token sequences.

    Args:
        model: a transformers causal LM, in eval mode.
        prompts: token ids, not empty.
        decoding: greedy or sampled, and how long.
        ends: a row stops after any of these tokens.
        pad: padding token.
        budget: see `batches_by_length`.
        identities: names the stream of draws of each row; needed when sampling.
        logprobs: whether to give log-probabilities.
        screened: the model's output layer, screened; for greedy decoding without log-probabilities.
        has_ended: asked after every token, with the last few tokens of a row; a row also stops where it says so.
        on_batch: called with the row indices and completions of each finished batch, and with what was read of it.
        keep_read: whether that is kept until then, where the model's cache can be gone on with.
        desc: label of the progress bar; None shows none.

    Returns:
        one `Generated` per prompt, in order.
    """
    results: list[Generated | None] = [None] * len(prompts)
    groups = list(batches_by_length([len(p) for p in prompts], decoding.max_new_tokens, budget))
    stop = Stop(frozenset(ends), decoding.max_new_tokens, has_ended)
    drafts = Drafts()
    with (
        attention_of_engine(model) as windows,
        progress_bar(total=len(prompts), desc=desc, disable=desc is None, unit="text") as bar,
    ):
        beginning = read_beginning(model, prompts, windows, stop.most) if prompts else None
        keep_read = keep_read and windows is not None
        for numbers in groups:
            choose = Choice(decoding, None if identities is None else [identities[i] for i in numbers], logprobs)
            rows = Rows(model, windows, pad=pad, room=stop.most, beginning=beginning)
            batch = _Batch(rows, [prompts[i] for i in numbers], choose, stop, drafts, keep_read)
            with output_layer(model, screened):
                written = batch.complete()
            for i, one in zip(numbers, written, strict=True):
                results[i] = one
            if on_batch:
                on_batch(numbers, written, batch.read() if keep_read else None)
            del batch, rows
            release_freed_memory()
            bar.update(len(numbers))
    return [one for one in results if one is not None]


class _Batch:
    """Texts that are completed together. Row b of `rows` is the text `alive[b]`; finished ones stand behind, if they are kept.

    Args:
        rows: nothing is read yet.
        prompts: as tokens.
        choose: takes tokens.
        stop: says when a text is finished.
        drafts: guesses tokens.
        keep: whether what was read of finished texts is kept.
    """

    def __init__(
        self, rows: Rows, prompts: Sequence[Sequence[int]], choose: Choice, stop: Stop, drafts: Drafts, keep: bool
    ) -> None:
        self.rows, self.prompts, self.keep = rows, prompts, keep
        self.choose, self.stop, self.drafts = choose, stop, drafts
        self.alive = list(range(len(prompts)))
        self.finished: list[int] = []
        self.tokens: list[list[int]] = [[] for _ in prompts]
        self.logprobs: list[list[float]] = [[] for _ in prompts]
        self.tails = [(-1, -1, *prompt)[-3:] for prompt in prompts]
        self.quotes = [drafts.quotes(prompt) for prompt in prompts]

    def complete(self) -> list[Generated]:
        """Reads, then writes until all texts are finished."""
        _, stays = self._take(self.rows.begin(self.prompts), [[] for _ in self.alive])
        self._go_on_with(stays)
        while self.alive:
            guesses = self._guess()
            blocks = [[self.tokens[text][-1], *guess] for text, guess in zip(self.alive, guesses, strict=True)]
            kept, stays = self._take(self.rows.read(blocks), guesses)
            self.rows.keep(kept)
            self._go_on_with(stays)
        return [Generated(tokens, logp) for tokens, logp in zip(self.tokens, self.logprobs, strict=True)]

    def read(self) -> Read:
        """What was read, when all texts are finished and were kept."""
        slots = sorted(range(len(self.finished)), key=self.finished.__getitem__)
        tokens = [[*prompt, *written[:-1]] for prompt, written in zip(self.prompts, self.tokens, strict=True)]
        return Read(self.rows, slots, tokens)

    def _guess(self) -> list[list[int]]:
        if self.rows.windows is None:  # a cache of another kind cannot leave out what was guessed wrongly
            return [[] for _ in self.alive]
        found = [self.drafts.guess(self.tails[text], self.quotes[text]) for text in self.alive]
        depth = worth_checking([chances for _, chances in found])
        return [tokens[:depth] for tokens, _ in found]

    def _take(self, logits: Tensor, guesses: list[list[int]]) -> tuple[list[int], list[int]]:
        """Takes what the model would have written, up to the first wrong guess.

        Returns:
            how many tokens of each block that was read count, and the rows that are not finished.
        """
        chosen, logp = self.choose(logits, self.alive, [len(self.tokens[text]) for text in self.alive])
        kept: list[int] = []
        stays: list[int] = []
        for b, (text, guess) in enumerate(zip(self.alive, guesses, strict=True)):
            tokens, done = self.tokens[text], False
            for j, token in enumerate(chosen[b]):
                tokens.append(token)
                if logp:
                    self.logprobs[text].append(logp[b][j])
                self.drafts.learn(self.tails[text], token, self.quotes[text])
                self.tails[text] = (*self.tails[text][1:], token)
                done = self.stop.after(tokens)
                if done or j >= len(guess) or guess[j] != token:
                    break
            kept.append(j + 1)
            if not done:
                stays.append(b)
        return kept, stays

    def _go_on_with(self, stays: list[int]) -> None:
        if len(stays) == len(self.alive):
            return
        order = self.rows.go_on_with(stays, keep_others=self.keep)
        texts = [self.alive[row] for row in order]
        self.alive, left = texts[: len(stays)], texts[len(stays) :]
        self.finished = left + self.finished
