"""Newer runs: which one there is, and how it comes to answer while requests go on."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from rporec_recbole.backbone.memory import settle
from rporec_recbole.errors import RPORecError
from rporec_recbole.runs.folder import METRICS
from rporec_recbole.serve.recommender import Recommender, served_dataset
from rporec_recbole.training.state.checkpoint import HEAD, STATE

logger = logging.getLogger(__name__)


class Stamp(NamedTuple):
    """What tells one trained model from another, without reading it.

    Attributes:
        saved: when it was written, in nanoseconds.
        folder: where it lies.
        sizes: time and size of its files.
    """

    saved: int
    folder: Path
    sizes: tuple[tuple[int, int], ...]


def stamp_of(folder: Path) -> Stamp | None:
    """The stamp of a finished RPORec run; None for anything else."""
    try:
        files = [(folder / name).stat() for name in (STATE, HEAD, METRICS)]
    except OSError:
        return None
    head = files[:2]  # `metrics.json` marks the end of a run, and may be written again later
    return Stamp(head[0].st_mtime_ns, folder.resolve(), tuple((one.st_mtime_ns, one.st_size) for one in head))


class Watch:
    """Looks for runs that are newer than the one that answers.

    Args:
        current: the run that answers.
        parent: whose sub-folders are looked at, besides the run itself.

    Attributes:
        current: stamp of the run that answers.
    """

    def __init__(self, current: Path, parent: Path) -> None:
        self.current = stamp_of(current)
        self._path = current
        self._parent = parent
        self._dataset = served_dataset(current)
        self._passed: set[Stamp] = set()

    def newer(self) -> Stamp | None:
        """The newest finished run of the same model and data set that is newer than the current one, or stands in its place."""
        try:
            folders = [path for path in self._parent.iterdir() if path.is_dir()]
        except OSError:
            folders = []
        stamps = {stamp for folder in {*folders, self._path} if (stamp := stamp_of(folder)) is not None}
        for stamp in sorted(stamps - self._passed - {self.current}, reverse=True):
            here = self.current is None or stamp.folder == self.current.folder
            if (here or (self.current is not None and stamp.saved > self.current.saved)) and self._fits(stamp):
                return stamp
        return None

    def take(self, stamp: Stamp) -> None:
        """This run answers from now on."""
        self.current, self._path = stamp, stamp.folder

    def pass_over(self, stamp: Stamp) -> None:
        """This run is never named again, unless its files change."""
        self._passed.add(stamp)

    def _fits(self, stamp: Stamp) -> bool:
        try:
            if served_dataset(stamp.folder) == self._dataset:
                return True
        except RPORecError:
            pass
        self.pass_over(stamp)  # a folder of runs holds those of other models and data sets too
        return False


class Reloader:
    """Loads newer runs in a thread of its own, and lets them answer.

    Args:
        watch: finds them.
        load: makes a `Recommender` of a folder.
        change: lets it answer; blocks until it does.
        told: gets `loaded` or `refused`.
        seconds: between two looks.
        changed: called with the folder once it answers.
    """

    def __init__(
        self,
        watch: Watch,
        load: Callable[[Path], Recommender],
        change: Callable[[Recommender], None],
        told: Callable[[str], None],
        seconds: float = 2.0,
        changed: Callable[[Path], None] | None = None,
    ) -> None:
        self._watch, self._load, self._change, self._told = watch, load, change, told
        self._seconds = seconds
        self._changed = changed
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, name="reload", daemon=True)

    def start(self) -> None:
        """Starts looking."""
        self._thread.start()

    def stop(self) -> None:
        """Stops looking; a run that is being loaded is not waited for."""
        self._stop.set()

    def step(self) -> bool:
        """Looks once; whether another run answers now."""
        stamp = self._watch.newer()
        if stamp is None:
            return False
        try:
            recommender = self._load(stamp.folder)
            if stamp_of(stamp.folder) != stamp:  # still being copied: the next look takes it whole
                return False
            self._change(recommender)
        except Exception as error:  # whatever is wrong with the new run, the old one goes on
            self._watch.pass_over(stamp)
            self._told("refused")
            logger.error(
                "The newer run %s is refused, the old one goes on: %s", stamp.folder, error, exc_info=_bug(error)
            )
            return False
        settle()  # the old run goes: a data set and a model that name each other
        self._watch.take(stamp)
        self._told("loaded")
        logger.info("Now answering from %s", recommender.version)
        if self._changed is not None:
            self._changed(stamp.folder)
        return True

    def _look(self) -> None:
        while not self._stop.wait(self._seconds):
            self.step()


def _bug(error: Exception) -> bool:
    return not isinstance(error, RPORecError)
