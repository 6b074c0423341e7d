"""The process of the service: socket, signals, the worker beside it, and a clean end."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from rporec_recbole.backbone.memory import settle
from rporec_recbole.errors import ConfigError
from rporec_recbole.serve.app import Service
from rporec_recbole.serve.limits import Limits
from rporec_recbole.serve.recommender import Recommender
from rporec_recbole.serve.reload import Reloader, Watch
from rporec_recbole.serve.run_index import load_index
from rporec_recbole.serve.worker_process import WorkerProcess

logger = logging.getLogger("rporec_recbole.serve")

_BACKLOG = 2048  # connections that the system holds until they are accepted
_LEAVE = 1.0  # seconds in which clients are told to close, before connections are closed
_FINISH = 30  # seconds in which accepted requests are finished; clients that never finish sending wait no longer
_SWITCH = (
    0.0005  # seconds after which a thread that computes hands the interpreter over; Python's 5 ms are a whole answer
)


def serve(
    path: Path,
    *,
    host: str,
    port: int,
    token: str | None,
    limits: Limits,
    worker: bool,
    watch: Path | None,
    index: Path | None,
    **places: str | None,
) -> None:
    """Serves a run until SIGTERM or Ctrl-C; what was accepted by then is answered.

    Args:
        path: the run folder.
        host: address to bind to.
        port: 0 takes a free one.
        token: what clients must send; None lets everybody in.
        limits: what is refused.
        worker: start a process that writes missing reasoning.
        watch: folder of runs; the newest one that is finished answers. None stays with the run.
        index: folder of an index of the run's items; None searches exactly.
        places: what moved since runs were made, as for `load_run`; of newer runs too.

    Raises:
        ConfigError: address or index cannot be used, or the run is of another model.
        RunFolderError: there is no finished run.
        StoreError: the run's store cannot be opened.
    """
    with _logging(), _listening(host, port) as listener:
        own_index = None if index is None else load_index(path, index)
        service = Service(
            Recommender(path, limits, own_index, **places), limits, token
        )  # no other name: it may be replaced

        def followed(folder: Path) -> Path | None:
            return folder if service.engine.recommender.uses_reasoning else None

        process = WorkerProcess(followed(path), **places) if worker else None
        reloader = None
        if watch is not None:

            def changed(folder: Path) -> None:
                if process is not None:
                    process.follow(followed(folder))

            reloader = Reloader(
                Watch(path, watch),
                lambda folder: Recommender(folder, limits, None, **places),
                service.change,
                service.measures.reload,
                changed=changed,
            )
        sys.setswitchinterval(_SWITCH)
        bound = listener.getsockname()
        shown = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
        server = _Server(service, f"{service.engine.recommender.version} answers on http://{shown}:{bound[1]}")
        if token is None and not _is_loopback(bound[0]):
            logger.warning("Anybody who reaches %s may ask: give a token with --token=... or RPOREC_TOKEN.", shown)
        with contextlib.ExitStack() as stack:
            if process is not None:
                process.start()
                stack.callback(process.stop)
            if reloader is not None:
                reloader.start()
                stack.callback(reloader.stop)
            settle()
            with _signals_that_end_nothing():
                server.run(sockets=[listener])
        app = service.app
        if server.started:
            print(f"Ended: {app.accepted} requests accepted, {app.answered} answered", flush=True)
        else:
            raise ConfigError("The service could not be started; the messages above say why.")


class _Server(uvicorn.Server):
    """uvicorn's server, which first asks clients to close their connections and then does so itself."""

    def __init__(self, service: Service, greeting: str) -> None:
        settings: Any = {
            "log_config": None,
            "access_log": False,
            "server_header": False,
            "ws": "none",
            "lifespan": "on",
        }
        settings |= {"backlog": _BACKLOG, "timeout_graceful_shutdown": _FINISH}
        super().__init__(uvicorn.Config(service.app, **settings))
        self._service = service
        self._greeting = greeting
        self._loop: asyncio.AbstractEventLoop | None = None

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Until a signal comes."""
        self._loop = asyncio.get_running_loop()
        await super().serve(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Takes connections from here on."""
        await super().startup(sockets)
        if self.started:
            print(self._greeting, flush=True)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal starts the end, a second one hastens it."""
        if self._service.app.leaving or self._loop is None:
            super().handle_exit(sig, frame)
            return
        # A connection that is closed while its next request is on the way fails that request. So every answer says first
        # that its connection ends, and only those that stay silent meanwhile are closed.
        self._service.app.leaving = True
        end = super().handle_exit
        self._loop.call_soon_threadsafe(self._loop.call_later, _LEAVE, end, sig, frame)


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that holds the address; it takes connections when the run is loaded.

    Raises:
        ConfigError: the address cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        # The protocol by its number: asyncio switches Nagle off (40 ms an answer) only where it reads TCP.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except OSError as error:
        raise ConfigError(f"This machine has no such sockets: {error}. Choose another --host.") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except (OSError, UnicodeError) as error:
        listener.close()
        raise ConfigError(
            f"The service cannot listen on {host}:{port}: {error}. Choose another --port, or a --host of this machine."
        ) from error
    with listener:
        yield listener


@contextlib.contextmanager
def _signals_that_end_nothing() -> Iterator[None]:
    """uvicorn sends itself, at the end, the signal that ended it; the exit code is to say that all went well."""
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _logging() -> Iterator[None]:
    """Messages of the service go to stderr, whatever else is done to the root logger while runs are loaded."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    names = ("rporec_recbole.serve", "uvicorn.error")
    loggers = [logging.getLogger(name) for name in names]
    for one, level in zip(loggers, (logging.INFO, logging.WARNING), strict=True):
        one.addHandler(handler)
        one.setLevel(level)
        one.propagate = False
    try:
        yield
    finally:
        for one in loggers:
            one.removeHandler(handler)
            one.propagate = True


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback
