"""Reasoning that is there already, as the head reads it; what is not there is queued for a worker."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rporec_recbole.cot.store import CoTStore, Decoding, completion_key
from rporec_recbole.errors import StoreError
from rporec_recbole.model.answers import Guesses, stack_guesses
from rporec_recbole.model.rechead import Reasoning, mean_reasoning
from rporec_recbole.serve.pending import PENDING, Pending
from rporec_recbole.text.completions import Completion, first_well_formed, parse_completion
from rporec_recbole.text.prompts import PromptTemplate

logger = logging.getLogger(__name__)

_PATIENCE = 0.05  # seconds that a request waits for another process to leave the queue


class Found(NamedTuple):
    """The reasoning of one prompt.

    Attributes:
        vector: `[2D]`, `[enc(cot); enc(answer)]`; the mean where a history has several texts.
        well_formed: whether it may count.
        completion: the text; the first well-formed one where there are several.
        guesses: the items that its answers speak of, as one row; None for a head that hears no answers.
    """

    vector: Tensor
    well_formed: bool
    completion: Completion
    guesses: Guesses | None = None


class StoredReasoning:
    """Looks reasoning up and queues what is missing. Belongs to the thread that opens it.

    Args:
        folder: the run folder.
        store: file of the run's texts.
        writer: fingerprint of the backbone.
        template: renders prompts.
        decodings: one for each text of a history.
        encode: completions to `[B, 2D]`.
        guesses: completions to the items that their answers speak of (`RPORec.guesses`).
        kept: encoded reasoning that is remembered, the most lately used.
        limit: prompts that may wait.
        parse: reads what was written (`completions.PARSERS`).
    """

    def __init__(
        self,
        folder: Path,
        store: Path,
        *,
        writer: str,
        template: PromptTemplate,
        decodings: Sequence[Decoding],
        encode: Callable[[Sequence[Completion]], Tensor],
        guesses: Callable[[Sequence[Completion]], Guesses | None],
        kept: int,
        limit: int,
        parse: Callable[[str], Completion] = parse_completion,
    ) -> None:
        self.template = template
        self._folder, self._path = folder, store
        self._writer, self._decodings, self._encode, self._guesses = writer, list(decodings), encode, guesses
        self._kept, self._limit, self._parse = kept, limit, parse
        self._found: OrderedDict[str, Found] = OrderedDict()
        self._waiting: set[str] = set()  # what this process has seen in the queue: not asked again on every request
        self._store: Any = None
        self._pending: Pending | None = None

    def open(self) -> None:
        """Opens store and queue for the calling thread.

        Raises:
            StoreError: one of them cannot be opened.
        """
        self._store = CoTStore(self._path)
        try:
            self._pending = Pending(self._folder / PENDING, self._limit, _PATIENCE)
        except StoreError:
            self._store.close()
            raise

    def close(self) -> None:
        """Closes both, in the thread that opened them."""
        if self._store is not None:
            self._store.close()
        if self._pending is not None:
            self._pending.close()

    def key(self, prompt: str) -> str:
        """What a prompt is known by: the key of its first text."""
        return completion_key(prompt, self._writer, self._decodings[0])

    def find(self, prompts: Mapping[str, str]) -> dict[str, Found]:
        """The reasoning that is there.

        Args:
            prompts: key -> prompt.

        Returns:
            key -> reasoning of the prompts all of whose texts are in the store.
        """
        found = {}
        for key in prompts:
            if key in self._found:
                self._found.move_to_end(key)
                found[key] = self._found[key]
        missing = {key: self._keys(key, prompt) for key, prompt in prompts.items() if key not in found}
        if missing:
            texts = self._store.get([one for keys in missing.values() for one in keys])
            rows = {
                key: [
                    self._completion(prompts[key], decoding, texts.get(one))
                    for one, decoding in zip(keys, self._decodings, strict=True)
                ]
                for key, keys in missing.items()
            }
            there = {key: row for key, row in rows.items() if None not in row}
            if there:
                fresh = self._encoded([[one for one in row if one is not None] for row in there.values()])
                found.update(zip(there, fresh, strict=True))
                self._found.update(zip(there, fresh, strict=True))
                self._waiting.difference_update(there)
                while len(self._found) > self._kept:
                    self._found.popitem(last=False)
        return found

    def queue(self, prompts: Mapping[str, str]) -> set[str]:
        """Has missing reasoning written for the next time.

        Args:
            prompts: key -> prompt.

        Returns:
            the keys that are on disk in the queue; the others found no room.
        """
        new = {key: prompt for key, prompt in prompts.items() if key not in self._waiting}
        if new and self._pending is not None:
            try:
                queued = self._pending.add(new)
            except StoreError as error:
                logger.warning("%s", error)
                queued = set()
            if len(self._waiting) > 2 * self._limit:
                self._waiting.clear()
            self._waiting |= queued
        return {key for key in prompts if key in self._waiting}

    def _completion(self, prompt: str, decoding: Decoding, text: str | None) -> Completion | None:
        """What a `Reasoner` makes of the texts that are there; None where one is missing."""
        if text is None:
            return None
        first = last = self._parse(text)
        while decoding.instead is not None and not last.well_formed:
            decoding = decoding.instead
            key = completion_key(prompt, self._writer, decoding)
            text = self._store.get([key]).get(key)
            if text is None:
                return None
            last = self._parse(text)
        return last if last.well_formed else first

    def _keys(self, key: str, prompt: str) -> list[str]:
        return [key, *(completion_key(prompt, self._writer, one) for one in self._decodings[1:])]

    def _encoded(self, rows: Sequence[Sequence[Completion]]) -> list[Found]:
        """What the head reads of each row's completions."""
        samples = []
        for sample in zip(*rows, strict=True):
            vectors = self._encode(sample)
            well_formed = torch.tensor([one.well_formed for one in sample], device=vectors.device)
            samples.append(Reasoning(vectors, well_formed, guesses=self._guesses(sample)))
        reasoning = samples[0] if len(samples) == 1 else mean_reasoning(samples)
        return [
            Found(
                reasoning.vectors[place].clone(),
                bool(reasoning.well_formed[place]),
                first_well_formed(completions),
                None if reasoning.guesses is None else reasoning.guesses.at(slice(place, place + 1)).copied(),
            )
            for place, completions in enumerate(rows)
        ]


def as_reasoning(rows: Sequence[Found | None], history: Tensor | None, device: Any) -> Reasoning | None:
    """What the head reads of B rows; None where none of them has reasoning.

    Args:
        rows: B of them.
        history: what the fusion reads of their histories (`RecHead.read_history`).
        device: of the head.
    """
    if not any(row is not None and (row.well_formed or bool(row.vector.any())) for row in rows):
        return None
    nothing = next(torch.zeros_like(row.vector) for row in rows if row is not None)
    heard = [None if row is None else row.guesses for row in rows]
    named = next((one for one in heard if one is not None), None)
    guesses = None if named is None else stack_guesses([named.of_nothing() if one is None else one for one in heard])
    return Reasoning(
        torch.stack([nothing if row is None else row.vector for row in rows]),
        torch.tensor([row is not None and row.well_formed for row in rows], device=device),
        history,
        guesses,
    )
