"""Reasoning for histories: prompt, look up, generate what is missing, parse. Blind to targets by construction."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from rporec_recbole.cot.store import CoTStore, Decoding, completion_key
from rporec_recbole.text.completions import Completion, parse_completion
from rporec_recbole.text.prompts import PromptTemplate, Rating

Kept = Callable[[list[int], list[str]], None]
AskHelpers = Callable[[list[str], Decoding], bool]
"""Tells other processes on the same store which prompts to complete, and how; whether they heard."""
_AT_ONCE, _PAUSE = 1024, 0.2  # texts; seconds between two looks at what others write
_KEPT = 1 << 16  # completions that a reasoner remembers
SHARED = 128  # texts that one of several processes claims at once: some batches, yet little to wait for at the end


NOTHING = Completion("")
"""Stands where nothing was written and nothing is to be: malformed, so the trunk ranks alone."""


class TextGenerator(Protocol):
    """Anything that completes prompts: a language model, a template, a file."""

    @property
    def fingerprint(self) -> str:
        """Changes whenever the texts that it would write may change."""
        ...

    def generate(
        self, prompts: Sequence[str], decoding: Decoding, on_batch: Kept | None = None, desc: str = ""
    ) -> list[str]:
        """Completes every prompt; calls `on_batch(indices, texts)` as soon as a part is finished."""
        ...


class Reasoner:
    """Gives each history its completion, from the store where it can.

    Args:
        generator: writes what the store lacks.
        template: renders prompts.
        store: keeps every completion as soon as it exists.
        ask_helpers: asked to help with more than `SHARED` texts; None where there is nobody.
        parse: reads what was written (`completions.PARSERS`).

    Attributes:
        at_once: texts that this process claims at once; other processes on the same store write others meanwhile.
        written: texts that this process has written.
        writes: off: what the store lacks is not written, `NOTHING` stands for it.
        lacked: how often it did.
    """

    def __init__(
        self,
        generator: TextGenerator,
        template: PromptTemplate,
        store: CoTStore,
        ask_helpers: AskHelpers | None = None,
        parse: Callable[[str], Completion] = parse_completion,
    ) -> None:
        self.generator = generator
        self.template = template
        self.store = store
        self.at_once = _AT_ONCE
        self._ask_helpers, self.parse = ask_helpers, parse
        self.writes = True
        self.written = self.lacked = 0
        self._parsed: dict[str, Completion] = {}

    def reason(
        self,
        histories: Sequence[Sequence[int]],
        ratings: Sequence[Sequence[Rating]] | None,
        decoding: Decoding,
        desc: str = "Reasoning",
    ) -> list[Completion]:
        """Completions for histories, in order.

        Args:
            histories: item ids, oldest first, padding allowed.
            ratings: as long as `histories`, or None.
            decoding: how to draw; equal prompts get equal texts.
            desc: label of the progress bar.
        """
        return self.complete(self.prompts(histories, ratings), decoding, desc)

    def prompts(self, histories: Sequence[Sequence[int]], ratings: Sequence[Sequence[Rating]] | None) -> list[str]:
        """The prompts of histories, in order; arguments as for `reason`."""
        rated = ratings if ratings is not None else [None] * len(histories)
        return [self.template.prompt(history, rating) for history, rating in zip(histories, rated, strict=True)]

    def complete(self, prompts: Sequence[str], decoding: Decoding, desc: str = "Reasoning") -> list[Completion]:
        """Completions for prompts, in order; see `reason`. Malformed ones are drawn again, as `decoding.instead` says."""
        found = self._complete(prompts, decoding, desc)
        if decoding.instead is not None:
            malformed = [number for number, one in enumerate(found) if not one.well_formed]
            if malformed:
                again = self.complete([prompts[number] for number in malformed], decoding.instead, f"{desc}, again")
                for number, one in zip(malformed, again, strict=True):
                    found[number] = one if one.well_formed else found[number]
        return found

    def _complete(self, prompts: Sequence[str], decoding: Decoding, desc: str) -> list[Completion]:
        writer = self.generator.fingerprint
        keys = [completion_key(prompt, writer, decoding) for prompt in prompts]
        found = {key: self._parsed[key] for key in keys if key in self._parsed}
        found |= self._read([key for key in keys if key not in found])
        missing = {key: prompt for key, prompt in zip(keys, prompts, strict=True) if key not in found}
        if missing and not self.writes:
            self.lacked += sum(key in missing for key in keys)
            self._remember(found)
            found |= dict.fromkeys(missing, NOTHING)
            return [found[key] for key in keys]
        # Longest first, as the generator would have it: then parts of the work are as quick as the whole.
        missing = dict(sorted(missing.items(), key=lambda entry: -len(entry[1])))
        at_once = self.at_once
        if self._ask_helpers is not None and len(missing) > SHARED:
            at_once = SHARED if self._ask_helpers(list(missing.values()), decoding) else at_once
        try:
            while missing:
                claimed = self.store.claim(list(missing), at_once)
                if claimed:
                    found |= self._write({key: missing[key] for key in claimed}, writer, decoding, desc)
                else:  # other processes are writing all of them
                    time.sleep(_PAUSE)
                    found |= self._read(missing)
                missing = {key: prompt for key, prompt in missing.items() if key not in found}
        except BaseException:
            self.store.release()
            raise
        self._remember(found)
        return [found[key] for key in keys]

    def _read(self, keys: Iterable[str]) -> dict[str, Completion]:
        return {key: self.parse(text) for key, text in self.store.get(keys).items()}

    def _remember(self, found: Mapping[str, Completion]) -> None:
        """For the next time, the latest ones: histories without an end must not fill the memory."""
        self._parsed |= found
        for key in list(itertools.islice(self._parsed, max(0, len(self._parsed) - _KEPT))):
            del self._parsed[key]

    def _write(self, prompts: dict[str, str], writer: str, decoding: Decoding, desc: str) -> dict[str, Completion]:
        order, texts = list(prompts), list(prompts.values())
        found: dict[str, Completion] = {}

        def keep(indices: list[int], written: list[str]) -> None:
            batch = {order[i]: (texts[i], text) for i, text in zip(indices, written, strict=True)}
            self.store.put(batch, writer, decoding)
            self.written += len(batch)
            found.update({key: self.parse(text) for key, (_, text) in batch.items()})

        self.generator.generate(texts, decoding, keep, desc)
        return found
