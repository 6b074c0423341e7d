"""The service's own worker: a process that is started again if it dies, and that ends with the service."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType

from rporec_recbole.serve.worker import work

logger = logging.getLogger(__name__)

_COMMAND = "import json, sys; from rporec_recbole.serve.worker_process import child; child(sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3]))"
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0  # seconds before a dead worker is started again
_GRACE = 10.0  # seconds in which a worker gives its claims back
_NICE = 10  # requests go before reasoning


class WorkerProcess:
    """Keeps one worker alive.

    Args:
        folder: the run folder that it writes for; None for a run that uses no reasoning.
        places: what moved since runs were made, as for `load_run`.
    """

    def __init__(self, folder: Path | None, **places: str | None) -> None:
        self._folder, self._places = folder, places
        self._process: subprocess.Popen[bytes] | None = None
        self._stop = threading.Event()
        self._followed = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._keep, name="worker", daemon=True)

    def start(self) -> None:
        """Starts the worker."""
        self._thread.start()

    def follow(self, folder: Path | None) -> None:
        """Another run answers: the worker writes for that one from now on, or for none.

        Args:
            folder: the run folder; None for a run that uses no reasoning.
        """
        self._folder = folder
        self._followed.set()
        self._end()

    def stop(self) -> None:
        """Ends the worker and waits for it."""
        self._stop.set()
        self._followed.set()
        self._end()
        self._thread.join(_GRACE + 1)

    def _end(self) -> None:
        with self._lock:
            process = self._process
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            process.kill()

    def _keep(self) -> None:
        pause = _FIRST_PAUSE
        while not self._stop.is_set():
            self._followed.clear()
            folder = self._folder
            if folder is None:
                self._followed.wait()
                continue
            with self._lock:
                # A session of its own: Ctrl-C in a terminal is for the service, which ends its worker itself.
                self._process = subprocess.Popen(
                    [sys.executable, "-c", _COMMAND, str(folder), str(os.getpid()), json.dumps(self._places)],
                    start_new_session=True,
                )
            code = self._process.wait()
            if self._stop.is_set():
                return
            if self._followed.is_set():
                pause = _FIRST_PAUSE
                continue
            logger.warning("The worker ended with code %d; it is started again in %.0f seconds", code, pause)
            self._followed.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)


def child(folder: str, parent: int, places: Mapping[str, str | None]) -> None:
    """What the process does: writes for a run until it is told to end, or until the service is gone."""
    logging.basicConfig(level=logging.WARNING, format="worker: %(message)s")
    if hasattr(os, "nice"):
        os.nice(_NICE)
    run_worker(folder, lambda: os.getppid() != parent, **places)


def run_worker(folder: str | Path, stop: Callable[[], bool], **places: str | None) -> int:
    """`work`, ended by SIGTERM as by Ctrl-C, with its claims given back.

    Args:
        folder: the run folder.
        stop: asked between two batches.
        places: what moved since the run was made, as for `load_run`.

    Returns:
        how many histories were written about.

    Raises:
        RPORecError: as `work`.
    """

    def end(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            return work(folder, stop, None, **places)
        return 0
    finally:
        signal.signal(signal.SIGTERM, before)
