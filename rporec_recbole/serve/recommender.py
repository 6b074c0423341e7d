"""A finished run that answers questions: histories in, the best items out; no web in here.

Letters in shapes: B rows, T positions, H hidden size, N items, D size of a text vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rporec_recbole.cot.draws import decodings_of
from rporec_recbole.data.clock import seconds_of
from rporec_recbole.errors import RunFolderError
from rporec_recbole.runs.finished import check_rporec, hash_of_run, load_rporec
from rporec_recbole.runs.titles import items_of
from rporec_recbole.serve.index import ItemIndex
from rporec_recbole.serve.items import ItemSearch
from rporec_recbole.serve.limits import Limits
from rporec_recbole.serve.problem import Problem
from rporec_recbole.serve.question import Question, Status
from rporec_recbole.serve.retriever import Heard, Retriever
from rporec_recbole.serve.rows import Row, Rows
from rporec_recbole.serve.stored import Found, StoredReasoning, as_reasoning
from rporec_recbole.training.state.checkpoint import HEAD, STATE, STORE

_KEPT = 20_000  # encoded texts that are remembered: 10 MB with D = 64
_TAILS = 100_000  # answers after which a text head forgets the vectors of histories


@dataclass(frozen=True)
class Best:
    """An answer in the run's own numbers.

    Attributes:
        ids: item ids, best first.
        scores: of each.
        status: what part the reasoning had.
        gate: how much the head let it count; None unless it was used.
    """

    ids: list[int]
    scores: list[float]
    status: Status
    gate: float | None


@dataclass(frozen=True)
class Explanation:
    """Both answers to one question.

    Attributes:
        row: the question.
        in_prompt: how many of the newest items the prompt shows; 0 where the run uses no reasoning.
        found: the text, if there is one.
        moved: |u - s| / |s|; 0 without a well-formed text.
        with_reasoning: None without a text.
        without_reasoning: the trunk's answer.
    """

    row: Row
    in_prompt: int
    found: Found | None
    moved: float
    with_reasoning: Best | None
    without_reasoning: Best


class Recommender:
    """Answers for one run. `open`, `answer`, `explain` and `close` belong to one thread; making one does not.

    Args:
        path: the run folder.
        limits: how many histories may wait for reasoning.
        index: of the run's items (`serve.run_index`); None scores all of them.
        places: what moved since the run was made, as for `load_run`.

    Attributes:
        path: the run folder.
        version: name of the folder and digest of the weights.
        dataset: name of the data set.
        items: token and title of each item; number 0 is padding.
        search: finds items by words of their titles.
        uses_reasoning: whether the run's scores read reasoning.

    Raises:
        RunFolderError: there is no finished run, or its model gives no finite numbers.
        ConfigError: the run is of another model.
    """

    def __init__(self, path: str | Path, limits: Limits, index: ItemIndex | None = None, **places: str | None) -> None:
        self.path = Path(path)
        run = load_rporec(self.path, "a service", **places)
        model = run.model
        self.version = version_of(self.path)
        self.dataset = str(run.config["dataset"])
        self.items = items_of(run)
        self.search = ItemSearch(self.items)
        self.uses_reasoning = model.reads_reasoning
        self._stored: StoredReasoning | None = None
        if model.reasoner is not None:
            model.reasoner.store.close()  # it belongs to this thread
            if self.uses_reasoning:
                self._stored = StoredReasoning(
                    self.path,
                    self.path / STORE,
                    writer=model.reasoner.generator.fingerprint,
                    template=model.reasoner.template,
                    decodings=decodings_of(model.evaluation_decoding, model.settings.backbone.cot_samples),
                    encode=model.encode_texts,
                    guesses=model.guesses,
                    kept=_KEPT,
                    limit=limits.pending,
                    parse=model.reasoner.parse,
                )
        model.backbone = model.reasoner = None  # the request path has no use for a language model
        self._model, self._head = model, model.head
        self._rows = Rows(run)
        catalogue = model.catalogue
        self._named = (
            {} if catalogue is None else {line: number for number, line in enumerate(catalogue.lines) if number}
        )
        self._answered = 0
        with torch.inference_mode():
            self._vectors: Tensor = model.head.item_vectors().contiguous()
            self._read = model.head.reader(self._vectors)
        if not bool(torch.isfinite(self._vectors).all()):
            raise RunFolderError(
                f"The model in {path} gives scores that are no finite numbers, so nothing can be ranked. Train it again."
            )
        self._retriever = Retriever(self._vectors, index)
        self._try_out()

    def open(self) -> None:
        """Opens the run's store and queue for the calling thread.

        Raises:
            StoreError: one of them cannot be opened.
        """
        if self._stored is not None:
            self._stored.open()

    def close(self) -> None:
        """Closes them."""
        if self._stored is not None:
            self._stored.close()

    def answer(self, questions: Sequence[Question]) -> list[Best | Problem]:
        """The best items for each question, or what is wrong with it."""
        rows = [self._rows.read(question) for question in questions]
        good = [row for row in rows if isinstance(row, Row)]
        found, status = self._reasoning(good)
        answers = iter(self._best(good, found, status))
        self._forget(len(good))
        return [next(answers) if isinstance(row, Row) else row for row in rows]

    def explain(self, question: Question) -> Explanation:
        """Both answers to one question, with reasoning and without.

        Raises:
            Problem: what is wrong with the question.
        """
        row = self._rows.read(question)
        if isinstance(row, Problem):
            raise row
        found, status = self._reasoning([row])
        without = self._best([row], [None], status)[0]
        in_prompt = 0 if self._stored is None else len(self._stored.template.shown(row.items, row.ratings))
        with_reasoning = None if found[0] is None else self._best([row], found, status)[0]
        self._forget(1)
        return Explanation(row, in_prompt, found[0], self._moved(row, found[0]), with_reasoning, without)

    def item_named(self, text: str) -> int | None:
        """The item that a text names word for word."""
        return self._named.get(text)

    # --- answers ------------------------------------------------------------------------------------------------------

    def _reasoning(self, rows: Sequence[Row]) -> tuple[list[Found | None], list[Status]]:
        """What is stored for each row, and what is to be said of it."""
        if self._stored is None:
            return [None] * len(rows), ["off"] * len(rows)
        prompts = [self._stored.template.prompt(row.items, row.ratings) for row in rows]
        keys = [self._stored.key(prompt) for prompt in prompts]
        by_key = dict(zip(keys, prompts, strict=True))
        found = self._stored.find(by_key)
        queued = self._stored.queue({key: prompt for key, prompt in by_key.items() if key not in found})
        status: list[Status] = []
        for key in keys:
            if key in found:
                status.append("used" if found[key].well_formed else "malformed")
            else:
                status.append("queued" if key in queued else "not queued")
        return [found.get(key) for key in keys], status

    def _best(self, rows: Sequence[Row], found: Sequence[Found | None], status: Sequence[Status]) -> list[Best]:
        """Answers to some questions, at once."""
        scored = self._scored(rows, found) if rows else []
        return [Best(ids, scores, one, gate) for (ids, scores, gate), one in zip(scored, status, strict=True)]

    @torch.inference_mode()
    def _scored(
        self, rows: Sequence[Row], found: Sequence[Found | None]
    ) -> list[tuple[list[int], list[float], float | None]]:
        """Ids, scores and gate of each row."""
        device = self._vectors.device
        histories = _padded([row.items for row in rows]).to(device)
        state = self._read(histories, clock=self._clock(rows))
        users, gates, reasoning = state, None, None
        if any(found):
            reasoning = as_reasoning(found, self._head.read_history(histories), device)
            if reasoning is not None:
                users = self._head.user_vectors(state, reasoning)
                gates = self._head.gate(state, reasoning).tolist()
        hidden = _padded([row.hidden for row in rows]).to(device) if any(len(row.hidden) for row in rows) else None
        k = min(max(row.top_k for row in rows), len(self._vectors) - 1)
        seen = _padded([list(dict.fromkeys(row.items)) for row in rows]).to(device)
        heard = None
        if reasoning is not None and reasoning.guesses is not None and self._head.expert is not None:
            heard = Heard(reasoning.guesses.items.flatten(1), partial(self._head.heard, reasoning, seen=seen))
        values, ids = self._retriever.top(users, seen, self._head.history_offset(state), hidden, k, heard)
        lengths = (values > -torch.inf).sum(dim=1).tolist()  # what is left out stands at the end
        answers = []
        for place, (row, count, scores, numbers) in enumerate(
            zip(rows, lengths, values.tolist(), ids.tolist(), strict=True)
        ):
            one, count = found[place], min(count, row.top_k)
            used = gates is not None and one is not None and one.well_formed
            answers.append((numbers[:count], scores[:count], gates[place] if used and gates is not None else None))
        return answers

    @torch.inference_mode()
    def _moved(self, row: Row, found: Found | None) -> float:
        history = _padded([row.items]).to(self._vectors.device)
        reasoning = as_reasoning([found], self._head.read_history(history), self._vectors.device)
        if reasoning is None:
            return 0.0
        state = self._read(history, clock=self._clock([row]))
        change = self._head.user_vectors(state, reasoning) - state
        return float(change.norm() / state.norm().clamp(min=1e-12))

    def _clock(self, rows: Sequence[Row]) -> Tensor | None:
        """The seconds of each row's items, `[B, T]`; None where no row has any."""
        if all(row.seconds is None for row in rows):
            return None
        return seconds_of([row.seconds for row in rows], max(len(row.items) for row in rows)).to(self._vectors.device)

    def _forget(self, count: int) -> None:
        """A text head keeps the vector of every history that it meets; a service would never stop growing."""
        self._answered += count
        if self._answered >= _TAILS and self._model.encoder is not None:
            self._model.use_encoder(self._model.encoder)
            self._answered = 0

    def _try_out(self) -> None:
        """One answer before the first is asked for: a broken model is found now."""
        row = Row([1], None, np.zeros(0, dtype=np.int64), 1)
        if not self._best([row], [None], ["off"])[0].ids:
            raise RunFolderError(f"The model in {self.path} ranks nothing. Train it again.")


def served_dataset(folder: Path) -> str:
    """The name of the data set of a run that can be served; nothing is loaded.

    Raises:
        ConfigError: the run is of another model than RPORec.
        RunFolderError: there is no run.
    """
    return str(check_rporec(folder, "a service").get("dataset"))


def version_of(folder: Path) -> str:
    """Name of a run folder and digest of what it was trained to.

    Raises:
        RunFolderError: it cannot be read.
    """
    return f"{folder.resolve().name}@{hash_of_run(folder, [HEAD, STATE])[:12]}"


def _padded(rows: Sequence[Any]) -> Tensor:
    """`[B, T]` ids, padded on the right with 0."""
    table = np.zeros((len(rows), max(len(row) for row in rows)), dtype=np.int64)
    for number, row in enumerate(rows):
        table[number, : len(row)] = row
    return torch.from_numpy(table)
