"""The Rechead: retrieves items precisely from a history and, where there is any, from what the backbone wrote.

item vector      e_i
state            s   what the history says
reasoning        z   = [enc(cot); enc(answer)], and what a head reads of the history's text
user vector      u   = s + m a (gated reasoning)      m = 1 if well-formed, else 0; a the strength, from 0 to 1
score            u . e_i + b(s) [i in history]        b(s) linear: repeat or explore
                 + a m (trust in what the answer names) for the items that it names (`model.answers`)

`FusedHead` makes e and s from ids, order and text, `TextHead` from text alone. The stages, the rewards and the evaluation
know `RecHead` only. A new head's reasoning counts for nothing, and with m = 0 it never counts.

Letters in shapes: B rows, T positions, H hidden size, N items, D size of a text vector.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from rporec_recbole.model.answers import BEST, AnswerExpert, Guesses, join_guesses


class Reasoning(NamedTuple):
    """What the head reads of completions.

    Attributes:
        vectors: `[B, 2D]`, `[enc(cot); enc(answer)]`.
        well_formed: `[B]` True where the completion may count.
        history: `[B, 2D]`, what the fusion reads of the history's text beside it (`RecHead.read_history`); None for a head
            that reads nothing of it there.
        guesses: the items that the answers speak of; None for a head without an expert for them.
    """

    vectors: Tensor
    well_formed: Tensor
    history: Tensor | None = None
    guesses: Guesses | None = None

    def at(self, index: Tensor | slice) -> Reasoning:
        """Some of the rows."""
        return Reasoning(
            self.vectors[index],
            self.well_formed[index],
            None if self.history is None else self.history[index],
            None if self.guesses is None else self.guesses.at(index),
        )


def mean_reasoning(samples: Sequence[Reasoning]) -> Reasoning:
    """The mean of the well-formed ones among several completions of each row, and the guesses of all; a row without any is not
    well-formed.

    Args:
        samples: K of them, each with `vectors`, `[B, 2D]`, and `well_formed`, `[B]`; of the same histories.
    """
    weights = torch.stack([one.well_formed for one in samples]).double()
    weights = (weights / weights.sum(dim=0).clamp(min=1)).to(samples[0].vectors.dtype)
    vectors = torch.stack([one.vectors for one in samples])
    guesses = [one.guesses for one in samples if one.guesses is not None]
    return Reasoning(
        (weights[:, :, None] * vectors).sum(dim=0),
        weights.sum(dim=0) > 0,
        samples[0].history,
        join_guesses(guesses) if guesses else None,
    )


class ReasoningFusion(nn.Module, ABC):
    """Moves a user state by what the reasoning says, through a gate."""

    @abstractmethod
    def forward(self, state: Tensor, reasoning: Reasoning) -> Tensor:
        """`[B, H] -> [B, H]`; rows that are not well-formed come back bit for bit."""

    @abstractmethod
    def gate_value(self, state: Tensor, reasoning: Reasoning) -> Tensor:
        """How much the reasoning may count, `[B]` in (0, 1)."""


class Reader(Protocol):
    """`RecHead.last_state` of given item vectors."""

    def __call__(self, histories: Tensor, *, clock: Tensor | None = None) -> Tensor: ...


class RecHead(nn.Module, ABC):
    """What every head offers.

    Args:
        n_items: N, padding item 0 included.

    Attributes:
        learned: `[N]` True for the items that training has met. The others are cold: no candidates of the training loss,
            which could only push them away, and scored from what is known of them (a buffer, so it is saved).
        item_text: `[N, D]` frozen text vectors; None for a head of ids only.
        fusion: `(state, reasoning) -> user vector`, the weights of stages 1c and 2b; None without text.
        expert: hears what answers name, learned together with the fusion; None without text, or where it is switched off.
        strength: a, a single number: how much of the fusion's move counts; the expert has its own. 1 while anything is learned; what counts
            in the end is set last (a buffer, so it is saved).
        offset: b, or None without the history bias.
    """

    learned: Tensor
    strength: Tensor
    item_text: Tensor | None
    fusion: ReasoningFusion | None
    expert: AnswerExpert | None
    offset: nn.Linear | None

    def __init__(self, n_items: int) -> None:
        super().__init__()
        self.register_buffer("learned", torch.arange(n_items) > 0)
        self.register_buffer("strength", torch.tensor(1.0))

    @property
    def reads(self) -> bool:
        """Whether reasoning can move a score: otherwise nothing need be written for it."""
        return float(self.strength) > 0 or (self.expert is not None and float(self.expert.strength) > 0)

    def at_full_strength(self) -> None:
        """Counts all that fusion and expert say, as while anything is learned."""
        self.strength.fill_(1.0)
        if self.expert is not None:
            self.expert.strength.fill_(1.0)

    @property
    def reads_malformed(self) -> bool:
        """Whether completions that are not well-formed are read too, as far as their vectors are not 0."""
        return False

    @abstractmethod
    def item_vectors(self) -> Tensor:
        """e_i of all items, `[N, H]`."""

    @abstractmethod
    def states(self, histories: Tensor, items: Tensor, clock: Tensor | None = None) -> Tensor:
        """s at every position.

        Args:
            histories: `[B, T]` item ids, padded on the right with 0.
            items: `[N, H]` from `item_vectors`.
            clock: `[B, T]` seconds at which these were chosen (`data.clock`), for a head that reads them; None: nobody knows.

        Returns:
            `[B, T, H]`; states at padding mean nothing.
        """

    @abstractmethod
    def last_state(self, histories: Tensor, items: Tensor, clock: Tensor | None = None) -> Tensor:
        """s at the newest item of each history, `[B, T] -> [B, H]`; padding 0 may stand anywhere. `clock` as for `states`."""

    def reader(self, items: Tensor) -> Reader:
        """`last_state` for weights that stay as they are, `[B, T] -> [B, H]`: what depends on the items alone is made here, once."""
        return partial(self.last_state, items=items)

    def read_history(self, histories: Tensor) -> Tensor | None:
        """What the fusion reads of histories, `[B, T] -> [B, 2D]`; padding 0 may stand anywhere. None: nothing."""
        return None

    def read_texts(self, cots: Sequence[str], answers: Sequence[str]) -> Tensor | None:
        """`Reasoning.vectors` of B texts, `[B, 2D]`, from encoders of the head's own; None: the text encoder's vectors are read."""
        return None

    def prepare(self, histories: Tensor) -> None:
        """Does at once what `states` of these histories, `[R, T]`, would do batch by batch."""

    def user_vectors(self, state: Tensor, reasoning: Reasoning | None) -> Tensor:
        """u from s; without reasoning, and with strength 0, u is s itself. `[B, H] -> [B, H]`."""
        if reasoning is None or self.fusion is None:
            return state
        return torch.lerp(state, self.fusion(state, reasoning), self.strength)  # exact at 0 and at 1

    def gate(self, state: Tensor, reasoning: Reasoning) -> Tensor:
        """How much the reasoning of each row counts, gate times strength, `[B]` in [0, 1); whether it is well-formed is not asked."""
        assert self.fusion is not None, "a head without text reads no reasoning"
        return self.strength * self.fusion.gate_value(state, reasoning)

    def history_offset(self, state: Tensor) -> Tensor | None:
        """b(s), `[..., H] -> [...]`; None without the history bias."""
        return None if self.offset is None else self.offset(state).squeeze(-1)

    def scores(self, histories: Tensor, reasoning: Reasoning | None = None, clock: Tensor | None = None) -> Tensor:
        """Scores of all items, `[B, T] -> [B, N]`; the padding item scores `-inf`. `clock` as for `states`."""
        items = self.item_vectors()
        return self.scores_of(self.last_state(histories, items, clock), items, distinct(histories), reasoning)

    def scores_of(self, state: Tensor, items: Tensor, seen: Tensor, reasoning: Reasoning | None) -> Tensor:
        """Scores of all items from what has been made already.

        Args:
            state: s, `[B, H]`.
            items: e_i, `[N, H]`.
            seen: `[B, T]` distinct items of the histories, 0 elsewhere.
            reasoning: of the rows, or None.

        Returns:
            `[B, N]`; the padding item scores `-inf`.
        """
        scores = score_items(self.user_vectors(state, reasoning), items, seen, self.history_offset(state))
        moves = self.moves(scores.detach(), seen, reasoning)
        return scores if moves is None else scores.scatter_add(1, *moves)

    def moves(self, scores: Tensor, seen: Tensor, reasoning: Reasoning | None) -> tuple[Tensor, Tensor] | None:
        """The items that answers name, and what the expert adds to their scores.

        Args:
            scores: `[B, N]` as they are without it.
            seen: `[B, T]` items of the histories, 0 elsewhere.
            reasoning: of the rows, or None.

        Returns:
            item ids and numbers, `[B, P]` both; 0 where there is none, and an item may stand several times. None: nothing is heard.
        """
        if reasoning is None or reasoning.guesses is None:
            return None
        named = reasoning.guesses.items.flatten(1)
        best = scores.topk(min(BEST, scores.shape[1] - 1), dim=1).values
        heard = self.heard(reasoning, scores.gather(1, named), best, seen)
        return None if heard is None else (named, heard)

    @torch.no_grad()
    def heard_items(
        self, histories: Tensor, reasoning: Reasoning | None, clock: Tensor | None = None
    ) -> list[list[tuple[int, float]]]:
        """Of each row, the items that its answers name and what is added to their scores for it, the most first.

        Args:
            histories: `[B, T]` item ids.
            reasoning: of the rows, or None.
            clock: as for `states`.
        """
        items, seen = self.item_vectors(), distinct(histories)
        state = self.last_state(histories, items, clock)
        scores = score_items(self.user_vectors(state, reasoning), items, seen, self.history_offset(state))
        moves = self.moves(scores, seen, reasoning)
        if moves is None:
            return [[] for _ in histories]
        found: list[list[tuple[int, float]]] = []
        for named, added in zip(moves[0].tolist(), moves[1].tolist(), strict=True):
            total: dict[int, float] = {}
            for item, value in zip(named, added, strict=True):
                if item and value:
                    total[item] = total.get(item, 0.0) + value
            found.append(sorted(total.items(), key=lambda entry: (-entry[1], entry[0])))
        return found

    def heard(self, reasoning: Reasoning, scores: Tensor, best: Tensor, seen: Tensor) -> Tensor | None:
        """What the expert adds to the items that answers name, at its strength.

        Args:
            reasoning: of B rows.
            scores: `[B, G K]` the scores of its guesses' items as they are without it.
            best: `[B, M]` the best scores of each row, at most `answers.BEST` of them.
            seen: `[B, T]` items of the histories, 0 elsewhere.

        Returns:
            `[B, G K]`, 0 for rows that are not well-formed; None for a head that hears no answers.
        """
        guesses = reasoning.guesses
        if guesses is None or self.expert is None:
            return None
        shape = guesses.items.shape
        had = in_rows(guesses.items.flatten(1), seen).view(shape)
        added = self.expert.strength * self.expert(guesses, scores.view(shape), best, had)
        return torch.where(reasoning.well_formed[:, None], added.flatten(1), 0.0)


def draw_weights(module: nn.Module, std: float) -> None:
    """Normal weights and zero biases for all linear layers and embeddings of a module."""
    for part in module.modules():
        if isinstance(part, (nn.Linear, nn.Embedding)):
            nn.init.normal_(part.weight, std=std)
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)


def distinct(histories: Tensor) -> Tensor:
    """Keeps the first occurrence of each item in a row and sets repeats to 0. `[B, T] -> [B, T]`."""
    same = histories[:, :, None] == histories[:, None, :]
    steps = histories.shape[1]
    earlier = torch.ones(steps, steps, dtype=torch.bool, device=histories.device).tril(-1)
    return torch.where((same & earlier).any(dim=2), 0, histories)


def in_rows(ids: Tensor, others: Tensor) -> Tensor:
    """Which of the ids, `[B, C]`, stand in the same row of the others, `[B, T]`; as `[B, C]`."""
    if others.shape[1] == 0:
        return torch.zeros_like(ids, dtype=torch.bool)
    others = others.sort(dim=1).values
    places = torch.searchsorted(others, ids.contiguous()).clamp(max=others.shape[1] - 1)
    return others.gather(1, places) == ids


def score_items(users: Tensor, items: Tensor, seen: Tensor, offset: Tensor | None) -> Tensor:
    """`u . e_i + b [i in seen]`, padding item at `-inf`.

    Args:
        users: `[P, H]`.
        items: `[N, H]`.
        seen: `[P, T]` ids of the history's distinct items, 0 elsewhere.
        offset: `[P]` or None.

    Returns:
        `[P, N]`.
    """
    padding = users.new_zeros(len(items))
    padding[0] = -torch.inf  # also swallows the offsets of padded steps, which all point at item 0
    scores = torch.addmm(padding, users, items.T)
    if offset is not None:
        scores = scores.scatter_add(1, seen, offset[:, None].expand(-1, seen.shape[1]))
    return scores
