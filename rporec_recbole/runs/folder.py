"""The run folder: where a run writes, how it logs, and which files it leaves.

config.yaml       complete; `--config_files=config.yaml` repeats the run, from any working folder (`settings/places.py`)
metrics.json      results in full precision, stages with seconds, versions
ranks.parquet     split, user_id, item_id, rank, user_activity, item_popularity: one row for each target; where a user has several, also
                  place and targets (`evaluation.ranks`)
lists.parquet     user_id, rank, item_id, score: the 20 best items of each list of the test split (`evaluation.lists`)
positions.parquet stage, user_id, item_id, place: what each stage learned from (RPORec only)
log.txt           everything that was logged
tensorboard/      the same curves as events
curves.png        the same curves as a picture
report.html       what the run shows, one page for a browser
resume/           while the run lasts, its controls included: what it needs to go on if it is killed
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from tqdm.contrib.logging import logging_redirect_tqdm

from rporec_recbole.data.files import new_folder, unwritable, write_json, write_table, write_text
from rporec_recbole.errors import ConfigError, RunFolderError, first_line, translating
from rporec_recbole.evaluation.lists import FILE as LISTS
from rporec_recbole.settings.named_code import class_name
from rporec_recbole.settings.places import changed
from rporec_recbole.settings.properties import read_yaml, yaml_text

try:
    import fcntl
except ImportError:  # Windows has no flock
    fcntl = None  # type: ignore[assignment]

CONFIG, METRICS, RANKS, LOG, TENSORBOARD, CURVES, REPORT, RESUME, CHECKPOINTS, LOCK = (
    "config.yaml",
    "metrics.json",
    "ranks.parquet",
    "log.txt",
    "tensorboard",
    "curves.png",
    "report.html",
    "resume",
    "checkpoints",
    "lock",
)
_OF_STAGES = ("rporec.json", "model.json", "positions.parquet", "controls.parquet", "controls.json", "controls.png")
_LEFT_BY_A_FALSE_START = {CONFIG, LOG, TENSORBOARD, CHECKPOINTS}
# Settings that are newer than some runs, and what these ran with.
_BEFORE = {"fusion_hears_answers": False, "grounded_answers": False}
_NO_ROOM = 1 << 20  # bytes
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def make_run_folder(wanted: str | None, config: Mapping[str, Any]) -> Path:
    """The folder of a run: a new one, or that of a run with the very same config that was interrupted.

    Args:
        wanted: the user's `--run_dir`; None means `saved/MODEL-DATASET-TIME`, with a number behind it if that exists.
        config: what `config.yaml` will say.

    Raises:
        RunFolderError: the folder holds another run, is in use or cannot be made.
    """
    text = yaml_text(config)
    try:
        if wanted is None:
            stem = f"{class_name(str(config['model']))}-{config['dataset']}"
            for old in sorted(Path("saved").glob(f"{stem}-*"), reverse=True):
                if fcntl and _interrupted(old) and not _other_settings(old, text) and not in_use(old):
                    return old
            return new_folder(Path("saved", f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}"))
        folder = Path(str(wanted))
        folder.mkdir(parents=True, exist_ok=True)
        if in_use(folder):
            raise _in_use(folder)
        if _interrupted(folder):
            other = _other_settings(folder, text)
            if other and ((folder / METRICS).is_file() or any((folder / RESUME).iterdir())):
                raise RunFolderError(
                    f"{folder} holds an interrupted run with other settings (- then, + now): {'; '.join(other[:6])}. "
                    "Give the same settings to go on with it, or choose another --run_dir."
                )
        elif not {path.name for path in folder.iterdir()} <= _LEFT_BY_A_FALSE_START:
            raise RunFolderError(
                f"The run folder {folder} is not empty. Choose another --run_dir, or move the old run away."
            )
        (folder / LOG).touch()
        return folder
    except OSError as error:
        raise RunFolderError(
            f"The run folder {wanted or 'saved/'} cannot be made or written: {error}. Choose another with --run_dir=PATH."
        ) from error


def _interrupted(folder: Path) -> bool:
    return (folder / RESUME).is_dir() and (folder / CONFIG).is_file()


def _other_settings(folder: Path, text: str) -> list[str]:
    """Lines for what differs between the `config.yaml` of a folder and another one; what moved does not (`settings.places`)."""
    try:
        before, now = yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8")), yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError):
        before, now = {}, yaml.safe_load(text)
    before = before if isinstance(before, dict) else {}
    return [
        f"{sign} {key}: {values[key]}"
        for key in changed(before, now)
        for sign, values in (("-", before), ("+", now))
        if key in values
    ]


def finished(folder: Path) -> bool:
    """Whether all that a run was to make is there: results and, where they were asked for, controls."""
    return (folder / METRICS).is_file() and not (folder / RESUME).exists()


def finish(folder: Path) -> None:
    """Marks a run as finished: nothing is left to go on with."""
    shutil.rmtree(folder / RESUME, ignore_errors=True)


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Marks a folder as in use; the mark vanishes with the process, however that ends.

    Raises:
        RunFolderError: another process holds the folder, or has finished its run there meanwhile.
    """
    with (folder / LOG).open("a") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise _in_use(folder) from error
        if finished(folder):
            raise RunFolderError(f"Another process has just finished a run in {folder}. Choose another --run_dir.")
        yield


