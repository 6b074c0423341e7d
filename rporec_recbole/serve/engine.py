"""Requests that come together are answered together: one thread owns the model, a bounded queue stands before it.

The thread takes whatever waits, up to a batch, and never waits for more: alone, a request pays for nobody else; under load
batches grow by themselves.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from rporec_recbole.errors import RPORecError, StoreError
from rporec_recbole.serve.answers import Writer
from rporec_recbole.serve.limits import Limits
from rporec_recbole.serve.measures import Measures
from rporec_recbole.serve.problem import Problem
from rporec_recbole.serve.question import Question
from rporec_recbole.serve.recommender import Recommender

logger = logging.getLogger(__name__)


class _Job(NamedTuple):
    """A question and who waits for its answer."""

    question: Question
    explain: bool
    answer: asyncio.Future[bytes]


@dataclass
class _Change:
    """Another run shall answer; `done` is set when it does, or when `failure` says why not."""

    recommender: Recommender
    done: threading.Event
    failure: RPORecError | None = None


class Engine:
    """Owns the model thread.

    Args:
        recommender: answers; not open yet.
        limits: sizes of queue and batch.
        measures: gets counts and times; None for no figures.
    """

    def __init__(self, recommender: Recommender, limits: Limits) -> None:
        self.measures: Measures | None = None
        self._recommender = recommender
        self._limits = limits
        self._queue: queue.SimpleQueue[_Job | _Change | None] = queue.SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opened: queue.SimpleQueue[RPORecError | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)

    @property
    def recommender(self) -> Recommender:
        """Who answers now."""
        return self._recommender

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return self._queue.qsize()

    @property
    def alive(self) -> bool:
        """Whether the model thread works."""
        return self._thread.is_alive()

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Starts the model thread; answers go to this loop.

        Raises:
            StoreError: the run's store cannot be opened.
        """
        self._loop = loop
        self._thread.start()
        failure = self._opened.get()
        if failure is not None:
            raise failure

    def check_room(self) -> None:
        """Refuses at once what could not be queued.

        Raises:
            Problem: 429, the queue is full.
        """
        if self._queue.qsize() >= self._limits.queue:
            raise Problem(
                429,
                "busy",
                f"{self._limits.queue:,} requests wait already, which is all that this service lets wait. Ask again in a second.",
                {"Retry-After": "1"},
            )

    async def ask(self, question: Question, explain: bool = False) -> bytes:
        """The body of the answer.

        Raises:
            Problem: the question cannot be answered, or the queue is full.
        """
        self.check_room()
        assert self._loop is not None, "the engine was not started"
        answer: asyncio.Future[bytes] = self._loop.create_future()
        self._queue.put(_Job(question, explain, answer))
        return await answer

    def change(self, recommender: Recommender) -> None:
        """Lets another run answer, from the next batch on; blocks until it does. For threads other than the model's.

        Raises:
            StoreError: its store cannot be opened; the old run goes on.
        """
        change = _Change(recommender, threading.Event())
        self._queue.put(change)
        change.done.wait()
        if change.failure is not None:
            raise change.failure

    def stop(self) -> None:
        """Answers what waits, then ends the thread."""
        self._queue.put(None)
        self._thread.join()

    # --- the model thread ---------------------------------------------------------------------------------------------

    def _work(self) -> None:
        torch.set_num_threads(1)  # the other cores belong to connections and to the worker
        try:
            self._recommender.open()
        except RPORecError as error:
            self._opened.put(error)
            return
        writer = Writer(self._recommender)
        self._opened.put(None)
        while True:
            jobs: list[_Job] = []
            entry = self._queue.get()
            while isinstance(entry, _Job):
                jobs.append(entry)
                if len(jobs) == self._limits.batch:
                    break
                try:
                    entry = self._queue.get_nowait()
                except queue.Empty:
                    break
            if jobs:
                self._answer(jobs, writer)
            if isinstance(entry, _Change):
                writer = self._changed(entry, writer)
            elif entry is None:
                self._recommender.close()
                return

    def _answer(self, jobs: Sequence[_Job], writer: Writer) -> None:
        start = time.perf_counter()
        plain = [job for job in jobs if not job.explain]
        results: list[tuple[asyncio.Future[bytes], bytes | Exception]] = []
        try:
            for job, best in zip(plain, self._recommender.answer([job.question for job in plain]), strict=True):
                results.append((job.answer, best if isinstance(best, Problem) else writer.answer(best)))
                if self.measures is not None and not isinstance(best, Problem):
                    self.measures.answer(best.status)
        except Exception as error:  # a bug: its requests get 500, the others their answers
            logger.exception("A batch of %d requests failed", len(plain))
            results = [(job.answer, error) for job in plain]
        for job in jobs:
            if job.explain:
                try:
                    results.append((job.answer, writer.explanation(self._recommender.explain(job.question))))
                except Problem as problem:
                    results.append((job.answer, problem))
                except Exception as error:
                    logger.exception("An explanation failed")
                    results.append((job.answer, error))
        if self.measures is not None:
            self.measures.batch(len(jobs), time.perf_counter() - start)
        assert self._loop is not None, "the engine was not started"
        self._loop.call_soon_threadsafe(_deliver, results)

    def _changed(self, change: _Change, writer: Writer) -> Writer:
        try:
            change.recommender.open()
        except StoreError as error:
            change.failure = error
        else:
            self._recommender.close()
            self._recommender = change.recommender
            writer = Writer(self._recommender)
        change.done.set()
        return writer


def _deliver(results: Sequence[tuple[asyncio.Future[bytes], bytes | Exception]]) -> None:
    for future, result in results:
        if future.done():  # who asked has gone
            continue
        if isinstance(result, bytes):
            future.set_result(result)
        else:
            future.set_exception(result)
