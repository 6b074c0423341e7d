"""The expert that hears answers: what an answer names moves up, as far as the answer has earned trust.

guess       g  one thing that the backbone might have answered, with the items i that it speaks of (`model.answer_match`)
match       m  = exp(sum_f w_f (likeness_f - 1))        1 where the answer is the item's line; w_f > 0 learned
odds        o  = a linear function of what is known of a guess, below, with weights of their own where the guess is the answer itself
trust       t  = softplus(o + c) - softplus(c)          c learned
score       += sum over guesses of t m

A guess is trusted by how sure the backbone was of it, how many of the row's texts make it, how near the nearest item is, what the
trunk thinks of the items that it names and of its own best, how popular they are, and whether the user has had them. Mixing two
experts adds to an item's log-probability log(1 + a / p), where p is the trunk's probability and a that of the guess being right: the
softplus of log a - log p, which is what o learns. What was answered is likelier right than what might have been, so it is weighed apart
(docs/experiments/conduit.md). The linear layers start at zero, so a new expert says nothing.

Letters in shapes: B rows, G guesses, K items of a guess, N items (0 is padding), M best scores of a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rporec_recbole.model.answer_match import AnswerMatcher
from rporec_recbole.text.completions import Completion, Guess

BEST = 32  # the trunk's best scores that its certainty is read from
_OF_GUESS = 5  # numbers of a guess that come with it
_ALWAYS = np.array([True, False, False, True, True])  # those of them that need no log-probability
_FEATURES = 12
_FLOOR = -2.0  # what c starts from: a guess that is surely wrong takes at most softplus(c) away
_LOWEST = -20.0  # log-probabilities below are all the same


class Guesses(NamedTuple):
    """What the answers of B rows speak of.

    Attributes:
        items: `[B, G, K]` item ids, 0 where there is none.
        likeness: `[B, G, K, 3]` see `answer_match`.
        facts: `[B, G, 5]` of each guess: whether its log-probability is known, that log-probability (else 0), how far it
            lies above the mean of the items that nobody guessed, the share of the row's texts that make it, and whether it
            is the answer of one of them (1) or only might have been (0).
    """

    items: Tensor
    likeness: Tensor
    facts: Tensor

    def at(self, index: Tensor | slice) -> Guesses:
        """Some of the rows."""
        return Guesses(self.items[index], self.likeness[index], self.facts[index])

    def copied(self) -> Guesses:
        """The same in memory of its own, without columns in which nothing stands."""
        there = self.items != 0
        guesses, wide = int(there.any(dim=2).sum(dim=1).amax()) or 1, int(there.sum(dim=2).amax()) or 1
        if not bool(there[:, guesses:].any() | there[:, :, wide:].any()):
            return Guesses(
                self.items[:, :guesses, :wide].clone(),
                self.likeness[:, :guesses, :wide].clone(),
                self.facts[:, :guesses].clone(),
            )
        return Guesses(*(tensor.clone() for tensor in self))

    def of_nothing(self) -> Guesses:
        """As many rows in which nothing is guessed."""
        return Guesses(*(torch.zeros_like(tensor) for tensor in self))

    def to(self, device: torch.device | str) -> Guesses:
        """The same on a device."""
        return Guesses(*(tensor.to(device) for tensor in self))


def read_guesses(completions: Sequence[Completion], matcher: AnswerMatcher, n_items: int) -> Guesses:
    """What completions guess; nothing of one that is not well-formed.

    Args:
        completions: B of them.
        matcher: of the catalogue.
        n_items: N.
    """
    heard = [_heard(one) for one in completions]
    counts = np.array([len(row) for row in heard], dtype=np.int64)
    flat = [guess for row in heard for guess in row]
    rows, places = _places(counts)
    logprobs = np.array([guess.logprob for guess in flat], dtype=np.float32).astype(np.float64)
    known = ~np.isnan(logprobs)
    guessed = np.bincount(rows, np.exp(logprobs, where=known, out=np.zeros(len(flat))), minlength=len(heard))
    unguessed = np.maximum(1 - guessed, 1e-6) / np.maximum(1, n_items - 1 - counts)
    facts = np.zeros((len(heard), counts.max(initial=1), _OF_GUESS), dtype=np.float32)
    lead = logprobs - np.log(unguessed)[rows]
    numbers = (known, np.maximum(_LOWEST, logprobs), lead, np.ones(len(flat)), places == 0)
    facts[rows, places] = np.where(known[:, None] | _ALWAYS, np.stack(numbers, axis=1), 0.0)

    matches = matcher([guess.answer for guess in flat])
    of, number = _places(np.array([len(match.items) for match in matches], dtype=np.int64))
    shape = (*facts.shape[:2], int(number.max(initial=0)) + 1)
    items, likeness = np.zeros(shape, dtype=np.int64), np.zeros((*shape, 3), dtype=np.float32)
    if matches:
        items[rows[of], places[of], number] = np.concatenate([match.items for match in matches])
        likeness[rows[of], places[of], number] = np.concatenate([match.likeness for match in matches])
    return Guesses(torch.from_numpy(items), torch.from_numpy(likeness), torch.from_numpy(facts))


def _heard(completion: Completion) -> tuple[Guess, ...]:
    """What a completion guesses; an answer without guesses is the only one, of unknown probability."""
    if not completion.well_formed:
        return ()
    return completion.guesses or (Guess(completion.answer, np.nan),)


def _places(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of things that stand row after row: the row of each, and its place in that row."""
    rows = np.repeat(np.arange(len(counts)), counts)
    return rows, np.arange(len(rows)) - np.repeat(counts.cumsum() - counts, counts)


