"""The run folder: where a run writes, how it logs, and which files it leaves.

config.yaml       complete; `--config_files=config.yaml` repeats the run
metrics.json      results in full precision, stages with seconds, versions
ranks.parquet     split, user_id, item_id, rank: one row per evaluated row
log.txt           everything that was logged
tensorboard/      the same curves as events
curves.png        the same curves as a picture
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from tqdm.contrib.logging import logging_redirect_tqdm

from rporec_recbole.errors import RunFolderError

CONFIG, METRICS, RANKS, LOG, TENSORBOARD, CURVES = (
    "config.yaml",
    "metrics.json",
    "ranks.parquet",
    "log.txt",
    "tensorboard",
    "curves.png",
)
_PACKAGES = (
    "rporec_recbole",
    "recbole",
    "torch",
    "transformers",
    "trl",
    "peft",
    "numpy",
    "pandas",
    "scipy",
    "scikit-learn",
)
_LEFT_BY_A_FALSE_START = {CONFIG, LOG, TENSORBOARD, "checkpoints"}
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def make_run_folder(wanted: str | None, model: str, dataset: str) -> Path:
    """Makes an empty folder for a run.

    Args:
        wanted: the user's `--run_dir`; None makes `saved/MODEL-DATASET-TIME`, with a number behind it if that exists.
        model: for the default name.
        dataset: for the default name.

    Raises:
        RunFolderError: the folder holds files already or cannot be made.
    """
    try:
        if wanted is None:
            stem = f"saved/{model}-{dataset}-{time.strftime('%Y%m%d-%H%M%S')}"
            for number in itertools.count(1):
                folder = Path(stem if number == 1 else f"{stem}-{number}")
                with contextlib.suppress(FileExistsError):
                    folder.mkdir(parents=True)
                    return folder
        folder = Path(str(wanted))
        folder.mkdir(parents=True, exist_ok=True)
        if not {path.name for path in folder.iterdir()} <= _LEFT_BY_A_FALSE_START:
            raise RunFolderError(
                f"The run folder {folder} is not empty. Choose another --run_dir, or move the old run away."
            )
        probe = folder / LOG
        probe.touch()
        return folder
    except OSError as error:
        raise RunFolderError(
            f"The run folder {wanted or 'saved/'} cannot be made or written: {error}. Choose another with --run_dir=PATH."
        ) from error


class _PlainFormatter(logging.Formatter):
    """Without RecBole's colour codes."""

    def format(self, record: logging.LogRecord) -> str:
        return _COLOURS.sub("", super().format(record))


@contextlib.contextmanager
def logging_to(folder: Path | None) -> Iterator[None]:
    """Sends the log to the terminal (above progress bars) and, if there is a folder, to its `log.txt`.

    RecBole's trainers find the folder of their TensorBoard events here too; without a run folder it is a temporary one.
    Handlers that stood before come back afterwards.
    """
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    with contextlib.ExitStack() as stack:
        if folder is None:
            handlers: list[logging.Handler] = [logging.NullHandler()]
            events = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rporec-events-")))
        else:
            console = logging.StreamHandler()
            console.setFormatter(_PlainFormatter("%(asctime)s  %(message)s", "%H:%M:%S"))
            file = logging.FileHandler(folder / LOG, encoding="utf-8")
            file.setFormatter(_PlainFormatter("%(asctime)s %(levelname)s %(message)s"))
            handlers, events = [file, console], folder / TENSORBOARD
        handlers[0].tensorboard_dir = str(events)  # type: ignore[attr-defined]
        root.handlers, root.level = handlers, logging.INFO
        for name in ("httpx", "absl", "matplotlib", "fsspec", "datasets"):
            logging.getLogger(name).setLevel(logging.WARNING)
        try:
            if folder is not None:
                stack.enter_context(logging_redirect_tqdm())
            yield
        finally:
            for handler in handlers:
                handler.close()
            root.handlers, root.level = before, level


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    import platform

    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def write_config(folder: Path, values: Mapping[str, Any]) -> None:
    """Writes `config.yaml`.

    Raises:
        RunFolderError: it cannot be written.
    """
    _write(folder / CONFIG, yaml.safe_dump(dict(values), sort_keys=True, allow_unicode=True))


def write_results(folder: Path, metrics: Mapping[str, Any], ranks: pd.DataFrame) -> None:
    """Writes `ranks.parquet`, then `metrics.json`, which marks the run as finished.

    Raises:
        RunFolderError: they cannot be written.
    """
    try:
        ranks.to_parquet(folder / RANKS, index=False)
    except OSError as error:
        raise RunFolderError(
            f"{folder / RANKS} cannot be written: {error}. Free disk space; log.txt has the results so far."
        ) from error
    _write(folder / METRICS, json.dumps(metrics, indent=2) + "\n")


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RunFolderError(
            f"{path} cannot be written: {error}. Free disk space or choose another --run_dir."
        ) from error
