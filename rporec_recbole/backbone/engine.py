"""The generation engine: length-sorted batches under a token budget, left padding, a KV cache written in place, guessed
tokens checked several at a time, finished rows that leave at once.

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
from rporec_recbole.backbone.kv_cache import Place, attention_of_engine, new_cache, select_rows
from rporec_recbole.backbone.memory import release_freed_memory
from rporec_recbole.backbone.screening import ScreenedOutput, output_layer
from rporec_recbole.cot.store import Decoding
from rporec_recbole.settings.bars import progress_bar
from rporec_recbole.text.completions import Guess

# Prompt tokens of one pass. On a processor more do not fit its cache and are read more slowly.
_READ_AT_ONCE = {"cpu": 1024}
_READ_ELSEWHERE = 32768
_MORE = 64  # columns that are added when guesses have used up those that were made


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
    on_batch: Callable[[list[int], list[Generated]], None] | None = None,
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
        on_batch: called with the row indices and completions of each finished batch.
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
        for rows in groups:
            choose = Choice(decoding, None if identities is None else [identities[i] for i in rows], logprobs)
            batch = _Batch(model, [prompts[i] for i in rows], windows, pad, choose, stop, drafts)
            with output_layer(model, screened):
                written = batch.complete()
            for i, one in zip(rows, written, strict=True):
                results[i] = one
            if on_batch:
                on_batch(rows, written)
            release_freed_memory()
            bar.update(len(rows))
    return [one for one in results if one is not None]


class _Batch:
    """Rows that are completed together.

    Columns of the cache are shared by all rows; a column that holds nothing for a row (padding, a wrong guess) is masked
    there. Row b of every tensor is the row `alive[b]`; when rows finish, others from the end take their places.
    """

    def __init__(
        self,
        model: Any,
        prompts: Sequence[Sequence[int]],
        windows: list[int | None] | None,
        pad: int,
        choose: Choice,
        stop: Stop,
        drafts: Drafts,
    ) -> None:
        self.model, self.prompts, self.windows, self.pad = model, prompts, windows, pad
        self.choose, self.stop, self.drafts = choose, stop, drafts
        self.device = model.device
        self.alive = list(range(len(prompts)))
        self.tokens: list[list[int]] = [[] for _ in prompts]
        self.logprobs: list[list[float]] = [[] for _ in prompts]
        self.tails = [(-1, -1, *prompt)[-3:] for prompt in prompts]
        self.quotes = [drafts.quotes(prompt) for prompt in prompts]

    def complete(self) -> list[Generated]:
        """Reads, then writes until all rows are finished."""
        logits = self._read()
        guesses: list[list[int]] = [[] for _ in self.alive]
        while self._take(logits, guesses):
            guesses = self._guess()
            logits = self._write(guesses)
        return [Generated(tokens, logp) for tokens, logp in zip(self.tokens, self.logprobs, strict=True)]

    def _read(self) -> Tensor:
        """Reads the prompts, `[B, 1, V]`; a prompt that several rows share (a GRPO group) is read once."""
        distinct = sorted(dict.fromkeys(tuple(p) for p in self.prompts), key=len, reverse=True)
        width = len(distinct[0])
        columns = width + self.stop.most
        self.place = Place(slice(0, len(distinct)), 0, width, columns, len(distinct))
        self.cache = new_cache(self.model, self.place, self.windows)
        at_once = _READ_AT_ONCE.get(self.device.type, _READ_ELSEWHERE)
        logits, start = [], 0
        while start < len(distinct):
            longest = len(distinct[start])
            count = len(distinct) if self.windows is None else max(1, at_once // longest)
            part = distinct[start : start + count]
            self.place.rows = slice(start, start + len(part))
            self.place.first = self.place.end = width - longest
            tokens = torch.tensor([[self.pad] * (longest - len(p)) + list(p) for p in part], device=self.device)
            mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in part], device=self.device)
            out = self.model(
                input_ids=tokens,
                attention_mask=mask,
                position_ids=mask.cumsum(1).sub_(1).clamp_(min=0),
                past_key_values=self.cache,
                use_cache=True,
                logits_to_keep=1,
            )
            logits.append(out.logits)
            start += len(part)
        self.place.first, self.place.end = 0, width
        self.place.rows = slice(0, len(self.prompts))
        lengths = torch.tensor([len(p) for p in self.prompts], device=self.device)
        place = torch.arange(columns, device=self.device) - (width - lengths)[:, None]
        # Columns of the cache: their place in the text of each row, and what is added to scores: -inf where a row has none.
        self.places = place.clamp(min=0)
        self.bias = torch.zeros(place.shape, device=self.device).masked_fill_(place < 0, -torch.inf)
        self.position = lengths
        self.last_position = width + self.stop.most - 1
        self.written = False
        number = {prompt: i for i, prompt in enumerate(distinct)}
        source = [number[tuple(p)] for p in self.prompts]
        if source != list(range(len(distinct))):
            index = torch.tensor(source, device=self.device)
            select_rows(self.cache, index)
            return torch.cat(logits)[index]
        return torch.cat(logits)

    def _guess(self) -> list[list[int]]:
        if self.windows is None:  # a cache of another kind cannot leave out what was guessed wrongly
            return [[] for _ in self.alive]
        found = [self.drafts.guess(self.tails[row], self.quotes[row]) for row in self.alive]
        depth = worth_checking([chances for _, chances in found])
        return [tokens[:depth] for tokens, _ in found]

    def _write(self, guesses: list[list[int]]) -> Tensor:
        """One pass over the last token of each row and its guesses, `[B, Q, V]`."""
        new = 1 + max(map(len, guesses))
        end = self.place.end
        if end + new > self.bias.shape[1]:
            self.bias = torch.nn.functional.pad(self.bias, (0, _MORE))
            self.places = torch.nn.functional.pad(self.places, (0, _MORE))
        block = [[self.tokens[row][-1], *guess] for row, guess in zip(self.alive, guesses, strict=True)]
        tokens = torch.tensor([one + [self.pad] * (new - len(one)) for one in block], device=self.device)
        position = self.position[:, None] + torch.arange(new, device=self.device)
        self.places[:, end : end + new] = position
        out = self.model(
            input_ids=tokens,
            attention_mask=self._mask(end, new),
            position_ids=position.clamp_(max=self.last_position),
            past_key_values=self.cache,
            use_cache=True,
        )
        return out.logits

    def _mask(self, end: int, new: int) -> Any:
        """What `new` tokens of each row may look at, in the form that the model takes."""
        bias = self.bias[:, : end + new]
        if self.windows is None:
            return (bias == 0).long()
        mask = bias[:, None, None]
        if new > 1:
            mask = mask.repeat(1, 1, new, 1)
            mask[..., end:] += torch.full((new, new), -torch.inf, device=self.device).triu_(1)
        kinds = {}
        for window in set(self.windows):
            kinds["full_attention" if window is None else "sliding_attention"] = mask
            if window is not None and end + new > window:
                places = self.places[:, None, None, : end + new]
                far = places <= places[..., end:].transpose(2, 3) - window
                kinds["sliding_attention"] = mask.masked_fill(far, -torch.inf)
        # Models with layers of both kinds take a mask for each, others one for all.
        return kinds if len(kinds) > 1 else next(iter(kinds.values()))

    def _take(self, logits: Tensor, guesses: list[list[int]]) -> bool:
        """Keeps what the model would have written, up to the first wrong guess; finished rows leave. Whether any is left."""
        chosen, logp = self.choose(logits, self.alive, [len(self.tokens[row]) for row in self.alive])
        kept: list[int] = []
        stays: list[int] = []
        for b, (row, guess) in enumerate(zip(self.alive, guesses, strict=True)):
            tokens, done = self.tokens[row], False
            for j, token in enumerate(chosen[b]):
                tokens.append(token)
                if logp:
                    self.logprobs[row].append(logp[b][j])
                self.drafts.learn(self.tails[row], token, self.quotes[row])
                self.tails[row] = (*self.tails[row][1:], token)
                done = self.stop.after(tokens)
                if done or j >= len(guess) or guess[j] != token:
                    break
            kept.append(j + 1)
            if not done:
                stays.append(b)
        if self.written:
            new = logits.shape[1]
            if new > 1:
                wrong = torch.arange(new, device=self.device) >= torch.tensor(kept, device=self.device)[:, None]
                self.bias[:, self.place.end : self.place.end + new].masked_fill_(wrong, -torch.inf)
            self.place.end += new
            self.position += torch.tensor(kept, device=self.device)
        self.written = True
        if len(stays) < len(self.alive):
            self._leave(stays)
        return bool(self.alive)

    def _leave(self, stays: list[int]) -> None:
        """Rows from the end take the places of finished ones, so that little is copied."""
        count = len(stays)
        last = [b for b in stays if b >= count]
        free = sorted(set(range(count)) - set(stays))
        order = list(range(count))
        for b, source in zip(free, last, strict=True):
            order[b] = source
        self.alive = [self.alive[b] for b in order]
        if not order:
            return
        index = torch.tensor(order, device=self.device)
        select_rows(self.cache, index)
        self.bias, self.position, self.places = self.bias[index], self.position[index], self.places[index]
        self.place.rows = slice(0, count)
