"""The load generator of the serving benchmark: keep-alive connections that ask the service and note what comes back."""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from pathlib import Path
from typing import Any

SLOW = 0.05  # seconds


class Client(asyncio.Protocol):
    """One keep-alive connection; as little HTTP as it takes."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.buffer = b""
        self.sent = 0.0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.load.idle(self)

    def send(self) -> None:
        self.sent = time.perf_counter()
        self.transport.write(self.load.next_request())

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.buffer[:end].lower()
        length = int(re.search(rb"content-length: (\d+)", head)[1])  # type: ignore[index]
        if len(self.buffer) < end + 4 + length:
            return
        self.buffer = b""
        now = time.perf_counter()
        self.load.done(int(head[9:12]), now - self.sent, now)
        self.sent = 0.0
        self.load.idle(self)

    def connection_lost(self, error: Exception | None) -> None:
        if self.sent and not self.load.over:
            self.load.done(0, time.perf_counter() - self.sent, time.perf_counter())


class Load:
    """Sends questions and notes what comes back.

    Args:
        port: of the service.
        bodies: questions, asked in turn.
        paced: whether clients wait for a pacemaker instead of asking again at once.
    """

    def __init__(self, port: int, bodies: list[bytes], paced: bool) -> None:
        head = "POST /recommend HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n"
        self.port = port
        self.requests = [head.format(port, len(body)).encode() + body for body in bodies]
        self.paced = paced
        self.number = 0
        self.over = False
        self.waiting: deque[Client] = deque()
        self.found: list[tuple[float, int, float]] = []  # when, status, seconds
        self.late = 0

    def next_request(self) -> bytes:
        self.number += 1
        return self.requests[self.number % len(self.requests)]

    def idle(self, client: Client) -> None:
        if self.paced or self.over:
            self.waiting.append(client)
        else:
            client.send()

    def done(self, status: int, seconds: float, now: float) -> None:
        self.found.append((now, status, seconds))

    async def run(self, clients: int, phases: list[tuple[float, float]]) -> list[dict[str, Any]]:
        loop = asyncio.get_running_loop()
        made = [(await loop.create_connection(lambda: Client(self), "127.0.0.1", self.port))[1] for _ in range(clients)]
        results = []
        for rate, seconds in phases:
            self.found, self.late = [], 0
            start = time.perf_counter()
            asked = 0
            while (passed := time.perf_counter() - start) < seconds:
                if self.paced:
                    due = int(passed * rate)
                    while asked < due:
                        asked += 1
                        if self.waiting:
                            self.waiting.popleft().send()
                        else:
                            self.late += 1
                await asyncio.sleep(0.001 if self.paced else 0.05)
            results.append(self.figures(start, time.perf_counter() - start))
        self.over = True
        for client in made:
            client.transport.abort()
        return results

    def figures(self, start: float, seconds: float) -> dict[str, Any]:
        answered = sorted(took for _, status, took in self.found if status == 200)
        refused = sorted(took for _, status, took in self.found if status == 429)
        bad = [when - start for when, status, took in self.found if status != 200 or took > SLOW]
        return {
            "seconds": seconds,
            "answered_per_second": len(answered) / seconds,
            "refused_per_second": len(refused) / seconds,
            "no_connection_free": self.late,
            "failed": len(self.found) - len(answered) - len(refused),
            "p50_ms": quantile(answered, 0.5),
            "p99_ms": quantile(answered, 0.99),
            "refused_p99_ms": quantile(refused, 0.99),
            "refused_max_ms": quantile(refused, 1.0),
            "calm_after_seconds": max(bad, default=0.0),
        }


def quantile(values: list[float], share: float) -> float | None:
    """In milliseconds."""
    return None if not values else 1000 * values[min(len(values) - 1, int(share * len(values)))]


def driven(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """The figures of each phase of a plan: `port`, `bodies` (a file), `clients`, `phases` (rate and seconds), `paced`."""
    bodies = Path(plan["bodies"]).read_bytes().splitlines()
    load = Load(plan["port"], bodies, plan["paced"])
    return asyncio.run(load.run(plan["clients"], plan["phases"]))