def join_guesses(samples: Sequence[Guesses]) -> Guesses:
    """The guesses of several texts of the same rows, side by side: what many of them make counts as such.

    Args:
        samples: of each text, for the same B rows.
    """
    if len(samples) == 1:
        return samples[0]
    items, likeness, facts = (_padded([one[part] for one in samples], dim=1) for part in range(3))
    first = items[:, :, 0]  # the item that a guess names first
    owner = torch.repeat_interleave(
        torch.arange(len(samples), device=items.device),
        torch.tensor([one.items.shape[1] for one in samples], device=items.device),
    )
    same = (first[:, :, None] == first[:, None, :]) & (first != 0)[:, :, None]  # [B, G, G]
    texts = torch.stack([same[:, :, owner == number].any(dim=2) for number in range(len(samples))]).float()
    there = torch.stack([(one.items != 0).flatten(1).any(dim=1) for one in samples]).float().sum(dim=0)
    facts[..., 3] = texts.sum(dim=0) / there.clamp(min=1)[:, None]
    facts[..., 4] = (same * facts[:, None, :, 4]).amax(dim=2)
    # Each of several texts that make one guess would add its trust again: together they add it once.
    again = (same & torch.ones_like(same[0]).tril(-1)).any(dim=2)
    return Guesses(items.masked_fill(again[:, :, None], 0), likeness, facts)


def stack_guesses(rows: Sequence[Guesses]) -> Guesses:
    """Rows of several batches in one."""
    return Guesses(*(_padded([one[part] for one in rows], dim=0) for part in range(3)))


def _padded(tensors: Sequence[Tensor], dim: int) -> Tensor:
    """Joined along one dimension; the others, guesses and items, get the largest size."""
    sizes = [max(tensor.shape[d] for tensor in tensors) for d in range(tensors[0].dim())]
    filled = []
    for tensor in tensors:
        pad: list[int] = []
        for d in reversed(range(tensor.dim())):
            pad += [0, 0 if d == dim else sizes[d] - tensor.shape[d]]
        filled.append(F.pad(tensor, pad))
    return torch.cat(filled, dim=dim)


class AnswerExpert(nn.Module):
    """Moves the items that answers speak of.

    Args:
        n_items: N.

    Attributes:
        popularity: `[N]` share of the training interactions, smoothed (a buffer, so it is saved).
        strength: how much of what it learned counts, from 0 to 1, as `RecHead.strength` is for the fusion (a buffer).
    """

    popularity: Tensor
    strength: Tensor

    def __init__(self, n_items: int) -> None:
        super().__init__()
        self.sharpness = nn.Parameter(torch.full((3,), 3.0))
        self.trust = nn.Linear(_FEATURES, 1)
        self.trust_of_answer = nn.Linear(_FEATURES, 1)  # is added to it where the guess is the answer
        self.floor = nn.Parameter(torch.tensor(_FLOOR))
        self.register_buffer("popularity", torch.full((n_items,), 1.0 / n_items))
        self.register_buffer("strength", torch.tensor(1.0))
        self.silence()

    def silence(self) -> None:
        """No guess is trusted, whatever is known of it."""
        for layer in (self.trust, self.trust_of_answer):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def count(self, counts: Tensor) -> None:
        """Learns how popular items are; `counts`, `[N]`, of training interactions."""
        self.popularity.copy_((counts + 1) / (counts.sum() + len(counts)))

    def forward(self, guesses: Guesses, scores: Tensor, best: Tensor, in_history: Tensor) -> Tensor:
        """What is added to the scores of the guesses' items.

        Args:
            guesses: of B rows.
            scores: `[B, G, K]` the head's scores of these items without their answers; any value at item 0.
            best: `[B, M]` its M best scores.
            in_history: `[B, G, K]` whether the user has had the item.

        Returns:
            `[B, G, K]`; 0 at item 0.
        """
        level = best.logsumexp(dim=1)[:, None, None]
        logp = (scores - level).clamp(min=_LOWEST)
        there = guesses.items > 0
        match = torch.exp(((guesses.likeness - 1) * F.softplus(self.sharpness)).sum(dim=3)) * there
        return self._trusted(guesses, match, logp, best.amax(dim=1) - level[:, 0, 0], in_history)[:, :, None] * match

    def _trusted(self, guesses: Guesses, match: Tensor, logp: Tensor, peak: Tensor, in_history: Tensor) -> Tensor:
        """t of each guess, `[B, G]`."""
        size = match.sum(dim=2)
        floor = 1e-7
        nearest, place = match.max(dim=2, keepdim=True)
        features = torch.stack(
            [
                ((match * logp.exp()).sum(dim=2) + floor).log() / 3,
                peak[:, None].expand_as(size) / 3,
                logp.gather(2, place).squeeze(2) / 3,
                ((match * self.popularity[guesses.items]).sum(dim=2) + floor).log() / 3,
                (match * in_history).sum(dim=2) / size.clamp(min=floor),
                (size + 1e-3).log() / 3,
                nearest.squeeze(2),
                guesses.likeness[..., 0].gather(2, place).squeeze(2),
                guesses.facts[..., 0],
                guesses.facts[..., 1] / 3,
                guesses.facts[..., 2] / 3,
                guesses.facts[..., 3],
            ],
            dim=2,
        )
        odds = self.trust(features).squeeze(2) + guesses.facts[..., 4] * self.trust_of_answer(features).squeeze(2)
        return F.softplus(odds + self.floor) - F.softplus(self.floor)
