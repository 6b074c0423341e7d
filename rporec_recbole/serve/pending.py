"""Histories that wait for reasoning: one SQLite file in the run folder, which the service fills and workers empty.

What was accepted is on disk before the client is told so, and leaves only when its texts are in the store; a kill of either
side loses nothing.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path

from rporec_recbole.cot.store import transaction
from rporec_recbole.errors import StoreError

PENDING = "serving.sqlite"
_DAMAGED = ".damaged"


class Pending:
    """The queue; belongs to the thread that makes it, and any number of processes may have one on the same file.

    Args:
        path: the SQLite file, made if missing. A damaged one is moved aside: it holds prompts that can be asked again.
        limit: how many prompts may wait.
        patience: seconds to wait for a lock that another process holds.

    Raises:
        StoreError: the file cannot be opened.
    """

    def __init__(self, path: Path, limit: int, patience: float = 60.0) -> None:
        self.path = path
        self.limit = limit
        try:
            try:
                self._db = _open(path, patience)
            except sqlite3.OperationalError:  # locked, no room, no permission: not the file's fault
                raise
            except sqlite3.DatabaseError:
                for suffix in ("-wal", "-shm"):
                    path.with_name(path.name + suffix).unlink(missing_ok=True)
                os.replace(path, path.with_name(path.name + _DAMAGED))
                self._db = _open(path, patience)
        except (OSError, sqlite3.Error) as error:
            raise StoreError(
                f"The queue of histories at {path} cannot be opened ({error}). Fix its permissions, or move it away."
            ) from error

    def __len__(self) -> int:
        return int(self._db.execute("SELECT COUNT(*) FROM pending WHERE failure IS NULL").fetchone()[0])

    def add(self, prompts: Mapping[str, str]) -> set[str]:
        """Puts prompts at the end of the queue, as far as there is room.

        Args:
            prompts: key -> prompt.

        Returns:
            the keys that stand in the queue now, older ones among them; not those that were set aside.

        Raises:
            StoreError: the file cannot be written.
        """
        with self._writing():
            found = {
                key: self._db.execute("SELECT failure FROM pending WHERE key = ?", (key,)).fetchone() for key in prompts
            }
            room = max(0, self.limit - len(self))
            new = [(key, prompt) for key, prompt in prompts.items() if found[key] is None][:room]
            self._db.executemany("INSERT INTO pending (key, prompt) VALUES (?, ?)", new)
        return {key for key, row in found.items() if row == (None,)} | {key for key, _ in new}

    def first(self, count: int) -> dict[str, str]:
        """The `count` oldest prompts by key; they stay in the queue."""
        query = "SELECT key, prompt FROM pending WHERE failure IS NULL ORDER BY number LIMIT ?"
        return dict(self._db.execute(query, (count,)).fetchall())

    def remove(self, keys: Iterable[str]) -> None:
        """Takes prompts out of the queue: their texts are in the store.

        Raises:
            StoreError: the file cannot be written.
        """
        with self._writing():
            self._db.executemany("DELETE FROM pending WHERE key = ?", [(key,) for key in keys])

    def fail(self, key: str, why: str) -> None:
        """Sets a prompt aside that cannot be written about; it stays in the file, with the reason.

        Raises:
            StoreError: the file cannot be written.
        """
        with self._writing():
            self._db.execute("UPDATE pending SET failure = ? WHERE key = ?", (why, key))

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    def _writing(self) -> contextlib.AbstractContextManager[None]:
        return transaction(self._db, f"The queue of histories at {self.path}")


def count_pending(folder: Path) -> int:
    """How many prompts of a run wait; 0 where there is no queue. Safe in any thread."""
    if not (folder / PENDING).is_file():
        return 0
    try:
        with contextlib.closing(Pending(folder / PENDING, 0, patience=1.0)) as pending:
            return len(pending)
    except (StoreError, sqlite3.Error):
        return 0


def _open(path: Path, patience: float) -> sqlite3.Connection:
    db = sqlite3.connect(str(path), timeout=patience, isolation_level=None)
    try:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute(
            "PRAGMA synchronous=NORMAL"
        )  # a kill of the process loses nothing; a power cut may lose the last ones
        db.execute(
            "CREATE TABLE IF NOT EXISTS pending (number INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE,"
            " prompt TEXT NOT NULL, failure TEXT)"
        )
        db.execute("SELECT COUNT(*) FROM pending").fetchone()
    except sqlite3.Error:
        db.close()
        raise
    return db
