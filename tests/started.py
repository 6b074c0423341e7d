"""Commands of Python as processes of their own that need not import anything: a server that has imported all of it forks them.

Torch, transformers, RecBole and TRL take 12 to 18 seconds of a slow processor in each new process. What starts here has memory, signals,
working folder, environment and output of its own and can be killed, but its modules are there already. A test whose claim is the start
itself (what is imported when, what an environment variable does to a module, how an interpreter ends) needs `subprocess`.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import multiprocessing
import os
import runpy
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from unittest import mock

ROOT = Path(__file__).parent.parent
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.imported"])


class Started:
    """`python WORDS ...`, begun; used as a `subprocess.Popen`, whose output goes to files that can be read at any time.

    Args:
        words: a script and its arguments, or `-c`, code and arguments.
        cwd: the working folder; default this one.
        env: the environment; default this one. Variables that a module reads when it is imported say nothing here.
    """

    def __init__(self, words: Sequence[object], *, cwd: Path | None = None, env: Mapping[str, str] | None = None):
        self._folder = tempfile.TemporaryDirectory(prefix="started-")
        self._out, self._err = (Path(self._folder.name) / name for name in ("out", "err"))
        given = [str(word) for word in words]
        arguments = (given, str(cwd or Path.cwd()), dict(env or os.environ), str(self._out), str(self._err))
        self._process = _FORKS.Process(target=_become, args=arguments, daemon=False)
        # The server starts with the first process, and finds the package wherever the tests were started.
        with mock.patch.dict(os.environ, {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "TQDM_DISABLE": "1"}):
            self._process.start()
        self.pid: int = self._process.pid
        _RUNNING.append(self)

    def poll(self) -> int | None:
        """The exit status, or minus the signal that ended it; None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Waits for its end.

        Raises:
            TimeoutError: it has not ended within so many seconds.
        """
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise TimeoutError(f"process {self.pid} has not ended within {timeout} s: {self.stderr[-2000:]}")
        return self._process.exitcode

    @property
    def returncode(self) -> int | None:
        return self.poll()

    @property
    def stdout(self) -> str:
        """All that it has printed."""
        return self._out.read_text(encoding="utf-8") if self._out.exists() else ""

    @property
    def stderr(self) -> str:
        """All that it has written to standard error."""
        return self._err.read_text(encoding="utf-8") if self._err.exists() else ""

    def communicate(self) -> tuple[str, str]:
        """Waits for its end; what it has said."""
        self.wait()
        return self.stdout, self.stderr

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        if self.poll() is None:
            self.send_signal(signal.SIGKILL)

    def first_line(self, seconds: float = 120.0) -> str:
        """Waits for the first line that it prints."""
        end = time.monotonic() + seconds
        while "\n" not in (said := self.stdout):
            assert self.poll() is None, self.stderr[-3000:]
            assert time.monotonic() < end, "nothing was printed"
            time.sleep(0.02)
        return said.split("\n", 1)[0]


def run(words: Sequence[object], *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> Started:
    """`Started`, after it has ended."""
    process = Started(words, cwd=cwd, env=env)
    process.wait()
    return process


@contextlib.contextmanager
def draws_little() -> Iterator[None]:
    """All figures of a small run take longer than its training. `test_report.py` has a run that draws them, and looks at each kind."""
    runs = importlib.import_module("rporec_recbole.runs.run")
    page = importlib.import_module("rporec_recbole.explain.run_page")
    empty = importlib.import_module("matplotlib.figure").Figure(figsize=(1, 1))
    with (
        mock.patch.object(runs, "plot_curves", return_value=empty),
        mock.patch.object(page, "plot_key_curves", return_value=empty),
    ):
        yield


def _become(words: list[str], cwd: str, env: dict[str, str], out: str, err: str) -> None:
    """In the new process: what `python WORDS ...` does once everything is imported."""
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    for number, path in ((1, out), (2, err)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, encoding="utf-8", closefd=False)
    paths = [path for path in env.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = [*dict.fromkeys([*paths, *sys.path])]
    with draws_little():
        _run(words)


def _run(words: list[str]) -> None:
    if words[0] != "-c":
        sys.argv = words
        sys.path.insert(0, str(Path(words[0]).parent))
        runpy.run_path(words[0], run_name="__main__")
        return
    sys.argv = ["-c", *words[2:]]
    sys.modules["__main__"] = module = ModuleType("__main__")
    exec(compile(words[1], "<string>", "exec"), vars(module))


_RUNNING: list[Started] = []


@atexit.register
def _end_all() -> None:
    """`multiprocessing` waits for what it has started; nothing that a failed test left behind may keep the tests from ending."""
    for process in _RUNNING:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