def saying_when_full(folder: Path) -> contextlib.AbstractContextManager[None]:
    """One message in the place of whatever a library raises when the disk of a folder is full.

    Raises:
        RunFolderError: something failed, and there is no room left.
    """

    def say(error: Exception) -> RunFolderError | None:
        if shutil.disk_usage(folder).free >= _NO_ROOM:
            return None
        return RunFolderError(
            f"The disk of {folder} is full ({first_line(error)}). Free space; the same command goes on where this one stopped."
        )

    return translating(say)


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Waits until no other process is inside this block for the folder; a process that dies leaves it."""
    with (folder / LOCK).open("a") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def refuse_own_file(output: Path) -> None:
    """Refuses to write over what a run left in its folder.

    Args:
        output: the file that a command is about to write.

    Raises:
        ConfigError: it is one of a run's own.
    """
    own = output.name in (CONFIG, METRICS, RANKS, LISTS, LOG, CURVES, REPORT) or output.suffix in (
        ".safetensors",
        ".sqlite",
    )
    if (own or output.name in _OF_STAGES) and (output.parent / CONFIG).is_file():
        raise ConfigError(f"`--output={output}` is a file of the run itself, and would be lost. Choose another.")


def _in_use(folder: Path) -> RunFolderError:
    return RunFolderError(f"Another process is writing to {folder}. Choose another --run_dir.")


def in_use(folder: Path) -> bool:
    """Whether a living process holds the folder (see `held`); on Windows nobody can tell, so no."""
    if fcntl is None or not (folder / LOG).exists():
        return False
    with (folder / LOG).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


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
            # Inside: at its end it puts back the handlers that it found, which are those of this run.
            with contextlib.nullcontext() if folder is None else logging_redirect_tqdm():
                yield
        finally:
            for handler in handlers:
                handler.close()
            root.handlers, root.level = before, level


def read_results(folder: Path) -> tuple[dict[str, Any], pd.DataFrame]:
    """What `write_results` wrote: the content of `metrics.json`, and the ranks.

    Raises:
        RunFolderError: the run is not finished, or a file is damaged.
    """
    try:
        return json.loads((folder / METRICS).read_text(encoding="utf-8")), pd.read_parquet(folder / RANKS)
    except (OSError, ValueError) as error:
        raise RunFolderError(
            f"{folder} holds no finished run: {error}. Name the folder that a run said it wrote to."
        ) from error


def write_config(folder: Path, values: Mapping[str, Any]) -> None:
    """Writes `config.yaml`.

    Raises:
        RunFolderError: it cannot be written.
    """
    with unwritable(f"{folder / CONFIG} cannot be written"):
        write_text(folder / CONFIG, yaml_text(values))


@contextlib.contextmanager
def configured(folder: Path, values: Mapping[str, Any]) -> Iterator[None]:
    """Writes `config.yaml`. Where an interrupted run was to go on and that fails, the file of before comes back: it may have been told of
    data or of a base that are not its own.

    Raises:
        RunFolderError: it cannot be written.
    """
    goes_on = (folder / METRICS).is_file() or ((folder / RESUME).is_dir() and any((folder / RESUME).iterdir()))
    before = (folder / CONFIG).read_text(encoding="utf-8") if goes_on else None
    write_config(folder, values)
    try:
        yield
    except BaseException:
        if before is not None:
            write_text(folder / CONFIG, before)
        raise


def read_config(folder: Path) -> dict[str, Any]:
    """The `config.yaml` of a run.

    Raises:
        RunFolderError: there is none.
        ConfigError: it is damaged.
    """
    if not (folder / CONFIG).is_file():
        raise RunFolderError(f"{folder} holds no run: there is no {CONFIG} in it. Name the folder that a run wrote to.")
    config = read_yaml(folder / CONFIG)
    if not config.get("model") or not config.get("dataset"):
        raise RunFolderError(
            f"{folder / CONFIG} names no model or no data set, so it is none that a run wrote. Bring the old file back."
        )
    return config if config["model"] != "RPORec" else {**_BEFORE, **config}


def write_results(
    folder: Path, metrics: Mapping[str, Any], ranks: pd.DataFrame, lists: pd.DataFrame | None = None
) -> None:
    """Writes `lists.parquet` if there are lists, `ranks.parquet`, then `metrics.json`, which says that training and evaluation are done.

    Raises:
        RunFolderError: they cannot be written.
    """
    with unwritable(f"The results cannot be written to {folder}, but log.txt has those so far"):
        if lists is not None:
            write_table(folder / LISTS, lists)
        write_table(folder / RANKS, ranks)
        write_json(folder / METRICS, metrics)
