"""How an SQLite file is opened: by one process at a time, and in memory where it cannot be written."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has no flock
    fcntl = None  # type: ignore[assignment]


def can_be_written(path: Path) -> bool:
    """Whether SQLite can: it writes beside the file, too."""
    return not path.exists() or (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK))


def read_only(path: Path) -> sqlite3.Connection:
    """What a file holds, in memory."""
    copy = sqlite3.connect(":memory:")
    with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True)) as file:
        file.backup(copy)
    return copy


@contextlib.contextmanager
def alone(path: Path | None) -> Iterator[None]:
    """Nobody else opens a store in the same folder meanwhile: one process repairs, the others find it repaired."""
    if path is None or fcntl is None:
        yield
        return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)
