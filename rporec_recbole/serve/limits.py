"""How much a service takes upon itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds of a service; what is above one is refused, not cut.

    Attributes:
        top_k: items of one answer.
        history: items of one history.
        body: bytes of a request's body.
        queue: requests that wait for the model; another one gets 429.
        batch: requests that one call of the model answers.
        pending: histories that wait for reasoning; another one is answered all the same, and not queued.
    """

    top_k: int = 1000
    history: int = 1000
    body: int = 65_536
    queue: int = 128
    batch: int = 32
    pending: int = 10_000
