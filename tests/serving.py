"""Services for tests: in this process, and as a process of its own."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rporec_recbole.serve.worker import work
from tests.started import ROOT, Started

TEXT = "<think>evidence: Film 4 of the Drama</think><answer>Film 5 of the Comedy | Comedy Action | 1985</answer>"


class Running:
    """A service as a process; `ask` uses a new connection, a `Client` keeps one."""

    def __init__(self, run: Path, *options: str) -> None:
        self.process = Started([ROOT / "run_recbole.py", "serve", run, "--port=0", *options])
        self.port = int(self.process.first_line().rsplit(":", 1)[1])

    def ask(self, path: str, question: Any = None) -> tuple[int, Any]:
        return Client(self.port).ask(path, question)

    def end(self) -> int:
        self.process.terminate()
        return self.process.wait(60)


class Client:
    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def ask(self, path: str, question: Any = None) -> tuple[int, Any]:
        body = None if question is None else json.dumps(question)
        self.connection.request("GET" if body is None else "POST", path, body)
        response = self.connection.getresponse()
        text = response.read()
        return response.status, json.loads(text) if text.startswith(b"{") else text.decode()


@contextlib.contextmanager
def served(run: Path, *options: str) -> Iterator[Running]:
    running = Running(run, *options)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.kill()
            running.process.wait()


class Askers:
    """Threads that ask without a pause and note what they get; a connection that ends before a request is made anew."""

    def __init__(self, ask: Any, count: int) -> None:
        self.found: list[Any] = []
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self._ask, args=(ask, number), daemon=True) for number in range(count)]
        for thread in self.threads:
            thread.start()

    def _ask(self, ask: Any, number: int) -> None:
        turn = number
        while not self.over.is_set():
            turn += 1
            self.found.append(ask({"history": [f"i{turn % 20}", f"i{turn % 7}"], "top_k": 3}))

    def end(self) -> list[Any]:
        self.over.set()
        for thread in self.threads:
            thread.join(60)
        return self.found


def work_until_done(run: Path, seconds: float = 60.0) -> int:
    """A worker in this process, until the queue is empty."""
    from rporec_recbole.serve.pending import count_pending

    end = time.monotonic() + seconds
    return work(run, lambda: count_pending(run) == 0 or time.monotonic() > end)


def write_well(monkeypatch: Any) -> None:
    """From now on the backbone of every run writes one well-formed text about everything."""
    from rporec_recbole.backbone.model import Backbone

    def generate(self, prompts, decoding, on_batch=None, desc=""):
        texts = [TEXT] * len(prompts)
        if on_batch is not None:
            on_batch(list(range(len(prompts))), texts)
        return texts

    monkeypatch.setattr(Backbone, "generate", generate)
