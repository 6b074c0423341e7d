"""What the service counts, in the form that Prometheus reads."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128)


class Measures:
    """The figures of one service, in a registry of its own.

    Args:
        queue_length: how many requests wait for the model.
        pending: how many histories wait for reasoning.
    """

    def __init__(self, queue_length: Callable[[], float], pending: Callable[[], float]) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter("rporec_requests", "Requests answered", ["route", "status"], registry=registry)
        self._latency = Histogram(
            "rporec_request_seconds", "From the first byte to the last", ["route"], buckets=_SECONDS, registry=registry
        )
        self._batches = Histogram("rporec_batch_rows", "Requests of one model call", buckets=_ROWS, registry=registry)
        self._model_seconds = Counter("rporec_model_seconds", "Seconds of model calls", registry=registry)
        self._reasoning = Counter(
            "rporec_answers", "Answers by the part of reasoning", ["reasoning"], registry=registry
        )
        self._reloads = Counter("rporec_reloads", "Newer runs, by what became of them", ["outcome"], registry=registry)
        self._model = Gauge("rporec_model", "1 for the run that answers", ["version"], registry=registry)
        queue = Gauge("rporec_queue_length", "Requests that wait for the model", registry=registry)
        queue.set_function(queue_length)
        waiting = Gauge("rporec_pending_reasoning", "Histories that wait for reasoning", registry=registry)
        waiting.set_function(pending)
        for outcome in ("loaded", "refused"):
            self._reloads.labels(outcome)

    def request(self, route: str, status: int, seconds: float) -> None:
        """One request is answered."""
        self._requests.labels(route, str(status)).inc()
        self._latency.labels(route).observe(seconds)

    def batch(self, rows: int, seconds: float) -> None:
        """One model call is done."""
        self._batches.observe(rows)
        self._model_seconds.inc(seconds)

    def answer(self, reasoning: str) -> None:
        """One answer is made."""
        self._reasoning.labels(reasoning).inc()

    def serving(self, version: str) -> None:
        """Another run answers from now on."""
        self._model.clear()
        self._model.labels(version).set(1)

    def reload(self, outcome: str) -> None:
        """A newer run was `loaded` or `refused`."""
        self._reloads.labels(outcome).inc()

    def text(self) -> bytes:
        """All figures."""
        return generate_latest(self._registry)
